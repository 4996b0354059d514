"""What all PDUs have: the header in front, the auth trailer behind. [C706] 12.6.3.1, [MS-RPCE] 2.2.2.

Import all of this from pdu.py, which adds the bodies.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct
from typing import ClassVar, Final, TypedDict

from casarray.core.dcerpc.cursor import Order, Reader, Writer
from casarray.core.errors import WireError

HEADER_SIZE: Final = 16
TRAILER_SIZE: Final = 8
#: What Windows and Samba offer as the size of a fragment.
DEFAULT_FRAGMENT: Final = 5840
#: What every peer must be able to receive. [C706] appendix K (MustRecvFragSize).
SMALLEST_FRAGMENT: Final = 1432

# pfc_flags. [C706] 12.6.3.1. Plain numbers: a flag enum costs more than the whole header.
FIRST: Final = 0x01
LAST: Final = 0x02
PENDING_CANCEL: Final = 0x04  # in requests, responses, faults
HEADER_SIGNING: Final = 0x04  # the same bit in bind, bind_ack, alter_context and its answer. [MS-RPCE] 2.2.2.3
CONCURRENT_MULTIPLEXING: Final = 0x10
DID_NOT_EXECUTE: Final = 0x20
MAYBE: Final = 0x40
OBJECT_UUID: Final = 0x80
WHOLE: Final = FIRST | LAST


class PduType(IntEnum):
    """ptype. [C706] chapter 12; 16 is [MS-RPCE]'s, 20 [MS-RPCH]'s."""

    REQUEST = 0
    RESPONSE = 2
    FAULT = 3
    BIND = 11
    BIND_ACK = 12
    BIND_NAK = 13
    ALTER_CONTEXT = 14
    ALTER_CONTEXT_RESPONSE = 15
    AUTH3 = 16
    SHUTDOWN = 17
    CO_CANCEL = 18
    ORPHANED = 19
    RTS = 20


@dataclass(frozen=True, slots=True)
class Auth:
    """The trailer with which a PDU proves who sent it. [MS-RPCE] 2.2.2.11. The token is opaque.

    ``pad`` are the octets between body and trailer; None lets `encode` choose zeros to the boundary that is asked for.
    """

    type: int  # 9 SPNEGO, 10 NTLM, 16 Kerberos, 68 Netlogon
    level: int  # 1 none, 2 connect, 3 call, 4 packet, 5 integrity, 6 privacy
    context_id: int
    token: bytes
    pad: bytes | None = None


_TYPES: Final = frozenset(PduType)
_HEADER: Final[Mapping[Order, Struct]] = {"little": Struct("<BBBB4sHHI"), "big": Struct(">BBBB4sHHI")}
_DREP: Final[Mapping[Order, bytes]] = {"little": b"\x10\0\0\0", "big": bytes(4)}
_LENGTH: Final = (Struct(">H"), Struct("<H"))


class Common(TypedDict):
    """What a decoder has found out before it looks at the body."""

    call_id: int
    flags: int
    order: Order
    auth: Auth | None
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pdu:
    """What all PDUs have. ``order`` is the byte order of every number in it, stub included."""

    type: ClassVar[PduType]
    #: Where the auth trailer begins, relative to the body, is a multiple of this. [MS-RPCE] 2.2.2.11.
    trailer_boundary: ClassVar[int] = 4

    call_id: int
    flags: int = WHOLE
    order: Order = "little"
    auth: Auth | None = None
    raw: bytes = field(default=b"", compare=False, repr=False)

    @property
    def first(self) -> bool:
        """Whether it is the first fragment of its call."""
        return bool(self.flags & FIRST)

    @property
    def last(self) -> bool:
        """Whether it is the last fragment of its call."""
        return bool(self.flags & LAST)

    @property
    def stub_at(self) -> int:
        """Offset of the stub (or of whatever comes last before the auth trailer) in the PDU's octets."""
        return HEADER_SIZE

    def encode(self) -> bytes:
        """The whole PDU. A field that does not fit, or a PDU beyond 65,535 octets, is a `WireError`."""
        writer = Writer(self.order)
        writer.octets(bytes(HEADER_SIZE))
        self._write(writer)
        token_size = 0
        if (auth := self.auth) is not None:
            token_size = len(auth.token)
            pad = bytes(-(len(writer) - self.stub_at) % self.trailer_boundary) if auth.pad is None else auth.pad
            writer.octets(pad)
            writer.u8(auth.type)
            writer.u8(auth.level)
            writer.u8(len(pad))
            writer.u8(0)
            writer.u32(auth.context_id)
            writer.octets(auth.token)
        if len(writer) > 0xFFFF:
            raise WireError("oversize", f"a PDU of {len(writer)} octets")
        if not 0 <= self.call_id <= 0xFFFFFFFF or not 0 <= self.flags <= 0xFF:
            raise WireError("range", "call id or flags")
        header = _HEADER[self.order]
        header.pack_into(
            writer.data, 0, 5, 0, self.type, self.flags, _DREP[self.order], len(writer), token_size, self.call_id
        )
        return bytes(writer)

    def _write(self, writer: Writer) -> None:
        """Write the body, without padding and trailer."""
        raise NotImplementedError

    @classmethod
    def _read(cls, common: Common, end: int) -> "Pdu":
        """Read the body, which ends at ``end`` of the raw octets."""
        raise NotImplementedError


