"""The roll of a shared account's password as a state machine: what is known so far -> the next step.

Members get the new keys first, as a *pending* generation; each confirms that it holds the old ones and the new ones;
only then the realm is told the password. So whatever the realm makes tickets with, every member that takes part reads
them. The password is kept nowhere: when a run is broken off, the next one learns from the members what they hold and
from the realm which of it is right, finishes what was begun, or begins anew.

Nothing is done here. `next_step` looks at a `Roll` and says what to do; whoever does it puts what came of it into the
`Roll` and asks again. A run that begins with nothing but the account and the members comes to a right end from
wherever another one was broken off: that is what its tests try, at every step.

Which generation is in the directory is never guessed from its number alone: a number says how often a password was
set, not by whom. It is *proven*, by getting a ticket with the keys a member holds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from casarray.core.config_values import duration_text
from casarray.core.directory.model import key
from casarray.core.kerberos.account import Account, AccountKind
from casarray.core.kerberos.encryption import EXCHANGE, Enctype, of_bits, of_words
from casarray.core.kerberos.keys import Generation, Held, HeldGeneration, checks
from casarray.core.kerberos.roll_steps import (
    Ask,
    Check,
    Confirm,
    CopyTo,
    DeriveAgain,
    End,
    Make,
    Outcome,
    Prove,
    ProveNew,
    Push,
    Reread,
    Restore,
    SetPassword,
    Step,
)

MOST_PROOFS = 4  # a wrong key is a failed logon of the account, and a domain may lock it after a few

Print = frozenset[str]
"""What tells the keys of one password from those of another, under whatever number they are kept."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What whoever rolls has said."""

    lifetime: float  # seconds a ticket lives at most
    attended: bool = False  # somebody can be asked
    force: bool = False
    left_out: frozenset[str] = frozenset()  # names of members that may be missing, folded
    not_before: float | None = None  # seconds: roll only a password that is older


@dataclass(frozen=True, slots=True)
class Member:
    """One server whose clients have tickets of the account."""

    name: str
    held: Held | None = None  # None: nothing
    missing: str = ""  # why it takes no part, a sentence without its subject; empty: it does

    def generation(self, print_: Print) -> HeldGeneration | None:
        """What it holds of these keys."""
        held = self.held.generations if self.held else ()
        return next((one for one in held if print_of(one.checks) == print_), None)


class Sent(StrEnum):
    """What became of the new password."""

    NO = "no"
    UNSURE = "unsure"  # the realm's answer was lost
    REFUSED = "refused"  # it is not in the directory
    UNKNOWN = "unknown"  # and the realm cannot be asked any more
    YES = "yes"


@dataclass(frozen=True, slots=True)
class Roll:
    """What is known of a roll."""

    account: Account  # as the realm had it last
    members: tuple[Member, ...]
    now: float  # seconds since the epoch
    terms: Terms
    refusals: tuple[str, ...] = ()  # why this account may not be rolled
    proofs: Mapping[Print, str] = field(default_factory=dict)  # keys -> why they are not the realm's; empty: they are
    agreed: frozenset[str] = frozenset()  # members without whom to go on, by whoever can be asked
    finished: bool = False  # an earlier roll was brought to its end
    caught_up: tuple[str, ...] = ()  # members that got keys they should have had before
    new: Generation | None = None
    pushed: frozenset[str] = frozenset()  # members that were given the new keys
    checked: bool = False  # all were asked again, after the last had got them
    sent: Sent = Sent.NO
    why: str = ""  # what the realm said when it did not take the password
    must_prove: bool = False  # whether it is our password is not sure
    restored: frozenset[str] = frozenset()
    derived_again: bool = False

    @property
    def taking_part(self) -> tuple[Member, ...]:
        """Those who can be worked with."""
        return tuple(member for member in self.members if not member.missing)

    @property
    def missing(self) -> tuple[Member, ...]:
        """Those who should take part and do not."""
        return tuple(one for one in self.members if one.missing and key(one.name) not in self.terms.left_out)

    @property
    def left_out(self) -> tuple[Member, ...]:
        """Those who do not take part, as it was said before."""
        return tuple(one for one in self.members if one.missing and key(one.name) in self.terms.left_out)

    @property
    def current(self) -> Print | None:
        """The keys that the realm has, if a member holds them."""
        return next((print_ for print_, why in self.proofs.items() if not why), None)

    @property
    def next_number(self) -> int:
        """For the new keys: the realm's next one, unless members have keys in use under that (after a restore)."""
        held = [one for member in self.taking_part if member.held for one in member.held.generations]
        return max([self.account.number, *(one.number for one in held if not one.pending)]) + 1

    @property
    def new_print(self) -> Print:
        """The new keys."""
        assert self.new is not None
        return print_of(checks(self.new))

    def member(self, name: str) -> Member:
        """The one of that name."""
        return next(one for one in self.members if one.name == name)

    def with_member(self, changed: Member) -> "Roll":
        """With this one in the place of what was known of it."""
        return replace(self, members=tuple(changed if one.name == changed.name else one for one in self.members))


