"""How the demo is told: lines as things happen, a live picture of the servers below them, a table at the end.

On a terminal the picture moves (rich); anywhere else there are only the lines, plain.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

BAR = 36


@dataclass(frozen=True, slots=True)
class Row:
    """One server in the picture."""

    name: str
    clients: int
    state: str  # a word: up, down, drained


@dataclass(frozen=True, slots=True)
class Picture:
    """What is to be seen at this moment."""

    rows: tuple[Row, ...]
    waiting: int  # clients without a connection
    calls: int  # answered so far


@dataclass(frozen=True, slots=True)
class Measured:
    """A line of the table at the end."""

    what: str
    value: str
    held: bool = True


class Stage:
    """Tells the story. ``look`` gives the picture whenever it is drawn."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        if not self.console.is_terminal:
            self.console.width = max(self.console.width, 110)
        self.look: Callable[[], Picture] | None = None
        self.measured: list[Measured] = []
        self._since = time.monotonic()
        self._live: Live | None = None

    @property
    def seconds(self) -> float:
        """Since the curtain rose."""
        return time.monotonic() - self._since

    def open(self) -> None:
        """Begin to draw, where that is possible."""
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()

    def close(self) -> None:
        """Stop drawing; the terminal is as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def draw(self) -> None:
        """Draw the picture as it is now."""
        if self._live is not None and self.look is not None:
            self._live.update(_drawn(self.look()), refresh=True)

    def act(self, title: str) -> None:
        """A new part of the story."""
        self.console.print()
        self._line(Text(title, style="bold"))

    def say(self, text: str) -> None:
        """Something happens."""
        self._line(Text(f"  {text}"))

    def check(self, what: str, value: str, held: bool) -> bool:
        """Something must hold; it is told now, and again in the table at the end."""
        self.measured.append(Measured(what, value, held))
        mark = Text("ok  ", style="green") if held else Text("NOT ", style="bold red")
        self._line(Text("  ") + mark + Text(f"{what}: {value}"))
        return held

    def figure(self, what: str, value: str) -> None:
        """A figure for the table at the end."""
        self.measured.append(Measured(what, value))
        self.say(f"{what}: {value}")

    def _line(self, text: Text) -> None:
        self.console.print(Text(f"{self.seconds:5.1f} s  ", style="dim") + text)

    @property
    def held(self) -> bool:
        """Whether everything that must hold did."""
        return all(line.held for line in self.measured)

    def finish(self, heading: Mapping[str, str]) -> None:
        """The table of what was measured."""
        table = Table(title="Measured in this run", title_justify="left", show_header=False)
        for what, value in heading.items():
            table.add_row(what, value, "")
        table.add_section()
        for line in self.measured:
            mark = Text("held", style="green") if line.held else Text("BROKEN", style="bold red")
            table.add_row(line.what, line.value, mark)
        self.console.print()
        self.console.print(table)


def _drawn(picture: Picture) -> Group:
    most = max((row.clients for row in picture.rows), default=1) or 1
    lines = [Text()]
    for row in picture.rows:
        filled = round(BAR * row.clients / most)
        style = {"up": "green", "drained": "yellow"}.get(row.state, "red")
        bar = Text("█" * filled, style=style) + Text("·" * (BAR - filled), style="dim")
        lines.append(Text(f"  {row.name:8}") + bar + Text(f" {row.clients:4} clients  ") + Text(row.state, style=style))
    lines.append(Text(f"  {picture.calls} calls answered, {picture.waiting} clients without a connection", style="dim"))
    return Group(*lines)
