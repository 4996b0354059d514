"""Rolls in Samba's Active Directory, with tickets of real clients; whoever rolls is killed by SIGKILL at every step.

The members are files: they outlive whoever rolls, as agents do.
"""

import os
import pickle
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.app.kerberos.fake_agents import FakeMember
from tests.conftest import Domain, LabNames

from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.app.directory import DirectoryService
from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.order import Order, Report
from casarray.app.kerberos.ports import AgentState
from casarray.app.kerberos.rolling import roll
from casarray.core.config import DirectorySettings, KerberosSettings
from casarray.core.directory.model import Array, Directory, Server, Site
from casarray.core.errors import Unavailable
from casarray.core.kerberos.account import Account, AccountKind
from casarray.core.kerberos.encryption import AES
from casarray.core.kerberos.keys import Generation, Holding
from casarray.core.kerberos.keytab import entries_of, write_keytab
from casarray.core.kerberos.principal import parse
from casarray.core.kerberos.roll import Outcome
from casarray.lab import netns, samba_ad

gssapi = pytest.importorskip("gssapi", reason="gssapi is not installed")
pytest.importorskip("casarray.adapters.kerberos.ad_realm", reason="python-ldap or krb5 is not installed")

from casarray.adapters.kerberos.ad_realm import ActiveDirectoryRealm  # noqa: E402 - may be skipped

