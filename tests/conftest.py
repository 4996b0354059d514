"""What tests of more than one folder share: a real domain controller, started once."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from casarray.adapters.stores.ldap_directory import LdapDirectory, open_ldap
from casarray.adapters.stores.ldap_names import Names
from casarray.core.config import DirectorySettings
from casarray.lab import mit_kdc, netns, samba_ad
from casarray.lab.mit_kdc import MitKdc
from casarray.lab.samba_ad import ADMINISTRATOR, DomainController

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in its background so, and every child would go on ignoring Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


#: Tests of real programs in real time. A machine that stands still for a second can fail any of them once, so they get
#: a second look, which the summary names; what is wrong fails twice (docs/decisions/0020).
REAL_TIME = ("gateway", "lab", "peers", "scenario", "adapters/kernel", "adapters/net", "contract")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark those tests, and put them last: while the types are checked beside, the others run."""
    here = Path(__file__).parent
    folders = tuple(here / folder for folder in REAL_TIME)
    late = {item for item in items if any(item.path.is_relative_to(folder) for folder in folders)}
    for item in late:
        item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=2))
    items.sort(key=late.__contains__)


class LabNames(Names):
    """Names of the lab: a test shares the host's resolver, which does not know them."""

    def __init__(self, controllers: Sequence[DomainController]) -> None:
        self._addresses = {dc.fqdn: [dc.address] for dc in controllers}
        self._domains = {dc.domain: [other.fqdn for other in controllers] for dc in controllers}

    def controllers(self, domain: str, seconds: float) -> list[str]:  # noqa: ARG002 - nobody is asked
        return self._domains.get(domain, [])

    def addresses(self, host: str) -> list[str]:
        return self._addresses.get(host, [])


class Domain:
    """The lab's domain, and the stores that a test opened in it."""

    def __init__(self, controller: DomainController) -> None:
        self.controllers = [controller]
        self.opened: list[LdapDirectory] = []

    @property
    def dc(self) -> DomainController:
        return self.controllers[0]

    def settings(self) -> DirectorySettings:
        """Log on as the administrator."""
        return DirectorySettings(ccache=self.dc.ticket(ADMINISTRATOR, self.dc.password), timeout=5.0)

    def open(self, *urls: str, settings: DirectorySettings | None = None, **changed: object) -> LdapDirectory:
        """The directory in it; settings otherwise than the administrator's by their names."""
        found = replace(settings or self.settings(), **changed)  # type: ignore[arg-type]  # as the test says
        self.opened.append(open_ldap(urls or (f"ldap://{self.dc.fqdn}",), found, LabNames(self.controllers)))
        return self.opened[-1]

    def close(self) -> None:
        while self.opened:
            self.opened.pop().close()


@pytest.fixture(scope="session")
def domain_controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DomainController]:
    """A domain controller whose schema knows what casarray keeps."""
    pytest.importorskip("ldap", reason="python-ldap is not installed (script/setup says what builds it)")
    if reason := netns.missing() or samba_ad.missing():
        pytest.skip(reason)
    with netns.Lab() as lab, DomainController(lab, tmp_path_factory.mktemp("dc")) as dc:
        dc.extend_schema()
        dc.keep()
        yield dc


@pytest.fixture(scope="session")
def mit_realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MitKdc]:
    """A real KDC of MIT Kerberos, with its administration server."""
    if reason := netns.missing() or mit_kdc.missing():
        pytest.skip(reason)
    with netns.Lab() as lab, MitKdc(lab, tmp_path_factory.mktemp("kdc")) as kdc:
        yield kdc


@pytest.fixture
def kdc(mit_realm: MitKdc, monkeypatch: pytest.MonkeyPatch) -> Iterator[MitKdc]:
    """It, empty again for each test, whose thread is in its network."""
    monkeypatch.setenv("KRB5_CONFIG", str(mit_realm.krb5_conf))
    monkeypatch.delenv("KRB5CCNAME", raising=False)
    with mit_realm.host.inside():
        yield mit_realm
    mit_realm.wipe()


@pytest.fixture
def domain(domain_controller: DomainController, monkeypatch: pytest.MonkeyPatch) -> Iterator[Domain]:
    """Its domain, empty again for each test, whose thread is in the domain's network."""
    monkeypatch.setenv("KRB5_CONFIG", str(domain_controller.krb5_conf))
    found = Domain(domain_controller)
    with domain_controller.host.inside():
        try:
            yield found
        finally:
            found.close()
            domain_controller.wipe()
