"""Who came to retired servers, in a file of the gateway's state: JSON, replaced as a whole or not at all."""

import fcntl
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from casarray.core.errors import Conflict, Denied, Unavailable
from casarray.core.referral.visits import Visit

FILE_NAME = "referral.json"


class VisitsFile:
    """`casarray.app.referral.VisitStore` below a directory. Blocking."""

    def __init__(self, directory: str) -> None:
        self.path = Path(directory) / FILE_NAME
        self._lock: int | None = None

    def load(self) -> Sequence[Visit]:
        """What was kept; nothing if there is no file. `Unavailable` when it is damaged, `Denied` without the right."""
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            return [_visit(line) for line in data["visits"]]
        except FileNotFoundError:
            return ()
        except PermissionError:
            raise Denied(
                f"no right to read {self.path}: use sudo, or the user that casarray referral runs as"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Unavailable(f"{self.path} cannot be read ({error})") from error

    def save(self, visits: Sequence[Visit]) -> None:
        """Keep these. `Denied` when the directory may not be written."""
        fresh = self.path.with_suffix(".new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            # Who logs on from where is no business of every user of this machine.
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640), "w", encoding="utf-8") as file:
                json.dump({"visits": [asdict(visit) for visit in visits]}, file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
        except OSError as error:
            raise Denied(
                f"who came cannot be kept in {self.path} ({error.strerror}): make room there, or give [referral] state "
                "a directory that the user casarray runs as may write to"
            ) from error

    def put_aside(self) -> Path:
        """Out of the way with a file that cannot be read; where it is now."""
        aside = self.path.with_suffix(".damaged")
        try:
            self.path.replace(aside)
        except OSError as error:
            raise Denied(f"{self.path} is damaged and cannot be moved away ({error.strerror}): remove it") from error
        return aside

    def lock(self) -> None:
        """One process keeps the file, until it ends. `Conflict` if another one does, `Denied` without the right."""
        path = self.path.with_suffix(".lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
        except OSError as error:
            raise Denied(
                f"{path.parent} cannot be written ({error.strerror}): give [referral] state a directory that is yours"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise Conflict(
                f"another casarray referral keeps its state in {path.parent}: stop it, or give [referral] state "
                "another directory"
            ) from None
        self._lock = descriptor

    def unlock(self) -> None:
        """Let go of it. Twice is once."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _visit(line: dict[str, object]) -> Visit:
    words = {name: line[name] for name in ("user", "client", "name", "proven")}
    if not all(isinstance(word, str) for word in words.values()):
        raise ValueError("a line without its words")
    user, client, name, proven = map(str, words.values())
    first, last, count = (float(str(line[name])) for name in ("first", "last", "count"))
    return Visit(user, client, name, first, last, int(count), proven)
