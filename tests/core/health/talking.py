"""A server at the other end of a conversation, in memory."""

from collections.abc import Callable, Iterable

from casarray.core.health.conversation import Answer, Ask, Dial, Encrypt, Failure, Say, Steps, Talk

Pieces = Iterable[bytes]


def converse(
    steps: Steps,
    replies: Callable[[int, bytes], Pieces | Failure],
    *,
    refused: Iterable[int] = (),
    said: list[tuple[int, bytes]] | None = None,
    dialled: list[int] | None = None,
    certificate: bytes = b"",
) -> Answer:
    """Lead the conversation to its answer.

    ``replies(port, data)`` is what the server sends when it is told ``data`` (``b""``: it was connected to), or how the
    connection fails. When nothing is left to be sent, the time is over.
    """
    talk = Talk("cas1", steps)
    step = talk.begin()
    port, queue = 0, list[bytes | Failure]()

    def put(data: bytes) -> None:
        reply = replies(port, data)
        queue.extend([reply] if isinstance(reply, Failure) else reply)

    for _ in range(100_000):
        if isinstance(step, Answer):
            return step
        if isinstance(step, Dial):
            port, queue = step.port, []
            if dialled is not None:
                dialled.append(port)
            if port in refused:
                return talk.fail(Failure.REFUSED)
            put(b"")
            step = talk.go_on(b"")
        elif isinstance(step, Encrypt):
            step = talk.go_on(certificate)
        elif isinstance(step, Say):
            if said is not None:
                said.append((port, step.data))
            step = talk.go_on(b"")
        else:
            assert isinstance(step, Ask)
            if step.data:
                put(step.data)
            got = queue.pop(0) if queue else Failure.TIMEOUT
            step = talk.fail(got) if isinstance(got, Failure) else talk.go_on(got)
    raise AssertionError("the conversation does not end")


def always(*pieces: bytes) -> Callable[[int, bytes], Pieces]:
    """A server that sends this once it is connected to, and nothing else."""
    return lambda _port, data: pieces if not data else ()
