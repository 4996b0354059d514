"""A virtual connection seen from its client: two channels to a proxy, one RPC connection over both. [MS-RPCH] 3.2.2

    connection = VirtualConnection(Cookies.new(uuid4), now)
    open the two requests; write connection.first_out and connection.first_in after their heads
    for event in connection.from_out(octets, now): ...        # what came on the OUT channel, its head taken off
    for event in connection.send(pdu, now): ...               # a PDU of RPC, whole
    for event in connection.tick(now): ...                    # every few seconds

Events say what to do (`SendIn`, `OpenIn`, `OpenOut`, ...) and what has happened (`Opened`, `Deliver`, `Broken`). The
channel that all is sent on is the default one; while it is replaced there is a successor beside it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final
from uuid import UUID

from casarray.core.errors import OutOfTurn, WireError
from casarray.core.rpc_http.flow import ReceiveWindow, SendWindow
from casarray.core.rpc_http.http import USUAL_LIFETIME
from casarray.core.rpc_http.messages import (
    ChannelCookie,
    ConnA1,
    ConnA3,
    ConnB1,
    ConnC,
    FlowControlAckTo,
    InR1A1,
    InR2A4,
    OutR2A2,
    OutR2A3,
    OutR2A6,
    OutR2A7,
    OutR2B3,
    OutR2C1,
    Ping,
)
from casarray.core.rpc_http.rts import VERSION, Party, RtsPdu, decode_rts, is_rts, take_raw

#: What Windows has room for.
USUAL_WINDOW: Final = 64 * 1024
USUAL_KEEPALIVE: Final = 300_000  # milliseconds
#: So much of an IN channel is left when its successor is opened.
RESERVE: Final = 32 * 1024
#: Octets that wait for the proxy to have room; who sends more does not look at `backlog`.
MOST_BACKLOG: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SendIn:
    """Write this on the IN channel."""

    data: bytes


@dataclass(frozen=True, slots=True)
class OpenIn:
    """Open a successor of the IN channel, and write this after its head."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SwitchIn:
    """From now on the IN channel is its successor; the predecessor ends."""


@dataclass(frozen=True, slots=True)
class OpenOut:
    """Open a successor of the OUT channel, and write this after its head; what comes on it counts after `SwitchOut`."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SendOut:
    """Write this, the end of its request, on the successor of the OUT channel."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SwitchOut:
    """From now on the OUT channel is its successor; the predecessor ends."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The virtual connection stands."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """A PDU of RPC came."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Broken:
    """The last event there is: close both channels."""

    error: WireError | OutOfTurn


Event = SendIn | OpenIn | SwitchIn | OpenOut | SendOut | SwitchOut | Opened | Deliver | Broken


class State(Enum):
    """How far it has come."""

    A3 = "waits for CONN/A3"
    C2 = "waits for CONN/C2"
    OPENED = "opened"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Cookies:
    """What names the connection and its parts; nobody else may guess them."""

    connection: UUID
    out_channel: UUID
    in_channel: UUID
    group: UUID

    @classmethod
    def new(cls, draw: Callable[[], UUID]) -> "Cookies":
        """Four of them, drawn at random."""
        return cls(draw(), draw(), draw(), draw())


