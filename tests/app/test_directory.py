"""What administrators do with the directory, over a store that can be made to fail."""

from collections.abc import Callable, Sequence

import pytest
from tests.core.directory.example import ORGANISATION

from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.app.directory import ATTEMPTS, DirectoryService
from casarray.app.stores import Entry, Note, Snapshot
from casarray.core.directory import edits
from casarray.core.directory.changes import Change, difference, same
from casarray.core.directory.model import Array, Directory, Kind, Site
from casarray.core.errors import Conflict, MovedOn, NotFound, Unavailable


class Watched(MemoryDirectory):
    """Counts how often it is read, and lets others in at the worst moment."""

    def __init__(self, directory: Directory | None = None) -> None:
        super().__init__(directory)
        self.reads = 0
        self.writes = 0
        self.before_change: Callable[[], None] = lambda: None

    def read(self) -> Snapshot:
        self.reads += 1
        return super().read()

    def change(self, snapshot: Snapshot, changes: Sequence[Change], note: Note) -> None:
        interfere, self.before_change = self.before_change, lambda: None
        interfere()
        self.writes += 1
        super().change(snapshot, changes, note)


@pytest.fixture
def store() -> Watched:
    return Watched(ORGANISATION)


@pytest.fixture
def service(store: Watched) -> DirectoryService:
    return DirectoryService(store, "alice")


def weigh(weight: int) -> Callable[[Directory], Directory]:
    return lambda d: edits.change(d, Kind.SERVER, "cas1", weight=weight)


def add_weight(directory: Directory) -> Directory:
    return edits.change(directory, Kind.SERVER, "cas1", weight=directory.servers["cas1"].weight + 1)


def test_looking_twice_reads_once(store: Watched, service: DirectoryService) -> None:
    assert service.directory() is service.directory()
    assert store.reads == 1


def test_looking_after_a_change_by_others_reads_again(store: Watched, service: DirectoryService) -> None:
    service.directory()
    DirectoryService(store, "bob").change(weigh(7), "x")
    assert service.directory().servers["cas1"].weight == 7


def test_a_plan_says_what_would_change_and_changes_nothing(store: Watched, service: DirectoryService) -> None:
    outcome = service.plan(weigh(7))
    assert [str(change) for change in outcome.changes] == ["~ server cas1: weight: 100 -> 7"]
    assert (outcome.before.servers["cas1"].weight, outcome.after.servers["cas1"].weight) == (100, 7)
    assert store.writes == 0
    assert same(service.directory(), ORGANISATION)


def test_a_change_is_carried_out_under_the_name_of_who_makes_it(service: DirectoryService) -> None:
    outcome = service.change(weigh(7), "Set-Server cas1 -Weight 7")
    (entry,) = service.history()
    assert entry.note == Note("alice", "Set-Server cas1 -Weight 7")
    assert [entry.change] == list(outcome.changes)
    assert service.directory().servers["cas1"].weight == 7


def test_a_change_to_what_is_there_writes_nothing(store: Watched, service: DirectoryService) -> None:
    assert service.change(weigh(100), "x").changes == ()
    assert store.writes == 0
    assert service.history() == []


@pytest.mark.parametrize(
    ("edit", "kind", "text"),
    [
        (lambda d: edits.new_array(d, "X", "x.domain.tld", "Bonn"), NotFound, 'there is no site "Bonn"'),
        (lambda d: edits.new_array(d, "X", "x.domain.tld", "Berlin"), Conflict, "has the array BER"),
        (lambda d: edits.new_array(d, "X", "no name", "Ulm"), Conflict, "is not a host name"),
        (lambda d: edits.remove(d, Kind.ARRAY, "CAS"), Conflict, "clients of 2 databases would be told a name"),
        (lambda d: edits.new(d, Site("Berlin")), Conflict, "there is a site Berlin already"),
    ],
)
def test_a_refused_change_changes_nothing(
    store: Watched, service: DirectoryService, edit: Callable[[Directory], Directory], kind: type[Exception], text: str
) -> None:
    revision = store.revision()
    for attempt in (service.plan, lambda e: service.change(e, "x")):
        with pytest.raises(kind, match=text):
            attempt(edit)
    assert (store.writes, store.revision()) == (0, revision)
    assert same(service.directory(), ORGANISATION)


