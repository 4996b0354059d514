"""On which line of a TOML text each key stands.

`tomllib` parses but forgets where things were; an administrator wants the line. This scanner walks over a text that
`tomllib` has already accepted, so it never judges: it records where keys, tables and list elements begin, and when it
meets something it does not follow (absurd nesting) it keeps what it has. An unrecorded path has the line of its nearest
recorded parent.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_REST_OF_LINE = re.compile(r"[^\n]*")
_PLAIN = re.compile(r"[^,\]}#\n]*")  # numbers, booleans, dates (which may hold a blank)
_STRINGS = (
    re.compile(r'"""(?:\\[\s\S]|[^\\])*?"""(?:"{0,2})'),
    re.compile(r"'''[\s\S]*?'''(?:'{0,2})"),
    re.compile(r'"(?:\\.|[^"\\\n])*"'),
    re.compile(r"'[^'\n]*'"),
)
_DEEPEST = 16  # no key of ours lies deeper than five


class _Lost(Exception):
    """The scanner does not follow the text any further."""


def key_lines(text: str) -> dict[Path, int]:
    """Path -> line, counted from 1, of every key, table and list element: ``("array", 0, "addresses", 1) -> 12``."""
    scanner = _Scanner(text)
    with suppress(_Lost):
        scanner.document()
    return scanner.lines


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """The line of the path, or of its nearest parent that has one, else 0."""
    return next((lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in lines), 0)


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self._line = 1
        self._counted = 0  # newlines before this offset are in _line
        self._tables: dict[Path, int] = {}  # path of an array of tables -> how many of them so far

    def document(self) -> None:
        table: Path = ()
        while self._skip_blank() < len(self.text):
            if self._take("[["):
                table = self._list_header()
            elif self._take("["):
                table = self._resolve(self._key())
                self._record(table)
                self._skip(_REST_OF_LINE)
            else:
                self._pair(table, 0)
                self._skip(_REST_OF_LINE)

    def _list_header(self) -> Path:
        line = self._here()
        *parents, name = self._key()
        path = (*self._resolve(parents), name)
        count = self._tables.get(path, 0)
        self._tables[path] = count + 1
        self._record((*path, count), line)
        self._skip(_REST_OF_LINE)
        return (*path, count)

    def _resolve(self, key: list[str]) -> Path:
        """A table header counts from the last element of each array of tables that it passes."""
        path: Path = ()
        for part in key:
            path = (*path, part)
            if path in self._tables:
                path = (*path, self._tables[path] - 1)
        return path

    def _pair(self, table: Path, depth: int) -> None:
        line = self._here()
        path = (*table, *self._key())
        self._record(path, line)
        if not self._take("="):
            raise _Lost
        self._skip(_SPACE)
        self._value(path, depth)

    def _value(self, path: Path, depth: int) -> None:
        if depth > _DEEPEST:
            raise _Lost
        if self._take("["):
            for index in self._elements("]"):
                self._record((*path, index))
                self._value((*path, index), depth + 1)
        elif self._take("{"):
            for _ in self._elements("}"):
                self._pair(path, depth + 1)
        elif self._peek() in ('"', "'"):
            self._string()
        else:
            self._skip(_PLAIN)

    def _elements(self, end: str) -> Iterator[int]:
        """Stand before each element in turn; ends behind the closing bracket."""
        index = 0
        self._skip_blank()
        while not self._take(end):
            before = self.at
            yield index
            index += 1
            self._skip_blank()
            self._take(",")
            self._skip_blank()
            if self.at == before:
                raise _Lost

    def _key(self) -> list[str]:
        parts: list[str] = []
        while True:
            self._skip(_SPACE)
            parts.append(self._key_part())
            self._skip(_SPACE)
            if not self._take("."):
                return parts
            if len(parts) > _DEEPEST:
                raise _Lost

    def _key_part(self) -> str:
        if self._peek() in ('"', "'"):
            try:
                return str(tomllib.loads(f"key = {self._string()}")["key"])
            except tomllib.TOMLDecodeError:
                raise _Lost from None
        found = _BARE_KEY.match(self.text, self.at)
        if found is None:
            raise _Lost
        self.at = found.end()
        return found.group()

    def _string(self) -> str:
        for form in _STRINGS:
            if found := form.match(self.text, self.at):
                self.at = found.end()
                return found.group()
        raise _Lost

    def _record(self, path: Path, line: int | None = None) -> None:
        line = self._here() if line is None else line
        for end in range(1, len(path) + 1):
            self.lines.setdefault(path[:end], line)

    def _here(self) -> int:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _take(self, token: str) -> bool:
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def _skip(self, what: re.Pattern[str]) -> None:
        found = what.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def _skip_blank(self) -> int:
        self._skip(_BLANK)
        return self.at
