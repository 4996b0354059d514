"""Answers the endpoint mapper's port on the array's addresses: admits clients, keeps their relays, and the time.

Nothing here reads a PDU; that is `core.gateway.epm_inspection`'s business, driven by `mapper_relay`.
"""

import asyncio
import contextlib
import errno
import resource
import socket
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, ip_address
from types import MappingProxyType

from casarray.adapters.net.mapper_relay import Relay, RelayLimits, Steering
from casarray.core.config import Array, UnreadableMapper
from casarray.core.errors import Conflict, Denied, Unavailable
from casarray.core.forwarding.table import Address
from casarray.core.forwarding.wanted import mapper_service
from casarray.core.gateway.epm_inspection import PortPolicy

BACKLOG = 1024
#: Descriptors that are left to everything else in the process when relays, at two each, are counted out.
RESERVED_DESCRIPTORS = 256
#: How long an orderly stop waits for answers that are under way. Seconds.
GRACE = 0.5

_IP_FREEBIND = 15  # linux/in.h
_IPV6_FREEBIND = 78  # linux/in6.h


@dataclass(frozen=True, slots=True)
class MapperSettings:
    """What a reload may change."""

    addresses: tuple[Address, ...]  # to listen on; link-local ones with their scope
    port: int | None = 135  # None: do not listen
    ports: PortPolicy = field(default_factory=PortPolicy)
    limits: RelayLimits = field(default_factory=RelayLimits)
    per_client: int = 64  # relays of one client address at a time
    total: int = 8192  # relays at a time, if there are descriptors for so many


def settings_of(array: Array) -> MapperSettings:
    """What the configuration of an array says about its mapper."""
    mapper = mapper_service(array)
    seconds = array.mapper_timeout
    return MapperSettings(
        addresses=array.addresses,
        port=mapper.port if mapper else None,
        ports=PortPolicy(
            dynamic=array.dynamic_ports,
            static=frozenset(service.port for service in array.services if service.port is not None),
            range_when_unreadable=array.unreadable_mapper is UnreadableMapper.DYNAMIC_RANGE,
        ),
        limits=RelayLimits(pdu=seconds, idle=10 * seconds, answer=3 * seconds, stalled=seconds),
        per_client=array.mapper_connections_per_client,
    )


