"""Whole rolls in a real MIT realm, with members' agents in memory: what the KDC makes tickets with, all can read."""

from contextlib import suppress
from typing import Any

import pytest
from tests.app.kerberos.fake_agents import FakeAgents
from tests.app.kerberos.rolled import MEMBERS, Clockwork, Log
from tests.core.directory.example import ORGANISATION

from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.app.directory import DirectoryService
from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.order import Order, Report
from casarray.app.kerberos.rolling import roll
from casarray.core.config import KerberosSettings
from casarray.core.errors import Unavailable
from casarray.core.kerberos.account import AccountKind
from casarray.core.kerberos.encryption import AES
from casarray.core.kerberos.keytab import entries_of, read_keytab
from casarray.core.kerberos.principal import parse
from casarray.core.kerberos.roll_steps import Outcome
from casarray.lab.mit_kdc import ADMINISTRATOR, MitKdc

pytest.importorskip("krb5", reason="pykrb5 is not installed")
from casarray.adapters.kerberos.kadmin import Kadmin
from casarray.adapters.kerberos.mit_realm import MitRealm

pytestmark = pytest.mark.root

NAMES = tuple(parse(f"{service}/cas.domain.tld") for service in ("http", "exchangeMDB"))
PRINCIPALS = ("asa/casarray", "HTTP/cas.domain.tld", "exchangeMDB/cas.domain.tld", "http/cas.domain.tld")


class Broken(Exception):
    """The process is gone."""


class Site:
    """An array with three members and their shared account."""

    def __init__(self, kdc: MitKdc) -> None:
        self.kdc = kdc
        self.settings = KerberosSettings(account="asa", principal=ADMINISTRATOR, keytab=str(kdc.administrator))
        self.agents = FakeAgents()
        for name in MEMBERS:
            self.agents.add(f"{name}.domain.tld")
        self.now = 1_750_000_000.0

    def roll(self, **order: Any) -> Report:
        """One run, of a process of its own."""
        realm, log, timers = MitRealm(self.kdc.realm, self.settings), Log(), Clockwork()
        desk = Desk(
            DirectoryService(MemoryDirectory(ORGANISATION), "admin"),
            lambda: self.settings,
            lambda: realm,
            lambda: self.agents,
            events=lambda: log,
            timers=lambda: timers,
        )
        try:
            return roll(desk, Order("asa", **order), now=lambda: self.now, sleep=lambda _: None)
        finally:
            desk.close()

    def unreadable(self) -> set[str]:
        """What some member cannot read: "cas1 http/cas.domain.tld 3"."""
        shown = self.kdc.local(*(f"getprinc {name}" for name in PRINCIPALS)).split("Principal: ")
        giving = [text.partition("@")[0] for text in shown if "Attributes:" in text and "DISALLOW_ALL_TIX" not in text]
        path = self.kdc.folder / "private" / "found.keytab"
        path.unlink(missing_ok=True)
        self.kdc.local(*(f"ktadd -q -norandkey -k {path} {name}" for name in giving))
        found = read_keytab(path.read_bytes())
        assert {one.principal for one in found} == {f"{name}@{self.kdc.realm}" for name in giving}
        bad: set[str] = set()
        for name in MEMBERS:
            held = self.agents.members[f"{name}.domain.tld"].holdings.get("asa")
            keys = {(entry.identity, entry.key) for entry in (entries_of(held) if held else ())}
            bad |= {f"{name} {one.principal} {one.version}" for one in found if (one.identity, one.key) not in keys}
        return bad


@pytest.fixture
def site(kdc: MitKdc) -> Site:
    """Rolled twice: before there were names, and after."""
    site = Site(kdc)
    realm = MitRealm(kdc.realm, site.settings)
    made = realm.create("asa", AccountKind.COMPUTER, AES)
    assert site.roll().outcome is Outcome.ROLLED
    realm.change_names(made, NAMES, ())
    report = site.roll()
    assert (report.outcome, report.account.number) == (Outcome.ROLLED, 3)
    assert site.unreadable() == set()
    return site


def test_new_names_need_a_roll_and_no_force(site: Site) -> None:
    assert set(map(parse, site.roll(force=True).account.names)) == set(NAMES)
    site.now = MitRealm(site.kdc.realm, site.settings).account("asa").set_at or 0.0
    report = site.roll()
    assert (report.outcome, report.account.number) == (Outcome.REFUSED, 4)  # tickets from before still live
    assert site.unreadable() == set()


def test_every_member_reads_every_ticket_at_every_moment_of_a_roll(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, moments = Kadmin.ask, []

    def watched(self: Kadmin, *words: str) -> list[str]:
        answer = whole(self, *words)
        if words[0] in ("cpw", "setstr", "delstr"):
            moments.append((words[0], site.unreadable()))
        return answer

    monkeypatch.setattr(Kadmin, "ask", watched)
    assert site.roll(force=True).outcome is Outcome.ROLLED
    assert [what for what, _ in moments] == ["setstr", "cpw", "cpw", "cpw", "cpw", "delstr"]
    assert [bad for _, bad in moments if bad] == []


@pytest.mark.parametrize(
    ("lost", "step"), [(Broken("killed"), 3), (Unavailable("the line is gone"), 5)], ids=["killed", "lost"]
)
def test_a_roll_that_ends_anywhere_is_mended_by_running_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, lost: Exception, step: int
) -> None:
    whole, finished = Kadmin.ask, 0
    for reached in range(0, 200, step):
        left = [reached]

        def breaking(self: Kadmin, *words: str, left: list[int] = left) -> list[str]:
            left[0] -= 1
            if left[0] < 0:
                raise lost
            return whole(self, *words)

        monkeypatch.setattr(Kadmin, "ask", breaking)
        broken = True
        with suppress(Broken, Unavailable):
            broken = site.roll(force=True).outcome is not Outcome.ROLLED
        monkeypatch.setattr(Kadmin, "ask", whole)
        assert site.unreadable() == set(), reached
        if not broken:
            break
        again = site.roll(force=True)
        assert again.outcome in (Outcome.ROLLED, Outcome.FINISHED), (reached, again.text)
        assert site.unreadable() == set(), reached
        assert "unfinished" not in site.kdc.local("getstrs asa/casarray")
        assert {agent.holding("asa").generations[0].pending for agent in site.agents.members.values()} == {False}
        finished += again.outcome is Outcome.FINISHED
    else:
        pytest.fail("it never came through")
    assert finished >= 2