def print_of(lines: Iterable[str]) -> Print:
    """Of the checks of a generation, without the number in each."""
    return frozenset(" ".join((word[0], *word[2:])) for word in (line.split(" ") for line in lines))


def numbered(generation: Generation, number: int) -> Generation:
    """The same keys under another number."""
    moved = tuple(replace(one, version=one.version + number - generation.number) for one in generation.keys)
    return replace(generation, number=number, keys=moved)


def kinds_of(account: Account, words: Iterable[str]) -> tuple[Enctype, ...]:
    """The encryption types of new keys: all that the realm may use, and those that the configuration wants."""
    wanted = {*(of_bits(account.encryption) or EXCHANGE), *of_words(words)}
    return tuple(one for one in EXCHANGE if one in wanted)


def next_step(roll: Roll) -> Step:
    """What to do now."""
    match roll.sent:
        case Sent.NO:
            return _repair(roll) or _permission(roll) or _towards_the_password(roll)
        case Sent.UNSURE:
            return Reread()
        case Sent.REFUSED:
            return End(
                Outcome.REFUSED,
                f"the password of {roll.account} was not changed: {ended(roll.why)} {_pending(roll)}",
            )
        case Sent.UNKNOWN:
            return End(
                Outcome.UNFINISHED,
                f"whether the password of {roll.account} was changed is not known: {ended(roll.why)} The members hold "
                "the old keys and the new ones, so clients notice nothing; run this again to finish it",
            )
        case Sent.YES:
            return _after_the_password(roll)


def _repair(roll: Roll) -> Step | None:
    """Find out which keys are in the directory, and finish what an earlier run began."""
    if roll.refusals:
        return End(Outcome.REFUSED, f"{roll.account} is not rolled: {'; '.join(roll.refusals)}")
    if not roll.taking_part:
        return End(Outcome.REFUSED, f"nothing was changed: no member takes part ({_reasons(roll.members)})")
    if roll.new is not None:  # it was done before that was made
        return None
    unproven = _unproven(roll) if roll.current is None else None
    return unproven or _behind(roll) or _spread(roll)


def _spread(roll: Roll) -> Step | None:
    """Every member that can be reached is to hold what the directory has, under the number it has there."""
    if roll.current is None:
        return None
    if apart := _apart(roll, roll.current):
        return apart
    actual = roll.account.number
    waiting = [
        (member.name, one.number)
        for member in roll.taking_part
        if (one := member.generation(roll.current)) and (one.pending or one.number != actual)
    ]
    if waiting:
        return Confirm(tuple(waiting), actual)
    lacking = tuple(member.name for member in roll.taking_part if member.generation(roll.current) is None)
    source = next((member.name for member in roll.taking_part if member.generation(roll.current)), None)
    return CopyTo(source, lacking) if source and lacking else None


def _apart(roll: Roll, current: Print) -> End | None:
    """Keys in use that have another number than the account: the KDC that proved them is another than who told that.

    A pending one gets its number now; one that was confirmed has it, and keeps it.
    """
    held = [(member.name, one) for member in roll.taking_part if (one := member.generation(current))]
    wrong = next(((name, one) for name, one in held if not one.pending and one.number != roll.account.number), None)
    if wrong is None or roll.terms.force:
        return None
    return End(
        Outcome.REFUSED,
        f"nothing was changed: a KDC makes tickets of {roll.account} with key {wrong[1].number} (of {wrong[0]}), but "
        f"the directory tells of {roll.account.number}. Its controllers do not agree yet: wait, then run this again",
    )


