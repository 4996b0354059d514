"""The service principal names of the shared accounts: planned, set, audited, listed, found."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import translate

from casarray.app.kerberos.crew import Crew
from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.ports import Realm
from casarray.core.directory.model import Server, key
from casarray.core.errors import CasarrayError, Conflict, MovedOn, NotFound
from casarray.core.kerberos import spn_audit
from casarray.core.kerberos.account import Account, AccountKind, Owner
from casarray.core.kerberos.principal import Spn, is_spn, parse
from casarray.core.kerberos.shares import Share
from casarray.core.kerberos.spn_audit import AuditedShare, Finding, Forest
from casarray.core.kerberos.spn_plan import Act, Choices, MemberKeys, Picture, Plan, Step, gains, key_gaps, plan
from casarray.core.kerberos.wanted import Wanted, could_be_ours, hosts_of, wanted_names

TELL_EVERY = 500  # accounts

Tell = Callable[[str, int, int], None]
"""What is being done, how much of it, of how much (0: nobody knows)."""


def quiet(_activity: str, _done: int, _of: int) -> None:
    """Nobody looks."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done for one account."""

    plan: Plan
    names: tuple[str, ...]  # that the account has now
    told: tuple[str, ...] = ()  # members that were told new names
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listed:
    """A name of a shared account."""

    account: str
    name: str
    there: bool
    wanted: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A name and who has it."""

    name: str
    owner: Owner
    stands_for: str = ""  # what was asked for, if the owner gets its tickets by an alias alone


def chosen(desk: Desk, account: str | None = None, array: str | None = None) -> tuple[Share, ...]:
    """The shares that are meant, all if nothing is said; each whole. `NotFound` says how an array gets an account."""
    if account is not None:
        found: tuple[Share, ...] = (desk.share_of(account),)
    else:
        found = desk.shares()
    if array is not None:
        if key(array) not in desk.directory.directory().arrays:
            raise NotFound(f'there is no array "{array}": casarray array list shows them')
        found = tuple(share for share in found if any(key(one.name) == key(array) for one in share.arrays))
    if not found:
        raise NotFound(
            f"{f'the array {array}' if array else 'no array'} has {'no' if array else 'a'} shared account"
            f"{f' {account}' if array and account else ''}: set account under [kerberos] in the configuration, or "
            f"service_account of the array"
        )
    return found


# Planning.


def make_plan(desk: Desk, share: Share, choices: Choices, tell: Tell = quiet) -> Plan:
    """What would have to be done for one account. Changes nothing."""
    return plan(_picture(desk, share, choices, tell), choices)


def ask_members(desk: Desk, servers: Sequence[Server], tell: Tell = quiet) -> tuple[MemberKeys, ...]:
    """What the members hold, asked of all their agents at the same time."""
    if not servers:
        return ()
    answered = 0

    def count(_name: str, _why: str) -> None:
        nonlocal answered
        answered += 1
        tell("asking the members", answered, len(servers))

    with Crew(desk.agents, servers) as crew:
        found = crew.each(crew.names, lambda _, agent: agent.state().held, count)
    answers = ((server.fqdn, found[server.name]) for server in servers)
    return tuple(
        MemberKeys(fqdn, silent=str(held)) if isinstance(held, CasarrayError) else MemberKeys(fqdn, held)
        for fqdn, held in answers
    )


@dataclass(frozen=True, slots=True)
class Readers:
    """Who has to read an account's tickets: the members of the arrays that use it, and what they hold."""

    servers: tuple[Server, ...] = ()
    members: tuple[MemberKeys, ...] = ()


def readers(desk: Desk, account: Account, tell: Tell = quiet) -> Readers:
    """Those of an account; nobody if no array uses it."""
    try:
        share = desk.share_of(account.name)
    except NotFound:
        return Readers()
    return Readers(share.servers, ask_members(desk, share.servers, tell))


def unready(account: Account, found: Readers) -> tuple[str, ...]:
    """Why members would refuse tickets for another name of this account."""
    missing, unknown = key_gaps(account, found.members)
    return (*missing, *unknown) if found.servers else ()


def _picture(desk: Desk, share: Share, choices: Choices, tell: Tell) -> Picture:
    account = desk.realm.account(share.account)
    wanted = () if choices.withdraw else wanted_names(share, desk.settings, desk.profile)
    names = {name for one in wanted for name in (one.name, one.name.alias, *one.name.covers) if name is not None}
    owners = desk.realm.owners(sorted(names, key=lambda one: one.key))
    contested = _contested(desk, share, wanted)
    lifetime, now = desk.settings.lifetime, time.time()
    picture = Picture(account, wanted, could_be_ours(share), owners, (), {}, contested, lifetime, now)
    steps = tuple(gains(picture))
    if not steps:
        return picture
    sources = {key(step.source.name): step.source for step in steps if step.source is not None}
    numbers = {}
    for name, source in sources.items():
        with suppress(CasarrayError):  # in another domain, perhaps: then nobody is known to hold its key
            numbers[name] = desk.realm.account(source.name).number
    return replace(picture, members=ask_members(desk, share.servers, tell), numbers=numbers)


