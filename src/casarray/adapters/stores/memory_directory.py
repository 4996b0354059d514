"""A directory that lives as long as the process: for tests, and for `directory copy` to try things on."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import replace

from casarray.app.stores import Entry, Note, Snapshot
from casarray.core.directory.changes import Change, applied
from casarray.core.directory.model import Directory
from casarray.core.errors import MovedOn


class MemoryDirectory:
    """`casarray.app.stores.DirectoryStore` in a variable."""

    def __init__(self, directory: Directory | None = None) -> None:
        self.name = "memory:"
        self._directory = directory or Directory()
        self._revision = 0
        self._history: list[Entry] = []

    def read(self) -> Snapshot:
        return Snapshot(self._directory, self.revision())

    def revision(self) -> str:
        return str(self._revision)

    def change(self, snapshot: Snapshot, changes: Sequence[Change], note: Note) -> None:
        if snapshot.revision != self.revision():
            raise MovedOn("the directory was changed by somebody else meanwhile; look at it again and repeat")
        changes = [identified(change) for change in changes]
        self._directory = applied(self._directory, changes)
        self._revision += 1
        self._history += [Entry(time.time(), note, change) for change in changes]

    def history(self, most: int = 100) -> Sequence[Entry]:
        return self._history[: -most - 1 : -1]

    def close(self) -> None:
        pass


def identified(change: Change) -> Change:
    """The change, with an identity for what it makes and that of before for what it changes."""
    if change.after is None or change.after.guid:
        return change
    guid = change.before.guid if change.before is not None and change.before.guid else str(uuid.uuid4())
    return replace(change, after=replace(change.after, guid=guid))
