"""What follows from the directory: members, sites of addresses, the name that clients are told."""

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import lru_cache
from ipaddress import ip_network
from itertools import islice
from typing import Any, TypeVar

from casarray.core.config import Network
from casarray.core.directory.model import (
    CLIENT_ACCESS,
    Account,
    Array,
    AvailabilityGroup,
    Database,
    Directory,
    Server,
    Subnet,
    key,
)
from casarray.core.forwarding.table import Address

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
R = TypeVar("R")


class _Same:
    """A mapping as a key: equal to itself alone, whatever it holds."""

    def __init__(self, mapping: Mapping[str, Any]) -> None:
        self.mapping = mapping

    def __hash__(self) -> int:
        return id(self.mapping)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.mapping is other.mapping


def _kept(work: Callable[[Mapping[str, V]], R]) -> Callable[[Mapping[str, V]], R]:
    """What would be searched for again and again is worked out when it is first asked for, once for each mapping.

    A directory shares with the one before it whatever a change did not touch. Names are folded, and what is one alone
    is a tuple too: a directory may break the rules.
    """

    @lru_cache(maxsize=4)
    def kept(same: _Same) -> R:
        return work(same.mapping)

    return lambda mapping: kept(_Same(mapping))


def _gathered(pairs: Iterable[tuple[K, V]]) -> dict[K, tuple[V, ...]]:
    found: dict[K, list[V]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: tuple(values) for name, values in found.items()}


@_kept
def _servers_by_fqdn(servers: Mapping[str, Server]) -> Mapping[str, tuple[Server, ...]]:
    return _gathered((key(server.fqdn), server) for server in servers.values())


@_kept
def _arrays_by_fqdn(arrays: Mapping[str, Array]) -> Mapping[str, tuple[Array, ...]]:
    return _gathered((key(array.fqdn), array) for array in arrays.values())


@_kept
def _servers_by_address(servers: Mapping[str, Server]) -> Mapping[Address, tuple[Server, ...]]:
    return _gathered((address, server) for server in servers.values() for address in server.addresses)


@_kept
def _arrays_by_address(arrays: Mapping[str, Array]) -> Mapping[Address, tuple[Array, ...]]:
    return _gathered((address, array) for array in arrays.values() for address in array.addresses)


@_kept
def _arrays_by_site(arrays: Mapping[str, Array]) -> Mapping[str, tuple[Array, ...]]:
    return _gathered((key(array.site), array) for array in arrays.values())


@_kept
def _servers_by_site(servers: Mapping[str, Server]) -> Mapping[str, tuple[Server, ...]]:
    return _gathered((key(server.site), server) for _, server in sorted(servers.items()))


@_kept
def _subnets_by_site(subnets: Mapping[str, Subnet]) -> Mapping[str, tuple[Subnet, ...]]:
    return _gathered((key(subnet.site), subnet) for subnet in subnets.values())


@_kept
def _groups_by_server(groups: Mapping[str, AvailabilityGroup]) -> Mapping[str, tuple[AvailabilityGroup, ...]]:
    return _gathered((name, group) for group in groups.values() for name in set(map(key, group.servers)))


@_kept
def _databases_by_fqdn(databases: Mapping[str, Database]) -> Mapping[str, tuple[Database, ...]]:
    return _gathered((key(d.rpc_client_access_server), d) for d in databases.values())


@_kept
def _databases_by_server(databases: Mapping[str, Database]) -> Mapping[str, tuple[Database, ...]]:
    return _gathered((name, d) for d in databases.values() for name in {key(copy.server) for copy in d.copies})


@_kept
def _accounts_by_database(accounts: Mapping[str, Account]) -> Mapping[str, tuple[Account, ...]]:
    return _gathered((key(account.database), account) for account in accounts.values())


@_kept
def _accounts_by_address(accounts: Mapping[str, Account]) -> Mapping[str, tuple[Account, ...]]:
    return _gathered(
        (address, account)
        for account in accounts.values()
        for address in dict.fromkeys(map(key, (account.address, *account.aliases)))  # a repeated one counts once
        if address
    )


@_kept
def _accounts_by_legacy_dn(accounts: Mapping[str, Account]) -> Mapping[str, tuple[Account, ...]]:
    return _gathered((key(account.legacy_dn), account) for account in accounts.values() if account.legacy_dn)


@_kept
def _lengths(subnets: Mapping[str, Subnet]) -> Mapping[int, tuple[int, ...]]:
    """The prefix lengths that are there, longest first, by the version of IP."""
    lengths = {(s.network.version, s.network.prefixlen) for s in subnets.values()}
    return _gathered(sorted(lengths, reverse=True))


@_kept
def _by_first_address(subnets: Mapping[str, Subnet]) -> Mapping[int, tuple[tuple[int, int, Subnet], ...]]:
    """By the version of IP: the first address of each subnet, its length and the subnet, in order."""
    pairs = [(s.network.version, (int(s.network.network_address), s.network.prefixlen, s)) for s in subnets.values()]
    return _gathered(sorted(pairs, key=lambda pair: (pair[0], *pair[1][:2])))


def with_fqdn(directory: Directory, fqdn: str) -> tuple[Array | Server, ...]:
    """Everything that has this FQDN: more than one only where a rule is broken."""
    # An array goes before a server should somebody have given both one name: it is the array that clients mean.
    name = key(fqdn)
    return (*_arrays_by_fqdn(directory.arrays).get(name, ()), *_servers_by_fqdn(directory.servers).get(name, ()))


