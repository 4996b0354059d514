"""Rolls that are killed at any call, and two at the same moment: nobody is locked out, and another run mends it."""

import pytest
from tests.app.kerberos.rolled import MEMBERS, Forest, Watched

from casarray.app.kerberos.order import Report
from casarray.core.kerberos.roll_steps import Outcome


class Killed(BaseException):
    """The process is no more."""


def test_somebody_who_gives_other_keys_in_the_very_last_moment_is_put_right() -> None:
    realm = Watched()
    forest = Forest(realm)

    def another(_: str) -> None:
        realm.look = lambda _: None
        realm.fail("set_password", Killed())  # type: ignore[arg-type]
        with pytest.raises(Killed):
            forest()

    realm.look = another
    assert forest().outcome is Outcome.ROLLED
    assert forest.is_right()


POINTS = [
    *((name, call, after) for name in MEMBERS for call in ("hold", "confirm") for after in (False, True)),
    *(("", call, after) for call in ("keys", "set_password", "prove", "last prove") for after in (False, True)),
]
"""Every call of a roll that does something, at whom, and whether it dies before or after it was done."""


@pytest.mark.parametrize("skips", [0, 1])
@pytest.mark.parametrize(("whose", "call", "after"), POINTS)
def test_a_roll_that_is_killed_anywhere_is_mended_by_running_again(
    whose: str, call: str, after: bool, skips: int
) -> None:
    realm = Watched()
    forest = Forest(realm)
    realm.skips = skips
    target = forest.member(whose) if whose else realm

    def kill(_: str = "") -> None:
        target.fail(call.removeprefix("last "), Killed(), after=after)  # type: ignore[arg-type]

    realm.look = kill if call.startswith("last") else lambda _: None
    if not call.startswith("last"):
        kill()
    with pytest.raises(Killed):
        forest()
    realm.look = lambda _: None
    assert forest.log.numbers == [14001, 14004]
    assert "it was broken off" in forest.log.lines[-1][1]
    assert forest.reads()
    number, was_right = forest.account.number, forest.is_right() and forest.account.number != 3
    report = forest()
    if number == 3:
        assert report.outcome is Outcome.ROLLED
    else:  # there is no second password
        assert forest.account.number == number == 4 + skips
        assert report.outcome is (Outcome.REFUSED if was_right else Outcome.FINISHED)
    assert forest.is_right()


def test_somebody_who_rolls_in_the_very_last_moment_loses_nobody_a_ticket() -> None:
    """A whole roll of somebody else between our check and our password."""
    realm = Watched()
    forest = Forest(realm)
    theirs: list[Report] = []

    def another(_: str) -> None:
        realm.look = lambda _: None
        theirs.append(forest())

    realm.look = another
    ours = forest()
    assert theirs[0].outcome is ours.outcome is Outcome.ROLLED
    assert forest.account.number == 5
    assert forest.is_right()
    assert all(forest.member(name).numbers("asa$") == (5, 4, 3) for name in MEMBERS), "no key that was used is lost"
