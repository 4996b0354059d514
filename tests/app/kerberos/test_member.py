"""The member's side without a realm: what it keeps when something fails, and when it says that it is stale."""

from collections.abc import Sequence
from typing import Any

import pytest

from casarray.app.kerberos.member import Member
from casarray.core.errors import NotFound, Unavailable
from casarray.core.kerberos.agent_config import AgentSettings
from casarray.core.kerberos.agent_messages import Op, Request
from casarray.core.kerberos.agent_rules import Seen
from casarray.core.kerberos.encryption import Enctype
from casarray.core.kerberos.keys import Generation, Holding, Key

NAME, REALM, ADMIN = "http/cas.lab.example", "LAB.EXAMPLE", "admin@LAB.EXAMPLE"


def generation(number: int, pending: bool = False, until: float | None = None) -> Generation:
    return Generation(number, (Key(Enctype.AES256, number, bytes([number]) * 32),), 1.0, pending, until)


def holding(*generations: Generation, account: str = "asa$") -> Holding:
    return Holding(account, REALM, (NAME,), generations)


class World:
    """Vault, keytabs, realm and peers in memory."""

    def __init__(self, *held: Holding, accounts: tuple[str, ...] = ()) -> None:
        self.vault: tuple[Holding, ...] = held
        self.keytabs: tuple[Holding, ...] = ()
        self.full = self.stuck = False
        self.now = 100.0
        self.ticket: Seen = Seen("asa$", NAME, 3)
        self.off: float | None = None
        self.peers: dict[str, Holding] = {}
        self.member = Member(
            AgentSettings(
                (ADMIN,),
                fqdn="cas1.lab.example",
                peers=("cas2", "cas3"),
                members=("CAS2$@LAB.EXAMPLE",),
                accounts=accounts,
            ),
            "1",
            vault=_Vault(self),
            keytabs=_Keytabs(self),
            tickets=_Tickets(self),
            fetch=self.fetch,
            now=lambda: self.now,
        )

    def fetch(self, peer: str, account: str) -> Holding:
        if peer not in self.peers:
            raise NotFound(f"{peer} holds nothing of {account}")
        return self.peers[peer]

    def ask(self, op: Op, who: str = ADMIN, **rest: Any) -> str:
        """The kind of its error; empty if all is well."""
        return self.member.answer(who, Request(op, "asa$", REALM, (NAME,), **rest)).kind

    @property
    def numbers(self) -> list[int]:
        return [one.number for one in self.member.holdings[0].generations]


class _Vault:
    def __init__(self, world: World) -> None:
        self.world = world

    def read(self) -> tuple[Holding, ...]:
        return self.world.vault

    def write(self, holdings: tuple[Holding, ...]) -> None:
        if self.world.full:
            raise Unavailable("the disk is full")
        self.world.vault = holdings


class _Keytabs:
    def __init__(self, world: World) -> None:
        self.world = world

    def write(self, holdings: Sequence[Holding]) -> tuple[str, ...]:
        if self.world.stuck:
            raise Unavailable("the keytab cannot be written")
        self.world.keytabs = tuple(holdings)
        return ("/etc/array.keytab",)


class _Tickets:
    def __init__(self, world: World) -> None:
        self.world = world

    def seen(self, holding: Holding) -> Seen:
        assert holding.names
        return self.world.ticket

    def skew(self) -> float | None:
        return self.world.off


def test_keys_that_cannot_be_kept_change_nothing() -> None:
    world = World(holding(generation(3)))
    world.full = True
    assert world.ask(Op.HOLD, generation=generation(4)) == "Unavailable"
    assert world.numbers == [3]
    world.full, world.stuck = False, True
    assert world.ask(Op.HOLD, generation=generation(4)) == "Unavailable"
    assert world.numbers == [3]
    assert world.vault == world.member.holdings


def test_a_crash_between_vault_and_keytab_is_mended_by_the_next_check() -> None:
    world = World(holding(generation(4), generation(3)))
    assert world.keytabs == ()
    world.member.check()
    assert world.keytabs == world.vault


