"""The embedded store: one SQLite file, for what must survive a restart of the gateway or of the host.

It holds the numbers that pins and connection marks in the kernel refer to, and what the operator said of each server.
Every write is one transaction that has reached the disk when the call returns; a kill at any moment leaves the state
before or after it.
"""

import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from casarray.adapters.stores.sqlite_transaction import transaction
from casarray.app.ports import ServerWish
from casarray.core.config import Wish
from casarray.core.errors import Denied, Unavailable

FILE_NAME = "casarray.db"

#: The schema, one step per version (`PRAGMA user_version` counts those that were taken). Only ever add a step.
MIGRATIONS = (
    """
    CREATE TABLE number (kind TEXT NOT NULL, name TEXT NOT NULL, id INTEGER NOT NULL,
                         PRIMARY KEY (kind, name), UNIQUE (kind, id)) STRICT;
    CREATE TABLE wish (server TEXT PRIMARY KEY, wish TEXT NOT NULL, deadline REAL, since REAL NOT NULL) STRICT;
    """,
)


class SqliteState:
    """`casarray.app.ports.State` in the file `casarray.db` below a directory.

    Raises `Denied` when the directory may not be written, `Unavailable` when the file is damaged, of a newer version,
    or the disk is full.
    """

    def __init__(self, directory: str) -> None:
        self._path = Path(directory) / FILE_NAME
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._db = sqlite3.connect(self._path, isolation_level=None, timeout=5.0)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._migrate()
        except (OSError, sqlite3.OperationalError) as error:
            raise Denied(
                f"the state directory {self._path.parent} cannot be written ({error}): make room there, or give "
                f"[gateway] state a directory that the user casarray runs as may write to"
            ) from error
        except sqlite3.DatabaseError as error:
            raise Unavailable(
                f"{self._path} is damaged ({error}): move it away and start again; servers then get new numbers, and "
                f"clients are spread anew"
            ) from error

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise Unavailable(
                f"{self._path} was written by a newer casarray (its version is {version}): update this one"
            )
        for step, statements in enumerate(MIGRATIONS[version:], start=version + 1):
            self._db.executescript(f"BEGIN IMMEDIATE; {statements} PRAGMA user_version = {step}; COMMIT;")

    def _read(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise Unavailable(f"{self._path} could not be read: {error}") from error

    def _write(self, statement: str, rows: list[tuple[object, ...]]) -> None:
        try:
            with transaction(self._db):
                self._db.executemany(statement, rows)
        except sqlite3.Error as error:
            raise Unavailable(f"{self._path} could not be written: {error}") from error

    def ids(self, kind: str) -> Mapping[str, int]:
        return dict(self._read("SELECT name, id FROM number WHERE kind = ?", kind))

    def keep_ids(self, kind: str, ids: Mapping[str, int]) -> None:
        known = self.ids(kind)
        new: list[tuple[object, ...]] = [(kind, name, number) for name, number in ids.items() if name not in known]
        if new:
            self._write("INSERT INTO number (kind, name, id) VALUES (?, ?, ?)", new)

    def wishes(self) -> Mapping[str, ServerWish]:
        rows = self._read("SELECT server, wish, deadline FROM wish")
        return {server: ServerWish(Wish(wish), deadline) for server, wish, deadline in rows}

    def keep_wish(self, server: str, wish: ServerWish) -> None:
        self._write(
            "INSERT INTO wish (server, wish, deadline, since) VALUES (?, ?, ?, ?) ON CONFLICT (server) "
            "DO UPDATE SET wish = excluded.wish, deadline = excluded.deadline, since = excluded.since",
            [(server, wish.wish.value, wish.deadline, time.time())],
        )

    def close(self) -> None:
        self._db.close()
