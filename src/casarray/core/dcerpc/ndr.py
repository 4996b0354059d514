"""NDR and NDR64: how the arguments of a call are laid out in a stub.

One reader and one writer for both transfer syntaxes. What differs: in NDR64 referents and counts are eight octets on
an eight-octet boundary (NDR: four), and enums are four octets (NDR: two). [C706] chapter 14, [MS-RPCE] 2.2.5.

NDR64 also fills a structure up to a multiple of its boundary, but only after a last member of fixed size ([MS-RPCE]
2.2.5.3.4.1). No structure here ends in such a member off its boundary, so there is nothing for that.

A pointer is two things far apart: its referent here, what it points to later. The interface files spell both out, in
the order of their IDL, so nothing recurses but the restrictions of NSPI, and they bound how deep. Every count has a
limit that the caller must name.
"""

from dataclasses import dataclass
from uuid import UUID

from casarray.core.dcerpc.cursor import NIL, Order, Reader, Writer
from casarray.core.errors import WireError

_NIL_HANDLE_OCTETS = bytes(20)

#: Referents of unique pointers as Windows numbers them; any number but zero would do.
_FIRST_REFERENT = 0x00020000


@dataclass(frozen=True, slots=True)
class ContextHandle:
    """What a server gives a client to come back with; only the server that made it can read it. [C706] 5.1.6."""

    uuid: UUID
    attributes: int = 0

    @property
    def is_nil(self) -> bool:
        """Whether it stands for "none": the first call of a series, or the last one's answer."""
        return self.uuid == NIL and self.attributes == 0


NIL_HANDLE = ContextHandle(NIL)


class NdrReader(Reader):
    """Reads a stub. Integers align themselves; raw octets (`take`) do not."""

    __slots__ = ("ndr64",)

    def __init__(self, stub: bytes, order: Order = "little", ndr64: bool = False) -> None:
        super().__init__(stub, order)
        self.ndr64 = ndr64

    def u16(self, what: str, order: Order | None = None) -> int:
        """Two octets on their boundary."""
        if self.at & 1:
            self.align(2, what)
        return super().u16(what, order)

    def u32(self, what: str) -> int:
        """Four octets on their boundary."""
        at = (self.at + 3) & -4
        if at + 4 > self.end:
            raise self._cut(what, 4)
        self.at = at + 4
        value: int = self._u32(self.data, at)[0]
        return value

    def u64(self, what: str) -> int:
        """Eight octets on their boundary."""
        if self.at & 7:
            self.align(8, what)
        return super().u64(what)

    def enum(self, what: str) -> int:
        """An enumerated value: two octets, in NDR64 four."""
        return self.u32(what) if self.ndr64 else self.u16(what)

    def pointer(self, what: str) -> int:
        """The referent of a unique or full pointer; 0 is null, else what it points to follows where the IDL says."""
        return self.u64(what) if self.ndr64 else self.u32(what)

    def count(self, what: str, limit: int) -> int:
        """A conformance, offset or length; over ``limit`` is `WireError("range")`."""
        count = self.u64(what) if self.ndr64 else self.u32(what)
        if count > limit:
            raise WireError("range", f"{what}: {count}, at most {limit} allowed")
        return count

    def align_structure(self, what: str, *, pointers: bool = True) -> None:
        """Before a structure whose widest members are pointers or counts, or without those four-octet integers."""
        self.align(8 if self.ndr64 and pointers else 4, what)

    def uuid(self, what: str) -> UUID:
        """A UUID on its boundary of four."""
        if self.at & 3:
            self.align(4, what)
        return super().uuid(what)

    def handle(self, what: str) -> ContextHandle:
        """A context handle: four octets of attributes and a UUID."""
        if self.at & 3:
            self.align(4, what)
        if self.data[self.at : self.at + 20] == _NIL_HANDLE_OCTETS and self.at + 20 <= self.end:
            self.at += 20
            return NIL_HANDLE
        attributes = self.u32(what)
        return ContextHandle(self.uuid(what), attributes)

    def conformant(self, what: str, limit: int) -> bytes:
        """A conformant array of octets: its count, then that many."""
        return self.take(self.count(what, limit), what)

    def varying_header(self, what: str, limit: int) -> int:
        """Offset and length of a varying array; the length. Offsets other than 0 are sent by nobody and refused."""
        if self.count(f"{what}: offset", 0xFFFFFFFF):
            raise WireError("range", f"{what}: offset is not 0")
        return self.count(f"{what}: length", limit)

    def conformant_varying_header(self, what: str, limit: int) -> int:
        """Maximum, offset and length of a conformant varying array; the length, which is within the maximum."""
        maximum = self.count(f"{what}: maximum", 0xFFFFFFFF)
        return self.varying_header(what, min(maximum, limit))

    def conformant_varying(self, what: str, limit: int) -> bytes:
        """A conformant varying array of octets."""
        return self.take(self.conformant_varying_header(what, limit), what)

    def string(self, what: str, limit: int) -> str:
        """A conformant string of octets, at most ``limit`` with its NUL; the text before the first NUL."""
        return self.conformant_varying(what, limit).partition(b"\0")[0].decode("latin-1")

    def varying_string(self, what: str, limit: int) -> str:
        """A string in an array of fixed size: no maximum on the wire."""
        return self.take(self.varying_header(what, limit), what).partition(b"\0")[0].decode("latin-1")

    def wide_string(self, what: str, limit: int) -> str:
        """A conformant string of UTF-16, at most ``limit`` units with its NUL; the text before the first NUL."""
        octets = self.take(2 * self.conformant_varying_header(what, limit), what)
        try:
            return octets.decode("utf-16-le" if self.order == "little" else "utf-16-be").partition("\0")[0]
        except UnicodeDecodeError:
            raise WireError("text", f"{what}: not UTF-16") from None


