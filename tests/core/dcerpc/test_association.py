"""Client and server joined in memory, and each against what the other would never send."""

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.dcerpc.association import (
    ACCESS_DENIED,
    BAD_STUB_DATA,
    OP_RANGE_ERROR,
    PROTOCOL_ERROR,
    SERVER_TOO_BUSY,
    UNKNOWN_INTERFACE,
    AssociationGroups,
    BindRefused,
    Bound,
    Broken,
    Call,
    Cancelled,
    ClientEvent,
    Failed,
    Orphan,
    Reply,
    RpcClient,
    RpcServer,
    Send,
    ServerEvent,
    ShutdownAsked,
    State,
)
from casarray.core.dcerpc.cursor import Order
from casarray.core.dcerpc.interfaces.epm import EPM
from casarray.core.dcerpc.interfaces.mgmt import MGMT, InqIfIdsReply, IsServerListeningReply
from casarray.core.dcerpc.pdu import (
    FIRST,
    LAST,
    MAYBE,
    NDR,
    NDR64,
    WHOLE,
    Auth,
    Bind,
    BindAck,
    BindNak,
    Context,
    ContextResult,
    Fault,
    Orphaned,
    Pdu,
    Reason,
    Request,
    Response,
    Result,
    Rts,
    Shutdown,
    Syntax,
    decode_pdu,
    take_pdu,
)
from casarray.core.dcerpc.syntax import feature_negotiation
from casarray.core.errors import OutOfTurn, WireError

ECHO = Syntax(UUID(int=0xEC40), 1, 0)
OTHER = Syntax(UUID(int=0x07), 2, 1)
UNKNOWN = Syntax(UUID(int=0xBAD), 1, 0)
TOKEN = Auth(9, 2, 1, b"leg one")


def echo(call: Call) -> bytes | int:
    """0 answers with what was asked, 1 fails, 2 cannot read its stub; there is no 3."""
    if call.opnum == 2:
        raise WireError("range", "this stub")
    if call.opnum == 0:
        return call.stub
    return 0x721 if call.opnum == 1 else OP_RANGE_ERROR


def bound() -> tuple[RpcClient, RpcServer]:
    client, server = RpcClient(), RpcServer({ECHO: echo, OTHER: echo})
    client.receive(server.serve(client.bind(ECHO, OTHER)))
    assert client.state is server.state is State.BOUND
    return client, server


def sent(data: bytes) -> list[Pdu]:
    buffer, pdus = bytearray(data), []
    while (pdu := take_pdu(buffer, 0xFFFF)) is not None:
        pdus.append(pdu)
    assert not buffer
    return pdus


# Binding


def test_a_bind_is_answered_with_a_result_for_each_context() -> None:
    client, server = RpcClient(), RpcServer({ECHO: echo}, secondary_address="5001")
    (event,) = client.receive(server.serve(client.bind(ECHO, UNKNOWN, features=3)))
    assert isinstance(event, Bound)
    assert [(result.result, result.reason) for result in event.results] == [
        (Result.ACCEPTANCE, 0),
        (Result.PROVIDER_REJECTION, Reason.ABSTRACT_SYNTAX_NOT_SUPPORTED),
        (Result.NEGOTIATE_ACK, 2),
    ]
    assert client.accepts(ECHO)
    assert not client.accepts(UNKNOWN)
    assert client.group_id == server.group_id != 0


def test_the_secondary_address_is_the_port_with_its_nul() -> None:
    (ack,) = sent(RpcServer([ECHO], secondary_address="5001").serve(RpcClient().bind(ECHO)))
    assert isinstance(ack, BindAck)
    assert ack.secondary_address == b"5001\0"


