"""What a directory must keep to, held against a change before anybody carries it out.

Only what a change touches is looked at, so that one change of ten thousand things costs one look. What a rule refuses
for the sake of others (databases that name an array) can be forced; what could not work at all cannot.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import assert_never

from casarray.core.config import DirectorySettings
from casarray.core.config_file import read_array
from casarray.core.config_values import Report, read_fqdn, read_name
from casarray.core.directory.changes import Change
from casarray.core.directory.lookup import (
    accounts_in,
    accounts_with_address,
    arrays_of_site,
    databases_naming,
    databases_on,
    groups_of,
    servers_of_site,
    subnets_around,
    subnets_inside,
    subnets_of_site,
    with_address,
    with_fqdn,
)
from casarray.core.directory.model import (
    CLIENT_ACCESS,
    MAILBOX,
    MAXIMUM_CONNECTIONS,
    ROLES,
    Account,
    Array,
    AvailabilityGroup,
    Database,
    Directory,
    Kind,
    Organization,
    RpcClientAccess,
    Server,
    Site,
    Subnet,
    Thing,
    key,
)
from casarray.core.errors import Conflict, NotFound

_ADDRESS = re.compile(r"[^\s@<>,;]{1,256}@[^\s@<>,;]{1,253}")
MOST_NAMED = 10  # of the things that would break
WEIGHTS = range(1, 10001)
LONGEST_BLOCKED_VERSIONS = 255  # as Exchange has it


def check(before: Directory, after: Directory, changes: Sequence[Change], *, force: bool = False) -> None:
    """Raise `Conflict` or `NotFound`, with what would be right, when ``after`` breaks a rule that the changes touch."""
    for change in changes:
        if change.after is not None:
            _check_standing(after, change.after)
            _check_role_taken(after, change.before, change.after)
            if not force:
                _check_kept(before, after, change.before, change.after)
        elif change.before is not None:
            _check_removal(before, after, change.before, force)


def find(directory: Directory, kind: Kind, name: str) -> Thing:
    """The thing of that name. `NotFound` names the nearest ones."""
    thing: Thing | None = directory.get(kind, name)
    if thing is None:
        raise NotFound(missing(kind, name, (t.name for t in directory.of(kind).values())))
    return thing


def missing(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence about a thing that is not there."""
    names = {key(known_name): known_name for known_name in known}
    near = [names[word] for word in get_close_matches(key(name), names, n=3, cutoff=0.6)]
    if near:
        return f'there is no {kind} "{name}"; did you mean {_or(near)}?'
    if not names:
        return f'there is no {kind} "{name}": there is none at all yet'
    some = sorted(names.values())[:5]
    return f'there is no {kind} "{name}"; there {"is" if len(names) == 1 else "are"} {", ".join(some)}' + (
        f" and {len(names) - len(some)} more" if len(names) > len(some) else ""
    )


# What must hold of a thing wherever it stands.


def _server(directory: Directory, server: Server) -> None:
    _name(server.name, Kind.SERVER)
    _fqdn(directory, server)
    find(directory, Kind.SITE, server.site)
    _own_addresses(directory, server)
    if not server.roles:
        raise Conflict(f"the server {server.name} would have no role; give it client-access, mailbox or both")
    if unknown := [role for role in server.roles if role not in ROLES]:
        raise Conflict(f"the server {server.name}: {unknown[0]} is no role; roles are {' and '.join(ROLES)}")
    if server.weight not in WEIGHTS:
        raise Conflict(
            f"the server {server.name}: its weight cannot be {server.weight}; "
            f"write a number between {WEIGHTS[0]} and {WEIGHTS[-1]}"
        )
    if server.rpc_client_access is not None:
        _rpc_client_access(server.name, server.rpc_client_access)


def _check_role_taken(directory: Directory, was: Thing | None, now: Thing) -> None:
    """Only of who had it: where databases stand on a server without the role, other things of it can be changed."""
    if not (isinstance(was, Server) and isinstance(now, Server) and MAILBOX in was.roles and MAILBOX not in now.roles):
        return
    if needed := [*_mailboxes_on(directory, now)]:
        raise Conflict(
            f"the server {now.name} still needs its mailbox role: {_some(needed)}; remove or move these first"
        )