def test_a_server_without_the_ticket_s_key_is_stale_until_it_has_it() -> None:
    world = World(holding(generation(2)))
    assert world.member.check().stale
    assert world.member.state().stale
    world.ask(Op.HOLD, generation=generation(4, pending=True))
    assert world.member.state().stale, "not the key of the ticket"
    world.ask(Op.HOLD, generation=generation(3))
    assert world.member.state().stale == ()


def test_a_realm_that_cannot_be_asked_makes_nobody_stale_and_nobody_well() -> None:
    world = World(holding(generation(3)))
    silent = Seen("asa$", NAME, None, "the realm is away")
    world.ticket = silent
    assert world.member.check().stale == ()
    assert world.member.health.unknown == ("the realm is away",)
    world.ticket = Seen("asa$", NAME, 9)
    assert world.member.check().stale
    world.ticket = silent
    assert world.member.check().stale
    world.ticket = Seen("asa$", NAME, None, "no account has the name", nobody=True)
    assert world.member.check().stale == (), "nobody comes with tickets"


def test_a_clock_that_is_far_off_is_stale() -> None:
    world = World(holding(generation(3)))
    world.off = -301.0
    assert "more than 5 minutes" in world.member.check().stale[0]


def test_it_catches_up_from_the_first_peer_that_has_the_key_and_loses_none_of_its_own() -> None:
    world = World(holding(generation(1)), holding(generation(7), account="other$"))
    world.peers = {"cas2": holding(generation(2)), "cas3": holding(generation(3), generation(2))}
    assert world.member.check().stale == ()
    assert world.numbers == [3, 2, 1]
    assert world.keytabs == world.vault


def test_a_server_that_should_hold_keys_gets_no_clients_before_a_peer_has_given_them() -> None:
    world = World(accounts=("asa$",))
    assert "holds no keys of asa$" in world.member.health.stale[0], "before the first check already"
    assert world.member.check().stale
    world.peers = {"cas3": holding(generation(3))}
    assert world.member.check().stale == ()
    assert world.numbers == [3]


def test_a_peer_that_answers_with_another_account_is_not_believed() -> None:
    other = holding(generation(7), account="other$")
    world = World(holding(generation(1)), other)
    world.peers = {"cas2": holding(generation(3), account="other$")}
    assert world.member.check().stale
    assert world.member.holdings == (holding(generation(1)), other)


def test_generations_whose_tickets_have_ended_go() -> None:
    world = World(holding(generation(3), generation(2, until=150.0), generation(1, until=90.0)))
    world.member.check()
    assert world.numbers == [3, 2]
    world.now = 151.0
    world.member.check()
    assert world.numbers == [3]
    assert world.vault == world.member.holdings


def test_a_generation_is_confirmed_once_however_often_it_is_said() -> None:
    world = World(holding(generation(3)))
    assert world.ask(Op.HOLD, generation=generation(4, pending=True)) == ""
    for _ in range(2):
        assert world.ask(Op.CONFIRM, number=4, actual=5, lifetime=10.0) == ""
        assert world.numbers == [5, 3]
    assert world.member.holdings[0].generations[1].until == 110.0
    assert world.ask(Op.CONFIRM, number=8, actual=8, lifetime=10.0) == "NotFound"


@pytest.mark.parametrize("op", Op)
def test_who_may_do_what(op: Op) -> None:
    rest = {"generation": generation(4), "number": 3, "actual": 3, "holding": holding(generation(3))}
    for who, may in ((ADMIN, True), ("cas2$@lab.example", op in (Op.STATE, Op.GIVE)), ("x@LAB.EXAMPLE", False)):
        assert (World(holding(generation(3))).ask(op, who, **rest) == "Denied") is not may


def test_a_change_that_names_no_account_is_a_conflict() -> None:
    assert World().member.answer(ADMIN, Request(Op.HOLD, generation=generation(1))).kind == "Conflict"
