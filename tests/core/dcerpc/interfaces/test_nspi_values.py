"""Properties and rows: every type there is, what a stub may not say, and how much of it."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from impacket.dcerpc.v5 import nspi as impacket_nspi
from impacket.mapi_constants import MAPI_PROPERTIES

from casarray.core.dcerpc.cursor import Order
from casarray.core.dcerpc.interfaces.nspi_properties import (
    ERROR_NOT_FOUND,
    PropertyRow,
    PropertyTag,
    PropertyType,
    PropertyValue,
    Value,
    in_string8,
    in_unicode,
)
from casarray.core.dcerpc.interfaces.nspi_values import (
    VALUES_MAX,
    read_row_pointer,
    read_rows_pointer,
    read_tags_pointer,
    write_row_pointer,
    write_rows_pointer,
    write_tags_pointer,
)
from casarray.core.dcerpc.ndr import NdrReader, NdrWriter
from casarray.core.errors import WireError

GUID = UUID("00112233-4455-6677-8899-aabbccddeeff")
FILETIME = 134_000_000_000_000_000

VALUES: dict[int, Value] = {
    PropertyType.UNSPECIFIED: None,
    PropertyType.NULL: None,
    PropertyType.TABLE: None,
    PropertyType.SHORT: -2,
    PropertyType.LONG: -3,
    PropertyType.ERROR: ERROR_NOT_FOUND,
    PropertyType.BOOLEAN: True,
    PropertyType.STRING8: "Kate",
    PropertyType.UNICODE: "Ołówek",
    PropertyType.TIME: FILETIME,
    PropertyType.GUID: GUID,
    PropertyType.BINARY: b"octets",
    PropertyType.MULTIPLE_SHORT: (1, -2, 3),
    PropertyType.MULTIPLE_LONG: (1, -2),
    PropertyType.MULTIPLE_STRING8: ("SMTP:a@b", "x"),
    PropertyType.MULTIPLE_UNICODE: ("SMTP:a@b", "€"),
    PropertyType.MULTIPLE_TIME: (FILETIME, 1),
    PropertyType.MULTIPLE_GUID: (GUID, UUID(int=1)),
    PropertyType.MULTIPLE_BINARY: (b"", b"abc"),
}

in_every_dialect = pytest.mark.parametrize(
    ("order", "ndr64"), [("little", False), ("big", False), ("little", True), ("big", True)]
)


def there_and_back(row: PropertyRow | None, order: Order = "little", ndr64: bool = False) -> PropertyRow | None:
    stub = NdrWriter(order, ndr64)
    write_row_pointer(stub, row)
    reader = NdrReader(bytes(stub), order, ndr64)
    again = read_row_pointer(reader, "row")
    assert reader.left == 0
    return again


@in_every_dialect
@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: f"{kind:04x}")
def test_a_value_of_every_type_comes_back_as_it_went(kind: int, order: Order, ndr64: bool) -> None:
    row = PropertyRow((PropertyValue(0x66000000 | kind, VALUES[kind]), PropertyValue(PropertyTag.PR_OBJECT_TYPE, 6)))
    assert there_and_back(row, order, ndr64) == row


@in_every_dialect
def test_rows_of_different_lengths_come_back_as_they_went(order: Order, ndr64: bool) -> None:
    everything = PropertyRow(tuple(PropertyValue(0x66000000 | kind, value) for kind, value in VALUES.items()))
    rows = (everything, PropertyRow(), PropertyRow(everything.values[:3]), everything)
    stub = NdrWriter(order, ndr64)
    write_rows_pointer(stub, rows)
    assert read_rows_pointer(NdrReader(bytes(stub), order, ndr64), "rows") == rows


@pytest.mark.parametrize("kind", [PropertyType.STRING8, PropertyType.GUID, PropertyType.MULTIPLE_LONG])
def test_a_value_may_be_a_null_pointer(kind: int) -> None:
    row = PropertyRow((PropertyValue(0x66000000 | kind, None),))
    assert there_and_back(row) == row


def test_no_row_is_a_null_pointer() -> None:
    assert there_and_back(None) is None


def test_a_number_may_be_given_without_its_sign() -> None:
    row = there_and_back(PropertyRow((PropertyValue(PropertyTag.PR_EMS_AB_CONTAINERID, 0xFFFFFFF0),)))
    assert row == PropertyRow((PropertyValue(PropertyTag.PR_EMS_AB_CONTAINERID, -16),))


def test_a_name_that_its_code_page_does_not_have_is_written_with_question_marks() -> None:
    row = there_and_back(PropertyRow((PropertyValue(PropertyTag.PR_DISPLAY_NAME, "Ołówek"),)))
    assert row is not None
    assert row.get(PropertyTag.PR_DISPLAY_NAME) == "O?ówek"


def test_a_row_is_asked_for_a_property_whatever_the_type_of_its_string() -> None:
    row = PropertyRow((PropertyValue(PropertyTag.PR_ACCOUNT, "ada"), PropertyValue.missing(PropertyTag.PR_TITLE_W)))
    assert row.get(PropertyTag.PR_ACCOUNT_W) == "ada"
    assert row.get(PropertyTag.PR_TITLE_W) is None
    assert row.get(PropertyTag.PR_SURNAME_W) is None


def test_a_missing_property_says_why_under_its_own_number() -> None:
    assert PropertyValue.missing(PropertyTag.PR_ACCOUNT_W) == PropertyValue(0x3A00000A, ERROR_NOT_FOUND)


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        (PropertyTag.PR_ACCOUNT_W, PropertyTag.PR_ACCOUNT),
        (PropertyTag.PR_EMS_AB_PROXY_ADDRESSES_W, PropertyTag.PR_EMS_AB_PROXY_ADDRESSES),
    ],
)
def test_a_tag_has_a_twin_for_the_other_kind_of_string(wide: int, narrow: int) -> None:
    assert (in_unicode(narrow), in_string8(wide)) == (wide, narrow)
    assert (in_unicode(wide), in_string8(narrow)) == (wide, narrow)


def test_a_tag_of_something_else_has_no_twin() -> None:
    number = PropertyTag.PR_OBJECT_TYPE
    assert in_unicode(number) == in_string8(number) == number


SPELT_OTHERWISE = {
    "PR_7BIT_DISPLAY_NAME": "PR_EMS_AB_DISPLAY_NAME_PRINTABLE",
    "PR_TRANSMITTABLE_DISPLAY_NAME": "PR_TRANSMITABLE_DISPLAY_NAME",
}


@pytest.mark.parametrize("tag", PropertyTag, ids=lambda tag: tag.name)
def test_impacket_knows_each_property_by_the_same_number(tag: PropertyTag) -> None:
    kind, ldap, _, _, _, name, _ = MAPI_PROPERTIES[tag >> 16]
    ours = tag.name.removesuffix("_W")
    assert name == SPELT_OTHERWISE.get(ours, ours)
    if ldap != "homeMDB":  # an object in the directory, a string in the address book
        assert kind == in_unicode(tag) & 0xFFFF


def test_impacket_reads_a_row_of_everything() -> None:
    kinds = [kind for kind in VALUES if kind not in (PropertyType.MULTIPLE_TIME, PropertyType.MULTIPLE_GUID)]
    row = PropertyRow(tuple(PropertyValue(0x66000000 | kind, VALUES[kind]) for kind in kinds))
    stub = NdrWriter()
    write_row_pointer(stub, row)
    stub.u32(7)
    answer = impacket_nspi.NspiGetPropsResponse(bytes(stub))
    assert answer["ErrorCode"] == 7
    theirs = impacket_nspi.simplifyPropertyRow(answer["ppRows"])
    for kind in (k for k in kinds if k not in (PropertyType.TIME, PropertyType.GUID)):
        if VALUES[kind] is None or kind in (PropertyType.MULTIPLE_SHORT, PropertyType.MULTIPLE_LONG):
            continue
        wanted = VALUES[kind]
        assert theirs[0x66000000 | kind] == (list(wanted) if isinstance(wanted, tuple) else wanted), f"{kind:#x}"
    when = theirs[0x66000000 | PropertyType.TIME].astimezone(UTC)
    assert abs((when - datetime(1601, 1, 1, tzinfo=UTC)).total_seconds() - FILETIME / 10**7) <= 1


def row_stub(*values: PropertyValue) -> bytearray:
    stub = NdrWriter()
    write_row_pointer(stub, PropertyRow(values))
    return bytearray(bytes(stub))


def refused(octets: bytearray, kind: str) -> None:
    with pytest.raises(WireError, match=f"^{kind}"):
        read_row_pointer(NdrReader(bytes(octets)), "row")


def test_a_value_of_another_type_than_its_tags_is_a_wire_error() -> None:
    octets = row_stub(PropertyValue(PropertyTag.PR_OBJECT_TYPE, 6))
    octets[28] = PropertyType.SHORT
    refused(octets, "type")


def test_a_value_of_no_type_of_the_address_books_is_a_wire_error() -> None:
    octets = row_stub(PropertyValue(PropertyTag.PR_OBJECT_TYPE, 6))
    octets[20] = octets[28] = 0x05  # a floating number
    refused(octets, "type")


@pytest.mark.parametrize("at", [8, 16], ids=["in the row", "in the array"])
def test_another_number_of_values_than_announced_is_a_wire_error(at: int) -> None:
    octets = row_stub(PropertyValue(PropertyTag.PR_OBJECT_TYPE, 6), PropertyValue(PropertyTag.PR_DEPTH, 6))
    octets[at] = 1
    refused(octets, "range")


def test_more_values_than_the_interface_allows_are_a_wire_error() -> None:
    octets = row_stub(PropertyValue(PropertyTag.PR_OBJECT_TYPE, 6))
    octets[8:12] = octets[16:20] = (VALUES_MAX + 1).to_bytes(4, "little")
    refused(octets, "range")


def test_octets_of_another_number_than_announced_are_a_wire_error() -> None:
    octets = row_stub(PropertyValue(PropertyTag.PR_ENTRYID, b"octets"))
    octets[32] = 5
    refused(octets, "range")


def test_values_that_are_announced_behind_a_null_pointer_are_a_wire_error() -> None:
    octets = row_stub(PropertyValue(PropertyTag.PR_ENTRYID, b"octets"))
    octets[36:40] = bytes(4)
    refused(octets, "range")


def test_a_null_among_the_values_of_a_list_is_a_wire_error() -> None:
    octets = row_stub(PropertyValue(PropertyTag.PR_EMS_AB_PROXY_ADDRESSES, ("a", "b")))
    octets[44:48] = bytes(4)
    refused(octets, "null")


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (PropertyTag.PR_OBJECT_TYPE, "six"),
        (PropertyTag.PR_DISPLAY_NAME_W, 6),
        (PropertyTag.PR_ENTRYID, "octets"),
        (PropertyTag.PR_EMS_AB_PROXY_ADDRESSES_W, b"octets"),
        (PropertyTag.PR_EMS_AB_PROXY_ADDRESSES_W, (1, 2)),
        (0x66001003, ("one",)),
        (0x66001102, ("one",)),
        (0x66000005, 1.5),
        (PropertyTag.PR_OBJECT_TYPE, 1 << 32),
        (PropertyTag.PR_DISPLAY_NAME_W, "\ud800"),
    ],
)
def test_a_value_that_its_tag_cannot_hold_is_a_wire_error(tag: int, value: Any) -> None:
    with pytest.raises(WireError):
        row_stub(PropertyValue(tag, value))


@in_every_dialect
@pytest.mark.parametrize("tags", [None, (), (1,), (0x3001001F, 0xFFFFFFFF)])
def test_lists_of_tags_come_back_as_they_went(tags: tuple[int, ...] | None, order: Order, ndr64: bool) -> None:
    stub = NdrWriter(order, ndr64)
    write_tags_pointer(stub, tags)
    assert read_tags_pointer(NdrReader(bytes(stub), order, ndr64), "tags") == tags


@pytest.mark.parametrize(
    "octets",
    [
        "01000000 03000000 01000000 00000000 02000000 aaaaaaaa bbbbbbbb",  # two of one announced
        "01000000 01000000 02000000 00000000 02000000 aaaaaaaa bbbbbbbb",  # two in an array of one
        "01000000 a2860100 a1860100 00000000 00000000",  # announces 100,001
        "01000000 03000000 02000000 01000000 02000000 aaaaaaaa bbbbbbbb",  # begins at the second one
    ],
)
def test_a_list_of_tags_that_contradicts_itself_is_a_wire_error(octets: str) -> None:
    with pytest.raises(WireError, match="range"):
        read_tags_pointer(NdrReader(bytes.fromhex(octets)), "tags")
