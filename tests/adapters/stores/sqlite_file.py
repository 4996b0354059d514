"""The file of the embedded directory, opened, filled and looked at behind its back."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.core.directory.example import ORGANISATION

from casarray.adapters.stores.sqlite_directory import FILE_NAME, SqliteDirectory
from casarray.app.stores import Note
from casarray.core.directory.changes import difference
from casarray.core.directory.model import Directory
from casarray.core.errors import Denied, Unavailable

NOTE = Note("alice", "x")
EXAMPLE = Directory().put(*ORGANISATION)  # in the organisation that a new file has


def raw(folder: str) -> sqlite3.Connection:
    """The file as SQLite alone sees it."""
    return sqlite3.connect(Path(folder) / FILE_NAME, isolation_level=None)


def statement(folder: str, *statements: str) -> list[tuple[object, ...]]:
    """Behind our back."""
    with closing(raw(folder)) as db:
        return [row for text in statements for row in db.execute(text).fetchall()]


def fill(store: SqliteDirectory) -> None:
    snapshot = store.read()
    store.change(snapshot, difference(snapshot.directory, snapshot.directory.put(*ORGANISATION)), NOTE)


def fresh(folder: str) -> Directory:
    """What somebody who opens the file now reads."""
    store = SqliteDirectory(folder)
    try:
        return store.read().directory
    finally:
        store.close()


def refused(folder: str) -> str:
    """Why the file cannot be opened and read."""
    with pytest.raises((Denied, Unavailable)) as caught:
        fresh(folder)
    return f"{type(caught.value).__name__}: {caught.value}"


def child(script: str, *arguments: str) -> subprocess.Popen[str]:
    prelude = (
        "import sys\n"
        "from casarray.adapters.stores.sqlite_directory import SqliteDirectory\n"
        "from casarray.app.directory import DirectoryService\n"
        "from casarray.core.directory import edits\n"
        "from casarray.core.directory.model import *\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", prelude + script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    """What a child printed, when it ended well."""
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    return out.strip()
