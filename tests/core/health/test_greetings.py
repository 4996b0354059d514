"""The mail probes, with no network."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.health.talking import always, converse

from casarray.core.config import ProbeKind
from casarray.core.health.conversation import Answer, Failure
from casarray.core.health.greetings import greeting

GREETINGS = [
    (ProbeKind.IMAP, 143, b"* OK The Microsoft Exchange IMAP4 service is ready.\r\n", b"a LOGOUT\r\n"),
    (ProbeKind.POP3, 110, b"+OK The Microsoft Exchange POP3 service is ready.\r\n", b"QUIT\r\n"),
    (ProbeKind.SMTP, 25, b"220 cas1.example ESMTP\r\n", b"QUIT\r\n"),
    (ProbeKind.SMTP, 25, b"220-cas1.example ESMTP\r\n220-no spam\r\n220 please\r\n", b"QUIT\r\n"),
]


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(("kind", "port", "text", "farewell"), GREETINGS)
def test_a_greeting_is_up_however_slowly_it_comes(
    kind: ProbeKind, port: int, text: bytes, farewell: bytes, size: int
) -> None:
    said: list[tuple[int, bytes]] = []
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    answer = converse(greeting(kind, port, "cas", keep=False), always(*pieces), said=said)
    assert answer.up
    assert answer.reason.startswith(f"cas1 greets on {port}: ")
    assert said == [(port, farewell)]


def test_a_connection_that_stays_as_tripwire_is_not_said_good_bye_to() -> None:
    said: list[tuple[int, bytes]] = []
    assert converse(greeting(ProbeKind.POP3, 110, "cas", keep=True), always(b"+OK\r\n"), said=said).up
    assert said == []


@pytest.mark.parametrize("text", [b"421 too busy\r\n", b"554-no\r\n554 SMTP service here\r\n"])
def test_a_refusal_is_down_and_shown(text: bytes) -> None:
    answer = converse(greeting(ProbeKind.SMTP, 25, "cas", keep=True), always(text))
    assert not answer.up
    assert answer.reason.startswith("cas1 turns us away on 25: ")


def test_half_a_greeting_is_down() -> None:
    answer = converse(greeting(ProbeKind.SMTP, 25, "cas", keep=False), always(b"220-hello\r\n220"))
    assert answer.reason == "cas1 accepts connections on 25 but does not greet as SMTP does"


def test_another_protocol_is_down_without_waiting_for_more() -> None:
    answer = converse(greeting(ProbeKind.IMAP, 143, "cas", keep=False), always(b"SSH-2.0"))
    assert answer.reason == (
        "cas1 accepts connections on 143 but what it sends does not greet as IMAP does "
        "(syntax: it begins with 'SSH-2.0')"
    )


def test_a_greeting_without_end_is_down() -> None:
    answer = converse(greeting(ProbeKind.SMTP, 25, "cas", keep=False), always(*[b"220-more\r\n"] * 5000))
    assert "a greeting without end" in answer.reason


def test_control_characters_of_a_server_never_reach_a_log() -> None:
    answer = converse(greeting(ProbeKind.POP3, 110, "cas", keep=False), always(b"+OK \x1b[2J\xff\r\n"))
    assert answer.reason == "cas1 greets on 110: +OK ?[2J?"


def test_a_port_of_mail_over_tls_is_greeted_under_tls() -> None:
    steps = greeting(ProbeKind.IMAP, 993, "cas", keep=False)
    assert [type(next(steps)).__name__, type(steps.send(b"")).__name__] == ["Dial", "Encrypt"]


@given(
    st.sampled_from([ProbeKind.IMAP, ProbeKind.POP3, ProbeKind.SMTP]),
    st.lists(
        st.binary(min_size=1, max_size=200) | st.sampled_from([b"220-", b"\r\n", b"* OK", b"+OK", b"220 "]), max_size=30
    ),
    st.sampled_from([Failure.TIMEOUT, Failure.RESET, Failure.CLOSED, Failure.OURS]),
)
def test_whatever_comes_there_is_an_answer(kind: ProbeKind, pieces: list[bytes], end: Failure) -> None:
    def replies(_port: int, data: bytes) -> list[bytes] | Failure:
        return (pieces or end) if not data else end

    assert isinstance(converse(greeting(kind, 25, "cas", keep=False), replies), Answer)
