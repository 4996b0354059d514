from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.dcerpc.cursor import Order
from casarray.core.dcerpc.pdu import (
    DEFAULT_FRAGMENT,
    FIRST,
    HEADER_SIZE,
    NDR,
    NDR64,
    NO_SYNTAX,
    OBJECT_UUID,
    WHOLE,
    AlterContext,
    AlterContextResponse,
    Auth,
    Auth3,
    Bind,
    BindAck,
    BindNak,
    CoCancel,
    Context,
    ContextResult,
    Fault,
    Orphaned,
    Pdu,
    PduType,
    Request,
    Response,
    Result,
    Rts,
    Shutdown,
    Syntax,
    decode_pdu,
    take_pdu,
    whole_size,
)
from casarray.core.dcerpc.syntax import KEEP_ON_ORPHAN, feature_negotiation
from casarray.core.errors import WireError

EPM = Syntax(UUID("e1af8308-5d1f-11c9-91a4-08002b14a0fa"), 3, 0)
OBJECT = UUID("00112233-4455-6677-8899-aabbccddeeff")
TOKEN = Auth(type=9, level=6, context_id=79231, token=b"NTLMSSP\0token")
CONTEXTS = (Context(0, EPM, (NDR,)), Context(1, EPM, (NDR64, NDR)), Context(2, EPM, (feature_negotiation(3),)))
RESULTS = (ContextResult(0, 0, NDR), ContextResult(2, 2, NO_SYNTAX), ContextResult(3, 2, NO_SYNTAX))

PDUS: list[Pdu] = [
    Request(call_id=1, context_id=0, opnum=3, stub=b"question"),
    Request(call_id=2, context_id=7, opnum=3, stub=b"q", object=OBJECT, flags=FIRST, alloc_hint=9, auth=TOKEN),
    Request(call_id=2, context_id=7, opnum=0, stub=b"", auth=TOKEN),
    Response(call_id=0xFFFFFFFF, context_id=1, stub=b"answer", cancel_count=1, auth=TOKEN),
    Response(call_id=1, context_id=1, stub=b""),
    Fault(call_id=1, status=0x1C010002),
    Fault(call_id=1, status=5, context_id=2, fault_flags=1, rest=bytes(4) + b"extended"),
    Bind(call_id=1, contexts=CONTEXTS, group_id=0x1234),
    Bind(call_id=1, contexts=(), auth=TOKEN),
    AlterContext(call_id=2, contexts=CONTEXTS[:1], auth=TOKEN),
    BindAck(call_id=1, results=RESULTS, group_id=0x1234, secondary_address=b"135\0"),
    BindAck(call_id=1, results=RESULTS, secondary_address=b"\\PIPE\\epmapper\0", auth=TOKEN),
    AlterContextResponse(call_id=2, results=RESULTS[:1], auth=TOKEN),
    BindNak(call_id=1, reason=4, versions=((5, 0), (5, 1))),
    BindNak(call_id=1, reason=0, versions=(), rest=b"\0"),
    Auth3(call_id=1, auth=TOKEN),
    Shutdown(call_id=0),
    CoCancel(call_id=4),
    Orphaned(call_id=4, auth=TOKEN),
    Rts(call_id=0, body=bytes.fromhex("40000000")),
]
IDS = [f"{number}-{type(pdu).__name__}" for number, pdu in enumerate(PDUS)]
ORDERS: list[Order] = ["little", "big"]


def _plain(pdu: Pdu) -> Pdu:
    """Without what `encode` fills in."""
    if pdu.auth is not None:
        pdu = replace(pdu, auth=replace(pdu.auth, pad=None))
    if isinstance(pdu, Request):
        return replace(pdu, alloc_hint=None, flags=pdu.flags & ~OBJECT_UUID)
    return replace(pdu, alloc_hint=None) if isinstance(pdu, Response) else pdu


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("pdu", PDUS, ids=IDS)
def test_a_pdu_survives_the_round_trip(pdu: Pdu, order: Order) -> None:
    pdu = replace(pdu, order=order)
    octets = pdu.encode()
    again = decode_pdu(octets)
    assert type(again) is type(pdu)
    assert _plain(again) == _plain(pdu)
    assert again.raw == octets
    assert again.encode() == octets


