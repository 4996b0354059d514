"""The embedded directory: one SQLite file, which any number of processes may use at once.

Every change is one transaction, on the disk when the call returns, and stands in the audit trail with who, when, what,
before and after. A reader that has seen an earlier revision reads only what the trail says came after it.
"""

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from casarray.adapters.stores.memory_directory import identified
from casarray.adapters.stores.sqlite_transaction import transaction
from casarray.app.stores import Entry, Note, Snapshot
from casarray.core.directory.changes import Change, as_json, check_expected, of_json
from casarray.core.directory.model import Directory, Kind, key
from casarray.core.errors import Denied, MovedOn, Unavailable, WireError

FILE_NAME = "directory.db"
BUSY_SECONDS = 10.0
FILE_MODE = 0o640

#: The schema, one step per version (`PRAGMA user_version` counts those that were taken). Only ever add a step.
MIGRATIONS = (
    """
    CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    INSERT INTO about VALUES ('revision', '0');
    CREATE TABLE thing (kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, key)) STRICT;
    CREATE TABLE audit (id INTEGER PRIMARY KEY, revision INTEGER NOT NULL, at REAL NOT NULL, who TEXT NOT NULL,
                        what TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, before TEXT, after TEXT) STRICT;
    CREATE INDEX audit_revision ON audit (revision);
    """,
)


_INSERT_AUDIT = "INSERT INTO audit (revision, at, who, what, kind, name, before, after) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_DELETE = "DELETE FROM thing WHERE kind = ? AND key = ?"
_PUT = "INSERT INTO thing (kind, key, body) VALUES (?, ?, ?) ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body"


class SqliteDirectory:
    """`casarray.app.stores.DirectoryStore` in the file `directory.db` below a directory.

    Raises `Denied` when the directory may not be written, `Unavailable` when the file is damaged, of a newer version,
    busy for too long, or the disk is full.
    """

    def __init__(self, directory: str) -> None:
        self.name = f"sqlite:{directory}"
        self._path = Path(directory) / FILE_NAME
        self._lock = threading.Lock()
        self._seen: Snapshot | None = None
        self._closed = False
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._db = self._connected()
        except (OSError, sqlite3.OperationalError) as error:
            raise self._not_opened(error) from error
        except sqlite3.DatabaseError as error:
            raise Unavailable(f"{self._path} is damaged ({error}): put back a copy of it, or move it away") from error

    def _connected(self) -> sqlite3.Connection:
        # Made by us, for the files that SQLite puts beside it get the same mode. Not by umask: that is every thread's.
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, FILE_MODE))
        db = sqlite3.connect(self._path, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False)
        try:
            _turn_to_wal(db)
            db.execute("PRAGMA synchronous = FULL")
            self._migrate(db)
        except BaseException:
            db.close()
            raise
        return db

    def _not_opened(self, error: Exception) -> Denied | Unavailable:
        if _is_busy(error):
            return Unavailable(f"{self._path} is in use by somebody else for too long ({error}): try again")
        return Denied(
            f"the directory in {self._path.parent} cannot be written ({error}): use sudo, make room there, or name "
            f"a folder that is yours (gateway.state in the configuration, or --store sqlite:FOLDER)"
        )

    def _migrate(self, db: sqlite3.Connection) -> None:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise Unavailable(
                f"{self._path} was written by a newer casarray (its version is {version}): update this one"
            )
        while version < len(MIGRATIONS):
            with transaction(db):
                (version,) = db.execute("PRAGMA user_version").fetchone()  # somebody else may have been faster
                if version < len(MIGRATIONS):
                    for statement in MIGRATIONS[version].split(";\n"):
                        db.execute(statement)
                    version += 1
                    db.execute(f"PRAGMA user_version = {version}")

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise Unavailable(f"{self._path} could not be {doing}: {error}") from error
            except (ValueError, KeyError, WireError) as error:
                raise Unavailable(f"{self._path} holds something that cannot be read: {error}") from error

    def read(self) -> Snapshot:
        with self._translated("read"), transaction(self._db, "BEGIN"):  # one state, whoever writes meanwhile
            about = dict(self._db.execute("SELECT name, value FROM about"))
            seen, revision = self._seen, about["revision"]
            if seen is None or int(revision) < int(seen.revision):  # an older file was put back
                seen = Snapshot(self._whole(), str(int(revision)))
            elif revision != seen.revision:
                seen = Snapshot(self._caught_up(seen), revision)
            self._seen = seen
            return seen

    def _whole(self) -> Directory:
        rows = self._db.execute("SELECT kind, body FROM thing ORDER BY kind, key")
        return Directory().put(*(of_json(Kind(kind), json.loads(body)) for kind, body in rows))

    def _caught_up(self, seen: Snapshot) -> Directory:
        """What was seen, with everything since."""
        rows = self._db.execute(
            "SELECT kind, name, after FROM audit WHERE revision > ? ORDER BY id", (int(seen.revision),)
        )
        latest = {(Kind(word), key(name)): after for word, name, after in rows}
        put = [of_json(kind, json.loads(after)) for (kind, _), after in latest.items() if after is not None]
        gone = [seen.directory.get(kind, name) for (kind, name), after in latest.items() if after is None]
        return seen.directory.without(*(thing for thing in gone if thing is not None)).put(*put)

    def revision(self) -> str:
        with self._translated("read"):
            ((revision,),) = self._db.execute("SELECT value FROM about WHERE name = 'revision'").fetchall()
            return str(revision)

    def change(self, snapshot: Snapshot, changes: Sequence[Change], note: Note) -> None:
        with self._translated("written"), transaction(self._db):
            ((revision,),) = self._db.execute("SELECT value FROM about WHERE name = 'revision'").fetchall()
            if revision != snapshot.revision:
                raise MovedOn("the directory was changed by somebody else meanwhile; look at it again and repeat")
            check_expected(snapshot.directory, changes)
            now, following = time.time(), int(revision) + 1
            who, what = _storable(note.who), _storable(note.what)
            audit: list[tuple[object, ...]] = []
            for change in map(identified, changes):
                before, after = (json.dumps(as_json(t)) if t else None for t in (change.before, change.after))
                row = (change.kind, key(change.name))
                self._db.execute(*((_DELETE, row) if after is None else (_PUT, (*row, after))))
                audit.append((following, now, who, what, change.kind, change.name, before, after))
            self._db.executemany(_INSERT_AUDIT, audit)
            self._db.execute("UPDATE about SET value = ? WHERE name = 'revision'", (str(following),))

    def history(self, most: int = 100) -> Sequence[Entry]:
        statement = "SELECT at, who, what, kind, name, before, after FROM audit ORDER BY id DESC LIMIT ?"
        with self._translated("read"), closing(self._db.execute(statement, (most,))) as rows:
            return [_entry(row) for row in rows]

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._db.close()


def _is_busy(error: Exception) -> bool:
    # The low byte says what it is, the others say more closely why.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _turn_to_wal(db: sqlite3.Connection) -> None:
    """Several may open a new file at once, and SQLite does not wait for each other at this step."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _storable(typed: str) -> str:
    """A command line may hold bytes that are no text in any language."""
    return typed.encode("utf-8", "backslashreplace").decode()


def _entry(row: tuple[Any, ...]) -> Entry:
    at, who, what, word, name, before, after = row
    kind = Kind(word)
    was, now = (of_json(kind, json.loads(body)) if body else None for body in (before, after))
    return Entry(at, Note(who, what), Change(kind, name, was, now))
