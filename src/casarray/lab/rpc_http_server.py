"""The lab server's ports for RPC over HTTP: 6001 (mailbox), 6002 (referral), 6004 (address book), as 2010 has them.

What arrives there is answered by the same code as what comes over TCP. A connection that goes on with RPC right after
the greeting, as version 1 of the protocol had it, is answered as well.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import IPv4Address
from typing import Any, Final, Protocol, cast
from uuid import UUID

from casarray.core.errors import CasarrayError, WireError
from casarray.core.forwarding.table import Address
from casarray.core.rpc_http.messages import ConnA2, ConnB2
from casarray.core.rpc_http.rts import decode_rts, is_rts, take_raw
from casarray.core.rpc_http.server import BANNER, Close, Command, Deliver, Opened, Send, ServerEnd, Side

#: Which service of the lab server answers on which port.
PORTS: Final[Mapping[int, str]] = {6001: "rpc", 6002: "ab", 6004: "ab"}
NOBODY: Final = IPv4Address(0)


class Answering(Protocol):
    """Answers one RPC connection, whatever carries it: the lab server's `Connection`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It begins."""

    def data_received(self, data: bytes) -> None:
        """Octets of RPC."""

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""


class RpcHttpServer:
    """Listens for proxies. ``answering`` makes what answers a connection to a service; ``refuses`` says that the
    service is stopped."""

    def __init__(
        self, answering: Callable[[str], Answering], refuses: Callable[[str], bool] = lambda _service: False
    ) -> None:
        self.answering = answering
        self.refuses = refuses
        self.ends: dict[UUID, _VirtualTransport] = {}
        self.ports: dict[int, int] = {}  # as clients name it -> as it is listened on
        self._servers: list[asyncio.Server] = []
        self._halves: set[_Half] = set()

    async def start(self, addresses: tuple[str, ...], ports: Mapping[int, int] | None = None) -> None:
        """Listen on all of these; ``ports``: where to listen for each of `PORTS`, 0 for anywhere."""
        wanted = dict.fromkeys(PORTS) | dict(ports or {})
        for named, service in PORTS.items():
            port = named if wanted[named] is None else int(wanted[named] or 0)
            for address in addresses:
                port = await self._listen(address, port, service)
            self.ports[named] = port

    async def _listen(self, address: str, port: int, service: str) -> int:
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(partial(_Half, self, service), address, port, reuse_address=True)
        except OSError as error:
            raise CasarrayError(f"cannot listen on {address} port {port}: {error}") from error
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Listen no more, end everything."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for half in list(self._halves):
            half.abort()

    def joined(self, half: "_Half") -> None:
        """A connection is there."""
        self._halves.add(half)

    def left(self, half: "_Half") -> None:
        """It is no more."""
        self._halves.discard(half)


class _Half(asyncio.Protocol):
    """One proxy's connection, or one of version 1."""

    def __init__(self, owner: RpcHttpServer, service: str) -> None:
        self.side: Side | None = None
        self._owner = owner
        self._service = service
        self._transport: asyncio.Transport | None = None
        self._unread = bytearray()
        self._end: _VirtualTransport | None = None
        self._plain: Answering | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._owner.joined(self)
        if self._owner.refuses(self._service):
            self._transport.abort()
            return
        self._transport.write(BANNER)

    def data_received(self, data: bytes) -> None:
        if self._plain is not None:
            self._plain.data_received(data)
            return
        self._unread += data
        try:
            while (raw := take_raw(self._unread)) is not None:
                if self._end is not None and self.side is not None:
                    self._end.perform(self._end.end.receive(self.side, raw))
                elif is_rts(raw):
                    self._begin(raw)
                else:
                    self._go_on_plainly(raw + bytes(self._unread))
                    return
        except WireError:
            self.abort()

    def _begin(self, raw: bytes) -> None:
        rts = decode_rts(raw)
        words = ConnA2.read(rts) if ConnA2.matches(rts) else ConnB2.read(rts)
        self.side = Side.OUT if isinstance(words, ConnA2) else Side.IN
        ends, cookie = self._owner.ends, words.connection
        if cookie not in ends:
            ends[cookie] = _VirtualTransport(self._owner, cookie, self._owner.answering(self._service))
        self._end = ends[cookie]
        self._end.halves.setdefault(self.side, self)
        self._end.perform(self._end.end.begin(words))

    def _go_on_plainly(self, data: bytes) -> None:
        self._plain = self._owner.answering(self._service)
        if self._transport is not None:
            self._plain.connection_made(self._transport)
        self._plain.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.left(self)
        if self._plain is not None:
            self._plain.connection_lost(exc)
        if self._end is not None:
            self._end.perform(self._end.end.lost())

    def write(self, data: bytes) -> None:
        """Send."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """End it when all is written."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()


class _VirtualTransport(asyncio.Transport):
    """What an `Answering` takes for its connection."""

    def __init__(self, owner: RpcHttpServer, cookie: UUID, answering: Answering) -> None:
        super().__init__()
        self.end = ServerEnd(cookie, asyncio.get_running_loop().time())
        self.halves: dict[Side, _Half] = {}
        self._owner = owner
        self._cookie = cookie
        self._answering = answering
        self._client: Address = NOBODY
        self._unsent = bytearray()
        self._opened = self._over = False

    def perform(self, commands: list[Command]) -> None:
        """Do it."""
        for command in commands:
            match command:
                case Send(side, data):
                    if side in self.halves:
                        self.halves[side].write(data)
                case Opened(client):
                    self._opened, self._client = True, client or NOBODY
                    self._answering.connection_made(self)
                case Deliver(data):
                    self._answering.data_received(data)
                case Close():
                    self._finish()

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        self._owner.ends.pop(self._cookie, None)
        for half in self.halves.values():
            half.close()
        if self._opened:
            self._answering.connection_lost(None)

    def write(self, data: "bytes | bytearray | memoryview[int]") -> None:
        """Answers, which are whole PDUs."""
        self._unsent += data
        while not self._over and (raw := take_raw(self._unsent)) is not None:
            self.perform(self.end.send(raw))

    def is_closing(self) -> bool:
        """Whether it has ended."""
        return self._over

    def close(self) -> None:
        """End it."""
        self._finish()

    def abort(self) -> None:
        """End it."""
        self._finish()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The client as the inbound proxy named it."""
        return (str(self._client), 0) if name == "peername" else default
