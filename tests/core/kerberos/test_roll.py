"""The roll as a state machine: broken off anywhere, and run again, it always comes to a right end.

The model has members that keep what they were given and a realm that keeps its password. Anything may fail before or
after it was done, whoever rolls may die between any two things, versions may skip, members may be away.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from casarray.core.errors import Conflict
from casarray.core.kerberos import roll as rules
from casarray.core.kerberos import roll_steps as steps
from casarray.core.kerberos.account import Account, AccountKind
from casarray.core.kerberos.encryption import AES, EXCHANGE, Enctype
from casarray.core.kerberos.keys import Generation, Holding, Key, checks, told
from casarray.core.kerberos.roll import Member, Roll, Sent, Terms, kinds_of, next_step, numbered, print_of
from casarray.core.kerberos.roll_steps import End, Outcome

LIFETIME = 36_000.0
NAMES = ("cas1", "cas2", "cas3")


def generation(password: str, number: int, *, pending: bool = False) -> Generation:
    """The keys of a password."""
    keys = (Key(kind, number, hashlib.sha256(f"{kind}{password}".encode()).digest()[:16]) for kind in AES)
    return Generation(number, tuple(keys), 0.0, pending)


class Died(Exception):
    """Whoever rolled is no more."""


class Failed(Exception):
    """It did not work, or the answer was lost."""


@dataclass
class Model:
    """Members, a realm, and what goes wrong there."""

    faults: Iterator[str]
    password: str = "p0"
    number: int = 3
    set_at: float = 0.0
    now: float = 1e6
    holds: dict[str, Holding] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    behind: set[str] = field(default_factory=set)  # left out on purpose
    made: int = 0

    def __post_init__(self) -> None:
        first = (generation("p0", 3),)
        self.holds = {name: Holding("asa$", "LAB", ("http/x",), first) for name in NAMES}

    def account(self) -> Account:
        return Account("asa$", "LAB", AccountKind.COMPUTER, names=("http/x",), number=self.number, set_at=self.set_at)

    def does(self, change: Callable[[], None], member: str = "") -> None:
        """One thing that can go wrong in four ways."""
        if member in self.away:
            raise Failed
        fault = next(self.faults, "")
        if fault == ANOTHER:
            faults, self.faults = self.faults, iter(())
            Run(self, Terms(LIFETIME, force=True))()
            self.faults = faults
        if fault == "dies before":
            raise Died
        if fault == "fails before":
            raise Failed
        change()
        self.look()
        if fault == "dies after":
            raise Died
        if fault == "fails after":
            raise Failed

    def look(self) -> None:
        """At every moment, everybody who was not left out holds the directory's key."""
        wanted = print_of(checks(generation(self.password, 0)))
        for name, holding in self.holds.items():
            holds = any(print_of(checks(one)) == wanted for one in holding.generations)
            if name in self.behind and holds:
                self.behind.discard(name)
            assert holds or name in self.behind, f"{name} lacks {self.password}: {holding}"

    def set_password(self, password: str, by: int) -> None:
        self.password, self.number, self.set_at = password, self.number + by, self.now


