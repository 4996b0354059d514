"""Writes units of systemd: what this machine does by the clock."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from casarray.core.errors import Conflict, Denied, Unavailable

FOLDER = "/etc/systemd/system"


class SystemdUnits:
    """`casarray.app.kerberos.telling.Timers` as unit files."""

    folder = FOLDER

    @property
    def program(self) -> Sequence[str]:
        """The command that is running now, by its whole path."""
        beside = Path(sys.executable).with_name("casarray")
        found = str(beside) if beside.exists() else shutil.which("casarray")
        return (found,) if found else (sys.executable, "-m", "casarray.main")

    def write(self, files: Sequence[tuple[str, str]], folder: str | None) -> Sequence[str]:
        """Write them, each in one piece; a file of another kind under that name is left alone."""
        place = Path(folder or FOLDER)
        try:
            for name, text in files:
                _refuse_others(place / name, text)
            return [_write(place / name, text) for name, text in files]
        except PermissionError:
            raise Denied(f"no right to write into {place}; use sudo, or name another folder") from None
        except OSError as error:
            raise Unavailable(f"cannot write into {place}: {error.strerror}; name another folder") from None


def _refuse_others(path: Path, text: str) -> None:
    """What casarray did not write is not overwritten: its first line says who did."""
    mark = text.partition("\n")[0]
    if path.exists() and path.read_text(encoding="utf-8", errors="replace").partition("\n")[0] != mark:
        raise Conflict(f"there is a {path} that casarray did not write: choose another name")


def _write(path: Path, text: str) -> str:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.chmod(0o644)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return str(path)