@pytest.mark.parametrize(
    ("speaks", "offers", "chosen"),
    [
        ((NDR,), (NDR, NDR64), NDR),
        ((NDR64, NDR), (NDR, NDR64), NDR64),
        ((NDR64, NDR), (NDR,), NDR),
        ((NDR, NDR64), (NDR64, NDR), NDR),
        ((NDR64,), (NDR,), None),
    ],
)
def test_a_server_takes_at_most_one_transfer_syntax_for_an_interface(
    speaks: tuple[Syntax, ...], offers: tuple[Syntax, ...], chosen: Syntax | None
) -> None:
    client, server = RpcClient(), RpcServer({ECHO: echo}, transfer=speaks)
    (event,) = client.receive(server.serve(client.bind(ECHO, transfer=offers)))
    assert isinstance(event, Bound)
    taken = [result.transfer for result in event.results if result.accepted]
    assert taken == ([] if chosen is None else [chosen])
    refused = [result.reason for result in event.results if not result.accepted]
    assert set(refused) <= {Reason.TRANSFER_SYNTAXES_NOT_SUPPORTED}
    assert client.accepts(ECHO) == (chosen is not None)
    if chosen is not None:
        assert client.ndr64(ECHO) == (chosen == NDR64)
        (call,) = server.receive(client.call(ECHO, 0, b"x"))
        assert isinstance(call, Call)
        assert call.ndr64 == (chosen == NDR64)
        (reply,) = client.receive(call.reply(b""))
        assert isinstance(reply, Reply)
        assert reply.ndr64 == (chosen == NDR64)


def test_one_context_that_offers_both_gets_the_best() -> None:
    context = Context(3, ECHO, (NDR, NDR64))
    (ack,) = sent(RpcServer([ECHO], transfer=(NDR64, NDR)).serve(Bind(call_id=1, contexts=(context,)).encode()))
    assert isinstance(ack, BindAck)
    assert ack.results == (ContextResult(Result.ACCEPTANCE, 0, NDR64),)


def test_a_second_bind_is_refused_and_ends_the_association() -> None:
    client, server = bound()
    send, broken = server.receive(RpcClient().bind(ECHO))
    assert isinstance(send, Send)
    assert isinstance(decode_pdu(send.data), BindNak)
    assert isinstance(broken, Broken)
    assert isinstance(broken.error, OutOfTurn)
    assert server.closed
    with pytest.raises(OutOfTurn):
        server.receive(b"")
    with pytest.raises(OutOfTurn):
        client.bind(ECHO)


@pytest.mark.parametrize("version", [b"\4\0", b"\5\1", b"\6\0"])
def test_a_bind_in_another_version_is_told_which_would_do(version: bytes) -> None:
    octets = bytearray(RpcClient().bind(ECHO))
    octets[:2] = version
    send, broken = RpcServer([ECHO]).receive(bytes(octets))
    assert isinstance(send, Send)
    nak = decode_pdu(send.data)
    assert isinstance(nak, BindNak)
    assert (nak.call_id, nak.reason, nak.versions) == (1, 4, ((5, 0),))
    assert isinstance(broken, Broken)


def test_somebody_who_speaks_http_is_told_nothing() -> None:
    (broken,) = RpcServer([ECHO]).receive(b"GET / HTTP/1.1\r\nHost: outlook\r\n\r\n")
    assert isinstance(broken, Broken)
    assert isinstance(broken.error, WireError)
    assert broken.error.kind == "version"


def test_a_bind_with_authentication_is_refused_by_a_server_without() -> None:
    client, server = RpcClient(), RpcServer([ECHO])
    (event,) = client.receive(server.serve(client.bind(ECHO, auth=TOKEN)))
    assert event == BindRefused(8, ((5, 0),))
    assert client.state is server.state is State.IDLE
    (event,) = client.receive(server.serve(client.bind(ECHO)))  # and may be tried again
    assert isinstance(event, Bound)


def test_tokens_travel_in_both_directions_untouched() -> None:
    seen: list[bytes] = []

    def authenticate(auth: Auth) -> Auth | None:
        seen.append(auth.token)
        return replace(auth, token=b"answer to " + auth.token, pad=None)

    client, server = RpcClient(), RpcServer([ECHO], authenticate=authenticate)
    (event,) = client.receive(server.serve(client.bind(ECHO, auth=TOKEN)))
    assert isinstance(event, Bound)
    assert event.auth is not None
    assert event.auth.token == b"answer to leg one"
    (event,) = client.receive(server.serve(client.alter(ECHO, auth=replace(TOKEN, token=b"leg two"))))
    assert isinstance(event, Bound)
    assert server.serve(client.auth3(replace(TOKEN, token=b"leg three"))) == b""
    assert seen == [b"leg one", b"leg two", b"leg three"]


def test_a_bind_refused_by_a_fault_is_a_refusal() -> None:
    client = RpcClient()
    client.bind(ECHO)
    (event,) = client.receive(Fault(call_id=1, status=ACCESS_DENIED).encode())
    assert event == BindRefused(0, (), ACCESS_DENIED)


