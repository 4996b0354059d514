"""Rolls in Samba's Active Directory over real agents: what they write to the disk reads the tickets of real clients."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Domain

from casarray.app.kerberos import member_keys
from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.order import Order, Report, Scope
from casarray.app.kerberos.rolling import roll
from casarray.core.kerberos.account import AccountKind
from casarray.core.kerberos.encryption import AES
from casarray.core.kerberos.principal import parse
from casarray.core.kerberos.roll_steps import Outcome
from casarray.lab import netns, samba_ad

pytest.importorskip("gssapi", reason="gssapi is not installed")
pytest.importorskip("casarray.adapters.kerberos.ad_realm", reason="python-ldap or krb5 is not installed")

import gssapi
from tests.peers.filed_members import Client

from casarray.adapters.kerberos.ad_realm import ActiveDirectoryRealm
from casarray.lab import rolling
from casarray.lab.agents import LabAgents

REASON = netns.missing() or samba_ad.missing()
pytestmark = [
    pytest.mark.root,
    pytest.mark.samba,
    pytest.mark.timeout(180),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

SERVICE = "exchangeMDB/cas.lab.example"
NAMES = rolling.names_of(3)
REPOSITORY = Path(__file__).parents[2]


class Place:
    """Members with agents, an account that was rolled once, and whoever rolls."""

    def __init__(self, domain: Domain, folder: Path, agents: LabAgents) -> None:
        self.domain, self.folder, self.agents = domain, folder, agents
        self.dc = domain.dc
        self.ccache = domain.settings().ccache
        self.addresses = rolling.addresses_of(NAMES, self.dc.domain)

    def desk(self) -> Desk:
        return rolling.desk(self.dc.fqdn, self.dc.address, self.ccache, NAMES, ActiveDirectoryRealm)

    def roll(self, **order: Any) -> Report:
        desk = self.desk()
        try:
            return roll(desk, Order(rolling.ACCOUNT, **order))
        finally:
            desk.close()

    @property
    def number(self) -> int:
        desk = self.desk()
        try:
            return desk.realm.account(rolling.ACCOUNT).number
        finally:
            desk.close()

    def killed(self, moment: str, nth: int) -> None:
        """A roll in a process of its own, which is killed there."""
        told = {
            "moment": moment, "nth": nth, "controller": self.dc.fqdn, "address": self.dc.address,
            "ccache": self.ccache, "names": NAMES, "addresses": self.addresses,
        }  # fmt: skip
        command = [sys.executable, "-m", "tests.peers.dying_roll", json.dumps(told)]
        done = subprocess.run(
            command, cwd=REPOSITORY, env=dict(os.environ), capture_output=True, text=True, check=False
        )
        assert done.returncode == -signal.SIGKILL, done.stderr

    def keytab(self, name: str) -> Path:
        return self.folder / f"{name}.{self.dc.domain}" / "array.keytab"

    def client(self, name: str) -> Client:
        return Client(self.dc.ticket(name, self.dc.add_user(name)), f"{SERVICE}@{self.dc.realm}")

    def read_by_all(self, *clients: Callable[[], bytes]) -> None:
        """Every keytab on the disk opens their tickets."""
        for name in NAMES:
            for client in clients:
                credentials = gssapi.Credentials(usage="accept", store={"keytab": str(self.keytab(name))})
                server = gssapi.SecurityContext(creds=credentials)
                server.step(client())
                assert server.complete, name


@pytest.fixture
def place(domain: Domain, tmp_path: Path) -> Iterator[Place]:
    with rolling.krb5_of(domain.dc):
        addresses = rolling.addresses_of(NAMES, domain.dc.domain)
        keytabs = rolling.join(domain.dc, NAMES, tmp_path)
        settings = rolling.agents_of(domain.dc, keytabs, addresses, tmp_path)
        with rolling.resolved(addresses), LabAgents(settings) as agents:
            made = Place(domain, tmp_path, agents)
            desk = made.desk()
            desk.realm.create("asa", AccountKind.COMPUTER, AES)
            assert made.roll().outcome is Outcome.ROLLED
            desk.realm.change_names(desk.realm.account("asa$"), [parse(SERVICE)], ())
            desk.close()
            yield made


def test_tickets_of_before_a_roll_and_of_after_it_are_read_by_every_member(place: Place) -> None:
    before = place.client("before")
    place.read_by_all(before)
    report = place.roll(force=True)
    assert (report.outcome, report.code, report.warnings) == (Outcome.ROLLED, 0, ())
    place.read_by_all(before, place.client("after"))
    for name in NAMES:
        assert place.keytab(name).stat().st_mode & 0o777 == 0o600


def test_a_roll_that_is_killed_locks_nobody_out_and_is_mended_by_running_again(place: Place) -> None:
    first = place.client("first")
    for moment, nth in (("after hold", 2), ("before set", 1), ("after set", 1), ("after confirm", 1)):
        before = place.number
        place.killed(moment, nth)
        was_set = place.number != before
        assert was_set == (moment in ("after set", "after confirm")), moment
        newer = place.client(f"after-{moment.replace(' ', '-')}")
        place.read_by_all(first, newer)
        report = place.roll(force=not was_set)
        finished = (Outcome.FINISHED, Outcome.REFUSED) if was_set else (Outcome.ROLLED,)  # all may have confirmed
        assert report.outcome in finished, (moment, report)
        assert place.number == before + 1
        assert {line.numbers[0] for line in report.members} == {before + 1}
        place.read_by_all(first, newer)
        first = newer


def test_a_member_that_is_down_is_noticed_and_catches_up_when_it_is_back(place: Place) -> None:
    before = place.number
    down = place.agents.stop("cas02.lab.example")
    refused = place.roll(force=True)
    assert (refused.code, place.number) == (1, before)
    assert "nothing was changed: cas02 is missing: the agent of cas02.lab.example cannot be reached" in refused.text
    assert place.roll(force=True, left_out=("cas02",)).outcome is Outcome.ROLLED
    place.agents.start(down)
    back = place.roll(copy_from="cas01", scope=Scope(servers=("cas02",)))
    assert (back.outcome, back.code) == (Outcome.CAUGHT_UP, 0)
    place.read_by_all(place.client("new"))


def test_the_keys_of_a_known_password_are_given_to_one_server(place: Place) -> None:
    desk, password = place.desk(), f"aA1-{secrets.token_urlsafe(60)}"
    account = desk.realm.set_password(desk.realm.account(rolling.ACCOUNT), password)
    server = next(one for share in desk.shares() for one in share.servers if one.name == "cas03")
    given = member_keys.keys_of_password(desk, "LAB\\asa$", password, time.time)
    assert (given.generation.number, given.generation.pending) == (account.number, False)
    member_keys.hold(desk, server, given)
    ours = member_keys.keys_of_password(desk, "LAB\\asa$", "another password", time.time).generation
    assert (ours.number, ours.pending) == (account.number + 1, True)
    desk.close()
    assert place.roll().text.endswith("or use --force"), "the others got them from that one"
    place.read_by_all(place.client("new"))
