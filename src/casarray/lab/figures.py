"""Measures what the array promises, each on a site of its own, and says whether the goal was met.

    script/figures                        all of them: some minutes
    script/figures --only killed million  some of them
    script/figures --json                 for programs

Needs root: network namespaces, forwarding by the kernel. Nothing else should run on the machine meanwhile; what does
is given a lower priority.
"""

import argparse
import contextlib
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table
from rich.text import Text

from casarray.core.errors import CasarrayError, Unavailable
from casarray.lab.demo import until_signal
from casarray.lab.figure import Figure
from casarray.lab.netns import missing, sweep

#: What is measured, and the function that does. Some need libraries that the gateway does not: they are loaded alone.
MEASURES: Mapping[str, str] = {
    "start": "measure.start",
    "killed": "measure.killed",
    "hung": "measure.hung_by_default",
    "hung-quick": "measure.hung_quick",
    "idle": "measure.idle",
    "million": "measure.million",
    "mapper": "measure.mapper",
    "cmdlets": "measure_directory.cmdlets",
    "following": "measure_directory.following",
    "active-directory": "measure_directory.active_directory",
    "spn-audit": "measure_kerberos.audit",
    "roll": "measure_kerberos.roll",
    "logins": "measure_logins.logins",
    "outlooks": "measure_outlooks.outlooks",
}
Measure = Callable[[Path, int], Awaitable[list[Figure]]]


def measure_of(name: str) -> Measure:
    """The function. `Unavailable` says which library is missing for it."""
    module, _, function = MEASURES[name].partition(".")
    try:
        found: Measure = getattr(importlib.import_module(f"casarray.lab.{module}"), function)
    except ImportError as error:
        raise Unavailable(f"{name} needs the library {error.name}: script/setup --tests installs it") from None
    return found


def possible(console: Console) -> list[str]:
    """Everything that can be measured with what is installed; what is left out is said."""
    found = []
    for name in MEASURES:
        try:
            measure_of(name)
            found.append(name)
        except Unavailable as error:
            console.print(f"left out: {error}")
    return found


async def take(names: Sequence[str], runs: int, console: Console) -> bool:
    """Measure, and tell each figure when it is there; whether every goal was met."""
    figures: list[Figure] = []
    for name in names:
        console.print(Text(f"measuring: {name}", style="dim"))
        with tempfile.TemporaryDirectory(prefix="casarray-figures-") as folder:
            for figure in await measure_of(name)(Path(folder), runs):
                figures.append(figure)
                console.print(_line(figure))
    console.print(_table(figures))
    if console.stderr:
        print(json.dumps([asdict(figure) for figure in figures], indent=2))
    return all(figure.met is not False for figure in figures)


def _mark(figure: Figure) -> Text:
    if figure.met is None:
        return Text("")
    return Text("met", style="green") if figure.met else Text("NOT MET", style="bold red")


def _line(figure: Figure) -> Text:
    goal = f" (goal {figure.goal})" if figure.goal else ""
    return Text("  ").append_text(_mark(figure)).append(f" {figure.name}{goal}: {figure.value}")


def _table(figures: Sequence[Figure]) -> Table:
    table = Table(title="Measured on this machine", title_justify="left")
    for column in ("what", "goal", "measured", ""):
        table.add_column(column)
    for figure in figures:
        table.add_row(figure.name, figure.goal, figure.value, _mark(figure))
    return table


def main() -> int:
    """The command line: exit code 0 if every goal was met."""
    parser = argparse.ArgumentParser(
        prog="script/figures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), metavar="NAME", help="; ".join(MEASURES))
    parser.add_argument("--runs", type=int, default=12, help="how often what is repeated is repeated (12)")
    parser.add_argument("--json", action="store_true", help="the figures on stdout, everything else on stderr")
    arguments = parser.parse_args()
    console = Console(stderr=arguments.json, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = max(console.width, 150)
    if reason := missing():
        console.print(f"this cannot be measured here: {reason}")
        return 2
    try:
        names = arguments.only or possible(console)
        for name in names:
            measure_of(name)
    except Unavailable as error:
        console.print(str(error))
        return 2
    sweep()
    with contextlib.suppress(PermissionError):
        os.nice(-15)  # for everything that is started from here on: what else runs on the machine counts for less
    try:
        return 0 if uvloop.run(until_signal(take(names, arguments.runs, console))) else 1
    except KeyboardInterrupt:
        console.print("interrupted; everything was taken away again")
        return 130
    except (CasarrayError, OSError) as error:
        console.print(f"the measurement could not go on: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