@pytest.mark.parametrize(
    "results",
    [
        (),
        (ContextResult(0, 0, NDR), ContextResult(0, 0, NDR)),
        (ContextResult(0, 0, NDR64),),  # not offered
    ],
)
def test_an_answer_that_does_not_fit_the_bind_breaks_the_client(results: tuple[ContextResult, ...]) -> None:
    client = RpcClient()
    client.bind(ECHO)
    (event,) = client.receive(BindAck(call_id=1, results=results).encode())
    assert isinstance(event, Broken)
    assert client.state is State.CLOSED


# Groups


def test_connections_with_one_group_id_share_a_group_until_the_last_one_ends() -> None:
    groups = AssociationGroups()
    first, second = RpcServer([ECHO], groups=groups), RpcServer([ECHO], groups=groups)
    client = RpcClient()
    client.receive(first.serve(client.bind(ECHO)))
    again = RpcClient()
    again.receive(second.serve(again.bind(ECHO, group_id=client.group_id)))
    assert again.group_id == client.group_id == first.group_id == second.group_id
    assert not first.close()
    assert second.close()
    assert not second.close()  # it was left already


def test_a_group_that_ended_cannot_be_joined() -> None:
    groups = AssociationGroups()
    server = RpcServer([ECHO], groups=groups)
    server.serve(RpcClient().bind(ECHO))
    group_id = server.group_id
    server.close()
    client = RpcClient()
    (event,) = client.receive(RpcServer([ECHO], groups=groups).serve(client.bind(ECHO, group_id=group_id)))
    assert isinstance(event, BindRefused)


def test_new_groups_get_new_ids() -> None:
    groups = AssociationGroups()
    assert len({groups.join(0) for _ in range(5)}) == 5


# Calls


def test_a_call_is_answered_and_a_failed_one_fails() -> None:
    client, server = bound()
    (reply,) = client.receive(server.serve(client.call(ECHO, 0, b"hello")))
    assert reply == Reply(client.last_call_id, b"hello")
    (failed,) = client.receive(server.serve(client.call(ECHO, 1, b"")))
    assert failed == Failed(client.last_call_id, 0x721)


@pytest.mark.parametrize(("opnum", "status"), [(2, BAD_STUB_DATA), (3, OP_RANGE_ERROR)])
def test_what_a_server_cannot_do_is_a_fault_with_its_status(opnum: int, status: int) -> None:
    client, server = bound()
    (failed,) = client.receive(server.serve(client.call(ECHO, opnum, b"")))
    assert isinstance(failed, Failed)
    assert failed.status == status


def test_an_interface_without_a_function_has_no_operations() -> None:
    client, server = RpcClient(), RpcServer([ECHO])
    client.receive(server.serve(client.bind(ECHO)))
    (failed,) = client.receive(server.serve(client.call(ECHO, 0, b"")))
    assert failed == Failed(2, OP_RANGE_ERROR, did_not_execute=True)


def test_a_call_on_a_context_that_was_never_accepted_is_an_unknown_interface() -> None:
    _, server = bound()
    (fault,) = sent(server.serve(Request(call_id=9, context_id=77, opnum=0, stub=b"").encode()))
    assert isinstance(fault, Fault)
    assert (fault.call_id, fault.status, fault.context_id) == (9, UNKNOWN_INTERFACE, 77)
    assert server.state is State.BOUND


def test_a_call_before_the_bind_is_a_protocol_error_and_the_end() -> None:
    server = RpcServer([ECHO])
    send, broken = server.receive(Request(call_id=1, context_id=0, opnum=0, stub=b"").encode())
    assert isinstance(send, Send)
    (fault,) = sent(send.data)
    assert isinstance(fault, Fault)
    assert fault.status == PROTOCOL_ERROR
    assert isinstance(broken, Broken)


def test_a_long_call_and_its_answer_go_in_fragments_no_larger_than_agreed() -> None:
    client, server = RpcClient(max_fragment=2000), RpcServer({ECHO: echo}, max_fragment=1600)
    client.receive(server.serve(client.bind(ECHO)))
    stub = bytes(range(256)) * 40
    question = client.call(ECHO, 0, stub)
    assert len(sent(question)) == 7
    assert all(len(pdu.raw) <= 1600 for pdu in sent(question))
    answer = server.serve(question)
    assert all(len(pdu.raw) <= 1600 for pdu in sent(answer))
    (reply,) = client.receive(answer)
    assert isinstance(reply, Reply)
    assert reply.stub == stub


