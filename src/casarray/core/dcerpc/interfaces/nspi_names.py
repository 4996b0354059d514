"""The calls of NSPI that ask for entries by their names, or for the properties of one. [MS-OXNSPI] 3.1.4.1.

What Outlook does when a name is checked: NspiResolveNamesW with what the user typed, then NspiGetProps of the entry it
was resolved to. The calls that walk through tables are in `nspi_calls`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from casarray.core.dcerpc.cursor import Order
from casarray.core.dcerpc.interfaces.nspi import Stat
from casarray.core.dcerpc.interfaces.nspi_calls import SKIP_OBJECTS, read_stat, stat_is_pointed_to
from casarray.core.dcerpc.interfaces.nspi_properties import PropertyRow, PropertyRowSet, PropertyTagArray
from casarray.core.dcerpc.interfaces.nspi_values import (
    TEXT_MAX,
    VALUES_MAX,
    read_row_pointer,
    read_rows_pointer,
    read_tags_pointer,
    write_row_pointer,
    write_rows_pointer,
    write_tags_pointer,
)
from casarray.core.dcerpc.ndr import ContextHandle, NdrReader, NdrWriter
from casarray.core.errors import WireError

#: `NspiQueryColumns.flags`. [MS-OXNSPI] 2.2.1.14.
UNICODE_TYPES = 0x80000000

#: One of the names of a list; None where a pointer is null, which every server answers with "not resolved".
Names = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class NspiGetProps:
    """Reads properties of the entry `Stat.current_record`. [MS-OXNSPI] 3.1.4.1.7.

    ``long NspiGetProps([in] NSPI_HANDLE hRpc, [in] DWORD dwFlags, [in] STAT* pStat,
    [in, unique] PropertyTagArray_r* pPropTags, [out] PropertyRow_r** ppRows)``
    """

    handle: ContextHandle
    stat: Stat = field(default_factory=Stat)
    tags: PropertyTagArray | None = None  # None: all it has
    flags: int = SKIP_OBJECTS

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the request."""
        stub = NdrWriter(order, ndr64)
        stub.handle(self.handle)
        stub.u32(self.flags)
        self.stat.write(stub)
        write_tags_pointer(stub, self.tags)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The request in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        asked = cls._read(stub)
        return cls._read(NdrReader(octets, order, ndr64), True) if stat_is_pointed_to(stub, asked.stat) else asked

    @classmethod
    def _read(cls, stub: NdrReader, pointed: bool = False) -> Self:
        handle = stub.handle("NspiGetProps: handle")
        flags = stub.u32("NspiGetProps: flags")
        stat = read_stat(stub, pointed)
        return cls(handle, stat, read_tags_pointer(stub, "NspiGetProps: tags"), flags)


@dataclass(frozen=True, slots=True)
class NspiGetPropsReply:
    """One row; the result is `NspiResult.ERRORS_RETURNED` if not all properties are there. [MS-OXNSPI] 3.1.4.1.7."""

    row: PropertyRow | None
    result: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the response."""
        stub = NdrWriter(order, ndr64)
        write_row_pointer(stub, self.row)
        stub.u32(self.result)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The response in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        row = read_row_pointer(stub, "NspiGetProps reply: row")
        return cls(row, stub.u32("NspiGetProps reply: result"))


@dataclass(frozen=True, slots=True)
class NspiGetPropList:
    """Asks which properties an entry has. [MS-OXNSPI] 3.1.4.1.6.

    ``long NspiGetPropList([in] NSPI_HANDLE hRpc, [in] DWORD dwFlags, [in] DWORD dwMId, [in] DWORD CodePage,
    [out] PropertyTagArray_r** ppPropTags)``
    """

    handle: ContextHandle
    minimal_id: int
    code_page: int = 1252
    flags: int = SKIP_OBJECTS

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the request."""
        stub = NdrWriter(order, ndr64)
        stub.handle(self.handle)
        stub.u32(self.flags)
        stub.u32(self.minimal_id)
        stub.u32(self.code_page)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The request in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        handle = stub.handle("NspiGetPropList: handle")
        flags = stub.u32("NspiGetPropList: flags")
        minimal_id = stub.u32("NspiGetPropList: entry")
        return cls(handle, minimal_id, stub.u32("NspiGetPropList: code page"), flags)


@dataclass(frozen=True, slots=True)
class NspiQueryColumns:
    """Asks which properties the server knows. [MS-OXNSPI] 3.1.4.1.5.

    ``long NspiQueryColumns([in] NSPI_HANDLE hRpc, [in] DWORD Reserved, [in] DWORD dwFlags,
    [out] PropertyTagArray_r** ppColumns)``
    """

    handle: ContextHandle
    flags: int = UNICODE_TYPES
    reserved: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the request."""
        stub = NdrWriter(order, ndr64)
        stub.handle(self.handle)
        stub.u32(self.reserved)
        stub.u32(self.flags)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The request in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        handle = stub.handle("NspiQueryColumns: handle")
        reserved = stub.u32("NspiQueryColumns: reserved")
        return cls(handle, stub.u32("NspiQueryColumns: flags"), reserved)


@dataclass(frozen=True, slots=True)
class NspiTagsReply:
    """A list of tags, or of minimal entry ids, and a result: how three calls answer."""

    tags: PropertyTagArray | None
    result: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the response."""
        stub = NdrWriter(order, ndr64)
        write_tags_pointer(stub, self.tags)
        stub.u32(self.result)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The response in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        tags = read_tags_pointer(stub, "NSPI reply: list")
        return cls(tags, stub.u32("NSPI reply: result"))