class NdrWriter(Writer):
    """Writes a stub. Integers align themselves; raw octets (`octets`) do not."""

    __slots__ = ("_full_referent", "_referent", "ndr64")

    def __init__(self, order: Order = "little", ndr64: bool = False) -> None:
        super().__init__(order)
        self.ndr64 = ndr64
        self._referent = _FIRST_REFERENT
        self._full_referent = 0

    def u16(self, value: int, order: Order | None = None) -> None:
        """Two octets on their boundary."""
        self.align(2)
        super().u16(value, order)

    def u32(self, value: int) -> None:
        """Four octets on their boundary."""
        self.align(4)
        super().u32(value)

    def u64(self, value: int) -> None:
        """Eight octets on their boundary."""
        self.align(8)
        super().u64(value)

    def enum(self, value: int) -> None:
        """An enumerated value: two octets, in NDR64 four."""
        (self.u32 if self.ndr64 else self.u16)(value)

    def pointer(self, present: bool) -> None:
        """The referent of a unique pointer (or of a full one in an answer): null, or a number of its own."""
        referent = 0
        if present:
            referent = self._referent
            self._referent += 4
        (self.u64 if self.ndr64 else self.u32)(referent)

    def full_pointer(self, present: bool) -> None:
        """The referent of a full pointer in a request, numbered 1, 2, 3: Windows 2003 takes no others, says impacket.

        In answers these numbers would name what the request's pointers pointed to: use `pointer` there.
        """
        self._full_referent += present
        (self.u64 if self.ndr64 else self.u32)(self._full_referent if present else 0)

    def count(self, value: int) -> None:
        """A conformance, offset or length."""
        (self.u64 if self.ndr64 else self.u32)(value)

    def align_structure(self, *, pointers: bool = True) -> None:
        """Before a structure whose widest members are pointers or counts, or without those four-octet integers."""
        self.align(8 if self.ndr64 and pointers else 4)

    def uuid(self, uuid: UUID) -> None:
        """A UUID on its boundary of four."""
        self.align(4)
        super().uuid(uuid)

    def handle(self, handle: ContextHandle) -> None:
        """A context handle."""
        self.u32(handle.attributes)
        self.uuid(handle.uuid)

    def conformant(self, octets: bytes) -> None:
        """A conformant array of octets."""
        self.count(len(octets))
        self.octets(octets)

    def varying_header(self, length: int) -> None:
        """Offset 0 and length of a varying array."""
        self.count(0)
        self.count(length)

    def conformant_varying_header(self, maximum: int, length: int) -> None:
        """Maximum, offset 0 and length of a conformant varying array."""
        self.count(maximum)
        self.varying_header(length)

    def conformant_varying(self, octets: bytes) -> None:
        """A conformant varying array of octets that is full."""
        self.conformant_varying_header(len(octets), len(octets))
        self.octets(octets)

    def string(self, text: str) -> None:
        """A conformant string of octets, with its NUL."""
        self.conformant_varying(_latin(text) + b"\0")

    def varying_string(self, text: str) -> None:
        """A string in an array of fixed size, with its NUL."""
        octets = _latin(text) + b"\0"
        self.varying_header(len(octets))
        self.octets(octets)

    def wide_string(self, text: str) -> None:
        """A conformant string of UTF-16, with its NUL."""
        try:
            octets = (text + "\0").encode("utf-16-le" if self.order == "little" else "utf-16-be")
        except UnicodeEncodeError:
            raise WireError("text", "a string that UTF-16 cannot carry") from None
        self.conformant_varying_header(len(octets) // 2, len(octets) // 2)
        self.octets(octets)


def _latin(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise WireError("text", "a string that one octet a character cannot carry") from None
