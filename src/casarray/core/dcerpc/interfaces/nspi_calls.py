"""The calls of NSPI between bind and unbind that walk through a table or look into one. [MS-OXNSPI] 3.1.4.1.

Those that ask about one entry, or for an entry by its name, are in `nspi_names`. Numbers of calls: `nspi.Opnum`. Every
call begins with the handle that NspiBind gave, and every answer ends with a result, 0 if all went well.
"""

from dataclasses import dataclass, field
from typing import Self
from uuid import UUID

from casarray.core.dcerpc.cursor import Order
from casarray.core.dcerpc.interfaces.nspi import Stat
from casarray.core.dcerpc.interfaces.nspi_properties import PropertyRowSet, PropertyTagArray
from casarray.core.dcerpc.interfaces.nspi_restrictions import (
    Restriction,
    read_restriction_pointer,
    write_restriction_pointer,
)
from casarray.core.dcerpc.interfaces.nspi_values import (
    VALUES_MAX,
    read_rows_pointer,
    read_tags_pointer,
    write_rows_pointer,
    write_tags_pointer,
)
from casarray.core.dcerpc.ndr import ContextHandle, NdrReader, NdrWriter
from casarray.core.errors import WireError

#: `NspiQueryRows.flags`, `NspiGetProps.flags`: leave out tables; entry ids of the ephemeral kind. [MS-OXNSPI] 2.2.1.12.
SKIP_OBJECTS = 0x1
EPHEMERAL_IDS = 0x2

#: `NspiGetSpecialTable.flags`. [MS-OXNSPI] 2.2.1.13.
ADDRESS_CREATION_TEMPLATES = 0x2
UNICODE_STRINGS = 0x4

#: `Stat.sort_type`. [MS-OXNSPI] 2.2.1.10.
SORT_TYPES = (0, 3, 1000, 1001)


def _signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value


def read_stat(stub: NdrReader, pointed: bool) -> Stat:
    """``[in] STAT* pStat``, a reference, which leaves no trace on the wire; ``pointed`` if its sender left one."""
    if pointed:
        stub.pointer("STAT: referent")
    return Stat.read(stub)


def stat_is_pointed_to(stub: NdrReader, stat: Stat) -> bool:
    """Whether a call that was read wants to be read again, with a referent before its STAT.

    impacket 0.13 puts one there in NspiGetProps and NspiGetSpecialTable, though not elsewhere. Read without it, its
    sort type is none and octets are left over.
    """
    return stat.sort_type not in SORT_TYPES and stub.left > 0


@dataclass(frozen=True, slots=True)
class NspiUpdateStat:
    """Moves in a table without reading it. [MS-OXNSPI] 3.1.4.1.4.

    ``long NspiUpdateStat([in] NSPI_HANDLE hRpc, [in] DWORD Reserved, [in, out] STAT* pStat,
    [in, out, unique] long* plDelta)``
    """

    handle: ContextHandle
    stat: Stat = field(default_factory=Stat)
    delta: int | None = None  # None: the client does not care how far it went; its value means nothing
    reserved: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the request."""
        stub = NdrWriter(order, ndr64)
        stub.handle(self.handle)
        stub.u32(self.reserved)
        self.stat.write(stub)
        _write_delta(stub, self.delta)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The request in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        handle = stub.handle("NspiUpdateStat: handle")
        reserved = stub.u32("NspiUpdateStat: reserved")
        stat = Stat.read(stub)
        return cls(handle, stat, _read_delta(stub, "NspiUpdateStat: delta"), reserved)


@dataclass(frozen=True, slots=True)
class NspiUpdateStatReply:
    """Where the client stands now, and how far that is from where it stood. [MS-OXNSPI] 3.1.4.1.4."""

    stat: Stat
    delta: int | None = None
    result: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the response."""
        stub = NdrWriter(order, ndr64)
        self.stat.write(stub)
        _write_delta(stub, self.delta)
        stub.u32(self.result)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The response in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        stat = Stat.read(stub)
        delta = _read_delta(stub, "NspiUpdateStat reply: delta")
        return cls(stat, delta, stub.u32("NspiUpdateStat reply: result"))


def _write_delta(stub: NdrWriter, delta: int | None) -> None:
    stub.pointer(delta is not None)
    if delta is not None:
        stub.u32(delta & 0xFFFFFFFF)


def _read_delta(stub: NdrReader, what: str) -> int | None:
    return _signed(stub.u32(what)) if stub.pointer(what) else None


