"""The keytabs that services read: for whom, when they are written, who is told."""

import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography", reason="cryptography is not installed")

from casarray.adapters.kerberos.keytab_files import KeytabFiles
from casarray.core.errors import ConfigError, Unavailable
from casarray.core.kerberos.agent_config import KeytabFile
from casarray.core.kerberos.encryption import Enctype
from casarray.core.kerberos.keys import Generation, Holding, Key
from casarray.core.kerberos.keytab import KeytabEntry, read_keytab, write_keytab

pytestmark = pytest.mark.root

NAMES = ("http/cas.lab", "imap/cas.lab")


def holding(*numbers: int) -> Holding:
    keys = {number: (Key(Enctype.AES256, number, bytes([number]) * 32),) for number in numbers}
    return Holding("asa$", "LAB", NAMES, tuple(Generation(number, keys[number], 1.0) for number in numbers))


class Place:
    def __init__(self, folder: Path) -> None:
        self.folder, self.file, self.reloads = folder, folder / "array.keytab", folder / "reloads"
        self.aside = folder / "array.keytab.before-casarray"
        self.own = folder / "krb5.keytab"
        self.own.write_bytes(write_keytab([KeytabEntry(("host", "cas1.lab"), "LAB", 1, 0, 2, 18, bytes(32))]))

    def files(self, **changed: Any) -> KeytabFiles:
        told = ("sh", "-c", f"echo told >> {self.reloads}")
        usual: dict[str, object] = {"path": str(self.file), "owner": "nobody", "reload": told}
        return KeytabFiles([KeytabFile(**(usual | changed))], str(self.own))  # type: ignore[arg-type]  # by names that the test gives

    @property
    def told(self) -> int:
        return self.reloads.read_text().count("told") if self.reloads.exists() else 0

    def entries(self) -> set[tuple[str, int]]:
        return {(one.principal, one.version) for one in read_keytab(self.file.read_bytes())}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_all_names_and_versions_for_its_owner_alone_and_its_reader_is_told_once(place: Place) -> None:
    files = place.files()
    assert files.write([holding(4, 3)]) == (str(place.file),)
    about = place.file.stat()
    assert (about.st_mode & 0o777, about.st_uid) == (0o600, 65534)
    assert {(f"{name}@LAB", n) for name in NAMES for n in (3, 4)} <= place.entries()
    files.write([holding(4, 3)])
    assert (place.told, place.file.stat().st_ino) == (1, about.st_ino), "nothing new, nothing done"
    files.write([holding(5, 4)])
    assert place.told == 2


@pytest.mark.parametrize("damage", ["mode", "owner", "text", "gone", "link"])
def test_what_somebody_changed_is_put_right(place: Place, damage: str) -> None:
    files = place.files()
    files.write([holding(3)])
    right = place.file.read_bytes()
    match damage:
        case "mode":
            place.file.chmod(0o644)
        case "owner":
            os.chown(place.file, 0, 0)
        case "text":
            place.file.write_bytes(b"")
        case "gone":
            place.file.unlink()
        case "link":
            place.file.rename(place.folder / "other")
            place.file.symlink_to(place.folder / "other")
    files.write([holding(3)])
    about = place.file.lstat()
    assert (about.st_mode, about.st_uid, place.file.read_bytes()) == (0o100600, 65534, right)


def test_it_is_never_there_with_more_rights_than_it_should(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = os.write

    def watched(handle: int, data: memoryview) -> int:
        seen.append((os.fstat(handle).st_mode, os.fstat(handle).st_uid))
        return real(handle, data)

    monkeypatch.setattr(os, "write", watched)
    old = os.umask(0)
    try:
        place.files(reload=()).write([holding(3)])
    finally:
        os.umask(old)
    assert seen == [(0o100600, 65534)]


def test_what_was_there_is_put_aside_once_as_it_was(place: Place) -> None:
    place.file.write_bytes(b"before")
    place.file.chmod(0o640)
    files = place.files()
    files.write([holding(3)])
    files.write([holding(4)])
    assert place.aside.read_bytes() == b"before"
    assert (place.aside.stat().st_mode & 0o777, place.aside.stat().st_uid) == (0o640, 0)


def test_a_link_in_a_folder_of_the_service_gives_nothing_away(place: Place, tmp_path: Path) -> None:
    secret = tmp_path / "shadow"
    secret.write_bytes(b"root's")
    secret.chmod(0o600)
    place.file.symlink_to(secret)
    place.files().write([holding(3)])
    assert secret.read_bytes() == b"root's"
    assert secret.stat().st_uid == 0
    assert not place.file.is_symlink()
    # Nothing that belongs to the service has the secret in it.
    owned = [path for path in tmp_path.iterdir() if path.lstat().st_uid == 65534]
    assert owned == [place.file]
    assert place.aside.is_symlink()


def test_a_pipe_in_its_place_holds_nobody_up(place: Place) -> None:
    os.mkfifo(place.file)
    place.files().write([holding(3)])
    assert place.file.is_file()


def test_a_reader_that_cannot_be_told_is_named_and_told_again(place: Place) -> None:
    marker = place.folder / "works"
    files = place.files(reload=("sh", "-c", f"test -e {marker} || {{ echo no bus >&2; exit 3; }}"))
    (said,) = files.write([holding(3)])
    assert "ended with 3: no bus" in said
    marker.touch()
    assert files.write([holding(3)]) == (str(place.file),)
    (said,) = place.files(reload=("/does/not/exist",)).write([holding(4)])
    assert "No such file" in said


def test_a_file_that_cannot_be_written_keeps_no_other_from_being_written(place: Place) -> None:
    wrong = KeytabFile(str(place.folder / "nowhere/array.keytab"))
    files = KeytabFiles([wrong, KeytabFile(str(place.file))], str(place.own))
    with pytest.raises(Unavailable, match="nowhere.*make its folder"):
        files.write([holding(3)])
    assert place.entries()


def test_only_the_classes_that_were_asked_for_and_the_server_s_own_keys(place: Place) -> None:
    place.files(services=("imap",), with_own=True).write([holding(3)])
    assert place.entries() == {("imap/cas.lab@LAB", 3), ("host/cas1.lab@LAB", 2)}


def test_what_a_kill_left_goes(place: Place) -> None:
    left = place.folder / ".array.keytab.0123456789abcdef"
    left.write_bytes(b"keys")
    place.files().write([holding(3)])
    assert not left.exists()


def test_users_and_groups_that_are_not_there_are_refused(place: Place) -> None:
    with pytest.raises(ConfigError, match="no user"):
        place.files(owner="nobody-of-that-name")
    with pytest.raises(ConfigError, match="no group"):
        place.files(group="no-group-of-that-name")