def test_a_fragment_larger_than_agreed_breaks_the_server() -> None:
    client, server = RpcClient(), RpcServer({ECHO: echo}, max_fragment=1600)
    client.receive(server.serve(client.bind(ECHO)))
    (broken,) = server.receive(Request(call_id=5, context_id=0, opnum=0, stub=bytes(1600)).encode())
    assert isinstance(broken, Broken)
    assert isinstance(broken.error, WireError)
    assert broken.error.kind == "oversize"


@pytest.mark.parametrize("offered", [0, 100, 1431])
def test_a_peer_that_offers_tiny_fragments_gets_the_smallest_that_all_must_take(offered: int) -> None:
    server = RpcServer({ECHO: echo})
    bind = Bind(call_id=1, contexts=(Context(0, ECHO, (NDR,)),), max_xmit=offered, max_recv=offered)
    (ack,) = sent(server.serve(bind.encode()))
    assert isinstance(ack, BindAck)
    assert (ack.max_xmit, ack.max_recv) == (1432, 1432)


def test_a_call_beyond_the_limit_is_denied_and_ends_the_association() -> None:
    client, server = RpcClient(), RpcServer({ECHO: echo}, limit=10_000)
    client.receive(server.serve(client.bind(ECHO)))
    *sends, broken = server.receive(client.call(ECHO, 0, bytes(10_001)))
    (send,) = sends
    assert isinstance(send, Send)
    (fault,) = sent(send.data)
    assert isinstance(fault, Fault)
    assert fault.status == ACCESS_DENIED
    assert isinstance(broken, Broken)


def test_calls_may_be_answered_later_and_in_any_order() -> None:
    client, server = bound()
    first, second = server.receive(client.call(ECHO, 0, b"1") + client.call(OTHER, 0, b"2"))
    assert isinstance(first, Call)
    assert isinstance(second, Call)
    assert (first.interface, second.interface) == (ECHO, OTHER)
    assert server.outstanding == 2
    replies = client.receive(second.reply(b"two") + first.fault(5))
    assert replies == [Reply(second.call_id, b"two"), Failed(first.call_id, 5)]
    assert server.outstanding == 0


def test_a_call_is_answered_once() -> None:
    client, server = bound()
    (call,) = server.receive(client.call(ECHO, 0, b""))
    assert isinstance(call, Call)
    assert call.reply(b"x")
    assert call.reply(b"x") == b""
    assert call.fault(5) == b""


def test_a_call_that_was_given_up_wants_no_answer() -> None:
    client, server = bound()
    (call,) = server.receive(client.call(ECHO, 0, b""))
    assert isinstance(call, Call)
    assert server.receive(client.cancel(call.call_id)) == [Cancelled(call.call_id)]
    assert server.receive(client.orphan(call.call_id)) == [Orphan(call.call_id)]
    assert call.reply(b"late") == b""


def test_an_answer_that_crosses_its_orphaned_pdu_is_not_reported() -> None:
    client, server = bound()
    answer = server.serve(client.call(ECHO, 0, bytes(9000)))
    client.orphan(client.last_call_id)
    assert client.receive(answer) == []
    (reply,) = client.receive(server.serve(client.call(ECHO, 0, b"next")))
    assert isinstance(reply, Reply)


def test_a_call_given_up_half_way_is_forgotten() -> None:
    client, server = bound()
    half = sent(client.call(ECHO, 0, bytes(9000)))[0]
    assert server.receive(half.raw) == []
    server.receive(Orphaned(call_id=half.call_id).encode())
    assert server.serve(client.call(ECHO, 0, b"next"))


def test_a_call_that_wants_no_answer_gets_none() -> None:
    _, server = bound()
    octets = Request(call_id=5, context_id=0, opnum=1, stub=b"", flags=WHOLE | MAYBE).encode()
    (call,) = server.receive(octets)
    assert isinstance(call, Call)
    assert call.fault(5) == b""
    assert server.outstanding == 0
    assert server.serve(replace_context(octets, 99)) == b""


def replace_context(octets: bytes, context_id: int) -> bytes:
    return octets[:20] + context_id.to_bytes(2, "little") + octets[22:]


