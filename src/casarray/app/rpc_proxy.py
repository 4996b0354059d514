"""Where clients of the RPC proxy are led: the server that a name and a port mean, for this client, over TCP.

A client that names the array gets the array's member for its address, the one that its RPC over TCP goes to as well;
one that names a member gets that member, if that is allowed. The port says the interface, and the member's endpoint
mapper where that is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from casarray.app.arrays import ArrayService
from casarray.core.affinity.choose import choose, of_family
from casarray.core.affinity.identity import group_ids, member_ids, seed_of
from casarray.core.affinity.jhash import same_client
from casarray.core.affinity.sticky import Pins
from casarray.core.config import Array, Backend, Config, RpcHttpSettings, Server
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.interfaces.rfr import RFR
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.errors import Denied, NotFound, Unavailable
from casarray.core.forwarding.table import Address, Group, Table
from casarray.core.forwarding.wanted import Nodes, group_services, mapper_service, wanted_table
from casarray.core.profiles import MAPPER_PORT
from casarray.core.rpc_http.http import Target

#: What clients ask for, and what is behind it. [MS-OXCRPC] 2.1, [MS-OXABREF] 2.1, [MS-OXNSPI] 2.1
INTERFACES: Final[Mapping[int, Syntax]] = {6001: EMSMDB, 6002: RFR, 6004: NSPI}
#: So long a port that an endpoint mapper told is not asked for again. Seconds.
REMEMBERED: Final = 60.0
MOST_REMEMBERED: Final = 4096
#: So long a member that could not be connected to gets no clients, where nobody probes it. Seconds.
SHUNNED: Final = 5.0


class Route(Protocol):
    """Where a client of an array is led."""

    @property
    def member_id(self) -> int:
        """Whose."""

    @property
    def address(self) -> Address:
        """To dial."""

    @property
    def port(self) -> int:
        """Of the endpoint mapper there."""


class Leader(Protocol):
    """Chooses members of one array."""

    def route(self, client: Address, avoid: int | None = None) -> Route | None:
        """Whom to lead the client to, but not to ``avoid``; None: there is nobody."""

    def unreachable(self, member_id: int) -> None:
        """It could not be connected to."""

    def usable(self, member_id: int) -> bool:
        """Whether connections to this member may go on."""


class PortAsker(Protocol):
    """Asks an endpoint mapper."""

    async def __call__(self, address: Address, mapper_port: int, interface: Syntax) -> int:
        """The TCP port of the interface there. `Unavailable` without one."""


@dataclass(frozen=True, slots=True)
class Place:
    """A server for a client."""

    address: Address
    port: int
    array: str = ""
    member_id: int | None = None  # None: the client named it
    interface: Syntax | None = None
    over_http: bool = False


class ServerFinder:
    """`casarray.adapters.net.rpc_http_proxy.Finder` by the configuration and the leaders of its arrays."""

    def __init__(
        self,
        config: Callable[[], Config],
        leader: Callable[[str], Leader | None],
        ask: PortAsker,
        now: Callable[[], float],
    ) -> None:
        """``config`` as it is now; ``leader`` of the array of that name; ``now`` in seconds."""
        self._config = config
        self._leader = leader
        self._ask = ask
        self._now = now
        self._ports: dict[tuple[Address, Syntax], tuple[int, float]] = {}
        self._avoid: dict[str, tuple[int, float]] = {}  # array -> a member that was unreachable just now

    def check(self, target: Target) -> None:
        """`Denied` or `NotFound` when there is no such server, or may not be."""
        if target.port not in INTERFACES:
            raise Denied(f"port {target.port} is none of {', '.join(map(str, INTERFACES))}")
        self._named(target)

    async def find(self, target: Target, client: Address) -> Place:
        """The place of the server that this name means for this client."""
        array, server = self._named(target)
        if server is not None:
            mapper = mapper_service(array)
            address = _address(server, client.version)
            return await self._place(Place(address, (mapper and mapper.port) or MAPPER_PORT), target)
        leader = self._leader(array.name)
        member, until = self._avoid.get(array.name, (0, 0.0))
        route = leader.route(client, member if until > self._now() else None) if leader is not None else None
        if route is None:
            raise Unavailable(f"array {array.name}: no member may be used")
        return await self._place(Place(route.address, route.port, array.name, route.member_id), target)

    async def _place(self, at_mapper: Place, target: Target) -> Place:
        """Where the server itself is, on the machine whose endpoint mapper is there."""
        if self._config().rpc_http.backend is Backend.HTTP:
            return replace(at_mapper, port=target.port, over_http=True)
        interface = INTERFACES[target.port]
        port = await self._port(at_mapper.address, at_mapper.port, interface)
        return replace(at_mapper, port=port, interface=interface)

    def unreachable(self, place: Place) -> None:
        """It could not be connected to: its port is asked for anew, and its array has somebody look at it."""
        if place.interface is not None:
            self._ports.pop((place.address, place.interface), None)
        leader = self._leader(place.array) if place.array else None
        if leader is not None and place.member_id is not None:
            self._shun(place.array, place.member_id, leader)

    def usable(self, place: Place) -> bool:
        """Whether connections to this place may go on: a client whose member is out must learn it, to come again."""
        if place.member_id is None:
            return True
        leader = self._leader(place.array)
        return leader is not None and leader.usable(place.member_id)

    def _shun(self, array: str, member_id: int, leader: Leader) -> None:
        leader.unreachable(member_id)
        self._avoid[array] = (member_id, self._now() + 1.0)

    async def _port(self, address: Address, mapper_port: int, interface: Syntax) -> int:
        now = self._now()
        port, until = self._ports.get((address, interface), (0, 0.0))
        if until > now:
            return port
        port = await self._ask(address, mapper_port, interface)
        if len(self._ports) >= MOST_REMEMBERED:
            self._ports.clear()
        self._ports[address, interface] = (port, now + REMEMBERED)
        return port

    def _named(self, target: Target) -> tuple[Array, Server | None]:
        """The array of that name, or the member and its array."""
        config = self._config()
        settings, name = config.rpc_http, target.server.rstrip(".").casefold()
        for array in _arrays(config, settings):
            if name in {array.name.casefold(), array.fqdn.casefold()}:
                return array, None
        for array in _arrays(config, settings) if settings.server_names else ():
            for server in config.members(array):
                if name in _names_of(server, array):
                    return array, server
        raise NotFound(f"there is no array{' or member' if settings.server_names else ''} called {target.server}")


def _arrays(config: Config, settings: RpcHttpSettings) -> Sequence[Array]:
    wanted = {name.casefold() for name in settings.arrays}
    return [array for array in config.arrays if not wanted or array.name.casefold() in wanted]


def _names_of(server: Server, array: Array) -> set[str]:
    domain = array.fqdn.partition(".")[2]
    return {name.casefold() for name in (server.name, server.fqdn, f"{server.name}.{domain}") if name}


def _address(server: Server, version: int) -> Address:
    return next((address for address in server.addresses if address.version == version), server.addresses[0])


class GatewayLeader:
    """Leads clients as the gateway does that serves the array."""

    def __init__(self, service: ArrayService) -> None:
        self._service = service

    def route(self, client: Address, avoid: int | None = None) -> Route | None:
        """Whom the endpoint mapper would lead the client to; it is pinned there at once."""
        return self._service.route(client, avoid)

    def unreachable(self, member_id: int) -> None:
        """Have it probed now."""
        self._service.unreachable(member_id)

    def usable(self, member_id: int) -> bool:
        """Whether it may be used in the group of the endpoint mapper."""
        mapper = mapper_service(self._service.array)
        nodes = self._service.gatekeeper.nodes.get(mapper.group) if mapper else None
        return nodes is not None and member_id in nodes.usable


@dataclass(frozen=True, slots=True)
class Led:
    """A `Route` of `RingLeader`."""

    member_id: int
    address: Address
    port: int


class RingLeader:
    """Leads clients to an array's members where no gateway runs: the same ring, pins of its own, no probes.

    Without a gateway nobody else keeps the affinity, so it is kept here: a client stays on its member until that cannot
    be connected to, or its pin runs out.
    """

    def __init__(self, config: Config, array: Array, now: Callable[[], float]) -> None:
        self._array = array
        self._now = now
        self._pins = Pins()
        self._shunned: dict[int, float] = {}  # member id -> until when
        servers = config.members(array)
        ids = member_ids([server.name for server in servers], {})
        everybody = Nodes(frozenset(ids.values()), dict.fromkeys(ids.values(), 1.0))
        groups = group_services(array)
        self._table: Table = wanted_table(
            array,
            config.gateway,
            servers,
            member_ids=ids,
            group_ids=group_ids(groups, {}),
            nodes_by_group=dict.fromkeys(groups, everybody),
            seed=array.seed if array.seed is not None else seed_of(array.fqdn),
        )
        mapper = mapper_service(array)
        self._mapper_port = (mapper and mapper.port) or MAPPER_PORT
        self._group = (mapper and self._table.group(mapper.group)) or next(iter(self._table.groups), None)

    def route(self, client: Address, avoid: int | None = None) -> Led | None:
        """Whom to lead the client to."""
        now = self._now()
        if self._group is None:
            return None
        out = {member for member, until in self._shunned.items() if until > now} | ({avoid} - {None})
        group = of_family(self._table, self._group, client.version)
        left = replace(group, nodes=group.nodes - out)
        group = left if left.nodes else group  # rather one that was unreachable a moment ago than nobody
        key = same_client(client, group.prefix4, group.prefix6)
        chosen = self._choose(group, client, self._pins.member(key, now))
        member = self._table.member(chosen) if chosen is not None else None
        address = member.address(client.version) if member else None
        if member is None or address is None:
            return None
        self._pins.set(key, member.id, now, self._array.affinity_timeout)
        return Led(member.id, address, self._mapper_port)

    def _choose(self, group: Group, client: Address, pinned: int | None) -> int | None:
        chosen = choose(group, self._table.seed, client, pinned).member_id
        if chosen is None and group.nodes:  # neither choice of its slot is left, and a third one is
            return min(group.nodes)
        return chosen

    def unreachable(self, member_id: int) -> None:
        """Lead nobody there for a moment."""
        self._shunned[member_id] = self._now() + SHUNNED

    def usable(self, member_id: int) -> bool:  # noqa: ARG002 - as all leaders
        """Nobody here knows better than the connections themselves."""
        return True