class VirtualConnection:
    """One of them. ``now`` is everywhere in seconds of the caller's clock."""

    def __init__(
        self,
        cookies: Cookies,
        now: float,
        *,
        draw: Callable[[], UUID],
        window: int = USUAL_WINDOW,
        lifetime: int = USUAL_LIFETIME,
        keepalive: int = USUAL_KEEPALIVE,
    ) -> None:
        """``draw`` makes a random UUID. ``window``, ``lifetime``: octets; ``lifetime`` is that of an IN channel, as the
        Content-Length of its request says. ``keepalive``: how often the proxy is to send pings, in milliseconds."""
        self.state = State.A3
        self.cookies = cookies
        self.first_out = ConnA1(VERSION, cookies.connection, cookies.out_channel, window).encode()
        self.first_in = ConnB1(
            VERSION, cookies.connection, cookies.in_channel, lifetime, keepalive, cookies.group
        ).encode()
        self._draw = draw
        self._lifetime = lifetime
        self._receive = ReceiveWindow(window, cookies.out_channel)
        self._send: SendWindow | None = None
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._unread = bytearray()
        self._in_octets = len(self.first_in)
        self._timeout = 0.0  # seconds after which the proxy would give up a silent IN channel
        self._last_in = now
        self._next_in: UUID | None = None  # the successors that are being opened
        self._next_out: UUID | None = None

    @property
    def backlog(self) -> int:
        """Octets that wait for the proxy to have room."""
        return self._queued

    def from_out(self, data: bytes, now: float) -> list[Event]:
        """Octets of the OUT channel, cut anywhere."""
        events: list[Event] = []
        if self.state is State.BROKEN:
            return events
        self._unread += data
        try:
            while (raw := take_raw(self._unread)) is not None:
                self._on(raw, now, events)
        except (WireError, OutOfTurn) as error:
            self._break(error, events)
        return events

    def send(self, pdu: bytes, now: float) -> list[Event]:
        """Send a whole PDU of RPC, as soon as the proxy has room for it."""
        events: list[Event] = []
        if self.state is State.BROKEN:
            return events
        self._queue.append(pdu)
        self._queued += len(pdu)
        try:
            if self._queued > MOST_BACKLOG:
                raise WireError("flow", f"the proxy takes nothing, and {self._queued} octets wait")
            self._flush(now, events)
        except WireError as error:
            self._break(error, events)
        return events

    def tick(self, now: float) -> list[Event]:
        """Time has gone by: say that we are still there, well before the proxy loses its patience."""
        events: list[Event] = []
        if self.state is State.OPENED and now - self._last_in >= self._timeout / 2:
            self._send_in(Ping().encode(), now, events)
        return events

    # --- what comes ----------------------------------------------------------------------------------------------

    def _on(self, raw: bytes, now: float, events: list[Event]) -> None:
        if is_rts(raw):
            self._on_rts(decode_rts(raw), now, events)
            return
        if self.state is not State.OPENED:
            raise OutOfTurn("RPC before the virtual connection was open")
        self._receive.arrived(len(raw))
        events.append(Deliver(raw))
        if (ack := self._receive.passed_on(len(raw))) is not None:
            self._send_in(FlowControlAckTo(Party.OUT_PROXY, ack).encode(), now, events)

    def _on_rts(self, rts: RtsPdu, now: float, events: list[Event]) -> None:
        if self.state is State.A3:
            ConnA3.read(rts)
            self.state = State.C2
        elif Ping.matches(rts):
            return
        elif self.state is State.C2:
            opened = ConnC.read(rts)
            self._send = SendWindow(opened.window, self.cookies.in_channel)
            self._timeout = opened.timeout / 1000
            self.state = State.OPENED
            events.append(Opened())
            self._flush(now, events)
        elif FlowControlAckTo.matches(rts):
            self._acknowledged(FlowControlAckTo.read(rts), now, events)
        elif InR2A4.matches(rts):
            self._switch_in(now, events)
        elif OutR2A2.matches(rts):
            self._open_out(events)
        elif OutR2A6.matches(rts):
            self._confirm_out(now, events)
        elif OutR2B3.matches(rts):
            self._switch_out(events)
        else:
            raise WireError(
                "rts", f"flags {rts.flags:#x} and commands {[int(kind) for kind in rts.kinds]} for a client"
            )

    def _acknowledged(self, message: FlowControlAckTo, now: float, events: list[Event]) -> None:
        if message.to != Party.CLIENT or self._send is None:
            raise WireError("rts", "an acknowledgement for somebody else")
        if message.ack.channel == self._send.channel:  # else it is about a channel that was replaced meanwhile
            self._send.acknowledged(message.ack)
            self._flush(now, events)

    # --- what goes -----------------------------------------------------------------------------------------------

    def _flush(self, now: float, events: list[Event]) -> None:
        window = self._send
        while self._queue and window is not None and window.has_room(len(self._queue[0])):
            pdu = self._queue.popleft()
            self._queued -= len(pdu)
            window.sent(len(pdu))
            self._send_in(pdu, now, events)

    def _send_in(self, data: bytes, now: float, events: list[Event]) -> None:
        self._last_in = now
        self._in_octets += len(data)
        if self._in_octets > self._lifetime:
            raise WireError("flow", "the IN channel is used up, and has no successor")
        events.append(SendIn(data))
        if self._next_in is None and self._in_octets > self._lifetime - RESERVE:
            self._next_in = self._draw()
            first = InR1A1(VERSION, self.cookies.connection, self.cookies.in_channel, self._next_in)
            events.append(OpenIn(first.encode()))

    # --- successors ----------------------------------------------------------------------------------------------

    def _switch_in(self, now: float, events: list[Event]) -> None:
        if self._next_in is None or self._send is None:
            raise OutOfTurn("an IN channel is to be switched, and none is replaced")
        successor, self._next_in = self._next_in, None
        events += (SendIn(ChannelCookie(successor).encode()), SwitchIn())
        self.cookies = replace(self.cookies, in_channel=successor)
        self._in_octets = len(InR1A1(VERSION, successor, successor, successor).encode())
        self._last_in = now
        self._send = SendWindow(self._send.size, successor)
        self._flush(now, events)

    def _open_out(self, events: list[Event]) -> None:
        if self._next_out is not None:
            raise OutOfTurn("the OUT channel is being replaced already")
        self._next_out = self._draw()
        cookies = self.cookies
        first = OutR2A3(VERSION, cookies.connection, cookies.out_channel, self._next_out, self._receive.size)
        events.append(OpenOut(first.encode()))

    def _confirm_out(self, now: float, events: list[Event]) -> None:
        if self._next_out is None:
            raise OutOfTurn("an OUT channel is confirmed, and none is replaced")
        self._send_in(OutR2A7(Party.SERVER, self._next_out, VERSION).encode(), now, events)
        events.append(SendOut(OutR2C1().encode()))

    def _switch_out(self, events: list[Event]) -> None:
        if self._next_out is None:
            raise OutOfTurn("the OUT channel ends, and none is replaced")
        successor, self._next_out = self._next_out, None
        if self._unread:
            raise WireError("rts", "octets after the end of an OUT channel")
        self.cookies = replace(self.cookies, out_channel=successor)
        self._receive = ReceiveWindow(self._receive.size, successor)
        events.append(SwitchOut())

    def _break(self, error: WireError | OutOfTurn, events: list[Event]) -> None:
        self.state = State.BROKEN
        self._queue.clear()
        self._queued = 0
        self._unread.clear()
        events.append(Broken(error))
