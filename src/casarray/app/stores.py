"""What the directory's use cases need of a store: fulfilled by memory, SQLite and Active Directory alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from casarray.core.directory.changes import Change
from casarray.core.directory.model import Directory


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a directory store held at one moment."""

    directory: Directory
    revision: str  # another one after every change; compared for equality only
    missing: tuple[str, ...] = ()  # what could not be read, a sentence each


@dataclass(frozen=True, slots=True)
class Note:
    """Who changes a directory, and by what."""

    who: str
    what: str  # the command or cmdlet, as typed


@dataclass(frozen=True, slots=True)
class Entry:
    """One change in the audit trail."""

    at: float  # seconds since the epoch
    note: Note
    change: Change


class DirectoryStore(Protocol):
    """Where a directory lives. Calls block; any thread may call, one at a time.

    Raises `Unavailable` when the store cannot be reached, `Denied` when a right is missing.
    """

    name: str  # as people give it: memory:, sqlite:/var/lib/casarray, ldap://dc1.lab.example

    def read(self) -> Snapshot:
        """Everything, at one moment."""

    def revision(self) -> str:
        """The revision now: cheap, so that it can be asked every second."""

    def change(self, snapshot: Snapshot, changes: Sequence[Change], note: Note) -> None:
        """Carry the changes out, all or none where the store can; `MovedOn` when it is no longer as the snapshot says.

        A store that cannot change several things at once carries them out in their order; whoever is interrupted
        there compares again and goes on.
        """

    def history(self, most: int = 100) -> Sequence[Entry]:
        """The last changes, newest first, as far as the store keeps them."""

    def close(self) -> None:
        """Let go of it. Twice is once."""
