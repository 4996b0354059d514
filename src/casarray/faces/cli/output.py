"""How answers are shown: tables for people, JSON for programs."""

import json
import os
import sys
from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from casarray.core.config_values import duration_text
from casarray.core.records import to_json

GOOD, BAD, DIM, CAUTION = "green", "bold red", "dim", "yellow"
WIDE = 240  # a pipe has no width; nothing should be cut for it


def console() -> Console:
    """Where people read: the terminal's width, or no limit worth mentioning."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE
    return Console(width=width, highlight=False, soft_wrap=False)


def show(answer: RenderableType) -> None:
    """Print for people; what goes into a pipe or a file carries no blanks at the ends of its lines."""
    screen = console()
    if screen.is_terminal:
        screen.print(answer)
        return
    with screen.capture() as captured:
        screen.print(answer)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    print(json.dumps(to_json(value), indent=2, ensure_ascii=False))


def say(text: str) -> None:
    """A line on stdout."""
    print(text)


def complain(text: str) -> None:
    """A line on stderr."""
    safe = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)  # it may quote what a server sent
    print(f"casarray: {safe}", file=sys.stderr)


def table(columns: Iterable[str], rows: Iterable[Iterable[str | Text]], *, numbers: Iterable[str] = ()) -> Table:
    """A plain table; columns of numbers are set to the right."""
    plain = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    right = set(numbers)
    for column in columns:
        plain.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        plain.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return plain


def span(seconds: float) -> str:
    """A time span as people say it: the two largest units."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms" if seconds > 0 else "0s"
    whole = round(seconds)
    step = 86400 * 2 if whole >= 86400 * 2 else 0
    rough = whole - whole % 3600 if step else whole - whole % 60 if whole >= 3600 else whole
    return duration_text(rough)


def count(number: float) -> str:
    """1234567 -> 1,234,567."""
    return f"{number:,.0f}"


def size(octets: float) -> str:
    """1536000 -> 1.5 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if octets < 1000:
            return f"{octets:.0f} {unit}" if octets >= 10 or unit == "B" else f"{octets:.1f} {unit}"
        octets /= 1000
    return f"{octets:.1f} TB"


def percent(share: float) -> str:
    """0.5 -> 50 %."""
    return f"{share * 100:.0f} %" if share == 0 or share >= 0.1 else f"{share * 100:.1f} %"
