"""The HTTP probe, with no network."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.health.talking import always, converse

from casarray.core.health.conversation import Answer, Failure, Steps
from casarray.core.health.http import http, request

OK = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 3\r\n\r\nall"


def probe(*, status: tuple[int, ...] = (200,), keep: bool = False, tls: bool = False) -> Steps:
    return http(443 if tls else 80, "/owa/healthcheck.htm", status, "cas.example", tls=tls, keep=keep)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_wanted_status_is_up_however_the_answer_is_cut(size: int) -> None:
    pieces = [OK[at : at + size] for at in range(0, len(OK), size)]
    answer = converse(probe(), always(*pieces))
    assert answer == Answer(True, "cas1 answers GET /owa/healthcheck.htm on 80 with status 200")


def test_the_body_is_not_waited_for() -> None:
    assert converse(probe(), always(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")).up


def test_an_unwanted_status_is_down_and_named() -> None:
    answer = converse(probe(status=(200, 401)), always(b"HTTP/1.1 503 Busy\r\n\r\n"))
    assert answer == Answer(False, "cas1 answers GET /owa/healthcheck.htm on 80 with status 503 (wanted: 200, 401)")


def test_any_status_of_the_list_is_up() -> None:
    assert converse(probe(status=(200, 401)), always(b"HTTP/1.0 401 Who are you\n\n")).up


def test_an_interim_answer_is_passed_over() -> None:
    assert converse(probe(), always(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)).up


def test_a_header_without_end_is_down_and_bounded() -> None:
    def endless(_port: int, data: bytes) -> list[bytes]:
        return [b"HTTP/1.1 200 OK\r\n"] + [b"X: y\r\n" * 100] * 1000 if data else []

    answer = converse(probe(), endless)
    assert not answer.up
    assert "a header without end" in answer.reason


@pytest.mark.parametrize("bytes_", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 20\r\n\r\n", b"\0"])
def test_something_else_than_http_is_down_at_once(bytes_: bytes) -> None:
    answer = converse(probe(), always(bytes_))
    assert not answer.up
    assert answer.reason.startswith(
        "cas1 accepts connections on 80 but what it sends does not answer GET /owa/healthcheck.htm (syntax"
    )


def test_silence_is_a_sentence() -> None:
    answer = converse(probe(), always())
    assert answer == Answer(False, "cas1 accepts connections on 80 but does not answer GET /owa/healthcheck.htm")


def test_a_server_that_hangs_up_is_a_sentence() -> None:
    answer = converse(probe(), lambda _port, data: Failure.CLOSED if data else ())
    assert answer.reason == (
        "cas1 accepts connections on 80 but closes the connection and does not answer GET /owa/healthcheck.htm"
    )


def test_the_tripwire_is_a_connection_of_its_own() -> None:
    dialled: list[int] = []
    assert converse(probe(keep=True), always(OK), dialled=dialled).up
    assert dialled == [80, 80]


def test_nothing_in_a_path_or_name_adds_a_line() -> None:
    lines = request("/a\r\nEvil: 1", "h\r\nEvil: 2").split(b"\r\n")
    assert [line.split(b" ")[0] for line in lines] == [
        b"GET",
        b"Host:",
        b"User-Agent:",
        b"Accept:",
        b"Connection:",
        b"",
        b"",
    ]
    assert request("/owa/?a=b&c=%20", "::1").startswith(b"GET /owa/?a=b&c=%20 HTTP/1.1\r\nHost: [::1]\r\n")


@given(st.lists(st.binary(max_size=300), max_size=20), st.sampled_from([b"", b"HTTP/1.1 ", OK]))
def test_whatever_comes_there_is_an_answer(pieces: list[bytes], start: bytes) -> None:
    assert isinstance(
        converse(probe(tls=True), always(start, *filter(None, pieces)), certificate=b"\x30\x03abc"), Answer
    )