def _contested(desk: Desk, share: Share, wanted: Sequence[Wanted]) -> Mapping[Spn, str]:
    """What arrays of other accounts want as well, with the name of such an array."""
    ours = {one.name for one in wanted}
    found: dict[Spn, str] = {}
    for other in desk.shares():
        if key(other.account) != key(share.account):
            with suppress(Conflict):  # its settings are wrong: an audit says so
                found |= {w.name: w.array for w in wanted_names(other, desk.settings, desk.profile) if w.name in ours}
    return found


# Doing.


def apply(desk: Desk, share: Share, choices: Choices, agreed: Plan | None = None, tell: Tell = quiet) -> Outcome:
    """Carry a plan out, made anew now: ``agreed`` is what somebody saw, and if it is another by now, `MovedOn`.

    Members are told the new names first: a ticket for a name that no keytab has is refused. Then comes the directory,
    and what it holds then is read back. What fails leaves no name half moved. Raises `Conflict` for what blocks.
    """
    picture = _picture(desk, share, choices, tell)
    todo = plan(picture, choices)
    if agreed is not None and todo.steps != agreed.steps:
        raise MovedOn(f"what has to be done for {todo.account} has changed meanwhile: look at the plan again")
    if todo.blocks:
        raise Conflict(f"nothing was changed for {todo.account}: {'; '.join(todo.blocks)}")
    if not todo.steps:
        return Outcome(todo, picture.account.names, (), todo.warnings)
    new = (*todo.named(Act.MOVE), *todo.named(Act.ADD))
    told, failed = introduce(desk, picture.account, Readers(share.servers, picture.members), new)
    if failed and not choices.without_agents:
        raise Conflict(f"the directory was not changed: {'; '.join(not_told(failed))}")
    _carry_out(desk.realm, picture.account, todo)
    tell("reading back", 0, 0)
    after = _checked(desk.realm, picture.account, todo)
    if new:  # whoever rolled, or named, in the same moment may have told the members other names
        late, failed = introduce(desk, after, Readers(share.servers, ask_members(desk, share.servers, tell)), new)
        told = tuple(dict.fromkeys((*told, *late)))
    return Outcome(todo, after.names, told, (*todo.warnings, *not_told(failed)))


def introduce(
    desk: Desk, account: Account, found: Readers, new: Sequence[Spn]
) -> tuple[tuple[str, ...], dict[str, CasarrayError]]:
    """Tell the members that hold the account its new names: who was told, and who could not be.

    They keep the old ones as well: tickets for those live on.
    """
    if account.kind is AccountKind.PRINCIPALS:
        return (), {}  # they come with their keys
    names: dict[str, tuple[str, ...]] = {}
    for member in found.members:
        held = member.of(account.name)
        known = {text.casefold() for text in held.names} if held else set()
        lacking = [str(name) for name in new if name.key not in known]
        if held is not None and lacking:
            names[member.fqdn] = (*held.names, *lacking)
    servers = {server.name: server for server in found.servers if server.fqdn in names}
    if not servers:
        return (), {}
    with Crew(desk.agents, servers.values()) as crew:
        done = crew.each(crew.names, lambda name, agent: agent.rename(account.name, names[servers[name].fqdn]))
    failed = {servers[name].fqdn: error for name, error in done.items() if isinstance(error, CasarrayError)}
    return tuple(fqdn for fqdn in names if fqdn not in failed), failed


def not_told(failed: Mapping[str, CasarrayError]) -> tuple[str, ...]:
    """What it means that members could not be told."""
    return tuple(f"{fqdn} was not told the new names, and may refuse their tickets: {e}" for fqdn, e in failed.items())


def _carry_out(realm: Realm, account: Account, todo: Plan) -> None:
    """Change the directory: each other account in one go, then ours; what was moved goes back if the end fails."""
    for owner, names in _by_source(todo.steps, Act.TAKE):
        realm.change_names(realm.account(owner.name), (), names)
    moved: list[tuple[Owner, list[Spn]]] = []
    try:
        for owner, names in _by_source(todo.steps, Act.MOVE):
            realm.move_names(names, owner, account)
            moved.append((owner, names))
        add, remove = todo.named(Act.ADD), todo.named(Act.REMOVE)
        if add or remove:
            realm.change_names(account, add, remove)
    except CasarrayError as error:
        if trouble := _put_back(realm, account, moved):
            raise type(error)(f"{error}; and {'; '.join(trouble)}: casarray spn plan shows how it stands") from error
        raise


def _put_back(realm: Realm, account: Account, moved: Sequence[tuple[Owner, list[Spn]]]) -> list[str]:
    """Undo moves; says of each that could not be undone."""
    trouble = []
    for owner, names in reversed(moved):
        try:
            realm.move_names(names, Owner(account.name, account.where), realm.account(owner.name))
        except CasarrayError as error:
            listed = ", ".join(map(str, names))
            trouble.append(f"{listed} could not be given back to {owner.name} ({error})")
    return trouble


def _by_source(steps: Sequence[Step], act: Act) -> list[tuple[Owner, list[Spn]]]:
    found: dict[str, tuple[Owner, list[Spn]]] = {}
    for step in steps:
        if step.act is act and step.source is not None:
            found.setdefault(key(step.source.where), (step.source, []))[1].append(step.name)
    return list(found.values())


