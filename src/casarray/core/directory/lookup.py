"""What follows from the directory: members, sites of addresses, the name that clients are told."""

from bisect import bisect_left
from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import lru_cache
from ipaddress import ip_network
from itertools import islice
from typing import TypeVar

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

# What would be searched for again and again is worked out once for each directory, and only when somebody asks for it.
# The names in it are folded. It holds tuples also of what is one alone: a directory may break the rules.
_kept = lru_cache(maxsize=4)


def _gathered(pairs: Iterable[tuple[K, V]]) -> dict[K, tuple[V, ...]]:
    found: dict[K, list[V]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: tuple(values) for name, values in found.items()}


def _named(directory: Directory) -> tuple[Array | Server, ...]:
    # An array goes before a server should somebody have given both one name: it is the array that clients mean.
    return (*directory.arrays.values(), *directory.servers.values())


@_kept
def _by_fqdn(directory: Directory) -> Mapping[str, tuple[Array | Server, ...]]:
    return _gathered((key(thing.fqdn), thing) for thing in _named(directory))


@_kept
def _by_address(directory: Directory) -> Mapping[Address, tuple[Array | Server, ...]]:
    return _gathered((address, thing) for thing in _named(directory) for address in thing.addresses)


@_kept
def _arrays_by_site(directory: Directory) -> Mapping[str, tuple[Array, ...]]:
    return _gathered((key(array.site), array) for array in directory.arrays.values())


@_kept
def _servers_by_site(directory: Directory) -> Mapping[str, tuple[Server, ...]]:
    servers = sorted(directory.servers.values(), key=lambda s: key(s.name))
    return _gathered((key(server.site), server) for server in servers)


@_kept
def _subnets_by_site(directory: Directory) -> Mapping[str, tuple[Subnet, ...]]:
    return _gathered((key(subnet.site), subnet) for subnet in directory.subnets.values())


@_kept
def _groups_by_server(directory: Directory) -> Mapping[str, tuple[AvailabilityGroup, ...]]:
    return _gathered((name, group) for group in directory.groups.values() for name in set(map(key, group.servers)))


@_kept
def _databases_by_fqdn(directory: Directory) -> Mapping[str, tuple[Database, ...]]:
    return _gathered((key(d.rpc_client_access_server), d) for d in directory.databases.values())


@_kept
def _databases_by_server(directory: Directory) -> Mapping[str, tuple[Database, ...]]:
    return _gathered(
        (name, d) for d in directory.databases.values() for name in {key(copy.server) for copy in d.copies}
    )


@_kept
def _accounts_by_database(directory: Directory) -> Mapping[str, tuple[Account, ...]]:
    return _gathered((key(account.database), account) for account in directory.accounts.values())


@_kept
def _lengths(directory: Directory) -> Mapping[int, tuple[int, ...]]:
    """The prefix lengths that are there, longest first, by the version of IP."""
    lengths = {(s.network.version, s.network.prefixlen) for s in directory.subnets.values()}
    return _gathered(sorted(lengths, reverse=True))


@_kept
def _by_first_address(directory: Directory) -> Mapping[int, tuple[tuple[int, int, Subnet], ...]]:
    """By the version of IP: the first address of each subnet, its length and the subnet, in order."""
    subnets = [
        (s.network.version, (int(s.network.network_address), s.network.prefixlen, s))
        for s in directory.subnets.values()
    ]
    return _gathered(sorted(subnets, key=lambda pair: (pair[0], *pair[1][:2])))


def with_fqdn(directory: Directory, fqdn: str) -> tuple[Array | Server, ...]:
    """Everything that has this FQDN: more than one only where a rule is broken."""
    return _by_fqdn(directory).get(key(fqdn), ())


def with_address(directory: Directory, address: Address) -> tuple[Array | Server, ...]:
    """Everything that has this address."""
    return _by_address(directory).get(address, ())


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
    return _arrays_by_site(directory).get(key(site), ())


def servers_of_site(directory: Directory, site: str) -> tuple[Server, ...]:
    """All servers of a site, by name."""
    return _servers_by_site(directory).get(key(site), ())


def subnets_of_site(directory: Directory, site: str) -> tuple[Subnet, ...]:
    """All subnets of a site."""
    return _subnets_by_site(directory).get(key(site), ())


def group_of(directory: Directory, server: str) -> AvailabilityGroup | None:
    """The availability group that a server is in."""
    return next(iter(groups_of(directory, server)), None)


def groups_of(directory: Directory, server: str) -> tuple[AvailabilityGroup, ...]:
    """All availability groups that a server is in: more than one only where a rule is broken."""
    return _groups_by_server(directory).get(key(server), ())


def databases_naming(directory: Directory, fqdn: str) -> tuple[Database, ...]:
    """The databases whose clients are told this name."""
    return _databases_by_fqdn(directory).get(key(fqdn), ())


def databases_on(directory: Directory, server: str) -> tuple[Database, ...]:
    """The databases that have a copy on this server."""
    return _databases_by_server(directory).get(key(server), ())


def accounts_in(directory: Directory, database: str) -> tuple[Account, ...]:
    """The accounts whose mailbox is in this database."""
    return _accounts_by_database(directory).get(key(database), ())


def subnets_around(directory: Directory, network: Network) -> Iterator[Subnet]:
    """The subnets that hold this network, the longest first; itself included, if it is one."""
    for length in _lengths(directory).get(network.version, ()):
        if length <= network.prefixlen:
            subnet = directory.subnets.get(key(str(network.supernet(new_prefix=length))))
            if subnet is not None:
                yield subnet


def subnets_inside(directory: Directory, network: Network) -> Iterator[Subnet]:
    """The subnets that this network holds; not itself."""
    known = _by_first_address(directory).get(network.version, ())
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
