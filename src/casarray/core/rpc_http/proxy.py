"""A virtual connection at its proxy, which is inbound proxy, outbound proxy and the RPC server's end in one.

Towards the client it is what [MS-RPCH] 3.2.3 to 3.2.5 ask of the three; towards the server it is one plain connection
of RPC over TCP. So a server that knows nothing of HTTP can be reached over it, and each client has both of its channels
on one server by construction.

Channels are known by numbers that the caller gives them. Every method returns what is to be done, in that order; none
raises. What is remembered is bounded: by the windows towards the client, by `LIMIT` towards the server, by the number
of RTS PDUs that a client may send without any RPC between them.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
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
    KeepAlive,
    OutR2A2,
    OutR2A3,
    OutR2A6,
    OutR2A7,
    OutR2B3,
    OutR2C1,
    Ping,
)
from casarray.core.rpc_http.rts import VERSION, Ack, Party, RtsPdu, decode_rts, is_rts

#: Octets from the server that wait for the client; with more of them the server is not read.
LIMIT: Final = 256 * 1024
#: So much of an OUT channel is left when its successor is asked for.
RESERVE: Final = 32 * 1024
#: RTS PDUs that a client may send in a row, and how many more each second and each PDU of RPC allow it.
MOST_RTS: Final = 500
RTS_EACH_SECOND: Final = 10.0
RTS_EACH_PDU: Final = 2
#: Milliseconds. Less than this between pings would be a nuisance. [MS-RPCH] 2.2.3.5.6
LEAST_KEEPALIVE: Final = 60_000
USUAL_KEEPALIVE: Final = 300_000


@dataclass(frozen=True, slots=True)
class Settings:
    """Of a proxy."""

    window: int = 64 * 1024  # octets that a client may have on its way to us
    timeout: int = 900_000  # milliseconds after which a silent IN channel is given up
    lifetime: int = USUAL_LIFETIME  # octets of one OUT channel
    partner_seconds: float = 30.0  # that one half waits for the other, and an old channel for the new one
    handover_seconds: float = 60.0  # that the replacement of a channel may take


@dataclass(frozen=True, slots=True)
class Connect:
    """Both halves are there: connect to the server, then say `connected` or `unreachable`."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Answer the request of this OUT channel: what follows is its body."""

    channel: int


@dataclass(frozen=True, slots=True)
class SendOut:
    """Write this on an OUT channel."""

    channel: int
    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """This channel has done its part: close it when all is written."""

    channel: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """This channel is not taken; the others go on."""

    channel: int
    why: str


@dataclass(frozen=True, slots=True)
class ToServer:
    """Send this to the server."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """End all of it: channels, the server's connection. ``kind``: empty when nobody is to blame."""

    kind: str = ""
    detail: str = ""


Command = Connect | Begin | SendOut | End | Refuse | ToServer | Close


Work = Callable[[list[Command]], None]


@dataclass(slots=True)
class _Out:
    """An OUT channel."""

    number: int
    cookie: UUID
    window: SendWindow
    awaits_end: bool = False  # of a successor: its request has not ended yet
    begun: bool = False  # its answer has
    octets: int = 0  # of that answer's body
    waiting: bytes = b""


@dataclass(slots=True)
class _In:
    """An IN channel."""

    number: int
    cookie: UUID
    window: ReceiveWindow
    _kept: list[bytes] = field(default_factory=list)
    _octets: int = 0

    def keep(self, pdu: bytes) -> None:
        """Something came on a successor before it was switched to."""
        self._octets += len(pdu)
        if self._octets > self.window.size:
            raise WireError("flow", "more on the successor of an IN channel than there is room for")
        self._kept.append(pdu)

    def kept(self) -> list[bytes]:
        """That, to be worked on now."""
        kept, self._kept = self._kept, []
        return kept


class State(Enum):
    """How far it has come."""

    HALF = "one half waits for the other"
    CONNECTING = "the server is being connected to"
    OPENED = "opened"
    OVER = "over"