@pytest.mark.parametrize("pdu", PDUS, ids=IDS)
def test_a_pdu_cut_anywhere_is_not_there_yet(pdu: Pdu) -> None:
    octets = pdu.encode()
    for cut in range(len(octets)):
        buffer = bytearray(octets[:cut])
        assert take_pdu(buffer) is None
        assert buffer == octets[:cut]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("pdu", [pdu for pdu in PDUS if pdu.type is not PduType.RTS], ids=lambda pdu: pdu.type.name)
def test_a_pdu_whose_length_field_is_too_small_is_a_value_or_a_wire_error(pdu: Pdu, order: Order) -> None:
    octets = replace(pdu, order=order).encode()
    for size in range(len(octets)):
        short = bytearray(octets[:size])
        if size >= 10:
            short[8:10] = size.to_bytes(2, order)
        try:
            decode_pdu(bytes(short))
        except WireError as error:
            if error.kind not in {"truncated", "auth", "trailing"}:
                raise


def test_a_bind_cut_within_a_context_is_truncated() -> None:
    octets = bytearray(Bind(call_id=1, contexts=CONTEXTS).encode()[:-1])
    octets[8:10] = len(octets).to_bytes(2, "little")
    with pytest.raises(WireError) as caught:
        decode_pdu(bytes(octets))
    assert caught.value.kind == "truncated"


@pytest.mark.parametrize("type_", list(PduType))
def test_every_type_has_an_example_here(type_: PduType) -> None:
    assert type_ in {pdu.type for pdu in PDUS}


def test_the_drep_says_which_order_all_numbers_have() -> None:
    little = Fault(call_id=1, status=0x1C010002).encode()
    big = Fault(call_id=1, status=0x1C010002, order="big").encode()
    assert little[4:16].hex() == "100000002000000001000000"
    assert big[4:16].hex() == "000000000020000000000001"
    assert big[24:28].hex() == "1c010002"


def test_a_request_with_an_object_sets_the_flag_and_moves_its_stub() -> None:
    with_object = decode_pdu(Request(call_id=1, context_id=0, opnum=1, stub=b"abcd", object=OBJECT).encode())
    without = decode_pdu(Request(call_id=1, context_id=0, opnum=1, stub=b"abcd", flags=WHOLE | OBJECT_UUID).encode())
    assert isinstance(with_object, Request)
    assert isinstance(without, Request)
    assert with_object.flags == WHOLE | OBJECT_UUID
    assert (with_object.object, with_object.stub_at, with_object.raw[40:]) == (OBJECT, 40, b"abcd")
    assert (without.flags, without.object, without.stub_at, without.raw[24:]) == (WHOLE, None, 24, b"abcd")


@pytest.mark.parametrize("pdu", [pdu for pdu in PDUS if pdu.auth is not None], ids=lambda pdu: pdu.type.name)
def test_an_auth_trailer_begins_on_its_boundary_and_its_padding_is_counted(pdu: Pdu) -> None:
    again = decode_pdu(pdu.encode())
    assert again.auth is not None
    assert again.auth.pad is not None
    assert (again.auth.type, again.auth.level, again.auth.context_id) == (9, 6, 79231)
    assert again.auth.token == TOKEN.token
    trailer_at = len(again.raw) - 8 - len(TOKEN.token)
    assert (trailer_at - again.stub_at) % again.trailer_boundary == 0
    assert again.raw[trailer_at + 2] == len(again.auth.pad)


def test_padding_of_others_is_kept_as_it_was() -> None:
    auth = replace(TOKEN, pad=b"junk!")
    octets = Response(call_id=1, context_id=0, stub=b"abc", auth=auth).encode()
    again = decode_pdu(octets)
    assert isinstance(again, Response)
    assert again.stub == b"abc"
    assert again.auth == auth
    assert again.encode() == octets


def _header(**changes: bytes) -> bytearray:
    octets = bytearray(Request(call_id=1, context_id=0, opnum=3, stub=b"12345678").encode())
    for place, value in changes.items():
        at = int(place[1:])
        octets[at : at + len(value)] = value
    return octets


