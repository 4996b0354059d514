"""`server list` and the four states that an operator can set."""

from typing import Annotated

import typer
from rich.text import Text

from casarray.app.operations import ServerChange, Status
from casarray.core.config import Wish
from casarray.faces.cli.options import AsJson, Control, duration, server_names
from casarray.faces.cli.output import CAUTION, count, print_json, say, show, span, table
from casarray.faces.cli.status import state_cell
from casarray.faces.cli.world import gateway

commands = typer.Typer(no_args_is_help=True, help="List the servers, take one out of use, bring it back.")

_WORDS = {Wish.ACTIVE: "active", Wish.DRAIN: "draining", Wish.STANDBY: "on standby", Wish.OUT: "out"}

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="The server's name in the configuration.", show_default=False, autocompletion=server_names
    ),
]
Deadline = Annotated[
    float | None,
    typer.Option(
        "--deadline",
        metavar="DURATION",
        parser=duration,
        help="After so long (10m, 2h) the clients that are left are reset and move.",
        show_default=False,
    ),
]


@commands.command("list", epilog="Example:  casarray server list --json")
def list_servers(context: typer.Context, control: Control = None, as_json: AsJson = False) -> None:
    """List the servers, the state of each and where it is in use."""
    status = gateway(context, control).status()
    if as_json:
        print_json({"servers": _as_values(status)})
        return
    rows: list[tuple[str | Text, ...]] = []
    for array in status.arrays:
        members = {m.name: m for group in array.groups for m in group.members}
        for name, member in members.items():
            mine = [(g.name, m) for g in array.groups for m in g.members if m.name == name]
            used = ", ".join(group for group, m in mine if m.eligible) or "nowhere"
            living = sum(m.connections for _, m in mine)
            addresses = ", ".join(member.addresses)
            rows.append((name, array.name, addresses, state_cell(member), used, str(member.weight), count(living)))
    columns = ("SERVER", "ARRAY", "ADDRESS", "STATE", "IN USE FOR", "WEIGHT", "CONNECTIONS")
    show(table(columns, rows, numbers=("WEIGHT", "CONNECTIONS")))


@commands.command("drain", epilog="Example:  casarray server drain cas1 --deadline 10m")
def drain(
    context: typer.Context, name: Name, deadline: Deadline = None, control: Control = None, as_json: AsJson = False
) -> None:
    """Lead no new clients to a server; those who are on it stay, until the deadline if there is one."""
    _set(context, name, Wish.DRAIN, deadline, control=control, as_json=as_json)


@commands.command("standby", epilog="Example:  casarray server standby cas3")
def standby(context: typer.Context, name: Name, control: Control = None, as_json: AsJson = False) -> None:
    """Use a server only when no active one is left."""
    _set(context, name, Wish.STANDBY, None, control=control, as_json=as_json)


@commands.command("out", epilog="Example:  casarray server out cas1")
def out(context: typer.Context, name: Name, control: Control = None, as_json: AsJson = False) -> None:
    """Take a server out at once: its connections are reset and its clients move."""
    _set(context, name, Wish.OUT, None, control=control, as_json=as_json)


@commands.command("activate", epilog="Example:  casarray server activate cas1")
def activate(context: typer.Context, name: Name, control: Control = None, as_json: AsJson = False) -> None:
    """Use a server again."""
    _set(context, name, Wish.ACTIVE, None, control=control, as_json=as_json)


def _set(
    context: typer.Context, name: str, wish: Wish, deadline: float | None, *, control: str | None, as_json: bool
) -> None:
    change = gateway(context, control).set_server(name, wish, deadline)
    if as_json:
        print_json(change)
        return
    say(_told(change))
    for warning in change.warnings:
        show(Text(f"warning: {warning}", CAUTION))


def _told(change: ServerChange) -> str:
    was = "" if change.before is change.state else f" (was {_WORDS[change.before]})"
    text = f"{change.server} is {_WORDS[change.state]}{was}"
    if change.state is not Wish.DRAIN:
        return text
    until = (
        f"in {span(change.deadline_seconds)} the rest is reset"
        if change.deadline_seconds is not None
        else "no deadline"
    )
    return f"{text}; {count(change.connections)} connections live on it, {until}"


def _as_values(status: Status) -> list[dict[str, object]]:
    return [
        {"array": array.name, "group": group.name, "member": member}
        for array in status.arrays
        for group in array.groups
        for member in group.members
    ]
