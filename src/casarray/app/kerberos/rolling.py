"""Rolls a shared account's password over the members: does what `core.kerberos.roll` says next, until it says the end.

The password is made here, lives in this process for as long as the roll does, and is told to the realm alone.
"""

import secrets
import string
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from casarray.app.kerberos.copying import copy
from casarray.app.kerberos.crew import Crew
from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.order import Job, Order, Report, Stopped, chosen, journal
from casarray.app.kerberos.ports import Agent, AgentState
from casarray.app.kerberos.step_words import said
from casarray.app.kerberos.telling import MemberLine, MemberState, Unwatched, Watch
from casarray.core.directory.model import key
from casarray.core.errors import CasarrayError, Conflict, NotFound, Unavailable
from casarray.core.kerberos import roll as rules
from casarray.core.kerberos import roll_steps as steps
from casarray.core.kerberos.account import Account
from casarray.core.kerberos.account_rules import refusals
from casarray.core.kerberos.account_rules import warnings as account_warnings
from casarray.core.kerberos.keys import Generation, checks
from casarray.core.kerberos.roll import Member, Roll, Sent, Terms, next_step, numbered, print_of
from casarray.core.kerberos.roll_steps import Outcome
from casarray.core.kerberos.wanted import wanted_names

MOST_SKEW = 300.0  # seconds; Kerberos refuses tickets when clocks differ by more
MOST_STEPS = 1000  # a roll has a few dozen; more means that a member says one thing and does another
REREADS = (1.0, 2.0, 5.0)  # seconds before each time the realm is asked again
SETTLE = 60.0  # seconds from which on every controller knows what one was told
REPLICATION = (5.0, 15.0)  # seconds before a KDC is asked again that may have heard of the password meanwhile


