"""Showing a ticket to one server: what all the conversations share. They end in what was `Heard`.

Steps and their driver are those of the health probes (`casarray.core.health.conversation`). The tokens come from a
port, `Initiator`, which does Kerberos and nothing else: a server that wants NTLM is told apart, never answered. A
server has taken a ticket when it has proven that it could read it (mutual authentication); whether it then lets the
client's principal in is another question, which an administrator's own ticket cannot always answer with yes.
"""

import base64
import binascii
from collections.abc import Generator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from casarray.core.errors import Denied, WireError
from casarray.core.health.conversation import Step
from casarray.core.kerberos.refusals import refusal_of

MOST_LEGS = 4
SHOWN = "answer the ticket"  # what a server does not do that was shown one and says nothing: Dovecot takes its time

T = TypeVar("T")
Part = Generator[Step, bytes, T]


class Initiator(Protocol):
    """A client's security context for one service, Kerberos only. `Denied` when a token is not right."""

    @property
    def complete(self) -> bool:
        """Whether the service has proven who it is."""

    def step(self, token: bytes) -> bytes:
        """Take the server's token (none at first); the next one, empty when there is nothing to say."""

    def wrap(self, data: bytes) -> bytes:
        """Signed, as RFC 4752 wants it."""

    def unwrap(self, data: bytes) -> bytes:
        """What the server signed."""


class Outcome(StrEnum):
    """How a server took it."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    NOT_OFFERED = "not-offered"  # it does not know Kerberos here
    NTLM = "ntlm"  # it wants NTLM
    OPEN = "open"  # it answers whoever comes
    NOT_PROVEN = "not-proven"  # it lets us in, and does not prove that it read the ticket
    UNREACHABLE = "unreachable"  # no connection, no sense: nothing was learnt of its keys


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of one knock."""

    outcome: Outcome
    detail: str = ""  # what the server said, printable
    code: int | None = None  # of a KRB-ERROR that it sent, RFC 4120 7.5.9
    server_time: float | None = None  # its clock, as far as it told, seconds since the epoch
    by: str = ""  # who it says it is: a greeting, a header
    let_in: bool = True  # accepted: whether the principal may use the service as well
    ours: bool = False  # the fault is ours


Knock = Generator[Step, bytes, Heard]


def refused(token: bytes, detail: str, by: str, clock: float | None = None) -> Heard:
    """With the reason that the token gives, if any."""
    found = refusal_of(token) if token else None
    if found is None:
        return Heard(Outcome.REFUSED, detail, None, clock, by)
    return Heard(Outcome.REFUSED, detail, found.code, found.server_time, by)


def from64(text: bytes) -> bytes:
    """A token as text protocols carry it. `WireError`."""
    try:
        return base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        raise WireError("base64", "a token that is not base64") from None


def carefully(knock: Knock) -> Knock:
    """The same; what our own library refuses to do, a first token above all, is a fault of ours."""
    try:
        return (yield from knock)
    except Denied as error:
        return Heard(Outcome.UNREACHABLE, f"was not asked: {error}", ours=True)
