"""Who came, kept in a file."""

import json
import os
from pathlib import Path

import pytest

from casarray.adapters.stores.visits_file import VisitsFile
from casarray.core.errors import Conflict, Denied, Unavailable
from casarray.core.referral.visits import Visit

VISITS = (Visit("alice", "10.1.1.1", "old1", 1.5, 2.5, 3, "Kerberos"), Visit("", "fd00::1", "old2", 1.0, 1.0))


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    VisitsFile(str(tmp_path / "state")).save(VISITS)
    assert tuple(VisitsFile(str(tmp_path / "state")).load()) == VISITS


def test_without_a_file_nobody_has_come(tmp_path: Path) -> None:
    assert VisitsFile(str(tmp_path)).load() == ()


def test_the_file_is_no_business_of_everybody(tmp_path: Path) -> None:
    file = VisitsFile(str(tmp_path))
    file.save(VISITS)
    assert file.path.stat().st_mode & 0o007 == 0


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"visits": 7}', '{"visits": [{}]}', '{"visits": [{"user": 1}]}', "[" * 100_000, "\x00"],
)
def test_a_damaged_file_is_said_to_be_so_and_can_be_put_aside(tmp_path: Path, text: str) -> None:
    file = VisitsFile(str(tmp_path))
    file.path.write_text(text)
    with pytest.raises(Unavailable, match="cannot be read"):
        file.load()
    assert file.put_aside().read_text() == text
    assert file.load() == ()


def test_numbers_that_are_none_are_damage_too(tmp_path: Path) -> None:
    file = VisitsFile(str(tmp_path))
    file.save(VISITS)
    data = json.loads(file.path.read_text())
    data["visits"][0]["last"] = "yesterday"
    file.path.write_text(json.dumps(data))
    with pytest.raises(Unavailable):
        file.load()


def test_a_folder_that_cannot_be_made_is_denied(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for work in (
        VisitsFile(str(tmp_path / "file" / "state")).lock,
        lambda: VisitsFile(str(tmp_path / "file")).save(()),
    ):
        with pytest.raises(Denied, match="state"):
            work()


def test_one_process_keeps_the_file_until_it_lets_go(tmp_path: Path) -> None:
    first, second = VisitsFile(str(tmp_path)), VisitsFile(str(tmp_path))
    first.lock()
    with pytest.raises(Conflict, match="another casarray referral"):
        second.lock()
    first.unlock()
    first.unlock()
    second.lock()
    second.unlock()
    assert os.listdir(tmp_path) == ["referral.lock"]
