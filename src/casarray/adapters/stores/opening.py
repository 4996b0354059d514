"""Opens a directory store by its name, as it stands in the configuration or behind ``--store``."""

from casarray.app.stores import DirectoryStore
from casarray.core.config import DirectorySettings, Gateway
from casarray.core.errors import ConfigError


def open_store(
    name: str, settings: DirectorySettings | None = None, state: str = "/var/lib/casarray"
) -> DirectoryStore:
    """``embedded`` (in ``state``), ``sqlite:FOLDER``, ``memory:``, or LDAP URLs with blanks between them.

    Raises `ConfigError` for anything else, and what the store raises that cannot be opened.
    """
    if name == "embedded":
        return _sqlite(state)
    if name.startswith("sqlite:") and name != "sqlite:":
        return _sqlite(name.removeprefix("sqlite:"))
    if name == "memory:":
        from casarray.adapters.stores.memory_directory import MemoryDirectory  # noqa: PLC0415 - only what is needed

        return MemoryDirectory()
    if name.startswith(("ldap://", "ldaps://")):
        from casarray.adapters.stores.ldap_directory import open_ldap  # noqa: PLC0415 - it has a library of its own

        return open_ldap(tuple(name.split()), settings or DirectorySettings())
    raise ConfigError(f'"{name}" is no place for a directory: write embedded, sqlite:FOLDER, or ldap://DC (ldaps://DC)')


def open_named(gateway: Gateway, settings: DirectorySettings) -> DirectoryStore:
    """The store that a configuration names; where it names its file alone, the embedded one."""
    name = "embedded" if settings.is_file else " ".join(settings.store)
    return open_store(name, settings, gateway.state)


def _sqlite(folder: str) -> DirectoryStore:
    from casarray.adapters.stores.sqlite_directory import SqliteDirectory  # noqa: PLC0415 - only what is needed

    return SqliteDirectory(folder)
