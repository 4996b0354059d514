"""What administrators do to a directory: each a function from one directory to the next, or the reason why not.

These see to defaults and to what hangs together; whether the result may stand is for `rules.check` to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from casarray.core.directory import parts
from casarray.core.directory.lookup import (
    accounts_in,
    arrays_of_site,
    by_fqdn,
    databases_on,
    groups_of,
    servers_of_site,
    subnets_of_site,
    usual_rpc_server,
)
from casarray.core.directory.model import (
    CLIENT_ACCESS,
    MAILBOX,
    ROLES,
    Array,
    AvailabilityGroup,
    Copy,
    Database,
    Directory,
    Kind,
    Organization,
    RpcClientAccess,
    Server,
    Subnet,
    Thing,
    key,
)
from casarray.core.directory.rules import find, missing
from casarray.core.errors import Conflict, NotFound

T = TypeVar("T", bound=Thing)


def new(directory: Directory, *things: Thing) -> Directory:
    """Make these. `Conflict` if one of that kind and name is there, or among them already."""
    made: dict[tuple[Kind, str], Thing] = {}
    for thing in things:
        other = directory.get(thing.KIND, thing.name) or made.get((thing.KIND, key(thing.name)))
        made[thing.KIND, key(thing.name)] = thing
        if isinstance(other, Subnet):
            raise Conflict(f"the subnet {other.name} is there already: it belongs to the site {other.site}")
        if other is not None:
            article = "an" if thing.KIND.startswith("a") else "a"
            raise Conflict(f"there is {article} {thing.KIND} {other.name} already")
    return directory.put(*things)


def new_array(directory: Directory, name: str, fqdn: str, site: str, **more: Any) -> Directory:
    """An array for a site."""
    return new(directory, array(directory, name, fqdn, site, **more))


def array(directory: Directory, name: str, fqdn: str, site: str, **more: Any) -> Array:
    """An array to be made. The name of the site is written as the site has it."""
    return Array(name, fqdn, find(directory, Kind.SITE, site).name, **more)


def new_server(
    directory: Directory, name: str, fqdn: str, site: str, roles: Sequence[str] = (CLIENT_ACCESS,), **more: Any
) -> Directory:
    """A server; with client access it becomes a member of its site's array."""
    return new(directory, server(directory, name, fqdn, site, roles, **more))


def server(
    directory: Directory, name: str, fqdn: str, site: str, roles: Sequence[str] = (CLIENT_ACCESS,), **more: Any
) -> Server:
    """A server to be made."""
    roles = tuple(role for role in ROLES if role in roles)
    access = RpcClientAccess() if CLIENT_ACCESS in roles else None
    fields = {"rpc_client_access": access} | more
    return Server(name, fqdn, find(directory, Kind.SITE, site).name, roles, **fields)


def new_database(
    directory: Directory,
    name: str,
    server: str,
    copies: Sequence[Copy] = (),
    rpc_client_access_server: str = "",
    **more: Any,
) -> Directory:
    """A mailbox database on a server; its clients are told the array of the server's site by itself."""
    return new(directory, database(directory, name, server, copies, rpc_client_access_server, **more))


def database(
    directory: Directory,
    name: str,
    server: str,
    copies: Sequence[Copy] = (),
    rpc_client_access_server: str = "",
    **more: Any,
) -> Database:
    """A mailbox database to be made."""
    home = find(directory, Kind.SERVER, server)
    assert isinstance(home, Server)
    told = rpc_client_access_server
    return Database(
        name,
        home.name,
        _ordered(copies or (Copy(home.name),)),
        rpc_server(directory, told) if told else usual_rpc_server(directory, home),
        **more,
    )


def rpc_server(directory: Directory, text: str) -> str:
    """The FQDN of the array or client-access server that was meant, by its FQDN or name."""
    thing = by_fqdn(directory, text) or directory.arrays.get(key(text)) or directory.servers.get(key(text))
    if thing is None:
        known = [array.fqdn for array in directory.arrays.values()]
        known += [server.fqdn for server in directory.servers.values() if CLIENT_ACCESS in server.roles]
        raise NotFound(missing("array or client-access server", text, known))
    if isinstance(thing, Server) and CLIENT_ACCESS not in thing.roles:
        raise Conflict(f"the server {thing.name} has no client-access role: name an array or a client-access server")
    return thing.fqdn


def change(directory: Directory, kind: Kind, name: str, /, **fields: Any) -> Directory:
    """Give a thing other values. A new name is followed by everything that refers to it."""
    thing = find(directory, kind, name)
    return replaced(directory, thing, altered(directory, thing, **fields))


