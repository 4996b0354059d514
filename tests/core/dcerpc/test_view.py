from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.dcerpc.association import AssociationView, RpcClient, RpcServer, State, WatchedCall
from casarray.core.dcerpc.fragments import split
from casarray.core.dcerpc.pdu import (
    FIRST,
    LAST,
    MAYBE,
    NDR,
    NDR64,
    NO_SYNTAX,
    WHOLE,
    AlterContext,
    AlterContextResponse,
    Auth,
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
    Rts,
    Syntax,
    take_pdu,
)
from casarray.core.errors import OutOfTurn, WireError

ECHO = Syntax(UUID(int=0xEC40), 1, 0)
OTHER = Syntax(UUID(int=0x07), 2, 1)

BIND = Bind(call_id=1, contexts=(Context(0, ECHO, (NDR,)), Context(1, ECHO, (NDR64,))))
ACK = BindAck(call_id=1, results=(ContextResult(2, 2, NO_SYNTAX), ContextResult(0, 0, NDR64)), group_id=7)
ASK = Request(call_id=2, context_id=1, opnum=3, stub=b"q")
ANSWER = Response(call_id=2, context_id=1, stub=b"a")
ALTER = AlterContext(call_id=9, contexts=(Context(5, OTHER, (NDR,)),))
ALTERED = AlterContextResponse(call_id=9, results=(ContextResult(0, 0, NDR),))


def bound() -> AssociationView:
    view = AssociationView()
    view.client_pdu(BIND)
    view.server_pdu(ACK)
    assert view.state is State.BOUND
    return view


def test_an_answer_is_told_which_interface_operation_and_syntax_it_is_about() -> None:
    view = bound()
    call = WatchedCall(2, 1, 3, ECHO, NDR64, "little", authenticated=False)
    assert view.client_pdu(ASK) == call
    assert view.outstanding == 1
    assert view.server_pdu(ANSWER) == call
    assert call.ndr64
    assert view.outstanding == 0
    assert view.group_id == 7


def test_a_context_that_was_refused_has_no_interface() -> None:
    call = bound().client_pdu(replace(ASK, context_id=0))
    assert call is not None
    assert (call.interface, call.transfer, call.ndr64) == (None, None, False)


def test_an_authenticated_call_is_marked() -> None:
    call = bound().client_pdu(replace(ASK, auth=Auth(9, 6, 0, b"sig"), order="big"))
    assert call is not None
    assert call.authenticated
    assert call.order == "big"


def test_answers_may_come_in_another_order_than_their_calls() -> None:
    view = bound()
    view.client_pdu(ASK)
    view.client_pdu(replace(ASK, call_id=3, opnum=2))
    second, first = view.server_pdu(replace(ANSWER, call_id=3)), view.server_pdu(ANSWER)
    assert second is not None
    assert first is not None
    assert (second.opnum, first.opnum) == (2, 3)


def test_a_call_may_follow_the_alter_context_that_makes_its_context() -> None:
    view = bound()
    view.client_pdu(ALTER)
    early = view.client_pdu(replace(ASK, context_id=5))
    assert early is not None
    assert early.interface is None
    view.server_pdu(ALTERED)
    answered = view.server_pdu(replace(ANSWER, context_id=5))
    assert answered is not None
    assert (answered.interface, answered.transfer) == (OTHER, NDR)


def test_several_alter_contexts_may_be_under_way() -> None:
    view = bound()
    view.client_pdu(ALTER)
    view.client_pdu(replace(ALTER, call_id=10))
    states = [view.state]
    view.server_pdu(replace(ALTERED, call_id=10))
    states.append(view.state)
    assert view.server_pdu(Fault(call_id=9, status=5)) is None
    assert [*states, view.state] == [State.ALTERING, State.ALTERING, State.BOUND]


def test_fragments_of_a_call_and_of_its_answer_belong_together() -> None:
    view = bound()
    pieces = list(split(replace(ASK, stub=bytes(100)), 64))
    assert len({view.client_pdu(piece) for piece in pieces}) == 1
    answers = list(split(replace(ANSWER, stub=bytes(100)), 64))
    assert {view.server_pdu(answer) for answer in answers} == {WatchedCall(2, 1, 3, ECHO, NDR64, "little", False)}
    assert view.outstanding == 0


def test_what_is_under_way_after_an_early_fault_is_let_through() -> None:
    view = bound()
    first, *others = split(replace(ASK, stub=bytes(100)), 64)
    view.client_pdu(first)
    assert view.server_pdu(Fault(call_id=2, status=5)) is not None
    for other in others:
        assert view.client_pdu(other) is not None
    assert view.client_pdu(replace(ASK, call_id=3)) is not None


def test_an_answer_that_crosses_its_orphaned_pdu_is_let_through_once() -> None:
    view = bound()
    view.client_pdu(ASK)
    view.client_pdu(Orphaned(call_id=2))
    assert view.outstanding == 0
    assert view.server_pdu(ANSWER) is not None
    with pytest.raises(OutOfTurn):
        view.server_pdu(ANSWER)


def test_a_call_given_up_half_way_ends_there() -> None:
    view = bound()
    view.client_pdu(replace(ASK, flags=FIRST))
    view.client_pdu(Orphaned(call_id=2))
    assert view.client_pdu(replace(ASK, call_id=3)) is not None


def test_a_call_that_wants_no_answer_waits_for_none() -> None:
    view = bound()
    assert view.client_pdu(replace(ASK, flags=WHOLE | MAYBE)) is not None
    assert view.outstanding == 0


