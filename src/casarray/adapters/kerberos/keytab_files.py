"""The keytabs that services of this server read: written whole, for their readers alone, and told to them.

A file is written only when it would say something else, so that nobody reloads for nothing, and a file that somebody
damaged or removed is put right at the next look. The file is the agent's: what was there before the first time is put
aside once, as ``NAME.before-casarray``.
"""

import grp
import logging
import pwd
import subprocess
from collections.abc import Sequence
from pathlib import Path

from casarray.adapters.kerberos.vault import replace_file
from casarray.core.errors import ConfigError, Unavailable, WireError
from casarray.core.kerberos.agent_config import KeytabFile
from casarray.core.kerberos.keys import Holding
from casarray.core.kerberos.keytab import KeytabEntry, entries_of, merge, read_keytab, write_keytab

log = logging.getLogger(__name__)

RELOAD_SECONDS = 30.0
ASIDE = ".before-casarray"


class KeytabFiles:
    """`casarray.app.kerberos.member.Keytabs`."""

    def __init__(self, files: Sequence[KeytabFile], own: str) -> None:
        """``own``: the machine's keytab. `ConfigError` for an owner or group that is not there."""
        self._files = tuple((one, _ids(one)) for one in files)
        self._own = own
        self._failed: dict[str, str] = {}  # path -> why its reader could not be told

    def write(self, holdings: Sequence[Holding]) -> tuple[str, ...]:
        """All files; those that are right already stay. `Unavailable` for one that cannot be written."""
        shared = [entry for holding in holdings for entry in entries_of(holding)]
        for file, owner in self._files:
            wanted = [one for one in shared if _wants(file, one)]
            entries = merge(self._machine(), wanted) if file.with_own else tuple(wanted)
            if self._put(Path(file.path), write_keytab(entries), owner) or file.path in self._failed:
                self._tell(file)
        return tuple(
            f"{file.path} ({self._failed[file.path]})" if file.path in self._failed else file.path
            for file, _ in self._files
        )

    def _put(self, path: Path, data: bytes, owner: tuple[int, int]) -> bool:
        """Whether it had to be written."""
        try:
            if _is(path, data, owner):
                return False
            aside = path.with_name(path.name + ASIDE)
            if path.exists() and not aside.exists():
                replace_file(aside, path.read_bytes(), owner=owner)
            replace_file(path, data, owner=owner)
        except OSError as error:
            raise Unavailable(f"the keytab {path} cannot be written: {error.strerror}") from None
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
            done = subprocess.run(
                file.reload, stdin=subprocess.DEVNULL, capture_output=True, timeout=RELOAD_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            why = f"{file.reload[0]} took more than {RELOAD_SECONDS:.0f} s"
        except OSError as error:
            why = f"{file.reload[0]}: {error.strerror}"
        else:
            if done.returncode == 0:
                return
            said = done.stderr.decode(errors="replace").strip().splitlines()
            why = f"{' '.join(file.reload)} ended with {done.returncode}{f': {said[-1][:200]}' if said else ''}"
        self._failed[file.path] = f"its reader could not be told: {why}"
        log.error("%s was written, but %s", file.path, self._failed[file.path])


def _wants(file: KeytabFile, entry: KeytabEntry) -> bool:
    classes = {one.casefold() for one in file.services}
    return not classes or entry.components[0].casefold() in classes


def _is(path: Path, data: bytes, owner: tuple[int, int]) -> bool:
    try:
        about = path.lstat()
    except FileNotFoundError:
        return False
    right = about.st_mode & 0o177777 == 0o100600 and (about.st_uid, about.st_gid) == owner
    return right and path.read_bytes() == data


def _ids(file: KeytabFile) -> tuple[int, int]:
    try:
        user = pwd.getpwnam(file.owner)
    except KeyError:
        raise ConfigError(f"keytab {file.path}: there is no user {file.owner} here") from None
    try:
        return user.pw_uid, grp.getgrnam(file.group).gr_gid if file.group else user.pw_gid
    except KeyError:
        raise ConfigError(f"keytab {file.path}: there is no group {file.group} here") from None
