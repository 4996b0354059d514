"""The endpoint mapper: which port, on this host, does an interface listen on? [C706] appendix O, [MS-RPCE] 2.2.1.2.

    void ept_lookup(
        [in] handle_t h, [in] unsigned32 inquiry_type, [in, ptr] uuid_p_t object, [in, ptr] rpc_if_id_p_t interface_id,
        [in] unsigned32 vers_option, [in, out] ept_lookup_handle_t *entry_handle, [in] unsigned32 max_ents,
        [out] unsigned32 *num_ents, [out, length_is(*num_ents), size_is(max_ents)] ept_entry_t entries[],
        [out] error_status_t *status);
    void ept_map(
        [in] handle_t h, [in, ptr] uuid_p_t object, [in, ptr] twr_p_t map_tower,
        [in, out] ept_lookup_handle_t *entry_handle, [in] unsigned32 max_towers, [out] unsigned32 *num_towers,
        [out, length_is(*num_towers), size_is(max_towers)] twr_p_t *towers, [out] error_status_t *status);
    void ept_lookup_handle_free(
        [in] handle_t h, [in, out] ept_lookup_handle_t *entry_handle, [out] error_status_t *status);

    typedef struct { unsigned32 tower_length; [size_is(tower_length)] byte tower_octet_string[]; } twr_t;
    typedef struct { uuid_t object; twr_p_t tower; [string] char annotation[64]; } ept_entry_t;

Octets after the last argument of a request are tolerated: Windows puts a verification trailer there. Answers know where
in their stub each tower's octets begin (``towers_at``), so that a gateway can change addresses in place.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final
from uuid import UUID

from casarray.core.dcerpc.cursor import NIL, Order
from casarray.core.dcerpc.ndr import NIL_HANDLE, ContextHandle, NdrReader, NdrWriter
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.dcerpc.tower import MAX_TOWER, Tower
from casarray.core.errors import WireError

EPM: Final = Syntax(UUID("e1af8308-5d1f-11c9-91a4-08002b14a0fa"), 3, 0)

EPT_LOOKUP: Final = 2
EPT_MAP: Final = 3
EPT_LOOKUP_HANDLE_FREE: Final = 4

MAX_ENTRIES: Final = 500  # max_ents and max_towers. [MS-RPCE] 2.2.1.2.4, 2.2.1.2.5
MAX_ANNOTATION: Final = 64

OK: Final = 0
NOT_REGISTERED: Final = 0x16C9A0D6  # nothing (more) matches
CANNOT_PERFORM: Final = 0x16C9A0CD


class Inquiry(IntEnum):
    """What an `EptLookup` goes by. [MS-RPCE] 2.2.1.2.4 (RPC_C_EP_*)."""

    ALL = 0
    BY_INTERFACE = 1
    BY_OBJECT = 2
    BY_BOTH = 3


class Versions(IntEnum):
    """Which versions of the interface an `EptLookup` wants. [MS-RPCE] 2.2.1.2.4 (RPC_C_VERS_*); counted from 1."""

    ALL = 1
    COMPATIBLE = 2  # same major, same or higher minor
    EXACT = 3
    MAJOR_ONLY = 4
    UP_TO = 5  # the same or lower


@dataclass(frozen=True, slots=True)
class EptMap:
    """Where is the interface in this tower to be found? ``object`` None is a null pointer, as opposed to a nil UUID."""

    tower: Tower | None
    max_towers: int = 4
    handle: ContextHandle = NIL_HANDLE
    object: UUID | None = NIL

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub."""
        writer = NdrWriter(order, ndr64)
        writer.full_pointer(self.object is not None)
        if self.object is not None:
            writer.uuid(self.object)
        writer.full_pointer(self.tower is not None)
        if self.tower is not None:
            _write_tower(writer, self.tower)
        writer.handle(self.handle)
        writer.u32(self.max_towers)
        return bytes(writer)

    @classmethod
    def decode(cls, stub: bytes, order: Order = "little", ndr64: bool = False) -> "EptMap":
        """Read the stub; anything wrong is a `WireError`."""
        reader = NdrReader(stub, order, ndr64)
        wanted = reader.uuid("object") if reader.pointer("object") else None
        tower = _read_tower(reader, "map_tower")[0] if reader.pointer("map_tower") else None
        handle = reader.handle("entry_handle")
        return cls(tower, _entries(reader, "max_towers"), handle, wanted)