def altered(directory: Directory, thing: T, **fields: Any) -> T:
    """A thing with other values, each written as the directory has it."""
    if "site" in fields:
        fields["site"] = find(directory, Kind.SITE, fields["site"]).name
    if "rpc_client_access_server" in fields:
        fields["rpc_client_access_server"] = rpc_server(directory, fields["rpc_client_access_server"])
    if "copies" in fields:
        fields["copies"] = _ordered(fields["copies"])
    return replace(thing, **fields)


def replaced(directory: Directory, thing: Thing, changed: Thing) -> Directory:
    """The one in the place of the other. Under a new name, everything that refers to it follows."""
    if key(changed.name) == key(thing.name):
        return directory.put(changed)
    renamed = new(directory.without(thing), changed)
    return renamed.put(*_followers(renamed, thing.KIND, thing.name, changed.name))


def _followers(directory: Directory, kind: Kind, old: str, fresh: str) -> list[Thing]:
    """Who refers to a thing by its old name, referring to it by its new one."""

    def follow(name: str) -> str:
        return fresh if key(name) == key(old) else name

    followers: list[Thing] = []
    if kind is Kind.SITE:
        followers += [replace(subnet, site=fresh) for subnet in subnets_of_site(directory, old)]
        followers += [replace(server, site=fresh) for server in servers_of_site(directory, old)]
        followers += [replace(array, site=fresh) for array in arrays_of_site(directory, old)]
    elif kind is Kind.SERVER:
        followers += [replace(g, servers=tuple(map(follow, g.servers))) for g in groups_of(directory, old)]
        followers += [
            replace(
                database,
                active_server=follow(database.active_server),
                copies=tuple(replace(copy, server=follow(copy.server)) for copy in database.copies),
            )
            for database in databases_on(directory, old)
        ]
    elif kind is Kind.DATABASE:
        followers += [replace(account, database=fresh) for account in accounts_in(directory, old)]
    return followers


def remove(directory: Directory, kind: Kind, name: str) -> Directory:
    """Remove a thing."""
    return directory.without(find(directory, kind, name))


def new_rpc_client_access(directory: Directory, server: str, **fields: Any) -> Directory:
    """Put a server (back) into the array of its site."""
    return directory.put(parts.with_rpc_client_access(_server(directory, server), **fields))


def set_rpc_client_access(directory: Directory, server: str, **fields: Any) -> Directory:
    """Change the settings of a server's RPC client access."""
    return directory.put(parts.with_rpc_settings(_server(directory, server), **fields))


def remove_rpc_client_access(directory: Directory, server: str) -> Directory:
    """Take a server out of the array of its site; `new_rpc_client_access` puts it back."""
    return directory.put(parts.without_rpc_client_access(_server(directory, server)))


def _server(directory: Directory, name: str) -> Server:
    found = find(directory, Kind.SERVER, name)
    assert isinstance(found, Server)
    return found


def new_group(directory: Directory, name: str, servers: Sequence[str] = (), **more: Any) -> Directory:
    """An availability group."""
    return new(directory, AvailabilityGroup(name, _server_names(directory, servers), **more))


def set_group_servers(directory: Directory, name: str, servers: Sequence[str]) -> Directory:
    """These servers, and no others, are in the availability group."""
    return change(directory, Kind.GROUP, name, servers=_server_names(directory, servers))


def _server_names(directory: Directory, servers: Sequence[str]) -> tuple[str, ...]:
    """As the servers write them, each once."""
    return tuple(dict.fromkeys(find(directory, Kind.SERVER, server).name for server in servers))


def move_active_database(directory: Directory, name: str, server: str) -> Directory:
    """Make the copy on another server the active one. Whom clients are told follows: see `lookup.told`."""
    database = find(directory, Kind.DATABASE, name)
    assert isinstance(database, Database)
    return directory.put(moved(directory, database, server))


def moved(directory: Directory, database: Database, server: str) -> Database:
    """A database, active on another of the servers that have a copy."""
    wanted = find(directory, Kind.SERVER, server).name
    if key(database.active_server) == key(wanted):
        raise Conflict(f"the database {database.name} is active on {wanted} already")
    if key(wanted) not in {key(copy.server) for copy in database.copies}:
        raise Conflict(
            f"the database {database.name} has no copy on {wanted}; its copies are on "
            f"{', '.join(copy.server for copy in database.copies)}"
        )
    return replace(database, active_server=wanted)


def _ordered(copies: Sequence[Copy]) -> tuple[Copy, ...]:
    return tuple(sorted(copies, key=lambda copy: copy.activation_preference))


def name_organization(directory: Directory, title: str = "", admin_group: str = "") -> Directory:
    """Another name for the organisation or its administrative group; what is empty stays."""
    return directory.put(Organization(title or directory.organization, admin_group or directory.admin_group))


def mailbox_servers(directory: Directory) -> Mapping[str, Server]:
    """The servers with the mailbox role, by folded name."""
    return {name: server for name, server in directory.servers.items() if MAILBOX in server.roles}
