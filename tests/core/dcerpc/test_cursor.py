from uuid import UUID

import pytest

from casarray.core.dcerpc.cursor import Order, Reader, Writer
from casarray.core.errors import WireError

UUID_ = UUID("00112233-4455-6677-8899-aabbccddeeff")


@pytest.mark.parametrize("order", ["little", "big"])
def test_what_is_written_is_read_again(order: Order) -> None:
    writer = Writer(order)
    writer.u8(1)
    writer.u16(0x0203)
    writer.u32(0x04050607)
    writer.u64(0x08090A0B0C0D0E0F)
    writer.uuid(UUID_)
    writer.octets(b"xyz")
    writer.align(4)
    reader = Reader(bytes(writer), order)
    assert reader.u8("") == 1
    assert reader.u16("") == 0x0203
    assert reader.u32("") == 0x04050607
    assert reader.u64("") == 0x08090A0B0C0D0E0F
    assert reader.uuid("") == UUID_
    assert reader.take(3, "") == b"xyz"
    reader.align(4, "")
    assert reader.left == 0


def test_a_uuids_first_three_fields_follow_the_byte_order() -> None:
    little, big = Writer("little"), Writer("big")
    little.uuid(UUID_)
    big.uuid(UUID_)
    assert bytes(little).hex() == "33221100554477668899aabbccddeeff"
    assert bytes(big).hex() == "00112233445566778899aabbccddeeff"


def test_a_port_in_network_order_is_read_by_a_little_endian_reader() -> None:
    assert Reader(b"\x00\x87").u16("port", order="big") == 135


@pytest.mark.parametrize("read", ["u8", "u16", "u32", "u64", "uuid"])
def test_reading_beyond_the_end_is_a_wire_error_that_says_what_was_read(read: str) -> None:
    reader = Reader(b"\1" * 100, "little", 4, 4)
    with pytest.raises(WireError, match="the floor") as caught:
        getattr(reader, read)("the floor")
    assert caught.value.kind == "truncated"
    assert reader.at == 4


def test_a_reader_never_looks_beyond_its_own_end() -> None:
    reader = Reader(b"abcdefgh", "little", 2, 5)
    assert reader.left == 3
    with pytest.raises(WireError):
        reader.take(4, "")
    assert reader.rest() == b"cde"
    assert reader.rest() == b""


def test_aligning_beyond_the_end_is_a_wire_error() -> None:
    reader = Reader(b"abc", "little", 1)
    with pytest.raises(WireError):
        reader.align(4, "padding")


@pytest.mark.parametrize(
    ("write", "value"), [("u8", 256), ("u16", -1), ("u16", 1 << 16), ("u32", 1 << 32), ("u64", -1)]
)
def test_a_value_that_does_not_fit_its_field_is_a_wire_error(write: str, value: int) -> None:
    with pytest.raises(WireError) as caught:
        getattr(Writer(), write)(value)
    assert caught.value.kind == "range"
