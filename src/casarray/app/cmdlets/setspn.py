"""Setspn: the program that every administrator of Windows knows, with its switches, over the realm's accounts.

What is different, for safety: a name is always looked for in the whole forest before it is added, so ``-A`` is ``-S``
and ``-F`` is always so; ``-T`` leaves of what is shown only the accounts of a domain; and whoever gives a shared
account a name is told which members could not read its tickets.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from casarray.app.kerberos import spns
from casarray.app.kerberos.desk import Desk
from casarray.core.errors import Conflict, NotFound
from casarray.core.kerberos.account import Account, AccountKind, Owner
from casarray.core.kerberos.principal import Spn, parse
from casarray.core.kerberos.spn_audit import duplicates
from casarray.core.shell.cmdlet import Bound, Cmdlet, Host, Impact, Parameter, ParameterKind, Record, Value

TYPE = "ServicePrincipalName"
_MODES = ("S", "A", "D", "Q", "L", "X", "R")


def setspn(desk: Desk, bounds: Sequence[Bound], host: Host) -> Iterator[Value]:
    """Whatever its switches say."""
    for bound in bounds:
        modes = [mode for mode in _MODES if bound.given(mode) and bound.values[mode] is not False]
        if len(modes) > 1:
            raise Conflict(f"-{modes[0]} and -{modes[1]} do not go together: run one after the other")
        if bound.flag("U") and bound.flag("C"):
            raise Conflict("-U means a user and -C a computer: give one of them")
        mode = modes[0] if modes else "L"
        if mode in ("Q", "X") and bound.given("Account"):
            raise Conflict(f"-{mode} takes no account: leave {bound.text('Account')} out")
        if bound.given("Account") and mode in ("L", "R") and bound.text(mode):
            raise Conflict(f"-{mode} takes one account: leave {bound.text('Account')} out")
        yield from _DOING[mode](desk, bound, host)


# Changing.


def _add(desk: Desk, bound: Bound, host: Host) -> Iterator[Value]:
    name = parse(bound.text("S") or bound.text("A"))
    account = _account(desk, bound, bound.text("Account"))
    _checking(desk, host)
    others = _others(desk, name, account)
    if name.key in {text.casefold() for text in account.names} and not others:
        host.warn(f"{account} has {name} already; nothing was changed")
        return
    if others:
        raise Conflict(
            f"{name} belongs to {others[0].name} ({others[0].where}) already, and two accounts with one name get no "
            f"tickets at all: nothing was changed. Take it away there first (Setspn -D {name} {others[0].name}), or "
            f"move it with casarray spn apply --move"
        )
    readers = spns.readers(desk, account)
    for sentence in spns.unready(account, readers):
        host.warn(sentence)
    if host.may(f"Add {name}", account.where):
        _, failed = spns.introduce(desk, account, readers, (name,))
        for sentence in spns.not_told(failed):
            host.warn(sentence)
        after = desk.realm.change_names(account, (name,), ())
        if name.key not in {text.casefold() for text in after.names}:
            raise Conflict(f"{name} did not stay with {after}: somebody else changes it, look who")
        if rivals := _others(desk, name, after):
            raise Conflict(f"{name} was given to {rivals[0].name} ({rivals[0].where}) in the same moment: remove one")
        yield _record(str(name), after.name, after.where, "added")


def _others(desk: Desk, name: Spn, account: Account) -> list[Owner]:
    found = desk.realm.owners((name,)).get(name, ())
    return [one for one in found if one.where.casefold() != account.where.casefold()]


def _delete(desk: Desk, bound: Bound, host: Host) -> Iterator[Value]:
    name = parse(bound.text("D"))
    account = _account(desk, bound, bound.text("Account"))
    if name.key not in {text.casefold() for text in account.names}:
        raise NotFound(f"{account} has no {name}; Setspn -L {account.name} shows what it has")
    if host.may(f"Remove {name}", account.where):
        after = desk.realm.change_names(account, (), (name,))
        yield _record(str(name), after.name, after.where, "removed")


def _reset(desk: Desk, bound: Bound, host: Host) -> Iterator[Value]:
    account = _account(desk, bound, bound.text("R"))
    if account.kind is not AccountKind.COMPUTER:
        raise Conflict(f"only a computer has names by itself, and {account} is none: add its names with Setspn -S")
    machine = account.name.removesuffix("$")
    wanted = (Spn("HOST", machine), Spn("HOST", f"{machine}.{account.realm}".lower()))
    has = {text.casefold() for text in account.names}
    lacking = [name for name in wanted if name.key not in has]
    if not lacking:
        host.warn(f"{account} has the names of its machine already; nothing was changed")
        return
    for name in lacking:
        if others := _others(desk, name, account):
            raise Conflict(f"{name} belongs to {others[0].name} ({others[0].where}) already: nothing was changed")
    if host.may(f"Add {' and '.join(map(str, lacking))}", account.where):
        after = desk.realm.change_names(account, lacking, ())
        for name in lacking:
            yield _record(str(name), after.name, after.where, "added")


# Looking.


def _query(desk: Desk, bound: Bound, host: Host) -> Iterator[Value]:
    text = bound.text("Q")
    if not text:
        raise Conflict("-Q needs a name, like http/mail.domain.tld or */mail.domain.tld")
    _checking(desk, host)
    found = [one for one in spns.find(desk.realm, text, _tell(bound, host)) if _in_domain(one.owner, bound)]
    host.progress("", 1, 1)
    for one in found:
        note = f"stands for {one.stands_for}" if one.stands_for else ""
        yield _record(one.name, one.owner.name, one.owner.where, note or ("" if one.owner.enabled else "disabled"))
    if not found:
        yield f"Nobody in {_where(desk, bound)} has {text}."


def _list(desk: Desk, bound: Bound, _host: Host) -> Iterator[Value]:
    account = _account(desk, bound, bound.text("L") or bound.text("Account"))
    for name in sorted(account.names, key=str.casefold):
        yield _record(name, account.name, account.where, "" if account.enabled else "disabled")
    if not account.names:
        yield f"{account} ({account.where}) has no names."


def _duplicates(desk: Desk, bound: Bound, host: Host) -> Iterator[Value]:
    _checking(desk, host)
    groups = 0
    found = duplicates(spns.watched(desk.realm, _tell(bound, host)))
    host.progress("", 1, 1)
    for name, owners in sorted(found.items(), key=lambda pair: pair[0].casefold()):
        if not any(_in_domain(owner, bound) for owner in owners):
            continue
        groups += 1
        for owner in owners:
            yield _record(name, owner.name, owner.where, f"duplicate, group {groups}")
    if groups:
        host.warn(f"{groups} name{'' if groups == 1 else 's'} with more than one account: nobody gets tickets for them")
    else:
        yield f"No name in {_where(desk, bound)} belongs to two accounts."


# What they share.


def _account(desk: Desk, bound: Bound, text: str) -> Account:
    """The account that was typed, perhaps with its domain in front of it; -U and -C say what it has to be."""
    name = text.rpartition("\\")[2].strip()
    if not name:
        raise Conflict("name the account: Setspn -S http/mail.domain.tld account, or Setspn -L account")
    if bound.flag("C") and not name.endswith("$"):
        name += "$"
    found = desk.realm.account(name)
    if bound.flag("U") and found.kind is not AccountKind.USER:
        raise Conflict(f"{found} is no user but a {found.kind} account: leave -U out")
    if bound.flag("C") and found.kind is not AccountKind.COMPUTER:
        raise Conflict(f"{found} is no computer but a {found.kind} account: leave -C out")
    return found


def _checking(desk: Desk, host: Host) -> None:
    host.verbose(f"looking through the forest of {desk.realm.name}")


def _tell(bound: Bound, host: Host) -> spns.Tell:
    """Nobody knows how many accounts there are: it is so many of at least some more."""
    if bound.flag("P"):
        return spns.quiet
    return lambda activity, done, of: host.progress(activity, done, of or done + spns.TELL_EVERY)


def _domain_of(where: str) -> str:
    parts = (part.partition("=") for part in where.split(","))
    return ".".join(value for name, _, value in parts if name.strip().casefold() == "dc").casefold()


def _in_domain(owner: Owner, bound: Bound) -> bool:
    """Whether -T leaves it: no -T and * leave all, else the domain's full name or its first label."""
    wanted = bound.text("T").strip().casefold()
    if wanted in ("", "*") or bound.flag("F"):
        return True
    domain = _domain_of(owner.where)
    return wanted in (domain, domain.partition(".")[0])