def _unproven(roll: Roll) -> Prove | None:
    """The next keys that may be those of the realm: they are proven in the order in which they are likely."""
    if len(roll.proofs) >= MOST_PROOFS:
        return None
    number = roll.account.number
    found: list[tuple[tuple[bool, bool, int], str, HeldGeneration]] = []
    for member in roll.taking_part:
        generations = member.held.generations if member.held else ()
        newest = max((one.number for one in generations if not one.pending), default=0)
        for one in generations:
            if print_of(one.checks) in roll.proofs or not one.checks:
                continue
            if one.pending or one.number in (newest, number):
                likely = (one.number != number or one.pending, not one.pending, -one.number)
                found.append((likely, member.name, one))
    if not found:
        return None
    _, name, one = min(found, key=lambda item: item[:2])
    return Prove(name, one.number)


def _behind(roll: Roll) -> End | None:
    """Members that know of more passwords than the realm: whoever answered for the realm is behind.

    Its number must not be believed then: keys confirmed under one that is too low would take the place of older ones.
    """
    if roll.terms.force:
        return None
    for member in roll.taking_part:
        for one in member.held.generations if member.held else ():
            known = not one.pending or print_of(one.checks) == roll.current
            if known and one.number > roll.account.number:
                return End(
                    Outcome.REFUSED,
                    f"nothing was changed: {member.name} holds key {one.number} of {roll.account}, but the realm "
                    f"tells of {roll.account.number}. Its controller lags behind, or was restored from a backup: wait "
                    "until its controllers agree, or use --force",
                )
    return None


def _permission(roll: Roll) -> Step | None:
    """Whether there is to be a new password: by who is missing, by its age, by what members hold now."""
    if missing := [one for one in roll.missing if one.name not in roll.agreed]:
        who = _reasons(missing)
        if roll.terms.attended:
            names = tuple(one.name for one in missing)
            return Ask(names, f"{ended(who)} Clients cannot log on there after the roll. Go on without?")
        touched = roll.finished or roll.caught_up or roll.pushed
        done = "the password was not changed" if touched else "nothing was changed"
        return End(
            Outcome.REFUSED,
            f"{done}: {ended(who)} Bring it back and run this again, or leave it out with --except NAME"
            f"{_pending(roll, '. ')}",
        )
    account = roll.account
    if roll.finished:
        return End(Outcome.FINISHED, f"an earlier roll of {account} was brought to its end: key {account.number}")
    if roll.current is None and not _is_fresh(account) and not roll.terms.force:
        return End(Outcome.REFUSED, _nobody_has_the_key(roll))
    return _age(roll)


def _age(roll: Roll) -> Step | None:
    account, terms = roll.account, roll.terms
    if account.set_at is None or roll.new is not None or (roll.current is None and _is_fresh(account)):
        return None  # nobody can have a ticket yet, or it was looked at before
    if _names_without_keys(roll):
        return None
    old = roll.now - account.set_at
    if terms.not_before is not None and old < terms.not_before and not terms.force:
        return End(_quiet(roll, Outcome.NOT_DUE), f"the password of {account} is {_span(old)} old: it is not due yet")
    if old < terms.lifetime and not terms.force:
        return End(
            _quiet(roll, Outcome.REFUSED),
            f"the password of {account} was set {_span(old)} ago, and tickets from before live up to "
            f"{_span(terms.lifetime)}: roll again in {_span(terms.lifetime - old)}, or use --force",
        )
    return None


def _is_fresh(account: Account) -> bool:
    """Whether no client can have a ticket yet. In an MIT realm names give none before the account's first roll."""
    return not account.names or (account.kind is AccountKind.PRINCIPALS and account.number <= 1)


def _names_without_keys(roll: Roll) -> bool:
    """Whether clients get no tickets for a name before the next roll: in an MIT realm each name has keys of its own."""
    if roll.account.kind is not AccountKind.PRINCIPALS or roll.current is None:
        return False
    keyed = {line.split(" ")[1].casefold() for line in roll.current}
    return any(name.casefold() not in keyed for name in roll.account.names)


def _quiet(roll: Roll, otherwise: Outcome) -> Outcome:
    return Outcome.CAUGHT_UP if roll.caught_up else otherwise


