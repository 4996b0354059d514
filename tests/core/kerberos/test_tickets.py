import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.kerberos import tokens

from casarray.core.errors import WireError
from casarray.core.kerberos.tickets import (
    KERBEROS,
    KERBEROS_OF_WINDOWS,
    Mechanism,
    Ticket,
    mechanism_of,
    read_ticket,
    ticket_of,
)

NTLM = bytes.fromhex("2b06010401823702020a")  # 1.3.6.1.4.1.311.2.2.10
NTLM_NEGOTIATE = b"NTLMSSP\0\1\0\0\0" + bytes(24)
SEEN = Ticket("LAB.EXAMPLE", ("http", "mail.lab.example"), 18, 5)
CLOTHES = {
    "framed": tokens.client_token(),
    "bare, as DCE style has it": tokens.client_token(framed=False),
    "in SPNEGO": tokens.client_token(spnego=True),
    "bare in SPNEGO": tokens.nego_init(KERBEROS, token=tokens.client_token(framed=False)),
    "as Windows spells it": tokens.framed(KERBEROS_OF_WINDOWS, b"\1\0", tokens.ap_req(tokens.ticket())),
    "in a later token of SPNEGO": tokens.nego_response(tokens.client_token()),
}


@pytest.mark.parametrize("token", CLOTHES.values(), ids=CLOTHES)
def test_a_ticket_is_read_in_all_its_clothes(token: bytes) -> None:
    assert mechanism_of(token) is Mechanism.KERBEROS
    assert ticket_of(token) == SEEN


def test_a_ticket_of_a_cache_is_read() -> None:
    ticket = read_ticket(tokens.ticket("exchangeMDB/cas", enctype=23, version=None))
    assert ticket == Ticket("LAB.EXAMPLE", ("exchangeMDB", "cas"), 23)
    assert ticket.name == "exchangeMDB/cas"


@pytest.mark.parametrize(("written", "read"), [(2, 2), (300, 300), (0xABCD0007, 0xABCD0007), (-0x12340000, 0xEDCC0000)])
def test_a_key_version_is_32_bits_signed_or_not(written: int, read: int) -> None:
    assert read_ticket(tokens.ticket(version=written)).version == read


OTHERS = {
    NTLM_NEGOTIATE: Mechanism.NTLM,
    tokens.nego_init(NTLM, token=NTLM_NEGOTIATE): Mechanism.NTLM,
    tokens.nego_response(NTLM_NEGOTIATE): Mechanism.NTLM,
    tokens.nego_init(KERBEROS, NTLM, token=None): Mechanism.SPNEGO_WITHOUT,
    tokens.nego_init(NTLM, token=b"\x99\x01\x02"): Mechanism.SPNEGO_WITHOUT,
    tokens.nego_init(KERBEROS, token=tokens.client_token(spnego=True)): Mechanism.SPNEGO_WITHOUT,  # in itself
    tokens.framed(NTLM, b"\1\0"): Mechanism.UNKNOWN,
    b"": Mechanism.UNKNOWN,
    b"Basic dXNlcjpwYXNz": Mechanism.UNKNOWN,
    b"\x60\xff\xff\xff\xff": Mechanism.UNKNOWN,
    bytes(300_000): Mechanism.UNKNOWN,
}


@pytest.mark.parametrize(("token", "mechanism"), OTHERS.items(), ids=range(len(OTHERS)))
def test_other_mechanisms_are_told_apart_and_have_no_ticket(token: bytes, mechanism: Mechanism) -> None:
    assert mechanism_of(token) is mechanism
    with pytest.raises(WireError):
        ticket_of(token)


@pytest.mark.parametrize("token", CLOTHES.values(), ids=CLOTHES)
def test_a_cut_token_is_a_wire_error(token: bytes) -> None:
    for cut in range(len(token)):
        with pytest.raises(WireError) as caught:
            ticket_of(token[:cut])
        assert caught.value.kind == "truncated"


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        (tokens.client_token() + b"x", "trailing"),
        (tokens.client_token(framed=False) + b"x", "trailing"),
        (tokens.framed(KERBEROS, b"\2\0", tokens.ap_req(tokens.ticket())), "type"),  # an AP-REP follows
        (tokens.nego_init(KERBEROS, token=None), "type"),
        (tokens.client_token(tokens.ticket().replace(b"\xa0\x03\x02\x01\x05", b"\xa0\x03\x02\x01\x04")), "version"),
        (tokens.client_token().replace(b"\xa1\x03\x02\x01\x0e", b"\xa1\x03\x02\x01\x0f"), "version"),  # an AP-REP
        (tokens.client_token(tokens.ticket(realm="LAB").replace(b"LAB", b"\xff\xfe\xfd")), "text"),
        (tokens.client_token(tokens.ticket("/".join("abcdefghijklmnopq"))), "range"),  # 17 components
        (tokens.client_token(tokens.ticket(enctype=1 << 48)), "range"),
        (b"\x6e\x80\0\0", "length"),  # no definite length
        (b"\x6e\x85\0\0\0\0\1\0", "length"),
        (tokens.tlv(0x6E, bytes(300_000)), "oversize"),
    ],
    ids=range(12),
)
def test_garbage_is_refused_by_kind(token: bytes, kind: str) -> None:
    with pytest.raises(WireError) as caught:
        ticket_of(token)
    assert caught.value.kind == kind


def test_a_length_in_more_octets_than_needed_is_read() -> None:
    """Windows writes such."""
    bare = tokens.client_token(framed=False)
    assert bare[:3] == b"\x6e\x82\x01"
    assert ticket_of(b"\x6e\x84\0\0" + bare[2:]) == SEEN


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_ticket_or_a_wire_error(data: bytes) -> None:
    for prefix in (b"", b"\x60", b"\x6e", tokens.client_token()[:60]):
        mechanism_of(prefix + data)
        try:
            ticket_of(prefix + data)
        except WireError:
            continue