@dataclass
class Run:
    """One run of whoever rolls."""

    model: Model
    terms: Terms
    skips: int = 0
    password: str = ""

    def __call__(self) -> End | None:
        """To its end; None when it died before."""
        try:
            roll = Roll(self.model.account(), tuple(map(Member, NAMES)), self.model.now, self.terms)
            roll = self._each(roll, NAMES, lambda _: None)
            roll = replace(roll, account=self.model.account())
            for _ in range(200):
                step = next_step(roll)
                if isinstance(step, End):
                    return step
                roll = self._do(step, roll)
        except Died:
            return None
        raise AssertionError("it has no end")

    def _each(self, roll: Roll, names: tuple[str, ...], change: Callable[[str], None]) -> Roll:
        for name in names:
            try:
                self.model.does(lambda name=name: change(name), name)  # type: ignore[misc]  # mypy takes a lambda's default for an argument
                roll = roll.with_member(replace(roll.member(name), held=told(self.model.holds[name])))
            except (Failed, Conflict):
                roll = roll.with_member(replace(roll.member(name), missing="fails"))
        return roll

    def _hold(self, given: Generation) -> Callable[[str], None]:
        def hold(name: str) -> None:
            self.model.holds[name] = self.model.holds[name].with_generation(given)

        return hold

    def _do(self, step: steps.Step, roll: Roll) -> Roll:  # noqa: PLR0911, PLR0912 - one for each step
        model = self.model
        match step:
            case steps.Prove(member, number):
                found = model.holds[member].of(number)
                if found is None:  # somebody else was here
                    return self._each(roll, (member,), lambda _: None)
                return self._proven(roll, numbered(found, model.number))
            case steps.Confirm(members, actual):
                numbers = dict(members)

                def confirm(name: str) -> None:
                    if model.holds[name].of(numbers[name]) is None:
                        raise Failed
                    model.holds[name] = model.holds[name].confirmed(numbers[name], actual, model.now, LIFETIME)

                return replace(
                    self._each(roll, tuple(numbers), confirm), finished=roll.sent is Sent.NO or roll.finished
                )
            case steps.CopyTo(source, members):
                confirmed = [one for one in model.holds[source].generations if not one.pending]

                def merge(name: str) -> None:
                    for one in reversed(confirmed):
                        self._hold(one)(name)

                return replace(self._each(roll, members, merge), caught_up=members)
            case steps.Ask(members):
                return replace(roll, agreed=roll.agreed | set(members))
            case steps.Make():
                model.made += 1
                self.password = f"p{model.made}"
                return replace(roll, new=generation(self.password, roll.next_number, pending=True))
            case steps.Push(members):
                assert roll.new is not None
                after = self._each(roll, members, self._hold(roll.new))
                given = {name for name in members if not after.member(name).missing}
                return replace(after, pushed=roll.pushed | given, checked=False)
            case steps.Check(members):
                return replace(self._each(roll, members, lambda _: None), checked=True)
            case steps.SetPassword():
                return self._set(roll)
            case steps.Reread():
                account = model.account()
                if account.number == roll.account.number:
                    return replace(roll, sent=Sent.REFUSED, why="it was not taken")
                return replace(roll, sent=Sent.YES, account=account, must_prove=True, checked=False)
            case steps.ProveNew():
                assert roll.new is not None
                return self._proven(roll, roll.new)
            case steps.DeriveAgain():
                return replace(roll, derived_again=True)  # the same keys again: the salt was right
            case steps.Restore(members):
                assert roll.new is not None
                given_again = replace(numbered(roll.new, model.number), pending=False)
                after = self._each(roll, members, self._hold(given_again))
                return replace(after, restored=roll.restored | set(members))
        raise AssertionError(step)

    def _proven(self, roll: Roll, found: Generation) -> Roll:
        right = print_of(checks(found)) == print_of(checks(generation(self.model.password, 0)))
        return replace(roll, proofs={**roll.proofs, print_of(checks(found)): "" if right else "these are others"})

    def _set(self, roll: Roll) -> Roll:
        model = self.model
        left = {one.name for one in roll.members if one.missing}

        def change() -> None:
            if model.number != roll.account.number:  # seen a moment before; the model has no such moments
                raise Conflict("somebody else has set a password meanwhile")
            model.behind |= left
            model.set_password(self.password, 1 + self.skips)

        try:
            model.does(change)
        except Conflict as error:
            return replace(roll, sent=Sent.REFUSED, why=str(error))
        except Failed:
            return replace(roll, sent=Sent.UNSURE, why="no answer")
        account, new = model.account(), roll.new
        unsure = new is None or account.number != new.number
        return replace(roll, sent=Sent.YES, account=account, must_prove=unsure, checked=not unsure)


FAULTS = ("dies before", "dies after", "fails before", "fails after")
ANOTHER = "somebody else rolls"


@dataclass(frozen=True)
class Chance:
    """How one run goes."""

    faults: tuple[str, ...]
    attended: bool = False
    force: bool = False
    skips: int = 0
    away: frozenset[str] = frozenset()
    left_out: frozenset[str] = frozenset()
    pause: float = LIFETIME


CHANCES = st.builds(
    Chance,
    faults=st.lists(st.sampled_from(("", "", "", "", "", "", *FAULTS, ANOTHER)), max_size=25).map(tuple),
    attended=st.booleans(),
    force=st.booleans(),
    skips=st.sampled_from((0, 0, 0, 1, 3)),
    away=st.sets(st.sampled_from(NAMES), max_size=2).map(frozenset),
    left_out=st.sets(st.sampled_from(NAMES), max_size=1).map(frozenset),
    pause=st.sampled_from((0.0, 60.0, LIFETIME, 1e7)),
)


