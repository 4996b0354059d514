"""A roll over members and a realm from memory: what each is told and in which order, and what becomes of failures."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.app.kerberos.fake_realm import NOW, FakeRealm
from tests.app.kerberos.rolled import DAY, MEMBERS, SPN, Forest, Watched, Watcher

from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.order import Order, Report, Scope
from casarray.app.kerberos.rolling import new_password, roll
from casarray.app.kerberos.telling import MemberState
from casarray.core.errors import Denied, NotFound, Unavailable
from casarray.core.kerberos.account import Account, AccountKind
from casarray.core.kerberos.keys import Generation, Key
from casarray.core.kerberos.roll import numbered
from casarray.core.kerberos.roll_steps import Outcome


def states(report: Report) -> dict[str, MemberState]:
    return {line.name: line.state for line in report.members}


def calls(forest: Forest, name: str) -> list[str]:
    return [call.split(" ")[0] for call in forest.member(name).calls]


def test_every_member_has_the_old_and_the_new_keys_before_the_directory_has_the_password() -> None:
    realm = Watched()
    forest, watch = Forest(realm), Watcher()
    seen: list[tuple[int, ...]] = []
    realm.look = lambda _: seen.extend(forest.member(name).numbers("asa$") for name in MEMBERS)
    report = forest(watch)
    assert seen == [(4, 3)] * 3
    assert (report.outcome, report.code, report.before, report.account.number) == (Outcome.ROLLED, 0, 3, 4)
    assert forest.is_right()
    assert calls(forest, "cas2") == ["state", "hold", "state", "confirm"]
    assert states(report) == dict.fromkeys(MEMBERS, MemberState.CONFIRMED)
    assert [line.numbers for line in report.members] == [(4, 3)] * 3
    assert forest.log.numbers == [14001, 14002]
    assert watch.asked == []
    assert watch.phases == [
        "asking the members what they hold",
        "giving every member the new keys",
        "every member confirms the old and the new keys",
        "setting the password in the directory",
        "confirming key 4",
        "getting a ticket with the new keys",
    ]
    assert all(member.closed for member in forest.agents.members.values())


def test_the_password_is_told_to_the_realm_alone() -> None:
    realm = Watched()
    forest, watch = Forest(realm), Watcher()
    heard: list[str] = []
    realm.look = heard.append
    report = forest(watch)
    (password,) = heard
    said = [*watch.phases, *watch.heard, str(report), repr(report), *map(str, forest.log.lines)]
    said += [call for member in forest.agents.members.values() for call in member.calls]
    assert all(password not in line for line in said)
    assert len(password) >= 73


def test_a_password_is_long_enough_for_exchange_and_of_all_kinds() -> None:
    made = {new_password() for _ in range(50)}
    assert len(made) == 50
    for password in made:
        assert len(password) == 97
        assert password[0].isalpha()
        assert password.isascii()
        assert not set(password) & set("\"'\\ $`!")
        assert any(map(str.isdigit, password))
        assert any(map(str.islower, password))
        assert any(map(str.isupper, password))


def test_members_read_tickets_for_names_that_the_arrays_want_and_the_directory_does_not_have_yet() -> None:
    forest = Forest()
    forest()
    names = forest.member("cas1").holding("asa$").names
    assert SPN in names
    assert "exchangeAB/cas.domain.tld" in names
    assert len(names) == len(set(names))


def test_an_unattended_roll_with_a_member_missing_changes_nothing_and_says_who() -> None:
    forest = Forest()
    forest.agents.silent.add("cas2.domain.tld")
    report = forest()
    assert report.code == 1
    assert report.text.startswith("nothing was changed: cas2 is missing: the agent of cas2.domain.tld does")
    assert forest.is_as_before()
    assert states(report)["cas2"] is MemberState.MISSING
    assert states(report)["cas1"] is MemberState.UNCHANGED
    assert forest.log.numbers == [14001, 14004]
    assert not any(call.startswith(("set_password", "keys")) for call in forest.realm.calls)


def test_an_attended_roll_asks_and_goes_on_without_the_missing_or_does_not() -> None:
    forest, no = Forest(), Watcher(False)
    forest.agents.silent.add("cas2.domain.tld")
    assert forest(no, attended=True).text == "the password was not changed, because nobody agreed to go on."
    assert forest.is_as_before()
    yes = Watcher(True)
    report = forest(yes, attended=True)
    assert (report.outcome, report.code) == (Outcome.ROLLED, 0)
    assert len(yes.asked) == 1
    assert forest.is_right("cas1", "ber1")
    assert "cas2 was left out" in report.warnings[0]
    assert forest.log.numbers[-1] == 14003
    assert forest.log.lines[-1][1].startswith(
        r"LAB\asa$ has a new password, and every member that takes part has key 4. "
    )
    assert "key 4. cas2 was left out: it is missing: the agent of" in forest.log.lines[-1][1]


def test_a_long_dead_member_is_named_and_not_fatal_when_it_is_left_out() -> None:
    forest = Forest()
    forest.agents.silent.add("cas2.domain.tld")
    report = forest(left_out=("CAS2",))
    assert (report.outcome, report.code, forest.log.numbers) == (Outcome.ROLLED, 0, [14001, 14003])
    assert states(report)["cas2"] is MemberState.LEFT_OUT
    assert forest.is_right("cas1", "ber1")
    # it comes back, and the next run gives it what it lacks although no new password is due
    forest.agents.silent.clear()
    back = forest()
    assert (back.outcome, back.code) == (Outcome.CAUGHT_UP, 0)
    assert "cas2 lacked the keys that the directory has, and got them" in back.warnings
    assert forest.is_right()


def test_a_member_that_is_left_out_and_answers_takes_part_all_the_same() -> None:
    forest = Forest()
    forest(left_out=("cas2",))
    assert forest.is_right()


def test_nobody_can_be_left_out_who_is_no_member() -> None:
    forest = Forest()
    with pytest.raises(NotFound, match="cas9 is no member"):
        forest(left_out=("cas9",))
    assert forest.log.numbers == [14001, 14004]


@pytest.mark.parametrize("call", ["hold", "state"])
def test_a_member_that_fails_after_others_have_the_new_keys_ends_an_unattended_roll(call: str) -> None:
    forest = Forest()
    wrong = Denied("the disk of cas2 is full: make room")
    forest.member("cas2").fail(call, wrong)
    report = forest()
    assert report.code == 1
    assert "cas2 failed: the disk of cas2 is full" in report.text
    assert forest.account.number == 3
    assert ("New keys lie pending on ber1, cas1" in report.text) == (call == "hold")
    assert forest().outcome is Outcome.ROLLED
    assert forest.is_right()


def test_a_member_whose_line_is_lost_once_is_dialled_again() -> None:
    forest = Forest()
    for call in ("state", "hold", "confirm"):
        forest.member("cas1").fail(call, Unavailable("the line was lost"), after=call == "confirm")
        if call == "state":  # the very first call has no line before it that could have been lost
            assert forest().code == 1
        else:
            assert forest(force=True).outcome is Outcome.ROLLED
            assert forest.is_right()


def test_a_member_that_does_not_confirm_is_told_of_and_finished_by_the_next_run() -> None:
    forest = Forest()
    forest.member("cas2").fail("confirm", Denied("not now"))
    report = forest()
    assert (report.outcome, report.code, forest.log.numbers[-1]) == (Outcome.UNFINISHED, 3, 14003)
    assert "not every member has confirmed it: cas2" in report.text
    assert forest.reads()
    again = forest()
    assert (again.outcome, again.code) == (Outcome.FINISHED, 0)
    assert forest.is_right()
    assert forest.account.number == 4


def test_a_number_that_was_skipped_is_learned_by_every_member() -> None:
    forest = Forest()
    forest.realm.skips = 5
    assert forest().outcome is Outcome.ROLLED
    assert forest.account.number == 9
    assert forest.is_right()


@pytest.mark.parametrize("taken", [False, True])
def test_an_answer_that_was_lost_is_asked_for_again(taken: bool) -> None:
    forest = Forest()
    forest.realm.fail("set_password", Unavailable("the controller is gone"), after=taken)
    report = forest()
    if taken:
        assert report.outcome is Outcome.ROLLED
        assert forest.is_right()
    else:
        assert (report.outcome, report.code) == (Outcome.REFUSED, 1)
        assert "the realm did not take it: the controller is gone" in report.text
        assert "pending" in report.text
    assert forest.reads()


def test_when_the_realm_never_answers_again_nobody_notices_and_another_run_finishes_it() -> None:
    realm = Watched()
    forest = Forest(realm)
    realm.fail("set_password", Unavailable("the controller is gone"), after=True)
    realm.look = lambda _: realm.fail("account", Unavailable("no controller answers"), times=3)
    report = forest()
    assert (report.outcome, report.code) == (Outcome.UNFINISHED, 3)
    assert "is not known: no controller answers" in report.text
    assert forest.reads()
    assert forest().outcome is Outcome.FINISHED
    assert forest.is_right()


def test_a_password_that_somebody_else_has_set_meanwhile_stays() -> None:
    forest, watch = Forest(), Watcher()
    theirs: list[Report] = []

    def phase(text: str, _members: Sequence[str]) -> None:
        if text.startswith("setting") and not theirs:
            theirs.append(forest())

    watch.phase = phase  # type: ignore[method-assign, assignment]  # the test listens in
    ours = forest(watch)
    assert theirs[0].outcome is Outcome.ROLLED
    assert (ours.outcome, ours.code) == (Outcome.REFUSED, 1)
    assert "somebody else has set one meanwhile, under the number 4" in ours.text
    assert forest.is_right()


def test_a_controller_that_has_not_heard_of_the_password_yet_is_not_believed() -> None:
    class Lagging(FakeRealm):
        lags = False

        def account(self, name: str) -> Account:
            found = super().account(name)
            return replace(found, number=3, set_at=NOW - 30 * DAY) if self.lags else found

        def prove(self, account: Account, generation: Generation) -> str:
            return super().prove(
                account, numbered(generation, self.accounts["asa"].number)
            )  # a KDC does not look at the number

    realm = Lagging()
    forest, watch = Forest(realm), Watcher()
    realm.fail("set_password", Unavailable("the controller is gone"), after=True)
    realm.lags = True
    report = forest(watch)
    assert (report.outcome, report.code) == (Outcome.UNFINISHED, 3)
    assert "does not show it yet" in report.text
    again = forest()
    assert (again.outcome, again.code) == (Outcome.REFUSED, 1)
    assert "lags behind" in again.text
    assert all(forest.member(name).numbers("asa$") == (4, 3) for name in MEMBERS), "the old key is still there"
    realm.lags = False
    assert forest().outcome is Outcome.FINISHED
    assert forest.is_right()


def test_a_password_that_is_refused_changes_nothing() -> None:
    forest = Forest()
    forest.realm.fail("set_password", Denied("the right Reset Password is missing"))
    report = forest()
    assert sum(call.startswith("prove") for call in forest.realm.calls) == 1, "a wrong key is a failed logon"
    assert report.text.startswith(
        r"the password of LAB\asa$ was not changed: the realm did not take it: the right Reset Password is missing. "
        "New keys lie pending on"
    )
    assert forest.reads()


def test_wrong_salts_are_found_when_a_ticket_is_got_and_what_cannot_be_mended_is_said() -> None:
    forest = Forest()
    realm = Watched()
    forest = Forest(realm)
    realm.look = lambda _: setattr(realm, "salt", "renamed")
    report = forest()
    assert (report.outcome, report.code) == (Outcome.UNFINISHED, 3)
    assert "its salt, or its password, is another" in report.text


def test_a_kdc_that_has_not_heard_of_the_password_yet_is_asked_again() -> None:
    class Behind(Watched):
        times = 0

        def prove(self, account: Account, generation: Generation) -> str:
            self.times -= 1
            return "these are not my keys" if self.times > 0 else super().prove(account, generation)

    realm = Behind()
    forest, watch = Forest(realm), Watcher()
    realm.look = lambda _: setattr(realm, "times", 3)
    assert forest(watch).outcome is Outcome.ROLLED
    assert forest.is_right()
    assert any("does not know the new keys yet" in text for text in watch.phases)


def test_wrong_salts_are_mended_when_the_realm_tells_the_right_one_afterwards() -> None:
    class Renamed(Watched):
        def keys(self, account, password, encryption):  # type: ignore[no-untyped-def]  # as in the class above
            return self._derived(self._of("asa"), password, encryption, account.number + 1, self.salt)

    realm = Renamed()
    forest = Forest(realm)
    realm.look = lambda _: setattr(realm, "salt", "renamed")
    assert forest().outcome is Outcome.ROLLED
    assert forest.is_right()


def test_a_realm_that_refuses_to_prove_after_the_password_is_set_leaves_it_to_another_run() -> None:
    realm = Watched()
    forest = Forest(realm)
    realm.look = lambda _: realm.fail("prove", NotFound("the KDC knows no asa$"))
    report = forest()
    assert (report.outcome, report.code, forest.log.numbers[-1]) == (Outcome.UNFINISHED, 3, 14003)
    assert "the KDC knows no asa$. Run again" in report.text
    assert forest.is_right(), "they were told before"


def test_a_password_is_not_rolled_again_within_the_life_of_a_ticket() -> None:
    forest = Forest()
    forest()
    forest.realm.now += 3600
    report = forest()
    assert report.code == 1
    assert "was set 1h ago" in report.text
    assert forest.account.number == 4
    assert forest(force=True).outcome is Outcome.ROLLED
    assert forest.is_right()


def test_what_a_schedule_runs_every_day_rolls_only_what_is_old() -> None:
    forest = Forest()
    assert forest(not_before=31 * DAY).outcome is Outcome.NOT_DUE
    assert forest(not_before=29 * DAY).outcome is Outcome.ROLLED


def test_a_realm_that_says_no_after_it_has_done_it_is_not_believed() -> None:
    forest = Forest()
    forest.realm.fail("set_password", Denied("the second of two principals may not be changed"), after=True)
    assert forest().outcome is Outcome.ROLLED
    assert forest.is_right()


def test_the_first_roll_of_an_account_without_names_needs_no_force() -> None:
    forest = Forest(held=False)
    forest.realm.put(replace(forest.account, names=(), set_at=NOW))
    assert forest().outcome is Outcome.ROLLED
    assert forest.is_right()


def test_the_first_roll_of_an_account_with_names_is_forced_knowing_what_fails() -> None:
    forest = Forest(held=False)
    report = forest()
    assert report.code == 1
    assert "no member holds the key" in report.text
    assert forest(force=True).outcome is Outcome.ROLLED
    assert forest.is_right()


def test_keys_of_a_member_that_are_not_the_directorys_are_no_old_keys() -> None:
    forest = Forest()
    forest.realm.set_password(forest.account, "somebody else's")
    forest.realm.now += DAY
    report = forest()
    assert report.code == 1
    assert "no member holds the key that LAB\\asa$ has now (number 4)" in report.text
    assert forest(force=True).outcome is Outcome.ROLLED


@pytest.mark.parametrize(
    ("changed", "why"),
    [({"enabled": False}, "is disabled"), ({"kind": AccountKind.GROUP_MANAGED}, "changes its password by itself")],
)
def test_an_account_that_breaks_the_rules_is_not_rolled(changed: dict[str, object], why: str) -> None:
    forest = Forest()
    forest.realm.put(replace(forest.account, **changed))  # type: ignore[arg-type]  # by names that the test gives
    report = forest()
    assert report.code == 1
    assert why in report.text
    assert forest.is_as_before()


def test_members_of_other_arrays_with_this_account_are_not_forgotten() -> None:
    forest = Forest()
    report = forest(scope=Scope(arrays=("cas",)))
    assert report.text.startswith("nothing was changed: ber1 uses this account and is none of the targets")
    assert forest(scope=Scope(servers=("cas1.domain.tld", "cas2")), left_out=("ber1",)).outcome is Outcome.ROLLED
    assert forest.is_right("cas1", "cas2")
    assert forest.agents.reached.count("ber1.domain.tld") == 0


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        (Scope(arrays=("XYZ",)), "the array XYZ does not use the account asa$; those that do: BER, CAS"),
        (
            Scope(servers=("mbx1",)),
            "mbx1 is no member of an array with the account asa$; its members: ber1, cas1, cas2",
        ),
    ],
)
def test_targets_that_are_none_are_named(scope: Scope, said: str) -> None:
    with pytest.raises(NotFound) as refused:
        Forest()(scope=scope)
    assert str(refused.value) == said


@pytest.mark.parametrize("configured", ["asa", "asa$", "ASA$"])
@pytest.mark.parametrize("typed", ["asa", "asa$", "LAB\\Asa$"])
def test_the_dollar_of_a_computers_account_may_be_left_out_anywhere(configured: str, typed: str) -> None:
    forest = Forest()
    settings = replace(forest.desk.settings, account=configured)
    desk = Desk(forest.desk.directory, lambda: settings, lambda: forest.realm, lambda: forest.agents)
    assert roll(desk, Order(typed), now=lambda: NOW).outcome is Outcome.ROLLED
    forest.member("cas2").drop("asa$")
    assert roll(desk, Order(typed, copy_from="cas1"), now=lambda: NOW).code == 0
    assert forest.is_right()


def test_a_dry_run_says_what_would_be_done_and_does_nothing() -> None:
    forest = Forest()
    report = forest(dry_run=True)
    assert (report.outcome, report.code) == (Outcome.NOT_DUE, 0)
    assert report.planned[0] == "give ber1, cas1, cas2 new keys (number 4)"
    assert forest.is_as_before()
    assert forest.log.numbers == []


def test_a_dry_run_says_that_it_would_finish_what_was_broken_off() -> None:
    forest = Forest()
    forest.member("cas1").fail("confirm", Denied("no"))
    forest()
    assert forest(dry_run=True).planned == ("tell cas1 that key 4 is in the directory",)
    assert not forest.is_right()


def test_a_clock_that_is_wrong_is_warned_of() -> None:
    forest = Forest()
    forest.member("cas1").now = NOW + 400
    assert any("the clock of cas1 is more than 5 minutes off" in text for text in forest().warnings)


def test_keys_that_are_not_ours_never_take_the_place_of_the_directorys() -> None:
    """Another run's pending keys under the same number, proven to be none of the realm's, are replaced."""
    forest = Forest()
    stray = Generation(4, tuple(Key(k.enctype, 4, b"x" * 16) for k in forest.realm.kdc_keys("asa$")), NOW, pending=True)
    forest.member("cas1").hold("asa$", forest.realm.name, (SPN,), stray)
    assert forest().outcome is Outcome.ROLLED
    assert forest.is_right()
