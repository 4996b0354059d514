"""`test outlook`: walks to a mailbox as Outlook does, a line for each step, and says what is wrong where it stops."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from casarray.core.errors import Denied
from casarray.faces.cli.directory_options import Store, safe
from casarray.faces.cli.options import AsJson
from casarray.faces.cli.output import BAD, CAUTION, DIM, GOOD, console, count, print_json, say, show, table
from casarray.faces.cli.world import service, world

if TYPE_CHECKING:
    from casarray.app.connectivity import Walker
    from casarray.core.directory.model import Directory
    from casarray.core.outlook.verdicts import Step
    from casarray.core.outlook.wish import Means, Wish

PASSWORD_VARIABLE = "CASARRAY_PASSWORD"
LONGEST_PASSWORD = 4096
REMEMBERED = 60  # rounds that a sparkline shows
_BARS = "▁▂▃▄▅▆▇█"
_FAILED, _NOT_REACHED = "✗", "·"
_COLOURS = {"Success": GOOD, "Warning": CAUTION, "Failure": BAD}


def add_to(commands: typer.Typer) -> None:
    """Add the command."""
    example = "Example:  casarray test outlook alice@domain.tld --array CAS --each-member"
    commands.command("outlook", epilog=example)(outlook)


def outlook(
    context: typer.Context,
    user: Annotated[
        str, typer.Argument(metavar="[USER@DOMAIN]", help="Whose mailbox to open; without, nobody logs on.")
    ] = "",
    *,
    array: Annotated[
        str, typer.Option("--array", metavar="NAME", help="This array, by name or FQDN. Default: the user's.")
    ] = "",
    server: Annotated[str, typer.Option("--server", metavar="NAME", help="Only this member, at its own address.")] = "",
    protocol: Annotated[str, typer.Option("--protocol", metavar="tcp|http", help="RPC over TCP or over HTTP.")] = "tcp",
    auth: Annotated[
        str,
        typer.Option(
            "--auth", metavar="WAY", help="How to log on: kerberos, ntlm, negotiate, or none where servers allow it."
        ),
    ] = "negotiate",
    test: Annotated[
        str, typer.Option("--test", metavar="self|deep", help="Without a logon, or into the mailbox. Default: by USER.")
    ] = "",
    rpc_test: Annotated[
        str,
        typer.Option("--rpc-test", metavar="array|server", help="Under the array's name, or --server under its own."),
    ] = "array",
    each_member: Annotated[
        bool, typer.Option("--each-member", help="Then every member one by one, to find the one that differs.")
    ] = False,
    outside_dns: Annotated[
        str, typer.Option("--outside-dns", metavar="ADDRESS", help="Ask this name server what is known outside.")
    ] = "",
    proxy: Annotated[
        str,
        typer.Option(
            "--proxy", metavar="NAME[:PORT]", help="With --protocol http: the proxy. Default: as clients are told."
        ),
    ] = "",
    proxy_auth: Annotated[
        str, typer.Option("--proxy-auth", metavar="WAY", help="At the proxy: basic, ntlm, negotiate or none.")
    ] = "negotiate",
    autodiscover: Annotated[
        bool, typer.Option("--autodiscover/--no-autodiscover", help="Whether Autodiscover is asked.")
    ] = True,
    autodiscover_url: Annotated[
        str, typer.Option("--autodiscover-url", metavar="URL", help="Ask Autodiscover there first.")
    ] = "",
    logon: Annotated[
        str, typer.Option("--logon", metavar="NAME", help="Log on as DOMAIN\\user or user@realm. Default: USER.")
    ] = "",
    password_file: Annotated[
        str, typer.Option("--password-file", metavar="FILE", help="The password is the first line of this file.")
    ] = "",
    ask_password: Annotated[
        bool, typer.Option("--ask-password", help="Ask for the password, although kinit left a ticket.")
    ] = False,
    trust_any_certificate: Annotated[
        bool, typer.Option("--trust-any-certificate", help="Go on whatever certificate a web server shows.")
    ] = False,
    ca_file: Annotated[
        str, typer.Option("--ca-file", metavar="FILE", help="Trust these authorities instead of the system's.")
    ] = "",
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=120, help="Seconds for each answer.")] = 10.0,
    watch: Annotated[
        float, typer.Option("--watch", metavar="SECONDS", min=0, max=3600, help="Test again and again, so often.")
    ] = 0.0,
    rounds: Annotated[int, typer.Option("--rounds", min=0, help="With --watch: end after so many. 0: by Ctrl-C.")] = 0,
    mapper_port: Annotated[
        int, typer.Option("--mapper-port", min=1, max=65535, help="Where endpoint mappers listen.")
    ] = 135,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Walk to the mailbox as Outlook does: names, Autodiscover, endpoint mapper, RFR, NSPI, EMSMDB.

    A line for each step as it is done; at the end what failed, why, and what to do. The password is asked for, or comes
    from --password-file or $CASARRAY_PASSWORD; with a ticket of kinit none is needed. Exit code 1 when a client would
    not get on; with --watch that of the last round.
    """
    from casarray.core.outlook.wish import Depth, LogOn, Means, Wish  # noqa: PLC0415 - only what the command needs

    wish = Wish(
        user,
        array,
        server,
        _one_of("--rpc-test", rpc_test, ("array", "server")) == "server",
        _one_of("--protocol", protocol, ("tcp", "http")) == "http",
        proxy,
        _one_of("--auth", auth, ("kerberos", "ntlm", "negotiate", "none")),
        Depth(_one_of("--test", test, ("self", "deep"))) if test else None,
        each_member,
        autodiscover,
        bool(outside_dns),
        mapper_port,
    )
    password = _password(context, wish, password_file, logon or user, ask=ask_password)
    means = Means(
        LogOn(user=logon or user, password=password),
        timeout,
        outside_dns,
        autodiscover_url,
        trust_any_certificate,
        _one_of("--proxy-auth", proxy_auth, ("basic", "ntlm", "negotiate", "none")),
        ca_file,
    )
    place = service(context, store)
    try:
        test_ = _Test(world(context).outlook_walker(), place.directory(), wish, means, as_json)
        bad = test_.watch(watch, rounds) if watch else test_.once()
    finally:
        place.store.close()
    if bad:
        raise typer.Exit(1)