def _rpc_client_access(server: str, access: RpcClientAccess) -> None:
    if not 1 <= access.maximum_connections <= MAXIMUM_CONNECTIONS:
        raise Conflict(
            f"the server {server}: its RPC client access cannot have {access.maximum_connections} maximum connections; "
            f"write a number between 1 and {MAXIMUM_CONNECTIONS}"
        )
    if len(access.blocked_client_versions) > LONGEST_BLOCKED_VERSIONS:
        raise Conflict(
            f"the server {server}: its blocked client versions are longer than {LONGEST_BLOCKED_VERSIONS} characters; "
            f"write ranges, like 0.0.0-5.65535.65535"
        )


def _array(directory: Directory, array: Array) -> None:
    _name(array.name, Kind.ARRAY)
    _fqdn(directory, array)
    find(directory, Kind.SITE, array.site)
    _own_addresses(directory, array)
    _settings(array)
    others = [a for a in arrays_of_site(directory, array.site) if key(a.name) != key(array.name)]
    if others:
        raise Conflict(
            f"the site {array.site} has the array {others[0].name} ({others[0].fqdn}) already, and a site has one: use "
            f"that, remove it, or name another site"
        )


def _settings(array: Array) -> None:
    """An array's further keys are those of the configuration file, and are read as there."""
    own: dict[str, object] = {"name": array.name, "fqdn": array.fqdn, "site": array.site, "addresses": ["192.0.2.1"]}
    if twice := sorted(own.keys() & array.settings.keys()):
        raise Conflict(f"the array {array.name}: settings.{twice[0]} is a field of the array itself; put it there")
    if not array.settings.keys() & {"profile", "service"}:
        own["profile"] = DirectorySettings().profile
    report = Report()
    read_array(own | dict(array.settings), ("settings",), report)
    for path, what, right in report.problems:
        raise Conflict(f"the array {array.name}: {'.'.join(map(str, path))}: {what}; {right}")


def _group(directory: Directory, group: AvailabilityGroup) -> None:
    _name(group.name, Kind.GROUP)
    for name in group.servers:
        server = find(directory, Kind.SERVER, name)
        if isinstance(server, Server) and MAILBOX not in server.roles:
            raise Conflict(f"the server {name} has no mailbox role, so it cannot be in the availability group")
        others = [other for other in groups_of(directory, name) if key(other.name) != key(group.name)]
        if others:
            raise Conflict(
                f"the server {name} is in the availability group {others[0].name} already: take it out there first"
            )


def _database(directory: Directory, database: Database) -> None:
    _name(database.name, Kind.DATABASE)
    if not database.copies:
        raise Conflict(f"the database {database.name} would have no copy; name the server it is on")
    preferences = [copy.activation_preference for copy in database.copies]
    if len(set(preferences)) != len(preferences):
        raise Conflict(
            f"two copies of the database {database.name} have the same activation preference; number them 1, 2, ..."
        )
    if min(preferences) < 1:
        raise Conflict(
            f"a copy of the database {database.name} has the activation preference {min(preferences)}; the first is 1"
        )
    holders = [key(copy.server) for copy in database.copies]
    if len(set(holders)) != len(holders):
        raise Conflict(f"the database {database.name} would have two copies on one server; name each server once")
    for copy in database.copies:
        server = find(directory, Kind.SERVER, copy.server)
        if isinstance(server, Server) and MAILBOX not in server.roles:
            raise Conflict(
                f"the server {copy.server} has no mailbox role, so it cannot hold the database {database.name}"
            )
    if key(database.active_server) not in {key(copy.server) for copy in database.copies}:
        raise Conflict(
            f"the database {database.name} has no copy on {database.active_server}; its copies are on "
            f"{', '.join(copy.server for copy in database.copies)}"
        )


def _account(directory: Directory, account: Account) -> None:
    _name(account.name, Kind.ACCOUNT)
    if account.database:
        find(directory, Kind.DATABASE, account.database)


