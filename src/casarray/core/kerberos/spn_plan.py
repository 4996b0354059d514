"""What has to be done so that a shared account has the names its arrays need, and what stands in the way.

The order is: account, then its keys on every member, then names. From the moment an account has a name, the KDC makes
its tickets with that account's current key, and a member without the key refuses whoever brings one. So a name is added
or moved only after every member is known to hold the current key.

Two accounts may not have one name. A name of another account is moved only when asked for, and only when nobody needs
the other account's key: tickets made with it live up to ``kerberos.lifetime``, so the members must be able to read them
too, or whoever moves it says that it is time (``now``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from casarray.core.config_values import duration_text
from casarray.core.directory.model import key
from casarray.core.kerberos.account import Account, AccountKind, Owner
from casarray.core.kerberos.account_rules import Grade, findings
from casarray.core.kerberos.keys import Held
from casarray.core.kerberos.principal import Spn, is_spn, parse
from casarray.core.kerberos.wanted import Wanted


class Act(StrEnum):
    """What is done with a name."""

    TAKE = "take"  # from another account; ours has it already
    MOVE = "move"  # from another account to ours
    ADD = "add"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Step:
    """One name, and what is done with it."""

    act: Act
    name: Spn
    why: str
    source: Owner | None = None  # of a take or move: who has it

    def __str__(self) -> str:
        """``+ http/mail.domain.tld: web services on a published name of CAS``."""
        mark = {Act.ADD: "+", Act.REMOVE: "-", Act.MOVE: ">", Act.TAKE: "<"}[self.act]
        return f"{mark} {self.name}: {self.why}"


@dataclass(frozen=True, slots=True)
class MemberKeys:
    """What a member holds, as far as it tells."""

    fqdn: str
    held: tuple[Held, ...] = ()  # of every account
    silent: str = ""  # why it does not tell; empty: it does

    def of(self, account: str) -> Held | None:
        """What it holds of an account."""
        return next((one for one in self.held if key(one.account) == key(account)), None)


@dataclass(frozen=True, slots=True)
class Choices:
    """What whoever asks has said."""

    move: bool = False  # also names that other accounts have
    prune: bool = False  # also what casarray would never have set
    without_agents: bool = False  # although some members do not tell what they hold
    withdraw: bool = False  # take all of them away: Kerberos is turned off
    now: bool = False  # although tickets of another account's key are still in use


@dataclass(frozen=True, slots=True)
class Picture:
    """All that a plan follows from."""

    account: Account
    wanted: tuple[Wanted, ...]
    ours: frozenset[Spn]  # what casarray would give the account, whatever its arrays offered
    owners: Mapping[Spn, tuple[Owner, ...]]  # of the wanted names and of their aliases
    members: tuple[MemberKeys, ...]
    numbers: Mapping[str, int] = field(default_factory=dict)  # of other owners' current keys, by `key` of their name
    contested: Mapping[Spn, str] = field(
        default_factory=dict
    )  # wanted names that other arrays want for another account
    lifetime: float = 36000.0  # seconds
    now: float = 0.0  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order in which they are done; nothing is done while anything blocks."""

    account: str
    steps: tuple[Step, ...] = ()
    blocks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def named(self, act: Act) -> tuple[Spn, ...]:
        """The names something is done with."""
        return tuple(step.name for step in self.steps if step.act is act)


def plan(picture: Picture, choices: Choices) -> Plan:
    """What to do, and why it cannot be done yet."""
    account = picture.account
    gained = tuple(gains(picture))
    losses = tuple(_losses(picture, choices))
    blocks: list[str] = []
    warnings: list[str] = []
    if gained:
        for text, blocking in _standing(picture, choices):
            (blocks if blocking else warnings).append(text)
    if moves := [step for step in gained if step.source is not None]:
        blocks += _moving(picture, choices, moves)
    for alias in _aliases(picture):
        (blocks if alias.blocks else warnings).append(alias.text)
    if left := _left(picture, losses):
        warnings.append(
            f"{account} has names that no array wants, and keeps them unless you say --prune: "
            f"{', '.join(map(str, left))}"
        )
    if account.kind is AccountKind.PRINCIPALS and any(step.act is Act.ADD for step in gained):
        warnings.append("in this realm every new name gets a key of its own: roll the password right afterwards")
    return Plan(str(account), (*gained, *losses), tuple(dict.fromkeys(blocks)), tuple(dict.fromkeys(warnings)))


