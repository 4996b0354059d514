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
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from casarray.adapters.stores.memory_directory import identified
from casarray.app.stores import Entry, Note, Snapshot
from casarray.core.directory.changes import Change, as_json, of_json
from casarray.core.directory.model import DEFAULT_ADMIN_GROUP, DEFAULT_ORGANIZATION, Directory, Kind, Thing, key
from casarray.core.errors import Denied, MovedOn, Unavailable

FILE_NAME = "directory.db"
BUSY_SECONDS = 10.0

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
            mask = os.umask(0o027)
            try:
                self._db = sqlite3.connect(
                    self._path, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False
                )
                self._db.execute("PRAGMA journal_mode = WAL")
            finally:
                os.umask(mask)
            self._db.execute("PRAGMA synchronous = FULL")
            self._migrate()
        except (OSError, sqlite3.OperationalError) as error:
            raise Denied(
                f"the directory in {self._path.parent} cannot be written ({error}): use sudo, make room there, or name "
                f"a folder that is yours (gateway.state in the configuration, or --store sqlite:FOLDER)"
            ) from error
        except sqlite3.DatabaseError as error:
            raise Unavailable(f"{self._path} is damaged ({error}): put back a copy of it, or move it away") from error

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise Unavailable(
                f"{self._path} was written by a newer casarray (its version is {version}): update this one"
            )
        while version < len(MIGRATIONS):
            with self._transaction():
                (version,) = self._db.execute("PRAGMA user_version").fetchone()  # somebody else may have been faster
                if version < len(MIGRATIONS):
                    for statement in MIGRATIONS[version].split(";\n"):
                        self._db.execute(statement)
                    version += 1
                    self._db.execute(f"PRAGMA user_version = {version}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise Unavailable(f"{self._path} could not be {doing}: {error}") from error
            except (ValueError, KeyError) as error:
                raise Unavailable(f"{self._path} holds something that cannot be read: {error}") from error

    def read(self) -> Snapshot:
        with self._translated("read"):
            self._db.execute("BEGIN")  # one state, whoever writes meanwhile
            try:
                about = dict(self._db.execute("SELECT name, value FROM about"))
                if self._seen is None:
                    directory = self._whole(about)
                elif self._seen.revision == about["revision"]:
                    return self._seen
                else:
                    directory = self._caught_up(self._seen)
            finally:
                self._db.execute("COMMIT")
            self._seen = Snapshot(directory, about["revision"])
            return self._seen

    def _whole(self, about: dict[str, str]) -> Directory:
        found: dict[Kind, dict[str, Any]] = {kind: {} for kind in Kind}
        for kind, name, body in self._db.execute("SELECT kind, key, body FROM thing ORDER BY kind, key"):
            found[Kind(kind)][name] = of_json(Kind(kind), json.loads(body))
        return Directory(
            about.get("organization", DEFAULT_ORGANIZATION),
            about.get("admin_group", DEFAULT_ADMIN_GROUP),
            **{f"{kind}s": things for kind, things in found.items()},
        )

    def _caught_up(self, seen: Snapshot) -> Directory:
        """What was seen, with everything since."""
        rows = self._db.execute(
            "SELECT kind, before, after FROM audit WHERE revision > ? ORDER BY id", (int(seen.revision),)
        )
        latest: dict[tuple[Kind, str], tuple[Thing | None, Thing | None]] = {}
        for word, before, after in rows:
            kind = Kind(word)
            was, now = (of_json(kind, json.loads(body)) if body else None for body in (before, after))
            for thing in (was, now):
                if thing is not None:
                    latest[kind, key(thing.name)] = (was, now)
        put = [now for _, now in latest.values() if now is not None]
        gone = [was for was, now in latest.values() if was is not None and now is None]
        return seen.directory.without(*gone).put(*put)

    def revision(self) -> str:
        with self._translated("read"):
            ((revision,),) = self._db.execute("SELECT value FROM about WHERE name = 'revision'").fetchall()
            return str(revision)

    def change(self, snapshot: Snapshot, changes: Sequence[Change], note: Note) -> None:
        with self._translated("written"), self._transaction():
            ((revision,),) = self._db.execute("SELECT value FROM about WHERE name = 'revision'").fetchall()
            if revision != snapshot.revision:
                raise MovedOn("the directory was changed by somebody else meanwhile; look at it again and repeat")
            now, following = time.time(), int(revision) + 1
            for change in map(identified, changes):
                self._store(change)
                before, after = (json.dumps(as_json(t)) if t else None for t in (change.before, change.after))
                row = (following, now, note.who, note.what, change.kind, change.name, before, after)
                self._db.execute(
                    "INSERT INTO audit (revision, at, who, what, kind, name, before, after) VALUES (?,?,?,?,?,?,?,?)",
                    row,
                )
            self._db.execute("UPDATE about SET value = ? WHERE name = 'revision'", (str(following),))

    def _store(self, change: Change) -> None:
        if change.after is None:
            self._db.execute("DELETE FROM thing WHERE kind = ? AND key = ?", (change.kind, key(change.name)))
            return
        self._db.execute(
            "INSERT INTO thing (kind, key, body) VALUES (?, ?, ?) "
            "ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body",
            (change.kind, key(change.after.name), json.dumps(as_json(change.after))),
        )

    def history(self, most: int = 100) -> Sequence[Entry]:
        statement = "SELECT at, who, what, kind, name, before, after FROM audit ORDER BY id DESC LIMIT ?"
        with self._translated("read"), closing(self._db.execute(statement, (most,))) as rows:
            return [_entry(row) for row in rows]

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._db.close()


def _entry(row: tuple[Any, ...]) -> Entry:
    at, who, what, word, name, before, after = row
    kind = Kind(word)
    was, now = (of_json(kind, json.loads(body)) if body else None for body in (before, after))
    return Entry(at, Note(who, what), Change(kind, name, was, now))