def _check_standing(directory: Directory, thing: Thing) -> None:
    match thing:
        case Organization():
            for text in (thing.title, thing.admin_group):
                _name(text, Kind.ORGANIZATION)
        case Site():
            _name(thing.name, Kind.SITE)
        case Subnet():
            find(directory, Kind.SITE, thing.site)
        case Server():
            _server(directory, thing)
        case Array():
            _array(directory, thing)
        case AvailabilityGroup():
            _group(directory, thing)
        case Database():
            _database(directory, thing)
        case Account():
            _account(directory, thing)
        case _:
            assert_never(thing)


# What a change may not do to others, unless it is forced.


def _check_kept(before: Directory, after: Directory, was: Thing | None, now: Thing) -> None:
    if isinstance(now, Organization):
        used = len(before.arrays) + len(before.servers) + len(before.databases)
        if used:
            raise Conflict(
                f"the legacyExchangeDN of {used} arrays, servers and databases begins with the organisation's name; "
                "Outlook profiles and old messages know it: it is changed only if forced"
            )
    if isinstance(now, Array | Server):
        if isinstance(was, Array | Server) and key(was.fqdn) != key(now.fqdn):
            _refuse_naming(before, after, was.fqdn, f"{was.KIND} {was.name}", "would be told a name that is gone")
        if isinstance(was, Server) and isinstance(now, Server) and _loses_client_access(was, now):
            lost = "would be told a server without client access"
            _refuse_named(databases_naming(after, now.fqdn), now.fqdn, f"{was.KIND} {was.name}", lost)
    elif isinstance(now, Subnet):
        _check_subnet(before, after, now)
    elif isinstance(now, Database):
        _check_told(after, was, now)
    elif isinstance(now, Account):
        _check_addresses(after, was if isinstance(was, Account) else None, now)


def _check_addresses(after: Directory, was: Account | None, now: Account) -> None:
    """Those that are new: what stands in Active Directory already is not this change's business."""
    before = {key(address) for address in (was.address, *was.aliases)} if was else set()
    for address in filter(None, (now.address, *now.aliases)):
        if key(address) in before:
            continue
        if not _ADDRESS.fullmatch(address):
            raise Conflict(f'"{address[:60]}" is no SMTP address; write one like alice@domain.tld')
        for other in accounts_with_address(after, address):
            if key(other.name) != key(now.name):
                raise Conflict(f"{other.name} has the address {address} already: take it away there first")
    if key(now.address) in map(key, now.aliases):
        raise Conflict(f"{now.address} is its primary address; leave it out of the further ones of {now.name}")


def _loses_client_access(was: Server, now: Server) -> bool:
    return CLIENT_ACCESS in was.roles and CLIENT_ACCESS not in now.roles


def _check_told(after: Directory, was: Thing | None, now: Database) -> None:
    # A name that was forced to go stays in the databases until somebody gives them another one.
    fqdn = now.rpc_client_access_server
    kept = isinstance(was, Database) and key(was.rpc_client_access_server) == key(fqdn)
    if not kept and not with_fqdn(after, fqdn):
        raise Conflict(
            f'clients of the database {now.name} would be told "{fqdn}", and no array or server has that name; name '
            f"one that is there, or force it"
        )


def _check_subnet(before: Directory, after: Directory, subnet: Subnet) -> None:
    """Refuse what is probably a slip; what stood that way before is meant."""
    outer = next((other for other in subnets_around(after, subnet.network) if other.network != subnet.network), None)
    if outer is not None:
        same_site = key(outer.site) == key(subnet.site)
        if same_site and not _together(before, subnet, outer, same_site=True):
            raise Conflict(
                f"{subnet.name} lies within {outer.name}, which belongs to the site {outer.site} already: nothing to "
                f"do; if a subnet of its own is meant, force it"
            )
        if not same_site and not _together(before, subnet, outer, same_site=False):
            raise Conflict(
                f"{subnet.name} overlaps {outer.name} of the site {outer.site}: clients in it would belong to "
                f"{subnet.site} instead, since the longest subnet counts; if that is meant, force it"
            )
    for inner in subnets_inside(after, subnet.network):
        if key(inner.site) != key(subnet.site) and not _together(before, subnet, inner, same_site=False):
            raise Conflict(
                f"{subnet.name} overlaps {inner.name} of the site {inner.site}, which would stay there, since the "
                f"longest subnet counts; if that is meant, force it"
            )