def test_more_calls_than_a_server_holds_are_told_it_is_busy() -> None:
    client, server = RpcClient(), RpcServer([ECHO], max_outstanding=2)
    client.receive(server.serve(client.bind(ECHO)))
    calls = server.receive(b"".join(client.call(ECHO, 0, b"") for _ in range(3)))
    assert [type(event) for event in calls] == [Call, Call, Send]
    assert isinstance(calls[2], Send)
    (failed,) = client.receive(calls[2].data)
    assert isinstance(failed, Failed)
    assert failed.status == SERVER_TOO_BUSY


def test_a_call_id_that_is_still_in_use_is_a_protocol_error() -> None:
    _, server = bound()
    octets = Request(call_id=5, context_id=0, opnum=0, stub=b"").encode()
    call, send, broken = server.receive(octets + octets)
    assert isinstance(call, Call)
    assert isinstance(send, Send)
    assert isinstance(broken, Broken)


@pytest.mark.parametrize("order", ["little", "big"])
def test_answers_come_in_the_byte_order_of_the_question(order: Order) -> None:
    client, server = RpcClient(order=order), RpcServer({ECHO: echo})
    client.receive(server.serve(client.bind(ECHO)))
    answer = server.serve(client.call(ECHO, 0, b"abc"))
    assert sent(answer)[0].order == order
    (reply,) = client.receive(answer)
    assert isinstance(reply, Reply)
    assert reply.order == order


# Altering


def test_an_interface_added_later_can_be_called() -> None:
    client, server = RpcClient(), RpcServer({ECHO: echo, OTHER: echo})
    client.receive(server.serve(client.bind(ECHO)))
    with pytest.raises(OutOfTurn):
        client.call(OTHER, 0, b"")
    (event,) = client.receive(server.serve(client.alter(OTHER)))
    assert isinstance(event, Bound)
    (reply,) = client.receive(server.serve(client.call(OTHER, 0, b"x")))
    assert isinstance(reply, Reply)


def test_calls_and_further_contexts_may_overtake_the_answer_to_an_alter_context() -> None:
    client, server = RpcClient(), RpcServer({ECHO: echo, OTHER: echo})
    client.receive(server.serve(client.bind(ECHO)))
    octets = client.alter(OTHER) + client.call(ECHO, 0, b"x") + client.alter(MGMT)
    states = [client.state]
    events = client.receive(server.serve(octets))
    assert [type(event) for event in events] == [Bound, Reply, Bound]
    assert [*states, client.state] == [State.ALTERING, State.BOUND]


def test_a_context_id_keeps_its_meaning() -> None:
    _, server = bound()
    alter = Bind(call_id=9, contexts=(Context(0, OTHER, (NDR,)), Context(0, ECHO, (NDR,))))
    octets = bytearray(alter.encode())
    octets[2] = 14
    (answer,) = sent(server.serve(bytes(octets)))
    assert isinstance(answer, BindAck)
    assert [result.accepted for result in answer.results] == [False, True]


def test_a_server_keeps_a_bounded_number_of_contexts() -> None:
    server = RpcServer([ECHO], max_fragment=65535)
    server.serve(Bind(call_id=1, max_xmit=65535, contexts=tuple(Context(n, ECHO, (NDR,)) for n in range(255))).encode())
    octets = bytearray(Bind(call_id=2, contexts=tuple(Context(n, ECHO, (NDR,)) for n in range(255, 500))).encode())
    octets[2] = 14
    (answer,) = sent(server.serve(bytes(octets)))
    assert isinstance(answer, BindAck)
    assert [result.reason for result in answer.results] == [0] + [Reason.LOCAL_LIMIT_EXCEEDED] * 244


def test_an_alter_context_refused_by_a_fault_leaves_the_association_bound() -> None:
    client, _ = bound()
    client.alter(UNKNOWN)
    events = client.receive(Fault(call_id=client.last_call_id, status=PROTOCOL_ERROR).encode())
    assert events == [Failed(client.last_call_id, PROTOCOL_ERROR)]
    assert client.state is State.BOUND


# Management


