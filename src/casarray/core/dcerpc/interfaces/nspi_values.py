"""How property tags, values and rows are laid out in a stub. [MS-OXNSPI] 2.2.2 to 2.2.4.

A value is told in two parts: its *arm* stands where the value stands (a number, or a count and a pointer), what the
pointer points to stands after the structure that holds it. So everything here has a pair of functions, and a row tells
the arms of all its values before the rest of the first one.

In NDR64 a value ends in a union, whose size is not fixed: so no gap follows the last one ([MS-RPCE] 2.2.5.3.4.1), and
impacket agrees.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from casarray.core.dcerpc.interfaces.nspi_properties import (
    PropertyRow,
    PropertyRowSet,
    PropertyTagArray,
    PropertyType,
    PropertyValue,
    Value,
    type_of,
)
from casarray.core.dcerpc.ndr import NdrReader, NdrWriter
from casarray.core.errors import WireError

#: The ranges of the interface definition. Strings have none there: this one is the room of a long proxy address.
VALUES_MAX = 100_000
OCTETS_MAX = 2_097_152
TEXT_MAX = 65_536


_NUMBERS = {PropertyType.SHORT, PropertyType.LONG, PropertyType.ERROR, PropertyType.BOOLEAN, PropertyType.TIME}
_NOTHING = {PropertyType.UNSPECIFIED, PropertyType.NULL, PropertyType.TABLE}
_POINTED = {PropertyType.STRING8, PropertyType.UNICODE, PropertyType.GUID}
_MULTIPLES = {kind for kind in PropertyType if kind > PropertyType.MULTIPLE}


def write_tags(stub: NdrWriter, tags: Sequence[int]) -> None:
    """``PropertyTagArray_r``: how lists of minimal entry ids travel, too. It has room for one more than it holds."""
    stub.count(len(tags) + 1)
    stub.u32(len(tags))
    stub.varying_header(len(tags))
    for tag in tags:
        stub.u32(tag)


def read_tags(stub: NdrReader, what: str) -> PropertyTagArray:
    """``PropertyTagArray_r``. impacket 0.13 announces one tag more than it sends in NspiGetProps: that is let pass."""
    maximum = stub.count(f"{what}: maximum", VALUES_MAX + 1)
    announced = _read_count(stub, what)
    length = stub.varying_header(what, min(maximum, announced))
    return tuple([stub.u32(what) for _ in range(length)])


def write_tags_pointer(stub: NdrWriter, tags: Sequence[int] | None) -> None:
    """A unique pointer to a `PropertyTagArray`; the array follows at once, as in an argument."""
    stub.pointer(tags is not None)
    if tags is not None:
        write_tags(stub, tags)


def read_tags_pointer(stub: NdrReader, what: str) -> PropertyTagArray | None:
    """What `write_tags_pointer` wrote."""
    return read_tags(stub, what) if stub.pointer(what) else None


def write_rows_pointer(stub: NdrWriter, rows: PropertyRowSet | None) -> None:
    """A unique pointer to rows, ``PropertyRowSet_r``; they follow at once, as in an argument."""
    stub.pointer(rows is not None)
    if rows is None:
        return
    stub.count(len(rows))
    stub.u32(len(rows))
    for row in rows:
        _write_row_head(stub, row)
    for row in rows:
        _write_row_rest(stub, row)


def read_rows_pointer(stub: NdrReader, what: str) -> PropertyRowSet | None:
    """What `write_rows_pointer` wrote."""
    if not stub.pointer(what):
        return None
    maximum = stub.count(f"{what}: maximum", VALUES_MAX)
    _same(_read_count(stub, what), maximum, what)
    heads = [_read_row_head(stub, what) for _ in range(maximum)]
    return tuple([_read_row_rest(stub, count, present, what) for count, present in heads])


def write_row_pointer(stub: NdrWriter, row: PropertyRow | None) -> None:
    """A unique pointer to one row; it follows at once, as in an argument."""
    stub.pointer(row is not None)
    if row is not None:
        _write_row_head(stub, row)
        _write_row_rest(stub, row)


def read_row_pointer(stub: NdrReader, what: str) -> PropertyRow | None:
    """What `write_row_pointer` wrote."""
    if not stub.pointer(what):
        return None
    count, present = _read_row_head(stub, what)
    return _read_row_rest(stub, count, present, what)


def _write_row_head(stub: NdrWriter, row: PropertyRow) -> None:
    stub.align_structure()
    stub.u32(0)  # reserved
    stub.u32(len(row.values))
    stub.pointer(True)


def _write_row_rest(stub: NdrWriter, row: PropertyRow) -> None:
    stub.count(len(row.values))
    for value in row.values:
        write_arm(stub, value)
    for value in row.values:
        write_rest(stub, value)


def _read_row_head(stub: NdrReader, what: str) -> tuple[int, bool]:
    stub.align_structure(what)
    stub.u32(f"{what}: reserved")
    return _read_count(stub, what), bool(stub.pointer(what))


def _read_row_rest(stub: NdrReader, count: int, present: bool, what: str) -> PropertyRow:
    if not present:
        _same(count, 0, what)
        return PropertyRow()
    _same(stub.count(f"{what}: values", VALUES_MAX), count, what)
    arms = [read_arm(stub, what) for _ in range(count)]
    return PropertyRow(tuple([read_rest(stub, arm, what) for arm in arms]))


@dataclass(frozen=True, slots=True)
class Arm:
    """The first part of a value that was read: the value itself, or how many there are and whether they follow."""

    tag: int
    value: int | bool | None = None
    count: int = 0
    present: bool = False


def write_arm(stub: NdrWriter, item: PropertyValue) -> None:
    """The first part of a value: tag, reserved, the type again, and its arm."""
    kind, value = type_of(item.tag), item.value
    stub.align_structure()
    stub.u32(item.tag)
    stub.u32(0)
    stub.align_structure()  # in NDR64 the union stands on the boundary of its widest arm, and so does the arm
    stub.u32(kind)
    stub.align_structure()
    if kind in _NOTHING:
        stub.u32(0)
    elif kind in _NUMBERS:
        if not isinstance(value, int):
            raise _mismatch(item)
        _write_number(stub, kind, value)
    elif kind in _POINTED:
        stub.pointer(value is not None)
    elif kind == PropertyType.BINARY or kind in _MULTIPLES:
        if value is not None and not isinstance(value, bytes | tuple):
            raise _mismatch(item)
        stub.u32(0 if value is None else _few(len(value)))
        stub.pointer(value is not None)
    else:
        raise WireError("type", f"property {item.tag:08x} has a type that no address book knows")


def write_rest(stub: NdrWriter, item: PropertyValue) -> None:
    """The second part of a value: what its arm points to, if it does."""
    kind, value = type_of(item.tag), item.value
    if value is None or kind in _NOTHING:
        return
    if kind in _POINTED or kind == PropertyType.BINARY:
        _write_pointee(stub, item, kind, value)
    elif kind & PropertyType.MULTIPLE:
        if not isinstance(value, tuple):
            raise _mismatch(item)
        stub.count(len(value))
        single = kind & ~PropertyType.MULTIPLE
        for one in value:
            _write_element(stub, item, single, one)
        if single in _POINTED or single == PropertyType.BINARY:
            for one in value:
                _write_pointee(stub, item, single, one)


def read_arm(stub: NdrReader, what: str) -> Arm:
    """What `write_arm` wrote."""
    stub.align_structure(what)
    tag = stub.u32(f"{what}: tag")
    stub.u32(f"{what}: reserved")
    stub.align_structure(what)
    kind = stub.u32(f"{what}: type")
    if kind != type_of(tag):
        raise WireError("type", f"{what}: property {tag:08x} with a value of type {kind:x}")
    stub.align_structure(what)
    if kind in _NOTHING:
        stub.u32(f"{what}: reserved")
        return Arm(tag)
    if kind in _POINTED:
        return Arm(tag, present=bool(stub.pointer(what)))
    if kind == PropertyType.BINARY or kind in _MULTIPLES:
        count = _read_count(stub, what, OCTETS_MAX if kind == PropertyType.BINARY else VALUES_MAX)
        return Arm(tag, count=count, present=bool(stub.pointer(what)))
    return Arm(tag, _read_number(stub, kind, what))


def read_rest(stub: NdrReader, arm: Arm, what: str) -> PropertyValue:
    """What `write_rest` wrote."""
    kind = type_of(arm.tag)
    if not arm.present:
        _same(arm.count, 0, what)
        return PropertyValue(arm.tag, b"" if kind == PropertyType.BINARY else arm.value)
    if kind in _POINTED or kind == PropertyType.BINARY:
        return PropertyValue(arm.tag, _read_pointee(stub, kind, arm.count, what))
    return PropertyValue(arm.tag, _read_multiple(stub, kind & ~PropertyType.MULTIPLE, arm.count, what))


def _write_number(stub: NdrWriter, kind: int, value: int) -> None:
    if kind == PropertyType.TIME:  # FILETIME is two integers, so its boundary is four
        stub.u32(value & 0xFFFFFFFF)
        stub.u32(value >> 32)
    elif kind in (PropertyType.SHORT, PropertyType.BOOLEAN):
        stub.u16(value + 0x10000 if -0x8000 <= value < 0 else value)
    else:
        stub.u32(value + (1 << 32) if -(1 << 31) <= value < 0 else value)


def _read_number(stub: NdrReader, kind: int, what: str) -> int | bool:
    match kind:
        case PropertyType.SHORT:
            return _signed(stub.u16(what), 16)
        case PropertyType.LONG:
            return _signed(stub.u32(what), 32)
        case PropertyType.ERROR:
            return stub.u32(what)
        case PropertyType.BOOLEAN:
            return stub.u16(what) != 0
        case PropertyType.TIME:
            low = stub.u32(what)
            return stub.u32(what) << 32 | low
    raise WireError("type", f"{what}: type {kind:x} is none of an address book")


def _write_element(stub: NdrWriter, item: PropertyValue, kind: int, value: object) -> None:
    if kind == PropertyType.BINARY:
        if not isinstance(value, bytes):
            raise _mismatch(item)
        stub.align_structure()
        stub.u32(_few(len(value)))
        stub.pointer(True)
    elif kind in _POINTED:
        stub.pointer(True)
    elif isinstance(value, int):
        _write_number(stub, kind, value)
    else:
        raise _mismatch(item)


def _write_pointee(stub: NdrWriter, item: PropertyValue, kind: int, value: object) -> None:
    match kind, value:
        case PropertyType.STRING8, str(text):
            stub.conformant_varying(text.encode("latin-1", "replace") + b"\0")
        case PropertyType.UNICODE, str(text):
            stub.wide_string(text)
        case PropertyType.GUID, UUID():
            stub.octets(value.bytes_le)  # FlatUID_r is octets: no byte order, no boundary
        case PropertyType.BINARY, bytes(octets):
            stub.conformant(octets)
        case _:
            raise _mismatch(item)


def _read_pointee(stub: NdrReader, kind: int, count: int, what: str) -> str | bytes | UUID:
    if kind == PropertyType.STRING8:
        return stub.string(what, TEXT_MAX)
    if kind == PropertyType.UNICODE:
        return stub.wide_string(what, TEXT_MAX)
    if kind == PropertyType.GUID:
        return UUID(bytes_le=stub.take(16, what))
    octets = stub.conformant(what, OCTETS_MAX)
    _same(len(octets), count, what)
    return octets


def _read_multiple(stub: NdrReader, kind: int, count: int, what: str) -> Value:
    _same(stub.count(f"{what}: values", VALUES_MAX), count, what)
    if kind in _POINTED:
        referents = [stub.pointer(what) for _ in range(count)]
        if not all(referents):
            raise WireError("null", f"{what}: a list of values with one that is null")
        sizes = [0] * count
    elif kind == PropertyType.BINARY:
        sizes = [_read_binary_head(stub, what) for _ in range(count)]
    else:
        return tuple([int(_read_number(stub, kind, what)) for _ in range(count)])
    found = [_read_pointee(stub, kind, size, what) for size in sizes]
    return tuple(found)


def _read_binary_head(stub: NdrReader, what: str) -> int:
    stub.align_structure(what)
    count = _read_count(stub, what, OCTETS_MAX)
    if not stub.pointer(what):
        raise WireError("null", f"{what}: a list of values with one that is null")
    return count


def _read_count(stub: NdrReader, what: str, limit: int = VALUES_MAX) -> int:
    """A count that is a plain number of four octets even in NDR64, within the range of the interface definition."""
    count = stub.u32(f"{what}: count")
    if count > limit:
        raise WireError("range", f"{what}: {count}, at most {limit} allowed")
    return count


def _same(count: int, announced: int, what: str) -> None:
    if count != announced:
        raise WireError("range", f"{what}: {announced} announced, {count} there")


def _few(count: int) -> int:
    if count > OCTETS_MAX:
        raise WireError("range", f"a value of {count}, at most {OCTETS_MAX} allowed")
    return count


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def _mismatch(item: PropertyValue) -> WireError:
    return WireError("type", f"property {item.tag:08x} cannot be {type(item.value).__name__}")
