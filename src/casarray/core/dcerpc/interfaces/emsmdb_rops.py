"""What is said within a session of EMSMDB, as far as a logon: EcDoRpcExt2 and the remote operations in it.

A remote operation (ROP) asks for something and is answered by its own kind; one call carries several. They stand in a
ROP buffer, which stands in an extended buffer (`emsmdb_frames`), which stands in EcDoRpcExt2. [MS-OXCRPC] 3.1.4.2,
[MS-OXCROPS] 2.2.1. Little-endian and unaligned, all of it.

A logon is the first thing a client asks for, and it is where a server may say "not here, but there": `LogonRedirect`.
How long an operation is one knows only from its kind, so what follows an unknown one is a part of it: `UnknownRop`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum, IntFlag
from typing import Self, TypeVar
from uuid import UUID

from casarray.core.dcerpc.cursor import NIL, Order, Reader, Writer
from casarray.core.dcerpc.interfaces.emsmdb import AUX_MAX, EcResult
from casarray.core.dcerpc.interfaces.emsmdb_frames import frame, payloads
from casarray.core.dcerpc.ndr import ContextHandle, NdrReader, NdrWriter
from casarray.core.errors import WireError

BUFFER_MAX = 0x40000  # [MS-OXCRPC] 2.2.1.3, BIG_RANGE_ULONG

#: `EcDoRpcExt2.flags`, what a client wants of the answer: not compressed, not obfuscated, several buffers in one.
NO_COMPRESSION = 1
NO_XOR_MAGIC = 2
CHAIN = 4


def _read_size(stub: NdrReader, limit: int, what: str) -> int:
    size = stub.u32(what)
    if size > limit:
        raise WireError("range", f"{what}: {size}, at most {limit} allowed")
    return size


def _announced(octets: bytes, size: int, what: str) -> bytes:
    if size != len(octets):
        raise WireError("range", f"{what}: {size} octets announced, {len(octets)} there")
    return octets


@dataclass(frozen=True, slots=True)
class EcDoRpcExt2:
    """Remote operations for the server. [MS-OXCRPC] 3.1.4.2.

    ``long EcDoRpcExt2([in, out, ref] CXH* pcxh, [in, out] unsigned long* pulFlags, [in, size_is(cbIn)] unsigned char
    rgbIn[], [in] unsigned long cbIn, [out, length_is(*pcbOut), size_is(*pcbOut)] unsigned char rgbOut[], [in, out]
    BIG_RANGE_ULONG* pcbOut, [in, size_is(cbAuxIn)] unsigned char rgbAuxIn[], [in] unsigned long cbAuxIn, [out,
    length_is(*pcbAuxOut), size_is(*pcbAuxOut)] unsigned char rgbAuxOut[], [in, out] SMALL_RANGE_ULONG* pcbAuxOut,
    [out] unsigned long* pulTransTime)``
    """

    session: ContextHandle
    rops: bytes  # extended buffers: `request_octets` makes them
    flags: int = NO_COMPRESSION | NO_XOR_MAGIC
    out_max: int = 0x8000  # room for the answer; Outlook allows no less
    aux_in: bytes = b""
    aux_out_max: int = AUX_MAX

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the request."""
        stub = NdrWriter(order, ndr64)
        stub.handle(self.session)
        stub.u32(self.flags)
        stub.conformant(self.rops)
        stub.u32(len(self.rops))
        stub.u32(self.out_max)
        stub.conformant(self.aux_in)
        stub.u32(len(self.aux_in))
        stub.u32(self.aux_out_max)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The request in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        session = stub.handle("EcDoRpcExt2: session")
        flags = stub.u32("EcDoRpcExt2: flags")
        rops = stub.conformant("EcDoRpcExt2: buffer", BUFFER_MAX)
        _announced(rops, stub.u32("EcDoRpcExt2: size"), "EcDoRpcExt2: buffer")
        out_max = _read_size(stub, BUFFER_MAX, "EcDoRpcExt2: room")
        aux_in = stub.conformant("EcDoRpcExt2: aux", AUX_MAX)
        _announced(aux_in, stub.u32("EcDoRpcExt2: aux size"), "EcDoRpcExt2: aux")
        return cls(session, rops, flags, out_max, aux_in, _read_size(stub, AUX_MAX, "EcDoRpcExt2: room for aux"))


