"""Rolls in Samba's Active Directory, with tickets of real clients; whoever rolls is killed by SIGKILL at every step."""

import secrets
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Domain, LabNames

from casarray.core.config import DirectorySettings, KerberosSettings
from casarray.core.kerberos.account import AccountKind
from casarray.core.kerberos.encryption import AES
from casarray.core.kerberos.principal import parse
from casarray.core.kerberos.roll_steps import Outcome
from casarray.lab import netns, samba_ad

pytest.importorskip("gssapi", reason="gssapi is not installed")
pytest.importorskip("casarray.adapters.kerberos.ad_realm", reason="python-ldap or krb5 is not installed")

from tests.peers.filed_members import At, Client, Mortal, Place

from casarray.adapters.kerberos.ad_realm import ActiveDirectoryRealm

REASON = netns.missing() or samba_ad.missing()
pytestmark = [
    pytest.mark.root,
    pytest.mark.samba,
    pytest.mark.timeout(180),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

SERVICE = "exchangeMDB/cas.lab.example"


class MortalDirectory(Mortal, ActiveDirectoryRealm):
    """Active Directory, which tells every moment."""


@pytest.fixture
def place(domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An account that was rolled once, and has the array's name since."""
    monkeypatch.setenv("KRB5RCACHETYPE", "none")
    settings = KerberosSettings(account="asa$", ccache=domain.settings().ccache)

    def open_(at: At) -> MortalDirectory:
        where, names = (f"ldap://{domain.dc.fqdn}",), LabNames(domain.controllers)
        found = MortalDirectory(where, settings, DirectorySettings(timeout=made.timeout), names)
        found.at = at
        return found

    made = Place(tmp_path, domain.dc.domain, settings, open_)
    realm = made.realm()
    try:
        realm.create("asa", AccountKind.COMPUTER, AES)
        first = made.roll()
        assert (first.outcome, first.warnings) == (Outcome.ROLLED, ())
        realm.change_names(realm.account("asa$"), [parse(SERVICE)], ())
    finally:
        realm.close()
    return made


@pytest.fixture
def client(domain: Domain) -> Callable[[str], Client]:
    """Makes somebody who gets a ticket now."""
    return lambda name: Client(domain.dc.ticket(name, domain.dc.add_user(name)), f"{SERVICE}@{domain.dc.realm}")


def test_tickets_of_before_a_roll_and_of_after_it_are_read_by_every_member(
    place: Place, client: Callable[[str], Client]
) -> None:
    before = client("before")
    place.read_by_all(before)
    report = place.roll(force=True)
    assert (report.outcome, report.code, report.warnings) == (Outcome.ROLLED, 0, ())
    assert [line.numbers for line in report.members] == [(report.before + 1, report.before)] * 3
    after = client("after")
    place.read_by_all(before)
    place.read_by_all(after)
    assert "was set" in place.roll().text


def test_a_roll_that_is_killed_at_any_step_locks_nobody_out_and_is_mended_by_running_again(
    place: Place, client: Callable[[str], Client]
) -> None:
    moments = ("before hold", "after hold", "before set", "after set", "before confirm", "after confirm")
    moments_of_all = [(moment, 1) for moment in moments] + [("after hold", 3), ("after confirm", 3), ("after prove", 2)]
    first = client("first")
    for number, (moment, nth) in enumerate(moments_of_all):
        before = place.number
        place.killed(moment, nth)
        was_set = place.number != before
        assert was_set == (moment in ("after set", "before confirm", "after confirm", "after prove")), moment
        newer = client(f"client{number}")
        place.read_by_all(first)
        place.read_by_all(newer)
        report = place.roll(force=not was_set)
        finished = (Outcome.FINISHED, Outcome.REFUSED) if was_set else (Outcome.ROLLED,)
        assert report.outcome in finished, (moment, report)
        assert place.number == before + 1
        assert all(line.numbers[0] == before + 1 for line in report.members)
        place.read_by_all(first)
        place.read_by_all(newer)
        first = newer


def test_an_unattended_roll_with_a_member_down_leaves_the_password_alone(
    place: Place, client: Callable[[str], Client]
) -> None:
    before = place.realm().account("asa$")
    place.silent.add("cas2.lab.example")
    report = place.roll(force=True)
    assert (report.outcome, report.code) == (Outcome.REFUSED, 1)
    assert "nothing was changed: cas2 is missing" in report.text
    assert place.realm().account("asa$") == before
    assert place.roll(force=True, left_out=("cas2",)).outcome is Outcome.ROLLED
    place.silent.clear()
    back = place.roll()
    assert back.outcome is Outcome.CAUGHT_UP
    place.read_by_all(client("new"))


def test_a_password_that_somebody_else_has_set_is_noticed(place: Place, client: Callable[[str], Client]) -> None:
    realm = place.realm()
    realm.set_password(realm.account("asa$"), f"aA1-{secrets.token_urlsafe(60)}")
    report = place.roll()
    assert report.outcome is Outcome.REFUSED
    assert "no member holds the key" in report.text
    assert place.roll(force=True).outcome is Outcome.ROLLED
    place.read_by_all(client("new"))


def test_a_controller_that_hangs_while_it_is_told_the_password_locks_nobody_out(
    place: Place, client: Callable[[str], Client], domain: Domain
) -> None:
    before = client("before")
    number = place.number
    hanging = domain.dc.frozen()

    def hang(moment: str) -> None:
        if moment == "before set":
            hanging.__enter__()

    place.at, place.timeout = hang, 1.0
    try:
        report = place.roll(force=True)
    finally:
        hanging.__exit__(None, None, None)
    assert (report.outcome, report.code) == (Outcome.UNFINISHED, 3)
    assert "is not known" in report.text
    place.at, place.timeout = (lambda _: None), 5.0
    until = time.monotonic() + 3
    while place.number == number and time.monotonic() < until:  # it may still do what it was asked, or never
        time.sleep(0.2)
    taken = place.number != number
    after = client("after")
    place.read_by_all(before)
    place.read_by_all(after)
    again = place.roll(force=not taken)
    assert again.outcome is (Outcome.FINISHED if taken else Outcome.ROLLED)
    assert place.number == number + 1
    place.read_by_all(after)
    place.read_by_all(client("last"))
