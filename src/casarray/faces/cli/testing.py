"""`test`: tries as a client does whether the arrays work."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from casarray.faces.cli import outlook_test
from casarray.faces.cli.directory import Store
from casarray.faces.cli.directory_options import safe
from casarray.faces.cli.options import AsJson
from casarray.faces.cli.output import BAD, CAUTION, DIM, GOOD, complain, count, print_json, say, show
from casarray.faces.cli.world import desk, world

if TYPE_CHECKING:
    from casarray.app.kerberos.proving import Step, Wish

commands = typer.Typer(no_args_is_help=True, help="Try, as a client does, whether what the arrays promise is so.")
outlook_test.add_to(commands)

_COLOURS = {"ok": GOOD, "warning": CAUTION, "failed": BAD}


@commands.command("kerberos", epilog="Example:  casarray test kerberos --array CAS --service imap")
def kerberos(
    context: typer.Context,
    *,
    array: Annotated[str, typer.Option("--array", metavar="NAME", help="Only this array. Default: all.")] = "",
    name: Annotated[str, typer.Option("--name", metavar="SPN", help="Only this name, wanted or not: http/HOST.")] = "",
    server: Annotated[str, typer.Option("--server", metavar="NAME", help="Only this member.")] = "",
    service: Annotated[
        str, typer.Option("--service", metavar="NAME", help="Only this service, or all of a class: imap, http.")
    ] = "",
    path: Annotated[
        str, typer.Option("--path", metavar="PATH", help="Web: ask for this, which wants a logon: /ews/exchange.asmx.")
    ] = "",
    through_array: Annotated[
        bool, typer.Option("--through-array", help="Ask at the arrays' own addresses as well.")
    ] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=120, help="Seconds for each member.")] = 10.0,
    watch: Annotated[
        float, typer.Option("--watch", metavar="SECONDS", min=0, max=3600, help="Test again and again, so often.")
    ] = 0.0,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Get a ticket for each name and show it to every member, one by one: Kerberos only, never NTLM.

    The tickets are new from the KDC, got with what kinit left or the configuration says. Exit code 1 when
    something fails; with --watch it ends by Ctrl-C, with the exit code of the last round.
    """
    from casarray.app.kerberos.proving import Wish  # noqa: PLC0415 - only what the command needs

    wish = Wish(array, name, server, service, path, through_array, timeout)
    bad = False
    try:
        while True:
            bad = _round(context, wish, store, as_json=as_json)
            if not watch:
                break
            time.sleep(watch)
            if not as_json:
                say(f"--- {time.strftime('%H:%M:%S')}")
    except KeyboardInterrupt:
        if not watch:
            raise
    if bad:
        raise typer.Exit(1)


def _round(context: typer.Context, wish: "Wish", store: str | None, *, as_json: bool) -> bool:
    """Test once; whether anything failed."""
    from casarray.app.kerberos.proving import failed, prove  # noqa: PLC0415 - as above

    place = desk(context, store)
    knocker = world(context).knocker()
    try:
        steps = prove(place, knocker, wish, (lambda _: None) if as_json else _tell, time.time)
    finally:
        knocker.close()
        remarks = place.remarks
        place.close()
        place.directory.store.close()
    for remark in remarks:
        complain(remark)
    bad = failed(steps)
    if as_json:
        print_json({"ok": not bad, "as": knocker.owner, "steps": steps})
    else:
        _sum_up(steps, bad)
    return bool(bad)


def _tell(step: "Step") -> None:
    line = Text.assemble((f"{step.verdict:<8}", _COLOURS[step.verdict]), (f"{step.what:<7}", DIM), safe(step.text))
    show(line)


def _sum_up(steps: Sequence["Step"], bad: Sequence["Step"]) -> None:
    """What is wrong, each trouble once, with what to do."""
    said: dict[tuple[object, ...], list[Step]] = {}
    for step in steps:
        if step.trouble is not None:
            said.setdefault((step.trouble, step.next, step.sees), []).append(step)
    for (trouble, next_, sees), those in said.items():
        show("")
        where = ", ".join(dict.fromkeys(step.server or step.name for step in those if step.server or step.name))
        failing = those[0] in bad
        show(Text(f"{trouble}: {safe(where)}", BAD if failing else CAUTION))
        for text in dict.fromkeys(step.text for step in those):
            say(f"        {safe(text)}")
        say(f"  users {safe(str(sees))}")
        say(f"  next  {safe(str(next_))}")
    if said:
        say("")
    tickets = sum(step.what == "ticket" and step.version is not None for step in steps)
    taken = sum(step.what == "member" and step.mechanism != "" for step in steps)
    say(
        f"{count(tickets)} ticket{'' if tickets == 1 else 's'}, taken {count(taken)} time{'' if taken == 1 else 's'}; "
        + (f"{count(len(bad))} failed" if bad else "nothing failed")
    )
