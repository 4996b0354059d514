"""Extended buffers and auxiliary blocks, octet by octet."""

import pytest

from casarray.core.dcerpc.interfaces.emsmdb import EcDoConnectEx
from casarray.core.dcerpc.interfaces.emsmdb_frames import (
    FRAMES_MAX,
    PUBLIC_FOLDERS,
    SINGLE_ENDPOINT,
    AuxBlock,
    AuxType,
    frame,
    payloads,
    read_aux,
    write_aux,
)
from casarray.core.errors import WireError

PLAIN = bytes.fromhex(
    "0000 0400"  # version 0, the last one
    "0300 0300"  # three octets, and as many when not compressed
    "616263"  # "abc"
)
OBFUSCATED = bytes.fromhex("0000 0600 0300 0300 c4c7c6")  # each octet xor 0xA5

AUX = bytes.fromhex(
    "0000 0400 1000 1000"  # 16 octets
    "0800 01 48 01000000"  # 8 octets, version 1, endpoint capabilities: one endpoint for all
    "0800 01 17 01000000"  # organization: has public folders
)
BLOCKS = (AuxBlock.flags(AuxType.ENDPOINT_CAPABILITIES, SINGLE_ENDPOINT), AuxBlock.flags(AuxType.ORGANIZATION, 1))


def test_a_payload_stands_behind_a_header_of_eight_octets() -> None:
    assert frame(b"abc") == PLAIN
    assert payloads(PLAIN) == (b"abc",)


def test_an_obfuscated_payload_is_read_as_what_it_was() -> None:
    assert frame(b"abc", obfuscated=True) == OBFUSCATED
    assert payloads(OBFUSCATED) == (b"abc",)


def test_several_buffers_are_read_up_to_the_last_one() -> None:
    assert payloads(b"\0\0\0\0" + PLAIN[4:] + OBFUSCATED) == (b"abc", b"abc")


def test_nothing_holds_nothing() -> None:
    assert payloads(b"") == ()
    assert read_aux(b"") == ()
    assert write_aux(()) == b""


@pytest.mark.parametrize(
    ("octets", "kind"),
    [
        ("0000 0500 0300 0900 616263", "compressed"),
        ("0000 0400 0300 0400 616263", "range"),
        ("0100 0400 0300 0300 616263", "version"),
        ("0000 0000 0300 0300 616263", "truncated"),  # another one should follow
        ("0000 0400 0300 0300 616263 00", "range"),  # something follows the last one
        ("0000 0400 0400 0400 616263", "truncated"),
    ],
)
def test_a_buffer_that_cannot_be_read_is_a_wire_error(octets: str, kind: str) -> None:
    with pytest.raises(WireError, match=f"^{kind}"):
        payloads(bytes.fromhex(octets))


def test_whoever_compresses_is_told_how_not_to() -> None:
    with pytest.raises(WireError, match="NoCompression"):
        payloads(bytes.fromhex("0000 0500 0300 0900 616263"))


def test_buffers_may_be_so_many_and_no_more() -> None:
    empty, last = bytes(8), bytes.fromhex("0000 0400 0000 0000")
    assert len(payloads(empty * (FRAMES_MAX - 1) + last)) == FRAMES_MAX
    with pytest.raises(WireError, match="more than"):
        payloads(empty * FRAMES_MAX + last)


def test_a_payload_too_long_for_its_header_is_a_wire_error() -> None:
    assert len(frame(bytes(0xFFFF))) == 8 + 0xFFFF
    with pytest.raises(WireError):
        frame(bytes(0x10000))


def test_auxiliary_blocks_follow_each_other_in_one_buffer() -> None:
    assert write_aux(BLOCKS) == AUX
    assert read_aux(AUX) == BLOCKS


def test_the_flags_of_a_block_can_be_asked_for() -> None:
    assert [block.as_flags for block in read_aux(AUX)] == [SINGLE_ENDPOINT, PUBLIC_FOLDERS]
    assert AuxBlock(AuxType.CLIENT_CONTROL, b"\1").as_flags == 0


def test_a_block_of_an_unknown_kind_is_kept() -> None:
    blocks = (AuxBlock(0x4A, b"anything", version=2), *BLOCKS)
    assert read_aux(write_aux(blocks)) == blocks


@pytest.mark.parametrize("octets", ["0300 01 48", "0900 01 48 01000000", "0800 01"])
def test_a_block_of_a_wrong_size_is_a_wire_error(octets: str) -> None:
    with pytest.raises(WireError, match="truncated"):
        read_aux(frame(bytes.fromhex(octets)))


def test_blocks_travel_in_a_connect() -> None:
    asked = EcDoConnectEx.decode(EcDoConnectEx("/o=O", aux_in=write_aux(BLOCKS)).encode())
    assert read_aux(asked.aux_in) == BLOCKS
