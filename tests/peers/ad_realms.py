"""The realm of the lab's Active Directory, opened for a test as its administrator or as somebody else."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.conftest import Domain, LabNames

from casarray.adapters.kerberos.ad_realm import ActiveDirectoryRealm
from casarray.core.config import DirectorySettings, KerberosSettings
from casarray.core.kerberos.principal import Spn, parse

COMPUTERS = "CN=Computers,DC=lab,DC=example"
Open = Callable[..., ActiveDirectoryRealm]


@contextmanager
def realms(domain: Domain) -> Iterator[Open]:
    """Opens realms: as the administrator, or as whoever's credentials cache is given."""
    opened: list[ActiveDirectoryRealm] = []

    def open_(ccache: str = "", timeout: float = 5.0) -> ActiveDirectoryRealm:
        settings = KerberosSettings(ccache=ccache or domain.settings().ccache)
        urls, directory = (f"ldap://{domain.dc.fqdn}",), DirectorySettings(timeout=timeout)
        opened.append(ActiveDirectoryRealm(urls, settings, directory, LabNames(domain.controllers)))
        return opened[-1]

    try:
        yield open_
    finally:
        for realm in opened:
            realm.close()
            realm.close()  # twice is once


def password() -> str:
    """One that nobody knows."""
    return f"aA1-{secrets.token_urlsafe(60)}"


def spns(*names: str) -> list[Spn]:
    """Names as they are written."""
    return [parse(name) for name in names]
