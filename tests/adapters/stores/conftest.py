"""An embedded directory of its own for every test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from casarray.adapters.stores.sqlite_directory import SqliteDirectory


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "state")


@pytest.fixture
def store(folder: str) -> Iterator[SqliteDirectory]:
    found = SqliteDirectory(folder)
    yield found
    found.close()