@dataclass(frozen=True, slots=True)
class EptMapReply:
    """The towers that match; with a handle that is not nil there are more. Null towers are left out when read."""

    towers: tuple[Tower, ...] = ()
    status: int = OK
    handle: ContextHandle = NIL_HANDLE
    max_towers: int = 4
    towers_at: tuple[int, ...] = field(default=(), compare=False)  # where each tower's octets begin in the stub

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub."""
        writer = NdrWriter(order, ndr64)
        writer.handle(self.handle)
        writer.u32(len(self.towers))
        writer.conformant_varying_header(max(self.max_towers, len(self.towers)), len(self.towers))
        for _ in self.towers:
            writer.pointer(True)
        for tower in self.towers:
            _write_tower(writer, tower)
        writer.u32(self.status)
        return bytes(writer)

    @classmethod
    def decode(cls, stub: bytes, order: Order = "little", ndr64: bool = False) -> "EptMapReply":
        """Read the stub; anything wrong is a `WireError`."""
        reader = NdrReader(stub, order, ndr64)
        handle = reader.handle("entry_handle")
        count = _entries(reader, "num_towers")
        max_towers = _answered(reader, "towers", count)
        referents = [reader.pointer("tower") for _ in range(count)]
        _no_aliases(referents)
        found = [_read_tower(reader, "tower") for referent in referents if referent]
        status = reader.u32("status")
        _at_end(reader)
        return cls(tuple(t for t, _ in found), status, handle, max_towers, tuple(at for _, at in found))


@dataclass(frozen=True, slots=True)
class EptLookup:
    """What is there? With a handle that is not nil: what else is there?"""

    inquiry: int = Inquiry.ALL
    object: UUID | None = None
    interface: Syntax | None = None
    versions: int = Versions.ALL
    handle: ContextHandle = NIL_HANDLE
    max_entries: int = MAX_ENTRIES

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub."""
        writer = NdrWriter(order, ndr64)
        writer.u32(self.inquiry)
        writer.full_pointer(self.object is not None)
        if self.object is not None:
            writer.uuid(self.object)
        writer.full_pointer(self.interface is not None)
        if self.interface is not None:
            writer.uuid(self.interface.uuid)
            writer.u16(self.interface.major)
            writer.u16(self.interface.minor)
        writer.u32(self.versions)
        writer.handle(self.handle)
        writer.u32(self.max_entries)
        return bytes(writer)

    @classmethod
    def decode(cls, stub: bytes, order: Order = "little", ndr64: bool = False) -> "EptLookup":
        """Read the stub; anything wrong is a `WireError`."""
        reader = NdrReader(stub, order, ndr64)
        inquiry = reader.u32("inquiry_type")
        wanted = reader.uuid("object") if reader.pointer("object") else None
        interface = None
        if reader.pointer("interface_id"):
            uuid = reader.uuid("interface_id")
            interface = Syntax(uuid, reader.u16("vers_major"), reader.u16("vers_minor"))
        versions = reader.u32("vers_option")
        handle = reader.handle("entry_handle")
        return cls(inquiry, wanted, interface, versions, handle, _entries(reader, "max_ents"))


@dataclass(frozen=True, slots=True)
class Entry:
    """One registration. A tower can be missing only in what others send."""

    tower: Tower | None
    annotation: str = ""
    object: UUID = NIL


