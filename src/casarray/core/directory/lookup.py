"""What follows from the directory: members, sites of addresses, the name that clients are told."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from typing import TypeVar

from casarray.core.directory.model import CLIENT_ACCESS, Array, AvailabilityGroup, Database, Directory, Server, key
from casarray.core.forwarding.table import Address


@dataclass(frozen=True, slots=True)
class _Index:
    """What would be searched for again and again; keys are folded."""

    by_fqdn: Mapping[str, tuple[Array | Server, ...]]  # one each, but in a directory that breaks the rules
    by_address: Mapping[Address, tuple[Array | Server, ...]]  # likewise
    arrays_of_site: Mapping[str, tuple[Array, ...]]  # likewise
    members_of_site: Mapping[str, tuple[Server, ...]]
    group_of_server: Mapping[str, AvailabilityGroup]
    databases_by_fqdn: Mapping[str, tuple[Database, ...]]


@lru_cache(maxsize=4)
def _index(directory: Directory) -> _Index:
    # An array goes before a server should somebody have given both one name: it is the array that clients mean.
    named: tuple[Array | Server, ...] = (*directory.arrays.values(), *directory.servers.values())
    servers = sorted(directory.servers.values(), key=lambda s: key(s.name))
    return _Index(
        by_fqdn=_gathered((key(thing.fqdn), thing) for thing in named),
        by_address=_gathered((address, thing) for thing in named for address in thing.addresses),
        arrays_of_site=_gathered((key(array.site), array) for array in directory.arrays.values()),
        members_of_site=_gathered((key(server.site), server) for server in servers if server.is_member),
        group_of_server={key(name): group for group in directory.groups.values() for name in group.servers},
        databases_by_fqdn=_gathered((key(d.rpc_client_access_server), d) for d in directory.databases.values()),
    )


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def _gathered(pairs: Iterable[tuple[K, V]]) -> dict[K, tuple[V, ...]]:
    found: dict[K, list[V]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: tuple(values) for name, values in found.items()}


def with_fqdn(directory: Directory, fqdn: str) -> tuple[Array | Server, ...]:
    """Everything that has this FQDN: more than one only where a rule is broken."""
    return _index(directory).by_fqdn.get(key(fqdn), ())


def with_address(directory: Directory, address: Address) -> tuple[Array | Server, ...]:
    """Everything that has this address."""
    return _index(directory).by_address.get(address, ())


def by_fqdn(directory: Directory, fqdn: str) -> Array | Server | None:
    """The array or server that has this FQDN."""
    return next(iter(with_fqdn(directory, fqdn)), None)


def members(directory: Directory, array: Array) -> tuple[Server, ...]:
    """The servers of the array's site that have client access and are not taken out, by name."""
    return _index(directory).members_of_site.get(key(array.site), ())


def array_of_site(directory: Directory, site: str) -> Array | None:
    """The site's array, if it has one."""
    return next(iter(arrays_of_site(directory, site)), None)


def arrays_of_site(directory: Directory, site: str) -> tuple[Array, ...]:
    """All arrays of a site: more than one only where a rule is broken."""
    return _index(directory).arrays_of_site.get(key(site), ())


def group_of(directory: Directory, server: str) -> AvailabilityGroup | None:
    """The availability group that a server is in."""
    return _index(directory).group_of_server.get(key(server))


def databases_naming(directory: Directory, fqdn: str) -> tuple[Database, ...]:
    """The databases whose clients are told this name."""
    return _index(directory).databases_by_fqdn.get(key(fqdn), ())


def site_of(directory: Directory, address: Address) -> str | None:
    """The site of an address: that of the longest subnet that holds it."""
    best: IPv4Network | IPv6Network | None = None
    site = None
    for subnet in directory.subnets.values():
        network = subnet.network
        if address in network and (best is None or network.prefixlen > best.prefixlen):
            best, site = network, subnet.site
    return site


def usual_rpc_server(directory: Directory, server: Server) -> str:
    """What a new database on this server tells its clients: its site's array, else a client-access server there."""
    array = array_of_site(directory, server.site)
    if array is not None:
        return array.fqdn
    if CLIENT_ACCESS in server.roles:
        return server.fqdn
    near = _index(directory).members_of_site.get(key(server.site), ())
    return near[0].fqdn if near else server.fqdn


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