def with_address(directory: Directory, address: Address) -> tuple[Array | Server, ...]:
    """Everything that has this address."""
    arrays, servers = _arrays_by_address(directory.arrays), _servers_by_address(directory.servers)
    return (*arrays.get(address, ()), *servers.get(address, ()))


def by_fqdn(directory: Directory, fqdn: str) -> Array | Server | None:
    """The array or server that has this FQDN."""
    return next(iter(with_fqdn(directory, fqdn)), None)


def members(directory: Directory, array: Array) -> tuple[Server, ...]:
    """The servers of the array's site that have client access and are not taken out, by name."""
    return tuple(server for server in servers_of_site(directory, array.site) if server.is_member)


def array_of_site(directory: Directory, site: str) -> Array | None:
    """The site's array, if it has one."""
    return next(iter(arrays_of_site(directory, site)), None)


def arrays_of_site(directory: Directory, site: str) -> tuple[Array, ...]:
    """All arrays of a site: more than one only where a rule is broken."""
    return _arrays_by_site(directory.arrays).get(key(site), ())


def servers_of_site(directory: Directory, site: str) -> tuple[Server, ...]:
    """All servers of a site, by name."""
    return _servers_by_site(directory.servers).get(key(site), ())


def subnets_of_site(directory: Directory, site: str) -> tuple[Subnet, ...]:
    """All subnets of a site."""
    return _subnets_by_site(directory.subnets).get(key(site), ())


def group_of(directory: Directory, server: str) -> AvailabilityGroup | None:
    """The availability group that a server is in."""
    return next(iter(groups_of(directory, server)), None)


def groups_of(directory: Directory, server: str) -> tuple[AvailabilityGroup, ...]:
    """All availability groups that a server is in: more than one only where a rule is broken."""
    return _groups_by_server(directory.groups).get(key(server), ())


def databases_naming(directory: Directory, fqdn: str) -> tuple[Database, ...]:
    """The databases whose clients are told this name."""
    return _databases_by_fqdn(directory.databases).get(key(fqdn), ())


def databases_on(directory: Directory, server: str) -> tuple[Database, ...]:
    """The databases that have a copy on this server."""
    return _databases_by_server(directory.databases).get(key(server), ())


def accounts_in(directory: Directory, database: str) -> tuple[Account, ...]:
    """The accounts whose mailbox is in this database."""
    return _accounts_by_database(directory.accounts).get(key(database), ())


def accounts_with_address(directory: Directory, address: str) -> tuple[Account, ...]:
    """The accounts that have this SMTP address, primary or not: more than one only where a rule is broken."""
    return _accounts_by_address(directory.accounts).get(key(address), ())


def accounts_named(directory: Directory, legacy_dn: str) -> tuple[Account, ...]:
    """The accounts for which the directory itself has this legacyExchangeDN."""
    return _accounts_by_legacy_dn(directory.accounts).get(key(legacy_dn), ())


def subnets_around(directory: Directory, network: Network) -> Iterator[Subnet]:
    """The subnets that hold this network, the longest first; itself included, if it is one."""
    for length in _lengths(directory.subnets).get(network.version, ()):
        if length <= network.prefixlen:
            subnet = directory.subnets.get(key(str(network.supernet(new_prefix=length))))
            if subnet is not None:
                yield subnet


def subnets_inside(directory: Directory, network: Network) -> Iterator[Subnet]:
    """The subnets that this network holds; not itself."""
    known = _by_first_address(directory.subnets).get(network.version, ())
    start = bisect_left(known, int(network.network_address), key=lambda entry: entry[0])
    for first, length, subnet in islice(known, start, None):
        if first > int(network.broadcast_address):
            return
        if length > network.prefixlen:
            yield subnet


def site_of(directory: Directory, address: Address) -> str | None:
    """The site of an address: that of the longest subnet that holds it."""
    nearest = next(subnets_around(directory, ip_network(address)), None)
    return nearest.site if nearest else None


def usual_rpc_server(directory: Directory, server: Server) -> str:
    """What a new database on this server tells its clients: its site's array, else a client-access server there."""
    array = array_of_site(directory, server.site)
    if array is not None:
        return array.fqdn
    if CLIENT_ACCESS in server.roles:
        return server.fqdn
    near = next((other for other in servers_of_site(directory, server.site) if other.is_member), server)
    return near.fqdn


def told(directory: Directory, database: Database) -> str:
    """The FQDN that clients of this database are told now, after whatever switchover.

    Active in another site than the one its RpcClientAccessServer serves, the array of that site is told; unless its
    availability group allows client access across sites: then that of the site of its most preferred copy.
    """
    active = directory.servers.get(key(database.active_server))
    if active is None:
        return database.rpc_client_access_server
    home = active
    group = group_of(directory, active.name)
    if group is not None and group.allow_cross_site_rpc_client_access and database.copies:
        preferred = min(database.copies, key=lambda copy: copy.activation_preference)
        home = directory.servers.get(key(preferred.server), active)
    named = by_fqdn(directory, database.rpc_client_access_server)
    if named is not None and key(named.site) == key(home.site):
        return database.rpc_client_access_server
    array = array_of_site(directory, home.site)
    return array.fqdn if array else database.rpc_client_access_server
