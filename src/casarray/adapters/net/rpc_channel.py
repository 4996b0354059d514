"""One RPC connection of a client, over asyncio: open it, bind, call, and know when and how it ended."""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Sequence
from typing import Self, cast
from uuid import UUID

from casarray.core.dcerpc.association import BindRefused, Bound, Broken, ClientEvent, Failed, Reply, RpcClient
from casarray.core.dcerpc.auth import ClientAuth
from casarray.core.dcerpc.pdu import NakReason
from casarray.core.dcerpc.syntax import NDR, Syntax
from casarray.core.errors import CasarrayError, Denied, Unavailable

MOST_LEGS = 8

_REFUSED_PROOFS = {
    int(NakReason.AUTHENTICATION_TYPE_NOT_RECOGNIZED): "the server does not have this kind of authentication",
    int(NakReason.INVALID_CHECKSUM): "the server does not take our proof of who we are",
}


def no_linger(transport: asyncio.Transport) -> None:
    """Make the end of this connection a reset."""
    sock = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


class RpcFault(CasarrayError):
    """The server answered a call with a fault."""

    def __init__(self, status: int) -> None:
        super().__init__(f"fault 0x{status:08X}")
        self.status = status


class NotThere(Unavailable):
    """The port answers, and does not have the interface."""


class Rejected(Unavailable):
    """The server refuses the bind as a whole."""


class Nonsense(Unavailable):
    """What came is no RPC."""


class Channel(asyncio.Protocol):
    """A connection to one port. One bind or call at a time; what fails raises `Unavailable` or `RpcFault`."""

    def __init__(self, patience: float = 5.0) -> None:
        self.patience = patience
        self.rpc = RpcClient()
        self.local: tuple[str, int] = ("", 0)
        self.lost_at: float | None = None  # on the monotonic clock
        self.ending = ""  # reset, end, closed: how it was lost
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[ClientEvent] | None = None

    @classmethod
    async def open(cls, host: str, port: int, source: str | None = None, patience: float = 5.0) -> Self:
        """Connect, from the given source address. ``patience`` is in seconds, for this and every answer."""
        loop = asyncio.get_running_loop()
        channel = cls(patience)
        try:
            async with asyncio.timeout(patience):
                await loop.create_connection(lambda: channel, host, port, local_addr=(source, 0) if source else None)
        except TimeoutError as error:
            raise Unavailable(f"{host} port {port} does not answer within {patience} s") from error
        except OSError as error:
            raise Unavailable(f"{host} port {port}: {os.strerror(error.errno) if error.errno else error}") from error
        return channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        name = transport.get_extra_info("sockname") or ("", 0)
        self.local = (name[0], name[1])

    def data_received(self, data: bytes) -> None:
        for event in self.rpc.receive(data):
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_result(event)
            if isinstance(event, Broken) and self._transport is not None:
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost_at = time.monotonic()
        self.ending = self.ending or ("reset" if isinstance(exc, ConnectionResetError) else "end")
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Unavailable(f"the connection was lost ({self.ending})"))
        if not self.lost.done():
            self.lost.set_result(None)

    async def bind(
        self,
        *interfaces: Syntax,
        group_id: int = 0,
        transfer: Sequence[Syntax] = (NDR,),
        auth: ClientAuth | None = None,
    ) -> int:
        """Bind to these interfaces; the association group. Any that is not accepted is `Unavailable`.

        With ``auth`` (one for each connection) both sides prove who they are first, and calls are protected as it says.
        `Denied` when one of them does not; where the third leg is an auth3 a server says so by the first call's fault.
        """
        first, signing = (None, False) if auth is None else (auth.begin(), auth.header_signing)
        event = await self._ask(
            self.rpc.bind(*interfaces, group_id=group_id, transfer=transfer, auth=first, header_signing=signing)
        )
        if auth is not None and isinstance(event, Bound):
            await self._authenticate(event, auth, interfaces, transfer)
        match event:
            case Bound(group_id=group) if all(self.rpc.accepts(interface) for interface in interfaces):
                return group
            case Bound():
                raise NotThere("an interface is not there")
            case BindRefused(reason) if auth is not None and reason in _REFUSED_PROOFS:
                raise Denied(_REFUSED_PROOFS[reason])
            case BindRefused(reason, _, status):
                raise Rejected(f"the bind was refused (reason {reason}, status {status})")
            case Broken(error):
                raise Nonsense(f"no answer to a bind: {error}")
            case _:
                raise Unavailable(f"no answer to a bind: {event}")

    async def _authenticate(
        self, bound: Bound, auth: ClientAuth, interfaces: Sequence[Syntax], transfer: Sequence[Syntax]
    ) -> None:
        """The legs after the bind_ack."""
        legs = 0
        while (leg := auth.answered(bound.auth, bound.header_signing)) is not None:
            if auth.ends_unanswered and self._transport is not None:
                self._transport.write(self.rpc.auth3(leg))
                break
            if (legs := legs + 1) > MOST_LEGS:
                raise Denied("the server goes on asking for proofs")
            event = await self._ask(self.rpc.alter(*interfaces, auth=leg, transfer=transfer))
            match event:
                case Bound():
                    bound = event
                case Failed(_, status):
                    raise Denied(f"the server refuses to let us in (fault 0x{status:08X})")
                case _:
                    raise Unavailable(f"no answer to an alter_context: {event}")
        self.rpc.protection = auth.protection

    async def call(self, interface: Syntax, opnum: int, stub: bytes, *, about: UUID | None = None) -> Reply:
        """Call, and wait for the answer. ``about`` is the object of the call."""
        event = await self._ask(self.rpc.call(interface, opnum, stub, object=about))
        match event:
            case Reply():
                return event
            case Failed(_, status):
                raise RpcFault(status)
            case Broken(error):
                raise Nonsense(f"no answer to a call: {error}")
            case _:
                raise Unavailable(f"no answer to a call: {event}")

    async def _ask(self, octets: bytes) -> ClientEvent:
        if self._transport is None or self._transport.is_closing() or self.lost_at is not None:
            raise Unavailable(f"the connection was lost ({self.ending or 'closed'})")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(octets)
        try:
            async with asyncio.timeout(self.patience):
                return await self._waiting
        except TimeoutError as error:
            raise Unavailable(f"no answer within {self.patience} s") from error
        finally:
            self._waiting = None

    def close(self, *, hard: bool = False) -> None:
        """End the connection; ``hard`` with a reset, which leaves no TIME_WAIT behind."""
        if self._transport is None or self._transport.is_closing():
            return
        self.ending = "closed"
        if hard:
            no_linger(self._transport)
            self._transport.abort()
        else:
            self._transport.close()
