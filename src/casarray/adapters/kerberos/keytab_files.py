"""The keytabs that services of this server read: written whole, for their readers alone, and told to them.

A file is written only when it would say something else, so that nobody reloads for nothing, and a file that somebody
damaged or removed is put right at the next look. The file is the agent's: what was there before the first time is put
aside once, as ``NAME.before-casarray``.
"""

import errno
import glob
import grp
import logging
import os
import pwd
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from casarray.adapters.kerberos.vault import replace_file
from casarray.core.errors import ConfigError, Unavailable, WireError
from casarray.core.kerberos.agent_config import KeytabFile
from casarray.core.kerberos.keys import Holding
from casarray.core.kerberos.keytab import KeytabEntry, entries_of, merge, read_keytab, write_keytab

log = logging.getLogger(__name__)

RELOAD_SECONDS = 30.0
ASIDE = ".before-casarray"
_HINTS = {
    errno.EROFS: " for this service: add its folder to ReadWritePaths (systemctl edit casarray-agent)",
    errno.ENOENT: ": make its folder",
}


class KeytabFiles:
    """`casarray.app.kerberos.member.Keytabs`."""

    def __init__(self, files: Sequence[KeytabFile], own: str) -> None:
        """``own``: the machine's keytab. `ConfigError` for an owner or group that is not there."""
        self._files = tuple((one, _ids(one)) for one in files)
        self._own = own
        self._failed: dict[str, str] = {}  # path -> why its reader could not be told

    def write(self, holdings: Sequence[Holding]) -> tuple[str, ...]:
        """All files; those that are right already stay. `Unavailable` names those that cannot be written."""
        shared = [entry for holding in holdings for entry in entries_of(holding)]
        wrong = []
        for file, owner in self._files:
            wanted = [one for one in shared if _wants(file, one)]
            try:
                entries = merge(self._machine(), wanted) if file.with_own else tuple(wanted)
                if self._put(Path(file.path), write_keytab(entries), owner) or file.path in self._failed:
                    self._tell(file)
            except Unavailable as error:  # the other files' readers need theirs all the same
                wrong.append(str(error))
        if wrong:
            raise Unavailable("; ".join(wrong))
        return tuple(
            f"{file.path} ({self._failed[file.path]})" if file.path in self._failed else file.path
            for file, _ in self._files
        )

    def _put(self, path: Path, data: bytes, owner: tuple[int, int]) -> bool:
        """Whether it had to be written."""
        try:
            if _is(path, data, owner):
                return False
            _sweep(path)
            # A second name for what is there, with its owner and mode: a copy would open to the folder's owner what a
            # link of theirs leads to.
            with suppress(FileNotFoundError, FileExistsError):
                os.link(path, path.with_name(path.name + ASIDE), follow_symlinks=False)
            replace_file(path, data, owner=owner)
        except OSError as error:
            hint = _HINTS.get(error.errno or 0, "")
            raise Unavailable(f"the keytab {path} cannot be written: {error.strerror}{hint}") from None
        return True

    def _machine(self) -> tuple[KeytabEntry, ...]:
        try:
            return read_keytab(Path(self._own).read_bytes())
        except (OSError, WireError) as error:
            raise Unavailable(f"the machine's keytab {self._own} cannot be read: {error}") from None

    def _tell(self, file: KeytabFile) -> None:
        """Make the service read it; that it could not be told is remembered, said, and tried again."""
        self._failed.pop(file.path, None)
        if not file.reload:
            return
        try:
            done, told = _run(file.reload)
        except subprocess.TimeoutExpired:
            why = f"{file.reload[0]} took more than {RELOAD_SECONDS:.0f} s"
        except OSError as error:
            why = f"{file.reload[0]}: {error.strerror}"
        else:
            if done == 0:
                return
            why = f"{' '.join(file.reload)} ended with {done}{f': {told}' if told else ''}"
        self._failed[file.path] = f"its reader could not be told: {why}"
        log.error("%s was written, but %s", file.path, self._failed[file.path])


def _wants(file: KeytabFile, entry: KeytabEntry) -> bool:
    classes = {one.casefold() for one in file.services}
    return not classes or entry.components[0].casefold() in classes


def _is(path: Path, data: bytes, owner: tuple[int, int]) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with os.fdopen(handle, "rb") as there:
        about = os.fstat(handle)
        right = about.st_mode == stat.S_IFREG | 0o600 and (about.st_uid, about.st_gid) == owner
        return right and there.read(len(data) + 1) == data


def _sweep(path: Path) -> None:
    """Take away what a kill left: it has keys in it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 16}"):
        left.unlink(missing_ok=True)


def _run(command: Sequence[str]) -> tuple[int, str]:
    """Its exit code, and the last it said on stderr. A file, as what it leaves running would keep a pipe open."""
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            timeout=RELOAD_SECONDS,
            check=False,
        )
        said.seek(0)
        lines = said.read(65536).decode(errors="replace").strip().splitlines()
    return done.returncode, lines[-1][:200] if lines else ""


def _ids(file: KeytabFile) -> tuple[int, int]:
    try:
        user = pwd.getpwnam(file.owner)
    except KeyError:
        raise ConfigError(f"keytab {file.path}: there is no user {file.owner} here") from None
    try:
        return user.pw_uid, grp.getgrnam(file.group).gr_gid if file.group else user.pw_gid
    except KeyError:
        raise ConfigError(f"keytab {file.path}: there is no group {file.group} here") from None