class NspiGetPropListReply(NspiTagsReply):
    """The tags of the properties that the entry has. [MS-OXNSPI] 3.1.4.1.6."""

    __slots__ = ()


class NspiQueryColumnsReply(NspiTagsReply):
    """The tags of the properties that the server knows. [MS-OXNSPI] 3.1.4.1.5."""

    __slots__ = ()


class NspiDnToMidReply(NspiTagsReply):
    """For each DN its minimal entry id in `tags`; 0 for one that is no entry's. [MS-OXNSPI] 3.1.4.1.13."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class NspiDnToMid:
    """Asks for minimal entry ids by DN. [MS-OXNSPI] 3.1.4.1.13.

    ``long NspiDNToMId([in] NSPI_HANDLE hRpc, [in] DWORD Reserved, [in] StringsArray_r* pNames,
    [out] PropertyTagArray_r** ppOutMIds)``
    """

    handle: ContextHandle
    names: Names
    reserved: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the request."""
        stub = NdrWriter(order, ndr64)
        stub.handle(self.handle)
        stub.u32(self.reserved)
        _write_names(stub, self.names, stub.string)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The request in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        handle = stub.handle("NspiDNToMId: handle")
        reserved = stub.u32("NspiDNToMId: reserved")
        return cls(handle, _read_names(stub, "NspiDNToMId: names", stub.string), reserved)


@dataclass(frozen=True, slots=True)
class NspiResolveNames:
    """Looks for the entries that names mean, in strings of one octet a character. [MS-OXNSPI] 3.1.4.1.16.

    ``long NspiResolveNames([in] NSPI_HANDLE hRpc, [in] DWORD Reserved, [in] STAT* pStat,
    [in, unique] PropertyTagArray_r* pPropTags, [in] StringsArray_r* paStr, [out] PropertyTagArray_r** ppMIds,
    [out] PropertyRowSet_r** ppRows)``
    """

    handle: ContextHandle
    names: Names
    stat: Stat = field(default_factory=Stat)
    tags: PropertyTagArray | None = None
    reserved: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the request."""
        stub = NdrWriter(order, ndr64)
        stub.handle(self.handle)
        stub.u32(self.reserved)
        self.stat.write(stub)
        write_tags_pointer(stub, self.tags)
        _write_names(stub, self.names, self._writer(stub))
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The request in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        handle = stub.handle("NspiResolveNames: handle")
        reserved = stub.u32("NspiResolveNames: reserved")
        stat = Stat.read(stub)
        tags = read_tags_pointer(stub, "NspiResolveNames: tags")
        names = _read_names(stub, "NspiResolveNames: names", cls._reader(stub))
        return cls(handle, names, stat, tags, reserved)

    @staticmethod
    def _writer(stub: NdrWriter) -> Callable[[str], None]:
        return stub.string

    @staticmethod
    def _reader(stub: NdrReader) -> Callable[[str, int], str]:
        return stub.string


class NspiResolveNamesW(NspiResolveNames):
    """Looks for the entries that names mean, in strings of UTF-16. [MS-OXNSPI] 3.1.4.1.17.

    The same as NspiResolveNames but for ``[in] WStringsArray_r* paStr``.
    """

    __slots__ = ()

    @staticmethod
    def _writer(stub: NdrWriter) -> Callable[[str], None]:
        return stub.wide_string

    @staticmethod
    def _reader(stub: NdrReader) -> Callable[[str, int], str]:
        return stub.wide_string


@dataclass(frozen=True, slots=True)
class NspiResolveNamesReply:
    """For each name a `Resolved`, and a row for each one that was resolved to one. [MS-OXNSPI] 3.1.4.1.16."""

    minimal_ids: tuple[int, ...] | None
    rows: PropertyRowSet | None = None
    result: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the response."""
        stub = NdrWriter(order, ndr64)
        write_tags_pointer(stub, self.minimal_ids)
        write_rows_pointer(stub, self.rows)
        stub.u32(self.result)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The response in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        ids = read_tags_pointer(stub, "NspiResolveNames reply: entries")
        rows = read_rows_pointer(stub, "NspiResolveNames reply: rows")
        return cls(ids, rows, stub.u32("NspiResolveNames reply: result"))


class NspiResolveNamesWReply(NspiResolveNamesReply):
    """The same for NspiResolveNamesW. [MS-OXNSPI] 3.1.4.1.17."""

    __slots__ = ()


def _write_names(stub: NdrWriter, names: Names, write: Callable[[str], None]) -> None:
    """``StringsArray_r``, ``WStringsArray_r``: a count, pointers, and then the strings. [MS-OXNSPI] 2.2.7."""
    stub.count(len(names))
    stub.u32(len(names))
    for name in names:
        stub.pointer(name is not None)
    for name in names:
        if name is not None:
            write(name)


def _read_names(stub: NdrReader, what: str, read: Callable[[str, int], str]) -> Names:
    size = stub.count(f"{what}: maximum", VALUES_MAX)
    announced = stub.u32(f"{what}: count")
    if announced != size:
        raise WireError("range", f"{what}: {announced} announced, {size} there")
    referents = [stub.pointer(what) for _ in range(size)]
    return tuple([read(what, TEXT_MAX) if referent else None for referent in referents])
