"""Gives what one member holds of a shared account to others: a new member, or one that was away. No new password."""

from casarray.app.kerberos.crew import Crew
from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.order import Job, Report
from casarray.app.kerberos.ports import AgentState
from casarray.app.kerberos.telling import MemberLine, MemberState
from casarray.core.directory.model import Server
from casarray.core.errors import CasarrayError, NotFound, Unavailable
from casarray.core.kerberos.account import Account, AccountKind
from casarray.core.kerberos.keys import Generation, Holding
from casarray.core.kerberos.roll import numbered
from casarray.core.kerberos.roll_steps import Outcome
from casarray.core.kerberos.shares import Share


def copy(job: Job) -> Report:
    """Copy. The realm is only asked whether the keys are right; when it does not answer, they are copied all the same.

    Raises what the source says, `NotFound` if it holds nothing.
    """
    desk, order, share, crew = job.desk, job.order, job.share, job.crew
    started = job.now()
    source = share.server(order.copy_from)
    if source is None:
        raise NotFound(f"{order.copy_from} is no member with the account {share.account}, so it has nothing to give")
    targets = tuple(name for name in crew.names if name != source.name)
    warnings: list[str] = []
    known = _known(desk, share, warnings)
    with Crew(desk.agents, (source,)) as giver:
        holding = giver.one(source.name, lambda agent: agent.give(known.name if known else share.account))
    account = known or _told_by(holding)
    found: dict[str, AgentState | CasarrayError] = {}
    planned: tuple[str, ...] = ()
    refusal = _refusal(source, account, holding, warnings, desk) if not order.force else ""
    if refusal or not targets:
        text = refusal or f"nothing was changed: {source.name} is the only member that was named"
        outcome = Outcome.REFUSED
    elif order.dry_run:
        planned = (f"give what {source.name} holds of {account} to {', '.join(targets)}",)
        outcome, text = Outcome.NOT_DUE, "nothing was changed: this is what would be done"
    else:
        job.watch.phase(f"giving what {source.name} holds", targets)
        found = crew.each(targets, lambda _, agent: agent.take(holding), job.watch.member)
        outcome, text = _outcome(source, account, found)
    lines = tuple(_line(share, account, name, found.get(name)) for name in targets)
    return Report(account, outcome, text, account.number, lines, tuple(warnings), planned, started, job.now())


def _known(desk: Desk, share: Share, warnings: list[str]) -> Account | None:
    try:
        return desk.realm.account(share.account)
    except Unavailable as error:
        warnings.append(f"whether these are the keys of the directory was not seen: {error}")
        return None


def _told_by(holding: Holding) -> Account:
    """The account as far as a member knows it."""
    number = next((one.number for one in holding.generations if not one.pending), 0)
    return Account(holding.account, holding.realm, AccountKind.COMPUTER, number=number)


def _refusal(source: Server, account: Account, holding: Holding, warnings: list[str], desk: Desk) -> str:
    """Why these keys are not given: the directory has others. Empty: they may be."""
    if warnings:
        return ""
    said = ""
    for one in _likely(holding, account.number):
        try:
            said = desk.realm.prove(account, numbered(one, account.number))
        except Unavailable as error:
            warnings.append(f"whether these are the keys of the directory was not seen: {error}")
            return ""
        if not said:
            if one.pending or one.number != account.number:
                warnings.append(f"an earlier roll was broken off: finish it with casarray account roll {account.name}")
            return ""
    return (
        f"nothing was changed: {source.name} does not hold the key that the directory has (number {account.number})"
        f"{f': {said}' if said else ''}. Copy from another member, or use --force"
    )


def _likely(holding: Holding, number: int) -> list[Generation]:
    """What may be in the directory."""
    return [one for one in holding.generations if one.number == number or one.pending][:2]


def _outcome(source: Server, account: Account, found: dict[str, AgentState | CasarrayError]) -> tuple[Outcome, str]:
    failed = {name: said for name, said in found.items() if isinstance(said, CasarrayError)}
    given = [name for name in found if name not in failed]
    why = "; ".join(f"{name}: {said}" for name, said in failed.items())
    if not given:
        return Outcome.REFUSED, f"nothing was changed: {why}"
    text = f"{', '.join(given)} now hold{'s' if len(given) == 1 else ''} of {account} what {source.name} holds"
    return (Outcome.UNFINISHED, f"{text}, but not all: {why}") if failed else (Outcome.CAUGHT_UP, text)


def _line(share: Share, account: Account, name: str, said: AgentState | CasarrayError | None) -> MemberLine:
    server = share.server(name)
    host = server.fqdn if server else ""
    if said is None:
        return MemberLine(name, host, MemberState.UNCHANGED)
    if isinstance(said, CasarrayError):
        return MemberLine(name, host, MemberState.MISSING, detail=str(said))
    found = said.holding(account.name)
    held = found.generations if found else ()
    numbers, made = tuple(one.number for one in held), tuple(one.made for one in held)
    return MemberLine(name, host, MemberState.CONFIRMED, numbers, made=made)
