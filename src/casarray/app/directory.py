"""What administrators do with the directory: look, plan, change. All faces come through here.

A change is a function from one directory to the next (`core.directory.edits`). It is planned on what the store holds,
held against the rules, and carried out only if the store still holds that; if somebody was faster, it is planned anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from casarray.app.stores import DirectoryStore, Entry, Note, Snapshot
from casarray.core.directory import rules
from casarray.core.directory.changes import Change, difference
from casarray.core.directory.model import Directory
from casarray.core.errors import MovedOn, Unavailable

Edit = Callable[[Directory], Directory]

ATTEMPTS = 100  # against others who change it at the same time; four who never pause need up to a dozen


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change did, or would do."""

    changes: tuple[Change, ...]
    before: Directory
    after: Directory


class DirectoryService:
    """One administrator at one store."""

    def __init__(self, store: DirectoryStore, who: str) -> None:
        """``who`` goes into the audit trail."""
        self._store = store
        self._who = who
        self._seen: Snapshot | None = None

    @property
    def store(self) -> DirectoryStore:
        """The store behind."""
        return self._store

    def snapshot(self) -> Snapshot:
        """What the store holds now; read anew only if it changed."""
        if self._seen is None or self._store.revision() != self._seen.revision:
            self._seen = self._store.read()
        return self._seen

    def directory(self) -> Directory:
        """The same, without its revision."""
        return self.snapshot().directory

    def plan(self, edit: Edit, *, force: bool = False) -> Outcome:
        """What an edit would change. Raises what the edit and the rules raise."""
        before = self.directory()
        after = edit(before)
        changes = difference(before, after)
        rules.check(before, after, changes, force=force)
        return Outcome(changes, before, after)

    def change(self, edit: Edit, what: str, *, force: bool = False) -> Outcome:
        """Plan it and carry it out. ``what`` is the command as typed, for the audit trail; no secrets."""
        for _ in range(ATTEMPTS):
            outcome = self.plan(edit, force=force)
            if not outcome.changes:
                return outcome
            snapshot = self.snapshot()
            if snapshot.directory is not outcome.before:
                continue
            self._seen = None
            try:
                self._store.change(snapshot, outcome.changes, Note(self._who, what))
            except MovedOn:
                continue
            return outcome
        raise Unavailable("the directory is changed by others all the time; nothing was changed, try again")

    def history(self, most: int = 100) -> Sequence[Entry]:
        """The last changes, newest first."""
        return self._store.history(most)