REASON = netns.missing() or samba_ad.missing()
pytestmark = [
    pytest.mark.root,
    pytest.mark.samba,
    pytest.mark.timeout(180),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

SERVICE = "exchangeMDB/cas.lab.example"
NAMES = ("cas1", "cas2", "cas3")
DIRECTORY = Directory("Lab").put(
    Site("Here"),
    Array("CAS", "cas.lab.example", "Here", (), {"profile": "exchange-2010"}),
    *(Server(name, f"{name}.lab.example", "Here") for name in NAMES),
)


class FiledMember(FakeMember):
    """An agent whose holding is in a file, and that tells when something begins and ends."""

    file: Path
    at: Callable[[str], None]

    def put(self, holding: Holding) -> None:
        super().put(holding)
        draft = self.file.with_name(f".{self.file.name}")
        draft.write_bytes(pickle.dumps(self.holdings))
        draft.replace(self.file)

    def hold(self, account: str, realm: str, names: Sequence[str], generation: Generation) -> AgentState:
        self.at("before hold")
        state = super().hold(account, realm, names, generation)
        self.at("after hold")
        return state

    def confirm(self, account: str, number: int, actual: int, lifetime: float) -> AgentState:
        self.at("before confirm")
        state = super().confirm(account, number, actual, lifetime)
        self.at("after confirm")
        return state


class Mortal(ActiveDirectoryRealm):
    """A realm that tells when something begins and ends."""

    at: Callable[[str], None]

    def set_password(self, account: Account, password: str) -> Account:
        self.at("before set")
        found = super().set_password(account, password)
        self.at("after set")
        return found

    def prove(self, account: Account, generation: Generation) -> str:
        said = super().prove(account, generation)
        self.at("after prove")
        return said


class Place:
    """Whoever rolls, in the domain."""

    def __init__(self, domain: Domain, folder: Path) -> None:
        self.domain, self.folder = domain, folder
        self.silent: set[str] = set()
        self.at: Callable[[str], None] = lambda _: None
        self.administrator = domain.settings().ccache

    def realm(self) -> Mortal:
        settings = KerberosSettings(ccache=self.administrator)
        where = (f"ldap://{self.domain.dc.fqdn}",)
        made = Mortal(where, settings, DirectorySettings(timeout=5.0), LabNames(self.domain.controllers))
        made.at = self.at
        return made

    def reach(self, host: str) -> FiledMember:
        if host in self.silent:
            raise Unavailable(f"the agent of {host} does not answer")
        member = FiledMember(host, time.time())
        member.file, member.at = self.folder / host, self.at
        if member.file.exists():
            member.holdings = pickle.loads(member.file.read_bytes())
        return member

    def roll(self, **order: object) -> Report:
        settings = KerberosSettings(account="asa$", ccache=self.administrator)
        service = DirectoryService(MemoryDirectory(DIRECTORY), "admin")
        desk = Desk(service, lambda: settings, self.realm, lambda: self)
        try:
            return roll(desk, Order("asa$", **order))  # type: ignore[arg-type]
        finally:
            desk.close()

    def killed(self, moment: str, nth: int = 1) -> None:
        """A roll in a process of its own, which is killed at the nth time of this moment."""
        seen = 0

        def die(now: str) -> None:
            nonlocal seen
            seen += now == moment
            if seen == nth:
                os.kill(os.getpid(), signal.SIGKILL)

        child = os.fork()
        if child == 0:
            try:
                self.at = die
                self.roll(force=True)
            finally:
                os._exit(7)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"it did not come to {moment}"

    def keytab(self, name: str) -> Path:
        """As the member's agent would write it."""
        path = self.folder / f"{name}.keytab"
        path.write_bytes(write_keytab(entries_of(self.reach(f"{name}.lab.example").holding("asa$"))))
        return path

    def read_by_all(self, token: Callable[[], bytes]) -> None:
        """Every member's keytab opens such a ticket."""
        for name in NAMES:
            credentials = gssapi.Credentials(usage="accept", store={"keytab": str(self.keytab(name))})
            server = gssapi.SecurityContext(creds=credentials)
            server.step(token())
            assert server.complete, name


class Client:
    """Somebody with a ticket for the array's name: it stays the same one."""

    def __init__(self, domain: Domain, name: str) -> None:
        self.cache = domain.dc.ticket(name, domain.dc.add_user(name))
        self()

    def __call__(self) -> bytes:
        """A token made with it."""
        credentials = gssapi.Credentials(usage="initiate", store={"ccache": self.cache})
        name = gssapi.Name(f"{SERVICE}@LAB.EXAMPLE", gssapi.NameType.kerberos_principal)
        token: bytes = gssapi.SecurityContext(
            name=name, creds=credentials, usage="initiate", mech=gssapi.MechType.kerberos
        ).step()
        return token


@pytest.fixture
def place(domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An account that was rolled once, and has the array's name since."""
    monkeypatch.setenv("KRB5RCACHETYPE", "none")
    made = Place(domain, tmp_path)
    realm = made.realm()
    try:
        realm.create("asa", AccountKind.COMPUTER, AES)
        first = made.roll()
        assert (first.outcome, first.warnings) == (Outcome.ROLLED, ())
        realm.change_names(realm.account("asa$"), [parse(SERVICE)], ())
    finally:
        realm.close()
    return made


def test_tickets_of_before_a_roll_and_of_after_it_are_read_by_every_member(place: Place) -> None:
    before = Client(place.domain, "before")
    place.read_by_all(before)
    report = place.roll(force=True)
    assert (report.outcome, report.code, report.warnings) == (Outcome.ROLLED, 0, ())
    assert [line.numbers for line in report.members] == [(report.before + 1, report.before)] * 3
    after = Client(place.domain, "after")
    place.read_by_all(before)
    place.read_by_all(after)
    assert "was set" in place.roll().text


def test_a_roll_that_is_killed_at_any_step_locks_nobody_out_and_is_mended_by_running_again(place: Place) -> None:
    moments = ("before hold", "after hold", "before set", "after set", "before confirm", "after confirm")
    moments_of_all = [(moment, 1) for moment in moments] + [("after hold", 3), ("after confirm", 3), ("after prove", 2)]
    client = Client(place.domain, "first")
    for number, (moment, nth) in enumerate(moments_of_all):
        before = place.realm().account("asa$").number
        place.killed(moment, nth)
        was_set = place.realm().account("asa$").number != before
        assert was_set == (moment in ("after set", "before confirm", "after confirm", "after prove")), moment
        newer = Client(place.domain, f"client{number}")
        place.read_by_all(client)
        place.read_by_all(newer)
        report = place.roll(force=not was_set)
        finished = (Outcome.FINISHED, Outcome.REFUSED) if was_set else (Outcome.ROLLED,)
        assert report.outcome in finished, (moment, report)
        assert place.realm().account("asa$").number == before + 1
        assert all(line.numbers[0] == before + 1 for line in report.members)
        place.read_by_all(client)
        place.read_by_all(newer)
        client = newer


def test_an_unattended_roll_with_a_member_down_leaves_the_password_alone(place: Place) -> None:
    before = place.realm().account("asa$")
    place.silent.add("cas2.lab.example")
    report = place.roll(force=True)
    assert (report.outcome, report.code) == (Outcome.REFUSED, 1)
    assert "nothing was changed: cas2 cannot be worked with" in report.text
    assert place.realm().account("asa$") == before
    assert place.roll(force=True, left_out=("cas2",)).outcome is Outcome.ROLLED
    place.silent.clear()
    back = place.roll()
    assert back.outcome is Outcome.CAUGHT_UP
    place.read_by_all(Client(place.domain, "new"))


def test_a_password_that_somebody_else_has_set_is_noticed(place: Place) -> None:
    realm = place.realm()
    realm.set_password(realm.account("asa$"), f"aA1-{secrets.token_urlsafe(60)}")
    report = place.roll()
    assert report.outcome is Outcome.REFUSED
    assert "no member holds the key" in report.text
    assert place.roll(force=True).outcome is Outcome.ROLLED
    place.read_by_all(Client(place.domain, "new"))