@pytest.mark.parametrize(
    ("octets", "kind"),
    [
        (_header(_0=b"\4"), "version"),
        (_header(_1=b"\1"), "version"),
        (_header(_2=b"\1"), "type"),
        (_header(_2=b"\x15"), "type"),
        (_header(_4=b"\x20"), "drep"),
        (_header(_8=b"\x0f\0"), "length"),
        (_header(_8=b"\0\0"), "length"),
        (_header(_8=b"\x13\0"), "truncated"),  # a request of 19 octets
        (_header(_8=b"\xd1\x16"), "oversize"),  # 5841
        (_header(_10=b"\x20\0"), "auth"),  # a token larger than the PDU
        (_header(_10=b"\x09\0"), "auth"),  # a trailer that would begin in the header
        (bytearray(b"GET / HTTP/1.1\r\n\r\n"), "version"),
        (bytearray(b"\x16"), "version"),  # the first octet of TLS is enough
    ],
)
def test_each_kind_of_bad_header_has_its_name(octets: bytearray, kind: str) -> None:
    before = bytes(octets)
    for _ in range(2):  # it stays bad
        with pytest.raises(WireError) as caught:
            take_pdu(octets)
        assert caught.value.kind == kind
        assert octets == before


def test_padding_that_reaches_into_the_header_is_refused() -> None:
    octets = bytearray(Response(call_id=1, context_id=0, stub=b"abc", auth=TOKEN).encode())
    octets[len(octets) - 8 - len(TOKEN.token) + 2] = 255
    with pytest.raises(WireError) as caught:
        decode_pdu(bytes(octets))
    assert caught.value.kind == "auth"


@pytest.mark.parametrize("pad", [1, 16, 255])
def test_padding_that_an_empty_body_has_no_room_for_is_refused(pad: int) -> None:
    octets = bytearray(Orphaned(call_id=4, auth=replace(TOKEN, pad=b"")).encode())
    octets[HEADER_SIZE + 2] = pad
    with pytest.raises(WireError) as caught:
        decode_pdu(bytes(octets))
    assert caught.value.kind == "auth"


def test_padding_that_reaches_into_the_fields_of_a_response_is_refused() -> None:
    octets = bytearray(Response(call_id=1, context_id=0, stub=b"", auth=replace(TOKEN, pad=b"")).encode())
    octets[24 + 2] = 1
    with pytest.raises(WireError) as caught:
        decode_pdu(bytes(octets))
    assert caught.value.kind == "truncated"


@pytest.mark.parametrize("pdu", [PDUS[7], PDUS[10]], ids=["bind", "bind_ack"])
def test_octets_that_nobody_accounts_for_are_refused(pdu: Pdu) -> None:
    octets = bytearray(pdu.encode() + b"\0")
    octets[8:10] = len(octets).to_bytes(2, "little")
    with pytest.raises(WireError) as caught:
        decode_pdu(bytes(octets))
    assert caught.value.kind == "trailing"


def test_padding_that_the_trailer_does_not_count_is_read_over() -> None:
    octets = bytearray(AlterContextResponse(call_id=1, results=RESULTS[:1], auth=replace(TOKEN, pad=bytes(4))).encode())
    octets[len(octets) - 8 - len(TOKEN.token) + 2] = 0
    again = decode_pdu(bytes(octets))
    assert isinstance(again, AlterContextResponse)
    assert again.results == RESULTS[:1]


def test_a_fault_without_its_reserved_word_is_read() -> None:
    octets = Fault(call_id=1, status=5, rest=b"").encode()
    assert len(octets) == 28
    assert decode_pdu(octets) == Fault(call_id=1, status=5, rest=b"")


def test_a_bind_nak_may_end_after_the_reason() -> None:
    octets = bytearray(BindNak(call_id=1, reason=8, versions=()).encode()[:18])
    octets[8:10] = b"\x12\0"
    again = decode_pdu(bytes(octets))
    assert isinstance(again, BindNak)
    assert (again.reason, again.versions) == (8, ())


@pytest.mark.parametrize(
    "pdu",
    [
        Response(call_id=1, context_id=0, stub=bytes(65536)),
        Response(call_id=1, context_id=65536, stub=b""),
        Response(call_id=-1, context_id=0, stub=b""),
        Fault(call_id=1 << 32, status=1),
        Bind(call_id=1, contexts=CONTEXTS[:1] * 256),
        Response(call_id=1, context_id=0, stub=b"", auth=replace(TOKEN, pad=bytes(256))),
    ],
)
def test_what_does_not_fit_the_wire_is_a_wire_error(pdu: Pdu) -> None:
    with pytest.raises(WireError):
        pdu.encode()


