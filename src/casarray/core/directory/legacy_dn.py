"""legacyExchangeDN: the names by which Exchange's own protocols call servers, arrays and databases.

Their form is ``/o=ORG/ou=ADMIN GROUP/cn=Configuration/cn=Servers/cn=NAME``. A server's last part is its short name, an
array's is its FQDN; a database's is that of whom its clients are told, and ``/cn=Microsoft Private MDB``.
"""

from casarray.core.directory.lookup import accounts_named, by_fqdn
from casarray.core.directory.model import Account, Array, Database, Directory, Server, key

PRIVATE_MDB = "/cn=Microsoft Private MDB"
RECIPIENTS = "/cn=Recipients/cn="


def of_organization(directory: Directory) -> str:
    """``/o=...``."""
    return f"/o={directory.organization}"


def of_admin_group(directory: Directory) -> str:
    """``/o=.../ou=...``."""
    return f"{of_organization(directory)}/ou={directory.admin_group}"


def of_server(directory: Directory, thing: Server | Array) -> str:
    """Of a server or an array."""
    last = thing.fqdn if isinstance(thing, Array) else thing.name
    return f"{of_admin_group(directory)}/cn=Configuration/cn=Servers/cn={last}"


def of_database(directory: Directory, database: Database) -> str:
    """Of a database: its clients find their server's name in it."""
    owner = by_fqdn(directory, database.rpc_client_access_server)
    if owner is None:  # whom it names is gone: an FQDN is what an array's name ends in
        return (
            f"{of_admin_group(directory)}/cn=Configuration/cn=Servers/cn={database.rpc_client_access_server}"
            f"{PRIVATE_MDB}"
        )
    return of_server(directory, owner) + PRIVATE_MDB


def of_account(directory: Directory, account: Account) -> str:
    """Of an account: the one that the directory has for it, else by its name below the administrative group."""
    return account.legacy_dn or f"{of_admin_group(directory)}{RECIPIENTS}{account.name}"


def accounts_with_legacy_dn(directory: Directory, dn: str) -> tuple[Account, ...]:
    """The accounts that are called so: more than one only where a rule is broken."""
    named = accounts_named(directory, dn)
    before, mark, name = key(dn).rpartition(key(RECIPIENTS))
    account = directory.accounts.get(name) if mark and before == key(of_admin_group(directory)) else None
    return named if account is None or account.legacy_dn else (*named, account)


def last_name(legacy_dn: str) -> str:
    """The NAME in the DN of a server, array or database; empty if there is none."""
    end = len(legacy_dn) - len(PRIVATE_MDB)
    dn = legacy_dn[:end] if key(legacy_dn[end:]) == key(PRIVATE_MDB) else legacy_dn
    before, mark, name = dn.rpartition("=")
    return name if mark and key(before).endswith("/cn=servers/cn") else ""


def fqdn_of(directory: Directory, legacy_dn: str) -> str:
    """The FQDN of whom such a DN names: an array's by its last part, a server's by its short name."""
    name = last_name(legacy_dn)
    array = by_fqdn(directory, name)
    if isinstance(array, Array):
        return array.fqdn
    server = directory.servers.get(key(name))
    return server.fqdn if server else name