def test_every_server_answers_the_management_interface() -> None:
    client, server = RpcClient(), RpcServer({ECHO: echo})
    client.receive(server.serve(client.bind(MGMT)))
    (reply,) = client.receive(server.serve(client.call(MGMT, 0, b"")))
    assert isinstance(reply, Reply)
    assert InqIfIdsReply.decode(reply.stub).interfaces == (ECHO, MGMT)
    (reply,) = client.receive(server.serve(client.call(MGMT, 2, b"")))
    assert isinstance(reply, Reply)
    assert IsServerListeningReply.decode(reply.stub) == IsServerListeningReply(True)


@pytest.mark.parametrize(("opnum", "status"), [(1, ACCESS_DENIED), (3, ACCESS_DENIED), (5, OP_RANGE_ERROR)])
def test_management_that_needs_a_right_is_denied(opnum: int, status: int) -> None:
    client, server = RpcClient(), RpcServer({ECHO: echo})
    client.receive(server.serve(client.bind(MGMT)))
    (failed,) = client.receive(server.serve(client.call(MGMT, opnum, b"")))
    assert isinstance(failed, Failed)
    assert failed.status == status


def test_a_server_may_answer_the_management_interface_itself() -> None:
    client, server = RpcClient(), RpcServer({MGMT: echo})
    client.receive(server.serve(client.bind(MGMT)))
    (reply,) = client.receive(server.serve(client.call(MGMT, 0, b"own")))
    assert isinstance(reply, Reply)
    assert reply.stub == b"own"


# What nobody should send


@pytest.mark.parametrize(
    "pdu",
    [
        Response(call_id=99, context_id=0, stub=b""),
        Fault(call_id=99, status=5),
        BindAck(call_id=1, results=()),
        BindNak(call_id=1, reason=0),
        Request(call_id=1, context_id=0, opnum=0, stub=b""),
        Rts(call_id=0),
    ],
    ids=lambda pdu: pdu.type.name,
)
def test_a_client_breaks_on_what_it_did_not_ask_for(pdu: Pdu) -> None:
    client, _ = bound()
    (event,) = client.receive(pdu.encode())
    assert isinstance(event, Broken)
    assert isinstance(event.error, OutOfTurn)


def test_what_came_before_a_bad_pdu_is_delivered() -> None:
    client, server = bound()
    answer = server.serve(client.call(ECHO, 0, b"good"))
    reply, broken = client.receive(answer + b"\x16\3\1")
    assert isinstance(reply, Reply)
    assert isinstance(broken, Broken)
    with pytest.raises(OutOfTurn):
        client.receive(b"")


def test_a_server_may_ask_its_client_to_close() -> None:
    client, _ = bound()
    assert client.receive(Shutdown(call_id=0).encode()) == [ShutdownAsked()]


def test_interleaved_fragments_break_the_client() -> None:
    client, server = bound()
    first, second = server.receive(client.call(ECHO, 0, b"") + client.call(ECHO, 0, b""))
    assert isinstance(first, Call)
    assert isinstance(second, Call)
    piece = sent(first.reply(bytes(9000)))[0].raw
    (event,) = client.receive(piece + second.reply(b""))
    assert isinstance(event, Broken)


def test_an_answer_larger_than_the_limit_breaks_the_client() -> None:
    client, server = RpcClient(limit=8000), RpcServer({ECHO: echo})
    client.receive(server.serve(client.bind(ECHO)))
    (event,) = client.receive(server.serve(client.call(ECHO, 0, bytes(8001))))
    assert isinstance(event, Broken)
    assert isinstance(event.error, WireError)
    assert event.error.kind == "oversize"


# Any chopping


def _conversation() -> tuple[bytes, bytes]:
    """All that a client sends, and all that its server answers, in one session with everything in it."""
    client, server = RpcClient(), RpcServer({ECHO: echo, OTHER: echo})
    sends: list[Callable[[], bytes]] = [
        lambda: client.bind(ECHO, MGMT, transfer=(NDR, NDR64), features=3),
        lambda: client.call(ECHO, 0, b"short"),
        lambda: client.call(ECHO, 0, bytes(7000)) + client.call(ECHO, 1, b""),
        lambda: client.alter(OTHER),
        lambda: client.call(OTHER, 2, b"x") + client.call(MGMT, 0, b""),
    ]
    asked, answered = bytearray(), bytearray()
    for send in sends:
        octets = send()
        asked += octets
        answer = server.serve(octets)
        answered += answer
        client.receive(answer)
    return bytes(asked), bytes(answered)


ASKED, ANSWERED = _conversation()


