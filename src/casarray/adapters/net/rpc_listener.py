"""Serves RPC on real sockets: admits clients, gives each connection to whoever answers it, and keeps the time.

Nothing here reads a PDU. Clients are strangers: their number is bounded, in all and for each address; who says nothing,
is idle or does not read its answers is cut off.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from types import MappingProxyType
from typing import Protocol, cast

from casarray.adapters.net.mapper import BACKLOG, GRACE, affordable_relays, listening_socket
from casarray.core.dcerpc.association import Broken, Call, RpcServer, Send
from casarray.core.errors import CasarrayError, Denied, OutOfTurn, WireError
from casarray.core.forwarding.table import Address

#: A client that leaves so many octets of its answers unread is not listened to until it has read them.
WRITE_AHEAD = 64 * 1024


class Visitor(Protocol):
    """One connection's answerer."""

    rpc: RpcServer

    def answer(self, call: Call) -> bytes:
        """The octets that answer a call. `Denied` ends the connection."""

    def gone(self) -> None:
        """The connection has ended."""


Receive = Callable[[Address], Visitor]  # a client's address -> who answers it


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one listener. Seconds, connections."""

    silent: float = 10.0  # until the first octet
    idle: float = 600.0  # between two of them, or with answers that are not read
    per_client: int = 64
    total: int = 4096


class RpcListener:
    """Listens on addresses and ports. When `start` raises (`Conflict`, `Denied`, `Unavailable`), nothing listens."""

    def __init__(self, places: Iterable[tuple[Address, int, Receive]], limits: Limits = Limits()) -> None:
        """``places``: address, port (0: any) and who answers there."""
        self.limits = limits
        self._places = tuple(places)
        self._total = limits.total
        self._servers: list[asyncio.Server] = []
        self._connections: set[_Connection] = set()
        self._of_client: Counter[Address] = Counter()
        self._counts: Counter[str] = Counter()
        self._empty = asyncio.Event()
        self._empty.set()
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self) -> tuple[int, ...]:
        """Listen; the ports, in the order of the places."""
        # Each relay costs two descriptors, a connection here one.
        self._total = min(self.limits.total, 2 * affordable_relays())
        sockets = []
        try:
            for address, port, _ in self._places:
                sockets.append(listening_socket(address, port))
        except CasarrayError:
            for sock in sockets:
                sock.close()
            raise
        loop = asyncio.get_running_loop()
        for sock, (_, _, receive) in zip(sockets, self._places, strict=True):
            factory = partial(_Connection, self, receive)
            self._servers.append(await loop.create_server(factory, sock=sock, backlog=BACKLOG))
        self._sweep()
        return tuple(int(sock.getsockname()[1]) for sock in sockets)

    async def close(self) -> None:
        """Listen no more; let answers arrive, briefly; end everything. Twice is once."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for connection in list(self._connections):
            connection.end()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), GRACE)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # transports say goodbye on the next turn of the loop
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._connections)

    def counters(self) -> Mapping[str, int]:
        """Event -> how often since the start; ``refused:...``, ``timeout:...``, ``wire_error:KIND``, ``denied``."""
        return MappingProxyType(dict(self._counts))

    def count(self, event: str) -> None:
        """Something happened."""
        self._counts[event] += 1

    def admit(self, connection: "_Connection", client: Address) -> bool:
        """Whether one more connection may be."""
        self.count("connections")
        if len(self._connections) >= self._total:
            self.count("refused:total_limit")
            return False
        if self._of_client[client] >= self.limits.per_client:
            self.count("refused:client_limit")
            return False
        self._connections.add(connection)
        self._of_client[client] += 1
        self._empty.clear()
        return True

    def left(self, connection: "_Connection", client: Address) -> None:
        """The connection is no more."""
        self._connections.discard(connection)
        self._of_client[client] -= 1
        if not self._of_client[client]:
            del self._of_client[client]
        if not self._connections:
            self._empty.set()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self._connections):
            if (what := connection.overdue(now)) is not None:
                self.count(f"timeout:{what}")
                connection.abort()
        pause = min(1.0, max(0.02, min(self.limits.silent, self.limits.idle) / 8))
        self._sweeper = loop.call_later(pause, self._sweep)


class _Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, listener: RpcListener, receive: Receive) -> None:
        self._listener = listener
        self._receive = receive
        self._visitor: Visitor | None = None
        self._client: Address | None = None
        self._transport: asyncio.Transport | None = None
        self._heard = False
        self._ending = False
        self._last = asyncio.get_running_loop().time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        peer = transport.get_extra_info("peername")
        client = ip_address(peer[0]) if peer else None
        if client is None or not self._listener.admit(self, client):
            self._transport.abort()
            return
        self._client = client
        self._transport.set_write_buffer_limits(high=WRITE_AHEAD)
        self._visitor = self._receive(client)

    def data_received(self, data: bytes) -> None:
        if self._visitor is None or self._transport is None or self._ending:
            return
        self._heard, self._last = True, asyncio.get_running_loop().time()
        answer = bytearray()
        try:
            for event in self._visitor.rpc.receive(data):
                match event:
                    case Send(octets):
                        answer += octets
                    case Call():
                        answer += self._visitor.answer(event)
                    case Broken(error):
                        self._blame(error)
                        self._ending = True
                    case _:
                        pass  # nobody waits for an answer here: all are given at once
        except Denied as error:  # a caller's ticket has run out, so that nothing can be signed any more
            self._blame(error)
            self._ending = True
        if answer and not self._transport.is_closing():
            self._transport.write(bytes(answer))
        if self._ending:
            self._transport.close()

    def pause_writing(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._last = asyncio.get_running_loop().time()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        if self._client is not None:
            self._listener.left(self, self._client)
        if self._visitor is not None:
            self._visitor.gone()
            self._visitor = None

    def overdue(self, now: float) -> str | None:
        """What the client has left us to wait for too long."""
        limits = self._listener.limits
        if not self._heard and now - self._last > limits.silent:
            return "silent"
        return "idle" if now - self._last > limits.idle else None

    def end(self) -> None:
        """Say no more than what is said already."""
        self._ending = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End it now."""
        if self._transport is not None:
            self._transport.abort()

    def _blame(self, error: CasarrayError) -> None:
        match error:
            case WireError():
                self._listener.count(f"wire_error:{error.kind}")
            case OutOfTurn():
                self._listener.count("out_of_turn")
            case _:
                self._listener.count("denied")