def _one_of(option: str, given: str, choices: Sequence[str]) -> str:
    if given.casefold() not in choices:
        raise typer.BadParameter(f'"{given}" is nothing for {option}; write {" or ".join(choices)}')
    return given.casefold()


def _password(context: typer.Context, wish: "Wish", file: str, who: str, *, ask: bool) -> str:
    """From the file, the environment or a prompt; empty where a ticket is to do."""
    if not wish.deep or wish.logon == "none":
        return ""
    if file:
        try:
            text = Path(file).read_text(encoding="utf-8")[: LONGEST_PASSWORD + 1]
        except (OSError, UnicodeDecodeError) as error:
            raise Denied(f"the password file {file} cannot be read ({getattr(error, 'strerror', None) or error}): "
                         "name another one, or leave --password-file out to be asked") from None  # fmt: skip
        return text.partition("\n")[0].rstrip("\r")
    if found := world(context).environment.get(PASSWORD_VARIABLE):
        return found
    person = sys.stdin is not None and sys.stdin.isatty()
    if not (ask or wish.logon == "ntlm") and (not person or world(context).has_tickets()):
        return ""  # without tickets the first logon says what is missing
    if not person:
        raise Denied(f"the password of {who} would have to be asked for, and nobody is here to answer: use "
                     f"--password-file or ${PASSWORD_VARIABLE}")  # fmt: skip
    return str(typer.prompt(f"Password of {who}", hide_input=True, err=True))