def goes(model: Model, chance: Chance) -> End | None:
    """One run as chance has it."""
    model.faults, model.away = iter(chance.faults), set(chance.away)
    model.now += chance.pause
    return Run(model, Terms(LIFETIME, chance.attended, chance.force, chance.left_out), chance.skips)()


def everybody_is_right(model: Model) -> None:
    """All hold the directory's key, confirmed, under its number."""
    wanted = print_of(checks(generation(model.password, 0)))
    for holding in model.holds.values():
        current = holding.of(model.number)
        assert current is not None
        assert not current.pending
        assert print_of(checks(current)) == wanted
        assert {key.version for key in current.keys} == {model.number}


@settings(max_examples=400, deadline=None)
@given(st.lists(CHANCES, max_size=6))
@example([Chance(("",) * 14 + ("dies after",), skips=1)])
def test_whatever_happened_the_next_run_that_nothing_happens_to_makes_all_right(chances: list[Chance]) -> None:
    model = Model(iter(()))
    for chance in chances:
        goes(model, chance)  # `Model.look` judges every moment of it
    end = goes(model, Chance(()))
    assert end is not None
    assert end.outcome in (Outcome.ROLLED, Outcome.FINISHED, Outcome.CAUGHT_UP, Outcome.REFUSED)
    assert end.outcome is not Outcome.REFUSED or "tickets from before live" in end.text, end.text
    everybody_is_right(model)
    assert goes(model, Chance((), pause=LIFETIME + 1)).outcome is Outcome.ROLLED  # type: ignore[union-attr]  # the last step has one
    everybody_is_right(model)


def things_done(**chance: Any) -> int:
    """How many things a run does to which nothing happens."""
    model = Model(iter(()))
    count = 0

    def counted() -> Iterator[str]:
        nonlocal count
        while True:
            count += 1
            yield ""

    model.faults = counted()
    Run(model, Terms(LIFETIME), **chance)()
    return count


@pytest.mark.parametrize("skips", [0, 2])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_every_single_step_is_mended_by_running_again(fault: str, skips: int) -> None:
    steps = things_done(skips=skips)
    assert steps == 3 + 3 + 3 + 1 + (3 if skips else 0) + 3  # look, give, check, set, look again, confirm
    for at in range(steps):
        model = Model(iter(()))
        first = goes(model, Chance(("",) * at + (fault,), skips=skips))
        assert (first is None) == fault.startswith("dies")
        told_ = model.password
        again = goes(model, Chance((), pause=60.0))
        assert again is not None
        everybody_is_right(model)
        if told_ == "p1":  # the password was set before it went wrong: there is no second one
            assert model.password == "p1"
            finished = first is not None and first.outcome is Outcome.ROLLED
            assert again.outcome in ((Outcome.REFUSED,) if finished else (Outcome.FINISHED, Outcome.REFUSED))
        else:
            assert again.outcome is Outcome.ROLLED


def test_somebody_else_who_rolls_between_any_two_steps_costs_nobody_a_key() -> None:
    for at in range(things_done()):
        model = Model(iter(()))
        end = goes(model, Chance(("",) * at + (ANOTHER,)))  # `Model.look` judges every moment of both
        assert end is not None
        assert model.made in (1, 2)
        goes(model, Chance((), pause=60.0))
        everybody_is_right(model)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(("", "", "", *FAULTS)), max_size=25), st.sets(st.sampled_from(NAMES), min_size=1))
def test_an_unattended_roll_with_a_member_missing_sets_no_password(faults: list[str], away: set[str]) -> None:
    model = Model(iter(()))
    end = goes(model, Chance(tuple(faults), away=frozenset(away)))
    assert model.password == "p0"
    assert end is None or end.outcome is Outcome.REFUSED
    assert all(len(holding.generations) == 1 for holding in model.holds.values()), "no new key was given to anybody"


# Single situations.

HELD = told(Holding("asa$", "LAB", (), (generation("p0", 3),)))
ACCOUNT = Account("asa$", "LAB", AccountKind.COMPUTER, names=("http/x",), number=3, set_at=0.0)


