"""One client of the endpoint mapper and its member, joined by an inspection that says what to do.

The client's connection is accepted first and read at once; the member is dialled when the client has sent its first
whole PDU. So port scans, silent clients and garbage never reach a member.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import pack
from typing import Protocol, cast

from casarray.adapters.net.dial import OURS
from casarray.core.errors import CasarrayError
from casarray.core.forwarding.table import Address
from casarray.core.gateway.epm_inspection import InspectionLimits, MapperInspection, PortPolicy
from casarray.core.gateway.layer import (
    Answered,
    Close,
    Command,
    EndToServer,
    OpenPinholes,
    OpenRange,
    SendToClient,
    SendToServer,
)

_LINGER_NOT = pack("ii", 1, 0)  # struct linger: closing resets


class Decision(Protocol):
    """Where a client is led."""

    @property
    def member_id(self) -> int:
        """Whose."""

    @property
    def address(self) -> Address:
        """The address to dial."""

    @property
    def port(self) -> int:
        """The port of its endpoint mapper."""


class Steering(Protocol):
    """Who decides for a relay. None of these may block; those that fail raise `CasarrayError`."""

    def route(self, client: Address, avoid: int | None = None) -> Decision | None:
        """Whom to lead the client to, but not to ``avoid``; None: there is nobody."""

    def open_pinholes(self, client: Address, member_id: int, ports: tuple[int, ...]) -> None:
        """Let the client through to these ports of that member; it is so when this returns."""

    def open_range(self, client: Address, member_id: int) -> None:
        """Let the client through to all dynamic ports of that member."""

    def unreachable(self, member_id: int) -> None:
        """The member's endpoint mapper could not be dialled."""


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """How long a relay may take over things. Seconds."""

    pdu: float = 10.0  # until a client's PDU is complete, from its first octet; for the first one from the connect
    idle: float = 100.0  # nothing is asked
    answer: float = 30.0  # the member answers
    stalled: float = 10.0  # the client does not read
    connect: float = 2.0  # dialling a member
    inspection: InspectionLimits = field(default_factory=InspectionLimits)


class Ward(Protocol):
    """Whoever keeps the relays."""

    steering: Steering
    limits: RelayLimits
    ports: PortPolicy

    def admit(self, relay: "Relay") -> bool:
        """Whether one more relay may be; it has been counted."""

    def led(self, relay: "Relay", member_id: int) -> None:
        """The relay belongs to this member from now on, and is told so."""

    def gone(self, relay: "Relay") -> None:
        """The relay is no more."""

    def count(self, event: str, number: int = 1) -> None:
        """Something happened."""


def client_address(peername: tuple[str | int, ...]) -> Address:
    """The address of a peer without its scope: the kernel's maps, and so all decisions, know none."""
    return ip_address(str(peername[0]).partition("%")[0])


def reset(transport: asyncio.BaseTransport | None) -> None:
    """End a connection by RST, whatever is still to be sent."""
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):  # it may have ended by itself
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    cast(asyncio.WriteTransport, transport).abort()


