"""The PDUs that open an association: bind, alter_context and what a server answers. [C706] 12.6.4, [MS-RPCE] 2.2.2."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from casarray.core.dcerpc.cursor import Reader, Writer
from casarray.core.dcerpc.header import (
    DEFAULT_FRAGMENT,
    HEADER_SIZE,
    TRAILER_SIZE,
    Auth,
    Common,
    Pdu,
    PduType,
)
from casarray.core.dcerpc.syntax import Syntax, syntax_from_octets
from casarray.core.errors import WireError


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


def _account(reader: Reader, auth: Auth | None, kind: PduType) -> None:
    """Nothing may be left of a body, but before an auth trailer it is borne with: some do not count their padding, and
    impacket's alter_context carries its contexts twice and counts them once."""
    if kind is PduType.ALTER_CONTEXT_RESPONSE and reader.left == TRAILER_SIZE:
        return  # Samba's trailer when it has no more to say: it holds no token, so the header counts none
    if reader.left and auth is None:
        raise WireError("trailing", f"{kind.name}: {reader.left} octets nobody accounts for")