def test_what_is_refused_for_the_sake_of_others_can_be_forced(service: DirectoryService) -> None:
    def remove(directory: Directory) -> Directory:
        return edits.remove(directory, Kind.ARRAY, "CAS")

    assert len(service.plan(remove, force=True).changes) == 1
    service.change(remove, "x", force=True)
    assert "cas" not in service.directory().arrays


# Others at the same time.


def test_a_change_of_another_in_between_is_kept(store: Watched, service: DirectoryService) -> None:
    store.before_change = lambda: _discard(DirectoryService(store, "bob").change(add_weight, "bob's"))
    outcome = service.change(add_weight, "alice's")
    assert service.directory().servers["cas1"].weight == 102
    assert [str(change) for change in outcome.changes] == ["~ server cas1: weight: 101 -> 102"]
    assert [entry.note.who for entry in service.history()] == ["alice", "bob"]


def test_the_rules_are_asked_again_after_a_change_of_another(store: Watched, service: DirectoryService) -> None:
    def make(name: str) -> Callable[[Directory], Directory]:
        return lambda d: edits.new_array(d, name, f"{name}.domain.tld", "Ulm")

    store.before_change = lambda: _discard(DirectoryService(store, "bob").change(make("theirs"), "x"))
    with pytest.raises(Conflict, match="the site Ulm has the array theirs"):
        service.change(make("mine"), "x")
    assert [array.name for array in service.directory().arrays.values()] == ["CAS", "BER", "theirs"]


def test_what_another_did_already_is_not_done_again(store: Watched, service: DirectoryService) -> None:
    store.before_change = lambda: _discard(DirectoryService(store, "bob").change(weigh(7), "x"))
    assert service.change(weigh(7), "x").changes == ()
    assert [entry.note.who for entry in service.history()] == ["bob"]


def test_a_change_between_the_plan_and_the_look_at_its_snapshot_is_seen(
    store: Watched, service: DirectoryService
) -> None:
    once = [True]

    def edit(directory: Directory) -> Directory:
        if once:
            once.clear()
            DirectoryService(store, "bob").change(add_weight, "x")
        return add_weight(directory)

    service.change(edit, "x")
    assert service.directory().servers["cas1"].weight == 102


def test_a_directory_that_never_holds_still_is_given_up(store: Watched, service: DirectoryService) -> None:
    def interfere() -> None:
        MemoryDirectory.change(store, MemoryDirectory.read(store), _more_weight(store), Note("bob", "x"))
        store.before_change = interfere

    store.before_change = interfere
    with pytest.raises(Unavailable, match="the directory is changed by others all the time; nothing was changed"):
        service.change(lambda d: edits.new(d, Site("Bonn")), "x")
    assert store.writes == ATTEMPTS
    assert "bonn" not in service.directory().sites


# A store that fails.


def test_a_store_that_fails_is_asked_anew_afterwards(store: Watched, service: DirectoryService) -> None:
    def full() -> None:
        raise Unavailable("the disk is full")

    service.directory()
    store.before_change = full
    with pytest.raises(Unavailable, match="the disk is full"):
        service.change(weigh(7), "x")
    assert service.directory().servers["cas1"].weight == 100
    assert store.reads == 2


def test_moved_on_is_a_conflict_to_whoever_does_not_care() -> None:
    assert issubclass(MovedOn, Conflict)


def test_the_store_behind_is_given_out(store: Watched, service: DirectoryService) -> None:
    assert service.store is store
    service.change(lambda d: d.put(Array("ULM", "ulm.domain.tld", "Ulm")), "x")
    history: Sequence[Entry] = service.history(1)
    assert len(history) == 1


def _discard(_: object) -> None:
    return None


def _more_weight(store: MemoryDirectory) -> tuple[Change, ...]:
    directory = MemoryDirectory.read(store).directory
    return difference(directory, add_weight(directory))
