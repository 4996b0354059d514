from dataclasses import replace
from ipaddress import IPv4Address
from itertools import product
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.dcerpc.cursor import NIL, Order
from casarray.core.dcerpc.interfaces.epm import (
    CANNOT_PERFORM,
    NOT_REGISTERED,
    Entry,
    EptLookup,
    EptLookupHandleFree,
    EptLookupHandleFreeReply,
    EptLookupReply,
    EptMap,
    EptMapReply,
    Inquiry,
    Versions,
)
from casarray.core.dcerpc.ndr import ContextHandle
from casarray.core.dcerpc.syntax import NDR64, Syntax
from casarray.core.dcerpc.tower import Floor, Tower
from casarray.core.errors import WireError

Message = EptMap | EptMapReply | EptLookup | EptLookupReply | EptLookupHandleFree | EptLookupHandleFreeReply

FORMS: list[tuple[Order, bool]] = list(product(("little", "big"), (False, True)))
HANDLE = ContextHandle(UUID("00112233-4455-6677-8899-aabbccddeeff"), 3)
OBJECT = UUID("12345678-1234-5678-9abc-def012345678")
EMSMDB = Syntax(UUID("a4f1db00-ca47-1067-b31f-00dd010662da"), 0, 81)
NSPI = Syntax(UUID("f5cc5a18-4264-101a-8c59-08002b2f8426"), 56, 0)
HOST = IPv4Address("10.1.1.3")
TCP_TOWER = Tower.tcp(EMSMDB, 59532, HOST)
PIPE_TOWER = Tower.pipe(NSPI, r"\pipe\epmapper", "CAS1")
ODD_TOWER = Tower((*TCP_TOWER.floors, Floor(0x77, b"x", b"yz")))
TOWERS = (TCP_TOWER, PIPE_TOWER, ODD_TOWER, Tower.http(NSPI, 6004, HOST, NDR64))

MESSAGES: list[Message] = [
    EptMap(TCP_TOWER),
    EptMap(PIPE_TOWER, 500, HANDLE, OBJECT),
    EptMap(ODD_TOWER, 0, HANDLE, None),
    EptMap(None),
    EptMapReply(TOWERS, 0, HANDLE, 500),
    EptMapReply(TOWERS[:1], max_towers=1),
    EptMapReply((), NOT_REGISTERED),
    EptLookup(),
    EptLookup(Inquiry.BY_BOTH, OBJECT, EMSMDB, Versions.UP_TO, HANDLE, 1),
    EptLookup(Inquiry.BY_INTERFACE, None, NSPI, Versions.COMPATIBLE),
    EptLookupReply(tuple(Entry(tower, "x" * (n * 21), OBJECT) for n, tower in enumerate(TOWERS)), 0, HANDLE),
    EptLookupReply((Entry(None, "no tower"), Entry(TCP_TOWER, "Grüße"), Entry(None, "")), CANNOT_PERFORM),
    EptLookupReply((), NOT_REGISTERED, max_entries=7),
    EptLookupHandleFree(HANDLE),
    EptLookupHandleFreeReply(5, HANDLE),
]
IDS = [f"{number}-{type(message).__name__}" for number, message in enumerate(MESSAGES)]


@pytest.mark.parametrize(("order", "ndr64"), FORMS)
@pytest.mark.parametrize("message", MESSAGES, ids=IDS)
def test_a_message_survives_the_round_trip(message: Message, order: Order, ndr64: bool) -> None:
    stub = message.encode(order, ndr64)
    again = type(message).decode(stub, order, ndr64)
    assert again == message
    assert again.encode(order, ndr64) == stub


@pytest.mark.parametrize(("order", "ndr64"), FORMS)
@pytest.mark.parametrize("message", MESSAGES, ids=IDS)
def test_a_message_cut_anywhere_is_a_wire_error(message: Message, order: Order, ndr64: bool) -> None:
    stub = message.encode(order, ndr64)
    for cut in range(len(stub)):
        with pytest.raises(WireError):
            type(message).decode(stub[:cut], order, ndr64)