def test_a_refused_bind_may_be_tried_again() -> None:
    view = AssociationView()
    view.client_pdu(BIND)
    view.server_pdu(BindNak(call_id=1, reason=8))
    view.client_pdu(replace(BIND, call_id=2))
    view.server_pdu(Fault(call_id=2, status=5))
    view.client_pdu(replace(BIND, call_id=3))
    view.server_pdu(replace(ACK, call_id=3))
    assert view.state is State.BOUND


def test_neither_calls_nor_contexts_nor_orphans_grow_without_bound() -> None:
    view = bound()
    for number in range(64):
        view.client_pdu(replace(ASK, call_id=100 + number))
    with pytest.raises(OutOfTurn):
        view.client_pdu(replace(ASK, call_id=99))
    for number in range(64):
        view.client_pdu(Orphaned(call_id=100 + number))
    for number in range(200):
        view.client_pdu(replace(ASK, call_id=1000 + number))
        view.client_pdu(Orphaned(call_id=1000 + number))
    assert len(view._given_up) == 64
    many = tuple(Context(number, OTHER, (NDR,)) for number in range(255))
    view.client_pdu(AlterContext(call_id=5000, contexts=many))
    with pytest.raises(WireError):
        view.client_pdu(AlterContext(call_id=5001, contexts=many))


Step = tuple[bool, Pdu]  # from the client?


@pytest.mark.parametrize(
    "steps",
    [
        [(True, Response(call_id=2, context_id=1, stub=b""))],
        [(False, ASK)],
        [(True, Rts(call_id=0))],
        [(False, Rts(call_id=0))],
        [(True, BIND)],
        [(False, ACK)],
        [(False, ANSWER)],
        [(False, Fault(call_id=2, status=5))],
        [(True, ASK), (True, ASK)],
        [(True, replace(ASK, flags=LAST))],
        [(True, replace(ASK, flags=FIRST)), (True, replace(ASK, call_id=3))],
        [(True, replace(ASK, flags=FIRST)), (True, replace(ASK, flags=LAST, opnum=4))],
        [(True, replace(ASK, flags=FIRST)), (True, replace(ASK, flags=LAST, order="big"))],
        [(True, replace(ASK, flags=FIRST)), (False, ANSWER)],
        [(True, ASK), (False, replace(ANSWER, context_id=0))],
        [(True, ASK), (False, replace(ANSWER, flags=LAST))],
        [(True, ASK), (False, replace(ANSWER, flags=FIRST)), (False, replace(ANSWER, flags=FIRST))],
        [(True, ALTER), (True, ALTER)],
        [(True, ALTER), (False, replace(ALTERED, call_id=8))],
        [(True, ALTER), (False, replace(ALTERED, results=()))],
        [(True, ALTER), (False, replace(ALTERED, results=(ContextResult(0, 0, NDR64),)))],
    ],
)
def test_what_must_not_be_passed_on_is_refused(steps: list[Step]) -> None:
    view = bound()
    for from_client, pdu in steps[:-1]:
        (view.client_pdu if from_client else view.server_pdu)(pdu)
    from_client, pdu = steps[-1]
    with pytest.raises((OutOfTurn, WireError)):
        (view.client_pdu if from_client else view.server_pdu)(pdu)


@pytest.mark.parametrize("pdu", [ASK, ALTER, CoCancel(call_id=1)], ids=lambda pdu: pdu.type.name)
def test_nothing_comes_before_a_bind(pdu: Pdu) -> None:
    with pytest.raises(OutOfTurn):
        AssociationView().client_pdu(pdu)


PDUS: list[Pdu] = [
    BIND, ACK, ASK, ANSWER, ALTER, ALTERED, Orphaned(call_id=2), CoCancel(call_id=2), Fault(call_id=2, status=1),
    Fault(call_id=9, status=1), BindNak(call_id=1, reason=0), replace(ASK, flags=FIRST), replace(ASK, flags=LAST),
    replace(ANSWER, flags=FIRST), replace(ANSWER, flags=LAST), replace(ASK, call_id=3), replace(ANSWER, call_id=3),
]  # fmt: skip


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(PDUS)), max_size=30))
def test_any_order_ends_in_a_call_nothing_or_one_of_two_errors(steps: list[Step]) -> None:
    view = bound()
    for from_client, pdu in steps:
        try:
            (view.client_pdu if from_client else view.server_pdu)(pdu)
        except (OutOfTurn, WireError):
            break
        assert view.outstanding <= 64


def test_whatever_a_client_and_a_server_say_to_each_other_may_pass() -> None:
    view = AssociationView()
    client, server = RpcClient(), RpcServer({ECHO: lambda call: call.stub, OTHER: lambda _: 5}, transfer=(NDR64, NDR))
    sends: list[Callable[[], bytes]] = [
        lambda: client.bind(ECHO, transfer=(NDR, NDR64), features=3),
        lambda: client.call(ECHO, 0, bytes(9000)) + client.alter(OTHER) + client.call(ECHO, 1, b""),
        lambda: client.call(OTHER, 0, b"") + client.cancel(client.last_call_id),
        lambda: client.call(OTHER, 0, b"") + client.orphan(client.last_call_id),
    ]
    seen: list[Syntax | None] = []
    for send in sends:
        asked = bytearray(send())
        answered = bytearray(server.serve(bytes(asked)))
        client.receive(bytes(answered))
        while (pdu := take_pdu(asked)) is not None:
            view.client_pdu(pdu)
        while (pdu := take_pdu(answered)) is not None:
            if (call := view.server_pdu(pdu)) is not None:
                seen.append(call.interface)
    assert seen == [ECHO, ECHO, ECHO, OTHER]
    assert view.state is State.BOUND
