"""One virtual connection on real sockets: the client's channels on one side, the server's connection on the other."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Protocol, cast
from uuid import UUID

from casarray.adapters.net.pdu_connection import PduConnection
from casarray.adapters.net.relay import RelayLimits, prepare
from casarray.adapters.net.rpc_http_backend import HttpBackend
from casarray.core.errors import CasarrayError, Denied, NotFound, WireError
from casarray.core.forwarding.table import Address
from casarray.core.rpc_http import proxy as virtual
from casarray.core.rpc_http.http import ACCESS_DENIED, PROTOCOL_ERROR, SERVER_UNAVAILABLE, Target, rpc_error
from casarray.core.rpc_http.messages import ConnA1, ConnB1, InR1A1, OutR2A3
from casarray.core.rpc_http.proxy import ProxiedConnection, Settings
from casarray.core.rpc_http.rts import take_raw

log = logging.getLogger("casarray.rpc-proxy")

Words = ConnA1 | ConnB1 | OutR2A3 | InR1A1


class Place(Protocol):
    """Where a client is led."""

    @property
    def address(self) -> Address:
        """To dial."""

    @property
    def port(self) -> int:
        """Of the RPC server."""

    @property
    def over_http(self) -> bool:
        """Whether it speaks RPC over HTTP there, else RPC over TCP."""


class Finder(Protocol):
    """Finds the server for a client. Raises `CasarrayError`; `NotFound` and `Denied` say that it may not be had."""

    def check(self, target: Target) -> None:
        """Whether there is such a server; without asking anybody."""

    async def find(self, target: Target, client: Address) -> Place:
        """The place of the server that this name means for this client."""

    def usable(self, place: Any) -> bool:  # as `find` gave it
        """Whether connections to it may go on."""

    def unreachable(self, place: Any) -> None:  # as `find` gave it
        """It could not be connected to."""


class Channel(Protocol):
    """One HTTP connection that has become a channel."""

    number: int
    user: str
    target: Target | None
    client: Address | None
    begun: bool

    @property
    def is_in(self) -> bool:
        """Whether this is an IN channel."""

    def answer(self, lifetime: int) -> None:
        """Begin the answer of an OUT channel."""

    def send(self, data: bytes) -> None:
        """Write on an OUT channel."""

    def forget(self) -> None:
        """It belongs to no virtual connection any more."""

    def finish(self, last_words: bytes = b"") -> None:
        """Say this, and end it."""


class Proxy(Protocol):
    """Whoever keeps the links."""

    finder: Finder
    settings: Settings
    connect_seconds: float  # to find a server and connect to it
    links: "dict[UUID, Link]"

    def count(self, event: str) -> None:
        """Something happened."""


class Link:
    """One virtual connection: its channels, and the server's connection."""

    def __init__(self, owner: Proxy, cookie: UUID, first: Channel) -> None:
        self.user, self.target = first.user, first.target
        self.connection = ProxiedConnection(cookie, owner.settings, asyncio.get_running_loop().time())
        self._owner = owner
        self._client = cast(Address, first.client)
        self._cookie = cookie
        self._channels: dict[int, Channel] = {}
        self._server: Server | None = None
        self._place: Place | None = None
        self._work: asyncio.Task[None] | None = None

    def look(self, now: float) -> None:
        """Time has gone by."""
        self.perform(self.connection.tick(now))
        if self._place is not None and not self._owner.finder.usable(self._place):
            self.close("member", "its server may not be used any more")

    def begin(self, channel: Channel, words: Words, now: float) -> None:
        """A channel begins."""
        self._channels[channel.number] = channel
        match words:
            case ConnA1() | OutR2A3():
                self.perform(self.connection.out_channel(channel.number, words, now))
            case ConnB1() | InR1A1():
                self.perform(self.connection.in_channel(channel.number, words, now))

    def from_client(self, channel: Channel, raw: bytes, now: float) -> None:
        """A PDU on a channel that has begun."""
        take = self.connection.from_in if channel.is_in else self.connection.from_out
        self.perform(take(channel.number, raw, now))

    def lost(self, channel: Channel) -> None:
        """A channel has ended."""
        if self._channels.pop(channel.number, None) is not None:
            self.perform(self.connection.lost(channel.number))

    def from_server(self, raw: bytes) -> None:
        """A PDU of the server's."""
        self.perform(self.connection.from_server(raw, asyncio.get_running_loop().time()))
        if self._server is not None:
            self._server.read(self.connection.wants_server)

    def server_full(self, full: bool) -> None:
        """Whether the server takes nothing at the moment."""
        self.perform(self.connection.server_full(full, asyncio.get_running_loop().time()))

    def server_lost(self) -> None:
        """The server has ended its connection."""
        self._server = None
        self.perform(self.connection.server_lost(asyncio.get_running_loop().time()))

    def perform(self, commands: Sequence[virtual.Command]) -> None:
        """Do it."""
        for command in commands:
            match command:
                case virtual.SendOut(number, data):
                    if (channel := self._channels.get(number)) is not None:
                        channel.send(data)
                case virtual.ToServer(data):
                    if self._server is not None:
                        self._server.write(data)
                case virtual.Begin(number):
                    if (channel := self._channels.get(number)) is not None:
                        channel.answer(self._owner.settings.lifetime)
                case virtual.Connect():
                    self._work = asyncio.get_running_loop().create_task(self._connect())
                case virtual.End(number):
                    self._leave(number, b"")
                case virtual.Refuse(number):
                    self._owner.count("refused:channel")
                    self._leave(number, rpc_error(PROTOCOL_ERROR))
                case virtual.Close(kind, detail):
                    self.close(kind, detail)
        if self._server is not None:
            self._server.read(self.connection.wants_server)

    def _leave(self, number: int, last_words: bytes) -> None:
        channel = self._channels.pop(number, None)
        if channel is not None:
            channel.forget()
            channel.finish(last_words)

    async def _connect(self) -> None:
        owner, target = self._owner, self.target
        assert target is not None  # a channel without one was refused
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(owner.connect_seconds):
                for attempt in (1, 2):
                    place = await owner.finder.find(target, self._client)
                    try:
                        server = await self._reach(place)
                        break
                    except OSError:
                        owner.finder.unreachable(place)
                        if attempt == 2:
                            raise
        except (CasarrayError, OSError, TimeoutError) as error:
            owner.count("refused:server")
            log.info("no server for %s from %s: %s", target, self._client, error or "no answer in time")
            self._refuse(ACCESS_DENIED if isinstance(error, NotFound | Denied) else SERVER_UNAVAILABLE)
            return
        self._server, self._place = server, place
        owner.count("connections")
        self.perform(self.connection.connected(loop.time()))

    async def _reach(self, place: Place) -> "Server":
        if place.over_http:
            backend = HttpBackend(self, self._client, self.connection.group)
            await backend.open(place.address, place.port)
            return backend
        server = _ServerConnection(self)
        await asyncio.get_running_loop().create_connection(lambda: server, str(place.address), place.port)
        return server

    def _refuse(self, status: int) -> None:
        for number in list(self._channels):
            self._leave(number, rpc_error(status))
        self.close("", "")

    def close(self, kind: str, detail: str) -> None:
        """End all of it."""
        if self._owner.links.get(self._cookie) is self:
            del self._owner.links[self._cookie]
            if kind:
                self._owner.count(f"closed:{kind}")
                log.info("%s from %s: ended: %s", self.target, self._client, detail or kind)
        self.connection.state = virtual.State.OVER
        if self._work is not None and self._work is not asyncio.current_task():
            self._work.cancel()
        for number, channel in list(self._channels.items()):
            self._leave(number, b"" if channel.begun or (channel.is_in and self._server) else rpc_error(PROTOCOL_ERROR))
        if self._server is not None:
            self._server.end()
            self._server = None


class Server(Protocol):
    """The server's connection, whatever it is made of."""

    def write(self, data: bytes) -> None:
        """Send a whole PDU."""

    def read(self, wanted: bool) -> None:
        """Listen to the server, or do not for now."""

    def end(self) -> None:
        """Close it."""


class _ServerConnection(PduConnection):
    """RPC over TCP to the server."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if (sock := transport.get_extra_info("socket")) is not None:
            prepare(sock, RelayLimits())  # a server without power says nothing any more

    def data_received(self, data: bytes) -> None:
        self.unread += data
        try:
            while (raw := take_raw(self.unread)) is not None:
                self._link.from_server(raw)
        except WireError as wrong:
            self._link.close("server", str(wrong))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        self._link.server_lost()

    def pause_writing(self) -> None:
        self._link.server_full(True)

    def resume_writing(self) -> None:
        self._link.server_full(False)
