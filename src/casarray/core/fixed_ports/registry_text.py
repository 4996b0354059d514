"""The text format of regedit: what a file of it does to the few registry keys one cares for.

    Windows Registry Editor Version 5.00          REGEDIT4 is the older header, of ANSI files

    [HKEY_LOCAL_MACHINE\\SOFTWARE\\Example]       [-HKEY...] removes the key
    ; a comment
    "name"="text, with \\\\ and \\" in it"        REG_SZ, may run over several lines
    "number"=dword:00001389                       REG_DWORD, one to eight hexadecimal digits
    "octets"=hex(2):25,00,50,\\                   any other type by its number, continued by a backslash
      00,00,00
    "gone"=-                                      removes the value
    @="the key's default value"

Regedit passes over lines it does not understand, and so does this reader; of the keys that are asked for it tells them.
One walk over the text, no more memory than the values asked for.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from casarray.core.errors import ConfigError
from casarray.core.fixed_ports.text import decode

LARGEST: Final = 32 * 1024 * 1024  # bytes; all services of a host are about as much
MOST_VALUES: Final = 1000  # of those asked for; a sane file has two
LONGEST_HEX: Final = 4096  # characters of a hex value that are looked at
LONGEST_SHOWN: Final = 200  # characters of a line that is not understood

HEADERS: Final = ("windows registry editor version 5.00", "regedit4")

_BLANK = re.compile(r"[\s\ufeff]*+")
_KEY = re.compile(r"\[(-?)([^\r\n]*)\]")
_NAME = re.compile(r'(?:@|"((?:[^"\\\r\n]|\\.)*+)")[ \t]*+=[ \t]*+')
_STRING = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_DWORD = re.compile(r"dword:([0-9a-f]*+)", re.IGNORECASE)
_HEX = re.compile(r"hex(?:\(([0-9a-f]{1,8})\))?:((?:[0-9a-f, \t]|\\[ \t]*+(?:\r\n|\n|\r))*+)", re.IGNORECASE)
_LINE = re.compile(r"[^\r\n]*+")
_END = re.compile(r"[ \t]*+(?:;[^\r\n]*+)?(?=[\r\n]|\Z)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_NEWLINE = re.compile(r"\r\n|\n|\r")


class ValueType(StrEnum):
    """The types of a value, as an administrator knows them."""

    STRING = "REG_SZ"
    DWORD = "REG_DWORD"
    BINARY = "REG_BINARY"
    EXPAND_STRING = "REG_EXPAND_SZ"
    MULTI_STRING = "REG_MULTI_SZ"
    QWORD = "REG_QWORD"
    OTHER = "a value of an unusual type"
    DELETED = "removed"
    KEY_DELETED = "removed with its key"
    UNREADABLE = "unreadable"  # regedit passes over it too


_BY_NUMBER: Final = {
    1: ValueType.STRING,
    2: ValueType.EXPAND_STRING,
    3: ValueType.BINARY,
    4: ValueType.DWORD,
    7: ValueType.MULTI_STRING,
    0xB: ValueType.QWORD,
}


@dataclass(frozen=True, slots=True)
class Value:
    """One line of the file that says something of the values asked for."""

    key: str  # as it stands there
    name: str  # empty for a key, and for a line that is not understood
    type: ValueType
    data: int | str | None  # of a DWORD and a string; what stands there when it is unreadable
    line: int


@dataclass(frozen=True, slots=True)
class RegistryText:
    """What a file says of the values asked for."""

    keys: tuple[str, ...]  # those asked for that are in the file, each once
    values: tuple[Value, ...]  # in the order of the file, which is the order of their effect


def read_registry(data: bytes, file: str, wanted: Callable[[str], bool], names: Collection[str]) -> RegistryText:
    """The values of these names (folded) in the keys that are ``wanted``, and what those keys hold that is unreadable.

    Raises nothing but `ConfigError`, which names the line.
    """
    if len(data) > LARGEST:
        raise ConfigError(
            f"{file}: {len(data)} bytes are too many (at most {LARGEST}); export only the keys of the two services"
        )
    return _Walk(decode(data), file, wanted, names).result()


class _Walk:
    """One walk over a text."""

    def __init__(self, text: str, file: str, wanted: Callable[[str], bool], names: Collection[str]) -> None:
        self._text, self._file, self._wanted, self._names = text, file, wanted, names
        self._at = 0
        self._line, self._counted = 1, 0
        self._key: str | None = None  # the one we are in, when it is wanted
        self._keys: dict[str, None] = {}
        self._found: list[Value] = []

    def result(self) -> RegistryText:
        self._header()
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text):
                return RegistryText(tuple(self._keys), tuple(self._found))
            match self._text[self._at]:
                case "[":
                    self._enter()
                case '"' | "@":
                    self._value()
                case ";":
                    self._skip(_LINE)
                case _:
                    self._not_understood()

    def _header(self) -> None:
        self._skip(_BLANK)
        here = self._here()
        header = self._take(_LINE).strip()
        if header.casefold() not in HEADERS:
            raise ConfigError(
                f'{self._file}:{here}: this is no export of the registry: its first line would be "Windows Registry '
                f'Editor Version 5.00"; export the key with regedit or reg export'
            )

    def _enter(self) -> None:
        found = _KEY.match(self._text, self._at)
        if found is None:
            self._not_understood()
            return
        key = found[2]
        self._key = None
        if self._wanted(key):
            if found[1]:
                self._add(Value(key, "", ValueType.KEY_DELETED, None, self._here()))
            else:
                self._key = key
                self._keys[key] = None
        self._skip(_LINE)

    def _value(self) -> None:
        here = self._here()
        found = _NAME.match(self._text, self._at)
        if found is None:
            self._not_understood()
            return
        begin, self._at = self._at, found.end()
        type_, data = self._data(here)
        if _END.match(self._text, self._at) is None:
            type_ = ValueType.UNREADABLE
        self._skip(_LINE if type_ is ValueType.UNREADABLE else _END)
        if self._key is None:
            return
        name = _ESCAPE.sub(r"\1", found[1] or "")
        if name.casefold() in self._names:
            shown = _NEWLINE.split(self._text[begin : begin + LONGEST_SHOWN], maxsplit=1)[0]
            data = shown if type_ is ValueType.UNREADABLE else data
            self._add(Value(self._key, name, type_, data, here))

    def _data(self, here: int) -> tuple[ValueType, int | str | None]:
        """Read the data and stand behind it."""
        text, at = self._text, self._at
        if text.startswith("-", at):
            self._at += 1
            return ValueType.DELETED, None
        if text.startswith('"', at):
            if (found := _STRING.match(text, at)) is None:
                raise ConfigError(f"{self._file}:{here}: the quote that opens here is never closed; export it again")
            self._at = found.end()
            return ValueType.STRING, _ESCAPE.sub(r"\1", found[1]) if self._key is not None else ""
        if found := _DWORD.match(text, at):
            self._at = found.end()
            digits = found[1]
            return (ValueType.DWORD, int(digits, 16)) if 1 <= len(digits) <= 8 else (ValueType.UNREADABLE, None)
        if found := _HEX.match(text, at):
            self._at = found.end()
            return _of_hex(found[1], found[2][:LONGEST_HEX]) if self._key is not None else (ValueType.BINARY, None)
        return ValueType.UNREADABLE, None

    def _not_understood(self) -> None:
        here = self._here()
        line = self._take(_LINE)
        if self._key is not None:
            self._add(Value(self._key, "", ValueType.UNREADABLE, line[:LONGEST_SHOWN], here))

    def _add(self, value: Value) -> None:
        if len(self._found) >= MOST_VALUES:
            raise ConfigError(f"{self._file}:{value.line}: the same values again and again; export the two keys anew")
        self._found.append(value)

    def _take(self, what: re.Pattern[str]) -> str:
        found = what.match(self._text, self._at)
        assert found is not None  # these patterns match nothing as well
        self._at = found.end()
        return found.group()

    def _skip(self, what: re.Pattern[str]) -> None:
        self._take(what)

    def _here(self) -> int:
        self._line += sum(1 for _ in _NEWLINE.finditer(self._text, self._counted, self._at))
        self._counted = self._at
        return self._line


def _of_hex(number: str | None, text: str) -> tuple[ValueType, int | str | None]:
    """A value that is given by its type's number and its octets. ``hex:`` alone is binary."""
    type_ = _BY_NUMBER.get(int(number, 16), ValueType.OTHER) if number else ValueType.BINARY
    digits = [part.strip() for part in re.sub(r"[\\\r\n]", "", text).split(",") if part.strip()]
    if any(len(part) > 2 or not re.fullmatch(r"[0-9a-fA-F]{1,2}", part) for part in digits):
        return ValueType.UNREADABLE, None
    octets = bytes(int(part, 16) for part in digits)
    if type_ is ValueType.DWORD:
        return (type_, int.from_bytes(octets, "little")) if len(octets) == 4 else (ValueType.UNREADABLE, None)
    if type_ is ValueType.STRING:
        return type_, octets.decode("utf-16-le", errors="replace").split("\0", 1)[0]
    return type_, None