@pytest.mark.parametrize(("order", "ndr64"), FORMS)
def test_an_answer_knows_where_the_octets_of_each_tower_begin(order: Order, ndr64: bool) -> None:
    map_reply = EptMapReply(TOWERS)
    stub = map_reply.encode(order, ndr64)
    for tower, at in zip(TOWERS, EptMapReply.decode(stub, order, ndr64).towers_at, strict=True):
        assert stub[at : at + len(tower.encode())] == tower.encode()
    lookup_reply = EptLookupReply((Entry(TCP_TOWER, "a"), Entry(None, "b"), Entry(PIPE_TOWER, "c")))
    stub = lookup_reply.encode(order, ndr64)
    first, none, last = EptLookupReply.decode(stub, order, ndr64).towers_at
    assert none is None
    assert first is not None
    assert last is not None
    assert stub[first:].startswith(TCP_TOWER.encode())
    assert stub[last:].startswith(PIPE_TOWER.encode())


@pytest.mark.parametrize(("order", "ndr64"), FORMS)
def test_four_octets_in_place_change_each_address_and_nothing_else(order: Order, ndr64: bool) -> None:
    vip = IPv4Address("192.0.2.1")
    stub = bytearray(EptMapReply(TOWERS).encode(order, ndr64))
    reply = EptMapReply.decode(bytes(stub), order, ndr64)
    for tower, at in zip(reply.towers, reply.towers_at, strict=True):
        if tower.host_at is not None:
            stub[at + tower.host_at : at + tower.host_at + 4] = vip.packed
    moved = EptMapReply.decode(bytes(stub), order, ndr64)
    assert moved == replace(reply, towers=tuple(tower.moved_to(address=vip) for tower in TOWERS))
    assert [tower.address for tower in moved.towers] == [vip, None, vip, vip]


def test_ndr64_lays_a_tower_out_as_its_definition_says() -> None:
    stub = EptMap(Tower.tcp(EMSMDB)).encode("little", True)
    assert stub[:48].hex() == (
        "0100000000000000"  # referent of the object
        "00000000000000000000000000000000"  # nil
        "0200000000000000"  # referent of the tower
        "4b00000000000000"  # the conformance has eight octets,
        "4b000000"  # tower_length is an unsigned32,
        "05001300"  # and the octets follow at once: five floors, the first
    )
    # ... 75 of them, one of padding, the handle, max_towers.
    assert len(stub) == 44 + 75 + 1 + 20 + 4


def test_a_verification_trailer_after_a_request_is_read_over() -> None:
    trailer = bytes.fromhex("8ae3137102f43671") + bytes.fromhex("02402800") + bytes(40)
    for message in (EptMap(TCP_TOWER), EptLookup(Inquiry.BY_INTERFACE, None, NSPI), EptLookupHandleFree(HANDLE)):
        assert type(message).decode(message.encode() + trailer) == message


def test_a_pointer_to_a_nil_object_is_not_a_null_pointer() -> None:
    assert EptMap.decode(EptMap(TCP_TOWER, object=NIL).encode()).object == NIL
    assert EptMap.decode(EptMap(TCP_TOWER, object=None).encode()).object is None


@pytest.mark.parametrize("name", ["conformance", "length"])
def test_a_tower_whose_two_lengths_differ_is_refused(name: str) -> None:
    stub = bytearray(EptMap(TCP_TOWER).encode())
    stub[24 if name == "conformance" else 28] += 1
    with pytest.raises(WireError) as caught:
        EptMap.decode(bytes(stub))
    assert caught.value.kind == "range"


def test_a_tower_of_more_than_2000_octets_is_refused_before_it_is_read() -> None:
    stub = bytearray(EptMap(TCP_TOWER).encode())
    stub[24:32] = (2001).to_bytes(4, "little") * 2
    with pytest.raises(WireError) as caught:
        EptMap.decode(bytes(stub))
    assert caught.value.kind == "range"


