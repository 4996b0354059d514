"""The steps of a roll: each is something to be done by whoever rolls, and says with whom."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Prove:
    """Get this member's generation of that number, and a ticket with it."""

    member: str
    number: int


@dataclass(frozen=True, slots=True)
class Confirm:
    """Tell members that a generation they hold (under that number each) is in the directory."""

    members: tuple[tuple[str, int], ...]
    actual: int


@dataclass(frozen=True, slots=True)
class CopyTo:
    """Give these members what that one holds."""

    source: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask whether to go on without these members."""

    members: tuple[str, ...]
    question: str


@dataclass(frozen=True, slots=True)
class Make:
    """Make a password, and the keys it will give."""


@dataclass(frozen=True, slots=True)
class Push:
    """Give the new keys to these members, as pending."""

    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """Ask these members again what they hold."""

    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetPassword:
    """Set the password in the realm."""


@dataclass(frozen=True, slots=True)
class Reread:
    """The realm's answer was lost: ask it how the account is now."""


@dataclass(frozen=True, slots=True)
class ProveNew:
    """Get a ticket with the new keys."""


@dataclass(frozen=True, slots=True)
class DeriveAgain:
    """The new keys are not the realm's although the password is: make them again, by the salt it tells now."""


@dataclass(frozen=True, slots=True)
class Restore:
    """Give the new keys, which are in the directory, to members that have lost them."""

    members: tuple[str, ...]


class Outcome(StrEnum):
    """How a roll ends."""

    ROLLED = "rolled"
    FINISHED = "finished"  # an earlier one; no new password
    CAUGHT_UP = "caught up"  # members got what they lacked; no new password
    NOT_DUE = "not due"
    REFUSED = "refused"  # the directory has the password it had
    UNFINISHED = "unfinished"  # the directory has the new password, and not all is well: run again


@dataclass(frozen=True, slots=True)
class End:
    """Nothing is left to do."""

    outcome: Outcome
    text: str  # a sentence


Step = (
    Prove | Confirm | CopyTo | Ask | Make | Push | Check | SetPassword | Reread | ProveNew | DeriveAgain | Restore | End
)
READING = (Prove, Check, Reread, ProveNew)
"""Steps that change nothing anywhere."""
