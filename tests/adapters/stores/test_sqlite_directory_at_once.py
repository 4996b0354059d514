"""The embedded directory, written by several at once and killed at any moment."""

import random
import signal
import threading
import time
from pathlib import Path

import pytest
from tests.adapters.stores.sqlite_file import child, fill, finished, fresh, statement
from tests.core.directory.example import ORGANISATION, broken

from casarray.adapters.stores.sqlite_directory import SqliteDirectory
from casarray.app.directory import DirectoryService
from casarray.core.directory import edits
from casarray.core.directory.changes import same
from casarray.core.directory.model import Kind, Server, Site

SITES = 20

# Several at once.

ADD = """
service = DirectoryService(SqliteDirectory(sys.argv[1]), sys.argv[2])
print("ready", flush=True)
for n in range(int(sys.argv[3])):
    service.change(lambda d: edits.change(d, Kind.SERVER, "cas1", weight=d.servers["cas1"].weight + 1), "weigh")
    service.change(lambda d: edits.new(d, Site(f"{sys.argv[2]}-{n}")), "add")
"""


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_that_change_at_once_lose_nothing(store: SqliteDirectory, folder: str, processes: int) -> None:
    fill(store)
    began = len(store.history(10_000))
    running = [child(ADD, folder, f"p{n}", "40") for n in range(processes)]
    for process in running:
        finished(process)
    directory = store.read().directory
    assert directory.servers["cas1"].weight == 100 + processes * 40
    assert len(directory.sites) == len(ORGANISATION.sites) + processes * 40
    assert len(store.history(10_000)) - began == processes * 80
    assert same(directory, fresh(folder))


def test_threads_at_one_store_lose_nothing(store: SqliteDirectory, folder: str) -> None:
    fill(store)
    troubles: list[BaseException] = []

    def add(who: str) -> None:
        service = DirectoryService(store, who)
        try:
            for n in range(25):
                service.change(lambda d: edits.change(d, Kind.SERVER, "cas1", weight=d.servers["cas1"].weight + 1), "x")
                service.change(lambda d, n=n: edits.new(d, Site(f"{who}-{n}")), "x")  # type: ignore[misc]  # mypy takes a lambda's default for an argument
        except BaseException as error:
            troubles.append(error)

    threads = [threading.Thread(target=add, args=[f"t{n}"]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []
    assert store.read().directory.servers["cas1"].weight == 200
    assert len(fresh(folder).sites) == len(ORGANISATION.sites) + 100


# Killed.

WRITE = """
service = DirectoryService(SqliteDirectory(sys.argv[1]), "killed")
print("ready", flush=True)
n = max([int(site.description or 0) for site in service.directory().sites.values()], default=0)
while True:
    n += 1
    service.change(lambda d: d.put(*(Site(f"s{i}", str(n)) for i in range(20))), "all at once")
    service.change(lambda d: edits.change(d, Kind.SERVER, *(("cas1",) if "cas1" in d.servers else ("cas2",)),
                                          name="cas2" if "cas1" in d.servers else "cas1"), "rename")
    print(n, flush=True)
"""


def test_a_writer_that_is_killed_at_any_moment_leaves_a_whole_state(store: SqliteDirectory, folder: str) -> None:
    service = DirectoryService(store, "alice")
    service.change(lambda d: d.put(Site("P"), Server("cas1", "cas1.domain.tld", "P")), "x")
    chance, heard, seen = random.Random(4), 0, set[str]()
    for _ in range(20):
        process = child(WRITE, folder)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.random() * 0.08)
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate(timeout=30)
        assert err == ""
        heard = max([heard, *map(int, out.split())])
        found = fresh(folder)
        assert broken(found) == []
        assert len(found.servers) == 1
        written = {site.description for site in found.sites.values() if site.name != "P"}
        assert len(written) <= 1, "half a change was kept"
        assert max(map(int, written), default=0) >= heard, "a change that was done is lost"
        assert same(store.read().directory, found)
        seen |= written
    assert len(seen) > 5, "the writer was killed before it could write"
    rows = statement(folder, "SELECT count(*) FROM audit WHERE what = 'all at once' GROUP BY revision")
    assert {count for (count,) in rows} == {SITES}
    assert statement(folder, "PRAGMA integrity_check") == [("ok",)]


def test_a_process_that_is_killed_while_it_opens_a_new_file_leaves_one_that_opens(tmp_path: Path) -> None:
    chance = random.Random(5)
    for n in range(10):
        folder = str(tmp_path / str(n))
        process = child("print('ready', flush=True); SqliteDirectory(sys.argv[1]); print('open', flush=True)", folder)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.random() * 0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        assert list(fresh(folder)) == []