def test_more_than_500_entries_are_refused_in_requests_and_answers() -> None:
    for message in (EptMap(TCP_TOWER, 501), EptLookup(max_entries=501)):
        with pytest.raises(WireError) as caught:
            type(message).decode(message.encode())
        assert caught.value.kind == "range"
    stub = bytearray(EptMapReply((), 0).encode())
    stub[20:24] = (501).to_bytes(4, "little")
    with pytest.raises(WireError):
        EptMapReply.decode(bytes(stub))


def test_an_answer_whose_counts_disagree_is_refused() -> None:
    for reply in (EptMapReply(TOWERS), EptLookupReply((Entry(TCP_TOWER), Entry(PIPE_TOWER)))):
        for at in (20, 32):  # num_towers, then the array's length
            stub = bytearray(reply.encode())
            stub[at] -= 1
            with pytest.raises(WireError) as caught:
                type(reply).decode(bytes(stub))
            assert caught.value.kind == "range"


def test_two_towers_with_one_referent_are_refused() -> None:
    stub = bytearray(EptMapReply((TCP_TOWER, TCP_TOWER)).encode())
    stub[40:44] = stub[36:40]
    with pytest.raises(WireError) as caught:
        EptMapReply.decode(bytes(stub))
    assert caught.value.kind == "alias"


def test_a_null_tower_in_a_map_answer_is_left_out() -> None:
    stub = bytearray(EptMapReply((TCP_TOWER, PIPE_TOWER)).encode())
    first_size = 8 + 75 + 1
    del stub[44 : 44 + first_size]
    stub[36:40] = bytes(4)
    reply = EptMapReply.decode(bytes(stub))
    assert reply.towers == (PIPE_TOWER,)
    assert reply.towers_at == (52,)


def test_octets_after_the_status_of_an_answer_are_refused_beyond_padding() -> None:
    stub = EptMapReply((TCP_TOWER,)).encode()
    assert EptMapReply.decode(stub + bytes(15)).towers == (TCP_TOWER,)
    with pytest.raises(WireError) as caught:
        EptMapReply.decode(stub + bytes(16))
    assert caught.value.kind == "trailing"


def test_an_annotation_has_at_most_63_characters() -> None:
    with pytest.raises(WireError):
        EptLookupReply((Entry(TCP_TOWER, "x" * 64),)).encode()
    stub = bytearray(EptLookupReply((Entry(TCP_TOWER, "x" * 63),)).encode())
    stub[60] = 65
    with pytest.raises(WireError):
        EptLookupReply.decode(bytes(stub))


KINDS = st.sampled_from([EptMap, EptMapReply, EptLookup, EptLookupReply, EptLookupHandleFree, EptLookupHandleFreeReply])


@given(stub=st.binary(max_size=300), kind=KINDS, form=st.sampled_from(FORMS))
def test_any_octets_are_a_message_or_a_wire_error(stub: bytes, kind: type[Message], form: tuple[Order, bool]) -> None:
    _read_or_refuse(kind, stub, form)


@given(data=st.data(), message=st.sampled_from(MESSAGES), form=st.sampled_from(FORMS))
def test_a_message_with_octets_changed_is_a_message_or_a_wire_error(
    data: st.DataObject, message: Message, form: tuple[Order, bool]
) -> None:
    stub = bytearray(message.encode(*form))
    for at in data.draw(st.lists(st.integers(0, len(stub) - 1), min_size=1, max_size=4)):
        stub[at] = data.draw(st.sampled_from([0, 1, 2, 4, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    _read_or_refuse(type(message), bytes(stub), form)


def _read_or_refuse(kind: type[Message], stub: bytes, form: tuple[Order, bool]) -> None:
    try:
        message = kind.decode(stub, *form)
    except WireError:
        return
    if isinstance(message, EptMapReply):
        for tower, at in zip(message.towers, message.towers_at, strict=True):
            assert stub[at:].startswith(tower.encode())
    if isinstance(message, EptLookupReply):
        for entry, entry_at in zip(message.entries, message.towers_at, strict=True):
            assert (entry.tower is None) == (entry_at is None)
            assert entry.tower is None or stub[entry_at:].startswith(entry.tower.encode())