class Relay(asyncio.Protocol):
    """The client's end, and the life of the whole."""

    def __init__(self, ward: Ward, array_address: IPv4Address | IPv6Address, now: Callable[[], float]) -> None:
        """``array_address`` is the one listened on; ``now`` the loop's clock."""
        self._ward = ward
        self._array_address = array_address
        self._inspection: MapperInspection | None = None
        self._client: asyncio.Transport | None = None
        self._server: asyncio.Transport | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._to_server: list[bytes] = []  # until the member is there
        self._end_to_server = False
        self._server_ended = False
        self._client_full = False
        self._ending = False
        self._since = now()
        self._standing: tuple[str, int] = ("asking", 0)
        self.client: Address = array_address  # the client's, once it is known
        self.member_id: int | None = None

    # The client's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._client = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if not peer:  # gone before we looked
            self._ending = True
            self._client.abort()
            return
        self.client = client_address(peer)
        if not self._ward.admit(self):
            self._ending = True
            reset(transport)
            return
        told = self._array_address
        if told.is_unspecified:
            told = client_address(transport.get_extra_info("sockname"))
        self._inspection = MapperInspection(
            told if isinstance(told, IPv4Address) else None, self._ward.ports, self._ward.limits.inspection
        )

    def data_received(self, data: bytes) -> None:
        """The client sent something."""
        if self._inspection is not None and not self._ending:
            self._perform(self._inspection.from_client(data))

    def eof_received(self) -> bool:
        """The client will send no more; it may wait for an answer."""
        if self._inspection is not None and not self._ending:
            self._perform(self._inspection.client_closed())
        return True

    def pause_writing(self) -> None:
        """The client does not read: do not read from the member."""
        self._client_full = True
        if self._server is not None and not self._server.is_closing():
            self._server.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._client_full = False
        if self._server is not None and not self._server.is_closing():
            self._server.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it went
        """The client is gone."""
        self._client = None
        self._ending = True
        if self._dialling is not None:
            self._dialling.cancel()
        self._leave_member()
        if self._inspection is not None:
            self._inspection = None
            self._ward.gone(self)

    # The member's side

    def server_made(self, transport: asyncio.Transport) -> None:
        """The member is there."""
        self._server = transport
        if self._ending:
            transport.abort()

    def server_sent(self, data: bytes) -> None:
        """The member sent something."""
        if self._inspection is not None and not self._ending:
            self._perform(self._inspection.from_server(data))

    def server_ended(self) -> None:
        """The member will send no more."""
        self._server_ended = True
        if self._inspection is not None and not self._ending:
            self._perform(self._inspection.server_closed())

    def server_full(self, full: bool) -> None:
        """The member does not read, or reads again."""
        if self._client is not None and not self._client.is_closing():
            self._client.pause_reading() if full else self._client.resume_reading()

    def server_lost(self, exc: Exception | None) -> None:
        """The member is gone."""
        self._server = None
        if self._ending:
            return
        if exc is None:
            self.server_ended()
        else:
            self._ward.count("member_reset")
            self.abort()

    # What to do

    def _perform(self, commands: list[Command]) -> None:
        for command in commands:
            if self._ending:
                return
            match command:
                case SendToServer(data):
                    self._send_to_server(data)
                case SendToClient(data):
                    if self._client is not None:
                        self._client.write(data)
                case OpenPinholes(ports):
                    self._open(ports)
                case OpenRange():
                    self._open(None)
                case Answered():
                    self._count(command)
                case EndToServer():
                    self._end_to_server = True
                    if self._server is not None:
                        self._server.write_eof()
                case Close(kind):
                    if kind:
                        self._ward.count(f"wire_error:{kind}")
                    self.end()

    def _count(self, answered: Answered) -> None:
        self._ward.count(answered.call)
        if answered.rewritten:
            self._ward.count("rewritten", answered.rewritten)
        if answered.authenticated:
            self._ward.count("authenticated")

    def _send_to_server(self, data: bytes) -> None:
        if self._server is not None:
            self._server.write(data)
            return
        self._to_server.append(data)
        if self._dialling is None and self._client is not None:
            self._client.pause_reading()  # what has come is enough until the member is there
            self._dialling = asyncio.get_running_loop().create_task(self._dial())

    def _open(self, ports: tuple[int, ...] | None) -> None:
        assert self.member_id is not None  # it has answered
        try:
            if ports is None:
                self._ward.steering.open_range(self.client, self.member_id)
                self._ward.count("ranges")
            else:
                self._ward.steering.open_pinholes(self.client, self.member_id, ports)
                self._ward.count("pinholes", len(ports))
        except CasarrayError:
            # An answer that leads to a shut port is worse than none: the client would wait there.
            self._ward.count("pinhole_failures")
            self.abort()

    async def _dial(self) -> None:
        """Reach a member: the client's own, or else once another one."""
        avoid, reached = None, False
        try:
            for _ in range(2):
                decision = self._route(avoid)
                if decision is None:
                    self._ward.count("refused:no_member")
                    break
                avoid = decision.member_id
                self._ward.led(self, decision.member_id)
                if reached := await self._connect(decision):
                    break
        except Exception:
            self._ward.count("faults")
            raise
        finally:
            # However it ends: nobody reads from this client now, so nothing else would ever end it.
            if not reached:
                self.abort()

    def _route(self, avoid: int | None) -> Decision | None:
        try:
            return self._ward.steering.route(self.client, avoid)
        except CasarrayError:
            return None

    async def _connect(self, decision: Decision) -> bool:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._ward.limits.connect):
                await loop.create_connection(lambda: ServerEnd(self), str(decision.address), decision.port)
        except OSError as wrong:  # TimeoutError is one, too
            self._ward.count("dial_failures")
            if wrong.errno not in OURS:
                self._ward.steering.unreachable(decision.member_id)
            return False
        self._dialling = None
        if self._server is not None:
            self._server.writelines(self._to_server)
            self._to_server.clear()
            if self._end_to_server:
                self._server.write_eof()
            if self._client_full:
                self._server.pause_reading()
        if self._client is not None and not self._client.is_closing():
            self._client.resume_reading()
        return True

    def end(self) -> None:
        """End both sides, the client's after what was given it to send."""
        self._ending = True
        self._leave_member()
        if self._client is not None:
            self._client.close()

    def _leave_member(self) -> None:
        """End the member's connection. Nobody waits for its answers any more, so it is reset unless it has ended first.

        An orderly end would leave its port here taken for a minute: at some hundred conversations a second there are
        none left, and long before that the kernel takes milliseconds to find one (docs/decisions/0021).
        """
        if self._server is not None:
            self._server.close() if self._server_ended else reset(self._server)

    def abort(self) -> None:
        """Reset both sides."""
        self._ending = True
        if self._dialling is not None and self._dialling is not asyncio.current_task():
            self._dialling.cancel()
        reset(self._server)
        reset(self._client)

    def follow(self, ports: PortPolicy) -> None:
        """These ports are in force from now on."""
        if self._inspection is not None:
            self._inspection.ports = ports

    def finish(self) -> None:
        """End as soon as nothing is owed to the client any more."""
        if self._inspection is None or self._inspection.client_owes_octets:
            self.end()
        elif not self._ending:
            self._perform(self._inspection.client_closed())

    # Time

    def overdue(self, now: float) -> str | None:
        """What has taken too long, if anything. Asked now and then, so nothing on the hot path keeps time."""
        standing = self._standing_now()
        if standing != self._standing:
            self._standing, self._since = standing, now
            return None
        limits = self._ward.limits
        allowed = {
            "asking": limits.pdu,
            "idle": limits.idle,
            "unanswered": limits.answer,
            "stalled": limits.stalled,
        }
        what = standing[0]
        if what not in allowed or now - self._since <= allowed[what]:
            return None  # a dial has a time-out of its own
        if what == "asking":
            return "slow" if self._inspection is not None and self._inspection.client_owes_octets else "silent"
        return what

    def _standing_now(self) -> tuple[str, int]:
        """What the relay waits for, and a number that changes with progress."""
        inspection = self._inspection
        if self._ending or inspection is None:
            return "stalled", -1  # what was sent last does not get through
        if self._dialling is not None:
            return "dialling", 0
        if self._client_full:
            return "stalled", inspection.server_pdus
        if inspection.client_owes_octets or not inspection.client_pdus:
            return "asking", inspection.client_pdus
        if inspection.server_owes_answers:
            return "unanswered", inspection.server_pdus
        return "idle", inspection.client_pdus + inspection.server_pdus


class ServerEnd(asyncio.Protocol):
    """The member's end: tells the relay."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The member is there."""
        self._relay.server_made(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        """The member sent something."""
        self._relay.server_sent(data)

    def eof_received(self) -> bool:
        """The member will send no more."""
        self._relay.server_ended()
        return True

    def pause_writing(self) -> None:
        """The member does not read."""
        self._relay.server_full(True)

    def resume_writing(self) -> None:
        """The member reads again."""
        self._relay.server_full(False)

    def connection_lost(self, exc: Exception | None) -> None:
        """The member is gone."""
        self._relay.server_lost(exc)
