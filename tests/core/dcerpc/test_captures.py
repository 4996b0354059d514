"""The worked octets of the endpoint mapper, read and written again."""

from collections.abc import Callable
from ipaddress import IPv4Address
from uuid import UUID

import pytest

from casarray.core.dcerpc.interfaces.epm import EPM, EPT_MAP, NOT_REGISTERED, EptMap, EptMapReply
from casarray.core.dcerpc.ndr import NIL_HANDLE
from casarray.core.dcerpc.pdu import (
    NDR,
    NO_SYNTAX,
    Bind,
    BindAck,
    ContextResult,
    PduType,
    Request,
    Response,
    Result,
    Syntax,
    decode_pdu,
    take_pdu,
)
from casarray.core.dcerpc.tower import Tower
from casarray.core.errors import WireError

Capture = Callable[[str], bytes]

EMSMDB = Syntax(UUID("a4f1db00-ca47-1067-b31f-00dd010662da"), 0, 81)
ALL = ["mapper_bind", "mapper_bind_ack", "ept_map_emsmdb", "ept_map_emsmdb_reply", "ept_map_nothing_reply"]


def test_a_bind_to_the_mapper_offers_ndr_and_features(capture: Capture) -> None:
    bind = decode_pdu(capture("mapper_bind"))
    assert isinstance(bind, Bind)
    assert (bind.type, bind.call_id, bind.max_xmit, bind.max_recv, bind.group_id) == (PduType.BIND, 1, 5840, 5840, 0)
    assert [context.id for context in bind.contexts] == [0, 1]
    assert [context.interface for context in bind.contexts] == [EPM, EPM]
    assert bind.contexts[0].transfers == (NDR,)
    assert bind.contexts[1].transfers[0].features == 3


def test_its_answer_accepts_ndr_and_acknowledges_features(capture: Capture) -> None:
    ack = decode_pdu(capture("mapper_bind_ack"))
    assert isinstance(ack, BindAck)
    assert ack.group_id == 0x1234
    assert ack.secondary_address == b"135\0"
    assert ack.results == (ContextResult(Result.ACCEPTANCE, 0, NDR), ContextResult(Result.NEGOTIATE_ACK, 3, NO_SYNTAX))


def test_a_map_request_asks_for_emsmdb_over_tcp(capture: Capture) -> None:
    request = decode_pdu(capture("ept_map_emsmdb"))
    assert isinstance(request, Request)
    assert (request.opnum, request.context_id, request.alloc_hint) == (EPT_MAP, 0, 0x84)
    asked = EptMap(Tower.tcp(EMSMDB), max_towers=4, object=UUID(int=0))
    assert EptMap.decode(request.stub) == asked
    assert asked.encode() == request.stub


def test_a_map_answer_names_the_servers_own_address_and_port(capture: Capture) -> None:
    response = decode_pdu(capture("ept_map_emsmdb_reply"))
    assert isinstance(response, Response)
    reply = EptMapReply.decode(response.stub)
    assert reply == EptMapReply((Tower.tcp(EMSMDB, 59532, IPv4Address("10.1.1.3")),), 0, NIL_HANDLE, 4)


def test_four_octets_in_the_map_answer_change_the_address_in_place(capture: Capture) -> None:
    octets = bytearray(capture("ept_map_emsmdb_reply"))
    response = decode_pdu(bytes(octets))
    assert isinstance(response, Response)
    reply = EptMapReply.decode(response.stub)
    (tower,), (at,) = reply.towers, reply.towers_at
    assert tower.host_at is not None
    start = response.stub_at + at + tower.host_at
    octets[start : start + 4] = IPv4Address("192.0.2.7").packed
    changed = decode_pdu(bytes(octets))
    assert isinstance(changed, Response)
    expected = tower.moved_to(address=IPv4Address("192.0.2.7"))
    assert EptMapReply.decode(changed.stub).towers == (expected,)
    assert expected.address == IPv4Address("192.0.2.7")
    assert expected.port == 59532


def test_an_answer_without_towers_says_not_registered(capture: Capture) -> None:
    response = decode_pdu(capture("ept_map_nothing_reply"))
    assert isinstance(response, Response)
    assert EptMapReply.decode(response.stub) == EptMapReply((), NOT_REGISTERED)


@pytest.mark.parametrize("name", ALL)
def test_every_capture_is_written_again_as_it_was(capture: Capture, name: str) -> None:
    octets = capture(name)
    assert decode_pdu(octets).encode() == octets


@pytest.mark.parametrize("name", ALL)
def test_a_capture_cut_anywhere_is_no_pdu_yet(capture: Capture, name: str) -> None:
    octets = capture(name)
    for cut in range(len(octets)):
        buffer = bytearray(octets[:cut])
        assert take_pdu(buffer) is None
        assert buffer == octets[:cut]
        with pytest.raises(WireError):
            decode_pdu(octets[:cut])


def test_stubs_of_the_captures_cut_anywhere_are_wire_errors(capture: Capture) -> None:
    for name, decode in (("ept_map_emsmdb", EptMap.decode), ("ept_map_emsmdb_reply", EptMapReply.decode)):
        pdu = decode_pdu(capture(name))
        assert isinstance(pdu, Request | Response)
        for cut in range(len(pdu.stub)):
            with pytest.raises(WireError):
                decode(pdu.stub[:cut])
