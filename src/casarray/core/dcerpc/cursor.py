"""A bounded reader and a writer for octets in the sender's byte order.

Every decoder below here reads through one `Reader`, so "more than there is" has one answer: `WireError("truncated")`.
A reader never looks beyond its end, never copies what it has not been asked for, and knows where it stands, so that
whoever patches bytes in place can ask for offsets.
"""

from functools import lru_cache
from struct import Struct
from typing import Literal
from uuid import UUID

from casarray.core.errors import WireError

Order = Literal["little", "big"]

NIL = UUID(int=0)

_U16 = {"little": Struct("<H"), "big": Struct(">H")}
_U32 = {"little": Struct("<I"), "big": Struct(">I")}
_U64 = {"little": Struct("<Q"), "big": Struct(">Q")}


@lru_cache(maxsize=1024)  # interfaces repeat; making a UUID costs more than all the rest of a floor
def uuid_from_octets(octets: bytes, order: Order) -> UUID:
    """The UUID in these 16 octets, of which the first three fields follow ``order``. [C706] appendix A."""
    return UUID(bytes_le=octets) if order == "little" else UUID(bytes=octets)


@lru_cache(maxsize=1024)
def uuid_to_octets(uuid: UUID, order: Order) -> bytes:
    """The 16 octets of a UUID, its first three fields in ``order``."""
    return uuid.bytes_le if order == "little" else uuid.bytes


class Reader:
    """Reads octets front to back. ``what`` in each method names the thing read, for the message of the error."""

    __slots__ = ("_u16", "_u32", "_u64", "at", "data", "end", "order")

    def __init__(self, data: bytes, order: Order = "little", start: int = 0, end: int | None = None) -> None:
        self.data = data
        self.at = start
        self.end = len(data) if end is None else end
        self.order: Order = order
        self._u16 = _U16[order].unpack_from
        self._u32 = _U32[order].unpack_from
        self._u64 = _U64[order].unpack_from

    @property
    def left(self) -> int:
        """How many octets are still to be read."""
        return self.end - self.at

    def u8(self, what: str) -> int:
        """One octet."""
        at = self.at
        if at >= self.end:
            raise self._cut(what, 1)
        self.at = at + 1
        return self.data[at]

    def u16(self, what: str, order: Order | None = None) -> int:
        """Two octets, in ``order`` where that differs from the sender's."""
        at = self.at
        if at + 2 > self.end:
            raise self._cut(what, 2)
        self.at = at + 2
        value: int = (self._u16 if order is None else _U16[order].unpack_from)(self.data, at)[0]
        return value

    def u32(self, what: str) -> int:
        """Four octets."""
        at = self.at
        if at + 4 > self.end:
            raise self._cut(what, 4)
        self.at = at + 4
        value: int = self._u32(self.data, at)[0]
        return value

    def u64(self, what: str) -> int:
        """Eight octets."""
        at = self.at
        if at + 8 > self.end:
            raise self._cut(what, 8)
        self.at = at + 8
        value: int = self._u64(self.data, at)[0]
        return value

    def take(self, count: int, what: str) -> bytes:
        """``count`` octets as they are."""
        at = self.at
        after = at + count
        if count < 0 or after > self.end:
            raise self._cut(what, count)
        self.at = after
        return self.data[at:after]

    def rest(self) -> bytes:
        """All that is left."""
        octets = self.data[self.at : self.end]
        self.at = self.end
        return octets

    def uuid(self, what: str) -> UUID:
        """Sixteen octets as a UUID."""
        return uuid_from_octets(self.take(16, what), self.order)

    def align(self, boundary: int, what: str) -> None:
        """Skip to the next multiple of ``boundary`` (a power of two), counted from the start of the data."""
        at = (self.at + boundary - 1) & -boundary
        if at > self.end:
            raise self._cut(what, at - self.at)
        self.at = at

    def _cut(self, what: str, wanted: int) -> WireError:
        return WireError("truncated", f"{what}: {wanted} octets wanted at {self.at}, {self.end - self.at} left")


class Writer:
    """Writes octets in one byte order. A value that does not fit its field is `WireError("range")`."""

    __slots__ = ("_u16", "_u32", "_u64", "data", "order")

    def __init__(self, order: Order = "little") -> None:
        self.data = bytearray()
        self.order: Order = order
        self._u16 = _U16[order]
        self._u32 = _U32[order]
        self._u64 = _U64[order]

    def __len__(self) -> int:
        return len(self.data)

    def __bytes__(self) -> bytes:
        return bytes(self.data)

    def u8(self, value: int) -> None:
        """One octet."""
        if not 0 <= value <= 0xFF:
            raise WireError("range", f"{value} does not fit one octet")
        self.data.append(value)

    def u16(self, value: int, order: Order | None = None) -> None:
        """Two octets, in ``order`` where that differs from the writer's."""
        if not 0 <= value <= 0xFFFF:
            raise WireError("range", f"{value} does not fit two octets")
        self.data += (self._u16 if order is None else _U16[order]).pack(value)

    def u32(self, value: int) -> None:
        """Four octets."""
        if not 0 <= value <= 0xFFFFFFFF:
            raise WireError("range", f"{value} does not fit four octets")
        self.data += self._u32.pack(value)

    def u64(self, value: int) -> None:
        """Eight octets."""
        if not 0 <= value <= 0xFFFFFFFFFFFFFFFF:
            raise WireError("range", f"{value} does not fit eight octets")
        self.data += self._u64.pack(value)

    def octets(self, octets: bytes) -> None:
        """Octets as they are."""
        self.data += octets

    def uuid(self, uuid: UUID) -> None:
        """A UUID."""
        self.data += uuid_to_octets(uuid, self.order)

    def align(self, boundary: int) -> None:
        """Zeros up to the next multiple of ``boundary``, counted from the start."""
        self.data += bytes(-len(self.data) % boundary)
