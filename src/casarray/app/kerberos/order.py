"""What is asked for when keys go to members, and what is told of it afterwards."""

from collections.abc import Callable
from dataclasses import dataclass

from casarray.app.kerberos.crew import Crew
from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.telling import Event, MemberLine, Watch
from casarray.core.directory.model import Server, key
from casarray.core.errors import CasarrayError, NotFound
from casarray.core.kerberos.account import Account
from casarray.core.kerberos.roll import ended
from casarray.core.kerberos.roll_steps import Outcome
from casarray.core.kerberos.shares import Share


@dataclass(frozen=True, slots=True)
class Scope:
    """Which members a use case is for: all of the account's, or those of arrays, or these servers."""

    arrays: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done."""

    account: str  # with or without its domain and $
    scope: Scope = Scope()
    attended: bool = False
    force: bool = False
    left_out: tuple[str, ...] = ()  # members that may be missing
    not_before: float | None = None  # seconds: only a password older than that
    dry_run: bool = False
    copy_from: str = ""  # a member: no new password, what it holds goes to the others


@dataclass(frozen=True, slots=True)
class Report:
    """What became of it."""

    account: Account
    outcome: Outcome
    text: str  # a sentence
    before: int  # the key's number when it began
    members: tuple[MemberLine, ...]
    warnings: tuple[str, ...]
    planned: tuple[str, ...]  # what a dry run would have done
    started: float  # seconds since the epoch
    ended: float

    @property
    def code(self) -> int:
        """The exit code: 0 done, 1 refused (the directory has the password it had), 3 to be finished by another run."""
        return {Outcome.REFUSED: 1, Outcome.UNFINISHED: 3}.get(self.outcome, 0)

    @property
    def event(self) -> Event:
        """The number in the event log."""
        if self.outcome is Outcome.REFUSED:
            return Event.FAILED
        if self.outcome is Outcome.UNFINISHED or self.warnings:
            return Event.SUCCEEDED_WITH_WARNINGS
        return Event.SUCCEEDED


def chosen(share: Share, scope: Scope) -> tuple[Server, ...]:
    """The members that a scope means. `NotFound` names what is none of the account's."""
    if not scope.arrays and not scope.servers:
        return share.servers
    found: dict[str, Server] = {}
    for name in scope.arrays:
        array = next((one for one in share.arrays if key(name) in (key(one.name), key(one.fqdn))), None)
        if array is None:
            used = ", ".join(one.name for one in share.arrays)
            raise NotFound(f"the array {name} does not use the account {share.account}; those that do: {used}")
        found |= {one.name: one for one in share.servers if key(one.site) == key(array.site)}
    for name in scope.servers:
        server = share.server(name)
        if server is None:
            known = ", ".join(one.name for one in share.servers) or "none"
            raise NotFound(f"{name} is no member of an array with the account {share.account}; its members: {known}")
        found[server.name] = server
    return tuple(found.values())


class journal:  # noqa: N801 - used like a function
    """Writes begin and end into the event log; whatever happens, there is an end."""

    def __init__(self, desk: Desk, order: Order, now: Callable[[], float]) -> None:
        self._events = desk.events()
        self._order = order
        self._report: Report | None = None
        self._started = now()

    def __enter__(self) -> Callable[[Report], Report]:
        what = f"copying from {self._order.copy_from}" if self._order.copy_from else "rolling the password"
        if not self._order.dry_run:
            self._events.write(Event.STARTED, f"{what} of {self._order.account}")
        return self._said

    def _said(self, report: Report) -> Report:
        self._report = report
        return report

    def __exit__(self, _kind: object, error: object, _trace: object) -> None:
        if self._order.dry_run:
            return
        if self._report is None:
            why = f": {error}" if isinstance(error, CasarrayError) else ": it was broken off"
            self._events.write(Event.FAILED, f"{self._order.account} was not rolled to the end{why}; run it again")
        else:
            sentences = (self._report.text, *self._report.warnings)
            self._events.write(self._report.event, " ".join(map(ended, sentences)))


@dataclass(frozen=True, slots=True)
class Job:
    """An order, and all that is needed to carry it out."""

    desk: Desk
    order: Order
    share: Share
    crew: Crew
    watch: Watch
    now: Callable[[], float]
    sleep: Callable[[float], None]


class Stopped(Exception):
    """It ends here."""

    def __init__(self, outcome: Outcome, text: str) -> None:
        super().__init__(text)
        self.outcome, self.text = outcome, text
