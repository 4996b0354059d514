"""The PDUs of connection-oriented RPC, one value each. [C706] 12.6, [MS-RPCE] 2.2.2, [MS-RPCH] 2.2.3.6 (RTS).

`take_pdu` cuts one whole PDU off a stream; `decode_pdu` reads one; ``pdu.encode()`` writes it. Every decoded PDU keeps
its octets in ``raw``, and knows where its stub begins in them (``stub_at``), so that a gateway can pass it on untouched
or change four octets in place. Reserved fields are read over and written as zero; all else survives a round trip.

A token in an auth trailer is opaque. What stands before the trailer is not always: at privacy level a stub is
ciphertext, and nothing here tries to tell.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from struct import Struct
from types import MappingProxyType
from typing import Final, Self
from uuid import UUID

from casarray.core.dcerpc.binding import (
    AlterContext,
    AlterContextResponse,
    Bind,
    BindAck,
    BindNak,
    Context,
    ContextResult,
    NakReason,
    Reason,
    Result,
)
from casarray.core.dcerpc.cursor import Order, Reader, Writer, uuid_from_octets, uuid_to_octets
from casarray.core.dcerpc.header import (
    CONCURRENT_MULTIPLEXING,
    DEFAULT_FRAGMENT,
    DID_NOT_EXECUTE,
    FIRST,
    HEADER_SIGNING,
    HEADER_SIZE,
    LAST,
    MAYBE,
    OBJECT_UUID,
    PENDING_CANCEL,
    SMALLEST_FRAGMENT,
    TRAILER_SIZE,
    WHOLE,
    Auth,
    Common,
    Pdu,
    PduType,
    read_common,
    whole_size,
)
from casarray.core.dcerpc.syntax import NDR, NDR64, NO_SYNTAX, Syntax
from casarray.core.errors import WireError

__all__ = [
    "CONCURRENT_MULTIPLEXING",
    "DEFAULT_FRAGMENT",
    "DID_NOT_EXECUTE",
    "FIRST",
    "HEADER_SIGNING",
    "HEADER_SIZE",
    "LAST",
    "MAYBE",
    "NDR",
    "NDR64",
    "NO_SYNTAX",
    "OBJECT_UUID",
    "PENDING_CANCEL",
    "SMALLEST_FRAGMENT",
    "TRAILER_SIZE",
    "WHOLE",
    "AlterContext",
    "AlterContextResponse",
    "Auth",
    "Auth3",
    "Bind",
    "BindAck",
    "BindNak",
    "CoCancel",
    "Context",
    "ContextResult",
    "Fault",
    "NakReason",
    "Orphaned",
    "Pdu",
    "PduType",
    "Reason",
    "Request",
    "Response",
    "Result",
    "Rts",
    "Shutdown",
    "Syntax",
    "decode_pdu",
    "take_pdu",
    "whole_size",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Pdu):
    """A call, or a fragment of one. [C706] 12.6.4.9."""

    type = PduType.REQUEST
    trailer_boundary = 16

    context_id: int
    opnum: int
    stub: bytes
    object: UUID | None = None  # carried when given: the OBJECT_UUID flag follows it
    alloc_hint: int | None = None  # None: the length of this stub

    @property
    def stub_at(self) -> int:
        """Offset of the stub in the PDU's octets."""
        return 24 if self.object is None else 40

    def encode(self) -> bytes:
        """The whole PDU."""
        flags = self.flags & ~OBJECT_UUID if self.object is None else self.flags | OBJECT_UUID
        return Pdu.encode(self if flags == self.flags else replace(self, flags=flags))

    def _write(self, writer: Writer) -> None:
        writer.u32(len(self.stub) if self.alloc_hint is None else self.alloc_hint)
        writer.u16(self.context_id)
        writer.u16(self.opnum)
        if self.object is not None:
            writer.octets(uuid_to_octets(self.object, self.order))
        writer.octets(self.stub)

    @classmethod
    def _read(cls, common: Common, end: int) -> Self:
        raw, order = common["raw"], common["order"]
        with_object = common["flags"] & OBJECT_UUID
        stub_at = 40 if with_object else 24
        if end < stub_at:
            raise WireError("truncated", f"request: {stub_at} octets wanted, {end} there")
        alloc_hint, context_id, opnum = _CALL[order].unpack_from(raw, 16)
        return cls(
            **common,
            context_id=context_id,
            opnum=opnum,
            stub=raw[stub_at:end],
            object=uuid_from_octets(raw[24:40], order) if with_object else None,
            alloc_hint=alloc_hint,
        )


