"""Rolls that are killed at any call, and two at the same moment: nobody is locked out, and another run mends it."""

from dataclasses import replace

import pytest
from tests.app.kerberos.fake_realm import NOW
from tests.app.kerberos.rolled import DAY, MEMBERS, Forest, Watched

from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.order import Order, Report
from casarray.app.kerberos.rolling import roll
from casarray.core.kerberos.account import Account
from casarray.core.kerberos.keys import Generation
from casarray.core.kerberos.roll_steps import Outcome


class Killed(BaseException):
    """The process is no more."""


def test_somebody_who_gives_other_keys_in_the_very_last_moment_is_put_right() -> None:
    realm = Watched()
    forest = Forest(realm)

    def another(_: str) -> None:
        realm.look = lambda _: None
        realm.fail("set_password", Killed())  # type: ignore[arg-type]  # no error but a kill, which is to pass through
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
        target.fail(call.removeprefix("last "), Killed(), after=after)  # type: ignore[arg-type]  # no error but a kill, which is to pass through

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


def test_of_several_controllers_one_that_has_not_heard_of_a_broken_off_roll_is_given_time() -> None:
    """Killed after the password was set; run again on a controller, and with a KDC, that have not heard of it."""

    class Late(Watched):
        lags = False

        def account(self, name: str) -> Account:
            found = super().account(name)
            return replace(found, number=3, set_at=NOW - 30 * DAY) if self.lags else found

        def prove(self, account: Account, generation: Generation) -> str:
            if self.lags:
                return "" if generation.keys == old else "these are not my keys"
            return super().prove(account, generation)

    realm = Late()
    forest = Forest(realm)
    old = realm.kdc_keys("asa$")
    settings = replace(forest.desk.settings, realm=("ldap://dc1.lab.example", "ldap://dc2.lab.example"))
    realm.look = lambda _: None
    forest.member("cas1").fail("confirm", Killed())  # type: ignore[arg-type]  # no error but a kill, which is to pass through
    forest.member("cas2").fail("confirm", Killed())  # type: ignore[arg-type]  # no error but a kill, which is to pass through
    forest.member("ber1").fail("confirm", Killed())  # type: ignore[arg-type]  # no error but a kill, which is to pass through
    with pytest.raises(Killed):
        forest()
    realm.lags = True
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        realm.lags = False

    desk = Desk(forest.desk.directory, lambda: settings, lambda: realm, lambda: forest.agents)
    assert roll(desk, Order("asa$"), now=lambda: NOW + 1, sleep=sleep).outcome is Outcome.FINISHED
    assert waited == [59.0]
    assert forest.account.number == 4
    assert forest.is_right()
