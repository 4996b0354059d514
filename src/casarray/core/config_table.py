"""What a key of a configuration file is, and a table of them: how it is read, what it means, an example.

The key's default is that of the value class; a field that is called otherwise than its key says so.
"""

from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from typing import Any

from casarray.core import config_values as read
from casarray.core.config_values import Reader


@dataclass(frozen=True, slots=True)
class Key:
    """One key of one table."""

    name: str
    read: Reader
    meaning: str
    example: str  # TOML
    required: bool = False
    field: str = ""  # of the value class, when it is not called like the key
    default: str = ""  # TOML or words, when it is not simply the value class's

    @property
    def target(self) -> str:
        """The field of the value class that the key fills."""
        return self.field or self.name


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the file and the value class it becomes."""

    header: str
    kind: type[Any]
    meaning: str
    keys: tuple[Key, ...]

    def key(self, name: str) -> Key | None:
        """The key of that name."""
        return next((key for key in self.keys if key.name == name), None)

    def default_of(self, key: Key) -> str:
        """The key's default as TOML (or in words), empty when the key is required."""
        if key.required or key.default:
            return key.default
        found = next(f for f in fields(self.kind) if f.name == key.target)
        value = found.default_factory() if found.default_factory is not MISSING else found.default
        return toml_of(value, seconds=key.example.endswith(('s"', 'm"', 'h"', 'd"')))


def toml_of(value: object, *, seconds: bool = False) -> str:
    """A default value as it would be written in the file."""
    if seconds and isinstance(value, int | float):
        return f'"{read.duration_text(value)}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(toml_of(element) for element in value)}]"
    if isinstance(value, str | StrEnum):
        return f'"{value}"'
    return str(value)
