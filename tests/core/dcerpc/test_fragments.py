from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.dcerpc.fragments import Joiner, split
from casarray.core.dcerpc.pdu import FIRST, LAST, Auth, Request, Response
from casarray.core.errors import WireError

CALL = Request(call_id=5, context_id=1, opnum=3, stub=bytes(range(256)) * 8, object=UUID(int=7))
PIECES = list(split(CALL, 520))


@given(size=st.integers(0, 6000), room=st.integers(32, 2000), with_object=st.booleans(), token=st.integers(-1, 30))
def test_what_is_split_is_joined_again(size: int, room: int, with_object: bool, token: int) -> None:
    auth = Auth(9, 5, 1, bytes(token)) if token > 0 else None
    whole = replace(CALL, stub=bytes(size), object=CALL.object if with_object else None, auth=auth)
    largest = room + 40 + (8 + token + 15 if auth else 0)
    pieces = list(split(whole, largest))
    joiner = Joiner()
    joined = [joiner.add(piece) for piece in pieces]
    assert joined[:-1] == [None] * (len(pieces) - 1)
    last = joined[-1]
    assert last is not None
    assert (last.stub, last.opnum, last.object) == (whole.stub, whole.opnum, whole.object)
    assert last.flags & (FIRST | LAST) == FIRST | LAST
    assert joiner.open_call is None
    assert joiner.held == 0
    for piece in pieces:
        assert len(piece.encode()) <= largest
    for piece in pieces[:-1]:
        assert len(piece.stub) % 8 == 0


def test_a_call_that_fits_is_one_fragment() -> None:
    assert list(split(CALL, 40 + len(CALL.stub))) == [CALL]
    assert len(list(split(CALL, 39 + len(CALL.stub)))) == 2


def test_fragments_say_how_much_is_still_to_come() -> None:
    assert [piece.alloc_hint for piece in PIECES] == [2048, 1568, 1088, 608, 128]
    assert [piece.flags & 3 for piece in PIECES] == [1, 0, 0, 0, 2]


def test_a_fragment_with_no_room_for_a_stub_is_refused() -> None:
    with pytest.raises(WireError) as caught:
        list(split(CALL, 47))
    assert caught.value.kind == "oversize"


@pytest.mark.parametrize(
    "second",
    [
        replace(PIECES[1], call_id=6),
        replace(PIECES[1], context_id=2),
        replace(PIECES[1], opnum=4),
        replace(PIECES[1], order="big"),
        replace(PIECES[1], flags=FIRST),
        PIECES[0],
    ],
)
def test_a_fragment_that_does_not_belong_is_refused(second: Request) -> None:
    joiner = Joiner()
    assert joiner.add(PIECES[0]) is None
    with pytest.raises(WireError) as caught:
        joiner.add(second)
    assert caught.value.kind == "fragment"


def test_a_response_does_not_continue_a_request() -> None:
    joiner = Joiner()
    joiner.add(PIECES[0])
    with pytest.raises(WireError):
        joiner.add(Response(call_id=5, context_id=1, stub=b"", flags=LAST))


@pytest.mark.parametrize("flags", [0, LAST])
def test_a_call_that_begins_in_the_middle_is_refused(flags: int) -> None:
    with pytest.raises(WireError) as caught:
        Joiner().add(replace(CALL, flags=flags))
    assert caught.value.kind == "fragment"


def test_a_joiner_never_holds_more_than_its_limit() -> None:
    joiner = Joiner(1000)
    for piece in PIECES[:2]:
        assert joiner.add(piece) is None
    assert joiner.held == 960
    with pytest.raises(WireError) as caught:
        joiner.add(PIECES[2])
    assert caught.value.kind == "oversize"
    with pytest.raises(WireError):
        Joiner(1000).add(CALL)
    assert Joiner(len(CALL.stub)).add(CALL) == CALL


def test_a_dropped_call_is_forgotten_and_the_next_one_begins() -> None:
    joiner = Joiner()
    joiner.add(PIECES[0])
    assert (joiner.open_call, joiner.held) == (5, len(PIECES[0].stub))
    joiner.drop()
    assert (joiner.open_call, joiner.held) == (None, 0)
    assert joiner.add(CALL) == CALL


def test_a_joined_call_has_no_auth_trailer_and_a_whole_one_keeps_its_own() -> None:
    auth = Auth(9, 5, 1, b"sig")
    joiner = Joiner()
    joined = [joiner.add(replace(piece, auth=auth)) for piece in PIECES][-1]
    assert joined is not None
    assert joined.auth is None
    assert joined.stub == CALL.stub
    whole = joiner.add(replace(CALL, auth=auth))
    assert whole is not None
    assert whole.auth == auth
