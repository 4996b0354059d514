"""`top`: a gateway, live."""

import json
import time
from collections.abc import Mapping
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from casarray.app.operations import GroupStatus, RemoteOperations, Status
from casarray.core.errors import Unavailable
from casarray.core.records import to_json
from casarray.faces.cli.options import AsJson, Control, duration
from casarray.faces.cli.output import BAD, CAUTION, DIM, console, count, percent, show, table
from casarray.faces.cli.status import (
    array_lines,
    gateway_line,
    group_line,
    reasons,
    services_cell,
    state_cell,
    used_cell,
)
from casarray.faces.cli.world import gateway

Key = tuple[str, str, str]  # array, group, member


def add_to(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command("top", epilog="Example:  casarray top --interval 2s")(top)


def top(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Show one frame and end.")] = False,
    interval: Annotated[str, typer.Option("--interval", metavar="DURATION", help="Time between two looks.")] = "1s",
    control: Control = None,
    as_json: AsJson = False,
) -> None:
    """Watch the arrays, their servers and what they carry. Ctrl-C ends it.

    With --json: one JSON document a line for every look.
    """
    operations = gateway(context, control)
    pause = max(duration(interval), 0.1)
    screen = console()
    if as_json:
        _stream(operations, pause, once)
    elif once or not screen.is_terminal:
        first, seconds = operations.status(), min(pause, 1.0)
        time.sleep(seconds)
        second = operations.status()
        show(frame(second, rates(first, second, seconds)))
    else:
        _watch(operations, pause, screen)


def _stream(operations: RemoteOperations, pause: float, once: bool) -> None:
    while True:
        print(json.dumps(to_json(operations.status()), ensure_ascii=False), flush=True)
        if once:
            return
        time.sleep(pause)


def _watch(operations: RemoteOperations, pause: float, screen: Console) -> None:
    from rich.live import Live  # noqa: PLC0415 - only a terminal needs it

    before = operations.status()  # fails like every command when there is no gateway at all
    seen_at = time.monotonic()
    shown = frame(before, {})
    try:
        with Live(shown, console=screen, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(pause)
                try:
                    status = operations.status()
                except Unavailable as error:  # it may come back
                    live.update(Group(Text(f"{error}\n", BAD), shown), refresh=True)
                    continue
                now = time.monotonic()
                shown = frame(status, rates(before, status, now - seen_at))
                before, seen_at = status, now
                live.update(shown, refresh=True)
    except KeyboardInterrupt:
        return


def rates(before: Status, after: Status, seconds: float) -> dict[Key, float]:
    """New connections a second, of members that both have; none when another gateway answered."""
    if before.gateway.pid != after.gateway.pid:
        return {}
    old = _totals(before)
    return {key: max(0, new - old[key]) / seconds for key, new in _totals(after).items() if key in old}


def _totals(status: Status) -> dict[Key, int]:
    return {
        (array.name, group.name, member.name): member.new_connections
        for array in status.arrays
        for group in array.groups
        for member in group.members
    }


def frame(status: Status, new: Mapping[Key, float]) -> Group:
    """One look at everything."""
    parts: list[RenderableType] = [gateway_line(status)]
    for array in status.arrays:
        parts += [Text(), *array_lines(array)]
        for group in array.groups:
            mine = {member: rate for (a, g, member), rate in new.items() if (a, g) == (array.name, group.name)}
            parts.append(Padding(_group(group, mine), (0, 0, 0, 2)))
    if not status.arrays:
        parts.append(Text("no arrays are configured"))
    if status.warnings:
        parts += [Text(), *(Text(f"warning: {warning}", CAUTION) for warning in status.warnings)]
    return Group(*parts)


def _group(group: GroupStatus, new: Mapping[str, float]) -> Group:
    most = max((member.connections for member in group.members), default=0)
    rows = [
        (
            member.name,
            state_cell(member),
            used_cell(member),
            percent(member.share),
            count(member.connections),
            Text("\u2588" * round(12 * member.connections / most) if most else "", DIM),
            count(new[member.name]) if member.name in new else "-",
            services_cell(member),
        )
        for member in group.members
    ]
    columns = ("SERVER", "STATE", "USED", "SHARE", "CONNECTIONS", "", "NEW/S", "SERVICES")
    shown = table(columns, rows, numbers=("SHARE", "CONNECTIONS", "NEW/S"))
    return Group(group_line(group), Padding(Group(shown, *reasons(group)), (0, 0, 0, 2)))
