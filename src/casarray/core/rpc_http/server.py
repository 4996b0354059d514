"""The RPC server's end of a virtual connection, and the proxies' end towards it: `ncacn_http` on 6001, 6002 and 6004.

Both proxies connect to the server over TCP, the inbound and the outbound one each on a connection of its own. The
server greets, and joins the two halves by the cookie of the virtual connection. [MS-RPCH] 3.2.4, 3.2.5

`ServerEnd` is the server's side of one virtual connection, `ProxyEnd` that of the proxies, as which our own one comes
when it is in front of servers that want it so. Methods return what is to be done and raise nothing. Replaced are
channels by proxies that have both the old and the new one; those that had not would have to be told from strangers.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final
from uuid import UUID

from casarray.core.errors import OutOfTurn, WireError
from casarray.core.forwarding.table import Address
from casarray.core.rpc_http.flow import ReceiveWindow, SendWindow
from casarray.core.rpc_http.messages import (
    ChannelCookie,
    ConnA2,
    ConnB2,
    ConnB3,
    ConnC,
    FlowControlAck,
    FlowControlAckTo,
    InR2A4,
    KeepAlive,
    OutR2A2,
    OutR2A6,
    OutR2A7,
    OutR2A8,
    OutR2B1,
    Ping,
    PingTrafficSent,
)
from casarray.core.rpc_http.rts import VERSION, Ack, RtsPdu, decode_rts, is_rts

#: What the server says before anything is said to it. [MS-RPCH] 2.1.1.1
BANNER: Final = b"ncacn_http/1.0"
WINDOW: Final = 64 * 1024
#: So much of an OUT channel is left when its successor is asked for.
RESERVE: Final = 32 * 1024
#: Octets that wait for the proxy to have room.
MOST_QUEUED: Final = 8 * 1024 * 1024
PARTNER_SECONDS: Final = 30.0


class Side(Enum):
    """Which of the two connections."""

    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class Send:
    """Write this on that connection."""

    side: Side
    data: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """The virtual connection stands."""

    client: Address | None = None  # as the inbound proxy says
    group: UUID | None = None


@dataclass(frozen=True, slots=True)
class Deliver:
    """A PDU of RPC came."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """End both connections. ``why``: empty when nobody is to blame."""

    why: str = ""


Command = Send | Opened | Deliver | Close


class _End:
    """What both ends have."""

    def __init__(self) -> None:
        self.over = False
        self._receive: ReceiveWindow | None = None
        self._send: SendWindow | None = None
        self._queue: deque[bytes] = deque()
        self._queued = 0

    def _guarded(self, work: Callable[[list[Command]], None]) -> list[Command]:
        commands: list[Command] = []
        if self.over:
            return commands
        try:
            work(commands)
        except (WireError, OutOfTurn) as wrong:
            commands += self._close(str(wrong))
        return commands

    def _close(self, why: str = "") -> list[Command]:
        if self.over:
            return []
        self.over = True
        self._queue.clear()
        return [Close(why)]

    def lost(self) -> list[Command]:
        """One of the two connections has ended."""
        return self._close()

    def _arrived(self, pdu: bytes, side: Side, commands: list[Command]) -> None:
        if self._receive is None or self._send is None:
            raise OutOfTurn("RPC before the virtual connection was open")
        self._receive.arrived(len(pdu))
        commands.append(Deliver(pdu))
        if (ack := self._receive.passed_on(len(pdu))) is not None:
            commands.append(Send(side, FlowControlAck(ack).encode()))

    def _enqueue(self, pdu: bytes) -> None:
        self._queue.append(pdu)
        self._queued += len(pdu)
        if self._queued > MOST_QUEUED:
            raise WireError("flow", f"{self._queued} octets wait for a proxy that takes nothing")

    def _flush(self, side: Side, commands: list[Command]) -> int:
        """Send what there is room for; how many octets that was."""
        octets = 0
        while self._queue and self._send is not None and self._send.has_room(len(self._queue[0])):
            pdu = self._queue.popleft()
            self._queued -= len(pdu)
            self._send.sent(len(pdu))
            commands.append(Send(side, pdu))
            octets += len(pdu)
        return octets

    def _acknowledged(self, ack: Ack) -> None:
        if self._send is not None and ack.channel == self._send.channel:  # else about a channel that was replaced
            self._send.acknowledged(ack)


class ServerEnd(_End):
    """One virtual connection at its server."""

    def __init__(self, cookie: UUID, now: float) -> None:
        super().__init__()
        self.cookie = cookie
        self._began = now
        self._a2: ConnA2 | None = None
        self._b2: ConnB2 | None = None
        self._out_octets = 0
        self._successor: UUID | None = None  # of the OUT channel, once the proxy has named it
        self._recycling = False

    def begin(self, words: ConnA2 | ConnB2) -> list[Command]:
        """A half begins with these words. One that is there already ends everything: cookies are not used twice."""
        if isinstance(words, ConnA2):
            if self._a2 is not None:
                return self._close("a second OUT channel with the same cookie")
            self._a2 = words
        else:
            if self._b2 is not None:
                return self._close("a second IN channel with the same cookie")
            self._b2 = words
        if self._a2 is None or self._b2 is None:
            return []
        self._send = SendWindow(self._a2.window, self._a2.channel)
        self._receive = ReceiveWindow(WINDOW, self._b2.channel)
        return [
            Send(Side.IN, ConnB3(WINDOW, VERSION).encode()),
            Send(Side.OUT, ConnC(VERSION, self._b2.window, self._b2.timeout).encode()),
            Opened(self._b2.client, self._b2.group),
        ]

    def receive(self, side: Side, pdu: bytes) -> list[Command]:
        """A whole PDU on one of the connections, after its first words."""
        return self._guarded(lambda commands: self._on(side, pdu, commands))

    def send(self, pdu: bytes) -> list[Command]:
        """A PDU of RPC for the client."""

        def work(commands: list[Command]) -> None:
            self._enqueue(pdu)
            self._flush_out(commands)

        return self._guarded(work)

    def tick(self, now: float) -> list[Command]:
        """Time has gone by: one half alone is given up."""
        alone = (self._a2 is None or self._b2 is None) and now - self._began > PARTNER_SECONDS
        return self._close("one half of a virtual connection came alone") if alone else []

    def _on(self, side: Side, pdu: bytes, commands: list[Command]) -> None:
        if not is_rts(pdu):
            if side is Side.OUT:
                raise OutOfTurn("RPC from an outbound proxy")
            self._arrived(pdu, side, commands)
            return
        rts = decode_rts(pdu)
        if Ping.matches(rts):
            return
        if FlowControlAck.matches(rts):
            if side is Side.IN:
                raise WireError("rts", "an inbound proxy that acknowledges what it was not sent")
            self._acknowledged(FlowControlAck.read(rts).ack)
            self._flush_out(commands)
        elif side is Side.IN:
            self._on_in(rts, pdu, commands)
        else:
            self._on_out(rts, commands)

    def _on_in(self, rts: RtsPdu, pdu: bytes, commands: list[Command]) -> None:
        if FlowControlAckTo.matches(rts) or KeepAlive.matches(rts):
            commands.append(Send(Side.OUT, pdu))  # for the outbound proxy, or for the client beyond it
        elif OutR2A7.matches(rts) or OutR2A8.matches(rts):
            named = (OutR2A7 if OutR2A7.matches(rts) else OutR2A8).read(rts).successor
            self._switch_out(named, commands)
        elif ChannelCookie.matches(rts) and self._receive is not None:
            successor = ChannelCookie.read(rts).successor
            commands.append(Send(Side.OUT, InR2A4().encode()))
            # The proxy goes on with the same connection; from here on it means the successor.
            self._receive = ReceiveWindow(WINDOW, successor)
        else:
            raise WireError("rts", f"flags {rts.flags:#x} and {len(rts.commands)} commands from an inbound proxy")

    def _on_out(self, rts: RtsPdu, commands: list[Command]) -> None:
        if PingTrafficSent.matches(rts):
            self._count(PingTrafficSent.read(rts).octets, commands)
        elif ChannelCookie.matches(rts) and self._recycling:
            self._successor = ChannelCookie.read(rts).successor
            commands.append(Send(Side.OUT, OutR2A6().encode()))
        else:
            raise WireError("rts", f"flags {rts.flags:#x} and {len(rts.commands)} commands from an outbound proxy")

    def _flush_out(self, commands: list[Command]) -> None:
        self._count(self._flush(Side.OUT, commands), commands)

    def _count(self, octets: int, commands: list[Command]) -> None:
        self._out_octets += octets
        if self._a2 is not None and not self._recycling and self._out_octets > self._a2.lifetime - RESERVE:
            self._recycling = True
            commands.append(Send(Side.OUT, OutR2A2().encode()))

    def _switch_out(self, named: UUID, commands: list[Command]) -> None:
        if self._successor is None or named != self._successor or self._send is None:
            raise OutOfTurn("the OUT channel is to be switched to one that is not there")
        commands.append(Send(Side.OUT, OutR2B1().encode()))
        self._send = SendWindow(self._send.size, self._successor)
        self._successor, self._recycling, self._out_octets = None, False, 0
        self._flush_out(commands)


@dataclass(frozen=True, slots=True)
class Introduction:
    """What the proxies tell the server of a client."""

    connection: UUID
    out_channel: UUID
    in_channel: UUID
    group: UUID
    client: Address
    window: int = WINDOW
    timeout: int = 900_000  # milliseconds
    lifetime: int = 2 * 1024**3  # octets


class ProxyEnd(_End):
    """Both proxies' side of one virtual connection: two connections to a server that speaks `ncacn_http`."""

    def __init__(self, about: Introduction, draw: Callable[[], UUID]) -> None:
        """``draw`` makes a random UUID."""
        super().__init__()
        self.first: dict[Side, bytes] = {
            Side.OUT: ConnA2(VERSION, about.connection, about.out_channel, about.lifetime, about.window).encode(),
            Side.IN: ConnB2(
                VERSION, about.connection, about.in_channel, about.window, about.timeout, about.group, about.client
            ).encode(),
        }
        self._about = about
        self._draw = draw
        self._successor: UUID | None = None
        self._opened = False

    def receive(self, side: Side, pdu: bytes) -> list[Command]:
        """A whole PDU of the server's, after its banner."""
        return self._guarded(lambda commands: self._on(side, pdu, commands))

    def send(self, pdu: bytes) -> list[Command]:
        """A PDU of RPC for the server."""

        def work(commands: list[Command]) -> None:
            self._enqueue(pdu)
            self._flush(Side.IN, commands)

        return self._guarded(work)

    def _on(self, side: Side, pdu: bytes, commands: list[Command]) -> None:
        if not is_rts(pdu):
            if side is Side.IN:
                raise OutOfTurn("RPC on the connection of an inbound proxy")
            self._arrived(pdu, side, commands)
            return
        rts = decode_rts(pdu)
        if side is Side.IN and ConnB3.matches(rts) and self._send is None:
            self._send = SendWindow(ConnB3.read(rts).window, self._about.in_channel)
            self._open(commands)
        elif side is Side.OUT and ConnC.matches(rts) and self._receive is None:
            self._receive = ReceiveWindow(self._about.window, self._about.out_channel)
            self._open(commands)
        elif side is Side.IN and FlowControlAck.matches(rts):
            self._acknowledged(FlowControlAck.read(rts).ack)
            self._flush(Side.IN, commands)
        elif side is Side.OUT:
            self._replaced(rts, commands)
        elif not Ping.matches(rts):
            raise WireError("rts", f"flags {rts.flags:#x} and {len(rts.commands)} commands from a server")

    def _open(self, commands: list[Command]) -> None:
        if self._send is not None and self._receive is not None and not self._opened:
            self._opened = True
            commands.append(Opened())
            self._flush(Side.IN, commands)

    def _replaced(self, rts: RtsPdu, commands: list[Command]) -> None:
        """The server thinks the OUT channel used up; there is none between us but the connection, which goes on."""
        if OutR2A2.matches(rts):
            self._successor = self._draw()
            commands.append(Send(Side.OUT, ChannelCookie(self._successor).encode()))
        elif OutR2A6.matches(rts) and self._successor is not None:
            commands.append(Send(Side.IN, OutR2A8(2, self._successor).encode()))
        elif OutR2B1.matches(rts) and self._successor is not None:
            self._receive = ReceiveWindow(self._about.window, self._successor)
            self._successor = None
        elif not Ping.matches(rts):
            raise WireError("rts", f"flags {rts.flags:#x} and {len(rts.commands)} commands from a server")
