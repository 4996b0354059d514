"""What one member holds goes to others: a new one, or one that was away. The realm is only asked."""

import pytest
from tests.app.kerberos.rolled import DAY, Forest

from casarray.app.kerberos.order import Scope
from casarray.app.kerberos.telling import MemberState
from casarray.core.errors import NotFound, Unavailable
from casarray.core.kerberos.roll_steps import Outcome


def test_what_one_member_holds_is_copied_to_others_without_touching_the_realm() -> None:
    forest = Forest()
    forest.member("cas2").drop("asa$")
    report = forest(copy_from="cas1", scope=Scope(servers=("cas2",)))
    assert (report.outcome, report.code, forest.log.numbers) == (Outcome.CAUGHT_UP, 0, [14001, 14002])
    assert forest.is_right()
    assert {call.split(" ")[0] for call in forest.realm.calls} == {"account", "prove"}
    assert forest.member("cas2").calls[-1] == "take asa$"
    assert "give asa$" in forest.member("cas1").calls


def test_copying_works_without_the_realm_and_says_what_was_not_seen() -> None:
    forest = Forest()
    forest.member("cas2").drop("asa$")
    forest.realm.fail("account", Unavailable("no controller answers"), times=9)
    report = forest(copy_from="cas1")
    assert report.code == 0
    assert "was not seen: no controller answers" in report.warnings[0]
    assert forest.log.numbers[-1] == 14003


def test_keys_that_the_directory_does_not_have_are_copied_only_by_force() -> None:
    forest = Forest()
    old = forest.holding()
    forest.realm.now += DAY
    forest()
    forest.member("cas1").put(old)
    refused = forest(copy_from="cas1")
    assert refused.code == 1
    assert "cas1 does not hold the key that the directory has (number 4)" in refused.text
    assert forest.is_right("cas2", "ber1")
    assert forest(copy_from="cas2").code == 0
    assert forest.is_right()


def test_whoever_cannot_be_given_a_copy_is_named() -> None:
    forest = Forest()
    forest.agents.silent.add("cas2.domain.tld")
    report = forest(copy_from="cas1")
    assert (report.outcome, report.code) == (Outcome.UNFINISHED, 3)
    assert {line.name: line.state for line in report.members}["cas2"] is MemberState.MISSING


def test_a_member_that_holds_nothing_cannot_be_copied_from() -> None:
    forest = Forest()
    forest.member("cas1").drop("asa$")
    with pytest.raises(NotFound, match="holds nothing"):
        forest(copy_from="cas1")
    assert forest.log.numbers == [14001, 14004]
