"""A cursor over what was typed: blanks, comments, continued lines, and the place of everything.

Characters that web pages and word processors make of ASCII ones (dashes, quotes, blanks without break) count as those,
as in PowerShell. A command goes on after a backtick or a bar at the end of its line, inside brackets, and, which
PowerShell does not do, when the next line begins with a parameter.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from casarray.core.shell.registry import DASHES
from casarray.core.shell.trouble import LIMITS, Limits, Place, ShellError

SINGLE, DOUBLE = "'\u2018\u2019\u201a\u201b", '"\u201c\u201d\u201e'
DASH = f"[{re.escape(DASHES)}]"
SPACE = " \t\f\v\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200C))) + "\u202f\u205f\u3000\ufeff"  # some of no width
_BLANKS = re.compile(rf"(?:[{SPACE}]+|`[{SPACE}]*(?:\n|\Z)|#[^\n]*|<#.*?#>)+", re.DOTALL)
_LINES = re.compile(rf"(?:[{SPACE}\n]+|`[{SPACE}]*(?:\n|\Z)|#[^\n]*|<#.*?#>)+", re.DOTALL)
_NEXT_PARAMETER = re.compile(rf"{DASH}(?!(?:not|bnot|join|split)\b)[A-Za-z_?]", re.IGNORECASE)


class Reader:
    """The text and how far it was read."""

    def __init__(self, text: str, limits: Limits = LIMITS) -> None:
        """Refuses what is too long."""
        self.limits = limits
        self.text = text.replace("\r\n", "\n").replace("\r", "\n")
        self.at = 0
        self._depth = 0
        self._starts = [0, *(found.end() for found in re.finditer("\n", self.text))]
        if len(text) > limits.source:
            raise ShellError(f"this is longer than {limits.source:,} characters; split it into several", Place())

    def place(self, at: int | None = None) -> Place:
        """The place of a position, of the cursor if none is given."""
        where = self.at if at is None else at
        line = bisect_right(self._starts, where)
        return Place(line, where - self._starts[line - 1] + 1)

    def fail(self, text: str, at: int | None = None, *, unfinished: bool = False) -> NoReturn:
        """Refuse what stands there."""
        raise ShellError(text, self.place(at), unfinished=unfinished)

    @contextmanager
    def nested(self) -> Iterator[None]:
        """One bracket further in."""
        self._depth += 1
        if self._depth > self.limits.nesting:
            self.fail(f"brackets are nested deeper than {self.limits.nesting}; put a part of it into a variable first")
        try:
            yield
        finally:
            self._depth -= 1

    def peek(self, length: int = 1) -> str:
        """What comes next; less at the end."""
        return self.text[self.at : self.at + length]

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """What matches here, read over."""
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()
        return found

    def sees(self, pattern: re.Pattern[str]) -> bool:
        """Whether it matches here."""
        return pattern.match(self.text, self.at) is not None

    def take(self, wanted: str) -> bool:
        """Read over exactly this, if it is there."""
        if self.text.startswith(wanted, self.at):
            self.at += len(wanted)
            return True
        return False

    def blanks(self) -> None:
        """Read over blanks, comments and continued line ends."""
        self._skip(_BLANKS)

    def lines(self) -> None:
        """The same, and line ends."""
        self._skip(_LINES)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        self.match(pattern)
        if self.text.startswith("<#", self.at):
            self.fail("this comment does not end; close it with #>", unfinished=True)

    def continued(self) -> bool:
        """At the end of a line: go on to the next one if it begins with a parameter or a bar."""
        if self.peek() != "\n":
            return False
        start = self.at
        self.lines()
        if self.sees(_NEXT_PARAMETER) or (self.peek() == "|" and self.peek(2) != "||"):
            return True
        self.at = start
        return False

    def close(self, bracket: str, opened: int) -> None:
        """Read a closing bracket; ``opened`` is where its partner stands."""
        self.lines()
        if self.take(bracket):
            return
        opening = self.text[opened : opened + 2] if self.text[opened] in "@$" else self.text[opened]
        if self.at >= len(self.text):
            self.fail(f'the "{opening}" has no "{bracket}"', opened, unfinished=True)
        self.fail(f'"{self.peek()}" cannot stand here; the "{opening}" of {self.place(opened)} wants its "{bracket}"')
