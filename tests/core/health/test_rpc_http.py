"""The probe of RPC over HTTP, told what a server might say."""

import pytest

from casarray.core.config import ProbeKind, Service
from casarray.core.health.conversation import Answer, Ask, Dial, Encrypt, Failure, Steps, Talk
from casarray.core.health.probes import Target, conversation
from casarray.core.health.rpc_http import rpc_http
from casarray.core.rpc_http.http import success
from casarray.core.rpc_http.messages import Echo, Ping

ECHO = success(20) + Echo().encode()


def told(steps: Steps, *said: bytes) -> Answer:
    """What the conversation comes to when it hears these, one after the other."""
    talk, words = Talk("cas1", steps), list(said)
    step = talk.begin()
    while not isinstance(step, Answer):
        if isinstance(step, Ask):
            step = talk.go_on(words.pop(0)) if words else talk.fail(Failure.CLOSED)
        else:
            step = talk.go_on(b"")
    return step


def test_a_server_that_greets_is_up() -> None:
    answer = told(rpc_http(6001, "cas.lab.example"), b"ncacn_", b"http/1.0")
    assert answer.up
    assert "greets on 6001" in answer.reason


@pytest.mark.parametrize("said", [b"HTTP/1.1 200 OK\r\n", b"ncacn_http/2.0", b"\5\0\x0c\3"])
def test_a_server_that_says_something_else_is_down(said: bytes) -> None:
    answer = told(rpc_http(6004, "cas.lab.example"), said)
    assert not answer.up
    assert "something else on 6004" in answer.reason


def test_a_server_that_says_nothing_is_down() -> None:
    assert "greet as an RPC server over HTTP" in told(rpc_http(6002, "cas.lab.example")).reason


@pytest.mark.parametrize("cut", [1, 30, len(ECHO) - 1, len(ECHO)])
def test_a_proxy_that_answers_the_echo_is_up(cut: int) -> None:
    said = [part for part in (ECHO[:cut], ECHO[cut:]) if part]
    assert told(rpc_http(443, "mail.lab.example"), *said) == Answer(
        True, "cas1 answers an echo of RPC over HTTP on 443"
    )


def test_a_proxy_that_wants_a_logon_is_up() -> None:
    said = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n"
    assert told(rpc_http(443, "mail.lab.example"), said).up


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "with status 503"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "is no RPC proxy"),
        (success(20) + Ping().encode(), ""),
        (b"220 mail ESMTP\r\n\r\n", ""),
    ],
)
def test_what_is_no_proxy_is_down(said: bytes, reason: str) -> None:
    answer = told(rpc_http(443, "mail.lab.example"), said)
    assert not answer.up
    assert reason in answer.reason


def test_a_proxy_is_asked_over_tls_except_on_80() -> None:
    steps = rpc_http(443, "mail.lab.example")
    assert [next(steps), steps.send(b"")] == [Dial(443), Encrypt("mail.lab.example")]
    steps = rpc_http(80, "mail.lab.example")
    assert next(steps) == Dial(80)
    assert isinstance(steps.send(b""), Ask)


def test_a_service_with_the_probe_is_probed_so() -> None:
    service = Service("anywhere", 6001, "rpc", ProbeKind.RPC_HTTP)
    assert told(conversation(Target("cas1", (), service)), b"ncacn_http/1.0").up


def test_an_endless_head_is_given_up() -> None:
    assert not told(rpc_http(80, "mail.lab.example"), b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70_000).up
