"""Whom a roll tells what it does: whoever watches it, and the event log of the machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Protocol

from casarray.core.errors import Unavailable

SOURCE = "casarray"


class Event(IntEnum):
    """Numbers in the event log: those of Exchange's script, which monitoring knows."""

    STARTED = 14001
    SUCCEEDED = 14002
    SUCCEEDED_WITH_WARNINGS = 14003
    FAILED = 14004


class EventLog(Protocol):
    """Where administrators look afterwards. Writing there never fails."""

    def write(self, event: Event, text: str) -> None:
        """A line."""


class Quiet:
    """An event log that nobody reads."""

    def write(self, event: Event, text: str) -> None:
        """Nothing."""


class MemberState(StrEnum):
    """How far a member has come."""

    WAITING = "waiting"
    REACHED = "answers"
    PENDING = "has the new keys"
    CONFIRMED = "confirmed"
    UNCHANGED = "unchanged"
    LEFT_OUT = "left out"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class MemberLine:
    """A member in the table."""

    name: str
    host: str
    state: MemberState
    numbers: tuple[int, ...] = ()  # of the generations it holds, newest first
    detail: str = ""  # why it is missing
    made: tuple[float, ...] = ()  # when each of them was made, seconds since the epoch


class Watch(Protocol):
    """Whoever watches a roll."""

    def phase(self, text: str, members: Sequence[str]) -> None:
        """Something begins, with these members."""

    def member(self, name: str, why: str) -> None:
        """It is done with this member; ``why`` says why it failed, empty if it did not."""

    def agree(self, question: str) -> bool:
        """A question, of somebody who is there."""

    def verbose(self, text: str) -> None:
        """More than most want to know."""


class Unwatched:
    """Nobody watches, and nobody answers."""

    def phase(self, text: str, members: Sequence[str]) -> None:
        """Nothing."""

    def member(self, name: str, why: str) -> None:
        """Nothing."""

    def agree(self, question: str) -> bool:  # noqa: ARG002 - nobody reads it
        """No."""
        return False

    def verbose(self, text: str) -> None:
        """Nothing."""


class Timers(Protocol):
    """Where this machine keeps what it does by the clock."""

    folder: str  # the usual one

    @property
    def program(self) -> Sequence[str]:
        """How casarray is started there: a path, and the words before its commands."""

    def write(self, files: Sequence[tuple[str, str]], folder: str | None) -> Sequence[str]:
        """Write files (name, text), in one piece each, into a folder or the usual one; their paths.

        `Denied` without the right to.
        """


class NoTimers:
    """A place without a clock."""

    folder = ""
    program: Sequence[str] = ("casarray",)

    def write(self, files: Sequence[tuple[str, str]], folder: str | None) -> Sequence[str]:  # noqa: ARG002 - none
        """`Unavailable`."""
        raise Unavailable("nothing can be scheduled from here")
