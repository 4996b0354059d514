"""Flow control of one channel, seen from either end. Only PDUs of RPC itself count. [MS-RPCH] 3.2.1.1

Whoever receives says how much it has room for. The sender counts what it has sent since, and keeps the rest back. What
has been taken out of the receiver's room is acknowledged when half of what was promised is used up.
"""

from uuid import UUID

from casarray.core.errors import WireError
from casarray.core.rpc_http.rts import Ack


class ReceiveWindow:
    """Octets that arrive on a channel, and those that have been passed on since."""

    def __init__(self, size: int, channel: UUID) -> None:
        self.size = size  # octets
        self.channel = channel
        self.received = 0
        self._passed_on = 0
        self._limit = size  # what the sender was promised, counted from the channel's beginning

    def arrived(self, octets: int) -> None:
        """A PDU came; one that was not promised is a `WireError`."""
        if self.received + octets > self._limit:
            raise WireError("flow", f"{self.received + octets - self._limit} octets more than the window has room for")
        self.received += octets

    def passed_on(self, octets: int) -> Ack | None:
        """So much has left us again; what is to be told the sender, if anything."""
        self._passed_on += octets
        if self._limit - self.received >= self.size // 2:
            return None
        available = self.size - (self.received - self._passed_on)
        if self.received + available <= self._limit:
            return None
        self._limit = self.received + available
        return Ack(self.received, available, self.channel)


class SendWindow:
    """How much may be sent on a channel."""

    def __init__(self, size: int, channel: UUID) -> None:
        self.channel = channel
        self.sent_octets = 0
        self.size = size
        self._limit = size

    def has_room(self, octets: int) -> bool:
        """Whether so much may be sent now. What could never be is a `WireError`."""
        if octets > self.size:
            raise WireError("flow", f"a PDU of {octets} octets for a window of {self.size}")
        return self.sent_octets + octets <= self._limit

    def sent(self, octets: int) -> None:
        """So much was sent."""
        self.sent_octets += octets

    def acknowledged(self, ack: Ack) -> None:
        """The receiver says what it has and what it has room for; more than was sent is a `WireError`."""
        if ack.received > self.sent_octets:
            raise WireError("flow", f"{ack.received} octets acknowledged, {self.sent_octets} sent")
        # A receiver that grows its window is borne with, up to what a window may be at all.
        self._limit = max(self._limit, ack.received + min(ack.available, 256 * 1024))