def _where(desk: Desk, bound: Bound) -> str:
    wanted = bound.text("T").strip()
    forest = wanted in ("", "*") or bound.flag("F")
    return f"the forest of {desk.realm.name}" if forest else f"the domain {wanted}"


def _record(name: str, account: str, where: str, note: str) -> Record:
    properties: dict[str, Value] = {"Name": name, "Account": account, "DistinguishedName": where, "Note": note}
    return Record(TYPE, properties, ("Name", "Account", "Note", "DistinguishedName"))


_DOING = {
    "S": _add, "A": _add, "D": _delete, "Q": _query, "L": _list, "X": _duplicates, "R": _reset,
}  # fmt: skip


def cmdlets(desk: Desk) -> tuple[Cmdlet, ...]:
    """What this file offers."""
    switch = ParameterKind.SWITCH
    return (
        Cmdlet(
            "Setspn",
            partial(setspn, desk),
            (
                Parameter("S", help="Give the account this name, unless somebody in the forest has it."),
                Parameter("A", help="The same as -S: nothing is added without looking first."),
                Parameter("D", help="Take this name away from the account."),
                Parameter("Q", help="Who has this name; * stands for anything, as in */mail.domain.tld."),
                Parameter("L", help="List the names of this account."),
                Parameter("X", switch, help="Names that more than one account has."),
                Parameter("R", help="Give this computer the names of its machine again."),
                Parameter("F", switch, help="Look in the whole forest, which is always done."),
                Parameter("T", help="With -Q and -X: show only the accounts of this domain; * for all."),
                Parameter("P", switch, help="Do not tell how far it is."),
                Parameter("U", switch, help="The account is a user."),
                Parameter("C", switch, help="The account is a computer."),
                Parameter("Account", position=0, help="The account, like dienstkonto or CONTOSO\\dienstkonto."),
            ),
            Impact.LOW,
            "Shows and sets the service principal names of accounts.",
            (
                "Setspn -S http/autodiscover.contoso.com dienstkonto",
                "Setspn -Q */mail.contoso.com",
                "Setspn -L dienstkonto",
                "Setspn -X -F",
            ),
            aliases=("setspn.exe",),
        ),
    )
