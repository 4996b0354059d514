"""A small site on loopback: members that speak real RPC, a listener before them, raw clients."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from typing import cast

from casarray.adapters.net.mapper import MapperListener, MapperSettings
from casarray.core.dcerpc.association import RpcServer
from casarray.core.dcerpc.endpoint_map import EndpointMap
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.interfaces.epm import EPM, Entry
from casarray.core.dcerpc.tower import Tower
from casarray.core.errors import Unavailable
from casarray.core.forwarding.table import Address

VIP = IPv4Address("127.0.9.1")
VIP2 = IPv4Address("127.0.9.2")
MEMBER = IPv4Address("127.0.0.1")
DYNAMIC = 50001


class Member(asyncio.Protocol):
    """A server's endpoint mapper. ``silent``: it takes connections and questions, and answers nothing."""

    def __init__(self, entries: tuple[Entry, ...], silent: bool, peers: "list[Member]") -> None:
        self._rpc = RpcServer({EPM: EndpointMap(entries)}, secondary_address="135")
        self._silent = silent
        self._peers = peers
        self.transport: asyncio.Transport | None = None
        self.heard = b""
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._peers.append(self)

    def data_received(self, data: bytes) -> None:
        self.heard += data
        if not self._silent and self.transport is not None:
            self.transport.write(self._rpc.serve(data))

    def eof_received(self) -> bool:
        self.ended = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.ended = True


@dataclass
class Route:
    """Where a client is led."""

    member_id: int
    address: Address
    port: int


@dataclass
class Steers:
    """Decides like an array would, by a list of members in the order of preference, and writes down what it is told."""

    members: dict[int, tuple[Address, int]] = field(default_factory=dict)
    holes: list[tuple[str, int, tuple[int, ...]]] = field(default_factory=list)
    ranges: list[tuple[str, int]] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    on_open: Callable[[], None] = lambda: None

    def route(self, client: Address, avoid: int | None = None) -> Route | None:
        del client
        return next((Route(m, *where) for m, where in self.members.items() if m != avoid), None)

    def open_pinholes(self, client: Address, member_id: int, ports: tuple[int, ...]) -> None:
        self.on_open()
        self.holes.append((str(client), member_id, ports))

    def open_range(self, client: Address, member_id: int) -> None:
        self.ranges.append((str(client), member_id))

    def unreachable(self, member_id: int) -> None:
        self.lost.append(member_id)


def kernel_is_gone() -> None:
    """What a forwarder says when it cannot."""
    raise Unavailable("the kernel table cannot be reached")


ENTRIES = (Entry(Tower.tcp(EMSMDB, DYNAMIC, MEMBER)),)


@dataclass
class Site:
    """All of it."""

    listener: MapperListener
    steers: Steers
    port: int
    peers: list[Member]

    async def until(self, holds: Callable[[], bool], seconds: float = 3.0) -> float:
        """Wait for it; how long it took. Fails when it does not come."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not holds():
            assert loop.time() - began < seconds, self.listener.counters()
            await asyncio.sleep(0.005)
        return loop.time() - began


@contextlib.asynccontextmanager
async def member(
    peers: list[Member], *, silent: bool = False, entries: tuple[Entry, ...] = ENTRIES
) -> AsyncIterator[tuple[Address, int]]:
    """A member's address and port."""
    server = await asyncio.get_running_loop().create_server(lambda: Member(entries, silent, peers), str(MEMBER), 0)
    try:
        yield MEMBER, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for peer in peers:
            if peer.transport is not None:
                peer.transport.abort()


@contextlib.asynccontextmanager
async def listening(
    settings: MapperSettings, members: dict[int, tuple[Address, int]], peers: list[Member]
) -> AsyncIterator[Site]:
    """A listener, closed afterwards, with nothing left of it."""
    steers = Steers(dict(members))
    listener = MapperListener(settings, steers)
    await listener.start()
    try:
        yield Site(listener, steers, listener.listening[0][1] if listener.listening else 0, peers)
    finally:
        await listener.close()
        assert listener.relays == 0


class RawClient:
    """A socket that says what it is told to."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def connect(cls, address: Address, port: int, source: str | None = None, buffer: int = 0) -> "RawClient":
        """``buffer``: the octets that the kernel takes for a client that does not read; 0: as it likes."""
        sock = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6)
        sock.setblocking(False)
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        if source is not None:
            sock.bind((source, 0))
        client = cls(sock)
        try:
            await asyncio.wait_for(client._loop.sock_connect(sock, (str(address), port)), 3)
        except OSError:
            sock.close()
            raise
        return client

    async def say(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data)

    async def hear(self, seconds: float = 3.0) -> bytes:
        """What comes next; empty at the end. A reset is a `ConnectionResetError`."""
        return await asyncio.wait_for(self._loop.sock_recv(self.sock, 1 << 16), seconds)

    async def hear_exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = await self.hear()
            assert piece, "ended early"
            data += piece
        return data

    async def is_reset(self, seconds: float = 3.0) -> bool:
        """Whether it ends by a reset, rather than in order."""
        try:
            while await self.hear(seconds):
                pass
        except ConnectionResetError:
            return True
        return False

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


def address(text: str) -> Address:
    """Short for tests."""
    return ip_address(text)
