from itertools import product
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.dcerpc.cursor import Order
from casarray.core.dcerpc.ndr import NIL_HANDLE, ContextHandle, NdrReader, NdrWriter
from casarray.core.errors import WireError

FORMS: list[tuple[Order, bool]] = list(product(("little", "big"), (False, True)))
HANDLE = ContextHandle(UUID("00112233-4455-6677-8899-aabbccddeeff"), 7)


@pytest.mark.parametrize(("order", "ndr64"), FORMS)
def test_what_is_written_is_read_again(order: Order, ndr64: bool) -> None:
    writer = NdrWriter(order, ndr64)
    writer.u8(1)
    writer.u32(0xDEADBEEF)
    writer.u8(1)
    writer.u16(7)
    writer.u8(1)
    writer.u64(9)
    writer.u8(1)
    writer.enum(3)
    writer.pointer(False)
    writer.pointer(True)
    writer.handle(HANDLE)
    writer.handle(NIL_HANDLE)
    writer.conformant(b"abc")
    writer.conformant_varying(b"de")
    writer.string("Grüße")
    writer.varying_string("note")
    writer.wide_string("Ελλάς \N{GRINNING FACE}")
    reader = NdrReader(bytes(writer), order, ndr64)
    assert (reader.u8(""), reader.u32("")) == (1, 0xDEADBEEF)
    assert (reader.u8(""), reader.u16("")) == (1, 7)
    assert (reader.u8(""), reader.u64("")) == (1, 9)
    assert (reader.u8(""), reader.enum("")) == (1, 3)
    assert (bool(reader.pointer("")), bool(reader.pointer(""))) == (False, True)
    assert (reader.handle(""), reader.handle("")) == (HANDLE, NIL_HANDLE)
    assert (reader.conformant("", 3), reader.conformant_varying("", 2)) == (b"abc", b"de")
    assert (reader.string("", 6), reader.varying_string("", 64)) == ("Grüße", "note")
    assert reader.wide_string("", 20) == "Ελλάς \N{GRINNING FACE}"
    assert reader.left == 0


def test_ndr_counts_in_four_octets_and_ndr64_in_eight() -> None:
    narrow, wide = NdrWriter("little", False), NdrWriter("little", True)
    for writer in (narrow, wide):
        writer.u8(0xFF)
        writer.conformant(b"x")
    assert bytes(narrow).hex() == "ff0000000100000078"
    assert bytes(wide).hex() == "ff00000000000000010000000000000078"


def test_a_conformant_string_has_maximum_offset_and_length_with_its_nul() -> None:
    writer = NdrWriter()
    writer.string("abc")
    assert bytes(writer).hex() == "04000000000000000400000061626300"


def test_every_referent_is_another_number() -> None:
    writer = NdrWriter()
    writer.pointer(True)
    writer.pointer(False)
    writer.pointer(True)
    reader = NdrReader(bytes(writer))
    first, none, second = (reader.pointer("") for _ in range(3))
    assert none == 0
    assert len({first, none, second}) == 3


def test_full_pointers_of_a_request_are_numbered_from_one() -> None:
    writer = NdrWriter()
    for present in (True, False, True):
        writer.full_pointer(present)
    assert bytes(writer).hex() == "010000000000000002000000"


@pytest.mark.parametrize(
    ("stub", "read"),
    [
        ("ffffffff 00", "conformant"),  # a count beyond the limit
        ("05000000 41424344", "conformant"),  # more than there is
        ("01000000 00000000 02000000 4142", "conformant_varying"),  # length beyond the maximum
        ("04000000 01000000 01000000 41", "conformant_varying"),  # an offset
        ("04000000 00000000 04000000 414243", "string"),  # cut
    ],
)
def test_arrays_that_cannot_be_are_wire_errors(stub: str, read: str) -> None:
    with pytest.raises(WireError):
        getattr(NdrReader(bytes.fromhex(stub)), read)("array", 100)


def test_a_lone_surrogate_is_no_text() -> None:
    stub = bytes.fromhex("01000000 00000000 01000000 00d8")
    with pytest.raises(WireError) as caught:
        NdrReader(stub).wide_string("name", 10)
    assert caught.value.kind == "text"


@pytest.mark.parametrize("write", ["string", "varying_string", "wide_string"])
def test_text_that_the_wire_cannot_carry_is_a_wire_error(write: str) -> None:
    with pytest.raises(WireError) as caught:
        getattr(NdrWriter(), write)("\ud800 \u20ac")
    assert caught.value.kind == "text"


READS = ["u16", "u32", "u64", "enum", "pointer", "uuid", "handle"]
LIMITED = ["count", "conformant", "conformant_varying", "string", "varying_string", "wide_string"]


@given(stub=st.binary(max_size=80), form=st.sampled_from(FORMS), reads=st.lists(st.sampled_from(READS + LIMITED)))
def test_any_octets_end_in_values_or_a_wire_error(stub: bytes, form: tuple[Order, bool], reads: list[str]) -> None:
    reader = NdrReader(stub, *form)
    try:
        for read in reads:
            getattr(reader, read)("it") if read in READS else getattr(reader, read)("it", 50)
            assert reader.at <= len(stub)
    except WireError:
        pass
