"""The store in Active Directory where there is none: what is refused at once, and what does not answer.

With a real domain controller: tests/peers/test_active_directory.py, and the contract of all stores.
"""

import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from casarray.adapters.stores.ldap_directory import LdapDirectory, open_ldap
from casarray.adapters.stores.ldap_names import ConnectionLost, Names
from casarray.core.config import Bind, DirectorySettings
from casarray.core.directory.active_directory import Entry, EntryKind, Partitions
from casarray.core.directory.ad_schema import VOCABULARY
from casarray.core.errors import ConfigError, Unavailable

PASSWORD = DirectorySettings(bind=Bind.SIMPLE, user="reader", starttls=True, timeout=0.5)


class NoDomains(Names):
    """Asks nobody for domains."""

    def controllers(self, domain: str, seconds: float) -> list[str]:  # noqa: ARG002 - there is none
        return []


@pytest.fixture
def settings(tmp_path: Path) -> DirectorySettings:
    """By name and password; python-ldap is there."""
    pytest.importorskip("ldap")
    secret = tmp_path / "password"
    secret.touch(0o600)
    secret.write_text("secret\n")
    return replace(PASSWORD, password_file=str(secret))


@pytest.fixture
def mute() -> Iterator[int]:
    """The port of somebody who takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "casarray.adapters.stores.ldap_connection", raising=False)
    monkeypatch.setitem(sys.modules, "ldap", None)
    with pytest.raises(ConfigError, match=r"python-ldap, which is not installed.* pip install 'casarray\[ad\]'"):
        open_ldap(["ldap://dc1.domain.tld"], DirectorySettings())


@pytest.mark.parametrize(
    ("urls", "changed", "right"),
    [
        (["ldap://dc1.domain.tld"], {"bind": Bind.SIMPLE, "user": "x", "password_file": "y"}, "in the clear"),
        (["ldaps://dc1.domain.tld"], {"bind": Bind.SIMPLE}, "needs directory.user and directory.password_file"),
        (["ldaps://dc1.domain.tld"], {}, "signs and seals by itself"),
        (["ldap://dc1.domain.tld"], {"starttls": True}, "signs and seals by itself"),
        (["ldap://alice:secret@dc1.domain.tld"], {}, "a URL with a user or password"),
        (["ldap://dc1.domain.tld/DC=domain,DC=tld"], {}, "write ldap://DC"),
        (["ldap://dc1.domain.tld:99999"], {}, "no port that can be"),
        (["ldap://[fd00::1"], {}, "is not understood"),
        (["ldap://"], {}, "write ldap://DC"),
        (["http://dc1.domain.tld"], {}, "write ldap://DC"),
    ],
)
def test_what_cannot_be_right_is_refused_before_anybody_is_called(
    urls: list[str], changed: dict[str, object], right: str
) -> None:
    pytest.importorskip("ldap")
    with pytest.raises(ConfigError, match=right) as raised:
        open_ldap(urls, replace(DirectorySettings(), **changed))  # type: ignore[arg-type]  # as the test says
    assert "secret" not in str(raised.value)


def test_whoever_does_not_answer_is_given_up_in_time(settings: DirectorySettings, mute: int) -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable, match="no domain controller answers"):
        open_ldap([f"ldap://127.0.0.1:{mute}"], settings, NoDomains()).read()
    assert time.monotonic() - began < 3


def test_each_that_was_tried_is_named_with_its_reason(settings: DirectorySettings, mute: int) -> None:
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    urls = [f"ldap://127.0.0.1:{mute}", f"ldap://127.0.0.1:{port}", "ldap://dc.invalid"]
    with pytest.raises(Unavailable) as raised:
        open_ldap(urls, settings, NoDomains()).revision()
    text = str(raised.value)
    assert text.count("127.0.0.1: ") >= 2
    assert "refused" in text
    assert "the name dc.invalid is not known" in text


def test_connections_that_failed_leave_nothing_open(settings: DirectorySettings, mute: int) -> None:
    store = open_ldap([f"ldap://127.0.0.1:{mute}"], settings, NoDomains())
    for _ in range(2):
        with pytest.raises(Unavailable):
            store.read()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(Unavailable):
            store.read()
    assert len(os.listdir("/proc/self/fd")) == before


class Scripted:
    """A connection to a domain controller that holds these, and is lost when the test says so."""

    host, who, identity = "dc1", "nobody", "a database"
    partitions = Partitions("DC=x", "CN=Configuration,DC=x", "CN=Schema,CN=Configuration,DC=x", "DC=x")

    def __init__(self) -> None:
        self.usn = 1
        self.sees_deleted = True
        self.lost = False
        self.there: list[Entry] = []
        self.new: list[Entry] = []
        self.deleted: list[str] = []
        self.referrals: set[str] = set()

    def site(self, name: str) -> Entry:
        return Entry(f"CN={name},CN=Sites,CN=Configuration,DC=x", name, EntryKind.SITE)

    def highest_usn(self) -> int:
        return self.usn

    def rows(self, *_: object) -> Iterator[tuple[str, dict[str, list[bytes]]]]:
        yield from ((name, {"lDAPDisplayName": [name.encode()]}) for name in VOCABULARY)

    def entries(self, base: str, _scope: str, what: str, _attributes: object) -> Iterator[Entry]:
        if "uSNChanged" in what:
            yield from self.new if base == self.partitions.configuration else ()
        elif base == self.partitions.sites:
            yield from self.there

    def guids(self, base: str, _scope: str, _what: str, *, deleted: bool = False) -> Iterator[str]:
        if self.lost:
            raise ConnectionLost("gone")
        if deleted:
            yield from self.deleted if base == self.partitions.configuration else ()
        elif base == self.partitions.sites:
            yield from (entry.guid for entry in self.there)

    def connect(self) -> "Scripted":
        return self

    tries = 2

    def give_up(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_what_was_fetched_when_the_connection_broke_is_a_change_all_the_same() -> None:
    dc = Scripted()
    store = LdapDirectory("ldap://dc1", dc)  # type: ignore[arg-type]  # as much of a connector as it needs
    before = store.read()
    dc.usn, dc.new, dc.lost = 2, [dc.site("Ulm")], True
    with pytest.raises(Unavailable, match="the domain controller dc1 was lost: gone"):
        store.revision()
    dc.lost = False
    assert store.revision() != before.revision
    assert "ulm" in store.read().directory.sites


def test_an_absence_is_noticed_though_nothing_happens_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    dc = Scripted()
    dc.sees_deleted, dc.there = False, [dc.site("Ulm"), dc.site("Bonn")]
    store = LdapDirectory("ldap://dc1", dc)  # type: ignore[arg-type]  # as above
    before = store.read()
    dc.usn, dc.there = 2, [dc.site("Bonn")]
    assert store.revision() == before.revision  # it does not look yet
    now += 61
    assert store.revision() != before.revision
    assert set(store.read().directory.sites) == {"bonn"}
    counted = store.revision()
    now += 61
    assert store.revision() == counted


def test_an_older_database_that_was_put_back_is_read_as_a_whole() -> None:
    dc = Scripted()
    dc.usn, dc.there = 9, [dc.site("Ulm")]
    store = LdapDirectory("ldap://dc1", dc)  # type: ignore[arg-type]  # as above
    before = store.read()
    dc.usn, dc.there = 5, [dc.site("Bonn")]
    after = store.read()
    assert set(after.directory.sites) == {"bonn"}
    assert after.revision != before.revision


@pytest.mark.parametrize(
    ("mode", "text", "right"),
    [(0o644, "secret\n", "everybody may read"), (0o600, "\nsecret\n", "is empty"), (None, "", "cannot be read")],
)
def test_a_password_file_that_cannot_be_right_is_named(
    settings: DirectorySettings, mode: int | None, text: str, right: str
) -> None:
    from casarray.adapters.stores.ldap_connection import password_of  # noqa: PLC0415 - only where python-ldap is

    path = Path(settings.password_file)
    if mode is None:
        path.unlink()
    else:
        path.write_text(text)
        path.chmod(mode)
    with pytest.raises(ConfigError, match=right):
        password_of(str(path))
