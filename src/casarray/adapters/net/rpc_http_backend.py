"""To a server that speaks RPC over HTTP itself (`ncacn_http` on 6001 and so on): two connections, as IIS makes them.

To whoever uses it, it looks like one connection of RPC.
"""

import asyncio
from typing import Protocol
from uuid import UUID, uuid4

from casarray.adapters.net.pdu_connection import PduConnection
from casarray.core.errors import Unavailable, WireError
from casarray.core.forwarding.table import Address
from casarray.core.rpc_http.rts import take_raw
from casarray.core.rpc_http.server import (
    BANNER,
    Close,
    Command,
    Deliver,
    Introduction,
    Opened,
    ProxyEnd,
    Send,
    Side,
)


class Listener(Protocol):
    """Whoever is connected by it."""

    def from_server(self, raw: bytes) -> None:
        """A PDU of the server's."""

    def server_full(self, full: bool) -> None:
        """Whether the server takes nothing at the moment."""

    def server_lost(self) -> None:
        """The connection has ended."""


class HttpBackend:
    """Both connections."""

    def __init__(self, listener: Listener, client: Address, group: UUID | None) -> None:
        about = Introduction(uuid4(), uuid4(), uuid4(), group or uuid4(), client)
        self.end_of_proxies = ProxyEnd(about, uuid4)
        self._listener = listener
        self._halves: dict[Side, _Half] = {}
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._over = False

    async def open(self, address: Address, port: int) -> None:
        """Connect, and wait until the server has joined both. `OSError`, or `Unavailable` when it does not."""
        loop = asyncio.get_running_loop()
        try:
            for side in (Side.OUT, Side.IN):
                half = self._halves[side] = _Half(self, side)
                await loop.create_connection(lambda it=half: it, str(address), port)  # type: ignore[misc]  # mypy takes the default for an argument
            await self._opened
        except BaseException:
            self.end()
            raise

    def greeted(self, half: "_Half") -> None:
        """The server has greeted on this connection."""
        half.write(self.end_of_proxies.first[half.side])

    def received(self, half: "_Half", raw: bytes) -> None:
        """A PDU on one of them."""
        self._perform(self.end_of_proxies.receive(half.side, raw))

    def lost(self, why: str) -> None:
        """One of them has ended."""
        self._perform(self.end_of_proxies.lost())
        self._finish(why)

    def full(self, half: "_Half", full: bool) -> None:
        """Whether one of them takes nothing at the moment."""
        if half.side is Side.IN:
            self._listener.server_full(full)

    def _perform(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Send(side, data):
                    self._halves[side].write(data)
                case Deliver(data):
                    self._listener.from_server(data)
                case Opened():
                    if not self._opened.done():
                        self._opened.set_result(None)
                case Close(why):
                    self._finish(why or "the server has ended the connection")

    def _finish(self, why: str) -> None:
        if self._over:
            return
        opened = self._opened.done()
        self.end()
        if not opened:
            self._opened.set_exception(Unavailable(f"the server does not open a virtual connection: {why}"))
            self._opened.exception()  # whoever waits for it gets it; that nobody does is no fault
        else:
            self._listener.server_lost()

    # --- as one connection ---------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send a whole PDU of RPC."""
        self._perform(self.end_of_proxies.send(data))

    def read(self, wanted: bool) -> None:
        """Listen to the server, or do not for now."""
        if Side.OUT in self._halves:
            self._halves[Side.OUT].read(wanted)

    def end(self) -> None:
        """Close both."""
        self._over = True
        for half in self._halves.values():
            half.end()


class _Half(PduConnection):
    """One of the two."""

    def __init__(self, owner: HttpBackend, side: Side) -> None:
        super().__init__()
        self.side = side
        self._owner = owner
        self._greeted = False

    def data_received(self, data: bytes) -> None:
        self.unread += data
        try:
            if not self._greeted:
                if not BANNER.startswith(bytes(self.unread[: len(BANNER)])):
                    raise WireError("banner", "it does not greet as an RPC server over HTTP")
                if len(self.unread) < len(BANNER):
                    return
                del self.unread[: len(BANNER)]
                self._greeted = True
                self._owner.greeted(self)
            while (raw := take_raw(self.unread)) is not None:
                self._owner.received(self, raw)
        except WireError as wrong:
            self._owner.lost(str(wrong))

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.lost(str(exc or "it hung up"))

    def pause_writing(self) -> None:
        self._owner.full(self, True)

    def resume_writing(self) -> None:
        self._owner.full(self, False)
