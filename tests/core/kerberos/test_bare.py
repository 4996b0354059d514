"""The frame around an AP-REQ, taken off."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.kerberos.bare import bare

AP_REQ = b"\x6e\x03\x02\x01\x05"
FRAMED = bytes.fromhex("60 12  06 09 2a864886f712010202  0100") + AP_REQ  # RFC 2743 3.1, RFC 4121 4.1
SPNEGO = bytes.fromhex("06 06 2b0601050502")
MECHS = bytes.fromhex("a0 0d 30 0b 06 09 2a864882f712010202")


def element(tag: int, content: bytes) -> bytes:
    return bytes((tag, len(content))) + content


def offer(token: bytes) -> bytes:
    fields = MECHS + element(0xA2, element(0x04, token))
    return element(0x60, SPNEGO + element(0xA0, element(0x30, fields)))


def test_the_frame_is_taken_off_alone_and_inside_spnego() -> None:
    assert bare(FRAMED) == AP_REQ
    assert bare(offer(FRAMED)) == offer(AP_REQ)
    assert bare(offer(AP_REQ)) == offer(AP_REQ)
    assert bare(AP_REQ) == AP_REQ


@given(st.binary(max_size=80))
def test_what_is_no_such_token_stays_as_it_is(token: bytes) -> None:
    if token not in (FRAMED, offer(FRAMED)):
        assert bare(b"\x60" + token) == b"\x60" + token or len(bare(b"\x60" + token)) <= len(token) + 1


@pytest.mark.parametrize("cut", range(len(offer(FRAMED))))
def test_a_cut_token_stays_as_it_is(cut: int) -> None:
    assert bare(offer(FRAMED)[:cut]) == offer(FRAMED)[:cut]
