"""What the API tells besides the things themselves, and the two bodies that are no thing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from casarray.app.directory import Outcome
from casarray.app.stores import Entry
from casarray.core.config import Wish
from casarray.core.directory.changes import Change, as_json
from casarray.core.directory.model import Kind


@dataclass(frozen=True, slots=True)
class About:
    """The directory as a whole."""

    store: str
    revision: str  # as in `Status.directory` of a gateway that has read it
    organization: str
    admin_group: str
    counts: Mapping[str, int]
    missing: tuple[str, ...]  # what could not be read
    broken: tuple[str, ...]  # what in it breaks a rule


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """What would become of one thing."""

    kind: Kind
    name: str
    text: str
    before: Mapping[str, object] | None
    after: Mapping[str, object] | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request would change; nothing was changed."""

    changes: tuple[PlannedChange, ...]


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A change that was made, and by whom."""

    at: float
    who: str
    what: str
    kind: Kind
    name: str
    before: Mapping[str, object] | None
    after: Mapping[str, object] | None


@dataclass(frozen=True, slots=True)
class History:
    """The last changes, newest first."""

    items: tuple[HistoryEntry, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong, and the next step."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Failure:
    """The answer to a request that was refused or failed."""

    error: Problem


@dataclass(frozen=True, slots=True)
class Move:
    """Where a database shall be active."""

    server: str


@dataclass(frozen=True, slots=True)
class ServerState:
    """What the operator wants of a server; a deadline goes with drain."""

    state: Wish
    deadline_seconds: float | None = None


def plan_of(outcome: Outcome) -> Plan:
    """The plan as told."""
    return Plan(tuple(_planned(change) for change in outcome.changes))


def _planned(change: Change) -> PlannedChange:
    before, after = _things(change)
    return PlannedChange(change.kind, change.name, str(change), before, after)


def entry_of(entry: Entry) -> HistoryEntry:
    """An entry of the audit trail as told."""
    note, change = entry.note, entry.change
    return HistoryEntry(entry.at, note.who, note.what, change.kind, change.name, *_things(change))


def _things(change: Change) -> tuple[Any, Any]:
    return as_json(change.before), as_json(change.after)
