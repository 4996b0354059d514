"""The vault: what it refuses to read, and what is there after a write that failed."""

import os
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="cryptography is not installed")

from casarray.adapters.kerberos.vault import FileVault
from casarray.core.errors import Denied, Unavailable
from casarray.core.kerberos.encryption import Enctype
from casarray.core.kerberos.keys import Generation, Holding, Key

VALUE = b"0123456789abcdef0123456789ABCDEF"
HOLDING = Holding("asa$", "LAB", ("http/cas.lab",), (Generation(3, (Key(Enctype.AES256, 3, VALUE),), 1.0),))


class Place:
    def __init__(self, folder: Path) -> None:
        self.state, self.key = folder / "state", folder / "etc/agent.key"
        self.file = self.state / "keys.vault"

    def open(self, host: str = "cas1.lab") -> FileVault:
        return FileVault(str(self.state), str(self.key), host)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """With something in it."""
    found = Place(tmp_path)
    vault = found.open()
    assert vault.read() == ()
    vault.write((HOLDING,))
    return found


def test_it_holds_what_was_written_for_its_owner_alone_and_not_in_clear(place: Place) -> None:
    assert place.open().read() == (HOLDING,)
    assert [path.stat().st_mode & 0o777 for path in (place.state, place.file, place.key)] == [0o700, 0o600, 0o600]
    assert VALUE not in place.file.read_bytes()
    before = place.file.read_bytes()
    place.open().write((HOLDING,))
    assert place.file.read_bytes() != before, "a nonce is used once"


@pytest.mark.parametrize("which", ["file", "key"])
def test_what_others_may_read_is_refused(place: Place, which: str) -> None:
    getattr(place, which).chmod(0o640)
    with pytest.raises(Denied, match="may be read by others"):
        place.open().read()


@pytest.mark.root
@pytest.mark.parametrize("which", ["file", "key"])
def test_what_somebody_else_owns_is_refused(place: Place, which: str) -> None:
    os.chown(getattr(place, which), 65534, 65534)
    with pytest.raises(Denied, match="not ours"):
        place.open().read()


def test_a_folder_that_others_may_write_to_is_refused(place: Place) -> None:
    place.state.chmod(0o770)
    with pytest.raises(Denied, match="others may write"):
        place.open()


@pytest.mark.parametrize("at", [0, 3, 4, 15, 16, 40, -1])
def test_a_damaged_vault_is_not_read_and_stays_as_it_is(place: Place, at: int) -> None:
    data = bytearray(place.file.read_bytes())
    data[at] ^= 1
    place.file.write_bytes(data)
    with pytest.raises(Unavailable, match="damaged, or of another server"):
        place.open().read()
    assert place.file.read_bytes() == data


@pytest.mark.parametrize("length", [0, 3, 4, 15, 16, 30])
def test_a_vault_that_is_cut_off_is_not_read(place: Place, length: int) -> None:
    place.file.write_bytes(place.file.read_bytes()[:length])
    with pytest.raises(Unavailable, match="damaged"):
        place.open().read()


def test_another_server_s_vault_is_not_read(place: Place) -> None:
    with pytest.raises(Unavailable, match="of another server"):
        place.open("cas2.lab").read()
    assert place.open("CAS1.lab").read() == (HOLDING,)


def test_a_vault_without_its_key_is_not_begun_anew(place: Place) -> None:
    place.key.unlink()
    with pytest.raises(Unavailable, match="its key .* is gone"):
        place.open()
    assert not place.key.exists()
    place.key.write_bytes(b"short")
    place.key.chmod(0o600)
    with pytest.raises(Unavailable, match="has 5 octets"):
        place.open()


def test_a_link_is_not_followed(place: Place) -> None:
    real = place.file.rename(place.state / "elsewhere")
    place.file.symlink_to(real)
    with pytest.raises(Unavailable, match="cannot be read"):
        place.open().read()
    place.open().write(())
    assert not place.file.is_symlink()
    assert real.read_bytes()


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_write_that_fails_leaves_what_was_there(place: Place, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    vault = place.open()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(Unavailable, match="No space left"):
            vault.write(())
    assert place.open().read() == (HOLDING,)
    assert [path.name for path in place.state.iterdir()] == ["keys.vault"]


def test_what_a_kill_left_is_taken_away_by_the_next_write(place: Place) -> None:
    child = os.fork()
    if child == 0:
        os.rename = lambda *_: os._exit(9)
        place.open().write(())
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert len(list(place.state.iterdir())) == 2
    assert place.open().read() == (HOLDING,)
    place.open().write((HOLDING,))
    assert [path.name for path in place.state.iterdir()] == ["keys.vault"]