@dataclass(frozen=True, slots=True)
class NspiQueryRows:
    """Reads rows from a table, or those of a list of minimal entry ids. [MS-OXNSPI] 3.1.4.1.8.

    ``long NspiQueryRows([in] NSPI_HANDLE hRpc, [in] DWORD dwFlags, [in, out] STAT* pStat,
    [in, range(0,100000)] DWORD dwETableCount, [in, unique, size_is(dwETableCount)] DWORD* lpETable, [in] DWORD Count,
    [in, unique] PropertyTagArray_r* pPropTags, [out] PropertyRowSet_r** ppRows)``
    """

    handle: ContextHandle
    stat: Stat = field(default_factory=Stat)
    count: int = 50
    tags: PropertyTagArray | None = None  # None: those that the server thinks right
    minimal_ids: tuple[int, ...] | None = None  # None: the table that the STAT names
    flags: int = SKIP_OBJECTS

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the request."""
        ids = self.minimal_ids
        stub = NdrWriter(order, ndr64)
        stub.handle(self.handle)
        stub.u32(self.flags)
        self.stat.write(stub)
        stub.u32(len(ids or ()))
        stub.pointer(ids is not None)
        if ids is not None:
            stub.count(len(ids))
            for one in ids:
                stub.u32(one)
        stub.u32(self.count)
        write_tags_pointer(stub, self.tags)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The request in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        handle = stub.handle("NspiQueryRows: handle")
        flags = stub.u32("NspiQueryRows: flags")
        stat = Stat.read(stub)
        announced, ids = stub.u32("NspiQueryRows: number of entries"), None
        if stub.pointer("NspiQueryRows: entries"):
            size = stub.count("NspiQueryRows: entries", VALUES_MAX)
            ids = tuple([stub.u32("NspiQueryRows: entry") for _ in range(size)])
        if announced != len(ids or ()):
            raise WireError("range", f"NspiQueryRows: {announced} entries announced, {len(ids or ())} there")
        count = stub.u32("NspiQueryRows: count")
        return cls(handle, stat, count, read_tags_pointer(stub, "NspiQueryRows: tags"), ids, flags)


@dataclass(frozen=True, slots=True)
class NspiQueryRowsReply:
    """The rows, and where the client stands after them. [MS-OXNSPI] 3.1.4.1.8."""

    stat: Stat
    rows: PropertyRowSet | None = None
    result: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the response."""
        stub = NdrWriter(order, ndr64)
        self.stat.write(stub)
        write_rows_pointer(stub, self.rows)
        stub.u32(self.result)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The response in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        stat = Stat.read(stub)
        rows = read_rows_pointer(stub, "NspiQueryRows reply: rows")
        return cls(stat, rows, stub.u32("NspiQueryRows reply: result"))


@dataclass(frozen=True, slots=True)
class PropertyName:
    """A property by a name instead of a tag: ``PropertyName_r``, [MS-OXNSPI] 2.2.6."""

    guid: UUID | None
    id: int
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class NspiGetMatches:
    """Looks for entries that satisfy a restriction; a name check is one on PR_ANR. [MS-OXNSPI] 3.1.4.1.10.

    ``long NspiGetMatches([in] NSPI_HANDLE hRpc, [in] DWORD Reserved1, [in, out] STAT* pStat,
    [in, unique] PropertyTagArray_r* pReserved, [in] DWORD Reserved2, [in, unique] Restriction_r* Filter,
    [in, unique] PropertyName_r* lpPropName, [in] DWORD ulRequested, [out] PropertyTagArray_r** ppOutMIds,
    [in, unique] PropertyTagArray_r* pPropTags, [out] PropertyRowSet_r** ppRows)``
    """

    handle: ContextHandle
    stat: Stat = field(default_factory=Stat)
    restriction: Restriction | None = None
    tags: PropertyTagArray | None = None
    requested: int = 50  # at most so many entries
    property_name: PropertyName | None = None
    reserved: int = 0
    reserved_ids: tuple[int, ...] | None = None
    reserved_options: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the request."""
        stub = NdrWriter(order, ndr64)
        stub.handle(self.handle)
        stub.u32(self.reserved)
        self.stat.write(stub)
        write_tags_pointer(stub, self.reserved_ids)
        stub.u32(self.reserved_options)
        write_restriction_pointer(stub, self.restriction)
        _write_property_name(stub, self.property_name)
        stub.u32(self.requested)
        write_tags_pointer(stub, self.tags)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The request in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        handle = stub.handle("NspiGetMatches: handle")
        reserved = stub.u32("NspiGetMatches: reserved")
        stat = Stat.read(stub)
        ids = read_tags_pointer(stub, "NspiGetMatches: reserved entries")
        options = stub.u32("NspiGetMatches: reserved options")
        restriction = read_restriction_pointer(stub, "NspiGetMatches: restriction")
        name = _read_property_name(stub, "NspiGetMatches: property name")
        requested = stub.u32("NspiGetMatches: requested")
        tags = read_tags_pointer(stub, "NspiGetMatches: tags")
        return cls(handle, stat, restriction, tags, requested, name, reserved, ids, options)


@dataclass(frozen=True, slots=True)
class NspiGetMatchesReply:
    """Which entries, and their properties if some were asked for. [MS-OXNSPI] 3.1.4.1.10."""

    stat: Stat
    minimal_ids: tuple[int, ...] | None = None
    rows: PropertyRowSet | None = None
    result: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the response."""
        stub = NdrWriter(order, ndr64)
        self.stat.write(stub)
        write_tags_pointer(stub, self.minimal_ids)
        write_rows_pointer(stub, self.rows)
        stub.u32(self.result)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The response in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        stat = Stat.read(stub)
        ids = read_tags_pointer(stub, "NspiGetMatches reply: entries")
        rows = read_rows_pointer(stub, "NspiGetMatches reply: rows")
        return cls(stat, ids, rows, stub.u32("NspiGetMatches reply: result"))