def _fresh_client() -> RpcClient:
    """A client that has asked all of the conversation and got the first answer."""
    client = RpcClient()
    client.bind(ECHO, MGMT, transfer=(NDR, NDR64), features=3)
    size = len(sent(ANSWERED)[0].raw)
    client.receive(ANSWERED[:size])
    client.call(ECHO, 0, b"")
    client.call(ECHO, 0, b"")
    client.call(ECHO, 1, b"")
    client.alter(OTHER)
    return client


def _summary(events: list[ServerEvent] | list[ClientEvent]) -> list[object]:
    return [
        (event.interface, event.opnum, event.stub, event.call_id) if isinstance(event, Call) else event
        for event in events
    ]


@given(st.lists(st.integers(0, len(ASKED)), max_size=12))
def test_a_stream_chopped_anywhere_gives_a_server_the_same_events(cuts: list[int]) -> None:
    whole = RpcServer([ECHO, OTHER]).receive(ASKED)
    server, events = RpcServer([ECHO, OTHER]), list[ServerEvent]()
    cuts.sort()
    for start, end in zip([0, *cuts], [*cuts, len(ASKED)], strict=True):
        events += server.receive(ASKED[start:end])
    assert _summary(events) == _summary(whole)
    assert len(events) == 7


@given(st.lists(st.integers(0, 8000), max_size=12))
def test_a_stream_chopped_anywhere_gives_a_client_the_same_events(cuts: list[int]) -> None:
    pdus = sent(ANSWERED)
    stream = b"".join(pdu.raw for pdu in pdus[1:6])  # up to the answer to the alter_context
    whole = _fresh_client().receive(stream)
    client, events = _fresh_client(), list[ClientEvent]()
    cuts = sorted(min(cut, len(stream)) for cut in cuts)
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        events += client.receive(stream[start:end])
    assert events == whole
    assert [type(event) for event in events] == [Reply, Reply, Failed, Bound]


@given(data=st.data())
def test_a_stream_with_octets_changed_never_raises(data: st.DataObject) -> None:
    octets = bytearray(ASKED)
    for at in data.draw(st.lists(st.integers(0, len(octets) - 1), min_size=1, max_size=6)):
        octets[at] = data.draw(st.integers(0, 255))
    server = RpcServer({ECHO: echo, OTHER: echo})
    server.serve(bytes(octets))
    client = _fresh_client()
    octets = bytearray(ANSWERED)
    for at in data.draw(st.lists(st.integers(0, len(octets) - 1), min_size=1, max_size=6)):
        octets[at] = data.draw(st.integers(0, 255))
    events = client.receive(bytes(octets))
    assert [event for event in events if isinstance(event, Broken)] in ([], events[-1:])


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_any_octets_break_either_end_without_raising(pieces: list[bytes]) -> None:
    ends: list[RpcClient | RpcServer] = [RpcClient(), RpcServer([EPM]), *bound()]
    for end in ends:
        for piece in pieces:
            if end.state is State.CLOSED:
                break
            end.receive(piece)


PROTO: list[Pdu] = [
    Bind(call_id=1, contexts=(Context(0, ECHO, (NDR,)), Context(1, ECHO, (feature_negotiation(3),)))),
    Request(call_id=2, context_id=0, opnum=0, stub=b"abc"),
    Request(call_id=3, context_id=0, opnum=0, stub=b"abc", flags=FIRST),
    Request(call_id=3, context_id=0, opnum=0, stub=b"abc", flags=LAST),
    Request(call_id=4, context_id=9, opnum=9, stub=b"", flags=WHOLE | MAYBE),
    Orphaned(call_id=3),
    Response(call_id=2, context_id=0, stub=b""),
    Fault(call_id=2, status=1),
    BindAck(call_id=1, results=(ContextResult(0, 0, NDR),)),
    BindNak(call_id=1, reason=0),
    Shutdown(call_id=0),
    Rts(call_id=0),
]


@given(st.lists(st.sampled_from(PROTO), max_size=8))
def test_any_sequence_of_good_pdus_ends_in_events(pdus: list[Pdu]) -> None:
    server, client = RpcServer({ECHO: echo}), RpcClient()
    client.bind(ECHO)
    stream = b"".join(pdu.encode() for pdu in pdus)
    for events in (server.receive(stream), client.receive(stream)):
        assert not any(isinstance(event, Broken) for event in events[:-1])
