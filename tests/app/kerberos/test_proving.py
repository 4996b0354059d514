"""Every name asked for, every member asked, with a KDC and members in memory."""

from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import pytest
from tests.app.kerberos.fake_agents import NOW, FakeAgents
from tests.app.kerberos.fake_realm import FakeRealm

from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.app.directory import DirectoryService
from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.proving import THROUGH, Step, Verdict, Wish, failed, prove
from casarray.core.config import KerberosSettings
from casarray.core.directory.model import Array, Directory, Server, Site
from casarray.core.errors import NotFound
from casarray.core.kerberos.approach import Approach
from casarray.core.kerberos.encryption import Enctype
from casarray.core.kerberos.keys import Generation, Holding, Key
from casarray.core.kerberos.knocks import Heard, Outcome
from casarray.core.kerberos.proof import Got, NoTicket, Trouble
from casarray.core.kerberos.tickets import Ticket

FQDN = "cas.lab.example"
IMAP, SMTP = f"imap/{FQDN}", f"smtp/{FQDN}"
ADDRESSES = {"cas1": "10.0.0.1", "cas2": "10.0.0.2"}
TAKEN = Heard(Outcome.ACCEPTED, "in", by="someone")


@dataclass
class FakeKnocker:
    """Tickets of version 5 for every name, members that take them; or as a test says."""

    tickets: dict[str, Got | NoTicket] = field(default_factory=dict)
    answers: dict[tuple[str, str], Heard] = field(default_factory=dict)  # by address and service
    knocked: list[tuple[str, str, str]] = field(default_factory=list)
    owner: str = "alice@LAB.EXAMPLE"

    def get(self, name: str) -> Got | NoTicket:
        return self.tickets.get(name, Got(Ticket("LAB.EXAMPLE", tuple(name.split("/")), 18, 5)))

    def knock(self, way: Approach, name: str, host: str, address: str, seconds: float) -> Heard:
        assert (host, seconds) == (FQDN, 10.0)
        self.knocked.append((address, way.service, name))
        return self.answers.get((address, way.service), TAKEN)

    def forget(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is open."""


class Place:
    """An array with IMAP and SMTP on two members."""

    def __init__(self) -> None:
        self.knocker, self.realm, self.agents = FakeKnocker(), FakeRealm(), FakeAgents()
        servers = {n: Server(n, f"{n}.lab.example", "Lab", addresses=(ip_address(a),)) for n, a in ADDRESSES.items()}
        service = [{"name": "imap"}, {"name": "smtp"}]
        array = Array("CAS", FQDN, "Lab", (ip_address("10.0.0.100"),), {"service": service})
        directory = Directory(sites={"lab": Site("Lab")}, arrays={"cas": array}, servers=servers)
        self.settings = KerberosSettings(account="asa$")
        self.desk = Desk(
            DirectoryService(MemoryDirectory(directory), "admin"),
            lambda: self.settings,
            lambda: self.realm,
            lambda: self.agents,
        )
        self.told: list[Step] = []

    def prove(self, **wish: Any) -> tuple[Step, ...]:
        return prove(self.desk, self.knocker, Wish(**wish), self.told.append, lambda: NOW)

    def holds(self, server: str, version: int, enctype: Enctype = Enctype.AES256) -> None:
        key = Key(enctype, version, b"k" * 32)
        holding = Holding("asa$", "LAB.EXAMPLE", (IMAP, SMTP), (Generation(version, (key,), NOW),))
        self.agents.add(f"{server}.lab.example", holding)


@pytest.fixture
def place() -> Place:
    return Place()


def test_every_member_is_asked_for_every_name_by_its_own_services(place: Place) -> None:
    steps = place.prove()
    assert sorted(place.knocker.knocked) == [
        ("10.0.0.1", "imap", IMAP), ("10.0.0.1", "smtp", SMTP), ("10.0.0.2", "imap", IMAP), ("10.0.0.2", "smtp", SMTP),
    ]  # fmt: skip
    assert failed(steps) == ()
    assert tuple(place.told) == steps
    assert {s.mechanism for s in steps if s.what == "member"} == {"Kerberos"}


def test_the_array_itself_is_asked_when_somebody_wants_it(place: Place) -> None:
    steps = place.prove(through_array=True, server="CAS2", service="imap")
    assert sorted(place.knocker.knocked) == [("10.0.0.100", "imap", IMAP), ("10.0.0.2", "imap", IMAP)]
    assert {s.server for s in steps if s.what == "member"} == {THROUGH, "cas2"}


def test_a_stale_member_is_found_by_its_agent_though_its_services_say_nothing(place: Place) -> None:
    place.holds("cas1", 5)
    place.holds("cas2", 4)
    place.knocker.answers = {("10.0.0.2", s): Heard(Outcome.REFUSED, "NO") for s in ("imap", "smtp")}
    bad = failed(place.prove())
    assert {(s.what, s.server, s.service, s.trouble) for s in bad} == {
        ("agent", "cas2", "", Trouble.STALE), ("member", "cas2", "imap", Trouble.STALE),
        ("member", "cas2", "smtp", Trouble.STALE),
    }  # fmt: skip
    assert "it has version 4 aes256" in bad[0].text


def test_the_reason_that_one_service_gives_counts_for_the_member(place: Place) -> None:
    place.knocker.answers = {
        ("10.0.0.1", "imap"): Heard(Outcome.REFUSED, "NO"),
        ("10.0.0.1", "smtp"): Heard(Outcome.REFUSED, "no", code=37, server_time=NOW - 600),
    }
    bad = failed(place.prove())
    assert {(s.service, s.trouble) for s in bad} == {("imap", Trouble.CLOCK), ("smtp", Trouble.CLOCK)}
    assert "10 minutes behind" in next(s.text for s in bad if s.service == "smtp")


def test_a_missing_name_fails_alone_and_a_kdc_that_is_away_ends_the_test(place: Place) -> None:
    place.knocker.tickets[IMAP] = NoTicket(Trouble.MISSING_NAME, "not found")
    steps = place.prove()
    assert [(s.name, s.trouble) for s in failed(steps)] == [(IMAP, Trouble.MISSING_NAME)]
    assert {service for _, service, _ in place.knocker.knocked} == {"smtp"}
    place.knocker.knocked.clear()
    place.knocker.tickets[IMAP] = NoTicket(Trouble.KDC_UNREACHABLE, "nobody")
    assert [s.trouble for s in place.prove()] == [Trouble.KDC_UNREACHABLE]
    assert place.knocker.knocked == []


def test_rc4_and_who_is_not_let_in_are_warnings(place: Place) -> None:
    place.knocker.tickets[IMAP] = Got(Ticket("LAB.EXAMPLE", ("imap", FQDN), 23, 5))
    place.knocker.answers["10.0.0.1", "imap"] = Heard(Outcome.ACCEPTED, "no mailbox", let_in=False)
    steps = place.prove(service="imap", server="cas1")
    assert [(s.verdict, s.trouble) for s in steps] == [
        (Verdict.WARNING, Trouble.RC4), (Verdict.WARNING, Trouble.NOT_LET_IN),
    ]  # fmt: skip
    assert failed(steps) == ()


@pytest.mark.parametrize("wish", [{"array": "X"}, {"server": "x"}, {"service": "x"}])
def test_what_is_not_there_cannot_be_tested(place: Place, wish: dict[str, str]) -> None:
    with pytest.raises(NotFound):
        place.prove(**wish)


def test_an_address_is_told_from_a_name(place: Place) -> None:
    assert [s.trouble for s in place.prove(name="http/10.0.0.1")] == [Trouble.NOT_A_NAME]
