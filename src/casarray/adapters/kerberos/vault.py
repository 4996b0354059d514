"""Where an agent keeps the shared keys: one file, encrypted with AES-256-GCM under a key in another file.

The file: ``CAV1``, twelve octets of nonce, ciphertext with its tag; the server's name is vouched for with it, so that
one server's vault is not read as another's. The key file holds 32 random octets, mode 0600, made at the first start.
Whoever reads both as root reads the keys; a backup or a disk with the state folder alone does not give them away.
"""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from casarray.core.errors import Denied, Unavailable, WireError
from casarray.core.kerberos.agent_messages import read_holdings, write_holdings
from casarray.core.kerberos.keys import Holding

FILE_NAME = "keys.vault"
_MAGIC = b"CAV1"
_NONCE = 12
_KEY = 32
_LARGEST = 16 << 20


class FileVault:
    """`casarray.app.kerberos.member.Vault` in a folder of mode 0700."""

    def __init__(self, folder: str, key_file: str, host: str) -> None:
        """Makes folder and key where they are missing. `Denied` for those that others may read, `Unavailable`."""
        self._path = Path(folder) / FILE_NAME
        self._key_file = Path(key_file)
        self._vouched = host.casefold().encode()
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            about = self._path.parent.stat()
        except OSError as error:
            raise Unavailable(f"{folder} cannot be used for the vault: {error.strerror}") from None
        if about.st_uid != os.geteuid() or about.st_mode & 0o022:
            raise Denied(f"others may write to {folder}: chown it to the agent's user and chmod 0700")
        self._cipher = AESGCM(self._key())

    def read(self) -> tuple[Holding, ...]:
        """All that was written last; nothing if there is no file."""
        try:
            data = _private(self._path)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise Unavailable(f"the vault {self._path} cannot be read: {error.strerror}") from None
        try:
            if data[:4] != _MAGIC:
                raise WireError("vault", "this is no vault")
            body = data[4 + _NONCE :]
            return read_holdings(self._cipher.decrypt(data[4 : 4 + _NONCE], body, self._vouched))
        except (InvalidTag, WireError, ValueError):
            raise Unavailable(
                f"the vault {self._path} cannot be read with {self._key_file}: one of them is damaged, or of another "
                "server. Move both away and give this server the keys again with casarray account roll --copy-from"
            ) from None

    def write(self, holdings: tuple[Holding, ...]) -> None:
        """Before or after, whatever happens in between."""
        nonce = secrets.token_bytes(_NONCE)
        sealed = self._cipher.encrypt(nonce, write_holdings(holdings), self._vouched)
        try:
            self._sweep()
            replace_file(self._path, _MAGIC + nonce + sealed)
        except OSError as error:
            raise Unavailable(f"the vault {self._path} cannot be written: {error.strerror}") from None

    def _key(self) -> bytes:
        try:
            try:
                key = _private(self._key_file)
            except FileNotFoundError:
                if self._path.exists():
                    raise Unavailable(
                        f"there is a vault {self._path}, but its key {self._key_file} is gone: bring it back, or move "
                        "the vault away and give this server the keys again"
                    ) from None
                self._key_file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                key = secrets.token_bytes(_KEY)
                replace_file(self._key_file, key)
        except OSError as error:
            raise Unavailable(f"the vault's key {self._key_file} cannot be used: {error.strerror}") from None
        if len(key) != _KEY:
            raise Unavailable(f"the vault's key {self._key_file} is damaged: it has {len(key)} octets, not {_KEY}")
        return key

    def _sweep(self) -> None:
        """What a kill left."""
        for left in self._path.parent.glob(f".{FILE_NAME}.*"):
            with suppress(OSError):
                left.unlink()


def replace_file(path: Path, data: bytes, *, owner: tuple[int, int] | None = None) -> None:
    """Put a file of mode 0600 in the place of whatever is there: never half of it, never readable by others.

    ``owner``: user and group. The temporary file is in the same folder and made anew: nobody's link is followed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            if owner is not None:
                os.fchown(handle, *owner)
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        os.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _private(path: Path) -> bytes:
    """What is in a file that nobody else may read. `Denied` if somebody may."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode) or about.st_mode & 0o077 or about.st_uid != os.geteuid():
            raise Denied(
                f"{path} may be read by others, or is not ours: chown it to the agent's user and chmod 0600; if "
                "somebody may have read it, roll the password"
            )
        return file.read(_LARGEST)
