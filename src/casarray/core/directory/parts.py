"""What things are made of: the copies of a database, the servers of an availability group, the roles of a server.

Each function gives the thing as it would be, or the reason why not. None makes a whole directory, so that many things
can be altered by one change.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from casarray.core.directory.lookup import databases_on, group_of
from casarray.core.directory.model import (
    CLIENT_ACCESS,
    ROLES,
    AvailabilityGroup,
    Copy,
    Database,
    Directory,
    Kind,
    RpcClientAccess,
    Server,
    key,
)
from casarray.core.directory.rules import MOST_NAMED, find
from casarray.core.errors import Conflict, NotFound

_VERSION = r"\d{1,5}(?:\.\d{1,5}){2,3}"
_RANGE = rf"\s*(?:{_VERSION}(?:-(?:{_VERSION})?)?|-{_VERSION})\s*"
_BLOCKED = re.compile(rf"{_RANGE}(?:;{_RANGE})*;?\s*")


# The copies of a database.


def next_server(database: Database) -> str:
    """Where a database goes when nobody says where: the most preferred of its other copies."""
    others = [copy.server for copy in database.copies if key(copy.server) != key(database.active_server)]
    if not others:
        raise Conflict(f"the database {database.name} has no other copy than that on {database.active_server}")
    return others[0]


def with_copy(directory: Directory, database: Database, server: str, preference: int | None = None) -> Database:
    """A database with one more copy. Its preference is the last, or as said; the others move back for it."""
    place = find(directory, Kind.SERVER, server).name
    if key(place) in {key(copy.server) for copy in database.copies}:
        raise Conflict(f"the database {database.name} has a copy on {place} already")
    group = group_of(directory, database.active_server)
    if group is None or key(place) not in map(key, group.servers):
        raise Conflict(
            f"{place} and {database.active_server}, where {database.name} is active, are not in one availability "
            f"group: add both to one first"
        )
    return _placed(database, [copy.server for copy in database.copies], place, preference)


def with_preference(database: Database, server: str, preference: int) -> Database:
    """A database whose copy on this server has this place among the others."""
    place = _copy_on(database, server).server
    rest = [copy.server for copy in database.copies if key(copy.server) != key(place)]
    return _placed(database, rest, place, preference)


def without_copy(database: Database, server: str) -> Database:
    """A database with one copy less: not the active one, so never the last one."""
    gone = _copy_on(database, server)
    if key(gone.server) == key(database.active_server):
        raise Conflict(
            f"the copy of {database.name} on {gone.server} is the active one: "
            + ("move it to another server first" if len(database.copies) > 1 else "remove the database instead")
        )
    rest = [copy.server for copy in database.copies if copy is not gone]
    return replace(database, copies=_numbered(rest))


def _copy_on(database: Database, server: str) -> Copy:
    for copy in database.copies:
        if key(copy.server) == key(server):
            return copy
    raise NotFound(
        f"the database {database.name} has no copy on {server}; its copies are on "
        f"{', '.join(copy.server for copy in database.copies)}"
    )


def _placed(database: Database, others: Sequence[str], server: str, preference: int | None) -> Database:
    last = len(others) + 1
    place = last if preference is None else preference
    if not 1 <= place <= last:
        raise Conflict(
            f"{place} is no activation preference of {database.name}: it has {last} "
            f"{'copy' if last == 1 else 'copies'} then, so write a number from 1 to {last}"
        )
    return replace(database, copies=_numbered([*others[: place - 1], server, *others[place - 1 :]]))


def _numbered(servers: Sequence[str]) -> tuple[Copy, ...]:
    return tuple(Copy(name, number) for number, name in enumerate(servers, start=1))


# The servers of an availability group.


def with_server(directory: Directory, group: AvailabilityGroup, server: str) -> AvailabilityGroup:
    """An availability group with one more server."""
    place = find(directory, Kind.SERVER, server).name
    if key(place) in map(key, group.servers):
        raise Conflict(f"the server {place} is in the availability group {group.name} already")
    return replace(group, servers=(*group.servers, place))


def without_server(directory: Directory, group: AvailabilityGroup, server: str) -> AvailabilityGroup:
    """An availability group with one server less, which must not hold copies of databases that others hold too."""
    place = find(directory, Kind.SERVER, server).name
    if key(place) not in map(key, group.servers):
        raise Conflict(f"the server {place} is not in the availability group {group.name}")
    shared = [database.name for database in databases_on(directory, place) if len(database.copies) > 1]
    if shared:
        raise Conflict(
            f"the server {place} holds copies of {some(shared)}, which other servers of the availability group "
            f"{group.name} hold too: remove these copies first"
        )
    return replace(group, servers=tuple(name for name in group.servers if key(name) != key(place)))


# The roles of a server, and its RPC client access.


def with_role(server: Server, role: str) -> Server:
    """A server with one more role."""
    if role in server.roles:
        raise Conflict(f"there is a server {server.name} with the {role} role already")
    access = RpcClientAccess() if role == CLIENT_ACCESS else server.rpc_client_access
    return replace(server, roles=tuple(r for r in ROLES if r in (*server.roles, role)), rpc_client_access=access)


def without_role(server: Server, role: str) -> Server:
    """A server with one role less; without client access it is in no array."""
    access = None if role == CLIENT_ACCESS else server.rpc_client_access
    return replace(server, roles=tuple(name for name in server.roles if name != role), rpc_client_access=access)


def with_rpc_client_access(server: Server, **fields: Any) -> Server:
    """A server that is (back) in the array of its site."""
    if CLIENT_ACCESS not in server.roles:
        raise Conflict(f"the server {server.name} has no client-access role")
    if server.rpc_client_access is not None:
        raise Conflict(f"the server {server.name} has RPC client access already: it is in the array of its site")
    return replace(server, rpc_client_access=_settings(RpcClientAccess(), fields))


def with_rpc_settings(server: Server, **fields: Any) -> Server:
    """A server with other settings of its RPC client access."""
    return replace(server, rpc_client_access=_settings(rpc_client_access(server), fields))


def without_rpc_client_access(server: Server) -> Server:
    """A server that is taken out of the array of its site; `with_rpc_client_access` puts it back."""
    rpc_client_access(server)
    return replace(server, rpc_client_access=None)


def rpc_client_access(server: Server) -> RpcClientAccess:
    """The RPC client access of a server that has it."""
    if server.rpc_client_access is None:
        raise NotFound(f"the server {server.name} has no RPC client access: it is in no array")
    return server.rpc_client_access


def _settings(before: RpcClientAccess, fields: Mapping[str, Any]) -> RpcClientAccess:
    blocked = fields.get("blocked_client_versions", "")
    if blocked and not _BLOCKED.fullmatch(blocked):
        raise Conflict(
            f'"{blocked[:60]}" are no client versions: write ranges with semicolons between them, like '
            f'"0.0.0-5.9.9;7.0.0-65535.65535.65535"'
        )
    return replace(before, **fields)


def some(names: Sequence[str]) -> str:
    """The first of many names, and how many more there are."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