def roll(account: Account = ACCOUNT, *members: Member, now: float = 1e6, **terms: Any) -> Roll:
    """One whose members hold the first password, which is proven."""
    chosen = members or tuple(Member(name, HELD) for name in NAMES)
    proofs = {print_of(checks(generation("p0", 3))): ""}
    return Roll(account, chosen, now, Terms(LIFETIME, **terms), proofs=proofs)


def refusal(known: Roll) -> str:
    step = next_step(known)
    assert isinstance(step, End)
    assert step.outcome is Outcome.REFUSED
    return step.text


def test_a_password_is_not_rolled_twice_within_the_life_of_a_ticket() -> None:
    text = refusal(roll(now=7200.0))
    assert text == (
        r"the password of LAB\asa$ was set 2h ago, and tickets from before live up to 10h: roll again in 8h, "
        "or use --force"
    )
    assert next_step(roll(now=7200.0, force=True)) == steps.Make()
    assert next_step(roll(now=LIFETIME)) == steps.Make()


def test_a_password_that_is_not_due_is_left_alone() -> None:
    step = next_step(roll(now=86_400.0, not_before=2 * 86_400.0))
    assert isinstance(step, End)
    assert (step.outcome, step.text) == (Outcome.NOT_DUE, r"the password of LAB\asa$ is 1d old: it is not due yet")
    assert next_step(roll(now=2 * 86_400.0, not_before=2 * 86_400.0)) == steps.Make()


def test_a_missing_member_ends_an_unattended_roll_and_is_asked_about_in_an_attended_one() -> None:
    members = (Member("cas1", HELD), Member("cas2", missing="does not answer"))
    assert refusal(roll(ACCOUNT, *members)) == (
        "nothing was changed: cas2 does not answer. "
        "Bring it back and run this again, or leave it out with --except NAME"
    )
    assert isinstance(next_step(roll(ACCOUNT, *members, attended=True)), steps.Ask)
    assert next_step(roll(ACCOUNT, *members, left_out=frozenset({"cas2"}))) == steps.Make()
    agreed = replace(roll(ACCOUNT, *members, attended=True), agreed=frozenset({"cas2"}))
    assert next_step(agreed) == steps.Make()
    another = agreed.with_member(Member("cas1", missing="does not answer"))
    assert "no member takes part" in refusal(another)


def test_the_key_of_an_account_with_names_that_no_member_holds_is_replaced_only_by_force() -> None:
    nobody = Roll(ACCOUNT, (Member("cas1"),), 1e6, Terms(LIFETIME))
    assert "no member holds the key" in refusal(nobody)
    assert "go on failing until they end, within 10h" in refusal(nobody)
    assert next_step(replace(nobody, terms=Terms(LIFETIME, force=True))) == steps.Make()
    nameless = replace(ACCOUNT, names=(), set_at=1e6 - 1)  # just made: nobody can have a ticket
    assert next_step(replace(nobody, account=nameless)) == steps.Make()


def test_a_realm_that_is_behind_its_members_is_not_believed() -> None:
    newer = told(Holding("asa$", "LAB", (), (generation("p9", 4), generation("p0", 3))))
    text = refusal(roll(ACCOUNT, Member("cas1", newer)))
    assert "cas1 holds key 4" in text
    assert "the realm tells of 3" in text


def test_wrong_keys_are_tried_seldom_because_a_domain_locks_accounts() -> None:
    many = tuple(
        Member(f"cas{n}", told(Holding("asa$", "LAB", (), (generation(f"q{n}", 4, pending=True),)))) for n in range(9)
    )
    known = Roll(ACCOUNT, many, 1e6, Terms(LIFETIME))
    asked = 0
    while isinstance(step := next_step(known), steps.Prove):
        held = known.member(step.member).held
        assert held is not None
        found = held.of(step.number)
        assert found is not None
        known = replace(known, proofs={**known.proofs, print_of(found.checks): "these are others"})
        asked += 1
    assert asked == rules.MOST_PROOFS
    assert isinstance(step, End)


