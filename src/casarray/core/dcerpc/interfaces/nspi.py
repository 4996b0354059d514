"""NSPI, the address book interface: opening and closing it, and where a client stands in it.

What is asked in between is in `nspi_calls` (tables) and `nspi_names` (one entry, a name check), what it is asked about
in `nspi_properties`. The calls that change entries or show templates are spoken by nobody here.

Every server answers a bind with a GUID of its own, and what it hands out afterwards means nothing to another server:
the address book needs affinity as much as the mailbox does. [MS-OXNSPI] 3.1.4.1.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Self
from uuid import UUID

from casarray.core.dcerpc.cursor import NIL, Order
from casarray.core.dcerpc.ndr import NIL_HANDLE, ContextHandle, NdrReader, NdrWriter
from casarray.core.dcerpc.syntax import Syntax

NSPI = Syntax(UUID("f5cc5a18-4264-101a-8c59-08002b2f8426"), 56, 0)

UNBIND_SUCCESS = 1  # not 0, unlike everywhere else
UNBIND_FAILURE = 2
CODE_PAGE_UNICODE = 0x4B0  # refused in a bind: strings of one octet a character need a code page


class Opnum(IntEnum):
    """[MS-OXNSPI] 3.1.4.1, those that are spoken here."""

    BIND = 0
    UNBIND = 1
    UPDATE_STAT = 2
    QUERY_ROWS = 3
    GET_MATCHES = 5
    DN_TO_MID = 7
    GET_PROP_LIST = 8
    GET_PROPS = 9
    COMPARE_MIDS = 10
    GET_SPECIAL_TABLE = 12
    QUERY_COLUMNS = 16
    RESOLVE_NAMES = 19
    RESOLVE_NAMES_W = 20


class NspiResult(IntEnum):
    """How a call ended. [MS-OXNSPI] 2.2.1.2. NspiUnbind alone has numbers of its own, above."""

    SUCCESS = 0
    ERRORS_RETURNED = 0x00040380  # a row, but not all the properties of it
    GENERAL_FAILURE = 0x80004005
    NOT_SUPPORTED = 0x80040102
    INVALID_OBJECT = 0x80040108
    OUT_OF_RESOURCES = 0x8004010E
    NOT_FOUND = 0x8004010F
    LOGON_FAILED = 0x80040111
    TOO_COMPLEX = 0x80040117
    INVALID_CODE_PAGE = 0x8004011E
    INVALID_LOCALE = 0x8004011F
    TABLE_TOO_BIG = 0x80040403
    INVALID_BOOKMARK = 0x80040405
    ACCESS_DENIED = 0x80070005
    OUT_OF_MEMORY = 0x8007000E
    INVALID_PARAMETER = 0x80070057


@dataclass(frozen=True, slots=True)
class Stat:
    """Where in which table a client stands, and how it wants strings. [MS-OXNSPI] 2.2.8. ``delta`` is signed."""

    sort_type: int = 0
    container_id: int = 0
    current_record: int = 0
    delta: int = 0
    position: int = 0
    total_records: int = 0
    code_page: int = 1252
    template_locale: int = 0x409
    sort_locale: int = 0x409

    def write(self, stub: NdrWriter) -> None:
        """Append it to a stub."""
        stub.align_structure(pointers=False)
        for value in (
            self.sort_type,
            self.container_id,
            self.current_record,
            self.delta & 0xFFFFFFFF,
            self.position,
            self.total_records,
            self.code_page,
            self.template_locale,
            self.sort_locale,
        ):
            stub.u32(value)

    @classmethod
    def read(cls, stub: NdrReader) -> Self:
        """Take it from a stub."""
        stub.align_structure("STAT", pointers=False)
        sort_type, container, current, delta, position, total, page, template, sort = [
            stub.u32("STAT") for _ in range(9)
        ]
        signed = delta - (1 << 32) if delta >> 31 else delta
        return cls(sort_type, container, current, signed, position, total, page, template, sort)


def _read_guid(stub: NdrReader, what: str) -> UUID | None:
    """``[unique] FlatUID_r*``: octets, not a GUID structure, so the byte order of the sender does not touch it."""
    return UUID(bytes_le=stub.take(16, what)) if stub.pointer(what) else None


def _write_guid(stub: NdrWriter, guid: UUID | None) -> None:
    stub.pointer(guid is not None)
    if guid is not None:
        stub.octets(guid.bytes_le)


@dataclass(frozen=True, slots=True)
class NspiBind:
    """Opens the address book. [MS-OXNSPI] 3.1.4.1.1.

    ``long NspiBind([in] handle_t hRpc, [in] DWORD dwFlags, [in] STAT* pStat, [in, out, unique] FlatUID_r* pServerGuid,
    [out, ref] NSPI_HANDLE* contextHandle)``
    """

    flags: int = 0
    stat: Stat = field(default_factory=Stat)
    server_guid: UUID | None = NIL  # null: the server need not tell its own

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the request."""
        stub = NdrWriter(order, ndr64)
        stub.u32(self.flags)
        self.stat.write(stub)
        _write_guid(stub, self.server_guid)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The request in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        flags = stub.u32("NspiBind: flags")
        stat = Stat.read(stub)
        return cls(flags, stat, _read_guid(stub, "NspiBind: GUID"))


@dataclass(frozen=True, slots=True)
class NspiBindReply:
    """The server's GUID and a handle. [MS-OXNSPI] 3.1.4.1.1."""

    server_guid: UUID | None
    handle: ContextHandle = NIL_HANDLE
    result: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the response."""
        stub = NdrWriter(order, ndr64)
        _write_guid(stub, self.server_guid)
        stub.handle(self.handle)
        stub.u32(self.result)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The response in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        guid = _read_guid(stub, "NspiBind reply: GUID")
        handle = stub.handle("NspiBind reply: handle")
        return cls(guid, handle, stub.u32("NspiBind reply: result"))


@dataclass(frozen=True, slots=True)
class NspiUnbind:
    """Closes the address book: ``DWORD NspiUnbind([in, out] NSPI_HANDLE* contextHandle, [in] DWORD Reserved)``."""

    handle: ContextHandle
    reserved: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the request."""
        stub = NdrWriter(order, ndr64)
        stub.handle(self.handle)
        stub.u32(self.reserved)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The request in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        handle = stub.handle("NspiUnbind: handle")
        return cls(handle, stub.u32("NspiUnbind: reserved"))


@dataclass(frozen=True, slots=True)
class NspiUnbindReply:
    """A nil handle and `UNBIND_SUCCESS`, when all went well. [MS-OXNSPI] 3.1.4.1.2."""

    handle: ContextHandle = NIL_HANDLE
    result: int = UNBIND_SUCCESS

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the response."""
        stub = NdrWriter(order, ndr64)
        stub.handle(self.handle)
        stub.u32(self.result)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The response in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        handle = stub.handle("NspiUnbind reply: handle")
        return cls(handle, stub.u32("NspiUnbind reply: result"))
