"""The embedded directory, mishandled: killed, cut, full, locked, restored, and written by several at once."""

import json
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.adapters.stores.sqlite_file import EXAMPLE, NOTE, child, fill, finished, fresh, raw, refused, statement
from tests.core.directory.example import ORGANISATION
from tests.core.directory.test_changes import STEPS, Edit, attempted

from casarray.adapters.stores import sqlite_directory
from casarray.adapters.stores.sqlite_directory import FILE_NAME, MIGRATIONS, SqliteDirectory
from casarray.app.directory import DirectoryService
from casarray.app.stores import Note
from casarray.core.directory import edits
from casarray.core.directory.changes import applied, difference, same
from casarray.core.directory.model import Directory, Kind, Site
from casarray.core.errors import CasarrayError, Denied, MovedOn, Unavailable

# Versions.


def test_a_new_file_has_the_newest_version_and_is_in_wal_mode(store: SqliteDirectory, folder: str) -> None:
    assert statement(folder, "PRAGMA user_version") == [(len(MIGRATIONS),)]
    assert statement(folder, "PRAGMA journal_mode") == [("wal",)]
    assert list(store.read().directory) == []


def test_a_new_file_is_nobody_elses(store: SqliteDirectory, folder: str) -> None:
    fill(store)
    for path in (Path(folder), *Path(folder).iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o027 == 0, path


def test_an_empty_file_becomes_a_directory(folder: str) -> None:
    Path(folder).mkdir()
    (Path(folder) / FILE_NAME).touch()
    assert list(fresh(folder)) == []


NEXT_STEP = "ALTER TABLE thing ADD COLUMN note TEXT;\nINSERT INTO about VALUES ('colour', 'blue')"


def test_an_older_file_is_brought_up_and_keeps_what_it_holds(
    store: SqliteDirectory, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    monkeypatch.setattr(sqlite_directory, "MIGRATIONS", (*MIGRATIONS, NEXT_STEP))
    assert same(fresh(folder), EXAMPLE)
    assert statement(folder, "PRAGMA user_version") == [(len(MIGRATIONS) + 1,)]
    assert same(fresh(folder), EXAMPLE)


def test_a_step_that_fails_leaves_the_file_as_it_was(
    store: SqliteDirectory, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    monkeypatch.setattr(sqlite_directory, "MIGRATIONS", (*MIGRATIONS, f"{NEXT_STEP};\nNOT SQL"))
    refused(folder)
    monkeypatch.undo()
    assert statement(folder, "PRAGMA user_version") == [(len(MIGRATIONS),)]
    assert same(fresh(folder), EXAMPLE)


def test_a_newer_file_is_refused_and_left_alone(store: SqliteDirectory, folder: str) -> None:
    fill(store)
    statement(folder, "PRAGMA user_version = 99")
    assert "was written by a newer casarray (its version is 99): update this one" in refused(folder)
    assert statement(folder, "PRAGMA user_version") == [(99,)]


def test_a_refused_file_is_let_go_of(store: SqliteDirectory, folder: str) -> None:
    statement(folder, "PRAGMA user_version = 99")
    store.close()
    for _ in range(3):
        refused(folder)
    held = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    assert [path for path in held if path.startswith(folder)] == []


def test_several_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    for attempt in range(10):
        barrier, troubles = threading.Barrier(6), list[str]()

        def open_it(folder: str, barrier: threading.Barrier, troubles: list[str]) -> None:
            barrier.wait()
            try:
                fresh(folder)
            except CasarrayError as error:
                troubles.append(str(error))

        arguments = (str(tmp_path / str(attempt)), barrier, troubles)
        threads = [threading.Thread(target=open_it, args=arguments) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert troubles == []


# Damage.


def test_a_file_that_is_no_database_is_damaged(folder: str) -> None:
    Path(folder).mkdir()
    (Path(folder) / FILE_NAME).write_bytes(b"This is not a database at all. " * 100)
    assert refused(folder).startswith("Unavailable: ")
    assert "is damaged (file is not a database): put back a copy of it, or move it away" in refused(folder)


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_file_is_refused_or_read_as_it_was(store: SqliteDirectory, folder: str, seed: int) -> None:
    fill(store)
    expected = store.read().directory
    statement(folder, "PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    path, chance = Path(folder) / FILE_NAME, random.Random(seed)
    data = bytearray(path.read_bytes())
    if seed % 3 == 0:
        del data[chance.randrange(100, len(data)) :]
    else:
        start = chance.randrange(0, len(data) - 600)
        data[start : start + 600] = chance.randbytes(600)
    path.write_bytes(data)
    found = expected
    with suppress(Unavailable, Denied):
        found = fresh(folder)
    # SQLite has no checksums: what is lost cannot always be noticed, but nothing is ever made up.
    assert [str(change) for change in difference(expected, found) if change.after is not None] == []


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE thing SET body = 'no json' WHERE key = 'ulm'",
        "UPDATE thing SET body = '{}' WHERE key = 'ulm'",
        "UPDATE thing SET body = 'null' WHERE key = 'ulm'",
        "UPDATE thing SET body = '{\"name\": 7}' WHERE key = 'ulm'",
        "UPDATE thing SET kind = 'planet' WHERE key = 'ulm'",
        "DELETE FROM about",
        "UPDATE about SET value = 'many' WHERE name = 'revision'",
        "DROP TABLE thing",
    ],
)
def test_a_file_that_somebody_edited_badly_is_unavailable(store: SqliteDirectory, folder: str, harm: str) -> None:
    fill(store)
    statement(folder, harm)
    assert refused(folder).startswith(f"Unavailable: {folder}/{FILE_NAME} ")


def test_harm_behind_our_back_is_no_crash_for_one_who_follows(store: SqliteDirectory, folder: str) -> None:
    fill(store)
    store.read()
    statement(folder, "UPDATE audit SET after = 'no json'", "UPDATE about SET value = '7' WHERE name = 'revision'")
    store.read()  # nothing came after what was seen
    statement(folder, "UPDATE about SET value = 'x' WHERE name = 'revision'")
    with pytest.raises(Unavailable, match="holds something that cannot be read"):
        store.read()


def test_unknown_fields_of_a_newer_casarray_are_passed_over(store: SqliteDirectory, folder: str) -> None:
    fill(store)
    body = json.dumps({"name": "Ulm", "colour": "green"})
    with closing(raw(folder)) as db:
        db.execute("UPDATE thing SET body = ? WHERE kind = 'site' AND key = 'ulm'", (body,))
    assert fresh(folder).sites["ulm"] == Site("Ulm")


def test_a_closed_store_is_unavailable(store: SqliteDirectory) -> None:
    store.close()
    for call in (store.read, store.revision, store.history):
        with pytest.raises(Unavailable, match="could not be read"):
            call()


# No place, no room, no turn.


def test_a_folder_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    text = refused(str(tmp_path / "file" / "state"))
    assert text.startswith("Denied: ")
    assert "use sudo, make room there, or name a folder that is yours" in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_denied(folder: str) -> None:
    Path(folder).mkdir(mode=0o500)
    assert refused(folder).startswith("Denied: ")


def in_small_filesystem(tmp_path: Path, commands: str, script: str) -> str:
    """What a script prints that runs where ``$F`` is a file system of 1 MiB of its own, after these commands."""
    place = tmp_path / "small"
    place.mkdir()
    shell = f'F={place}; mount -t tmpfs -o size=1m none "$F"; {commands}; exec {sys.executable} - "$F"'
    command = ["unshare", "--mount", "sh", "-e", "-c", shell]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare for a file system of its own"
)
OPEN = """
import sys
from casarray.adapters.stores.sqlite_directory import SqliteDirectory
from casarray.core.errors import CasarrayError
try:
    SqliteDirectory(sys.argv[1]).read()
    print("opened")
except CasarrayError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.root
@needs_root
@pytest.mark.parametrize("there", [False, True], ids=["new", "there"])
def test_a_read_only_file_system_is_denied(tmp_path: Path, there: bool) -> None:
    script = tmp_path / "open.py"
    script.write_text(OPEN)
    fill_it = f'{sys.executable} {script} "$F" >/dev/null;' if there else ""
    said = in_small_filesystem(tmp_path, f'{fill_it} mount -o remount,ro none "$F"', OPEN)
    assert said.startswith("Denied the directory in ")


FILL = """
import sys
from casarray.adapters.stores.sqlite_directory import SqliteDirectory
from casarray.app.directory import DirectoryService
from casarray.core.directory.model import Site
from casarray.core.errors import CasarrayError
service = DirectoryService(SqliteDirectory(sys.argv[1]), "alice")
done = 0
try:
    for n in range(100_000):
        service.change(lambda d: d.put(*(Site(f"s{i}", f"{n} " * 50) for i in range(20))), "x")
        done = n
    print("never full")
except CasarrayError as error:
    texts = {s.description.split()[0] for s in service.directory().sites.values()}
    print(type(error).__name__, len(service.directory().sites), texts == {str(done)}, error)
    fresh = SqliteDirectory(sys.argv[1])
    print({s.description.split()[0] for s in fresh.read().directory.sites.values()} == {str(done)})
    try:
        service.change(lambda d: d.put(Site("s0", "again " * 20_000)), "x")
    except CasarrayError as again:
        print("within a transaction" in str(again))
"""


def assert_full(said: str) -> None:
    first, second, third = said.splitlines()
    assert first.startswith("Unavailable 20 True ")
    assert "could not be written: " in first
    assert "rollback" not in first
    assert (second, third) == ("True", "False")


@pytest.mark.root
@needs_root
def test_a_full_disk_costs_the_change_alone(tmp_path: Path) -> None:
    assert_full(in_small_filesystem(tmp_path, "true", FILL))


def test_a_file_that_may_not_grow_costs_the_change_alone(folder: str) -> None:
    limit = (
        "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))\n"
    )
    assert_full(finished(child(limit + FILL, folder)))


def test_a_file_in_use_for_too_long_can_be_read_and_not_written(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_directory, "BUSY_SECONDS", 0.1)
    store = SqliteDirectory(folder)
    fill(store)
    with closing(raw(folder)) as rival:
        rival.execute("BEGIN IMMEDIATE")
        snapshot = store.read()
        with pytest.raises(Unavailable, match="could not be written: database is locked"):
            store.change(snapshot, difference(snapshot.directory, snapshot.directory.put(Site("Bonn"))), NOTE)
    store.change(snapshot, difference(snapshot.directory, snapshot.directory.put(Site("Bonn"))), NOTE)
    assert "bonn" in fresh(folder).sites
    store.close()


def test_a_file_that_somebody_keeps_for_himself_is_unavailable(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_directory, "BUSY_SECONDS", 0.1)
    SqliteDirectory(folder).close()
    with closing(raw(folder)) as rival:
        rival.execute("PRAGMA locking_mode = EXCLUSIVE")
        rival.execute("BEGIN EXCLUSIVE")
        assert "is in use by somebody else for too long (database is locked): try again" in refused(folder)


# The audit trail.


def test_the_trail_from_the_beginning_is_the_directory(store: SqliteDirectory) -> None:
    service = DirectoryService(store, "alice")
    service.change(lambda d: d.put(*ORGANISATION), "fill", force=True)
    service.change(lambda d: edits.change(d, Kind.SITE, "Paderborn", name="Bonn"), "rename")
    service.change(lambda d: edits.change(d, Kind.SERVER, "mbx1", name="MBX1"), "capitals")
    service.change(lambda d: edits.remove(d, Kind.DATABASE, "DB2"), "remove")
    directory = Directory()
    for entry in reversed(service.history(1000)):
        directory = applied(directory, [entry.change])
    assert same(directory, service.directory())


def test_what_was_typed_may_be_no_text(store: SqliteDirectory) -> None:
    snapshot = store.read()
    store.change(
        snapshot, difference(Directory(), Directory().put(Site("Bonn"))), Note("al\udcffice", "New \udc80 \x00")
    )
    (entry,) = store.history()
    assert entry.note == Note("al\\udcffice", "New \\udc80 \x00")


# Catching up.


@settings(max_examples=40, deadline=None)
@given(STEPS, st.integers(1, 7))
def test_one_who_follows_reads_what_one_who_comes_new_reads(steps: list[Edit], every: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        writer, follower = SqliteDirectory(folder), SqliteDirectory(folder)
        fill(writer)
        for n, step in enumerate(steps):
            snapshot = writer.read()
            after, changes = attempted(snapshot.directory, step)
            if changes:
                writer.change(snapshot, changes, NOTE)
            assert same(writer.read().directory, after)
            if n % every == 0:
                assert same(follower.read().directory, after)
        found = fresh(folder)
        identities = {(thing.KIND, thing.name): thing.guid for thing in found}
        for store in (writer, follower):
            assert same(store.read().directory, found)
            assert {(thing.KIND, thing.name): thing.guid for thing in store.read().directory} == identities
            store.close()


def test_an_older_copy_that_was_put_back_is_read_anew(store: SqliteDirectory, folder: str, tmp_path: Path) -> None:
    fill(store)
    with closing(raw(folder)) as db, closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        db.backup(copy)
        for n in range(3):
            snapshot = store.read()
            store.change(snapshot, difference(snapshot.directory, snapshot.directory.put(Site(f"s{n}"))), NOTE)
        later = store.read()
        copy.backup(db)
    assert same(store.read().directory, EXAMPLE)
    with pytest.raises(MovedOn):
        store.change(later, difference(later.directory, later.directory.put(Site("Bonn"))), NOTE)


def test_nobody_else_may_read_it_and_the_umask_of_others_is_left_alone(folder: str) -> None:
    before = os.umask(0o022)
    try:
        with ThreadPoolExecutor(8) as threads:
            stores = list(threads.map(SqliteDirectory, [folder] * 40))
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    fill(stores[0])
    modes = {path.name: path.stat().st_mode & 0o777 for path in Path(folder).iterdir()}
    for store in stores:
        store.close()
    assert modes[FILE_NAME] == 0o640
    assert {mode & 0o007 for mode in modes.values()} == {0}