def _together(before: Directory, one: Subnet, other: Subnet, *, same_site: bool) -> bool:
    """Whether both were there before, in one site or in two."""
    were = [before.subnets.get(key(subnet.name)) for subnet in (one, other)]
    sites = {key(subnet.site) for subnet in were if subnet is not None}
    return None not in were and (len(sites) == 1) is same_site


def _check_removal(before: Directory, after: Directory, gone: Thing, force: bool) -> None:
    """Sites and servers that others stand on stay in any case; names that clients are told may be forced away."""
    blockers = list(_standing_on(after, gone))
    if blockers:
        raise Conflict(f"the {gone.KIND} {gone.name} is still needed: {_some(blockers)}; remove or move these first")
    if isinstance(gone, Array | Server) and not force:
        _refuse_naming(before, after, gone.fqdn, f"{gone.KIND} {gone.name}", "would be told a name that is gone")


def _standing_on(after: Directory, gone: Thing) -> Iterator[str]:
    name = key(gone.name)
    if isinstance(gone, Site) and name not in after.sites:
        for things in (arrays_of_site(after, name), servers_of_site(after, name), subnets_of_site(after, name)):
            yield from (f"the {thing.KIND} {thing.name} is in it" for thing in things)
    elif isinstance(gone, Server) and name not in after.servers:
        yield from _mailboxes_on(after, gone)
    elif isinstance(gone, Database) and name not in after.databases:
        yield from (f"the mailbox of {account.name} is in it" for account in accounts_in(after, name))


def _mailboxes_on(directory: Directory, server: Server) -> Iterator[str]:
    """What stands on a server's mailbox role."""
    yield from (f"the database {d.name} has a copy on it" for d in databases_on(directory, server.name))
    yield from (f"it is in the availability group {g.name}" for g in groups_of(directory, server.name))


def _refuse_naming(before: Directory, after: Directory, fqdn: str, what: str, broken: str) -> None:
    if with_fqdn(after, fqdn):
        return
    still = {key(d.name) for d in databases_naming(after, fqdn)}
    _refuse_named([d for d in databases_naming(before, fqdn) if key(d.name) in still], fqdn, what, broken)


def _refuse_named(left: Sequence[Database], fqdn: str, what: str, broken: str) -> None:
    if left:
        raise Conflict(
            f"{what}: clients of {len(left)} database{'s' if len(left) > 1 else ''} {broken} ({fqdn}): "
            f"{_some([d.name for d in left])}; give {'them' if len(left) > 1 else 'it'} another RpcClientAccessServer "
            f"first, or force it (Outlook keeps the old name in its profiles until they are repaired)"
        )


# Names.


def _name(name: str, kind: Kind) -> None:
    _read(read_name, name, kind)


def _fqdn(directory: Directory, thing: Array | Server) -> None:
    _read(read_fqdn, thing.fqdn, thing.KIND)
    for other in with_fqdn(directory, thing.fqdn):
        if not _is(other, thing):
            raise Conflict(f"{thing.fqdn} is the name of the {other.KIND} {other.name} already; choose another FQDN")


def _read(reader: Callable[[object, tuple[str | int, ...], Report], object], text: str, kind: Kind) -> None:
    report = Report()
    reader(text, (kind,), report)
    for _, what, right in report.problems:
        raise Conflict(f"{kind}: {what}; {right}")


def _own_addresses(directory: Directory, thing: Array | Server) -> None:
    for address in thing.addresses:
        for other in with_address(directory, address):
            if not _is(other, thing):
                raise Conflict(f"{address} is the address of the {other.KIND} {other.name} already")


def _is(one: Thing, other: Thing) -> bool:
    return one.KIND is other.KIND and key(one.name) == key(other.name)


def _some(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _or(names: Sequence[str]) -> str:
    return " or ".join(f'"{name}"' for name in names)
