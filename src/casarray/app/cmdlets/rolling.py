"""The script of Exchange that rolls the password of the alternate service account, typed as it always was.

``-Except``, ``-Force``, ``-Every`` are ours; all else is Exchange's. What it prints is in words of our own.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from casarray.app.cmdlets.identity import has_wildcard, wildcard
from casarray.app.kerberos import scheduling
from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.member_keys import moment, two_lines
from casarray.app.kerberos.order import Order, Report, Scope
from casarray.app.kerberos.rolling import roll
from casarray.app.kerberos.telling import MemberState
from casarray.core.config_values import duration_text
from casarray.core.directory.model import key
from casarray.core.errors import Conflict, NotFound, Unavailable
from casarray.core.kerberos.account import AccountKind
from casarray.core.kerberos.roll_steps import Outcome
from casarray.core.kerberos.shares import Share
from casarray.core.shell.cmdlet import Bound, Cmdlet, Host, Impact, Parameter, ParameterKind, Record, Value

NAME = "RollAlternateServiceAccountPassword.ps1"
_FOREST, _ARRAYS, _SERVERS = "ToEntireForest", "ToArrayMembers", "ToSpecificServers"
_CLASSES = {AccountKind.COMPUTER: "computer", AccountKind.USER: "user", AccountKind.PRINCIPALS: "principals"}


class HostWatch:
    """`casarray.app.kerberos.telling.Watch` for whoever types at the shell."""

    def __init__(self, host: Host) -> None:
        """Tell this host."""
        self._host = host
        self._text, self._done, self._of = "", 0, 0

    def phase(self, text: str, members: Sequence[str]) -> None:
        """Something begins."""
        self._text, self._done, self._of = text, 0, len(members)
        self._host.verbose(f"{text}: {', '.join(members)}" if members else text)
        if members:
            self._host.progress(text, 0, self._of)

    def member(self, name: str, why: str) -> None:
        """One further."""
        self._done += 1
        self._host.verbose(f"{name}: {why or 'done'}")
        self._host.progress(self._text, self._done, self._of)

    def agree(self, question: str) -> bool:
        """Ask."""
        return self._host.agree(question)

    def verbose(self, text: str) -> None:
        """A step."""
        self._host.verbose(text)


def run(desk: Desk, bounds: Sequence[Bound], host: Host) -> Iterator[Value]:
    """Roll, copy, or schedule."""
    for bound in bounds:
        share = _share(desk, bound)
        order = _order(share, bound, dry_run=host.what_if)
        if name := bound.text("CreateScheduledTask"):
            yield from _scheduled(desk, order, name, bound, host)
        elif host.what_if or host.may("roll the password" if not order.copy_from else "copy the keys", share.account):
            yield from _rolled(desk, order, share, host)


def _share(desk: Desk, bound: Bound) -> Share:
    account, source = bound.text("GenerateNewPasswordFor"), bound.text("CopyFrom")
    if bool(account) == bool(source):
        raise Conflict('say what to give: -GenerateNewPasswordFor "DOMAIN\\account$", or -CopyFrom SERVER')
    if account:
        return desk.share_of(account)
    found = [share for share in desk.shares() if share.server(source)]
    if not found:
        raise NotFound(f"{source} is no member of an array with a shared account, so it has nothing to copy")
    if len(found) > 1:
        raise Conflict(f"{source} has several shared accounts; use casarray account roll ACCOUNT --copy-from {source}")
    return found[0]


def _order(share: Share, bound: Bound, *, dry_run: bool) -> Order:
    return Order(
        bound.text("GenerateNewPasswordFor") or share.account,
        _scope(share, bound),
        attended=bound.text("Mode", "Attended") == "Attended",
        force=bound.flag("Force"),
        left_out=bound.texts("Except"),
        dry_run=dry_run,
        copy_from=bound.text("CopyFrom"),
    )


def _scope(share: Share, bound: Bound) -> Scope:
    named = bound.texts("Identity")
    chosen = [name for name in (_FOREST, _ARRAYS, _SERVERS) if bound.flag(name)]
    if len(chosen) != 1:
        raise Conflict(f"say where to: -{_FOREST}, -{_ARRAYS} NAME or -{_SERVERS} NAME")
    if chosen[0] == _FOREST:
        if named:
            raise Conflict(f"-{_FOREST} means every member, so -Identity does not go with it")
        return Scope()
    if not named:
        raise Conflict(f"-{chosen[0]} wants names behind -Identity, with wildcards if you like")
    if chosen[0] == _ARRAYS:
        known = {array.name: (array.name, array.fqdn) for array in share.arrays}
        return Scope(arrays=_matching(named, known, f"array with the account {share.account}"))
    servers = {server.name: (server.name, server.fqdn) for server in share.servers}
    return Scope(servers=_matching(named, servers, f"member with the account {share.account}"))


def _matching(named: Iterable[str], known: dict[str, tuple[str, str]], what: str) -> tuple[str, ...]:
    """The names that are meant: ``-ToArrayMembers *mailbox*``."""
    found: list[str] = []
    for text in named:
        pattern = wildcard(text) if has_wildcard(text) else None
        hits = [
            name
            for name, words in known.items()
            if any(pattern.fullmatch(word) if pattern else key(text) == key(word) for word in words)
        ]
        if not hits:
            raise NotFound(f'there is no {what} called "{text}"; there are {", ".join(known) or "none"}')
        found += hits
    return tuple(dict.fromkeys(found))


def _scheduled(desk: Desk, order: Order, name: str, bound: Bound, host: Host) -> Iterator[Value]:
    if not host.may("write the timer that rolls the password", name):
        return
    done = scheduling.schedule(desk, order, name, bound.text("Every"))
    yield from done.paths
    yield done.text


def _rolled(desk: Desk, order: Order, share: Share, host: Host) -> Iterator[Value]:
    report = roll(desk, order, HostWatch(host))
    for planned in report.planned:
        host.say_what_if(planned, share.account)
    for warning in report.warnings:
        host.warn(warning)
    for line in report.members:
        if line.state is MemberState.MISSING:
            host.warn(f"{line.name} {line.detail}")
    if report.outcome is Outcome.REFUSED:
        raise Conflict(report.text)
    if report.outcome is Outcome.UNFINISHED:
        raise Unavailable(report.text)
    if not host.what_if:
        yield from _told(order, share, report)


def _told(order: Order, share: Share, report: Report) -> Iterator[Value]:
    numbers = sorted({number for line in report.members for number in line.numbers}, reverse=True)
    yield f"Started: {moment(report.started)}"
    yield f"Destination servers: {', '.join(line.name for line in report.members)}"
    what = f"Keys of {report.account}, newest first: {', '.join(map(str, numbers))}"
    yield f"{what}; copied from {order.copy_from}" if order.copy_from else what
    account = report.account
    yield Record(
        "AlternateServiceAccount",
        {
            "StructuralObjectClass": _CLASSES.get(account.kind, str(account.kind)),
            "QualifiedUserName": str(account),
            "LastPasswordUpdate": moment(account.set_at or 0.0),
            "SPNs": account.names,
        },
    )
    for array in share.arrays:
        for line in report.members:
            server = share.server(line.name)
            if server and key(server.site) == key(array.site):
                held = two_lines(str(account), line.numbers, line.made)
                yield Record(
                    "AlternateServiceAccountOfMember",
                    {
                        "Array": array.name,
                        "Identity": line.name,
                        "AlternateServiceAccountConfiguration": "\n".join(held),
                    },
                    ("Array", "Identity", "AlternateServiceAccountConfiguration"),
                )
    yield f"Finished: {moment(report.ended)}, after {duration_text(float(round(report.ended - report.started)))}"
    yield f"The script has succeeded: {report.text}."


def cmdlets(desk: Desk) -> tuple[Cmdlet, ...]:
    """What this file offers."""
    switch, texts = ParameterKind.SWITCH, ParameterKind.STRINGS
    return (
        Cmdlet(
            NAME,
            partial(run, desk),
            (
                Parameter(_FOREST, switch, help="To every member of every array that uses the account."),
                Parameter(_ARRAYS, switch, help="To the members of the arrays in -Identity."),
                Parameter(_SERVERS, switch, help="To the servers in -Identity."),
                Parameter("Identity", texts, position=0, rest=True, help="Names of arrays or servers; with wildcards."),
                Parameter("GenerateNewPasswordFor", help='The account, like "CONTOSO\\asa$": it gets a new password.'),
                Parameter("CopyFrom", completes="server", help="No new password: give what this server holds."),
                Parameter("Mode", choices=("Attended", "Unattended"), help="Unattended: ask nothing (Attended)."),
                Parameter("CreateScheduledTask", help="Roll nothing now: write a systemd timer of this name."),
                Parameter("Every", help="Ours: with -CreateScheduledTask, how old a password may get (3w)."),
                Parameter("Except", texts, help="Ours: go on without these members if they are dead."),
                Parameter("Force", switch, help="Ours: also within the life of a ticket."),
            ),
            Impact.LOW,
            "Gives a shared account a new password that every member knows first; or copies what one holds.",
            (
                f'.\\{NAME} -ToEntireForest -GenerateNewPasswordFor "Contoso\\ComputerAccount$" -Verbose',
                f".\\{NAME} -ToSpecificServers cas3 -CopyFrom cas1",
            ),
            ("RollAlternateServiceAccountCredential.ps1",),
        ),
    )