def _write_property_name(stub: NdrWriter, name: PropertyName | None) -> None:
    stub.pointer(name is not None)
    if name is None:
        return
    stub.pointer(name.guid is not None)
    stub.u32(name.reserved)
    stub.u32(name.id & 0xFFFFFFFF)
    if name.guid is not None:
        stub.octets(name.guid.bytes_le)


def _read_property_name(stub: NdrReader, what: str) -> PropertyName | None:
    if not stub.pointer(what):
        return None
    present = stub.pointer(what)
    reserved = stub.u32(what)
    number = _signed(stub.u32(what))
    return PropertyName(UUID(bytes_le=stub.take(16, what)) if present else None, number, reserved)


@dataclass(frozen=True, slots=True)
class NspiGetSpecialTable:
    """Reads the list of address books, or of templates for addresses. [MS-OXNSPI] 3.1.4.1.3.

    ``long NspiGetSpecialTable([in] NSPI_HANDLE hRpc, [in] DWORD dwFlags, [in] STAT* pStat, [in, out] DWORD* lpVersion,
    [out] PropertyRowSet_r** ppRows)``
    """

    handle: ContextHandle
    stat: Stat = field(default_factory=Stat)
    flags: int = UNICODE_STRINGS
    version: int = 0  # of the list that the client has already

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the request."""
        stub = NdrWriter(order, ndr64)
        stub.handle(self.handle)
        stub.u32(self.flags)
        self.stat.write(stub)
        stub.u32(self.version)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The request in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        asked = cls._read(stub)
        return cls._read(NdrReader(octets, order, ndr64), True) if stat_is_pointed_to(stub, asked.stat) else asked

    @classmethod
    def _read(cls, stub: NdrReader, pointed: bool = False) -> Self:
        handle = stub.handle("NspiGetSpecialTable: handle")
        flags = stub.u32("NspiGetSpecialTable: flags")
        stat = read_stat(stub, pointed)
        return cls(handle, stat, flags, stub.u32("NspiGetSpecialTable: version"))


@dataclass(frozen=True, slots=True)
class NspiGetSpecialTableReply:
    """The list and its version; no rows if the client has that version already. [MS-OXNSPI] 3.1.4.1.3."""

    version: int
    rows: PropertyRowSet | None = None
    result: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the response."""
        stub = NdrWriter(order, ndr64)
        stub.u32(self.version)
        write_rows_pointer(stub, self.rows)
        stub.u32(self.result)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The response in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        version = stub.u32("NspiGetSpecialTable reply: version")
        rows = read_rows_pointer(stub, "NspiGetSpecialTable reply: rows")
        return cls(version, rows, stub.u32("NspiGetSpecialTable reply: result"))


@dataclass(frozen=True, slots=True)
class NspiCompareMids:
    """Asks which of two entries comes first in a table. [MS-OXNSPI] 3.1.4.1.12.

    ``long NspiCompareMIds([in] NSPI_HANDLE hRpc, [in] DWORD Reserved, [in] STAT* pStat, [in] DWORD MId1,
    [in] DWORD MId2, [out] long* plResult)``
    """

    handle: ContextHandle
    stat: Stat
    first: int
    second: int
    reserved: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the request."""
        stub = NdrWriter(order, ndr64)
        stub.handle(self.handle)
        stub.u32(self.reserved)
        self.stat.write(stub)
        stub.u32(self.first)
        stub.u32(self.second)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The request in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        handle = stub.handle("NspiCompareMIds: handle")
        reserved = stub.u32("NspiCompareMIds: reserved")
        stat = Stat.read(stub)
        first = stub.u32("NspiCompareMIds: first")
        return cls(handle, stat, first, stub.u32("NspiCompareMIds: second"), reserved)


@dataclass(frozen=True, slots=True)
class NspiCompareMidsReply:
    """Below 0: the first one stands before the second; 0: they are the same; above 0: after. [MS-OXNSPI] 3.1.4.1.12."""

    comparison: int
    result: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the response."""
        stub = NdrWriter(order, ndr64)
        stub.u32(self.comparison & 0xFFFFFFFF)
        stub.u32(self.result)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The response in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        comparison = _signed(stub.u32("NspiCompareMIds reply: comparison"))
        return cls(comparison, stub.u32("NspiCompareMIds reply: result"))
