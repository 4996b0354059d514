"""EMSMDB, octet by octet: no library knows it, so the layout is spelt out here."""

from uuid import UUID

import pytest

from casarray.core.dcerpc.interfaces.emsmdb import AUX_MAX, EMSMDB, EcDoConnectEx, EcDoConnectExReply
from casarray.core.dcerpc.ndr import ContextHandle
from casarray.core.errors import WireError

CONNECT = bytes.fromhex(
    "05000000 00000000 05000000 2f6f3d4f00 000000"  # "/o=O" with its NUL, gap
    "00000000 44332211 00000000"  # flags, hash of the DN, limit
    "e4040000 09040000 09040000 ffffffff"  # code page, locales, no link
    "0100 0e00 0100 0200"  # converts code pages, client 14.1.2
    "78563412"  # time stamp
    "00000000 00000000 08100000"  # no aux, of size 0, room for 0x1008
)

REPLY = bytes.fromhex(
    "00000000 4433221166558877 99aabbccddeeff00"  # session
    "60ea0000 06000000 10270000"  # 60 s, 6 times, 10 s
    "0100 0000"  # index, gap
    "00000200 01000000 00000000 01000000 00 000000"  # DN prefix ""
    "04000200 05000000 00000000 05000000 6361733100"  # display name "cas1"
    "00 0e00 0100 0200 0e00 0300 0400"  # gap, server 14.1.2, best 14.3.4
    "0000"  # gap
    "78563412"  # time stamp
    "00000000 00000000 00000000 00000000"  # aux: maximum, offset, length; size
    "00000000"  # result
)


def test_the_version_of_the_interface_is_zero_point_eighty_one() -> None:
    assert (EMSMDB.major, EMSMDB.minor) == (0, 81)


def test_a_connect_is_laid_out_as_the_specification_says() -> None:
    asked = EcDoConnectEx("/o=O", connection_hash=0x11223344, client_version=(14, 1, 2), time_stamp=0x12345678)
    assert asked.encode() == CONNECT
    assert EcDoConnectEx.decode(CONNECT) == asked


def test_an_answer_to_a_connect_is_laid_out_as_the_specification_says() -> None:
    answered = EcDoConnectExReply(
        ContextHandle(UUID("11223344-5566-7788-99aa-bbccddeeff00")),
        session_index=1,
        display_name="cas1",
        server_version=(14, 1, 2),
        best_version=(14, 3, 4),
        time_stamp=0x12345678,
    )
    assert answered.encode() == REPLY
    assert EcDoConnectExReply.decode(REPLY) == answered


@pytest.mark.parametrize("aux", [b"1234567", bytes(AUX_MAX + 1)], ids=["too short", "too long"])
def test_aux_of_a_forbidden_size_is_a_wire_error(aux: bytes) -> None:
    with pytest.raises(WireError, match="range"):
        EcDoConnectEx.decode(EcDoConnectEx("/o=O", aux_in=aux).encode())


def test_aux_of_another_size_than_announced_is_a_wire_error() -> None:
    octets = bytearray(EcDoConnectEx("/o=O", aux_in=b"12345678").encode())
    octets[-8:-4] = (9).to_bytes(4, "little")
    with pytest.raises(WireError, match="announced"):
        EcDoConnectEx.decode(bytes(octets))
