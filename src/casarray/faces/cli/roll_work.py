"""What `account roll` does: shows how far the members are, asks what is to be asked, and tells what came of it."""

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from casarray.app.kerberos import scheduling
from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.order import Order, Report
from casarray.app.kerberos.rolling import roll as roll_now
from casarray.app.kerberos.telling import MemberLine, MemberState
from casarray.core.errors import Conflict, NotFound
from casarray.core.kerberos.timer_units import seconds_between
from casarray.faces.cli.directory_options import safe
from casarray.faces.cli.output import BAD, CAUTION, DIM, GOOD, complain, print_json, say, show, table

PROGRESS_AFTER = 2.0  # seconds before a pipe hears of phases

_COLOURS = {
    MemberState.CONFIRMED: GOOD,
    MemberState.PENDING: CAUTION,
    MemberState.LEFT_OUT: CAUTION,
    MemberState.MISSING: BAD,
}


def only_account(desk: Desk) -> str:
    """The shared account, if there is one alone."""
    names = [share.account for share in desk.shares()]
    if not names:
        raise NotFound("no array uses a shared account: set account under [kerberos] in the configuration")
    if len(names) > 1:
        raise Conflict(f"there are several shared accounts; name one of {', '.join(names)}")
    return names[0]


def somebody_is_there() -> bool:
    """Whether a question would be answered."""
    return sys.stdin is not None and sys.stdin.isatty()


def age(text: str) -> float:
    """``3w`` in seconds; anything else is wrong usage."""
    try:
        return seconds_between(text, 0.0)
    except Conflict as error:
        raise typer.BadParameter(str(error)) from None


def roll(desk: Desk, order: Order, *, as_json: bool, verbose: bool) -> int:
    """Roll, and tell of it: exit code."""
    with Screen(verbose=verbose) as screen:
        report = roll_now(desk, order, screen)
    if as_json:
        print_json(_as_values(report))
    else:
        _tell(report)
    if report.code:
        complain(report.text)
    return report.code


def schedule(desk: Desk, order: Order, name: str, every: str, folder: str | None, *, as_json: bool) -> int:
    """Write a timer, and tell of it: exit code."""
    done = scheduling.schedule(desk, order, name, every, folder)
    if as_json:
        print_json(done)
        return 0
    for path in done.paths:
        say(path)
    say(done.text)
    return 0


class Screen:
    """`casarray.app.kerberos.telling.Watch` on stderr: a bar where somebody looks, lines where nobody does."""

    def __init__(self, *, verbose: bool) -> None:
        """``verbose``: every step is told."""
        self._verbose = verbose
        self._started = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._done, self._of = 0, 0
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"))
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)

    def __enter__(self) -> Self:
        """For the length of a roll."""
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The bar goes."""
        if self._bar:
            self._bar.stop()

    def phase(self, text: str, members: Sequence[str]) -> None:
        """Another bar."""
        if self._bar:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._done, self._of = 0, len(members)
            self._task = self._bar.add_task(text, total=self._of or None, count="")
        elif self._verbose or time.monotonic() - self._started > PROGRESS_AFTER:
            self._line(f"{text} ({len(members)} members)" if members else text)

    def member(self, name: str, why: str) -> None:
        """One further."""
        if self._bar and self._task is not None:
            self._done += 1
            self._bar.update(self._task, completed=self._done, count=f"{self._done} of {self._of}")
        if self._verbose or why:
            self._line(f"  {name}: {why or 'done'}")

    def agree(self, question: str) -> bool:
        """Ask."""
        if self._bar:
            self._bar.stop()
        try:
            return typer.confirm(safe(question), err=True)
        except typer.Abort:
            return False
        finally:
            if self._bar:
                self._bar.start()

    def verbose(self, text: str) -> None:
        """A step."""
        if self._verbose:
            self._line(text)

    def _line(self, text: str) -> None:
        if self._bar:
            self._bar.console.print(Text(safe(text)))
        else:
            complain(text)
            sys.stderr.flush()


def _tell(report: Report) -> None:
    if report.members:
        show(table(("MEMBER", "STATE", "KEYS", "DETAIL"), map(_row, report.members)))
    for line in report.planned:
        say(safe(f"would {line}"))
    for warning in report.warnings:
        show(Text(f"warning: {safe(warning)}", CAUTION))
    if not report.code:
        say(safe(report.text))


def _row(line: MemberLine) -> tuple[str | Text, ...]:
    keys = ", ".join(map(str, line.numbers))
    return line.name, Text(line.state, _COLOURS.get(line.state, DIM)), keys, safe(line.detail)


def _as_values(report: Report) -> dict[str, object]:
    return {
        "account": str(report.account),
        "outcome": report.outcome,
        "text": report.text,
        "event": int(report.event),
        "before": report.before,
        "number": report.account.number,
        "members": report.members,
        "warnings": report.warnings,
        "planned": report.planned,
        "seconds": round(report.ended - report.started, 3),
    }
