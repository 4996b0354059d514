"""What waits for many sockets that live but a moment, on asyncio's loop and on uvloop."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator

import pytest
import uvloop

from casarray.adapters.net.readiness import AT_ONCE, BROKEN, READ, WRITE, Readiness

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    make: Callable[[], asyncio.AbstractEventLoop] = request.param
    made = make()
    wrong: list[object] = []
    made.set_exception_handler(lambda _, context: wrong.append(context))
    yield made
    made.close()
    assert wrong == []


@pytest.fixture
def readiness(loop: asyncio.AbstractEventLoop) -> Iterator[Readiness]:
    made = Readiness(loop)
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def turn(loop: asyncio.AbstractEventLoop) -> None:
    """Let the loop look at its sockets a few times."""
    loop.run_until_complete(asyncio.sleep(0.01))


def test_it_is_called_while_there_is_something_to_read(
    loop: asyncio.AbstractEventLoop, readiness: Readiness, pair: Pair
) -> None:
    heard: list[bytes] = []
    readiness.watch(pair[0].fileno(), READ, lambda _: heard.append(pair[0].recv(1)))
    turn(loop)
    assert heard == []
    pair[1].send(b"ab")
    turn(loop)
    assert heard == [b"a", b"b"]


def test_it_waits_for_what_it_was_told_last(loop: asyncio.AbstractEventLoop, readiness: Readiness, pair: Pair) -> None:
    called: list[int] = []

    def ready(what: int) -> None:
        called.append(what)
        readiness.change(pair[0].fileno(), READ)

    readiness.watch(pair[0].fileno(), WRITE, ready)
    turn(loop)
    assert called == [WRITE]


def test_what_is_forgotten_is_not_called(loop: asyncio.AbstractEventLoop, readiness: Readiness, pair: Pair) -> None:
    called: list[int] = []
    readiness.watch(pair[0].fileno(), READ | WRITE, called.append)
    readiness.forget(pair[0].fileno())
    readiness.forget(pair[0].fileno())
    turn(loop)
    assert called == []
    readiness.watch(pair[0].fileno(), WRITE, called.append)
    turn(loop)
    assert called


def test_what_one_call_forgets_is_not_called_after_it(
    loop: asyncio.AbstractEventLoop, readiness: Readiness, pair: Pair
) -> None:
    called: list[int] = []
    for one, other in (pair, pair[::-1]):

        def ready(_: int, one: socket.socket = one, other: socket.socket = other) -> None:
            called.append(one.fileno())
            readiness.forget(one.fileno())
            readiness.forget(other.fileno())

        readiness.watch(one.fileno(), WRITE, ready)
    turn(loop)
    assert len(called) == 1


def test_a_broken_connection_is_told_whatever_is_waited_for(
    loop: asyncio.AbstractEventLoop, readiness: Readiness, pair: Pair
) -> None:
    called: list[int] = []

    def ready(what: int) -> None:
        called.append(what)
        readiness.forget(pair[0].fileno())

    readiness.watch(pair[0].fileno(), READ, ready)
    pair[1].close()
    turn(loop)
    assert len(called) == 1
    assert called[0] & BROKEN


def test_all_have_their_turn_however_many(loop: asyncio.AbstractEventLoop, readiness: Readiness) -> None:
    pairs = [socket.socketpair() for _ in range(AT_ONCE + 10)]
    called: set[int] = set()
    try:
        for one, _ in pairs:

            def ready(_: int, number: int = one.fileno()) -> None:
                called.add(number)
                readiness.forget(number)

            readiness.watch(one.fileno(), WRITE, ready)
        turn(loop)
        assert len(called) == len(pairs)
    finally:
        for one, other in pairs:
            one.close()
            other.close()


def test_closed_it_leaves_no_descriptor(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    before = os.listdir("/proc/self/fd")
    made = Readiness(loop)
    made.watch(pair[0].fileno(), WRITE, lambda _: None)
    made.close()
    made.close()
    made.forget(pair[0].fileno())
    turn(loop)
    assert sorted(os.listdir("/proc/self/fd")) == sorted(before)