def roll(
    desk: Desk,
    order: Order,
    watch: Watch | None = None,
    *,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Report:
    """Roll a password, or copy what a member holds. Raises what cannot even begin; every other end is a `Report`."""
    with journal(desk, order, now) as ended:
        share = desk.share_of(order.account)
        with Crew(desk.agents, chosen(share, order.scope)) as crew:
            job = Job(desk, order, share, crew, watch or Unwatched(), now, sleep)
            return ended(copy(job) if order.copy_from else _Rolling(job).run())


class _Rolling:
    """One run."""

    def __init__(self, job: Job) -> None:
        self._desk, self._order, self._share, self._crew = job.desk, job.order, job.share, job.crew
        self._watch, self._now, self._sleep = job.watch, job.now, job.sleep
        self._password = ""
        self._has_settled = False
        self._answered = True  # the realm, when it was told the password
        self._warnings: list[str] = []
        self._planned: list[str] = []

    def run(self) -> Report:
        """From looking to the end."""
        started = self._now()
        current = self._begin(started)
        before = current.account.number
        outcome, text = Outcome.REFUSED, ""
        try:
            for _ in range(MOST_STEPS):
                step = next_step(current)
                if isinstance(step, steps.End):
                    outcome, text = step.outcome, step.text
                    break
                if self._order.dry_run and not isinstance(step, steps.READING):
                    outcome, text = self._only_planned(step, current)
                    break
                self._watch.verbose(said(step))
                current = self._do(step, current)
            else:
                raise Stopped(Outcome.UNFINISHED, "a member says one thing and does another; see what its agent logs")
        except Stopped as stopped:
            outcome, text = stopped.outcome, stopped.text
        except CasarrayError as error:
            if current.sent is Sent.NO:
                raise
            outcome = Outcome.UNFINISHED
            text = (
                f"the password of {current.account} was set, but not all is done: {rules.ended(str(error))} Run again"
            )
        finally:
            self._password = ""
        return self._report(current, (outcome, text), before, started)

    def _begin(self, started: float) -> Roll:
        """Ask the realm and the members."""
        settings, order = self._desk.settings, self._order
        account = self._desk.realm.account(self._share.account)
        terms = Terms(
            settings.lifetime,
            order.attended,
            order.force,
            frozenset(key(name) for name in order.left_out),
            order.not_before,
        )
        self._refuse_unknown(order.left_out)
        self._look_at_the_domain(account)
        outside = [one for one in self._share.servers if one.name not in self._crew.names]
        members = [Member(name) for name in self._crew.names]
        members += [Member(one.name, missing="uses this account and is none of the targets") for one in outside]
        current = Roll(account, tuple(members), started, terms, refusals(account, started, force=order.force))
        asked = self._asked("asking the members what they hold", current, self._crew.names)
        # Once more, so that no member knows of a later password than we do because somebody else has rolled meanwhile.
        return replace(asked, account=self._desk.realm.account(account.name))

    def _look_at_the_domain(self, account: Account) -> None:
        domain = self._order.account.rpartition("\\")[0]
        if domain and key(domain) not in (key(account.domain), key(account.realm)):
            self._warnings.append(f"{self._order.account} was typed; what is rolled is {account}, of {account.realm}")

    def _refuse_unknown(self, names: Collection[str]) -> None:
        for name in names:
            if self._share.server(name) is None:
                raise NotFound(f"{name} is no member with the account {self._share.account}, so it cannot be left out")

    # The steps.

    def _do(self, step: steps.Step, current: Roll) -> Roll:
        return _DOING[type(step)](self, step, current)

    def _prove(self, step: steps.Prove, current: Roll) -> Roll:
        account = current.account
        try:
            holding = self._crew.one(step.member, lambda agent: agent.give(account.name))
        except CasarrayError as error:
            return current.with_member(replace(current.member(step.member), missing=f"does not help: {error}"))
        generation = holding.of(step.number)
        if generation is None:
            return self._asked("asking once more", current, (step.member,))
        try:
            why = self._desk.realm.prove(account, numbered(generation, account.number))
        except Unavailable as error:
            raise Stopped(
                Outcome.REFUSED, f"nothing was changed: which keys the realm has cannot be told: {error}"
            ) from None
        return replace(current, proofs={**current.proofs, print_of(checks(generation)): why})

    def _confirm(self, step: steps.Confirm, current: Roll) -> Roll:
        numbers, lifetime, name = dict(step.members), current.terms.lifetime, current.account.name

        def confirm(member: str, agent: Agent) -> AgentState:
            return agent.confirm(name, numbers[member], step.actual, lifetime)

        after = self._each(f"confirming key {step.actual}", current, tuple(numbers), confirm)
        for member in numbers:
            held = after.member(member).held
            found = held.of(step.actual) if held else None
            if not after.member(member).missing and (found is None or found.pending):
                after = after.with_member(replace(after.member(member), missing="did not take the confirmation"))
        return replace(after, finished=after.finished or current.sent is Sent.NO)

    def _copy(self, step: steps.CopyTo, current: Roll) -> Roll:
        """Beside what they hold: nothing is taken away that somebody else may have given them meanwhile."""
        account = current.account
        try:
            holding = self._crew.one(step.source, lambda agent: agent.give(account.name))
        except CasarrayError as error:
            return current.with_member(replace(current.member(step.source), missing=f"does not help: {error}"))
        confirmed = [one for one in holding.generations if not one.pending]
        after = current
        for generation in reversed(confirmed):
            names = [name for name in step.members if not after.member(name).missing]
            text = f"giving key {generation.number} of {step.source} to those who lack it"
            after = self._hold(text, after, names, generation)
        done = []
        for member in (after.member(one) for one in step.members if not after.member(one).missing):
            if current.current is not None and member.generation(current.current) is None:
                after = after.with_member(replace(member, missing="did not take the keys it was given"))
            else:
                done.append(member.name)
        return replace(after, caught_up=(*after.caught_up, *done))

    def _ask(self, step: steps.Ask, current: Roll) -> Roll:
        if not self._watch.agree(step.question):
            pending = " New keys lie pending on members; they do no harm." if current.pushed else ""
            raise Stopped(Outcome.REFUSED, f"the password was not changed, because nobody agreed to go on.{pending}")
        return replace(current, agreed=current.agreed | frozenset(step.members))

    def _make(self, _step: steps.Make, current: Roll) -> Roll:
        account = current.account
        if (settled := self._settled(current)) is not current:
            return settled
        self._password = new_password()
        kinds = rules.kinds_of(account, self._desk.settings.encryption)
        keys = self._desk.realm.keys(account, self._password, kinds)
        if not keys:
            raise Stopped(Outcome.REFUSED, f"nothing was changed: {account} has no names that keys could be for")
        new = numbered(Generation(account.number + 1, keys, self._now(), pending=True), current.next_number)
        return replace(current, new=new)

    def _settled(self, current: Roll) -> Roll:
        """After a roll that was broken off a moment ago: wait until each of several controllers has heard what it did.

        Its keys are not proven, but one that has not heard of its password would say so all the same.
        """
        made = [
            one.made
            for member in current.taking_part
            for one in (member.held.generations if member.held else ())
            if one.pending and one.number > current.account.number
        ]
        left = max(made, default=0.0) + SETTLE - self._now()
        if len(self._desk.settings.realm) < 2 or left <= 0 or self._has_settled:
            return current
        self._has_settled = True
        self._watch.phase(
            f"a roll was broken off a moment ago: {left:.0f} seconds until all controllers know of it", ()
        )
        self._sleep(left)
        self._desk.close()
        return replace(current, account=self._desk.realm.account(current.account.name), proofs={})

    def _push(self, step: steps.Push, current: Roll) -> Roll:
        new = current.new
        assert new is not None
        after = self._hold("giving every member the new keys", current, step.members, new)
        given = frozenset(name for name in step.members if not after.member(name).missing)
        return replace(after, pushed=after.pushed | given, checked=False)

    def _check(self, step: steps.Check, current: Roll) -> Roll:
        asked = self._asked("every member confirms the old and the new keys", current, step.members)
        return replace(asked, checked=True)

    def _set(self, _step: steps.SetPassword, current: Roll) -> Roll:
        assert current.new is not None
        self._watch.phase("setting the password in the directory", ())
        try:
            seen = self._desk.realm.account(current.account.name)
            if seen.number != current.account.number:
                why = f"somebody else has set one meanwhile, under the number {seen.number}"
                return replace(current, sent=Sent.REFUSED, why=why)
        except CasarrayError as error:
            return replace(current, sent=Sent.REFUSED, why=str(error))
        try:
            account = self._desk.realm.set_password(current.account, self._password)
        except CasarrayError as error:  # a realm that says no may have done a part of it: an MIT realm has many keys
            self._answered = not isinstance(error, Unavailable)
            return replace(current, sent=Sent.UNSURE, why=str(error))
        # Another number than the next one: it may be a realm that counts otherwise, or somebody else's password.
        unsure = account.number != current.new.number
        return replace(current, sent=Sent.YES, account=account, must_prove=unsure, checked=not unsure)

    def _reread(self, _step: steps.Reread, current: Roll) -> Roll:
        why = current.why
        for seconds in REREADS:
            if not self._answered:
                self._sleep(seconds)
                self._desk.close()  # the connection that lost the answer
            try:
                account = self._desk.realm.account(current.account.name)
            except Unavailable as error:
                why, self._answered = str(error), False
                continue
            if (account.number, account.set_at) == (current.account.number, current.account.set_at):
                return self._not_seen(current)
            return replace(current, sent=Sent.YES, account=account, must_prove=True, checked=False)
        return replace(current, sent=Sent.UNKNOWN, why=why)

    def _not_seen(self, current: Roll) -> Roll:
        """The account is as it was: the password was not taken, or whoever answers now has not heard of it."""
        assert current.new is not None
        try:
            taken = not self._answered and not self._desk.realm.prove(current.account, current.new)
        except Unavailable:
            taken = False
        if taken:
            why = "a ticket can be got with it, but the controller that answers does not show it yet"
            return replace(current, sent=Sent.UNKNOWN, why=why)
        return replace(current, sent=Sent.REFUSED, why=f"the realm did not take it: {current.why}")

    def _prove_new(self, _step: steps.ProveNew, current: Roll) -> Roll:
        assert current.new is not None
        self._watch.phase("getting a ticket with the new keys", ())
        generation = numbered(current.new, current.account.number)
        for seconds in (0.0, *REREADS):
            self._sleep(seconds)
            try:
                why = self._desk.realm.prove(current.account, generation)
            except Unavailable as error:
                said_ = str(error)
                self._desk.close()
                continue
            return replace(current, proofs={**current.proofs, current.new_print: why})
        if current.must_prove:
            return replace(current, sent=Sent.UNKNOWN, why=said_)
        self._warnings.append(f"no ticket could be got with the new keys to prove them: {said_}")
        return replace(current, proofs={**current.proofs, current.new_print: ""})

    def _derive_again(self, _step: steps.DeriveAgain, current: Roll) -> Roll:
        assert current.new is not None
        account = current.account
        kinds = rules.kinds_of(account, self._desk.settings.encryption)
        try:
            keys = self._desk.realm.keys(account, self._password, kinds)
        except CasarrayError as error:
            self._warnings.append(f"the new keys could not be made again: {error}")
            return replace(current, derived_again=True)
        again = numbered(Generation(account.number + 1, keys, current.new.made), account.number)
        if print_of(checks(again)) == current.new_print:
            return self._prove_later(current)
        return replace(current, derived_again=True, new=again, restored=frozenset())

    def _prove_later(self, current: Roll) -> Roll:
        """The salt was right: perhaps the KDC that was asked has not heard of the password yet."""
        assert current.new is not None
        generation, why = numbered(current.new, current.account.number), current.proofs[current.new_print]
        for seconds in REPLICATION:
            self._watch.phase(f"a KDC does not know the new keys yet: asking it again in {seconds:.0f} seconds", ())
            self._sleep(seconds)
            with suppress(Unavailable):
                why = self._desk.realm.prove(current.account, generation)
            if not why:
                break
        return replace(current, derived_again=True, proofs={**current.proofs, current.new_print: why})

    def _restore(self, step: steps.Restore, current: Roll) -> Roll:
        assert current.new is not None
        generation = replace(numbered(current.new, current.account.number), pending=False)
        after = self._hold("giving members the keys they lack", current, step.members, generation)
        return replace(after, restored=after.restored | frozenset(step.members))

    # With the members.

    def _asked(self, text: str, current: Roll, names: Collection[str]) -> Roll:
        return self._each(text, current, names, lambda _, agent: agent.state())

    def _hold(self, text: str, current: Roll, names: Collection[str], generation: Generation) -> Roll:
        account, wanted = current.account, self._wanted()

        def hold(member: str, agent: Agent) -> AgentState:
            held = current.member(member).held
            spns = tuple(unique((*account.names, *wanted, *(held.names if held else ()))))
            return agent.hold(account.name, account.realm, spns, generation)

        return self._each(text, current, names, hold)

    def _each(self, text: str, current: Roll, names: Collection[str], work: Callable[[str, Agent], AgentState]) -> Roll:
        """What members say afterwards; those who fail are missing from then on."""
        self._watch.phase(text, tuple(names))
        for name, said_ in self._crew.each(names, work, self._watch.member).items():
            member = current.member(name)
            if isinstance(said_, CasarrayError):
                word = "is missing" if isinstance(said_, Unavailable) else "failed"
                current = current.with_member(replace(member, missing=f"{word}: {said_}"))
                continue
            self._look_at_its_clock(name, said_.now)
            current = current.with_member(replace(member, held=said_.holding(current.account.name)))
        return current

    def _look_at_its_clock(self, name: str, clock: float) -> None:
        off = clock - self._now()
        warning = f"the clock of {name} is more than 5 minutes off: Kerberos refuses all tickets there; set it right"
        if abs(off) > MOST_SKEW and warning not in self._warnings:
            self._warnings.append(warning)

    def _wanted(self) -> tuple[str, ...]:
        """Names that the arrays want: members can read tickets for them before the directory has them."""
        try:
            return tuple(str(one.name) for one in wanted_names(self._share, self._desk.settings, self._desk.profile))
        except Conflict as error:
            if (text := f"which names the arrays want is not clear: {error}") not in self._warnings:
                self._warnings.append(text)
            return ()

    # The end.

    def _only_planned(self, step: steps.Step, current: Roll) -> tuple[Outcome, str]:
        if isinstance(step, steps.Ask):
            return Outcome.REFUSED, f"it would be asked: {step.question}"
        self._planned = [said(step)]
        if isinstance(step, steps.Make):
            names = ", ".join(one.name for one in current.taking_part)
            number = current.account.number
            self._planned = [
                f"give {names} new keys (number {number + 1})",
                f"let each confirm that it holds the old and the new ones, then set the password of {current.account}",
                f"confirm the number that the directory gives it to {names}, and get a ticket with it",
            ]
        return Outcome.NOT_DUE, "nothing was changed: this is what would be done"

    def _report(self, current: Roll, end: tuple[Outcome, str], before: int, started: float) -> Report:
        outcome, text = end
        remarks = account_warnings(current.account, self._now(), force=self._order.force)
        warnings = [*self._warnings, *remarks, *self._desk.remarks]
        for one in current.members:
            if one.missing and (key(one.name) in current.terms.left_out or one.name in current.agreed):
                warnings.append(
                    f"{one.name} was left out: it {rules.ended(one.missing)} Bring it up to date before it gets clients"
                )
        if current.caught_up:
            warnings.append(f"{', '.join(current.caught_up)} lacked the keys that the directory has, and got them")
        lines = tuple(self._line(one, current, outcome) for one in current.members)
        return Report(
            current.account, outcome, text, before, lines, tuple(warnings), tuple(self._planned), started, self._now()
        )

    def _line(self, member: Member, current: Roll, outcome: Outcome) -> MemberLine:
        server = self._share.server(member.name)
        held = member.held.generations if member.held else ()
        numbers, made = tuple(one.number for one in held), tuple(one.made for one in held)
        state = MemberState.REACHED
        if member.missing:
            state = MemberState.LEFT_OUT if key(member.name) in current.terms.left_out else MemberState.MISSING
        elif current.new is not None and (one := member.generation(current.new_print)):
            state = MemberState.PENDING if one.pending else MemberState.CONFIRMED
        elif outcome is Outcome.FINISHED or member.name in current.caught_up:
            state = MemberState.CONFIRMED
        elif outcome in (Outcome.REFUSED, Outcome.NOT_DUE):
            state = MemberState.UNCHANGED
        return MemberLine(member.name, server.fqdn if server else "", state, numbers, member.missing, made)


_DOING: Mapping[type, Callable[[_Rolling, Any, Roll], Roll]] = {
    steps.Prove: _Rolling._prove,
    steps.Confirm: _Rolling._confirm,
    steps.CopyTo: _Rolling._copy,
    steps.Ask: _Rolling._ask,
    steps.Make: _Rolling._make,
    steps.Push: _Rolling._push,
    steps.Check: _Rolling._check,
    steps.SetPassword: _Rolling._set,
    steps.Reread: _Rolling._reread,
    steps.ProveNew: _Rolling._prove_new,
    steps.DeriveAgain: _Rolling._derive_again,
    steps.Restore: _Rolling._restore,
}


def new_password() -> str:
    """97 characters, 576 bits; it begins with a letter, and none of them means anything to a shell or to kadmin."""
    while True:
        password = secrets.choice(string.ascii_letters) + secrets.token_urlsafe(72)
        kinds = (string.ascii_lowercase, string.ascii_uppercase, string.digits)
        if all(any(one in kind for one in password) for kind in kinds):  # what a domain's policy may want
            return password


def unique(names: Sequence[str]) -> Iterator[str]:
    """Each name once, whatever its capital letters."""
    seen: set[str] = set()
    for name in names:
        if name.casefold() not in seen:
            seen.add(name.casefold())
            yield name
