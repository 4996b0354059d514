"""What needs an extra of the installation, and says so where it is missing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from casarray.core.errors import ConfigError, Unavailable


@contextmanager
def kerberos_libraries() -> Iterator[None]:
    """Those of `casarray[kerberos]` are imported inside; `Unavailable` says how to get one that is missing."""
    try:
        yield
    except ImportError as error:
        raise Unavailable(
            f"the library {error.name} is missing: pip install 'casarray[kerberos]' (libkrb5's headers build it)"
        ) from None


def readable_keytab(keytab: str, table: str) -> Path:
    """The keytab that ``table`` of the configuration names. `ConfigError` when it cannot be read."""
    path = Path(keytab)
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise ConfigError(f"the keytab {keytab} cannot be read ({error.strerror}): set [{table}] keytab") from error
