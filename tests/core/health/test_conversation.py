"""What holds for every conversation, whatever it talks about."""

from tests.core.health.talking import always, converse

from casarray.core.errors import OutOfTurn
from casarray.core.health.conversation import LIMIT, Answer, Ask, Dial, Encrypt, Failure, Steps, Talk


def insatiable() -> Steps:
    yield Dial(7)
    while True:
        yield Ask("come to an end")


def encrypted() -> Steps:
    yield Dial(443)
    yield Encrypt("cas")
    return Answer(True, "is up")


def test_no_conversation_hears_more_than_its_limit() -> None:
    answer = converse(insatiable(), always(*[b"x" * 1000] * 100))
    assert (
        answer.reason == f"cas1 accepts connections on 7 but sends more than {LIMIT} bytes and does not come to an end"
    )


def test_bytes_out_of_turn_are_an_answer() -> None:
    def rude() -> Steps:
        yield Dial(7)
        yield Ask("greet")
        raise OutOfTurn("too early")

    answer = converse(rude(), always(b"x"))
    assert answer.reason == "cas1 accepts connections on 7 but what it sends does not greet (too early)"


def test_every_failure_of_a_connection_is_a_sentence() -> None:
    reasons = {}
    for failure in Failure:
        talk = Talk("cas1", encrypted())
        talk.begin()
        reasons[failure] = talk.fail(failure, "detail")
    assert [a.reason.removeprefix("cas1 ") for a in reasons.values()] == [
        "refuses connections on 443",
        "cannot be reached on 443: detail",
        "does not accept connections on 443",
        "cannot be connected to on 443: detail",
        "cannot be connected to on 443: detail",
        "cannot be connected to on 443: detail",
        "was not probed: detail",
    ]
    assert [f for f, a in reasons.items() if a.conclusive] == [Failure.REFUSED]
    assert [f for f, a in reasons.items() if a.ours] == [Failure.OURS]


def test_every_failure_of_a_handshake_is_a_sentence() -> None:
    reasons = []
    for failure in (Failure.TIMEOUT, Failure.CLOSED, Failure.RESET, Failure.TLS):
        talk = Talk("cas1", encrypted())
        talk.begin()
        talk.go_on(b"")
        reasons.append(talk.fail(failure, "detail").reason.removeprefix("cas1 accepts connections on 443 but "))
    assert reasons == [
        "does not answer the TLS handshake",
        "closes the connection and does not answer the TLS handshake",
        "resets the connection and does not answer the TLS handshake",
        "the TLS handshake fails: detail",
    ]