def _nobody_has_the_key(roll: Roll) -> str:
    said = next((why for why in roll.proofs.values() if why), "")
    return (
        f"nothing was changed: no member holds the key that {roll.account} has now (number {roll.account.number})"
        f"{ended(f': {said}' if said else '')} Clients with tickets of it fail at every member. With --force it gets "
        f"a new password that all members know; tickets got until then go on failing until they end, within "
        f"{_span(roll.terms.lifetime)}"
    )


def _towards_the_password(roll: Roll) -> Step:
    if roll.new is None:
        return Make()
    new = roll.new_print
    lacking = [member.name for member in roll.taking_part if member.generation(new) is None]
    if lost := [name for name in lacking if name in roll.pushed]:
        return End(
            Outcome.REFUSED,
            f"the password was not changed: {', '.join(lost)} no longer holds the new keys it was given. Somebody "
            "else is rolling this account at the same time: let one of you finish, then run this again",
        )
    if lacking:
        return Push(tuple(lacking))
    if not roll.checked:
        return Check(tuple(member.name for member in roll.taking_part))
    current = roll.current
    if current and (lost := [member.name for member in roll.taking_part if member.generation(current) is None]):
        return End(
            Outcome.REFUSED,
            f"the password was not changed: {', '.join(lost)} no longer holds the old keys. {_pending(roll)}",
        )
    return SetPassword()


def _after_the_password(roll: Roll) -> Step:
    proof = roll.proofs.get(roll.new_print)
    if roll.must_prove and proof is None:
        return ProveNew()
    if roll.must_prove and not roll.checked:  # somebody else's keys may lie under our number by now
        return Check(tuple(member.name for member in roll.taking_part))
    wrong = bool(roll.must_prove and proof)  # such keys are confirmed to nobody
    if not wrong and (step := _told(roll)):
        return step
    if proof is None:
        return ProveNew()
    if proof and not roll.derived_again:
        return DeriveAgain()
    return _ended(roll, proof)


def _told(roll: Roll) -> Step | None:
    """Every member is to know the number that the realm gave the new keys."""
    new, actual = roll.new_print, roll.account.number
    found = [(member, member.generation(new)) for member in roll.taking_part]
    waiting = tuple((member.name, one.number) for member, one in found if one and (one.pending or one.number != actual))
    if waiting:
        return Confirm(waiting, actual)
    lost = tuple(member.name for member, one in found if one is None and member.name not in roll.restored)
    return Restore(lost) if lost else None


def _ended(roll: Roll, proof: str) -> End:
    number = roll.account.number
    if proof and roll.must_prove:
        return End(
            Outcome.UNFINISHED,
            f"somebody else set the password of {roll.account} at the same time: {ended(proof)} Run this again",
        )
    if proof:
        return End(
            Outcome.UNFINISHED,
            f"the directory has a new password for {roll.account} (key {number}), but a KDC does not know the members' "
            f"keys: {ended(proof)} If it has not heard of the password yet, it will: run this again in a quarter of an "
            "hour. If it says the same then, clients cannot log on with new tickets: find the reason, and use --force",
        )
    bad = [one for one in roll.members if one.missing and one in roll.missing and one.name in roll.pushed]
    bad += [one for one in roll.taking_part if one.generation(roll.new_print) is None]
    if bad:
        return End(
            Outcome.UNFINISHED,
            f"{roll.account} has a new password (key {number}), but not every member has confirmed it: "
            f"{ended(_reasons(bad))} Run this again to finish it",
        )
    return End(Outcome.ROLLED, f"{roll.account} has a new password, and every member that takes part has key {number}")


def _pending(roll: Roll, before: str = "") -> str:
    """What lies on the members now, when the roll ends without a new password."""
    if not roll.pushed:
        return ""
    return (
        f"{before}New keys lie pending on {', '.join(sorted(roll.pushed))}: they do no harm, and the next roll "
        "replaces them"
    )


def ended(text: str) -> str:
    """With a full stop, if it does not end by itself: what others said may be a question."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _reasons(members: Iterable[Member]) -> str:
    return "; ".join(f"{one.name} {one.missing or 'does not hold the new keys'}" for one in members) or "there is none"


def _span(seconds: float) -> str:
    """Rounded, as people say it."""
    whole = max(round(seconds), 0)
    step = 3600 if whole >= 86400 else 60 if whole >= 3600 else 1
    return duration_text(float(whole - whole % step))