class MapperListener:
    """`casarray.app.ports.Mapper` over real sockets, on the running loop."""

    def __init__(self, settings: MapperSettings, steering: Steering) -> None:
        self.steering = steering
        self.limits = settings.limits
        self.ports = settings.ports
        self._settings = settings
        self._total = settings.total
        self._servers: dict[tuple[Address, int], asyncio.Server] = {}
        self._relays: set[Relay] = set()
        self._of_client: Counter[Address] = Counter()
        self._of_member: dict[int, set[Relay]] = {}
        self._counts: Counter[str] = Counter()
        self._empty = asyncio.Event()  # whether there is no relay
        self._empty.set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._listening: set[asyncio.Task[None]] = set()

    # Listening

    async def start(self, adopted: Iterable[socket.socket] = ()) -> None:
        """Listen, on adopted sockets where they fit. `Conflict` when somebody else does, `Denied` without the right."""
        self._total = min(self._settings.total, affordable_relays())
        have = {_place(sock): sock for sock in adopted}
        for place in self._places():
            await self._listen(place, have.pop(place) if place in have else listening_socket(*place))
        for unwanted in have.values():
            unwanted.close()
        self._sweep()

    def replan(self, array: Array) -> None:
        """See `configure`."""
        self.configure(settings_of(array))

    def configure(self, settings: MapperSettings) -> None:
        """These are in force from now on, for relays under way, too; those stay, whatever is listened on.

        Raises what `start` raises, and then nothing has changed.
        """
        self._settings, before = settings, self._settings
        fresh: dict[tuple[Address, int], socket.socket] = {}
        try:
            for place in self._places():
                if place not in self._servers:
                    fresh[place] = listening_socket(*place)
        except (Conflict, Denied, Unavailable):
            self._settings = before
            for sock in fresh.values():
                sock.close()
            raise
        self.limits, self.ports = settings.limits, settings.ports
        self._total = min(settings.total, affordable_relays())
        for relay in self._relays:
            relay.follow(settings.ports)
        for place in self._servers.keys() - set(self._places()):
            self._servers.pop(place).close()
        for place, sock in fresh.items():
            task = asyncio.get_running_loop().create_task(self._listen(place, sock))
            self._listening.add(task)
            task.add_done_callback(self._listening.discard)

    def _places(self) -> list[tuple[Address, int]]:
        port = self._settings.port
        return [] if port is None else [(address, port) for address in self._settings.addresses]

    async def _listen(self, place: tuple[Address, int], sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        factory = partial(Relay, self, place[0], loop.time)
        self._servers[place] = await loop.create_server(factory, sock=sock, backlog=BACKLOG)

    @property
    def listening(self) -> list[tuple[str, int]]:
        """The addresses and ports listened on."""
        return [sock.getsockname()[:2] for server in self._servers.values() for sock in server.sockets]

    async def close(self) -> None:
        """Listen no more; let answers that are under way arrive, briefly; end everything."""
        await asyncio.gather(*self._listening, return_exceptions=True)
        for server in self._servers.values():
            server.close()
        self._servers.clear()
        for relay in list(self._relays):
            relay.finish()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), GRACE)
        for relay in list(self._relays):
            relay.abort()
        await asyncio.sleep(0)  # transports say goodbye on the next turn of the loop
        if self._sweeper is not None:
            self._sweeper.cancel()

    # What relays ask

    def admit(self, relay: Relay) -> bool:
        """Whether one more relay may be."""
        self._counts["connections"] += 1
        if len(self._relays) >= self._total:
            self._counts["refused:total_limit"] += 1
            return False
        if self._of_client[relay.client] >= self._settings.per_client:
            self._counts["refused:client_limit"] += 1
            return False
        self._relays.add(relay)
        self._empty.clear()
        self._of_client[relay.client] += 1
        return True

    def led(self, relay: Relay, member_id: int) -> None:
        """The relay belongs to this member from now on."""
        self._forsake(relay)
        relay.member_id = member_id
        self._of_member.setdefault(member_id, set()).add(relay)

    def gone(self, relay: Relay) -> None:
        """The relay is no more."""
        self._relays.discard(relay)
        self._of_client[relay.client] -= 1
        if not self._of_client[relay.client]:
            del self._of_client[relay.client]
        self._forsake(relay)
        if not self._relays:
            self._empty.set()

    def count(self, event: str, number: int = 1) -> None:
        """Something happened."""
        self._counts[event] += number

    # What others ask

    def counters(self) -> Mapping[str, int]:
        """Event -> how often since the start. ``wire_error:KIND`` and ``timeout:KIND`` end a relay each."""
        return MappingProxyType(dict(self._counts))

    @property
    def relays(self) -> int:
        """How many there are now."""
        return len(self._relays)

    def end_member(self, member_id: int) -> None:
        """Reset every relay to this member at once, idle ones too."""
        for relay in list(self._of_member.get(member_id, ())):
            self._counts["ended_with_member"] += 1
            relay.abort()

    def _forsake(self, relay: Relay) -> None:
        if relay.member_id is None:
            return
        of_member = self._of_member.get(relay.member_id, set())
        of_member.discard(relay)
        if not of_member:
            self._of_member.pop(relay.member_id, None)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for relay in list(self._relays):
            what = relay.overdue(now)
            if what is None:
                continue
            self._counts[f"timeout:{what}"] += 1
            if what in ("idle", "unanswered"):
                relay.end()
            else:
                relay.abort()
        self._sweeper = loop.call_later(min(1.0, max(0.02, self.limits.pdu / 8)), self._sweep)


def listening_socket(address: Address, port: int) -> socket.socket:
    """A socket that listens there. Raises `Conflict`, `Denied` or `Unavailable` with a sentence for people."""
    sock = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # The address may be put on an interface later, or move here when the other gateway dies.
        option = (socket.IPPROTO_IP, _IP_FREEBIND) if address.version == 4 else (socket.IPPROTO_IPV6, _IPV6_FREEBIND)
        with contextlib.suppress(OSError):
            sock.setsockopt(*option, 1)
        sock.bind(_socket_address(address, port))
        sock.listen(BACKLOG)
    except OSError as wrong:
        sock.close()
        place = f"{address} port {port}"
        if wrong.errno == errno.EADDRINUSE:
            raise Conflict(f"{place} is taken: another gateway or another endpoint mapper listens there") from wrong
        if wrong.errno in (errno.EACCES, errno.EPERM):
            raise Denied(f"{place} may not be listened on without CAP_NET_BIND_SERVICE") from wrong
        raise Unavailable(f"{place} cannot be listened on: {wrong.strerror}") from wrong
    return sock


def _socket_address(address: Address, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    if isinstance(address, IPv4Address):
        return str(address), port
    scope = address.scope_id
    index = 0 if scope is None else int(scope) if scope.isdigit() else socket.if_nametoindex(scope)
    return str(address).partition("%")[0], port, 0, index


def _place(sock: socket.socket) -> tuple[Address, int]:
    name = sock.getsockname()
    return ip_address(name[0]), int(name[1])


def affordable_relays() -> int:
    """Raise the descriptor limit as far as it goes; how many relays it then allows, at two descriptors each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 1 << 20
    return max(16, (soft - RESERVED_DESCRIPTORS) // 2)