@dataclass(frozen=True, slots=True)
class EptLookupReply:
    """The entries that match; with a handle that is not nil there are more."""

    entries: tuple[Entry, ...] = ()
    status: int = OK
    handle: ContextHandle = NIL_HANDLE
    max_entries: int = MAX_ENTRIES
    #: Where the octets of each entry's tower begin in the stub; None for an entry without.
    towers_at: tuple[int | None, ...] = field(default=(), compare=False)

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub."""
        writer = NdrWriter(order, ndr64)
        writer.handle(self.handle)
        writer.u32(len(self.entries))
        writer.conformant_varying_header(max(self.max_entries, len(self.entries)), len(self.entries))
        for entry in self.entries:
            if len(entry.annotation) >= MAX_ANNOTATION:
                raise WireError("range", f"an annotation of {len(entry.annotation)} characters")
            writer.align_structure()
            writer.uuid(entry.object)
            writer.pointer(entry.tower is not None)
            writer.varying_string(entry.annotation)
        for entry in self.entries:
            if entry.tower is not None:
                _write_tower(writer, entry.tower)
        writer.u32(self.status)
        return bytes(writer)

    @classmethod
    def decode(cls, stub: bytes, order: Order = "little", ndr64: bool = False) -> "EptLookupReply":
        """Read the stub; anything wrong is a `WireError`."""
        reader = NdrReader(stub, order, ndr64)
        handle = reader.handle("entry_handle")
        count = _entries(reader, "num_ents")
        max_entries = _answered(reader, "entries", count)
        heads: list[tuple[UUID, int, str]] = []
        for _ in range(count):
            reader.align_structure("entry")
            uuid = reader.uuid("entry: object")
            referent = reader.pointer("entry: tower")
            heads.append((uuid, referent, reader.varying_string("entry: annotation", MAX_ANNOTATION)))
        _no_aliases([referent for _, referent, _ in heads])
        entries: list[Entry] = []
        towers_at: list[int | None] = []
        for uuid, referent, annotation in heads:
            tower, at = _read_tower(reader, "entry: tower") if referent else (None, None)
            entries.append(Entry(tower, annotation, uuid))
            towers_at.append(at)
        status = reader.u32("status")
        _at_end(reader)
        return cls(tuple(entries), status, handle, max_entries, tuple(towers_at))


@dataclass(frozen=True, slots=True)
class EptLookupHandleFree:
    """Forget this handle. Request and (with a status) answer."""

    handle: ContextHandle

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub."""
        writer = NdrWriter(order, ndr64)
        writer.handle(self.handle)
        return bytes(writer)

    @classmethod
    def decode(cls, stub: bytes, order: Order = "little", ndr64: bool = False) -> "EptLookupHandleFree":
        """Read the stub; anything wrong is a `WireError`."""
        return cls(NdrReader(stub, order, ndr64).handle("entry_handle"))


@dataclass(frozen=True, slots=True)
class EptLookupHandleFreeReply:
    """The handle is nil now."""

    status: int = OK
    handle: ContextHandle = NIL_HANDLE

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub."""
        writer = NdrWriter(order, ndr64)
        writer.handle(self.handle)
        writer.u32(self.status)
        return bytes(writer)

    @classmethod
    def decode(cls, stub: bytes, order: Order = "little", ndr64: bool = False) -> "EptLookupHandleFreeReply":
        """Read the stub; anything wrong is a `WireError`."""
        reader = NdrReader(stub, order, ndr64)
        handle = reader.handle("entry_handle")
        return cls(reader.u32("status"), handle)


def _entries(reader: NdrReader, what: str) -> int:
    """A number of entries, within what [MS-RPCE] allows."""
    count = reader.u32(what)
    if count > MAX_ENTRIES:
        raise WireError("range", f"{what}: {count}, at most {MAX_ENTRIES} allowed")
    return count


def _answered(reader: NdrReader, what: str, count: int) -> int:
    """The header of an array of answers; its maximum."""
    maximum = reader.count(f"{what}: maximum", 0xFFFFFFFF)
    if reader.varying_header(what, min(maximum, MAX_ENTRIES)) != count:
        raise WireError("range", f"{what}: length is not {count}")
    return maximum


def _no_aliases(referents: list[int]) -> None:
    """A full pointer seen before is not followed by its tower again: two readers could disagree what follows."""
    present = [referent for referent in referents if referent]
    if len(set(present)) != len(present):
        raise WireError("alias", "two towers with one referent")


def _at_end(reader: NdrReader) -> None:
    """Nothing but padding may follow an answer."""
    if reader.left >= 16:
        raise WireError("trailing", f"{reader.left} octets after the status")


def _write_tower(writer: NdrWriter, tower: Tower) -> None:
    octets = tower.encode()
    writer.count(len(octets))
    writer.u32(len(octets))
    writer.octets(octets)


def _read_tower(reader: NdrReader, what: str) -> tuple[Tower, int]:
    """A tower and where its octets begin."""
    conformance = reader.count(what, MAX_TOWER)
    size = reader.u32(what)
    if size != conformance:
        raise WireError("range", f"{what}: {size} octets in an array of {conformance}")
    at = reader.at
    tower = Tower.decode(reader.take(size, what))
    return tower, at
