"""The userspace forwarder: the same array without rights and without nftables, by relaying every byte in Python.

It decides by the very table that the kernel's rules are made of (`core.affinity.steering`), listens on the array's
addresses, and relays. What the kernel refuses with a reset, it accepts and resets: a listening socket cannot choose.
A dynamic port is listened on while a pinhole for it is open. Nothing here outlives the process.
"""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from casarray.adapters.net.relay import CHUNK, End, Relay, RelayLimits, close, prepare
from casarray.app.ports import Traffic
from casarray.core.affinity.jhash import slot_of
from casarray.core.affinity.steering import Steered, Steering
from casarray.core.errors import CasarrayError, Conflict, Denied, Unavailable
from casarray.core.forwarding.diff import Change, Remove, Structure, after
from casarray.core.forwarding.table import Address, OpenRange, Pinhole, Table

Place = tuple[Address, int]
Destination = tuple[str, int]  # group, member id

_BACKLOG = 4096
_ACCEPTS_AT_ONCE = 64
_NO_MORE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_SWEEP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the forwarder takes upon itself."""

    relay: RelayLimits = field(default_factory=RelayLimits)
    connections: int = 100_000
    connections_per_client: int = 4096
    pins: int = 1 << 20  # by affinity group
    pinholes: int = 1 << 20
    dynamic_ports: int = 4096  # listened on at one time, on each address


class UserspaceForwarder:
    """Fulfils `app.ports.Forwarder`. Belongs to the event loop in which `apply` is called first."""

    def __init__(self, *, limits: Limits = Limits(), unreachable: Callable[[str, int], None] | None = None) -> None:
        """``unreachable`` hears group and member id each time that a member could not be connected to."""
        self._limits = limits
        self._unreachable = unreachable
        self._steering = Steering(limits.pins, limits.pinholes)
        self._listeners: dict[Place, _Listener] = {}
        self._dynamic: frozenset[int] = frozenset()  # ports that pinholes lead through
        self._relays: dict[Relay, tuple[Address, Destination]] = {}
        self._by_client: Counter[Address] = Counter()
        self._new: Counter[Destination] = Counter()
        self._bytes: Counter[Destination] = Counter()
        self._events: Counter[str] = Counter()
        self._buffer = memoryview(bytearray(CHUNK))
        self._sweep: asyncio.TimerHandle | None = None
        self._known_loop: asyncio.AbstractEventLoop | None = None

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        if self._known_loop is None:
            self._known_loop = asyncio.get_running_loop()
            self._sweep = self._known_loop.call_later(_SWEEP_SECONDS, self.tidy)
        return self._known_loop

    async def observe(self) -> Table | None:
        """See the port."""
        return self._steering.table

    async def apply(self, changes: Sequence[Change]) -> None:
        """See the port. `Conflict` where somebody else listens; the change that meets it has then changed nothing."""
        for change in changes:
            if isinstance(change, Structure | Remove):
                self._listen(after(self._steering.table, change), self._dynamic)
            self._steering.apply(change)

    def pinned(self, group: str, client: Address) -> int | None:
        """See the port."""
        return self._steering.pinned(group, client, self._loop.time())

    def pin_seconds_left(self, group: str, client: Address) -> int | None:
        """See the port."""
        return self._steering.pin_seconds_left(group, client, self._loop.time())

    def pin(self, group: str, client: Address, member_id: int) -> None:
        """See the port."""
        self._steering.pin(group, client, member_id, self._loop.time())

    def unpin(self, group: str, client: Address) -> None:
        """See the port."""
        self._steering.unpin(group, client)

    def open_pinholes(self, holes: Sequence[Pinhole | OpenRange]) -> None:
        """See the port. The listeners are there when this returns; `Unavailable` if there would be too many."""
        before = self._dynamic
        ports = before.union(*(_ports(hole) for hole in holes))
        if len(ports) > self._limits.dynamic_ports:
            before = frozenset(self._steering.open_ports(self._loop.time()))
            ports = before.union(*(_ports(hole) for hole in holes))
        if len(ports) > self._limits.dynamic_ports:
            raise Unavailable(
                f"{len(ports)} dynamic ports would have to be listened on; in userspace mode at most "
                f"{self._limits.dynamic_ports} can be. The kernel mode has no such limit"
            )
        self._listen(self._steering.table, ports)
        try:
            self._steering.open_pinholes(holes, self._loop.time())
        except CasarrayError:
            self._listen(self._steering.table, before)
            raise

    async def reset(self, group: str, member_id: int) -> int:
        """See the port."""
        ending = [relay for relay, (_, to) in self._relays.items() if to == (group, member_id)]
        for relay in ending:
            relay.end(End.ENDED, reset=True)
        return len(ending)

    async def refresh_pins(self, before_seconds: int) -> int:
        """See the port."""
        now = self._loop.time()
        return sum(
            self._steering.renew(group, client, member, before_seconds, now)
            for client, (group, member) in set(self._relays.values())
        )

    async def connections(self) -> Mapping[Destination, int]:
        """See the port."""
        return Counter(to for _, to in self._relays.values())

    async def traffic(self) -> Mapping[Destination, Traffic]:
        """See the port."""
        carried = self._bytes.copy()
        for relay, (_, to) in self._relays.items():
            carried[to] += relay.carried
        return {to: Traffic(new, carried[to]) for to, new in self._new.items()}

    async def pins(self) -> Mapping[str, int]:
        """See the port."""
        return self._steering.pins(self._loop.time())

    def counters(self) -> Mapping[str, int]:
        """What became of connections: ``refused:REASON`` before, or ``ended:WHY`` after they were relayed."""
        return dict(self._events)

    async def close(self, *, keep: bool) -> None:  # noqa: ARG002 - nothing here can go on without the process
        """Reset every connection, so that clients know at once, and listen no more."""
        if self._sweep is not None:
            self._sweep.cancel()
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        for relay in list(self._relays):
            relay.end(End.ENDED, reset=True)

    def _listen(self, table: Table | None, dynamic: frozenset[int]) -> None:
        """Listen on every address and port of the table and on these, and on no others; or change nothing."""
        ports = {port for group in table.groups for port in group.ports} if table else set()
        if table and any(group.dynamic for group in table.groups):
            ports |= dynamic - {table.mapper_port}
        wanted = {(address, port) for address in (table.addresses if table else ()) for port in ports}
        opened: dict[Place, _Listener] = {}
        try:
            for place in sorted(wanted - self._listeners.keys(), key=str):
                opened[place] = _Listener(self._loop, place, self._limits.relay, self._accepted, self._events)
        except CasarrayError:
            for listener in opened.values():
                listener.close()
            raise
        for place in self._listeners.keys() - wanted:
            self._listeners.pop(place).close()
        self._listeners |= opened
        self._dynamic = dynamic

    def _accepted(self, connection: socket.socket, client: Address, port: int) -> None:
        if len(self._relays) >= self._limits.connections:
            self._refuse(connection, "connections")
        elif self._by_client[client] >= self._limits.connections_per_client:
            self._refuse(connection, "connections_of_client")
        elif (steered := self._steering.steer(client, port, self._loop.time())) is None:
            self._refuse(connection, "nobody")
        else:
            self._relay(connection, client, port, steered)

    def _refuse(self, connection: socket.socket, reason: str) -> None:
        self._events[f"refused:{reason}"] += 1
        close(connection, reset=True)

    def _relay(self, connection: socket.socket, client: Address, port: int, steered: Steered) -> None:
        relay = Relay(self._loop, connection, self._buffer, self._limits.relay, self._ended)
        to = steered.group, steered.member.id
        self._relays[relay] = client, to
        self._by_client[client] += 1
        self._new[to] += 1
        relay.start(steered.address, port, self._source(client))

    def _source(self, client: Address) -> Address | None:
        """One client, one source address, and the one that the kernel's rules would take."""
        table = self._steering.table
        if table is None or not table.masquerade:
            return None
        pool = [address for address in table.source_addresses if address.version == client.version]
        return pool[slot_of(client, table.seed, len(pool))] if pool else None

    def _ended(self, relay: Relay, why: End) -> None:
        client, to = self._relays.pop(relay)
        self._bytes[to] += relay.carried
        self._events[f"ended:{why}"] += 1
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]
        if why is End.UNREACHABLE and self._unreachable is not None:
            self._unreachable(*to)

    def tidy(self) -> None:
        """Now and then: silent connections end, and ports without a pinhole are no longer listened on."""
        now = self._loop.time()
        self._sweep = self._loop.call_later(_SWEEP_SECONDS, self.tidy)
        for relay in list(self._relays):
            relay.check(now)
        self._listen(self._steering.table, frozenset(self._steering.open_ports(now)))
        self._steering.pins(now)