def _checked(realm: Realm, account: Account, todo: Plan) -> Account:
    """The account as the directory has it now; a name that did not stay, or is somebody's too, is a `Conflict`."""
    after = realm.account(account.name)
    has = {text.casefold() for text in after.names}
    gained = [step.name for step in todo.steps if step.act is not Act.REMOVE]
    if lost := [str(name) for name in gained if name.key not in has]:
        raise Conflict(f"{', '.join(lost)} did not stay with {account}: somebody else changes it, look who")
    for name, owners in realm.owners(gained).items():
        if others := [one for one in owners if key(one.where) != key(after.where)]:
            raise Conflict(
                f"{others[0].name} ({others[0].where}) was given {name} in the same moment, so nobody gets a ticket "
                f"for it: casarray spn apply --move takes it away from there"
            )
    return after


# Looking.


def audit(desk: Desk, account: str | None = None, array: str | None = None, tell: Tell = quiet) -> tuple[Finding, ...]:
    """Everything that is wrong with the names, of the whole forest; or what concerns some shares alone."""
    everything = account is None and array is None
    shares = desk.shares() if everything else chosen(desk, account, array)
    audited = tuple(_audited(desk, share) for share in shares)
    hosts = list(dict.fromkeys(host for share in shares for host in hosts_of(share)))
    tell("asking DNS", 0, len(hosts))
    canonical = desk.canonical(hosts)
    found = spn_audit.audit(Forest(watched(desk.realm, tell), audited, canonical))
    if everything:
        return found
    accounts = {key(share.account) for share in shares}
    arrays = {one.name for share in shares for one in share.arrays}
    return tuple(one for one in found if arrays & set(one.arrays) or key(one.name) in accounts)


def watched(realm: Realm, tell: Tell) -> Iterator[Owner]:
    """Every account, telling how many there are so far."""
    for number, owner in enumerate(realm.all_owners(), 1):
        if number % TELL_EVERY == 0:
            tell("reading the forest's accounts", number, 0)
        yield owner


def _audited(desk: Desk, share: Share) -> AuditedShare:
    account: Account | None
    try:
        account = desk.realm.account(share.account)
    except NotFound:
        account = None
    wanted: list[Wanted] = []
    wrong = []
    for one in share.arrays:
        try:
            wanted += wanted_names(replace(share, arrays=(one,)), desk.settings, desk.profile)
        except Conflict as error:
            wrong.append(str(error))
    unique = {each.name: each for each in reversed(wanted)}
    return AuditedShare(share.account, account, tuple(reversed(unique.values())), share.servers, tuple(wrong))


def listed(desk: Desk, account: str | None = None, array: str | None = None) -> tuple[Listed, ...]:
    """The names of the shared accounts, and those that they should have; of any other account the names alone."""
    try:
        shares = chosen(desk, account, array)
    except NotFound:
        if account is None or array is not None:
            raise
        other = desk.realm.account(account.rpartition("\\")[2])
        return tuple(Listed(other.name, name, there=True, wanted=False) for name in other.names)
    return tuple(one for share in shares for one in _of_share(desk, share))


def _of_share(desk: Desk, share: Share) -> Iterator[Listed]:
    account = desk.realm.account(share.account)
    wanted = {one.name.key: one for one in wanted_names(share, desk.settings, desk.profile)}
    has = {text.casefold() for text in account.names}
    for one in wanted.values():
        yield Listed(account.name, str(one.name), one.name.key in has, wanted=True, reason=one.reason)
    for text in sorted(account.names, key=str.casefold):
        if text.casefold() not in wanted:
            yield Listed(account.name, text, there=True, wanted=False)


def find(realm: Realm, wanted: str, tell: Tell = quiet) -> tuple[Found, ...]:
    """Who has a name, or names like it: * and ? stand for anything; a host alone means all its names.

    Of one name, who has its alias ``host/NAME`` is told as well.
    """
    text = wanted.strip()
    if is_spn(text) and not set("*?") & set(text):
        return _find_one(realm, parse(text))
    shapes = [text] if "/" in text else [f"*/{text}", f"*/{text}:*", f"*/{text}/*"]
    patterns = [re.compile(translate(shape.casefold().replace("[", "[[]"))) for shape in shapes]
    found = [
        Found(name, owner)
        for owner in watched(realm, tell)
        for name in owner.names
        if any(pattern.match(name.casefold()) for pattern in patterns)
    ]
    return tuple(sorted(found, key=lambda one: (key(one.name), key(one.owner.where))))


def _find_one(realm: Realm, name: Spn) -> tuple[Found, ...]:
    alias = name.alias
    owners = realm.owners([name, *([alias] if alias is not None else [])])
    found = [Found(str(name), owner) for owner in owners.get(name, ())]
    if alias is not None:  # in Active Directory, whose accounts have DNs: in an MIT realm no name stands for another
        found += [Found(str(alias), owner, str(name)) for owner in owners.get(alias, ()) if "=" in owner.where]
    return tuple(found)
