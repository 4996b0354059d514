"""One relayed TCP connection: bytes through, both ways, as they are; half-close, resets and slowness included.

Written on the loop's readiness callbacks and not on its transports: every chunk goes from socket to one shared buffer
to socket in a single step, so nothing is queued, nothing is copied twice, and an idle connection holds no buffer. What
the other side does not take at once (at most one chunk) waits here, and meanwhile nothing more is read: a slow reader
slows down its writer, as it would without us.

Ends travel as they came: an end of the stream as an end of the stream, in its direction only; a reset as a reset.
"""

import asyncio
import contextlib
import errno
import fcntl
import socket
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from casarray.core.forwarding.table import Address

CHUNK = 128 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # linger for no time: close() sends a reset


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """How long a relay may take over things. Seconds."""

    connect: float = 3.0
    idle: float = 4 * 3600.0  # no byte in either direction; longer than the services behind have patience
    half_closed: float = 120.0  # no byte, when one direction has ended
    keepalive: int = 60  # probe a silent peer after so long, every so often; four unanswered end the connection


class End(StrEnum):
    """Why a relay ended."""

    CLOSED = "closed"  # both directions were closed
    RESET = "reset"  # one of the two peers broke it off
    UNREACHABLE = "unreachable"  # the member could not be connected to, or broke off before any byte was exchanged
    IDLE = "idle"
    STALLED = "stalled"  # half closed for too long
    ENDED = "ended"  # by us: the member is out, or the forwarder stops