@dataclass(frozen=True, slots=True)
class EcDoRpcExt2Reply:
    """What came of them; a nil session if the server has ended it. [MS-OXCRPC] 3.1.4.2. In the order of the wire:

    ``*pcxh, *pulFlags, rgbOut[size_is(*pcbOut), length_is(*pcbOut)], *pcbOut, rgbAuxOut[...], *pcbAuxOut,
    *pulTransTime, result``
    """

    session: ContextHandle
    rops: bytes = b""  # extended buffers: `reply_octets` makes them
    flags: int = 0
    aux_out: bytes = b""
    took_ms: int = 0
    result: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the response."""
        stub = NdrWriter(order, ndr64)
        stub.handle(self.session)
        stub.u32(self.flags)
        stub.conformant_varying(self.rops)
        stub.u32(len(self.rops))
        stub.conformant_varying(self.aux_out)
        stub.u32(len(self.aux_out))
        stub.u32(self.took_ms)
        stub.u32(self.result)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The response in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        session = stub.handle("EcDoRpcExt2 reply: session")
        flags = stub.u32("EcDoRpcExt2 reply: flags")
        rops = stub.conformant_varying("EcDoRpcExt2 reply: buffer", BUFFER_MAX)
        _announced(rops, stub.u32("EcDoRpcExt2 reply: size"), "EcDoRpcExt2 reply: buffer")
        aux = stub.conformant_varying("EcDoRpcExt2 reply: aux", AUX_MAX)
        _announced(aux, stub.u32("EcDoRpcExt2 reply: aux size"), "EcDoRpcExt2 reply: aux")
        took = stub.u32("EcDoRpcExt2 reply: time")
        return cls(session, rops, flags, aux, took, stub.u32("EcDoRpcExt2 reply: result"))


class RopId(IntEnum):
    """Kinds of operations that are known here. [MS-OXCROPS] 2.2.2."""

    RELEASE = 0x01
    LOGON = 0xFE


class LogonFlag(IntFlag):
    """`RopLogon.logon_flags`. [MS-OXCSTOR] 2.2.1.1.1."""

    PRIVATE = 1  # a mailbox; without it, public folders
    UNDERCOVER = 2
    GHOSTED = 4
    SPOOLER = 8


#: Those of a request's flags that an answer repeats. [MS-OXCSTOR] 2.2.1.1.2.
REPEATED_FLAGS = LogonFlag.PRIVATE | LogonFlag.UNDERCOVER | LogonFlag.GHOSTED


class OpenFlag(IntFlag):
    """`RopLogon.open_flags`. [MS-OXCSTOR] 2.2.1.1.1."""

    USE_ADMIN_PRIVILEGE = 0x1
    PUBLIC = 0x2
    HOME_LOGON = 0x4
    TAKE_OWNERSHIP = 0x8
    ALTERNATE_SERVER = 0x100
    IGNORE_HOME_MDB = 0x200  # public folders that are not the user's own: do not redirect
    NO_MAIL = 0x400
    USE_PER_MDB_REPLID_MAPPING = 0x01000000
    SUPPORT_PROGRESS = 0x20000000


#: A handle that is none, in the table of handles. [MS-OXCROPS] 2.2.1.
NO_HANDLE = 0xFFFFFFFF

FOLDERS = (
    13  # root, deferred action, spooler queue, top of information store, inbox, outbox ...: [MS-OXCSTOR] 2.2.1.1.3
)


@dataclass(frozen=True, slots=True)
class RopLogon:
    """Opens a mailbox, or public folders. [MS-OXCROPS] 2.2.3.1.1."""

    mailbox_dn: str  # the legacyExchangeDN of its owner; empty for public folders
    logon_flags: int = LogonFlag.PRIVATE
    open_flags: int = OpenFlag.HOME_LOGON | OpenFlag.TAKE_OWNERSHIP | OpenFlag.USE_PER_MDB_REPLID_MAPPING
    logon_id: int = 0  # what the client will call it
    handle_index: int = 0  # where in the table of handles its handle shall stand
    store_state: int = 0

    @property
    def is_private(self) -> bool:
        """Whether a mailbox is wanted."""
        return bool(self.logon_flags & LogonFlag.PRIVATE)


@dataclass(frozen=True, slots=True)
class RopRelease:
    """Closes what a handle stands for; it is never answered. [MS-OXCROPS] 2.2.15.3."""

    handle_index: int = 0
    logon_id: int = 0


@dataclass(frozen=True, slots=True)
class UnknownRop:
    """An operation of another kind, and all that follows it."""

    rop_id: int
    octets: bytes  # what follows the octet of its kind

    @property
    def handle_index(self) -> int:
        """Where its handle stands, in a request: its third octet, as [MS-OXCROPS] 2.2 has it everywhere; 0 if cut."""
        return self.octets[1] if len(self.octets) > 1 else 0


@dataclass(frozen=True, slots=True)
class LogonSuccess:
    """A mailbox is open. [MS-OXCROPS] 2.2.3.1.2, [MS-OXCSTOR] 2.2.1.1.3."""

    mailbox_guid: UUID
    logon_time: datetime  # UTC, to the second
    logon_flags: int = LogonFlag.PRIVATE
    folder_ids: tuple[int, ...] = (0,) * FOLDERS
    response_flags: int = 0x07  # as always, owner, may send
    replica_id: int = 1
    replica_guid: UUID = NIL
    gwart_time: int = 0
    store_state: int = 0
    handle_index: int = 0


@dataclass(frozen=True, slots=True)
class PublicLogonSuccess:
    """Public folders are open. [MS-OXCROPS] 2.2.3.1.3, [MS-OXCSTOR] 2.2.1.1.4."""

    logon_flags: int = 0
    folder_ids: tuple[int, ...] = (0,) * FOLDERS
    replica_id: int = 1
    replica_guid: UUID = NIL
    per_user_guid: UUID = NIL
    handle_index: int = 0


@dataclass(frozen=True, slots=True)
class LogonRedirect:
    """Not here, but there: ecWrongServer. [MS-OXCROPS] 2.2.3.1.4, [MS-OXCSTOR] 2.2.1.1.2.

    The client asks RFR for the host name behind the DN, and logs on anew there.
    """

    server_dn: str  # ``/o=../ou=../cn=Configuration/cn=Servers/cn=<server or array>``, at most 254 characters
    logon_flags: int = LogonFlag.PRIVATE
    handle_index: int = 0


@dataclass(frozen=True, slots=True)
class RopFailure:
    """An operation that failed; its answer ends after the result. [MS-OXCROPS] 2.2.1."""

    result: int
    rop_id: int = RopId.LOGON
    handle_index: int = 0


Rop = TypeVar("Rop")
RopRequest = RopLogon | RopRelease | UnknownRop
RopReply = LogonSuccess | PublicLogonSuccess | LogonRedirect | RopFailure | UnknownRop


def request_octets(rops: Sequence[RopRequest], handles: Sequence[int] = (NO_HANDLE,)) -> bytes:
    """Requests and the table of handles their indices point into, for `EcDoRpcExt2.rops`."""
    return _buffer(rops, handles, _write_request)


def read_requests(octets: bytes) -> tuple[tuple[RopRequest, ...], tuple[int, ...]]:
    """The requests in `EcDoRpcExt2.rops`, and the table of handles; or `WireError`.

    Of several buffers the operations follow each other, and the handles are the first one's.
    """
    return _split(octets, _read_request)


def reply_octets(rops: Sequence[RopReply], handles: Sequence[int] = ()) -> bytes:
    """Answers and the table of handles as it now is, for `EcDoRpcExt2Reply.rops`."""
    return _buffer(rops, handles, _write_reply)


def read_replies(octets: bytes) -> tuple[tuple[RopReply, ...], tuple[int, ...]]:
    """The answers in `EcDoRpcExt2Reply.rops`, and the table of handles; or `WireError`."""
    return _split(octets, _read_reply)


def _buffer(rops: Sequence[Rop], handles: Sequence[int], write: Callable[[Writer, Rop], None]) -> bytes:
    listed = Writer()
    for rop in rops:
        write(listed, rop)
    octets = Writer()
    octets.u16(2 + len(listed))  # RopSize counts itself
    octets.octets(bytes(listed))
    for handle in handles:
        octets.u32(handle)
    return frame(bytes(octets))


def _split(octets: bytes, read: Callable[[Reader], Rop]) -> tuple[tuple[Rop, ...], tuple[int, ...]]:
    rops: list[Rop] = []
    handles: tuple[int, ...] | None = None
    for payload in payloads(octets):
        whole = Reader(payload)
        listed = Reader(whole.take(whole.u16("ROP buffer: size") - 2, "ROP buffer"))
        while listed.left:
            rops.append(read(listed))
        table = tuple([whole.u32("ROP buffer: handle") for _ in range((whole.left + 3) // 4)])
        handles = table if handles is None else handles
    return tuple(rops), handles or ()


def _write_request(octets: Writer, rop: RopRequest) -> None:
    match rop:
        case RopLogon():
            name = _latin(rop.mailbox_dn) + b"\0" if rop.mailbox_dn else b""
            octets.u8(RopId.LOGON)
            for small in (rop.logon_id, rop.handle_index, rop.logon_flags):
                octets.u8(small)
            octets.u32(rop.open_flags)
            octets.u32(rop.store_state)
            octets.u16(len(name))
            octets.octets(name)
        case RopRelease(handle_index, logon_id):
            octets.u8(RopId.RELEASE)
            octets.u8(logon_id)
            octets.u8(handle_index)
        case UnknownRop(rop_id, rest):
            octets.u8(rop_id)
            octets.octets(rest)


def _read_request(octets: Reader) -> RopRequest:
    match octets.u8("ROP: kind"):
        case RopId.LOGON:
            logon_id, handle_index, flags = [octets.u8("RopLogon: numbers") for _ in range(3)]
            open_flags, state = octets.u32("RopLogon: open flags"), octets.u32("RopLogon: store state")
            name = octets.take(octets.u16("RopLogon: size of the DN"), "RopLogon: DN")
            return RopLogon(_text(name), flags, open_flags, logon_id, handle_index, state)
        case RopId.RELEASE:
            logon_id = octets.u8("RopRelease: logon")
            return RopRelease(octets.u8("RopRelease: handle"), logon_id)
        case other:
            return UnknownRop(other, octets.rest())


def _write_reply(octets: Writer, rop: RopReply) -> None:
    match rop:
        case LogonSuccess():
            _write_head(octets, RopId.LOGON, rop.handle_index, EcResult.SUCCESS)
            _write_private(octets, rop)
        case PublicLogonSuccess():
            _write_head(octets, RopId.LOGON, rop.handle_index, EcResult.SUCCESS)
            _write_folders(octets, rop.logon_flags, rop.folder_ids)
            octets.u16(rop.replica_id)
            octets.uuid(rop.replica_guid)
            octets.uuid(rop.per_user_guid)
        case LogonRedirect(server_dn, flags, handle_index):
            name = _latin(server_dn) + b"\0"
            _write_head(octets, RopId.LOGON, handle_index, EcResult.WRONG_SERVER)
            octets.u8(flags)
            octets.u8(len(name))
            octets.octets(name)
        case RopFailure(result, rop_id, handle_index):
            _write_head(octets, rop_id, handle_index, result)
        case UnknownRop(rop_id, rest):
            octets.u8(rop_id)
            octets.octets(rest)


def _read_reply(octets: Reader) -> RopReply:
    """The answer to anything but a logon is cut off after its result, if it failed, and else unknown."""
    start = octets.at
    kind = octets.u8("ROP: kind")
    handle_index, result = octets.u8("ROP: handle"), octets.u32("ROP: result")
    if kind != RopId.LOGON and result == EcResult.SUCCESS:
        octets.at = start + 1
        return UnknownRop(kind, octets.rest())
    if kind != RopId.LOGON or result not in (EcResult.SUCCESS, EcResult.WRONG_SERVER):
        return RopFailure(result, kind, handle_index)
    flags = octets.u8("RopLogon: flags")
    if result == EcResult.WRONG_SERVER:
        name = octets.take(octets.u8("RopLogon: size of the server's name"), "RopLogon: server")
        return LogonRedirect(_text(name), flags, handle_index)
    folders = tuple([octets.u64("RopLogon: folder") for _ in range(FOLDERS)])
    if flags & LogonFlag.PRIVATE:
        return _read_private(octets, flags, folders, handle_index)
    replica_id, replica = octets.u16("RopLogon: replica"), octets.uuid("RopLogon: replica")
    return PublicLogonSuccess(flags, folders, replica_id, replica, octets.uuid("RopLogon: per user"), handle_index)


def _write_head(octets: Writer, rop_id: int, handle_index: int, result: int) -> None:
    octets.u8(rop_id)
    octets.u8(handle_index)
    octets.u32(result)


def _write_folders(octets: Writer, flags: int, folders: tuple[int, ...]) -> None:
    if len(folders) != FOLDERS:
        raise WireError("range", f"a logon with {len(folders)} folders, {FOLDERS} there must be")
    octets.u8(flags)
    for folder in folders:
        octets.u64(folder)


def _write_private(octets: Writer, rop: LogonSuccess) -> None:
    _write_folders(octets, rop.logon_flags, rop.folder_ids)
    octets.u8(rop.response_flags)
    octets.uuid(rop.mailbox_guid)
    octets.u16(rop.replica_id)
    octets.uuid(rop.replica_guid)
    when = rop.logon_time
    for part in (when.second, when.minute, when.hour, when.isoweekday() % 7, when.day, when.month):
        octets.u8(part)
    octets.u16(when.year)
    octets.u64(rop.gwart_time)
    octets.u32(rop.store_state)


def _read_private(octets: Reader, flags: int, folders: tuple[int, ...], handle_index: int) -> LogonSuccess:
    response_flags = octets.u8("RopLogon: response flags")
    mailbox = octets.uuid("RopLogon: mailbox")
    replica_id, replica = octets.u16("RopLogon: replica"), octets.uuid("RopLogon: replica")
    second, minute, hour, _, day, month = octets.take(6, "RopLogon: time")
    try:
        when = datetime(octets.u16("RopLogon: year"), month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise WireError("time", f"RopLogon: {error}") from None
    gwart, state = octets.u64("RopLogon: GWART time"), octets.u32("RopLogon: store state")
    return LogonSuccess(mailbox, when, flags, folders, response_flags, replica_id, replica, gwart, state, handle_index)


def _latin(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise WireError("text", "a DN that one octet a character cannot carry") from None


def _text(octets: bytes) -> str:
    return octets.partition(b"\0")[0].decode("latin-1")
