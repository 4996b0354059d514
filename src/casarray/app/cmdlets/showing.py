"""What every Get- does: give the objects that are meant, one after another as they are asked for."""

from collections.abc import Callable, Iterator, Sequence

from casarray.app.cmdlets.identity import Noun, all_of, identity, matching
from casarray.app.cmdlets.records import record
from casarray.app.directory import DirectoryService
from casarray.core.directory.model import Directory, Thing
from casarray.core.shell.cmdlet import Bound, Record

Keep = Callable[[Directory, Bound], Callable[[Thing], bool]]
"""What further parameters leave of the objects."""


def everything(_directory: Directory, _bound: Bound) -> Callable[[Thing], bool]:
    """Leave all."""
    return lambda _thing: True


def show(service: DirectoryService, noun: Noun, bounds: Sequence[Bound], keep: Keep = everything) -> Iterator[Record]:
    """The objects that the calls mean."""
    directory = service.directory()
    for bound in bounds:
        kept = keep(directory, bound)
        found = matching(directory, noun, identity(bound, noun)) if bound.given("Identity") else all_of(directory, noun)
        for thing in found:
            if kept(thing):
                yield record(directory, noun, thing)
