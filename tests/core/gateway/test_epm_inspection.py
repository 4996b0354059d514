"""The endpoint mapper watched from the middle: recorded bytes, then everything that may vary, then the hostile."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.dcerpc.conftest import read_capture
from tests.core.gateway.middle import ARRAY, MEMBER, Middle, inspection, tell, to_client, to_server

from casarray.core.dcerpc.association import Reply
from casarray.core.dcerpc.cursor import Order
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.interfaces.epm import (
    EPM,
    EPT_LOOKUP,
    EPT_LOOKUP_HANDLE_FREE,
    EPT_MAP,
    Entry,
    EptLookup,
    EptLookupHandleFree,
    EptLookupReply,
    EptMap,
    EptMapReply,
)
from casarray.core.dcerpc.interfaces.mgmt import INQ_IF_IDS, MGMT
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.pdu import (
    FIRST,
    LAST,
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
    Request,
    Response,
    Shutdown,
)
from casarray.core.dcerpc.syntax import NDR, NDR64, Syntax
from casarray.core.dcerpc.tower import Tower
from casarray.core.gateway.epm_inspection import InspectionLimits, MapperInspection, PortPolicy
from casarray.core.gateway.layer import (
    Answered,
    ClientClosed,
    Close,
    Command,
    EndToServer,
    Event,
    FromClient,
    FromServer,
    OpenPinholes,
    OpenRange,
    SendToClient,
    SendToServer,
    ServerClosed,
)

BIND = read_capture("mapper_bind")
BIND_ACK = read_capture("mapper_bind_ack")
MAP = read_capture("ept_map_emsmdb")
ANSWER = read_capture("ept_map_emsmdb_reply")  # one tower, 10.1.1.3:59532
NOTHING = read_capture("ept_map_nothing_reply")
HOST_AT = 24 + 20 + 4 + 12 + 4 + 8 + 75 - 4  # header, handle, count, array, referent, two lengths, tower up to its host

RECORDED: list[Event] = [FromClient(BIND), FromServer(BIND_ACK), FromClient(MAP), FromServer(ANSWER)]
SIGNED = Auth(type=10, level=5, context_id=0, token=bytes(16))
SEALED = replace(SIGNED, level=6)


def bound(limits: InspectionLimits | None = None, ports: PortPolicy | None = None) -> MapperInspection:
    """An inspection on which the recorded bind has been answered."""
    layer = inspection(limits=limits, ports=ports)
    tell(layer, RECORDED[:2])
    return layer


def many(count: int) -> tuple[Entry, ...]:
    """So many registrations on ports from 50000 up."""
    return tuple(
        Entry(Tower.tcp(replace(EMSMDB, minor=n % 7), 50000 + n, MEMBER), f"number {n}"[: n % 20]) for n in range(count)
    )


# What the recorded bytes become


def test_an_answer_names_the_array_and_its_port_is_open_before_it_leaves() -> None:
    moved = ANSWER[:HOST_AT] + bytes([10, 11, 0, 100]) + ANSWER[HOST_AT + 4 :]
    assert ANSWER[HOST_AT : HOST_AT + 4] == bytes([10, 1, 1, 3])
    assert tell(inspection(), RECORDED) == [
        SendToServer(BIND),
        SendToClient(BIND_ACK),
        SendToServer(MAP),
        OpenPinholes((59532,)),
        SendToClient(moved),
        Answered("ept_map", rewritten=1),
    ]


def test_an_answer_without_towers_passes_as_it_is() -> None:
    commands = tell(inspection(), [*RECORDED[:3], FromServer(NOTHING)])
    assert commands[3:] == [SendToClient(NOTHING), Answered("ept_map", rewritten=0)]


def test_a_server_that_says_here_is_not_corrected() -> None:
    here = ANSWER[:HOST_AT] + bytes(4) + ANSWER[HOST_AT + 4 :]
    commands = tell(inspection(), [*RECORDED[:3], FromServer(here)])
    assert commands[3:] == [OpenPinholes((59532,)), SendToClient(here), Answered("ept_map", rewritten=0)]


def test_a_client_that_came_over_ipv6_is_told_here() -> None:
    commands = tell(inspection(None), RECORDED)
    assert to_client(commands[4:]) == ANSWER[:HOST_AT] + bytes(4) + ANSWER[HOST_AT + 4 :]
    assert commands[-1] == Answered("ept_map", rewritten=1)


def test_a_server_that_already_names_the_array_is_passed_on_as_it_came() -> None:
    commands = tell(inspection(IPv4Address("10.1.1.3")), RECORDED)
    assert commands[4:] == [SendToClient(ANSWER), Answered("ept_map", rewritten=0)]


@pytest.mark.parametrize(
    "ports",
    [
        PortPolicy(static=frozenset({59532})),
        PortPolicy(dynamic=(1024, 59531)),
        PortPolicy(dynamic=(59533, 65535)),
    ],
    ids=["static", "above the range", "below the range"],
)
def test_a_port_that_is_static_or_not_dynamic_gets_no_pinhole(ports: PortPolicy) -> None:
    commands = tell(inspection(ports=ports), RECORDED)
    assert not [c for c in commands if isinstance(c, OpenPinholes)]
    assert commands[-1] == Answered("ept_map", rewritten=1)


def test_a_new_policy_holds_for_a_connection_under_way() -> None:
    layer = bound()
    layer.ports = PortPolicy(static=frozenset({59532}))
    assert not [c for c in tell(layer, RECORDED[2:]) if isinstance(c, OpenPinholes)]


# Towers


def mapped(*towers: Tower, order: Order = "little", ndr64: bool = False) -> tuple[list[Command], EptMapReply]:
    """What an answer with these towers becomes, and how the client reads it."""
    transfer = NDR64 if ndr64 else NDR
    layer = inspection()
    offer = Bind(call_id=1, order=order, contexts=(Context(7, EPM, (transfer,)),))
    stub = EptMapReply(towers, max_towers=20).encode(order, ndr64)
    commands = tell(
        layer,
        [
            FromClient(offer.encode()),
            FromServer(BindAck(call_id=1, order=order, results=(ContextResult(0, 0, transfer),)).encode()),
            FromClient(Request(call_id=2, order=order, context_id=7, opnum=EPT_MAP, stub=b"").encode()),
            FromServer(Response(call_id=2, order=order, context_id=7, stub=stub).encode()),
        ],
    )
    return commands[3:], EptMapReply.decode(to_client(commands[3:])[24:], order, ndr64)


@pytest.mark.parametrize("ndr64", [False, True], ids=["NDR", "NDR64"])
@pytest.mark.parametrize("order", ["little", "big"])
def test_both_byte_orders_and_both_transfer_syntaxes_are_read(order: Order, ndr64: bool) -> None:
    commands, reply = mapped(Tower.tcp(EMSMDB, 50001, MEMBER), Tower.tcp(NSPI, 50002, MEMBER), order=order, ndr64=ndr64)
    assert commands[0] == OpenPinholes((50001, 50002))
    assert reply.towers == (Tower.tcp(EMSMDB, 50001, ARRAY), Tower.tcp(NSPI, 50002, ARRAY))


def test_udp_and_http_towers_name_the_array_and_get_no_pinhole_and_pipes_stay() -> None:
    pipe = Tower.pipe(EMSMDB, r"\pipe\x", r"\\CAS1")
    commands, reply = mapped(Tower.udp(EMSMDB, 50001, MEMBER), Tower.http(EMSMDB, 6001, MEMBER), pipe)
    assert reply.towers == (Tower.udp(EMSMDB, 50001, ARRAY), Tower.http(EMSMDB, 6001, ARRAY), pipe)
    assert commands[-1] == Answered("ept_map", rewritten=2)
    assert isinstance(commands[0], SendToClient)


def test_each_port_is_opened_once_in_the_order_of_the_answer() -> None:
    ports = [50002, 50001, 50002, 135, 0]
    commands, _ = mapped(*(Tower.tcp(EMSMDB, port, MEMBER) for port in ports))
    assert commands[0] == OpenPinholes((50002, 50001))


# Lookups, fragments, handles


@pytest.mark.parametrize("ndr64", [False, True], ids=["NDR", "NDR64"])
@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("max_fragment", [1432, 5840])
def test_a_lookup_in_many_fragments_is_held_and_moved(order: Order, ndr64: bool, max_fragment: int) -> None:
    transfer = (NDR64,) if ndr64 else (NDR,)
    middle = Middle(many(300), order=order, transfer=transfer, max_fragment=max_fragment)
    middle.bind()
    commands = middle.say(middle.client.call(EPM, EPT_LOOKUP, EptLookup().encode(order, ndr64)))
    [reply] = middle.events_of_client
    assert isinstance(reply, Reply)
    seen = EptLookupReply.decode(reply.stub, reply.order, reply.ndr64)
    assert [e.tower and e.tower.address for e in seen.entries] == [ARRAY] * 300
    assert [e.annotation for e in seen.entries] == [e.annotation for e in middle.entries]
    assert commands[1] == OpenPinholes(tuple(range(50000, 50300)))
    assert commands[-1] == Answered("ept_lookup", rewritten=300)
    assert sum(isinstance(c, SendToClient) for c in commands) > 300 * 75 // max_fragment


def test_nothing_but_the_hosts_differs_in_a_moved_answer() -> None:
    middle = Middle(many(300))
    middle.bind()
    commands = middle.say(middle.client.call(EPM, EPT_LOOKUP, EptLookup().encode()))
    sent = middle.events[-1]
    assert isinstance(sent, FromServer)
    assert to_client(commands).replace(ARRAY.packed, MEMBER.packed) == sent.data


def test_a_lookup_goes_on_with_its_handle_until_nothing_is_left() -> None:
    middle = Middle(many(7), page=3)
    middle.bind()
    opened: list[int] = []
    asked = EptLookup(max_entries=3)
    for _ in range(3):
        commands = middle.say(middle.client.call(EPM, EPT_LOOKUP, asked.encode()))
        [reply] = middle.events_of_client
        assert isinstance(reply, Reply)
        opened += [port for c in commands if isinstance(c, OpenPinholes) for port in c.ports]
        asked = replace(asked, handle=EptLookupReply.decode(reply.stub).handle)
    assert opened == list(range(50000, 50007))
    assert asked.handle.is_nil


def test_freeing_a_handle_passes_as_it_is() -> None:
    middle = Middle(many(7), page=3)
    middle.bind()
    middle.say(middle.client.call(EPM, EPT_LOOKUP, EptLookup(max_entries=3).encode()))
    [reply] = middle.events_of_client
    assert isinstance(reply, Reply)
    handle = EptLookupReply.decode(reply.stub).handle
    assert not handle.is_nil
    commands = middle.say(middle.client.call(EPM, EPT_LOOKUP_HANDLE_FREE, EptLookupHandleFree(handle).encode()))
    assert [type(c) for c in commands] == [SendToServer, SendToClient]


def test_nothing_of_an_answer_leaves_before_its_last_fragment() -> None:
    middle = Middle(many(60), max_fragment=1432)
    middle.bind()
    middle.say(middle.client.call(EPM, EPT_LOOKUP, EptLookup().encode()))
    question, answer = middle.events[-2:]
    assert isinstance(answer, FromServer)
    layer = inspection()
    tell(layer, [*middle.events[:2], question])
    last = answer.data.rindex(bytes([5, 0, 2, LAST]))
    assert layer.from_server(answer.data[:last]) == []
    commands = layer.from_server(answer.data[last:])
    assert isinstance(commands[0], OpenPinholes)
    assert len(to_client(commands)) == len(answer.data)


def test_a_fault_in_the_middle_of_an_answer_takes_its_place() -> None:
    layer = bound()
    tell(layer, RECORDED[2:3])
    fault = Fault(call_id=1, status=0x1C000009).encode()
    begun = Response(call_id=1, flags=FIRST, context_id=0, stub=bytes(200)).encode()
    assert tell(layer, [FromServer(begun), FromServer(fault)]) == [SendToClient(fault)]
    assert not layer.server_owes_answers
    assert layer.server_closed() == [Close()]  # nothing is missing


# Several calls, several contexts


def test_answers_may_come_in_another_order_than_the_calls() -> None:
    layer = bound()
    calls = [Request(call_id=n, context_id=0, opnum=EPT_MAP, stub=b"").encode() for n in (5, 6, 7)]
    tell(layer, [FromClient(b"".join(calls))])
    answers = [
        Response(call_id=n, context_id=0, stub=EptMapReply((Tower.tcp(EMSMDB, 50000 + n, MEMBER),)).encode()).encode()
        for n in (7, 5, 6)
    ]
    commands = layer.from_server(b"".join(answers))
    assert [c for c in commands if isinstance(c, OpenPinholes)] == [OpenPinholes((50000 + n,)) for n in (7, 5, 6)]
    assert not layer.server_owes_answers


def test_the_management_interface_passes_even_where_its_answer_looks_like_towers() -> None:
    layer = inspection()
    contexts = (Context(0, EPM, (NDR,)), Context(1, MGMT, (NDR,)))
    accepted = ContextResult(0, 0, NDR)
    answer = Response(call_id=2, context_id=1, stub=EptMapReply((Tower.tcp(EMSMDB, 50001, MEMBER),)).encode()).encode()
    commands = tell(
        layer,
        [
            FromClient(Bind(call_id=1, contexts=contexts).encode()),
            FromServer(BindAck(call_id=1, results=(accepted, accepted)).encode()),
            FromClient(Request(call_id=2, context_id=1, opnum=EPT_MAP, stub=b"").encode()),
            FromServer(answer),
        ],
    )
    assert commands[3:] == [SendToClient(answer)]


def test_a_real_management_call_passes() -> None:
    middle = Middle(many(1))
    middle.bind(MGMT)
    commands = middle.say(middle.client.call(MGMT, INQ_IF_IDS, b""))
    assert [type(c) for c in commands] == [SendToServer, SendToClient]
    assert isinstance(middle.events_of_client[0], Reply)


def test_a_mapper_context_that_an_alter_context_adds_is_known() -> None:
    layer = inspection()
    accepted = ContextResult(0, 0, NDR)
    alter = AlterContext(call_id=2, contexts=(Context(9, EPM, (NDR,)),)).encode()
    call = Request(call_id=3, context_id=9, opnum=EPT_MAP, stub=b"").encode()
    tower = Tower.tcp(EMSMDB, 50001, MEMBER)
    commands = tell(
        layer,
        [
            FromClient(Bind(call_id=1, contexts=(Context(0, MGMT, (NDR,)),)).encode()),
            FromServer(BindAck(call_id=1, results=(accepted,)).encode()),
            FromClient(alter + call),  # the call does not wait for the answer to the alter_context
            FromServer(AlterContextResponse(call_id=2, results=(accepted,)).encode()),
            FromServer(Response(call_id=3, context_id=9, stub=EptMapReply((tower,)).encode()).encode()),
        ],
    )
    assert commands[5] == OpenPinholes((50001,))


def test_everything_else_that_may_be_said_passes() -> None:
    layer = bound()
    client = [Auth3(call_id=1, auth=SIGNED), CoCancel(call_id=3), Orphaned(call_id=3)]
    server: list[Pdu] = [Shutdown(call_id=0)]
    said = [FromClient(p.encode()) for p in client] + [FromServer(p.encode()) for p in server]
    assert tell(layer, said) == [SendToServer(p.encode()) for p in client] + [SendToClient(p.encode()) for p in server]


def test_a_refused_bind_may_be_tried_again() -> None:
    layer = inspection()
    nak = BindNak(call_id=1, reason=4).encode()
    assert tell(layer, [RECORDED[0], FromServer(nak)]) == [SendToServer(BIND), SendToClient(nak)]
    assert tell(layer, RECORDED)[3] == OpenPinholes((59532,))


# Authenticated answers


@pytest.mark.parametrize("auth", [SIGNED, SEALED], ids=["signed", "sealed"])
@pytest.mark.parametrize("opens", [False, True], ids=["nothing", "range"])
def test_an_authenticated_answer_passes_untouched_and_the_policy_decides(auth: Auth, opens: bool) -> None:
    layer = bound(ports=PortPolicy(range_when_unreadable=opens))
    tell(layer, RECORDED[2:3])
    stub = EptMapReply((Tower.tcp(EMSMDB, 50001, MEMBER),)).encode()
    pieces = [
        Response(call_id=1, flags=FIRST, context_id=0, stub=stub[:64], auth=auth).encode(),
        Response(call_id=1, flags=LAST, context_id=0, stub=stub[64:], auth=auth).encode(),
    ]
    assert tell(layer, [FromServer(piece) for piece in pieces]) == [
        *([OpenRange()] if opens else []),
        SendToClient(pieces[0]),
        SendToClient(pieces[1]),
        Answered("ept_map", rewritten=0, authenticated=True),
    ]


@pytest.mark.parametrize("first", [None, SIGNED], ids=["plain first", "signed first"])
def test_an_answer_authenticated_in_part_is_refused(first: Auth | None) -> None:
    layer = bound()
    tell(layer, RECORDED[2:3])
    second = SIGNED if first is None else None
    begun = Response(call_id=1, flags=FIRST, context_id=0, stub=bytes(64), auth=first).encode()
    layer.from_server(begun)
    rest = Response(call_id=1, flags=LAST, context_id=0, stub=bytes(64), auth=second).encode()
    assert layer.from_server(rest) == [Close("fragment")]


# Ends


def test_a_client_that_waits_for_nothing_ends_both_sides() -> None:
    layer = inspection()
    tell(layer, RECORDED)
    assert layer.client_closed() == [Close()]


def test_a_client_that_closed_its_side_still_gets_its_answer() -> None:
    layer = bound()
    assert tell(layer, [FromClient(MAP), ClientClosed()]) == [SendToServer(MAP), EndToServer()]
    commands = layer.from_server(ANSWER)
    assert isinstance(commands[1], SendToClient)
    assert commands[-1] == Close()


def test_a_client_that_ends_in_a_pdu_is_counted() -> None:
    assert tell(bound(), [FromClient(MAP[:30]), ClientClosed()]) == [Close("truncated")]


def test_a_server_that_ends_is_the_end() -> None:
    assert tell(bound(), [ServerClosed()]) == [Close()]


@pytest.mark.parametrize("part", [ANSWER[:40], Response(call_id=1, flags=FIRST, context_id=0, stub=b"").encode()])
def test_a_server_that_ends_in_an_answer_is_counted(part: bytes) -> None:
    assert tell(bound(), [FromClient(MAP), FromServer(part), ServerClosed()])[1:] == [Close("truncated")]


def test_after_a_close_there_is_nothing_more_to_do() -> None:
    layer = bound()
    assert layer.from_client(b"GET / HTTP/1.0\r\n\r\n") == [Close("version")]
    assert tell(layer, [*RECORDED, ClientClosed(), ServerClosed()]) == []


def test_what_came_before_a_bad_pdu_is_still_delivered() -> None:
    assert bound().from_client(MAP + b"\xff" * 16) == [SendToServer(MAP), Close("version")]


# Bad input and limits

REQUEST = Request(call_id=1, context_id=0, opnum=EPT_MAP, stub=bytes(64))
RESPONSE = Response(call_id=1, context_id=0, stub=bytes(64))


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ([FromClient(MAP)], "out-of-turn"),
        ([FromServer(BIND_ACK)], "out-of-turn"),
        ([FromClient(BIND_ACK)], "out-of-turn"),
        ([*RECORDED[:1], FromClient(BIND)], "out-of-turn"),
        ([*RECORDED[:2], FromServer(BIND_ACK)], "out-of-turn"),
        ([*RECORDED[:2], FromServer(ANSWER)], "out-of-turn"),
        ([*RECORDED, FromServer(ANSWER)], "out-of-turn"),
        ([*RECORDED[:2], FromServer(MAP)], "out-of-turn"),
        ([*RECORDED[:2], FromClient(MAP + MAP)], "out-of-turn"),
        ([*RECORDED[:2], FromClient(replace(REQUEST, flags=LAST).encode())], "fragment"),
        ([*RECORDED[:3], FromServer(replace(RESPONSE, flags=LAST).encode())], "fragment"),
        ([FromClient(b"\x04" + BIND[1:])], "version"),
        ([FromClient(BIND[:2] + b"\x1e" + BIND[3:])], "type"),
        ([FromClient(BIND[:4] + b"\x20" + BIND[5:])], "drep"),
        ([FromClient(BIND[:8] + b"\x0f\x00" + BIND[10:])], "length"),
        ([FromClient(BIND[:8] + b"\xd1\x16")], "oversize"),
        ([*RECORDED[:3], FromServer(ANSWER[:8] + b"\xd1\x16")], "oversize"),
        ([FromClient(BIND[:24] + b"\x03" + BIND[25:])], "truncated"),
        ([FromClient(BIND[:10] + b"\xff\x00" + BIND[12:])], "auth"),
        ([*RECORDED[:1], FromServer(BindAck(call_id=1, results=(ContextResult(0, 0, NDR),)).encode())], "results"),
        (
            [*RECORDED[:1], FromServer(BindAck(call_id=1, results=(ContextResult(0, 0, NDR64),) * 2).encode())],
            "results",
        ),
        ([*RECORDED[:3], FromServer(replace(RESPONSE, stub=bytes(20)).encode())], "truncated"),
        ([*RECORDED[:3], FromServer(ANSWER[:44] + b"\xff\xff\xff\xff" + ANSWER[48:])], "range"),
        ([*RECORDED[:3], FromServer(ANSWER[:52] + b"\x01" + ANSWER[53:])], "range"),  # an array that begins at 1
        ([*RECORDED[:3], FromServer(ANSWER[:56] + b"\x02" + ANSWER[57:])], "range"),  # two towers where one was said
        ([*RECORDED[:3], FromServer(ANSWER[:68] + b"\x4c" + ANSWER[69:])], "range"),  # a tower longer than its array
        ([*RECORDED[:3], FromServer(ANSWER[:72] + b"\x07" + ANSWER[73:])], "tower"),  # seven floors
        ([*RECORDED[:3], FromServer(ANSWER[:72] + b"\x06" + ANSWER[73:])], "truncated"),  # six, of which five are there
    ],
)
def test_what_cannot_be_right_closes_the_connection_by_kind(said: Sequence[Event], kind: str) -> None:
    layer = inspection()
    tell(layer, said[:-1])
    commands = layer.on(said[-1])
    assert commands[-1] == Close(kind)
    assert not [c for c in commands if isinstance(c, SendToClient | OpenPinholes)]


def test_the_sizes_that_both_agreed_on_are_the_limit_afterwards() -> None:
    layer = inspection()
    ack = BindAck(call_id=1, max_xmit=2000, max_recv=3000, results=(ContextResult(0, 0, NDR),)).encode()
    offer = Bind(call_id=1, contexts=(Context(0, EPM, (NDR,)),)).encode()
    tell(layer, [FromClient(offer), FromServer(ack)])
    assert layer.from_client(replace(REQUEST, stub=bytes(3000 - 24)).encode())[0] != Close("oversize")
    assert layer.from_server(replace(RESPONSE, stub=bytes(2001 - 24)).encode()) == [Close("oversize")]


@pytest.mark.parametrize(("size", "passes"), [(3000, True), (3001, False)])
def test_a_client_may_send_what_the_server_said_it_takes(size: int, passes: bool) -> None:
    layer = inspection()
    ack = BindAck(call_id=1, max_recv=3000, results=(ContextResult(0, 0, NDR),)).encode()
    tell(layer, [FromClient(Bind(call_id=1, contexts=(Context(0, EPM, (NDR,)),)).encode()), FromServer(ack)])
    call = replace(REQUEST, stub=bytes(size - 24)).encode()
    assert layer.from_client(call) == ([SendToServer(call)] if passes else [Close("oversize")])


def test_an_answer_beyond_the_limit_is_not_held() -> None:
    layer = bound(InspectionLimits(held=10_000))
    layer.from_client(REQUEST.encode())
    assert layer.from_server(replace(RESPONSE, flags=FIRST, stub=bytes(5000)).encode()) == []
    assert layer.from_server(replace(RESPONSE, flags=0, stub=bytes(5000)).encode()) == [Close("oversize")]


def test_an_answer_in_too_many_fragments_is_not_held() -> None:
    layer = bound(InspectionLimits(fragments=3))
    layer.from_client(REQUEST.encode())
    drops = [replace(RESPONSE, flags=flags, stub=b"").encode() for flags in (FIRST, 0, 0)]
    assert tell(layer, [FromServer(drop) for drop in drops]) == []
    assert layer.from_server(drops[1]) == [Close("oversize")]


def test_too_many_calls_without_an_answer_are_refused() -> None:
    layer = bound(InspectionLimits(calls=4))
    for n in range(4):
        assert layer.from_client(replace(REQUEST, call_id=n).encode())[0] != Close("out-of-turn")
    assert layer.from_client(replace(REQUEST, call_id=4).encode()) == [Close("out-of-turn")]


# Any chopping, any bytes


def _cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a != b]


def _conversation() -> list[Event]:
    middle = Middle(many(60), max_fragment=1432)
    middle.bind(MGMT)
    middle.say(middle.client.call(EPM, EPT_LOOKUP, EptLookup().encode()))
    middle.say(middle.client.call(MGMT, INQ_IF_IDS, b""))
    middle.say(middle.client.call(EPM, EPT_MAP, EptMap(Tower.tcp(EMSMDB)).encode()))
    return middle.events


CONVERSATION = _conversation()


@given(st.lists(st.lists(st.integers(0, 6000), max_size=12), min_size=len(CONVERSATION), max_size=len(CONVERSATION)))
@settings(deadline=None)
def test_any_chopping_of_both_streams_orders_the_same(places: list[list[int]]) -> None:
    whole = tell(inspection(), CONVERSATION)
    chopped: list[Event] = []
    for event, cuts in zip(CONVERSATION, places, strict=True):
        assert isinstance(event, FromClient | FromServer)
        chopped += [type(event)(piece) for piece in _cut(event.data, cuts)]
    assert tell(inspection(), chopped) == whole
    assert to_server(whole) == b"".join(e.data for e in CONVERSATION if isinstance(e, FromClient))


def test_single_octets_order_the_same() -> None:
    drops = [
        type(event)(bytes([octet]))
        for event in CONVERSATION
        if isinstance(event, FromClient | FromServer)
        for octet in event.data
    ]
    assert tell(inspection(), drops) == tell(inspection(), CONVERSATION)


def check_orders(commands: list[Command]) -> None:
    """What must hold whatever was said: nothing after a close; ports open right before their answer."""
    closes = [n for n, command in enumerate(commands) if isinstance(command, Close)]
    assert closes in ([], [len(commands) - 1])
    for command, following in pairwise(commands):
        if isinstance(command, OpenPinholes | OpenRange):
            assert isinstance(following, SendToClient)
            assert following.data[2] == Response.type
    assert not commands or not isinstance(commands[-1], OpenPinholes | OpenRange)


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=300)), max_size=20))
@settings(deadline=None, max_examples=300)
def test_any_bytes_end_in_commands(said: list[tuple[bool, bytes]]) -> None:
    check_orders(tell(inspection(), [FromClient(data) if mine else FromServer(data) for mine, data in said]))


@st.composite
def _mutated(draw: st.DrawFn) -> list[Event]:
    """The recorded conversation with octets changed, pieces lost, doubled and swapped."""
    events: list[Event] = []
    for event in CONVERSATION:
        assert isinstance(event, FromClient | FromServer)
        data = bytearray(event.data)
        for at, octet in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=4)):
            data[at] = octet
        cut = draw(st.one_of(st.none(), st.integers(0, len(data))))
        events += [type(event)(bytes(data[:cut]))] * draw(st.sampled_from([1, 1, 1, 0, 2]))
    return events + draw(st.lists(st.sampled_from([ClientClosed(), ServerClosed(), *events]), max_size=3))


@given(_mutated())
@settings(deadline=None, max_examples=150)
def test_a_spoilt_conversation_ends_in_commands_within_bounds(said: list[Event]) -> None:
    layer = inspection(limits=InspectionLimits(held=8192, fragments=8))
    commands: list[Command] = []
    for event in said:
        commands += layer.on(event)
        assert held_octets(layer) <= 2 * 65536 + 8192
    check_orders(commands)


def held_octets(layer: object) -> int:
    """How many octets an inspection keeps, looked at from inside: that is the promise."""
    client, server, held = (getattr(layer, name) for name in ("_client", "_server", "_held"))
    return len(client.unread) + len(server.unread) + sum(len(fragment.raw) for fragment in held)


@given(st.binary(min_size=1, max_size=64), st.integers(1, 2000))
@settings(deadline=None, max_examples=50)
def test_an_endless_stream_is_not_kept(piece: bytes, times: int) -> None:
    layer = bound()
    for _ in range(times):
        layer.from_client(piece)
        assert held_octets(layer) <= 5840 + len(piece)


def test_an_unknown_interface_on_the_mappers_port_passes() -> None:
    oxid = Syntax(EMSMDB.uuid, 0, 0)
    layer = inspection()
    offer = Bind(call_id=1, contexts=(Context(0, oxid, (NDR,)),)).encode()
    ack = BindAck(call_id=1, results=(ContextResult(0, 0, NDR),)).encode()
    answer = replace(RESPONSE, stub=bytes(range(64))).encode()
    commands = tell(layer, [FromClient(offer), FromServer(ack), FromClient(REQUEST.encode()), FromServer(answer)])
    assert commands[-1] == SendToClient(answer)