class _History:
    """The latencies of the last rounds, a row for each step."""

    def __init__(self) -> None:
        self.last: tuple[Step, ...] = ()
        self._rows: dict[tuple[str, str], list[float | str]] = {}
        self._marks: dict[tuple[str, str], str] = {}
        self._rounds = 0

    def add(self, steps: "tuple[Step, ...]") -> None:
        """One round more. What it did not get to keeps its place in the row."""
        self.last = steps
        told = {(step.server, str(step.scenario)): step for step in steps}
        for key in told:
            self._rows.setdefault(key, [_NOT_REACHED] * min(self._rounds, REMEMBERED))
        self._rounds += 1
        for key, row in self._rows.items():
            step = told.get(key)
            row.append(_NOT_REACHED if step is None else _FAILED if step.result == "Failure" else step.latency_ms)
            del row[:-REMEMBERED]
            self._marks[key] = step.text if step is not None and step.trouble is not None else ""

    def table(self) -> Table:
        """A sparkline for each step."""
        rows = []
        for (server, scenario), row in self._rows.items():
            good = [latency for latency in row if isinstance(latency, float)]
            failures = row.count(_FAILED)
            middle = _ms(sorted(good)[len(good) // 2]) if good else "-"
            most = _ms(max(good)) if good else "-"
            failed = Text(count(failures), BAD if failures else DIM)
            mark = Text(safe(self._marks[server, scenario]), CAUTION)
            rows.append((safe(server), scenario, sparkline(row), middle, most, failed, mark))
        columns = ("server", "step", f"last {min(self._rounds, REMEMBERED)} rounds", "median", "most", "failed", "")
        return table(columns, rows, numbers=("median", "most", "failed"))

    def __rich__(self) -> Table:
        """For a screen that draws itself."""
        return self.table()


@dataclass(slots=True)
class _Test:
    """One command's tests."""

    walker: "Walker"
    directory: "Directory"
    wish: "Wish"
    means: "Means"
    as_json: bool
    history: _History = field(default_factory=_History)

    def once(self) -> bool:
        """Test; whether a client would have stopped."""
        steps = self._round(_silent if self.as_json else _tell)
        if self.as_json:
            print_json({"ok": not _bad(steps), "steps": steps})
        else:
            _sum_up(steps)
        return bool(_bad(steps))

    def watch(self, seconds: float, rounds: int) -> bool:
        """Test again and again; what became of the last round."""
        done, bad = 0, False
        with _screen(self.history, draw=not self.as_json) as drawn:
            try:
                while True:
                    steps = self._round(_silent if self.as_json or drawn else _tell)
                    bad = bool(_bad(steps))
                    self.history.add(steps)
                    if self.as_json:
                        print_json({"ok": not bad, "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "steps": steps})
                    done += 1
                    if done == rounds:
                        break
                    time.sleep(seconds)
                    if not self.as_json and not drawn:
                        say(f"--- {time.strftime('%H:%M:%S')}")
            except KeyboardInterrupt:
                pass
        if not self.as_json:
            if not drawn:
                show(self.history.table())
            _sum_up(self.history.last)
        return bad

    def _round(self, tell: "Callable[[Step], None]") -> "tuple[Step, ...]":
        return self.walker.test(self.directory, self.wish, self.means, tell)


def _silent(_step: "Step") -> None:
    """For programs, and while the screen shows a picture."""


def _bad(steps: "Sequence[Step]") -> "list[Step]":
    return [step for step in steps if step.result == "Failure"]


def _tell(step: "Step") -> None:
    line = Text.assemble(
        (f"{step.result:<8} ", _COLOURS[step.result]),
        f"{safe(step.server):<10} ",
        f"{safe(step.endpoint):<28} ",
        f"{step.scenario:<26} ",
        (f"{_ms(step.latency_ms):>9}  ", DIM),
        safe(f"{step.mechanism}: {step.text}" if step.mechanism else step.text),
    )
    console().print(line, soft_wrap=True)  # one line is one line, however wide the terminal is


def _ms(latency: float) -> str:
    return f"{latency:.0f} ms" if latency >= 10 else f"{latency:.1f} ms"


def _sum_up(steps: "Sequence[Step]") -> None:
    """What is wrong, each trouble once, with what to do."""
    said: dict[tuple[object, ...], list[Step]] = {}
    for step in steps:
        if step.trouble is not None:
            said.setdefault((step.trouble, step.text), []).append(step)
    for those in said.values():
        first = those[0]
        where = ", ".join(dict.fromkeys(step.server for step in those))
        show("")
        show(Text(f"{first.trouble}: {safe(where)}, {first.scenario}", _COLOURS[first.result]))
        say(f"        {safe(first.text)}")
        say(f"  users {safe(first.sees)}")
        say(f"  next  {safe(first.next)}")
    say("")
    bad = _bad(steps)
    used = sorted({step.mechanism for step in steps if step.mechanism})
    by = f", logged on by {' and '.join(used)}" if used else ""
    say(
        f"{count(len(steps))} step{'' if len(steps) == 1 else 's'}{by}; "
        + (f"{count(len(bad))} failed" if bad else "nothing failed")
    )


def sparkline(row: Sequence[float | str]) -> Text:
    """Latencies as bars between nothing and the largest; failures as crosses, what was not reached as dots."""
    largest = max((latency for latency in row if isinstance(latency, float)), default=0.0) or 1.0
    line = Text()
    for latency in row:
        if isinstance(latency, str):
            line.append(latency, BAD if latency == _FAILED else DIM)
        else:
            line.append(_BARS[min(int(latency / largest * len(_BARS)), len(_BARS) - 1)], GOOD)
    return line


@contextmanager
def _screen(history: _History, *, draw: bool) -> Iterator[bool]:
    """Where somebody watches, a picture that is drawn anew; whether it is."""
    screen = console()
    if not draw or not screen.is_terminal or os.environ.get("TERM") == "dumb":
        yield False
        return
    with Live(history, console=screen, refresh_per_second=4):
        yield True