_CALL: Final[Mapping[Order, Struct]] = {"little": Struct("<IHH"), "big": Struct(">IHH")}
_ANSWER: Final[Mapping[Order, Struct]] = {"little": Struct("<IHB"), "big": Struct(">IHB")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Response(Pdu):
    """The answer to a call, or a fragment of one. [C706] 12.6.4.10."""

    type = PduType.RESPONSE
    trailer_boundary = 16

    context_id: int
    stub: bytes
    cancel_count: int = 0
    alloc_hint: int | None = None  # None: the length of this stub

    @property
    def stub_at(self) -> int:
        """Offset of the stub in the PDU's octets."""
        return 24

    def _write(self, writer: Writer) -> None:
        writer.u32(len(self.stub) if self.alloc_hint is None else self.alloc_hint)
        writer.u16(self.context_id)
        writer.u8(self.cancel_count)
        writer.u8(0)
        writer.octets(self.stub)

    @classmethod
    def _read(cls, common: Common, end: int) -> Self:
        raw, order = common["raw"], common["order"]
        if end < 24:
            raise WireError("truncated", f"response: 24 octets wanted, {end} there")
        alloc_hint, context_id, cancel_count = _ANSWER[order].unpack_from(raw, 16)
        return cls(
            **common,
            context_id=context_id,
            stub=raw[24:end],
            cancel_count=cancel_count,
            alloc_hint=alloc_hint,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault(Pdu):
    """A call that failed. [C706] 12.6.4.7, [MS-RPCE] 2.2.2.8 (extended error information in ``rest``)."""

    type = PduType.FAULT

    status: int
    context_id: int = 0
    cancel_count: int = 0
    fault_flags: int = 0  # bit 0: extended error information follows
    alloc_hint: int = 32
    rest: bytes = bytes(4)  # a reserved word, then whatever the server adds; both may be missing

    @property
    def stub_at(self) -> int:
        """Offset of what follows the status."""
        return 28

    def _write(self, writer: Writer) -> None:
        writer.u32(self.alloc_hint)
        writer.u16(self.context_id)
        writer.u8(self.cancel_count)
        writer.u8(self.fault_flags)
        writer.u32(self.status)
        writer.octets(self.rest)

    @classmethod
    def _read(cls, common: Common, end: int) -> Self:
        order = common["order"]
        reader = Reader(common["raw"], order, HEADER_SIZE, end)
        alloc_hint = reader.u32("fault: alloc_hint")
        context_id = reader.u16("fault: context id")
        cancel_count = reader.u8("fault: cancel count")
        fault_flags = reader.u8("fault: flags")
        return cls(
            **common,
            alloc_hint=alloc_hint,
            context_id=context_id,
            cancel_count=cancel_count,
            fault_flags=fault_flags,
            status=reader.u32("fault: status"),
            rest=reader.rest(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opaque(Pdu):
    """A PDU whose body is kept as octets."""

    body: bytes = b""

    def _write(self, writer: Writer) -> None:
        writer.octets(self.body)

    @classmethod
    def _read(cls, common: Common, end: int) -> Self:
        return cls(**common, body=common["raw"][HEADER_SIZE:end])


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth3(_Opaque):
    """The third leg of an authentication; nobody answers it. The body is four octets of padding. [MS-RPCE] 2.2.2.10."""

    type = PduType.AUTH3

    body: bytes = bytes(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown(_Opaque):
    """A server asks its client to close. [C706] 12.6.4.11."""

    type = PduType.SHUTDOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class CoCancel(_Opaque):
    """A client would rather not have this call finished. [C706] 12.6.4.6."""

    type = PduType.CO_CANCEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphaned(_Opaque):
    """A client gave up on a call, perhaps before it was sent whole. [C706] 12.6.4.8."""

    type = PduType.ORPHANED


@dataclass(frozen=True, slots=True, kw_only=True)
class Rts(_Opaque):
    """Traffic control of RPC over HTTP; its commands are [MS-RPCH]'s and stay in ``body``."""

    type = PduType.RTS


_READERS: Final[Mapping[int, Callable[[Common, int], Pdu]]] = MappingProxyType(
    {
        kind.type.value: kind._read
        for kind in (
            Request,
            Response,
            Fault,
            Bind,
            BindAck,
            BindNak,
            AlterContext,
            AlterContextResponse,
            Auth3,
            Shutdown,
            CoCancel,
            Orphaned,
            Rts,
        )
    }
)


def take_pdu(buffer: bytearray, limit: int = DEFAULT_FRAGMENT) -> Pdu | None:
    """Remove one whole PDU from the front of ``buffer``, or nothing while it is not all there.

    ``limit`` is the largest PDU allowed, in octets. A bad PDU is a `WireError` and stays where it is; all that came
    before it has been delivered. Kinds: ``version``, ``drep``, ``type``, ``length``, ``oversize``, ``auth``,
    ``truncated``, ``trailing``.
    """
    size = whole_size(buffer, limit)
    if size is None:
        return None
    pdu = decode_pdu(bytes(buffer[:size]))
    del buffer[:size]
    return pdu


def decode_pdu(raw: bytes) -> Pdu:
    """Read one PDU that fills ``raw`` from end to end; anything wrong is a `WireError`."""
    kind, common, end = read_common(raw)
    return _READERS[kind](common, end)