class _Direction:
    """What flows one way."""

    __slots__ = ("carried", "discards", "ended", "relay", "rest", "sink", "source")

    def __init__(self, relay: "Relay", source: socket.socket, sink: socket.socket) -> None:
        self.relay = relay
        self.source = source
        self.sink = sink
        self.rest = b""  # read, and not taken by the sink yet
        self.carried = 0
        self.ended = False
        self.discards = False  # the sink takes nothing any more

    def readable(self) -> None:
        """The source has something, or its end."""
        relay = self.relay
        try:
            count = self.source.recv_into(relay.buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            relay.broken_by(self.source)
            return
        relay.active = True
        if not count:
            self._end()
            return
        if self.discards:
            return
        self.carried += count
        chunk = relay.buffer[:count]
        sent = self._send(chunk)
        if sent < count and not self.discards:
            self.rest = bytes(chunk[sent:])
            relay.loop.remove_reader(self.source)
            relay.loop.add_writer(self.sink, self.writable)

    def writable(self) -> None:
        """The sink takes some more."""
        relay = self.relay
        sent = self._send(self.rest)
        if relay.over:
            return
        relay.active = True
        self.rest = b"" if self.discards else self.rest[sent:]
        if not self.rest:
            relay.loop.remove_writer(self.sink)
            relay.loop.add_reader(self.source, self.readable)

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self.sink.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            # The sink is gone, yet what it said last may still be on its way the other way round: let that arrive.
            self.discards = True
            if self.relay.opposite(self).ended:
                self.relay.end(End.RESET, reset=True)
            return 0

    def _end(self) -> None:
        """The source has said all it will say."""
        relay = self.relay
        self.ended = True
        relay.loop.remove_reader(self.source)
        back = relay.opposite(self)
        if back.ended:
            relay.end(End.CLOSED, reset=False)
        elif back.discards and not _unsent(self.sink):
            relay.end(End.RESET, reset=True)
        else:
            try:
                self.sink.shutdown(socket.SHUT_WR)
            except OSError:
                relay.broken_by(self.sink)


class Relay:
    """A client's connection, already accepted, and its member's, to be made.

    ``ended`` is called once, with why; never from within the constructor or `start`.
    """

    __slots__ = (
        "_connecting",
        "_down",
        "_ended",
        "_limits",
        "_patience",
        "_since",
        "_up",
        "active",
        "buffer",
        "client",
        "loop",
        "member",
        "over",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        client: socket.socket,
        buffer: memoryview,
        limits: RelayLimits,
        ended: Callable[["Relay", End], None],
    ) -> None:
        """``buffer`` is shared by all relays of a loop: nothing stays in it."""
        self.loop = loop
        self.client = client
        self.buffer = buffer
        self.member: socket.socket | None = None
        self.active = True
        self._limits = limits
        self._ended = ended
        self.over = False
        self._connecting = False
        self._patience: asyncio.TimerHandle | None = None
        self._since = loop.time()
        self._up: _Direction | None = None
        self._down: _Direction | None = None

    @property
    def carried(self) -> int:
        """Bytes carried so far, both directions together."""
        return (self._up.carried if self._up else 0) + (self._down.carried if self._down else 0)

    @property
    def held(self) -> int:
        """Bytes that were read and that the other side has not taken yet."""
        return (len(self._up.rest) if self._up else 0) + (len(self._down.rest) if self._down else 0)

    def start(self, member: Address, port: int, source: Address | None = None) -> None:
        """Connect to the member, from this address of ours if one is given."""
        self._patience = self.loop.call_later(self._limits.connect, self._unreachable)
        try:
            family = socket.AF_INET if member.version == 4 else socket.AF_INET6
            self.member = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            prepare(self.member, self._limits)
            # Else a port that this connection happens to leave from could not be listened on meanwhile.
            self.member.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if source is not None:
                # The port is chosen at connect: one source address then has 64k ports for each member, not in all.
                self.member.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
                self.member.bind((str(source), 0))
            code = self.member.connect_ex((str(member), port))
        except OSError as refusal:
            code = refusal.errno or errno.EIO
        if code == errno.EINPROGRESS and self.member is not None:
            self._connecting = True
            self.loop.add_writer(self.member, self._connected)
        elif code == 0:
            self.loop.call_soon(self._connected)
        else:
            self.loop.call_soon(self._unreachable)

    def _connected(self) -> None:
        if self.over or self.member is None:
            return
        if self._connecting:
            self._connecting = False
            self.loop.remove_writer(self.member)
        if self.member.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._unreachable()
            return
        if self._patience is not None:
            self._patience.cancel()
        self._up = _Direction(self, self.client, self.member)
        self._down = _Direction(self, self.member, self.client)
        self.loop.add_reader(self.client, self._up.readable)
        self.loop.add_reader(self.member, self._down.readable)

    def _unreachable(self) -> None:
        self.end(End.UNREACHABLE, reset=True)

    def opposite(self, direction: _Direction) -> _Direction:
        """The other direction of the two."""
        other = self._down if direction is self._up else self._up
        assert other is not None  # both are made together
        return other

    def broken_by(self, side: socket.socket) -> None:
        """One side has reset its connection: so does the other one now."""
        mute = not self.carried and self._up is not None and not self._up.ended
        self.end(End.UNREACHABLE if side is self.member and mute else End.RESET, reset=True)

    def check(self, now: float) -> None:
        """Called now and then: ends the relay when it has been silent for too long."""
        if self.active:
            self.active = False
            self._since = now
        elif self._up is None or self._down is None:
            return
        elif (self._up.ended or self._down.ended) and now - self._since > self._limits.half_closed:
            self.end(End.STALLED, reset=True)
        elif now - self._since > self._limits.idle:
            self.end(End.IDLE, reset=True)

    def end(self, why: End, *, reset: bool) -> None:
        """End it on both sides, by a reset or in peace. A second time does nothing."""
        if self.over:
            return
        self.over = True
        if self._patience is not None:
            self._patience.cancel()
        for side in (self.client, self.member):
            if side is not None:
                self.loop.remove_reader(side)
                self.loop.remove_writer(side)
                close(side, reset=reset)
        self._ended(self, why)


_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; Python has no name for it


def prepare(side: socket.socket, limits: RelayLimits) -> None:
    """No delay, and word from the kernel when a silent peer is gone. A listener hands this on to what it accepts."""
    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    side.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, limits.keepalive)
    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, limits.keepalive)
    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def close(side: socket.socket, *, reset: bool) -> None:
    """Close, at once and with a reset if asked to."""
    if reset:
        with contextlib.suppress(OSError):
            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    side.close()


def _unsent(side: socket.socket) -> int:
    """Bytes that the peer has not acknowledged yet."""
    try:
        return int.from_bytes(fcntl.ioctl(side, termios.TIOCOUTQ, bytes(4)), "little")
    except OSError:
        return 0