class _Listener:
    """A listening socket; accepts for as long as the process has descriptors."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        place: Place,
        limits: RelayLimits,
        accepted: Callable[[socket.socket, Address, int], None],
        events: Counter[str],
    ) -> None:
        self._loop = loop
        self._port = place[1]
        self._accepted = accepted
        self._events = events
        self._pause: asyncio.TimerHandle | None = None
        self._socket = _listening(place, limits)
        loop.add_reader(self._socket, self._ready)

    def _ready(self) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                connection, peer = self._socket.accept()
            except OSError as refusal:
                if refusal.errno in _NO_MORE:
                    # They are still in the queue; without a pause this would be called again at once, and again.
                    self._events["accept_pauses"] += 1
                    self._loop.remove_reader(self._socket)
                    self._pause = self._loop.call_later(0.1, self._go_on)
                return
            connection.setblocking(False)
            self._accepted(connection, ip_address(peer[0].partition("%")[0]), self._port)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._socket, self._ready)

    def close(self) -> None:
        """Listen no more. Who has not been accepted yet is reset by the kernel."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()


def _ports(hole: Pinhole | OpenRange) -> range:
    return range(hole.port, hole.port + 1) if isinstance(hole, Pinhole) else range(hole.first, hole.last + 1)


def _listening(place: Place, limits: RelayLimits) -> socket.socket:
    address, port = place
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        prepare(listening, limits)
        listening.bind((str(address), port))
        listening.listen(_BACKLOG)
    except OSError as refusal:
        listening.close()
        where = f"[{address}]:{port}" if family == socket.AF_INET6 else f"{address}:{port}"
        if refusal.errno == errno.EADDRINUSE:
            raise Conflict(f"{where} is taken: somebody else listens there") from refusal
        if refusal.errno in (errno.EACCES, errno.EPERM):
            raise Denied(f"{where} may not be listened on without CAP_NET_BIND_SERVICE") from refusal
        if refusal.errno == errno.EADDRNOTAVAIL:
            raise Unavailable(f"{where} cannot be listened on: no interface has that address") from refusal
        raise Unavailable(f"{where} cannot be listened on: {refusal.strerror}") from refusal
    return listening