def test_the_limit_counts_the_whole_pdu() -> None:
    octets = Response(call_id=1, context_id=0, stub=bytes(DEFAULT_FRAGMENT - 24)).encode()
    assert len(octets) == DEFAULT_FRAGMENT
    assert take_pdu(bytearray(octets)) is not None
    with pytest.raises(WireError) as caught:
        take_pdu(bytearray(octets[:HEADER_SIZE]), DEFAULT_FRAGMENT - 1)  # refused before it is held
    assert caught.value.kind == "oversize"


def test_all_before_the_bad_pdu_is_delivered() -> None:
    buffer = bytearray(PDUS[0].encode() + PDUS[5].encode() + b"\5\0\x63" + bytes(13))
    assert isinstance(take_pdu(buffer), Request)
    assert isinstance(take_pdu(buffer), Fault)
    with pytest.raises(WireError):
        take_pdu(buffer)


def test_features_are_the_bits_in_a_pretended_transfer_syntax() -> None:
    syntax = feature_negotiation(KEEP_ON_ORPHAN)
    assert syntax.features == 2
    assert str(syntax.uuid).startswith("6cb71c2c-9812-4540-02")
    assert NDR.features is None
    assert Syntax(syntax.uuid, 2, 0).features is None


def test_emsmdb_carries_its_minor_version_in_the_high_half() -> None:
    assert Syntax(OBJECT, 0, 81).encode("little")[16:] == bytes.fromhex("00005100")
    assert Syntax(OBJECT, 0, 81).encode("big")[16:] == bytes.fromhex("00510000")
    assert str(Syntax(OBJECT, 0, 81)) == f"{OBJECT}/0.81"


def test_numbers_that_no_enum_knows_are_kept() -> None:
    ack = BindAck(call_id=1, results=(ContextResult(77, 99, NDR),))
    again = decode_pdu(ack.encode())
    assert isinstance(again, BindAck)
    assert again.results[0].result == 77
    assert again.results[0].result not in list(Result)
    assert not again.results[0].accepted


@given(st.binary(max_size=200))
def test_any_octets_are_a_pdu_or_a_wire_error(octets: bytes) -> None:
    _read_or_refuse(octets)


@given(body=st.binary(max_size=200), kind=st.sampled_from(PduType), token=st.integers(0, 60), order=st.booleans())
def test_any_body_behind_a_good_header_is_a_pdu_or_a_wire_error(
    body: bytes, kind: PduType, token: int, order: bool
) -> None:
    how: Order = "little" if order else "big"
    head = bytes([5, 0, kind, 3, 0x10 if order else 0, 0, 0, 0])
    numbers = (16 + len(body)).to_bytes(2, how) + token.to_bytes(2, how) + (7).to_bytes(4, how)
    _read_or_refuse(head + numbers + body)


@given(data=st.data(), pdu=st.sampled_from(PDUS), order=st.sampled_from(ORDERS))
def test_a_pdu_with_octets_changed_is_a_pdu_or_a_wire_error(data: st.DataObject, pdu: Pdu, order: Order) -> None:
    octets = bytearray(replace(pdu, order=order).encode())
    for at in data.draw(st.lists(st.integers(0, len(octets) - 1), max_size=4)):
        octets[at] = data.draw(st.integers(0, 255))
    _read_or_refuse(bytes(octets))


def _read_or_refuse(octets: bytes) -> None:
    try:
        pdu = decode_pdu(octets)
    except WireError as error:
        if error.kind not in {"version", "type", "drep", "length", "truncated", "auth", "trailing"}:
            raise
        return
    assert whole_size(octets, 0xFFFF) == len(octets)
    # What is read can be written, and reading that again gives the same.
    assert _plain(decode_pdu(pdu.encode())) == _plain(pdu)


@given(data=st.data())
def test_a_stream_chopped_anywhere_gives_the_same_pdus(data: st.DataObject) -> None:
    pdus = data.draw(st.lists(st.sampled_from(PDUS), max_size=6))
    stream = b"".join(pdu.encode() for pdu in pdus)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    buffer = bytearray()
    taken = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        buffer += stream[start:end]
        while (pdu := take_pdu(buffer)) is not None:
            taken.append(pdu.raw)
    assert not buffer
    assert taken == [pdu.encode() for pdu in pdus]