def whole_size(buffer: bytes | bytearray, limit: int = DEFAULT_FRAGMENT) -> int | None:
    """The size of the PDU at the front of ``buffer``, or None while it is not all there.

    The header is looked at as soon as it is there: a peer that speaks something else may never send sixteen octets.
    """
    available = len(buffer)
    if available and buffer[0] != 5:
        raise WireError("version", f"RPC version {buffer[0]}")
    if available < 10:
        return None
    if buffer[2] not in _TYPES:
        raise WireError("type", f"PDU type {buffer[2]}")
    if buffer[4] >> 4 > 1:
        raise WireError("drep", f"byte order {buffer[4] >> 4}")
    size: int = _LENGTH[buffer[4] >> 4].unpack_from(buffer, 8)[0]
    if size < HEADER_SIZE:
        raise WireError("length", f"a PDU of {size} octets")
    if size > limit:
        raise WireError("oversize", f"a PDU of {size} octets, at most {limit} allowed")
    return size if available >= size else None


def read_common(raw: bytes) -> tuple[int, Common, int]:
    """The type of the PDU in ``raw``, what all types have, and where its body ends."""
    if len(raw) < HEADER_SIZE:
        raise WireError("truncated", f"header: {len(raw)} octets")
    order: Order = "little" if raw[4] >> 4 == 1 else "big"
    major, minor, kind, flags, drep, size, token_size, call_id = _HEADER[order].unpack_from(raw)
    if major != 5 or minor != 0:
        raise WireError("version", f"RPC version {major}.{minor}")
    if kind not in _TYPES:
        raise WireError("type", f"PDU type {kind}")
    if drep[0] >> 4 > 1:
        raise WireError("drep", f"byte order {drep[0] >> 4}")
    if size != len(raw):
        raise WireError("length", f"frag_length {size}, {len(raw)} octets there")
    auth, end = _read_auth(raw, order, size, token_size) if token_size else (None, size)
    return kind, {"call_id": call_id, "flags": flags, "order": order, "auth": auth, "raw": raw}, end


def _read_auth(raw: bytes, order: Order, size: int, token_size: int) -> tuple[Auth, int]:
    """The auth trailer of a PDU and where its body ends."""
    at = size - token_size - TRAILER_SIZE
    if at < HEADER_SIZE:
        raise WireError("auth", f"a token of {token_size} octets in a PDU of {size}")
    reader = Reader(raw, order, at, size)
    kind = reader.u8("auth_type")
    level = reader.u8("auth_level")
    pad_size = reader.u8("auth_pad_length")
    reader.u8("auth_reserved")
    context_id = reader.u32("auth_context_id")
    end = at - pad_size
    if end < HEADER_SIZE:
        raise WireError("auth", f"{pad_size} octets of padding in a body of {at - HEADER_SIZE}")
    return Auth(kind, level, context_id, reader.rest(), raw[end:at]), end
