"""Things as administrators see them in the shell: properties under the names that Exchange gives them.

What Exchange does not have is ours: Addresses, Weight, InArray, PublicFolders, ToldToClients, Subnets, ServiceAccount,
Published.
"""

from dataclasses import dataclass

from casarray.app.cmdlets.identity import Noun, distinguished_name, legacy_name
from casarray.core.directory.lookup import array_of_site, group_of, members, subnets_of_site, told
from casarray.core.directory.model import (
    CLIENT_ACCESS,
    MAILBOX,
    Account,
    Array,
    AvailabilityGroup,
    Database,
    Directory,
    Server,
    Site,
    Subnet,
    Thing,
    key,
)
from casarray.core.kerberos.shares import published
from casarray.core.shell.cmdlet import Record, Value

ROLE_WORDS = {MAILBOX: "Mailbox", CLIENT_ACCESS: "ClientAccess"}  # as in the property ServerRole

_COLUMNS = {
    "ClientAccessArray": ("Name", "Site", "Fqdn", "Members"),
    "ExchangeServer": ("Name", "Site", "ServerRole", "Fqdn"),
    "ClientAccessServer": ("Name", "Site", "Fqdn", "InArray"),
    "MailboxServer": ("Name", "Site", "Fqdn", "DatabaseAvailabilityGroup"),
    "MailboxDatabase": ("Name", "Server", "RpcClientAccessServer", "ReplicationType"),
    "DatabaseAvailabilityGroup": ("Name", "Servers", "AllowCrossSiteRpcClientAccess"),
    "Mailbox": ("Name", "Database", "PrimarySmtpAddress", "ToldToClients"),
    "ADSite": ("Name", "Subnets"),
    "ADSubnet": ("Name", "Site"),
}


@dataclass(frozen=True, slots=True)
class _Pair(Record):
    """A key and a value, as .NET has them: ``[mbx1, 1]``."""

    def __str__(self) -> str:
        return f"[{self.properties['Key']}, {self.properties['Value']}]"


def pair(name: str, value: Value) -> Record:
    """One of a list of keys and values."""
    return _Pair("KeyValuePair", {"Key": name, "Value": value})


def record(directory: Directory, noun: Noun, thing: Thing) -> Record:
    """A thing as an object of the pipeline."""
    properties = _properties(directory, noun, thing)
    legacy = {"ExchangeLegacyDN": name} if (name := legacy_name(directory, thing)) else {}
    same: dict[str, Value] = {
        "Identity": thing.name,
        "DistinguishedName": distinguished_name(directory, thing),
        "Guid": thing.guid,
    }
    return Record(noun.name, {**properties, **legacy, **same}, _COLUMNS[noun.name])


def _properties(directory: Directory, noun: Noun, thing: Thing) -> dict[str, Value]:
    match thing:
        case Array():
            return _array(directory, thing)
        case Server():
            return _server(directory, noun, thing)
        case Database():
            return _database(directory, thing)
        case AvailabilityGroup():
            return _group(thing)
        case Account():
            return _mailbox(directory, thing)
        case Site() | Subnet():
            return _site(directory, thing) if isinstance(thing, Site) else _subnet(thing)
    raise TypeError(f"no cmdlet shows {thing.KIND}s")


def rpc_client_access_record(server: Server) -> Record:
    """The RPC client access of a server that has it."""
    access = server.rpc_client_access
    assert access is not None
    properties: dict[str, Value] = {
        "Server": server.name,
        "MaximumConnections": access.maximum_connections,
        "EncryptionRequired": access.encryption_required,
        "BlockedClientVersions": access.blocked_client_versions,
        "Name": access.name,
        "Identity": f"{server.name}\\{access.name}",
    }
    return Record("RpcClientAccess", properties, tuple(properties)[:4])


def _mailbox(directory: Directory, account: Account) -> dict[str, Value]:
    database = directory.databases.get(key(account.database))
    return {
        "Name": account.name,
        "DisplayName": account.display_name or account.name,
        "Database": account.database,
        "PrimarySmtpAddress": account.address,
        "EmailAddresses": (
            *((f"SMTP:{account.address}",) if account.address else ()),
            *(f"smtp:{alias}" for alias in account.aliases),
        ),
        "ExchangeGuid": account.mailbox_guid or account.guid,
        "ToldToClients": told(directory, database) if database else "",
    }


def _array(directory: Directory, array: Array) -> dict[str, Value]:
    return {
        "Name": array.name,
        "Fqdn": array.fqdn,
        "Site": array.site,
        "Members": tuple(server.name for server in members(directory, array)),
        "Addresses": tuple(map(str, array.addresses)),
        "ServiceAccount": str(array.settings.get("service_account", "")),
        "Published": published(array),
    }


def _server(directory: Directory, noun: Noun, server: Server) -> dict[str, Value]:
    properties: dict[str, Value] = {
        "Name": server.name,
        "Fqdn": server.fqdn,
        "Site": server.site,
        "ServerRole": ", ".join(word for role, word in ROLE_WORDS.items() if role in server.roles),
    }
    if noun.role != MAILBOX and CLIENT_ACCESS in server.roles:
        array = array_of_site(directory, server.site)
        properties["ClientAccessArray"] = array.name if array and server.is_member else ""
        properties["InArray"] = server.is_member and array is not None
    if noun.role != CLIENT_ACCESS and MAILBOX in server.roles:
        group = group_of(directory, server.name)
        properties["DatabaseAvailabilityGroup"] = group.name if group else ""
        properties["PublicFolders"] = server.public_folders
    properties["Addresses"] = tuple(map(str, server.addresses))
    properties["Weight"] = server.weight
    return properties


def _database(directory: Directory, database: Database) -> dict[str, Value]:
    active = directory.servers.get(key(database.active_server))
    group = group_of(directory, database.active_server)
    return {
        "Name": database.name,
        "Server": database.active_server,
        "MasterServerOrAvailabilityGroup": group.name if group else database.active_server,
        "RpcClientAccessServer": database.rpc_client_access_server,
        "ToldToClients": told(directory, database),
        "Servers": tuple(copy.server for copy in database.copies),
        "ActivationPreference": tuple(pair(copy.server, copy.activation_preference) for copy in database.copies),
        "ReplicationType": "Remote" if len(database.copies) > 1 else "None",
        "MountedOnServer": active.fqdn if active else database.active_server,
    }


def _group(group: AvailabilityGroup) -> dict[str, Value]:
    return {
        "Name": group.name,
        "Servers": group.servers,
        "AllowCrossSiteRpcClientAccess": group.allow_cross_site_rpc_client_access,
    }


def _site(directory: Directory, site: Site) -> dict[str, Value]:
    array = array_of_site(directory, site.name)
    return {
        "Name": site.name,
        "Description": site.description,
        "Subnets": tuple(subnet.name for subnet in subnets_of_site(directory, site.name)),
        "ClientAccessArray": array.name if array else "",
    }


def _subnet(subnet: Subnet) -> dict[str, Value]:
    return {"Name": subnet.name, "Site": subnet.site}