def _standing(picture: Picture, choices: Choices) -> Iterator[tuple[str, bool]]:
    """What is to be said, and whether it blocks, before the account gets any name."""
    account = picture.account
    for finding in findings(account, picture.now):
        # A computer that has names of its own may be meant all the same: whoever rolls its password is asked.
        if finding.grade in (Grade.NEVER, Grade.REFUSED):
            yield finding.text, finding.code != "machine"
    for name, array in picture.contested.items():
        yield (
            f"{name}: {array} wants it too, for another account, and only one can have it: give both arrays the same "
            f"service_account, or take the name from one of them",
            True,
        )
    missing, unknown = key_gaps(account, picture.members)
    yield from ((text, True) for text in missing)
    for text in unknown:
        if choices.without_agents:
            yield f"{text}; whether it can read the tickets is not known", False
        else:
            yield f"{text}: start its agent, or say --without-agents and know it yourself", True
    if not picture.members:
        yield f"no array of {account} has a member: nobody is there to read its tickets", False


def key_gaps(account: Account, members: Sequence[MemberKeys]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Why tickets for a new name of this account could not be read: by whom for sure, and by whom perhaps."""
    if account.kind is AccountKind.PRINCIPALS:
        return (), ()  # its keys come with its names
    if account.number == 0:
        return (f"{account} has no key yet: casarray account roll {account.name}",), ()
    missing, unknown = [], []
    known: dict[tuple[str, ...], list[str]] = {}
    for member in members:
        if member.silent:
            unknown.append(f"{member.fqdn} does not tell which keys it holds ({member.silent.rstrip('.')})")
            continue
        held = member.of(account.name)
        current = held.of(account.number) if held else None
        if current is not None:
            known.setdefault(current.checks, []).append(member.fqdn)
            continue
        has = ", ".join(str(one.number) for one in held.generations) if held and held.generations else "none"
        missing.append(
            f"{member.fqdn} does not hold key {account.number} of {account} (it holds {has}) and would refuse its "
            f"tickets: bring it with casarray account roll, or take the server out of the array first"
        )
    if len(known) > 1:
        groups = " / ".join(", ".join(names) for names in known.values())
        missing.append(
            f"the members hold different keys under number {account.number} of {account} ({groups}): some of them "
            f"would refuse its tickets; casarray account roll gives all of them the same"
        )
    return tuple(missing), tuple(unknown)


def others_of(picture: Picture, name: Spn) -> tuple[Owner, ...]:
    """Who else has a name."""
    mine = key(picture.account.where), key(picture.account.name)
    return tuple(one for one in picture.owners.get(name, ()) if (key(one.where), key(one.name)) != mine)


def _names(account: Account) -> frozenset[Spn]:
    return frozenset(parse(text) for text in account.names if is_spn(text))


def gains(picture: Picture) -> Iterator[Step]:
    """In the order of safety: first what two accounts have is one's alone, then come moves, then what is free."""
    has = _names(picture.account)
    takes, moves, adds = [], [], []
    for wanted in picture.wanted:
        others = others_of(picture, wanted.name)
        ours = wanted.name in has
        for number, owner in enumerate(others):
            if number == 0 and not ours:
                moves.append(Step(Act.MOVE, wanted.name, f"from {owner.name} ({owner.where}); {wanted.reason}", owner))
            else:
                why = f"away from {owner.name} ({owner.where}), for two accounts have it"
                takes.append(Step(Act.TAKE, wanted.name, why, owner))
        if not ours and not others:
            adds.append(Step(Act.ADD, wanted.name, wanted.reason))
    yield from (*takes, *moves, *adds)


def _losses(picture: Picture, choices: Choices) -> Iterator[Step]:
    for name in sorted(unwanted(picture.account, picture.wanted), key=lambda one: one.key):
        if choices.prune or name in picture.ours:
            yield Step(Act.REMOVE, name, "no array wants it")


def unwanted(account: Account, wanted: Sequence[Wanted]) -> frozenset[Spn]:
    """Names of the account that no array wants. Those of the account itself, as a computer, are its own affair."""
    machine = key(account.name.removesuffix("$"))
    own = {machine, f"{machine}.{key(account.realm)}"}
    return frozenset(one for one in _names(account) - {w.name for w in wanted} if key(one.host) not in own)


def _left(picture: Picture, losses: Sequence[Step]) -> list[Spn]:
    gone = {step.name for step in losses}
    return sorted(unwanted(picture.account, picture.wanted) - gone, key=lambda one: one.key)


# Names of other accounts.


def _moving(picture: Picture, choices: Choices, steps: Sequence[Step]) -> Iterator[str]:
    for owner, names in _by_owner(steps).items():
        listed = ", ".join(map(str, names))
        if not choices.move:
            yield (
                f"{listed}: owned by {owner.name} ({owner.where}). {sees(picture, owner)}. Say --move to move it to "
                f"{picture.account.name}"
            )
        elif not choices.now and (waiting := _still_needed(picture, owner)):
            yield f"{listed}: {waiting}"


def sees(picture: Picture, owner: Owner) -> str:
    """What users get now for a name of another account."""
    if not owner.enabled:
        return "It is disabled: clients get no ticket, or one that the members cannot read"
    machine = _machine(picture, owner)
    if machine is not None:
        return f"Its tickets are read by {machine.fqdn} alone: on every other member Kerberos logons fail"
    if _all_hold(picture, owner):
        return "Its tickets are made with that account's key, which every member holds too"
    return "Its tickets are made with that account's key, which not every member holds: Kerberos logons fail there"


def _still_needed(picture: Picture, owner: Owner) -> str:
    """Why the owner's key is still needed; empty if it is not."""
    # A member's own tickets are read by it alone, from its machine keytab, before as after. Being disabled changes
    # nothing: some domain controllers go on making tickets for the account.
    if _machine(picture, owner) is not None or _all_hold(picture, owner):
        return ""
    return (
        f"tickets made with the key of {owner.name} live up to {duration_text(picture.lifetime)}, and not every member "
        f"is known to hold it: let the members hold that account too, or say --now, and clients with such a ticket are "
        f"refused until they get a new one (klist purge)"
    )


def _machine(picture: Picture, owner: Owner) -> MemberKeys | None:
    """The member whose own account this is."""
    if not owner.name.endswith("$"):
        return None
    name = key(owner.name.removesuffix("$"))
    return next((one for one in picture.members if key(one.fqdn.partition(".")[0]) == name), None)


def _all_hold(picture: Picture, owner: Owner) -> bool:
    number = picture.numbers.get(key(owner.name), 0)
    return bool(number and picture.members) and all(
        (held := member.of(owner.name)) is not None and held.of(number) is not None for member in picture.members
    )


def _by_owner(steps: Sequence[Step]) -> dict[Owner, list[Spn]]:
    found: dict[Owner, list[Spn]] = {}
    for step in steps:
        assert step.source is not None
        found.setdefault(step.source, []).append(step.name)
    return found


# Names that stand for others.


@dataclass(frozen=True, slots=True)
class _Alias:
    text: str
    blocks: bool


def _aliases(picture: Picture) -> Iterator[_Alias]:
    """``host/NAME`` of another account covers ``http/NAME`` as long as nobody has that itself.

    A KDC looks for the name itself first, so adding it is safe for the array and decides the matter: that is a warning.
    Where the other is the machine that is called NAME, it takes its own services' tickets away: that blocks. In an MIT
    realm no name stands for another.
    """
    if picture.account.kind is AccountKind.PRINCIPALS:
        return
    has = _names(picture.account)
    for wanted in picture.wanted:
        if wanted.name not in has:
            yield from _covered(picture, wanted.name)
        alias = wanted.name.alias
        for owner in others_of(picture, alias) if alias is not None else ():
            label = wanted.name.host.partition(".")[0]
            if key(owner.name) == f"{key(label)}$":
                yield _Alias(
                    f"{wanted.name}: {wanted.name.host} is the computer {owner.name} ({owner.where}) itself, whose "
                    f"{alias} stands for it. Its own services would get tickets they cannot read: give the array "
                    f"another name",
                    blocks=True,
                )
            elif wanted.name not in has:
                yield _Alias(
                    f"{wanted.name}: {alias} of {owner.name} ({owner.where}) stands for it as long as nobody has it by "
                    f"name. Domain controllers that compare aliases may refuse to add it: take {alias} away then",
                    blocks=False,
                )


def _covered(picture: Picture, name: Spn) -> Iterator[_Alias]:
    """What ``host/NAME`` would stand for, and somebody else has by name."""
    for cover in name.covers:
        for owner in others_of(picture, cover):
            yield _Alias(
                f"{name}: it does not stand for {cover}, which {owner.name} ({owner.where}) has by name. Domain "
                f"controllers that compare aliases may refuse to add it: take {cover} away then",
                blocks=False,
            )
