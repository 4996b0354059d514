"""A probe as a conversation without I/O: it says what to do next, and ends in an answer.

A conversation is a generator of steps (`Dial`, `Encrypt`, `Ask`, `Say`) that returns an `Answer`. It may use several
connections one after the other, as RPC does: asking the endpoint mapper first, then binding on the port it named. A
`Dial` lets go of the connection before. `Talk` drives the generator, bounds what it may be told, and turns every way
in which a connection can go wrong into a sentence for an administrator, so that the adapter that owns the socket
decides nothing and knows no words.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace
from enum import StrEnum

from casarray.core.errors import OutOfTurn, WireError

#: What one probe reads at most, over all its connections: far above any honest answer.
LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to this port; told ``b""`` once connected."""

    port: int
    remark: str = ""  # how we came to this port, for the reason: ", where its endpoint mapper says EMSMDB is"


@dataclass(frozen=True, slots=True)
class Encrypt:
    """Perform the TLS handshake, without judging the certificate; told the certificate (DER), or ``b""``."""

    host: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Send ``data`` (if any) and wait; told the next bytes that arrive, never none."""

    what: str  # completes the sentence "it does not ..."
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Say:
    """Send ``data``; told ``b""`` at once."""

    data: bytes


class Failure(StrEnum):
    """How a connection can go wrong, as the adapter sees it."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"  # the whole conversation's time is over
    RESET = "reset"
    CLOSED = "closed"
    TLS = "tls"
    OURS = "ours"  # nothing was learnt of the server: we have no file descriptor, no port, no such source address


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe found out. ``reason`` is a sentence for an administrator."""

    up: bool
    reason: str
    conclusive: bool = False  # one of these is enough for a verdict: nobody listens there
    ours: bool = False  # the fault is ours: it says nothing about the server
    certificate_expires: float | None = None  # seconds since the epoch


Step = Dial | Encrypt | Ask | Say
#: What the steps are told is described at each of them. The reason of the answer lacks its subject, the server.
Steps = Generator[Step, bytes, Answer]


class Talk:
    """One conversation under way. Perform the step `begin` returns, tell `go_on` (or `fail`), until it is an `Answer`.

    Nothing but an `Answer` ends it, whatever the bytes.
    """

    __slots__ = ("_heard", "_port", "_remark", "_server", "_step", "_steps")

    def __init__(self, server: str, steps: Steps) -> None:
        self._server = server
        self._steps = steps
        self._step: Step | None = None
        self._heard = 0
        self._port = 0
        self._remark = ""

    def begin(self) -> Step | Answer:
        """The first step."""
        return self._next(None)

    def go_on(self, told: bytes) -> Step | Answer:
        """The step was performed, and this came of it."""
        if isinstance(self._step, Ask):
            self._heard += len(told)
            if self._heard > LIMIT:
                return self._end(f"sends more than {LIMIT} bytes and does not {self._step.what}")
        return self._next(told)

    def fail(self, failure: Failure, detail: str = "") -> Answer:
        """The step could not be performed."""
        self._steps.close()
        if failure is Failure.OURS:
            return replace(self._down(f"was not probed: {detail}"), ours=True)
        if isinstance(self._step, Dial):
            return self._down(self._not_connected(failure, detail), conclusive=failure is Failure.REFUSED)
        return self._down(self._accepts(self._not_answered(failure, detail)))

    def _next(self, told: bytes | None) -> Step | Answer:
        try:
            step = next(self._steps) if told is None else self._steps.send(told)
        except StopIteration as end:
            a: Answer = end.value
            return Answer(a.up, f"{self._server} {a.reason}", a.conclusive, a.ours, a.certificate_expires)
        except (WireError, OutOfTurn) as error:
            what = self._step.what if isinstance(self._step, Ask) else "make sense"
            return self._down(self._accepts(f"what it sends does not {what} ({error})"))
        self._step = step
        if isinstance(step, Dial):
            self._port, self._remark = step.port, step.remark
        return step

    def _end(self, what: str) -> Answer:
        self._steps.close()
        return self._down(self._accepts(what))

    def _down(self, what: str, *, conclusive: bool = False) -> Answer:
        return Answer(up=False, reason=f"{self._server} {what}", conclusive=conclusive)

    def _accepts(self, what: str) -> str:
        return f"accepts connections on {self._port}{self._remark and self._remark + ','} but {what}"

    def _not_connected(self, failure: Failure, detail: str) -> str:
        where = f"{self._port}{self._remark}"
        match failure:
            case Failure.REFUSED:
                return f"refuses connections on {where}"
            case Failure.TIMEOUT:
                return f"does not accept connections on {where}"
            case Failure.UNREACHABLE:
                return f"cannot be reached on {where}: {detail}"
            case _:
                return f"cannot be connected to on {where}: {detail or failure}"

    def _not_answered(self, failure: Failure, detail: str) -> str:
        what = self._step.what if isinstance(self._step, Ask) else "answer the TLS handshake"
        match failure:
            case Failure.TIMEOUT:
                return f"does not {what}"
            case Failure.CLOSED:
                return f"closes the connection and does not {what}"
            case Failure.RESET:
                return f"resets the connection and does not {what}"
            case Failure.TLS:
                return f"the TLS handshake fails: {detail}"
            case _:
                return f"does not {what}: {detail or failure}"
