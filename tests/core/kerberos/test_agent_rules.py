"""What an agent decides: rights, and when its server should get no clients."""

import pytest

from casarray.core.errors import Denied
from casarray.core.kerberos.agent_messages import Op
from casarray.core.kerberos.agent_rules import MOST_SKEW, Seen, caught_up, check_right, holds, lacking, stale
from casarray.core.kerberos.encryption import Enctype
from casarray.core.kerberos.keys import Generation, Holding, Key

ADMINS, MEMBERS = ("admin@LAB.EXAMPLE",), ("CAS2$@LAB.EXAMPLE",)


def generation(number: int, *, principal: str = "", pending: bool = False) -> Generation:
    return Generation(number, (Key(Enctype.AES256, number, bytes(32), principal),), 0.0, pending)


def holding(*generations: Generation) -> Holding:
    return Holding("asa$", "LAB.EXAMPLE", ("http/cas.lab.example", "imap/cas.lab.example"), generations)


def ticket(version: int | None, name: str = "http/cas.lab.example") -> Seen:
    return Seen("asa$", name, version)


@pytest.mark.parametrize("op", list(Op))
def test_administrators_may_everything_whatever_the_capitals(op: Op) -> None:
    check_right("ADMIN@lab.example", op, ADMINS, MEMBERS)


def test_other_members_may_only_look_and_be_given_keys() -> None:
    allowed = set()
    for op in Op:
        try:
            check_right("cas2$@LAB.EXAMPLE", op, ADMINS, MEMBERS)
        except Denied:
            continue
        allowed.add(op)
    assert allowed == {Op.STATE, Op.GIVE}


@pytest.mark.parametrize("who", ["", "admin", "admin@OTHER.EXAMPLE", "cas2@LAB.EXAMPLE", "xadmin@LAB.EXAMPLE"])
def test_nobody_else_may_anything(who: str) -> None:
    for op in Op:
        with pytest.raises(Denied, match="administrators under"):
            check_right(who, op, ADMINS, MEMBERS)


def test_a_ticket_is_read_with_any_generation_also_the_one_to_come() -> None:
    held = holding(generation(5, pending=True), generation(4))
    assert [holds(held, ticket(version)) for version in (3, 4, 5, 6)] == [False, True, True, False]
    assert holds(held, ticket(0x0003_0004))  # by a read-only domain controller


def test_a_key_of_one_name_reads_no_ticket_for_another() -> None:
    held = holding(generation(4, principal="http/cas.lab.example"))
    assert holds(held, ticket(4))
    assert not holds(held, ticket(4, "imap/cas.lab.example"))


def test_no_ticket_says_nothing_of_the_keys() -> None:
    assert stale((holding(generation(4)),), (ticket(None),), None) == ()


def test_a_missed_roll_makes_stale_and_says_what_to_do() -> None:
    (said,) = stale((holding(generation(4)),), (ticket(5),), None)
    assert "key 5 of asa$" in said
    assert "--copy-from" in said


@pytest.mark.parametrize(("skew", "told"), [(None, 0), (MOST_SKEW - 1, 0), (MOST_SKEW + 1, 1), (-MOST_SKEW - 1, 1)])
def test_a_clock_that_is_far_off_makes_stale(skew: float | None, told: int) -> None:
    assert len(stale((), (), skew)) == told


def test_a_server_that_should_hold_keys_and_holds_none_is_stale() -> None:
    assert lacking((holding(generation(4)),), ("ASA$",)) == ()
    assert lacking((holding(generation(4, pending=True)),), ("asa$",)) == ("asa$",)
    (said,) = stale((), (), None, ("asa$",))
    assert "holds no keys of asa$" in said


def test_what_only_we_hold_stays_when_a_peer_helps() -> None:
    ours, theirs = holding(generation(4), generation(3)), holding(generation(5), generation(4))
    assert [one.number for one in caught_up(ours, theirs).generations] == [5, 4, 3]
