"""Changes as values: what makes one directory into another, in an order that can be carried out and left half-way.

A change names what it expects to find. A store that finds something else refuses it, so nobody's work is overwritten
unseen, and whoever is interrupted compares again and goes on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from casarray.core.directory.model import CLASSES, Directory, Kind, Thing, key
from casarray.core.errors import MovedOn
from casarray.core.records import from_json, to_json


@dataclass(frozen=True, slots=True)
class Change:
    """One thing is made (no ``before``), changed, or removed (no ``after``)."""

    kind: Kind
    name: str  # as it was before, if it was there
    before: Thing | None
    after: Thing | None

    def __str__(self) -> str:
        """One line for people: ``+ array CAS: fqdn cas.domain.tld, site Paderborn``."""
        if self.before is None:
            assert self.after is not None
            return f"+ {self.kind} {self.name}{_told(self.after)}"
        if self.after is None:
            return f"- {self.kind} {self.name}"
        parts = [f"{name}: {_word(was)} -> {_word(now)}" for name, was, now in _differing(self.before, self.after)]
        return f"~ {self.kind} {self.name}: {', '.join(parts)}"


def difference(before: Directory, after: Directory) -> tuple[Change, ...]:
    """What makes ``before`` into ``after``: things made or changed in the order of their kinds, then removed backwards.

    A thing under a new name is removed and made: names are what others refer to it by.
    """
    made: list[Change] = []
    removed: list[Change] = []
    for kind in Kind:
        was, now = before.of(kind), after.of(kind)
        if was is now:
            continue
        for name, thing in now.items():
            old = was.get(name)
            if old is not thing and (old != thing or old.name != thing.name):
                made.append(Change(kind, thing.name if old is None else old.name, old, thing))
        removed += [Change(kind, thing.name, thing, None) for name, thing in was.items() if name not in now]
    return (*made, *reversed(removed))


def applied(directory: Directory, changes: Iterable[Change]) -> Directory:
    """The directory after these. `MovedOn` when it is not what the changes expect."""
    changes = tuple(changes)
    check_expected(directory, changes)
    put = [change.after for change in changes if change.after is not None]
    gone = [change.before for change in changes if change.before is not None and change.after is None]
    return directory.put(*put).without(*gone)


def check_expected(directory: Directory, changes: Iterable[Change]) -> None:
    """Raise `MovedOn` when the directory is not what the changes expect."""
    for change in changes:
        if directory.get(change.kind, change.name) != change.before:
            raise MovedOn(moved_on(change))


def moved_on(change: Change) -> str:
    """The sentence for whoever was overtaken."""
    return f"the {change.kind} {change.name} was changed by somebody else meanwhile; look at it again and repeat"


def renamed(changes: Sequence[Change]) -> bool:
    """Whether a thing only got other capital letters, which some stores do by a rename."""
    return any(c.before and c.after and c.before.name != c.after.name for c in changes)


def as_json(thing: Thing | None) -> Any:
    """The thing as JSON, under the names of its fields."""
    return None if thing is None else to_json(thing)


def of_json(kind: Kind, data: object) -> Thing:
    """What `as_json` gave. `WireError` for anything else."""
    thing: Thing = from_json(CLASSES[kind], data)
    return thing


def _told(thing: Thing) -> str:
    plain = type(thing)
    parts = []
    for field in fields(plain):
        value = getattr(thing, field.name)
        if field.name in {"name", "network", "guid"} or value in ("", (), {}, None) or value == field.default:
            continue
        parts.append(f"{field.name} {_word(value)}")
    return f": {', '.join(parts)}" if parts else ""


def _differing(before: Thing, after: Thing) -> list[tuple[str, object, object]]:
    return [
        (field.name, getattr(before, field.name), getattr(after, field.name))
        for field in fields(type(after))
        if field.compare and getattr(before, field.name) != getattr(after, field.name)
    ]


def _word(value: object) -> str:
    plain = to_json(value)
    if isinstance(plain, list):
        return ", ".join(_word(item) for item in plain) or "none"
    if isinstance(plain, dict):
        return "{" + ", ".join(f"{name} {_word(inner)}" for name, inner in plain.items()) + "}"
    return "none" if plain in (None, "") else str(plain).lower() if isinstance(plain, bool) else str(plain)


def same(one: Directory, other: Directory) -> bool:
    """Whether both hold the same."""
    named = one.organization == other.organization and one.admin_group == other.admin_group
    return named and not difference(one, other)


def things(changes: Iterable[Change], kind: Kind) -> dict[str, Thing]:
    """What the changes leave of one kind, by folded name."""
    return {key(c.after.name): c.after for c in changes if c.kind is kind and c.after is not None}
