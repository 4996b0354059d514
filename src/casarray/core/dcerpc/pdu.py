"""The PDUs of connection-oriented RPC, one value each. [C706] 12.6, [MS-RPCE] 2.2.2, [MS-RPCH] 2.2.3.6 (RTS).

`take_pdu` cuts one whole PDU off a stream; `decode_pdu` reads one; ``pdu.encode()`` writes it. Every decoded PDU keeps
its octets in ``raw``, and knows where its stub begins in them (``stub_at``), so that a gateway can pass it on untouched
or change four octets in place. Reserved fields are read over and written as zero; all else survives a round trip.

A token in an auth trailer is opaque. What stands before the trailer is not always: at privacy level a stub is
ciphertext, and nothing here tries to tell.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from struct import Struct
from types import MappingProxyType
from typing import Final, Self
from uuid import UUID

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
from casarray.core.dcerpc.syntax import NDR, NDR64, NO_SYNTAX, Syntax, syntax_from_octets
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


class Result(IntEnum):
    """What became of one presentation context. [C706] 12.6.3.1 (p_cont_def_result_t), [MS-RPCE] 2.2.2.4."""

    ACCEPTANCE = 0
    USER_REJECTION = 1
    PROVIDER_REJECTION = 2
    NEGOTIATE_ACK = 3


class Reason(IntEnum):
    """Why a presentation context was rejected. [C706] 12.6.3.1 (p_provider_reason_t)."""

    NOT_SPECIFIED = 0
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 1
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 2
    LOCAL_LIMIT_EXCEEDED = 3


class NakReason(IntEnum):
    """Why a bind was refused. [C706] 12.6.3.1 (p_reject_reason_t), [MS-RPCE] 2.2.2.5."""

    NOT_SPECIFIED = 0
    TEMPORARY_CONGESTION = 1
    LOCAL_LIMIT_EXCEEDED = 2
    PROTOCOL_VERSION_NOT_SUPPORTED = 4
    AUTHENTICATION_TYPE_NOT_RECOGNIZED = 8
    INVALID_CHECKSUM = 9


@dataclass(frozen=True, slots=True)
class Context:
    """A presentation context as it is offered: call this interface in one of these transfer syntaxes."""

    id: int
    interface: Syntax
    transfers: tuple[Syntax, ...]


@dataclass(frozen=True, slots=True)
class ContextResult:
    """What a server made of one offered context. For `Result.NEGOTIATE_ACK` the reason is the feature bits."""

    result: int
    reason: int
    transfer: Syntax

    @property
    def accepted(self) -> bool:
        """Whether calls may be made on it."""
        return self.result == Result.ACCEPTANCE


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
class Bind(Pdu):
    """Open an association: these interfaces, these transfer syntaxes, fragments no larger than. [C706] 12.6.4.3."""

    type = PduType.BIND

    contexts: tuple[Context, ...]
    max_xmit: int = DEFAULT_FRAGMENT
    max_recv: int = DEFAULT_FRAGMENT
    group_id: int = 0  # 0: a new association group

    def _write(self, writer: Writer) -> None:
        writer.u16(self.max_xmit)
        writer.u16(self.max_recv)
        writer.u32(self.group_id)
        writer.u8(len(self.contexts))
        writer.octets(bytes(3))
        for context in self.contexts:
            writer.u16(context.id)
            writer.u8(len(context.transfers))
            writer.u8(0)
            writer.octets(context.interface.encode(self.order))
            for transfer in context.transfers:
                writer.octets(transfer.encode(self.order))

    @classmethod
    def _read(cls, common: Common, end: int) -> Self:
        order = common["order"]
        reader = Reader(common["raw"], order, HEADER_SIZE, end)
        max_xmit = reader.u16("bind: max_xmit_frag")
        max_recv = reader.u16("bind: max_recv_frag")
        group_id = reader.u32("bind: assoc_group_id")
        count = reader.u8("bind: n_context_elem")
        reader.take(3, "bind: reserved")
        contexts = []
        for _ in range(count):
            context_id = reader.u16("context: p_cont_id")
            transfers = reader.u8("context: n_transfer_syn")
            reader.u8("context: reserved")
            interface = syntax_from_octets(reader.take(20, "context: abstract syntax"), order)
            contexts.append(
                Context(
                    context_id,
                    interface,
                    tuple(
                        syntax_from_octets(reader.take(20, "context: transfer syntax"), order) for _ in range(transfers)
                    ),
                )
            )
        _account(reader, common["auth"], cls.type)
        return cls(
            **common,
            max_xmit=max_xmit,
            max_recv=max_recv,
            group_id=group_id,
            contexts=tuple(contexts),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterContext(Bind):
    """Add interfaces to an association, or go on authenticating. [C706] 12.6.4.1."""

    type = PduType.ALTER_CONTEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class BindAck(Pdu):
    """What a server made of a bind: one result for each context, in the same order. [C706] 12.6.4.4."""

    type = PduType.BIND_ACK

    results: tuple[ContextResult, ...]
    max_xmit: int = DEFAULT_FRAGMENT
    max_recv: int = DEFAULT_FRAGMENT
    group_id: int = 0
    secondary_address: bytes = b""  # the port in digits with its NUL, as on the wire; nobody acts on it

    def _write(self, writer: Writer) -> None:
        writer.u16(self.max_xmit)
        writer.u16(self.max_recv)
        writer.u32(self.group_id)
        writer.u16(len(self.secondary_address))
        writer.octets(self.secondary_address)
        writer.align(4)
        writer.u8(len(self.results))
        writer.octets(bytes(3))
        for result in self.results:
            writer.u16(result.result)
            writer.u16(result.reason)
            writer.octets(result.transfer.encode(self.order))

    @classmethod
    def _read(cls, common: Common, end: int) -> Self:
        order = common["order"]
        reader = Reader(common["raw"], order, HEADER_SIZE, end)
        max_xmit = reader.u16("bind_ack: max_xmit_frag")
        max_recv = reader.u16("bind_ack: max_recv_frag")
        group_id = reader.u32("bind_ack: assoc_group_id")
        secondary_address = reader.take(reader.u16("bind_ack: length of sec_addr"), "bind_ack: sec_addr")
        reader.align(4, "bind_ack: padding")
        count = reader.u8("bind_ack: n_results")
        reader.take(3, "bind_ack: reserved")
        results = tuple(
            ContextResult(
                reader.u16("result"), reader.u16("reason"), syntax_from_octets(reader.take(20, "result: syntax"), order)
            )
            for _ in range(count)
        )
        _account(reader, common["auth"], cls.type)
        return cls(
            **common,
            max_xmit=max_xmit,
            max_recv=max_recv,
            group_id=group_id,
            secondary_address=secondary_address,
            results=results,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterContextResponse(BindAck):
    """What a server made of an alter_context. [C706] 12.6.4.2."""

    type = PduType.ALTER_CONTEXT_RESPONSE


@dataclass(frozen=True, slots=True, kw_only=True)
class BindNak(Pdu):
    """A bind refused as a whole, with the versions that would have done. [C706] 12.6.4.5, [MS-RPCE] 2.2.2.9."""

    type = PduType.BIND_NAK

    reason: int
    versions: tuple[tuple[int, int], ...] = ((5, 0),)
    rest: bytes = b""  # padding, or a signature UUID with extended error information

    def _write(self, writer: Writer) -> None:
        writer.u16(self.reason)
        writer.u8(len(self.versions))
        for major, minor in self.versions:
            writer.u8(major)
            writer.u8(minor)
        writer.octets(self.rest)

    @classmethod
    def _read(cls, common: Common, end: int) -> Self:
        order = common["order"]
        reader = Reader(common["raw"], order, HEADER_SIZE, end)
        reason = reader.u16("bind_nak: reason")
        # One that ends here is still clear enough.
        count = reader.u8("bind_nak: n_protocols") if reader.left else 0
        versions = tuple((reader.u8("bind_nak: major"), reader.u8("bind_nak: minor")) for _ in range(count))
        return cls(
            **common,
            reason=reason,
            versions=versions,
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


def _account(reader: Reader, auth: Auth | None, kind: PduType) -> None:
    """Nothing may be left of a body, but before an auth trailer it is borne with: some do not count their padding, and
    impacket's alter_context carries its contexts twice and counts them once."""
    if kind is PduType.ALTER_CONTEXT_RESPONSE and reader.left == TRAILER_SIZE:
        return  # Samba's trailer when it has no more to say: it holds no token, so the header counts none
    if reader.left and auth is None:
        raise WireError("trailing", f"{kind.name}: {reader.left} octets nobody accounts for")