def test_keys_that_turn_out_wrong_are_made_again_by_the_salt_of_now_and_given_to_all() -> None:
    new = generation("p1", 4, pending=True)
    held = told(Holding("asa$", "LAB", (), (replace(new, pending=False), generation("p0", 3))))
    done = replace(
        roll(replace(ACCOUNT, number=4), Member("cas1", held)),
        new=new, sent=Sent.YES, pushed=frozenset({"cas1"}), proofs={print_of(checks(new)): "a wrong salt"},
    )  # fmt: skip
    assert next_step(done) == steps.DeriveAgain()
    again = replace(done, new=generation("p1 salted", 4), derived_again=True)
    assert next_step(again) == steps.Restore(("cas1",))
    stuck = next_step(replace(done, derived_again=True))
    assert isinstance(stuck, End)
    assert stuck.outcome is Outcome.UNFINISHED
    assert "a wrong salt" in stuck.text


def test_somebody_else_who_rolls_at_the_same_time_is_noticed_before_the_password_is_set() -> None:
    new = generation("p1", 4, pending=True)
    other = told(Holding("asa$", "LAB", (), (generation("p2", 4, pending=True), generation("p0", 3))))
    known = replace(roll(ACCOUNT, Member("cas1", other)), new=new, pushed=frozenset({"cas1"}), checked=True)
    assert "Somebody else is rolling this account" in refusal(known)


def test_somebody_elses_password_is_not_confirmed_as_ours() -> None:
    new = generation("p1", 4, pending=True)
    held = told(Holding("asa$", "LAB", (), (new, generation("p0", 3))))
    known = replace(
        roll(replace(ACCOUNT, number=5), Member("cas1", held)),
        new=new, sent=Sent.YES, must_prove=True, pushed=frozenset({"cas1"}),
    )  # fmt: skip
    assert next_step(known) == steps.ProveNew()
    wrong = replace(known, proofs={print_of(checks(new)): "another password"}, derived_again=True, checked=True)
    step = next_step(wrong)
    assert isinstance(step, End)
    assert "somebody else set the password" in step.text


def test_an_account_that_may_not_be_rolled_is_refused_with_the_reasons() -> None:
    assert refusal(replace(roll(), refusals=("it is disabled", "it is old"))) == (
        r"LAB\asa$ is not rolled: it is disabled; it is old"
    )


def test_new_keys_are_of_all_types_that_the_realm_may_use() -> None:
    assert kinds_of(replace(ACCOUNT, encryption=0x18), ("aes256",)) == (Enctype.AES256, Enctype.AES128)
    assert kinds_of(replace(ACCOUNT, encryption=0x10), ("rc4",)) == (Enctype.AES256, Enctype.RC4)
    assert kinds_of(replace(ACCOUNT, encryption=0), ("aes256",)) == EXCHANGE, "without a word, tickets may be RC4"


@pytest.mark.parametrize("pending", [False, True])
def test_keys_that_are_proven_do_not_get_a_number_that_is_too_low(pending: bool) -> None:
    newer = told(Holding("asa$", "LAB", (), (generation("p0", 4, pending=pending), generation("older", 3))))
    lagging = roll(ACCOUNT, Member("cas1", newer))
    assert "lags behind" in refusal(lagging)
    forced = replace(lagging, terms=Terms(LIFETIME, force=True))
    assert next_step(forced) == steps.Confirm((("cas1", 4),), 3), "after a restore it is the right one"


def test_a_name_that_has_no_keys_yet_is_reason_enough_for_a_roll() -> None:
    principals = replace(ACCOUNT, kind=AccountKind.PRINCIPALS, names=("http/x", "http/y"))
    first = Generation(3, tuple(replace(k, principal="HTTP/x") for k in generation("p0", 3).keys), 0.0)
    known = roll(principals, Member("cas1", told(Holding("asa", "LAB", (), (first,)))), now=60.0)
    known = replace(known, proofs={print_of(checks(first)): ""})
    assert next_step(known) == steps.Make()
    assert "was set 1m ago" in refusal(replace(known, account=replace(principals, names=("http/x",))))


def test_a_kdc_that_lags_behind_does_not_cost_the_keys_that_the_directory_has() -> None:
    """Killed after the password was set: the KDC that is asked has not heard of it, the directory has."""
    lagging = told(Holding("asa$", "LAB", (), (generation("p1", 4, pending=True), generation("p0", 3))))
    known = replace(
        roll(replace(ACCOUNT, number=4), Member("cas1", lagging)),
        proofs={print_of(checks(generation("p1", 4))): "not yet", print_of(checks(generation("p0", 3))): ""},
    )
    assert "Its controllers do not agree yet" in refusal(known)
