"""Tickets shown to servers: whole conversations from a script, cut anywhere, and garbage."""

from base64 import b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.kerberos.tokens import integer, nego_response, oid, tlv

from casarray.core.errors import Denied, WireError
from casarray.core.health.conversation import Ask, Say
from casarray.core.kerberos.approach import Approach, Protocol
from casarray.core.kerberos.knock_http import knock_http
from casarray.core.kerberos.knock_mail import knock_mail
from casarray.core.kerberos.knocks import Heard, Knock, Outcome, carefully
from casarray.core.kerberos.refusals import Refusal, refusal_of
from casarray.core.kerberos.tickets import KERBEROS

HTTP = Approach("http", Protocol.HTTP, "http", 80, path="/ews/")
IMAP = Approach("imap", Protocol.IMAP, "imap", 143)
POP3 = Approach("pop3", Protocol.POP3, "pop", 110)
SMTP = Approach("smtp", Protocol.SMTP, "smtp", 25)
NTLM = b"NTLMSSP\0\2\0\0\0" + bytes(40)


class FakeInitiator:
    """Begins with AP-REQ; is satisfied by AP-REP."""

    def __init__(self) -> None:
        self.complete = False

    def step(self, token: bytes) -> bytes:
        if not token:
            return b"AP-REQ"
        assert token == b"AP-REP"
        self.complete = True
        return b""

    def wrap(self, data: bytes) -> bytes:
        return b"signed " + data

    def unwrap(self, data: bytes) -> bytes:
        return data


def krb_error(code: int, stime: bytes = b"20260101000000Z") -> bytes:
    """As MIT's acceptor sends it. RFC 4120 5.9.1."""
    body = tlv(
        0x7E,
        tlv(
            0x30,
            tlv(0xA0, integer(5)),  # pvno
            tlv(0xA1, integer(30)),  # msg-type
            tlv(0xA4, tlv(0x18, stime)),
            tlv(0xA5, integer(7)),  # susec
            tlv(0xA6, integer(code)),
            tlv(0xA9, tlv(0x1B, b"LAB.EXAMPLE")),
        ),
    )
    return tlv(0x60, oid(KERBEROS), b"\3\0", body)


def carry(knock: Knock, *answers: bytes, cut: int = 10**6) -> tuple[Heard, list[bytes]]:
    """Play the server: one answer for each line or request that is sent, the first one unasked for mail."""
    sent: list[bytes] = []
    todo = list(answers)
    waiting = b""
    told: bytes | None = None
    while True:
        try:
            step = next(knock) if told is None else knock.send(told)
        except StopIteration as end:
            heard: Heard = end.value
            return heard, sent
        told = b""
        if isinstance(step, Ask | Say) and step.data:
            sent.append(step.data)
        if isinstance(step, Ask):
            waiting = waiting or todo.pop(0)
            told, waiting = waiting[:cut], waiting[cut:]


def status(code: int, *challenges: bytes) -> bytes:
    lines = b"".join(b"WWW-Authenticate: " + one + b"\r\n" for one in challenges)
    date = b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
    return b"HTTP/1.1 %d X\r\nServer: Apache\r\nContent-Length: 0\r\n" % code + date + lines + b"\r\n"


def negotiate(token: bytes) -> bytes:
    return b"Negotiate " + b64encode(token)


@pytest.mark.parametrize(
    ("answer", "outcome", "code"),
    [
        (status(200, negotiate(b"AP-REP")), Outcome.ACCEPTED, None),
        (status(401, b"Negotiate"), Outcome.REFUSED, None),
        (status(401, negotiate(krb_error(41))), Outcome.REFUSED, 41),
        (status(401, negotiate(nego_response(krb_error(44)))), Outcome.REFUSED, 44),
        (status(401, negotiate(NTLM)), Outcome.NTLM, None),
        (status(401, negotiate(nego_response(NTLM))), Outcome.NTLM, None),
        (status(401, b"NTLM", b'Basic realm="x"'), Outcome.NTLM, None),
        (status(401, b'Basic realm="x"'), Outcome.NOT_OFFERED, None),
        (status(200), Outcome.OPEN, None),
        (status(404), Outcome.NOT_OFFERED, None),
    ],
)
@pytest.mark.parametrize("cut", [1, 7, 10**6])
def test_a_web_server_is_judged_by_its_first_answer(
    answer: bytes, outcome: Outcome, code: int | None, cut: int
) -> None:
    heard, sent = carry(knock_http(HTTP, "cas.lab.example", FakeInitiator()), answer, cut=cut)
    assert (heard.outcome, heard.code, heard.server_time, heard.by) == (outcome, code, 1767225600.0, "Apache")
    assert len(sent) == 1  # nobody is ever answered by NTLM
    assert b"Host: cas.lab.example\r\n" in sent[0]
    assert b"Authorization: Negotiate " + b64encode(b"AP-REQ") in sent[0]


