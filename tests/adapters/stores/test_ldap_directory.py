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

from casarray.adapters.stores.ldap_directory import open_ldap
from casarray.adapters.stores.ldap_names import Names
from casarray.core.config import Bind, DirectorySettings
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