class ProxiedConnection:
    """One of them. ``now`` is everywhere in seconds of the caller's clock."""

    def __init__(self, cookie: UUID, settings: Settings, now: float) -> None:
        self.cookie = cookie
        self.state = State.HALF
        self.group: UUID | None = None  # what the client calls the association group: the same for all its connections
        self._settings = settings
        self._began = now
        self._heard = self._said = now
        self._keepalive = USUAL_KEEPALIVE / 1000
        self._in: _In | None = None
        self._out: _Out | None = None
        self._next_in: _In | None = None
        self._next_out: _Out | None = None
        self._out_asked: float | None = None  # since when the client has been asked for another OUT channel
        self._in_asked: float | None = None
        self._queue: deque[bytes] = deque()  # of the server's PDUs
        self._queued = 0
        self._server_full = False
        self._server_gone: float | None = None  # since when
        self._unacknowledged = 0  # octets that were passed on while the server took nothing
        self._credit = float(MOST_RTS)
        self._credit_at = now

    @property
    def wants_server(self) -> bool:
        """Whether the server is to be read."""
        return self.state is State.OPENED and self._queued < LIMIT and self._server_gone is None

    # --- channels come and go ------------------------------------------------------------------------------------

    def out_channel(self, channel: int, words: ConnA1 | OutR2A3, now: float) -> list[Command]:
        """An OUT channel begins, with these words."""
        self._heard = now
        if isinstance(words, ConnA1):
            if self._out is not None or self.state is not State.HALF:
                return [Refuse(channel, "a second OUT channel with the same cookie")]
            self._out = _Out(channel, words.channel, SendWindow(words.window, words.channel))
            return self._meet()
        if self._out is None or self._out_asked is None or self._next_out is not None:
            return [Refuse(channel, "an OUT channel that follows none")]
        if words.predecessor != self._out.cookie:
            return [Refuse(channel, "an OUT channel with the cookie of another one")]
        self._next_out = _Out(channel, words.successor, SendWindow(words.window, words.successor), awaits_end=True)
        return self._guarded(lambda commands: self._say(OutR2A6().encode(), now, commands))

    def in_channel(self, channel: int, words: ConnB1 | InR1A1, now: float) -> list[Command]:
        """An IN channel begins, with these words."""
        self._heard = now
        if isinstance(words, ConnB1):
            if self._in is not None or self.state is not State.HALF:
                return [Refuse(channel, "a second IN channel with the same cookie")]
            self._in = _In(channel, words.channel, ReceiveWindow(self._settings.window, words.channel))
            self.group = words.group
            self._keep_alive(words.keepalive)
            return self._meet()
        if self._in is None or self.state is not State.OPENED or self._next_in is not None:
            return [Refuse(channel, "an IN channel that follows none")]
        if words.predecessor != self._in.cookie:
            return [Refuse(channel, "an IN channel with the cookie of another one")]
        self._next_in = _In(channel, words.successor, ReceiveWindow(self._settings.window, words.successor))
        self._in_asked = now
        return self._guarded(lambda commands: self._say(InR2A4().encode(), now, commands))

    def _meet(self) -> list[Command]:
        if self._in is None or self._out is None:
            return []
        self.state = State.CONNECTING
        return [Connect()]

    def lost(self, channel: int) -> list[Command]:
        """A channel has ended. One that was replaced is no loss."""
        mine = (self._in, self._out, self._next_in, self._next_out)
        if self.state is State.OVER or channel not in [half.number for half in mine if half is not None]:
            return []
        return self._close()

    # --- the server ----------------------------------------------------------------------------------------------

    def connected(self, now: float) -> list[Command]:
        """The server is there."""
        if self.state is not State.CONNECTING or self._out is None:
            return []
        self.state = State.OPENED
        commands: list[Command] = [Begin(self._out.number)]
        self._out.begun = True
        self._say(ConnA3(self._settings.timeout).encode(), now, commands)
        self._say(ConnC(VERSION, self._settings.window, self._settings.timeout).encode(), now, commands)
        return commands

    def from_server(self, pdu: bytes, now: float) -> list[Command]:
        """A whole PDU of the server's."""
        if self.state is not State.OPENED:
            return []
        if is_rts(pdu):
            return self._close("server", "the server speaks RPC over HTTP on its TCP port")
        self._queue.append(pdu)
        self._queued += len(pdu)
        self._credit = min(MOST_RTS, self._credit + RTS_EACH_PDU)
        return self._guarded(lambda commands: self._flush(now, commands))

    def server_full(self, full: bool, now: float) -> list[Command]:
        """Whether what is sent to the server waits here: the client then gets no more room."""
        self._server_full = full
        if full or self.state is not State.OPENED:
            return []
        octets, self._unacknowledged = self._unacknowledged, 0
        return self._guarded(lambda commands: self._passed_on(octets, now, commands))

    def server_lost(self, now: float) -> list[Command]:
        """The server has ended its connection. What it has said before still goes to the client."""
        self._server_gone = now
        return [] if self.state is State.OPENED and self._queue else self._close()

    # --- the client ----------------------------------------------------------------------------------------------

    def from_in(self, channel: int, pdu: bytes, now: float) -> list[Command]:
        """A whole PDU on an IN channel, after its first words."""
        if self.state is State.OVER:
            return []
        self._heard = now
        return self._guarded(lambda commands: self._from_in(channel, pdu, now, commands))

    def from_out(self, channel: int, pdu: bytes, now: float) -> list[Command]:
        """A whole PDU of the client's on an OUT channel, after its first words."""
        successor = self._next_out or self._out
        if successor is None or channel != successor.number or not successor.awaits_end:
            return self._close("rts", "a client that goes on speaking on its OUT channel")

        def ended(commands: list[Command]) -> None:
            OutR2C1.read(decode_rts(pdu))
            successor.awaits_end = False
            if successor is self._out:
                self._begin_successor(now, commands)

        return self._guarded(ended)

    def _from_in(self, channel: int, pdu: bytes, now: float, commands: list[Command]) -> None:
        following = self._next_in
        if following is not None and channel == following.number:
            following.keep(pdu)
            return
        if self._in is None or channel != self._in.number:
            return  # what a predecessor still says
        if is_rts(pdu):
            self._spend(now)
            self._on_rts(decode_rts(pdu), now, commands)
            return
        if self.state is not State.OPENED:
            raise OutOfTurn("RPC before the virtual connection was open")
        self._credit = min(MOST_RTS, self._credit + RTS_EACH_PDU)
        self._in.window.arrived(len(pdu))
        commands.append(ToServer(pdu))
        if self._server_full:
            self._unacknowledged += len(pdu)
        else:
            self._passed_on(len(pdu), now, commands)

    def _on_rts(self, rts: RtsPdu, now: float, commands: list[Command]) -> None:
        if Ping.matches(rts):
            return
        if FlowControlAckTo.matches(rts):
            message = FlowControlAckTo.read(rts)
            if message.to != Party.OUT_PROXY:
                raise WireError("rts", "an acknowledgement for somebody else")
            self._acknowledged(message.ack, now, commands)
        elif KeepAlive.matches(rts):
            self._keep_alive(KeepAlive.read(rts).keepalive)
        elif OutR2A7.matches(rts):
            self._switch_out(OutR2A7.read(rts).successor, now, commands)
        elif ChannelCookie.matches(rts):
            self._switch_in(ChannelCookie.read(rts).successor, now, commands)
        else:
            raise WireError("rts", f"flags {rts.flags:#x}, commands {[int(kind) for kind in rts.kinds]} from a client")

    def _spend(self, now: float) -> None:
        self._credit = min(MOST_RTS, self._credit + (now - self._credit_at) * RTS_EACH_SECOND) - 1
        self._credit_at = now
        if self._credit < 0:
            raise WireError("flood", "nothing but RTS PDUs, and too many of them")

    def _keep_alive(self, milliseconds: int) -> None:
        self._keepalive = max(milliseconds or USUAL_KEEPALIVE, LEAST_KEEPALIVE) / 1000

    def _acknowledged(self, ack: Ack, now: float, commands: list[Command]) -> None:
        if self._out is not None and ack.channel == self._out.cookie:  # else it is about the predecessor
            self._out.window.acknowledged(ack)
            self._flush(now, commands)

    def _passed_on(self, octets: int, now: float, commands: list[Command]) -> None:
        if self._in is not None and (ack := self._in.window.passed_on(octets)) is not None:
            self._say(FlowControlAckTo(Party.CLIENT, ack).encode(), now, commands)

    # --- what goes to the client ---------------------------------------------------------------------------------

    def _flush(self, now: float, commands: list[Command]) -> None:
        while self._queue and (out := self._out) is not None and out.begun:
            size = len(self._queue[0])
            if not out.window.has_room(size) or out.octets + size > self._settings.lifetime - RESERVE // 2:
                return
            self._queued -= size
            out.window.sent(size)
            self._say(self._queue.popleft(), now, commands)
        if self._server_gone is not None and not self._queue:
            commands += self._close()

    def _say(self, data: bytes, now: float, commands: list[Command]) -> None:
        out = self._out
        if out is None:
            raise OutOfTurn("there is no OUT channel")
        if not out.begun:
            out.waiting += data  # RTS PDUs between the switch to a successor and the end of its request: a handful
            if len(out.waiting) > RESERVE:
                raise WireError("flow", "a successor of the OUT channel does not begin")
            return
        self._said = now
        out.octets += len(data)
        if out.octets > self._settings.lifetime:
            raise WireError("flow", "the OUT channel is used up, and has no successor")
        commands.append(SendOut(out.number, data))
        if self._out_asked is None and out.octets > self._settings.lifetime - RESERVE:
            self._out_asked = now
            self._say(OutR2A2().encode(), now, commands)

    # --- successors ----------------------------------------------------------------------------------------------

    def _switch_out(self, successor: UUID, now: float, commands: list[Command]) -> None:
        before, following = self._out, self._next_out
        if before is None or following is None or successor != following.cookie:
            raise OutOfTurn("the OUT channel is to be switched to one that is not there")
        self._say(OutR2B3().encode(), now, commands)
        commands.append(End(before.number))
        self._out, self._next_out, self._out_asked = following, None, None
        if not following.awaits_end:
            self._begin_successor(now, commands)

    def _begin_successor(self, now: float, commands: list[Command]) -> None:
        out = self._out
        if out is None:
            return
        commands.append(Begin(out.number))
        out.begun = True
        waiting, out.waiting = bytes(out.waiting), b""
        if waiting:
            self._say(waiting, now, commands)
        self._flush(now, commands)

    def _switch_in(self, successor: UUID, now: float, commands: list[Command]) -> None:
        before, following = self._in, self._next_in
        if before is None or following is None or successor != following.cookie:
            raise OutOfTurn("the IN channel is to be switched to one that is not there")
        commands.append(End(before.number))
        self._in, self._next_in, self._in_asked = following, None, None
        self._unacknowledged = 0
        for pdu in following.kept():
            self._from_in(following.number, pdu, now, commands)

    # --- time, and the end ---------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Command]:
        """Time has gone by."""
        settings = self._settings
        if self.state is State.HALF and now - self._began > settings.partner_seconds:
            return self._close("alone", "one half of a virtual connection came alone")
        if self.state is not State.OPENED:
            return []
        if now - self._heard > settings.timeout / 1000:
            return self._close("silent", "the client says nothing any more")
        for asked in (self._out_asked, self._in_asked, self._server_gone):
            if asked is not None and now - asked > settings.handover_seconds:
                return self._close(
                    "handover", "the client does not replace a channel, or does not take the last answers"
                )
        if now - self._said >= self._keepalive / 2:
            return self._guarded(lambda commands: self._say(Ping().encode(), now, commands))
        return []

    def _guarded(self, work: Work) -> list[Command]:
        commands: list[Command] = []
        try:
            work(commands)
        except WireError as wrong:
            commands += self._close(wrong.kind, str(wrong))
        except OutOfTurn as wrong:
            commands += self._close("out-of-turn", str(wrong))
        return commands

    def _close(self, kind: str = "", detail: str = "") -> list[Command]:
        if self.state is State.OVER:
            return []
        self.state = State.OVER
        self._queue.clear()
        self._queued = 0
        return [Close(kind, detail)]
