"""What administrators do with shared accounts, besides rolling them: list, show, make, adopt, remove.

Each use case looks first, refuses with all its reasons, and can tell what it would do without doing it. ``now`` is
seconds since the epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from casarray.app.directory import Edit
from casarray.app.kerberos.crew import Crew, Tell, unheard
from casarray.app.kerberos.desk import Desk
from casarray.core.directory.lookup import by_fqdn
from casarray.core.directory.model import Array, Directory, key
from casarray.core.directory.parts import some
from casarray.core.errors import CasarrayError, ConfigError, Conflict, Denied, NotFound, Unavailable
from casarray.core.kerberos.account import Account, AccountKind
from casarray.core.kerberos.account_rules import Finding, Grade, findings, refusals, warnings
from casarray.core.kerberos.encryption import AES, EXCHANGE, WORDS, Enctype, bits_of, of_bits, of_words
from casarray.core.kerberos.shares import Share, account_of

DESCRIPTION = "Shared account of client access arrays, kept by casarray"
MARK = "casarray"  # what a description has of an account that we made
SETTING = "service_account"


@dataclass(frozen=True, slots=True)
class Listed:
    """A shared account that arrays use, and what the realm has under that name."""

    share: Share
    account: Account | None  # None: it could not be looked at
    trouble: str = ""  # why not
    unreachable: bool = False  # the realm as a whole


@dataclass(frozen=True, slots=True)
class MemberKeys:
    """What a member says that it holds of the account."""

    name: str
    numbers: tuple[int, ...] = ()  # of its generations, newest first
    trouble: str = ""  # why it could not be asked, or why it should get no clients


@dataclass(frozen=True, slots=True)
class Shown:
    """An account with all that is known of it."""

    account: Account
    encryption: tuple[Enctype, ...]
    arrays: tuple[str, ...]
    servers: tuple[str, ...]
    findings: tuple[Finding, ...]
    members: tuple[MemberKeys, ...] = ()  # only if they were asked


@dataclass(frozen=True, slots=True)
class Done:
    """What was done, or would be."""

    account: str
    changes: tuple[str, ...]  # a sentence each
    warnings: tuple[str, ...] = ()
    next_steps: tuple[str, ...] = ()


# Looking.


def list_accounts(desk: Desk) -> tuple[Listed, ...]:
    """Every account that an array uses. What the realm does not tell is said beside it."""
    found: list[Listed] = []
    for share in desk.shares():
        gone = next((one.trouble for one in found if one.unreachable), "")  # who waits once need not wait again
        found.append(Listed(share, None, gone, unreachable=True) if gone else _listed(desk, share))
    return tuple(found)


def _listed(desk: Desk, share: Share) -> Listed:
    try:
        return Listed(share, desk.realm.account(share.account))
    except (Unavailable, Denied, ConfigError) as error:
        return Listed(share, None, str(error), unreachable=True)
    except CasarrayError as error:
        return Listed(share, None, str(error))


def show_account(desk: Desk, name: str, now: float, *, ask_members: bool = False, tell: Tell = unheard) -> Shown:
    """All that is known of an account, used by an array or not; ``ask_members``: what each member holds, too.

    ``tell`` hears of each member that was asked.
    """
    account = desk.realm.account(name or only_account(desk))
    share = _share(desk, account)
    found = Shown(
        account,
        of_bits(account.encryption),
        tuple(array.name for array in share.arrays),
        tuple(server.name for server in share.servers),
        findings(account, now),
    )
    return replace(found, members=_members(desk, share, tell)) if ask_members else found


def only_account(desk: Desk) -> str:
    """The account that is meant when none is named. `Conflict` if there are several, `NotFound` if there is none."""
    known = desk.shares()
    if len(known) == 1:
        return known[0].account
    if not known:
        raise NotFound("no array uses a shared account: make one with casarray account create NAME --array ARRAY")
    raise Conflict(f"name the account: {', '.join(share.account for share in known)}")


def _share(desk: Desk, account: Account) -> Share:
    """Who uses it; nobody, perhaps."""
    own = (key(account.name), key(account.name.removesuffix("$")))
    return next((one for one in desk.shares() if key(one.account) in own), Share(account.name, (), ()))


def _members(desk: Desk, share: Share, tell: Tell) -> tuple[MemberKeys, ...]:
    with Crew(desk.agents, share.servers) as crew:
        states = crew.each(crew.names, lambda _name, agent: agent.state(), tell)
    found = []
    for name, state in sorted(states.items()):
        if isinstance(state, CasarrayError):
            found.append(MemberKeys(name, trouble=str(state)))
            continue
        held = state.holding(share.account)
        numbers = tuple(one.number for one in held.generations) if held else ()
        found.append(MemberKeys(name, numbers, "; ".join(state.stale) or ("" if held else "holds no keys of it")))
    return tuple(found)


# Making and adopting.


@dataclass(frozen=True, slots=True)
class Wanted:
    """An account to be made, or to be taken as it is."""

    name: str
    kind: AccountKind = AccountKind.COMPUTER
    encryption: tuple[Enctype, ...] = ()  # none: what the configuration says
    description: str = ""
    arrays: tuple[str, ...] = ()  # that are to use it; none: the forest's, by the configuration


def create(desk: Desk, wanted: Wanted, line: str, *, dry_run: bool = False) -> Done:
    """Make an account, with a password nobody knows. ``line``: the command as typed, for the audit trail."""
    arrays = _arrays(desk, wanted.arrays)
    types = wanted.encryption or of_words(desk.settings.encryption)
    if dry_run:
        _refuse_there(desk, wanted.name)
        told = f"make the {wanted.kind} account {wanted.name} with {words_of(types)}"
        return Done(wanted.name, (told, *_uses(arrays, wanted.name)), _replaced(desk, arrays, wanted.name))
    account = desk.realm.create(wanted.name, wanted.kind, types, wanted.description or DESCRIPTION)
    told = f"make {account} ({account.where}) with {words_of(types)}"
    replaced = _replaced(desk, arrays, account.name)
    try:
        used = _use(desk, arrays, account.name, line)
    except CasarrayError as error:
        again = " ".join(f"--array {name}" for name in wanted.arrays)
        raise type(error)(
            f"{account} was made, but the arrays could not be given it ({error}): "
            f"casarray account adopt {account.name} {again}"
        ) from error
    return Done(account.name, (told, *used), replaced, _next_steps(desk, account, arrays))


def adopt(
    desk: Desk, wanted: Wanted, now: float, line: str, *, force: bool = False, dry_run: bool = False
) -> Done:  # fmt: skip
    """Take an account that is there. `Conflict` has every reason against it."""
    arrays = _arrays(desk, wanted.arrays)
    account = desk.realm.account(wanted.name)
    if against := refusals(account, now, force=force, adopting=True):
        hint = "" if refusals(account, now, force=True, adopting=True) else "; --force takes it all the same"
        raise Conflict(f"{'; '.join(against)}{hint}")
    known = (*warnings(account, now, force=force, adopting=True), *_replaced(desk, arrays, account.name))
    if dry_run:
        return Done(account.name, _uses(arrays, account.name), known)
    used = _use(desk, arrays, account.name, line)
    return Done(account.name, used, known, _next_steps(desk, account, arrays))


def _arrays(desk: Desk, names: Sequence[str]) -> tuple[Array, ...]:
    directory = desk.directory.directory()
    return tuple(_array(directory, name) for name in dict.fromkeys(names))


def _array(directory: Directory, name: str) -> Array:
    found = directory.arrays.get(key(name)) or by_fqdn(directory, name)
    if not isinstance(found, Array):
        raise NotFound(f"there is no array {name}: casarray array list shows which there are")
    return found


def _refuse_there(desk: Desk, name: str) -> None:
    try:
        there = desk.realm.account(name)
    except NotFound:
        return
    raise Conflict(f"there is an account {there} already ({there.where}): adopt it, or choose another name")


def _uses(arrays: Sequence[Array], account: str) -> tuple[str, ...]:
    return tuple(f"the array {array.name} uses {account}" for array in arrays)


def _use(desk: Desk, arrays: Sequence[Array], account: str, line: str) -> tuple[str, ...]:
    """Let these arrays use it; what was changed."""
    if not arrays:
        return ()
    outcome = desk.directory.change(using({array.name for array in arrays}, account), line)
    changed = {key(change.name) for change in outcome.changes}
    return _uses([array for array in arrays if key(array.name) in changed], account)


def using(arrays: set[str], account: str) -> Edit:
    """The edit that gives arrays this account for their own; an empty one takes what they have."""

    def edit(directory: Directory) -> Directory:
        changed = []
        for name in arrays:
            array = _array(directory, name)
            kept = {word: value for word, value in array.settings.items() if word != SETTING}
            changed.append(replace(array, settings=kept | ({SETTING: account} if account else {})))
        return directory.put(*changed)

    return edit


def _replaced(desk: Desk, arrays: Sequence[Array], account: str) -> tuple[str, ...]:
    """What an administrator should know when arrays used another one so far."""
    found = []
    for array in arrays:
        before = account_of(array, desk.settings)
        if before and _bare(before) != _bare(account):
            found.append(
                f"the array {array.name} used {before} so far, which still has its names: casarray spn plan --array "
                f"{array.name} --move shows how they are moved"
            )
    return tuple(found)


def _next_steps(desk: Desk, account: Account, arrays: Sequence[Array]) -> tuple[str, ...]:
    steps = []
    if not arrays and _bare(desk.settings.account) != _bare(account.name):
        steps.append(
            f'write account = "{account.name}" under [kerberos] in the configuration for all arrays that have none of '
            f"their own, or name an array: casarray account adopt {account.name} --array NAME"
        )
    steps.append(f"casarray account roll {account.name} gives its keys to every member")
    steps.append(f"casarray spn plan --account {account.name} shows the names that it needs then")
    return tuple(steps)


# Changing and removing.


def change_encryption(desk: Desk, name: str, types: tuple[Enctype, ...], *, dry_run: bool = False) -> Done:
    """Say with which types tickets for it are made. Its keys of new types come with the next password."""
    account = desk.realm.account(name)
    if account.kind in (AccountKind.GROUP_MANAGED, AccountKind.MANAGED) or account.domain_controller:
        raise Conflict(f"{account} is no shared account: it is left alone")
    if account.encryption == bits_of(types):
        return Done(account.name, ())
    before = words_of(of_bits(account.encryption)) if account.encryption else "nothing"
    told = f"the encryption types of {account}: {words_of(types)} ({bits_of(types)}) instead of {before}"
    new = set(types) - set(of_bits(account.encryption))
    steps = (f"its keys of the new types are made with its next password: casarray account roll {account.name}",)
    if not dry_run:
        desk.realm.change_encryption(account, types)
    return Done(account.name, (told,), next_steps=steps if new else ())


def remove(desk: Desk, name: str, now: float, *, force: bool = False, dry_run: bool = False) -> Done:
    """Delete an account that nobody needs any more. `Conflict` says who does, and what to do first."""
    account = desk.realm.account(name)
    never = [one.text for one in findings(account, now) if one.grade is Grade.NEVER]
    needed = _needed(desk, account)
    if against := never or ([] if force or not needed else [*needed, "--force removes it all the same"]):
        raise Conflict(f"{account} is not removed: {'; '.join(against)}")
    if not dry_run:
        desk.realm.remove(account)
    steps = (f"take {account.name} out of the configuration: account under [kerberos]",)
    named = _bare(desk.settings.account) == _bare(account.name)
    return Done(account.name, (f"delete {account} ({account.where})",), tuple(needed), steps if named else ())


def _needed(desk: Desk, account: Account) -> list[str]:
    reasons = []
    if arrays := [array.name for array in _share(desk, account).arrays]:
        reasons.append(
            f"{', '.join(arrays)} {'uses' if len(arrays) == 1 else 'use'} it (casarray array set NAME "
            f'--service-account "" for one of its own)'
        )
    if account.names:
        reasons.append(
            f"clients get tickets for {some(account.names)} with its key (casarray spn apply --withdraw takes the "
            f"names of arrays away)"
        )
    if MARK not in account.description.casefold():
        reasons.append("its description does not say that casarray made it")
    return reasons


# Words.


def encryption_of(text: str) -> tuple[Enctype, ...]:
    """``aes``, ``exchange`` (28), a number of the bits, or words with commas between. `Conflict` says what is right."""
    words = [word.strip().casefold() for word in text.split(",") if word.strip()]
    match words:
        case ["aes"]:
            return AES
        case ["exchange"]:
            return EXCHANGE
        case [number] if number.isascii() and number.isdigit() and len(number) < 4:
            if (types := of_bits(int(number))) and bits_of(types) == int(number):
                return types
        case [*some] if some and set(some) <= set(WORDS):
            return of_words(some)
    raise Conflict(
        f'"{text}" names no encryption types: write aes, exchange (AES and RC4, which is 28), or some of '
        f"{', '.join(WORDS)} with commas between"
    )


def words_of(types: Sequence[Enctype]) -> str:
    """``aes256, aes128``."""
    return ", ".join(one.word for one in types) or "none that is used"


def _bare(name: str) -> str:
    return key(name.rpartition("\\")[2].removesuffix("$"))
