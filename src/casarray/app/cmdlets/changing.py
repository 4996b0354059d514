"""How a cmdlet changes the directory: everything that the pipeline brought is one change, all of it or nothing.

It is planned first, so that what is refused is refused before anybody is asked; then -WhatIf shows the plan, or
whoever typed it is asked where that is due; then it is carried out on what the directory holds by then.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from casarray.app.cmdlets.identity import Noun
from casarray.app.cmdlets.records import record
from casarray.app.directory import DirectoryService, Edit, Outcome
from casarray.core.directory import edits
from casarray.core.directory.model import Directory, Kind, Thing, key
from casarray.core.directory.parts import some
from casarray.core.errors import NotFound
from casarray.core.shell.cmdlet import Bound, Host, Record

T = TypeVar("T", bound=Thing)


class Draft:
    """A directory in the making, without a new one for each of ten thousand objects."""

    def __init__(self, before: Directory) -> None:
        """``before`` is where names are looked up, however far the draft has come."""
        self.before = before
        self._made: list[Thing] = []
        self._changed: dict[tuple[Kind, str], tuple[Thing, Thing]] = {}
        self._gone: dict[tuple[Kind, str], Thing] = {}

    def now(self, thing: T) -> T:
        """What the draft has made of a thing that was there before. `NotFound` if it was removed."""
        place = thing.KIND, key(thing.name)
        if place in self._gone:
            raise NotFound(f"the {thing.KIND} {thing.name} was named twice, and is removed already")
        now = self._changed.get(place, (thing, thing))[1]
        assert isinstance(now, type(thing))
        return now

    def make(self, thing: Thing) -> None:
        """Add a thing."""
        self._made.append(thing)

    def change(self, was: Thing, now: Thing) -> None:
        """Put something in the place of what was there before, perhaps under another name."""
        self._changed[was.KIND, key(was.name)] = (was, now)

    def remove(self, thing: Thing) -> None:
        """Remove a thing."""
        self.now(thing)
        self._gone[thing.KIND, key(thing.name)] = thing

    def result(self) -> Directory:
        """The directory it makes."""
        directory = edits.new(self.before, *self._made)
        same = [now for was, now in self._changed.values() if key(was.name) == key(now.name)]
        directory = directory.put(*same)
        for was, now in self._changed.values():
            if key(was.name) != key(now.name):
                directory = edits.replaced(directory, was, now)
        return directory.without(*self._gone.values())


Alter = Callable[[Draft, Bound], str]
"""Does to a draft what one call says; gives the name of what it is done to, for the question."""


Warn = Callable[[Outcome], Iterable[str]]
"""What whoever does this should know, a sentence each."""


def nothing_to_say(_outcome: Outcome) -> Iterable[str]:
    """It is what it looks like."""
    return ()


def carry_out(
    service: DirectoryService,
    bounds: Sequence[Bound],
    host: Host,
    action: str,
    alter: Alter,
    *,
    warn: Warn = nothing_to_say,
) -> Outcome | None:
    """Plan, show or ask, and change. None if nothing was carried out: -WhatIf, or nobody agreed."""
    targets: list[str] = []
    force = any(bound.flag("Force") for bound in bounds)

    def edit_for(chosen: Sequence[Bound]) -> Edit:
        def edit(directory: Directory) -> Directory:
            draft = Draft(directory)
            targets[:] = [alter(draft, bound) for bound in chosen]
            return draft.result()

        return edit

    plan = service.plan(edit_for(bounds), force=force)
    if not plan.changes:
        if targets:
            host.warn(f"The command completed successfully but no settings of {some(targets)} have been modified.")
        return plan
    if host.what_if:
        for change in plan.changes:
            host.say_what_if(action, str(change))
        _warn(host, warn(plan))
        return None
    chosen = [bound for bound, target in zip(bounds, tuple(targets), strict=True) if host.may(action, target)]
    if not chosen:
        return None
    outcome = service.change(edit_for(chosen), host.line, force=force)
    _warn(host, warn(outcome))
    return outcome


def _warn(host: Host, sentences: Iterable[str]) -> None:
    for sentence in sentences:
        host.warn(sentence)


def made_records(service: DirectoryService, outcome: Outcome | None, noun: Noun) -> Iterator[Record]:
    """What a New- gives: the objects it made, as they stand in the directory now."""
    if outcome is None:
        return
    directory = service.directory()
    for change in outcome.changes:
        thing = directory.get(noun.kind, change.name) if change.kind is noun.kind else None
        if thing is not None:
            yield record(directory, noun, thing)
