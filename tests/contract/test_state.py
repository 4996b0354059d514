"""One contract for every store of the gateway's state."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from casarray.adapters.stores.memory import MemoryState
from casarray.adapters.stores.sqlite import FILE_NAME, MIGRATIONS, SqliteState
from casarray.app.ports import ServerWish, State
from casarray.core.config import Wish
from casarray.core.errors import Denied, Unavailable


@pytest.fixture(params=["memory", "sqlite"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[State]:
    store: State = MemoryState() if request.param == "memory" else SqliteState(str(tmp_path / "state"))
    yield store
    store.close()


def test_a_new_store_knows_nothing(state: State) -> None:
    assert state.ids("member") == {}
    assert state.wishes() == {}


def test_numbers_are_kept_by_kind(state: State) -> None:
    state.keep_ids("member", {"cas1": 7, "cas2": 9})
    state.keep_ids("group", {"rpc": 7})
    state.keep_ids("member", {"cas1": 7, "cas3": 11})
    assert state.ids("member") == {"cas1": 7, "cas2": 9, "cas3": 11}
    assert state.ids("group") == {"rpc": 7}


def test_the_last_word_on_a_server_counts(state: State) -> None:
    state.keep_wish("cas1", ServerWish(Wish.DRAIN, 1234.5))
    state.keep_wish("cas1", ServerWish(Wish.ACTIVE))
    state.keep_wish("cas2", ServerWish(Wish.OUT))
    assert state.wishes() == {"cas1": ServerWish(Wish.ACTIVE), "cas2": ServerWish(Wish.OUT)}


def test_what_was_written_survives_a_kill(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from casarray.adapters.stores.sqlite import SqliteState\n"
        "from casarray.app.ports import ServerWish; from casarray.core.config import Wish\n"
        "s = SqliteState(sys.argv[1]); s.keep_wish('cas1', ServerWish(Wish.DRAIN, 5.0))\n"
        "s.keep_ids('member', {'cas1': 3})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=30)
    store = SqliteState(str(tmp_path))
    assert store.wishes() == {"cas1": ServerWish(Wish.DRAIN, 5.0)}
    assert store.ids("member") == {"cas1": 3}
    store.close()


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"this is no database, and long enough to be taken for one" * 100)
    with pytest.raises(Unavailable, match="is damaged .* move it away"):
        SqliteState(str(tmp_path))


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    SqliteState(str(tmp_path)).close()
    db = sqlite3.connect(tmp_path / FILE_NAME)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(Unavailable, match="newer casarray"):
        SqliteState(str(tmp_path))


def test_a_directory_that_cannot_be_made_says_which_key_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Denied, match=r"\[gateway\] state"):
        SqliteState(str(tmp_path / "file" / "below"))


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    store = SqliteState(str(tmp_path))
    store.keep_wish("cas1", ServerWish(Wish.OUT))
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Unavailable, match="could not be written"):
        store.keep_ids("member", {f"{os.urandom(500).hex()}": n for n in range(1, 50)})
    assert store.ids("member") == {}
    assert store.wishes() == {"cas1": ServerWish(Wish.OUT)}
    store.close()