REP, LAYERS = b64encode(b"AP-REP"), b64encode(b"\7\0\0\0")


@pytest.mark.parametrize("cut", [1, 10**6])
@pytest.mark.parametrize(
    ("way", "answers"),
    [
        (IMAP, (b"* OK cas1\r\n", b"* CAPABILITY IMAP4 AUTH=GSSAPI\r\na OK\r\n", b"+ \r\n",
                b"+ %b\r\n" % REP, b"+ %b\r\n" % LAYERS, b"* CAPABILITY X\r\nc OK in\r\n")),
        (POP3, (b"+OK cas1\r\n", b"+OK\r\nSASL PLAIN GSSAPI\r\n.\r\n", b"+ \r\n",
                b"+ %b\r\n" % REP, b"+ %b\r\n" % LAYERS, b"+OK in\r\n")),
        (SMTP, (b"220-hello\r\n220 cas1\r\n", b"250-cas1\r\n250 AUTH GSSAPI\r\n", b"334 \r\n",
                b"334 %b\r\n" % REP, b"334 %b\r\n" % LAYERS, b"235 in\r\n")),
    ],
)  # fmt: skip
def test_mail_servers_are_logged_in_to_without_a_security_layer(
    way: Approach, answers: tuple[bytes, ...], cut: int
) -> None:
    heard, sent = carry(knock_mail(way, "cas.lab.example", FakeInitiator()), *answers, cut=cut)
    assert (heard.outcome, heard.by, heard.let_in) == (Outcome.ACCEPTED, "cas1", True)
    # The token, nothing (an empty line, in SMTP too), no layer, good-bye.
    assert sent[2:5] == [b64encode(b"AP-REQ") + b"\r\n", b"\r\n", b64encode(b"signed \1\0\0\0") + b"\r\n"]
    assert len(sent) == 6


def test_a_probe_leaves_before_anybody_is_logged_in() -> None:
    answers = (b"+OK cas1\r\n", b"+OK\r\nSASL GSSAPI\r\n.\r\n", b"+ \r\n", b"+ %b\r\n" % REP, b"-ERR cancelled\r\n")
    heard, sent = carry(knock_mail(POP3, "x", FakeInitiator(), login=False), *answers)
    assert heard.outcome is Outcome.ACCEPTED
    assert sent[3] == b"*\r\n"


def test_a_mail_server_with_ntlm_alone_is_told_apart() -> None:
    heard, sent = carry(
        knock_mail(IMAP, "x", FakeInitiator()), b"* OK\r\n", b"* CAPABILITY AUTH=NTLM AUTH=PLAIN\r\na OK\r\n"
    )
    assert (heard.outcome, heard.detail) == (Outcome.NTLM, "it offers NTLM PLAIN")
    assert sent == [b"a CAPABILITY\r\n", b"z LOGOUT\r\n"]


def test_a_library_that_refuses_is_a_fault_of_ours() -> None:
    class Penniless(FakeInitiator):
        def step(self, token: bytes) -> bytes:
            raise Denied(f"no ticket{token.decode()}")

    heard, sent = carry(carefully(knock_http(HTTP, "x", Penniless())))
    assert (heard.outcome, heard.ours, heard.detail) == (Outcome.UNREACHABLE, True, "was not asked: no ticket")
    assert sent == []


def test_a_refusal_tells_its_number_and_the_servers_clock() -> None:
    assert refusal_of(krb_error(37)) == Refusal(37, 1767225600.0)
    assert refusal_of(krb_error(37, b"20269901000000Z")) == Refusal(37, None)
    error = krb_error(41)
    assert all(refusal_of(error[:cut]) is None for cut in range(len(error)))


@given(st.binary(max_size=200))
def test_no_token_is_too_strange(token: bytes) -> None:
    assert refusal_of(token) is None or token


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([HTTP, IMAP, POP3, SMTP]), st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=6))
def test_whatever_a_server_sends_ends_in_what_was_heard_or_a_wire_error(way: Approach, said: list[bytes]) -> None:
    initiator = FakeInitiator()
    knock = knock_http(way, "x", initiator) if way is HTTP else knock_mail(way, "x", initiator)
    try:
        carry(knock, *said, *[b"\r\n\r\n" * 100] * 300)
    except (WireError, AssertionError):  # the fake knows one token only
        return
