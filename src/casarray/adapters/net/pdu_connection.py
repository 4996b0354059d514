"""A connection that carries whole PDUs of RPC, and can be told not to listen for a while."""

import asyncio
import contextlib
from typing import cast


class PduConnection(asyncio.Protocol):
    """What connections to servers have in common; ``unread`` is what has come and is no whole PDU yet."""

    def __init__(self) -> None:
        self.unread = bytearray()
        self._transport: asyncio.Transport | None = None
        self._reading = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def write(self, data: bytes) -> None:
        """Send."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def read(self, wanted: bool) -> None:
        """Listen, or do not for now."""
        if self._transport is None or self._transport.is_closing() or wanted is self._reading:
            return
        self._reading = wanted
        with contextlib.suppress(RuntimeError):  # the transport is closing by itself
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def end(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.close()
