"""One contract for every store of the directory.

A further store is one more function in `STORES`: it opens a store, says what it cannot do, and closes it.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from tests.core.directory.example import ORGANISATION

from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.adapters.stores.sqlite_directory import SqliteDirectory
from casarray.app.directory import DirectoryService
from casarray.app.stores import DirectoryStore, Note
from casarray.core.directory import edits
from casarray.core.directory.changes import Change, difference, same
from casarray.core.directory.model import (
    CLIENT_ACCESS,
    MAILBOX,
    Array,
    AvailabilityGroup,
    Copy,
    Database,
    Directory,
    Kind,
    RpcClientAccess,
    Server,
    Site,
    Subnet,
    Thing,
)
from casarray.core.errors import MovedOn

NOTE = Note("alice", "New-Something -Name x")


@dataclass(frozen=True)
class Opened:
    """A store to try, and what it cannot do."""

    store: DirectoryStore
    again: Callable[[], DirectoryStore] | None = None  # opens the same place once more; None: nobody else can see it
    at_once: bool = True  # several changes are carried out all or none
    history: bool = True  # it keeps an audit trail
    settle_seconds: float = 0.0  # how long a change may need until others see it
    can_hold: Callable[[Thing], bool] = lambda _: True


@contextmanager
def memory(_: Path) -> Iterator[Opened]:
    store = MemoryDirectory()
    yield Opened(store)
    store.close()


@contextmanager
def sqlite(folder: Path) -> Iterator[Opened]:
    opened = [SqliteDirectory(str(folder / "state"))]

    def again() -> DirectoryStore:
        opened.append(SqliteDirectory(str(folder / "state")))
        return opened[-1]

    yield Opened(opened[0], again)
    for store in opened:
        store.close()


STORES: Mapping[str, Callable[[Path], AbstractContextManager[Opened]]] = {"memory": memory, "sqlite": sqlite}


@pytest.fixture(
    params=[*STORES, pytest.param("active-directory", marks=[pytest.mark.root, pytest.mark.samba])],
)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    if request.param in STORES:
        with STORES[request.param](tmp_path) as found:
            yield found
    else:  # a domain controller is started once for all tests: see tests/conftest.py
        domain = request.getfixturevalue("domain")
        yield Opened(domain.open(), domain.open, at_once=False, history=False)


def become(opened: Opened, edit: Callable[[Directory], Directory], note: Note = NOTE) -> Directory:
    """Change the store by an edit; what it should hold then."""
    snapshot = opened.store.read()
    after = edit(snapshot.directory)
    opened.store.change(snapshot, difference(snapshot.directory, after), note)
    return after


def fill(opened: Opened) -> Directory:
    """Put the example into the store, as far as the store can hold it."""
    return become(opened, lambda d: d.put(*filter(opened.can_hold, ORGANISATION)))


def identities(opened: Opened) -> dict[tuple[Kind, str], str]:
    """The GUID of everything."""
    return {(thing.KIND, thing.name): thing.guid for thing in opened.store.read().directory}


def spelled(directory: Directory) -> Directory:
    """With every reference in the capital letters of what it refers to, as Active Directory has it by itself."""

    def as_named(kind: Kind, name: str) -> str:
        found = directory.get(kind, name)
        return found.name if found else name

    def site(name: str) -> str:
        return as_named(Kind.SITE, name)

    def server(name: str) -> str:
        return as_named(Kind.SERVER, name)

    return directory.put(
        *(replace(t, site=site(t.site)) for t in directory.subnets.values()),
        *(replace(t, site=site(t.site)) for t in directory.servers.values()),
        *(replace(t, site=site(t.site)) for t in directory.arrays.values()),
        *(replace(t, servers=tuple(map(server, t.servers))) for t in directory.groups.values()),
        *(
            replace(
                t,
                active_server=server(t.active_server),
                copies=tuple(replace(copy, server=server(copy.server)) for copy in t.copies),
            )
            for t in directory.databases.values()
        ),
        *(replace(t, database=as_named(Kind.DATABASE, t.database)) for t in directory.accounts.values()),
    )


def assert_holds(store: DirectoryStore, expected: Directory, seconds: float = 0.0) -> None:
    """The store holds this, no more and no less, at the latest after a while."""
    until = time.monotonic() + seconds
    expected = spelled(expected)
    while not same(found := spelled(store.read().directory), expected) and time.monotonic() < until:
        time.sleep(0.05)
    assert [str(change) for change in difference(expected, found)] == []
    assert (found.organization, found.admin_group) == (expected.organization, expected.admin_group)


# Reading.


def test_what_is_read_twice_is_the_same(opened: Opened) -> None:
    fill(opened)
    first, second = opened.store.read(), opened.store.read()
    assert same(first.directory, second.directory)
    assert first.revision == second.revision == opened.store.revision()
    assert first.missing == ()


def test_everything_that_was_put_in_comes_out(opened: Opened) -> None:
    assert_holds(opened.store, fill(opened))


def test_what_was_read_before_stays_as_it_was(opened: Opened) -> None:
    before = opened.store.read()
    was = list(before.directory)
    fill(opened)
    assert list(before.directory) == was


EVERY_FIELD: Sequence[Thing] = (
    Site("Bonn", "am Rhein, linkes Ufer ☕"),
    Subnet(ip_network("fd00:77::/48"), "Bonn"),
    Subnet(ip_network("10.77.0.0/16"), "Bonn"),
    Server(
        "bn1",
        "BN1.domain.tld",
        "Bonn",
        (CLIENT_ACCESS, MAILBOX),
        RpcClientAccess("RpcClientAccess", False, 1000, "0.0.0-5.65535.65535"),
        (ip_address("10.77.0.1"), ip_address("fd00:77::1")),
        250,
        True,
    ),
    Server("bn2", "bn2.domain.tld", "Bonn", (CLIENT_ACCESS,), None),
    Array("BONN", "outlook.bonn.domain.tld", "Bonn", (ip_address("10.77.0.100"),), {"profile": "mail", "panic": True}),
    AvailabilityGroup("DAGBN", ("bn1",), True),
    Database("DB Bonn", "bn1", (Copy("bn1", 2),), "outlook.bonn.domain.tld"),
)


def test_every_field_is_kept(opened: Opened) -> None:
    things = [thing for thing in EVERY_FIELD if opened.can_hold(thing)]
    become(opened, lambda d: d.put(*things))
    found = opened.store.read().directory
    assert [found.get(thing.KIND, thing.name) for thing in things] == things


def test_a_new_directory_can_be_given_the_name_of_its_organisation(opened: Opened) -> None:
    become(opened, lambda d: edits.name_organization(d, "Fabrikam", "First Group"))
    filled = fill(opened)
    found = opened.store.read().directory
    assert (found.organization, found.admin_group) == ("Fabrikam", "First Group")
    assert same(found, spelled(filled))
    if opened.again is not None:
        assert same(opened.again().read().directory, spelled(filled))


def test_things_get_an_identity_each_and_keep_it(opened: Opened) -> None:
    fill(opened)
    first = identities(opened)
    assert "" not in first.values()
    assert len(set(first.values())) == len(first)
    become(opened, lambda d: edits.change(d, Kind.SITE, "Berlin", description="changed"))
    assert identities(opened) == first


# Changing.


def test_a_change_is_another_revision_and_nothing_else_is(opened: Opened) -> None:
    seen = [opened.store.revision()]
    for n in range(3):
        become(opened, lambda d, n=n: d.put(Site("Bonn", f"version {n}")))  # type: ignore[misc]  # mypy takes a lambda's default for an argument
        seen.append(opened.store.revision())
    opened.store.read()
    assert opened.store.revision() == seen[-1]
    assert len(set(seen)) == len(seen)


def test_one_field_is_changed(opened: Opened) -> None:
    fill(opened)
    after = become(opened, lambda d: edits.change(d, Kind.ARRAY, "BER", fqdn="new.berlin.domain.tld"))
    assert_holds(opened.store, after)


def test_a_server_is_taken_out_of_its_array_and_put_back(opened: Opened) -> None:
    fill(opened)
    assert_holds(opened.store, become(opened, lambda d: edits.remove_rpc_client_access(d, "cas1")))
    assert_holds(opened.store, become(opened, lambda d: edits.new_rpc_client_access(d, "cas1")))


def test_a_removed_thing_is_gone(opened: Opened) -> None:
    fill(opened)
    after = become(opened, lambda d: edits.remove(d, Kind.DATABASE, "DB2"))
    assert after.get(Kind.DATABASE, "DB2") is None
    assert_holds(opened.store, after)


def test_other_capital_letters_alone_are_kept(opened: Opened) -> None:
    fill(opened)
    after = become(opened, lambda d: edits.change(d, Kind.SITE, "Ulm", name="ULM"))
    assert_holds(opened.store, after)
    assert opened.store.read().directory.sites["ulm"].name == "ULM"


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        (Kind.SITE, "Ulm", "Bonn"),
        (Kind.ARRAY, "BER", "Bln"),
        (Kind.SERVER, "mbx1", "mbx7"),
        (Kind.DATABASE, "DB1", "M1"),
    ],
)
def test_a_renamed_thing_is_followed_by_others(opened: Opened, kind: Kind, old: str, new: str) -> None:
    fill(opened)
    after = become(opened, lambda d: edits.change(d, kind, old, name=new))
    assert_holds(opened.store, after)


def test_a_thing_is_made_again_under_other_capital_letters(opened: Opened) -> None:
    before = fill(opened)
    become(opened, lambda d: d.without(before.databases["db2"]))
    after = become(opened, lambda d: d.put(replace(before.databases["db2"], name="Db2")))
    assert_holds(opened.store, after)
    assert opened.store.read().directory.databases["db2"].name == "Db2"


def test_many_things_are_changed_at_once(opened: Opened) -> None:
    fill(opened)
    become(opened, lambda d: d.put(*(Database(f"M{n}", "mbx1", (Copy("mbx1"),), "cas.domain.tld") for n in range(100))))
    after = become(
        opened, lambda d: d.put(*(replace(x, rpc_client_access_server="cas1.domain.tld") for x in d.databases.values()))
    )
    assert_holds(opened.store, after)
    assert {d.rpc_client_access_server for d in after.databases.values()} == {"cas1.domain.tld"}


def test_everything_is_removed_again(opened: Opened) -> None:
    begins = opened.store.read().directory
    fill(opened)
    become(opened, lambda _: begins)
    assert_holds(opened.store, begins)


# Overtaken.


def test_what_somebody_else_changed_meanwhile_is_not_overwritten(opened: Opened) -> None:
    fill(opened)
    old = opened.store.read()
    after = become(opened, lambda d: edits.change(d, Kind.SITE, "Berlin", description="theirs"))
    mine = edits.change(old.directory, Kind.SITE, "Berlin", description="mine")
    with pytest.raises(MovedOn, match="changed by somebody else meanwhile; look at it again"):
        opened.store.change(old, difference(old.directory, mine), NOTE)
    assert_holds(opened.store, after)


def test_a_change_that_expects_something_else_is_refused(opened: Opened) -> None:
    before = fill(opened)
    snapshot = opened.store.read()
    wrong = Change(Kind.SITE, "Berlin", Site("Berlin", "never was"), Site("Berlin", "x"))
    with pytest.raises(MovedOn, match="the site Berlin was changed by somebody else meanwhile"):
        opened.store.change(snapshot, [wrong], NOTE)
    assert_holds(opened.store, before)


@pytest.mark.parametrize(
    "wrong",
    [
        Change(Kind.SITE, "Ulm", Site("Ulm", "never was"), None),
        Change(Kind.SITE, "Ulm", None, Site("Ulm")),
        Change(Kind.SITE, "Nowhere", Site("Nowhere"), None),
    ],
    ids=["removed", "made", "gone"],
)
def test_of_several_changes_all_or_none_are_carried_out(opened: Opened, wrong: Change) -> None:
    before = fill(opened)
    if not opened.at_once:
        pytest.skip("this store carries changes out one by one")
    revision, history = opened.store.revision(), len(opened.store.history(1000))
    good = Change(Kind.SITE, "Bonn", None, Site("Bonn"))
    with pytest.raises(MovedOn):
        opened.store.change(opened.store.read(), [good, wrong, Change(Kind.SITE, "Kiel", None, Site("Kiel"))], NOTE)
    assert_holds(opened.store, before)
    assert (opened.store.revision(), len(opened.store.history(1000))) == (revision, history)


def test_after_being_overtaken_the_next_change_works(opened: Opened) -> None:
    test_a_change_that_expects_something_else_is_refused(opened)
    assert_holds(opened.store, become(opened, lambda d: d.put(Site("Bonn"))))


def test_changes_of_two_administrators_at_one_store_are_both_carried_out(opened: Opened) -> None:
    fill(opened)
    alice, bob = DirectoryService(opened.store, "alice"), DirectoryService(opened.store, "bob")
    alice.directory(), bob.directory()
    alice.change(lambda d: edits.change(d, Kind.SERVER, "cas1", weight=7), "a")
    bob.change(lambda d: edits.change(d, Kind.SERVER, "cas1", public_folders=True), "b")
    for service in (alice, bob):
        found = service.directory().servers["cas1"]
        assert (found.weight, found.public_folders) == (7, True)


# Others at the same place.


def other(opened: Opened) -> DirectoryStore:
    if opened.again is None:
        pytest.skip("nobody else can see this store")
    return opened.again()


def test_another_sees_what_was_changed(opened: Opened) -> None:
    reader = other(opened)
    reader.read()
    assert_holds(reader, fill(opened), opened.settle_seconds)
    assert reader.revision() == reader.read().revision


def test_another_that_was_overtaken_is_refused_and_catches_up(opened: Opened) -> None:
    fill(opened)
    rival = other(opened)
    old = rival.read()
    after = become(opened, lambda d: edits.change(d, Kind.SITE, "Berlin", description="theirs"))
    mine = edits.change(old.directory, Kind.SITE, "Berlin", description="mine")
    with pytest.raises(MovedOn):
        rival.change(old, difference(old.directory, mine), NOTE)
    assert_holds(rival, after, opened.settle_seconds)


def test_another_that_follows_sees_what_one_who_comes_new_sees(opened: Opened) -> None:
    follower = other(opened)
    fill(opened)
    follower.read()
    steps: list[Callable[[Directory], Directory]] = [
        lambda d: edits.change(d, Kind.SERVER, "mbx1", name="mbx7"),
        lambda d: edits.change(d, Kind.SITE, "Paderborn", name="PADERBORN"),
        lambda d: edits.remove(d, Kind.DATABASE, "DB2"),
        lambda d: edits.new_database(d, "db2", "mbx2"),
        lambda d: edits.change(d, Kind.SERVER, "mbx7", name="MBX1"),
        lambda d: edits.remove(edits.remove(d, Kind.DATABASE, "db2"), Kind.SERVER, "mbx2"),
        lambda d: edits.new_server(d, "Mbx2", "mbx2.domain.tld", "ulm", [MAILBOX]),
        lambda d: edits.change(d, Kind.SITE, "PADERBORN", name="Bonn"),
        lambda d: edits.remove(d, Kind.ARRAY, "BER"),
    ]
    for n, step in enumerate(steps):
        after = become(opened, step)
        if n % 2:  # it looks now and then, so that it has several changes to catch up with
            assert_holds(follower, after, opened.settle_seconds)
    assert_holds(follower, after, opened.settle_seconds)
    assert_holds(other(opened), after, opened.settle_seconds)


# The audit trail.


def test_the_trail_says_who_did_what_when_before_and_after(opened: Opened) -> None:
    if not opened.history:
        pytest.skip("this store keeps no trail")
    began = time.time()
    become(opened, lambda d: d.put(Site("Bonn")), Note("alice", "New-ADSite Bonn"))
    become(opened, lambda d: d.put(Site("Bonn", "x")), Note("bob", "Set-ADSite Bonn -Description x"))
    become(opened, lambda d: d.without(Site("Bonn")), Note("carol ☕", "Remove-ADSite 'Bonn'"))
    entries = opened.store.history(3)
    assert [(e.note.who, e.note.what) for e in entries] == [
        ("carol ☕", "Remove-ADSite 'Bonn'"),
        ("bob", "Set-ADSite Bonn -Description x"),
        ("alice", "New-ADSite Bonn"),
    ]
    assert [(e.change.before, e.change.after) for e in entries] == [
        (Site("Bonn", "x"), None),
        (Site("Bonn"), Site("Bonn", "x")),
        (None, Site("Bonn")),
    ]
    assert [str(e.change) for e in entries] == ["- site Bonn", "~ site Bonn: description: none -> x", "+ site Bonn"]
    assert all(began - 1 <= e.at <= time.time() + 1 for e in entries)


def test_the_trail_gives_no_more_than_was_asked_for(opened: Opened) -> None:
    if not opened.history:
        pytest.skip("this store keeps no trail")
    become(opened, lambda d: d.put(*(Site(f"s{n}") for n in range(7))))
    assert [e.change.name for e in opened.store.history(3)] == ["s6", "s5", "s4"]
    assert opened.store.history(0) == []
    assert len(opened.store.history(100)) == 7


def test_a_store_without_a_trail_answers_with_what_it_has(opened: Opened) -> None:
    assert list(opened.store.history()) == []


# Threads, and the end.


def test_any_thread_may_call(opened: Opened) -> None:
    def make(name: str) -> None:
        become(opened, lambda d: d.put(Site(name)))

    for name in ("s0", "s1", "s2", "s3"):
        thread = threading.Thread(target=make, args=[name])
        thread.start()
        thread.join()
    assert {"s0", "s1", "s2", "s3"} <= set(opened.store.read().directory.sites)


def test_closing_twice_is_closing_once(opened: Opened) -> None:
    opened.store.close()
    opened.store.close()


def test_a_store_has_a_name(opened: Opened) -> None:
    assert ":" in opened.store.name
