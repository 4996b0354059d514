"""What values are worth: as text, as truth, as numbers, compared, taken apart: PowerShell's rules."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeGuard

from casarray.core.shell.cmdlet import Credential, Record, Value
from casarray.core.shell.expressions import number_of
from casarray.core.shell.syntax import Word

LARGEST = 1 << 63  # integers beyond become floating-point numbers


def is_array(value: Value) -> TypeGuard[Sequence[Value]]:
    """Whether it is a list of values; a string is one value."""
    return isinstance(value, Sequence) and not isinstance(value, str)


def items(value: Value) -> Sequence[Value]:
    """What a value brings into a pipeline: the items of an array, nothing of $null."""
    if is_array(value):
        return value
    return () if value is None else (value,)


def collapse(values: Sequence[Value]) -> Value:
    """What a pipeline's outcome is as one value: nothing is $null, one is itself, several are an array."""
    if len(values) == 1:
        return values[0]
    return tuple(values) if values else None


def text_of(value: Value) -> str:
    """As it stands in a string."""
    if value is None:
        return ""
    if isinstance(value, float):
        return number_text(value)
    if is_array(value):
        return " ".join("System.Object[]" if is_array(item) else text_of(item) for item in value)
    if isinstance(value, Mapping):
        return "System.Collections.Hashtable"
    return value.user if isinstance(value, Credential) else str(value)


def number_text(value: float) -> str:
    """Without the ``.0`` of a whole number."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def truth(value: Value) -> bool:
    """Whether it counts as $true: an array of one as its item, an array of more always."""
    for _ in range(100):
        if not is_array(value) or len(value) != 1:
            break
        value = value[0]
    if isinstance(value, bool | int | float | str) or value is None or is_array(value):
        return bool(value)
    return True


def number(value: Value) -> int | float | None:
    """The number that a value is or says; None when it is none."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return value
    if value is None:
        return 0
    return number_of(value.strip()) if isinstance(value, str) else None


def settle(value: Value) -> Value:
    """A bare word that stands where anything may: a number if it looks like one, else a string."""
    if isinstance(value, Word):
        found = number_of(value)
        return str(value) if found is None else found
    if is_array(value):
        return tuple(settle(item) for item in value)
    return value


def part(value: Value, name: str) -> tuple[bool, Value]:
    """A property by its name: whether there is such a one, and it."""
    wanted = name.casefold()
    if isinstance(value, Record | Mapping):
        properties = value.properties if isinstance(value, Record) else value
        if name in properties:
            return True, properties[name]
        for known, found in properties.items():
            if str(known).casefold() == wanted:
                return True, found
        if isinstance(value, Mapping) and wanted in ("keys", "values"):
            return True, tuple(value) if wanted == "keys" else tuple(value.values())
    if wanted in ("count", "length"):
        long = isinstance(value, Mapping) or is_array(value) or (isinstance(value, str) and wanted == "length")
        return True, len(value) if long else 0 if value is None else 1  # type: ignore[arg-type]  # long says it has one
    if isinstance(value, Credential):
        shown: dict[str, Value] = {"username": value.user, "password": "System.Security.SecureString"}
        return wanted in shown, shown.get(wanted)
    return False, None


def property_names(value: Value) -> list[str]:
    """The names of its properties, in their order."""
    if isinstance(value, Record):
        return list(value.properties)
    if isinstance(value, Mapping):
        return [str(key) for key in value]
    if isinstance(value, Credential):
        return ["UserName", "Password"]
    return ["Length"] if isinstance(value, str) else []


def same(left: Value, right: Value, *, case: bool = False) -> bool:
    """-eq: numbers as numbers, text whatever its capital letters, objects by their identity."""
    if left is None or right is None:
        return left is right
    if isinstance(left, bool) or isinstance(right, bool):
        return truth(left) == truth(right)
    if isinstance(left, int | float) or (isinstance(right, int | float) and not isinstance(left, str)):
        a, b = number(left), number(right)
        return a is not None and a == b
    if left is right:
        return True
    if is_array(left) or is_array(right) or isinstance(left, Mapping) or isinstance(right, Mapping):
        return False
    a_text, b_text = text_of(left), text_of(right)
    return a_text == b_text if case else a_text.casefold() == b_text.casefold()


def order(left: Value, right: Value, *, case: bool = False) -> int | None:
    """-1, 0, 1 as the left one comes before, with or after the right one; None when they do not compare."""
    if isinstance(left, int | float) or left is None:
        a, b = number(left), number(right)
        if a is None or b is None:
            return None
        return (a > b) - (a < b)
    if is_array(left) or is_array(right):
        return None
    x, y = text_of(left), text_of(right)
    if not case:
        x, y = x.casefold(), y.casefold()
    return (x > y) - (x < y)


def sort_key(value: Value) -> tuple[int, float, str]:
    """What any two values can be sorted by: $null, then numbers, then text."""
    if value is None:
        return (0, 0.0, "")
    if isinstance(value, bool | int | float):
        found = float(value)
        return (1, -math.inf if math.isnan(found) else found, "")
    return (2, 0.0, text_of(value).casefold())


@lru_cache(maxsize=256)
def wildcard(pattern: str, *, case: bool = False) -> Callable[[str], bool]:
    """A test for ``*``, ``?`` and ``[a-z]``; a backtick takes the meaning from what follows it.

    Every star takes as little as it can, once and for all, so that no pattern takes long.
    """
    pieces = re.split(r"(?<!`)\*+", pattern)
    flags = 0 if case else re.IGNORECASE
    tests = [re.compile(_piece(piece), flags | re.DOTALL) for piece in pieces]

    def matches(text: str) -> bool:
        first, *middle = tests
        if not middle:
            return first.fullmatch(text) is not None
        *middle, last = middle
        begun = first.match(text)
        if begun is None:
            return False
        at = begun.end()
        for test in middle:
            found = test.search(text, at)
            if found is None:
                return False
            at = found.end()
        # Each piece has one length, so that the last can only end the text from there.
        start = len(text) - _length(last.pattern)
        return start >= at and last.fullmatch(text, start) is not None

    return matches


_ATOM = re.compile(r"\[(?:\\.|[^\]\\])*\]|\\.|.", re.DOTALL)


def _length(expression: str) -> int:
    return len(_ATOM.findall(expression))


def _piece(piece: str) -> str:
    """A wildcard without stars as a regular expression, each of whose atoms is one character."""
    found = []
    for atom in re.findall(r"`.|\[[^\]]+\]|.", piece, re.DOTALL):
        if atom == "?":
            found.append(".")
        elif atom[0] == "[" and len(atom) > 2:
            found.append(_one_of(atom[1:-1]))
        elif atom[0] == "`" and len(atom) > 1:
            found.append(re.escape(atom[1]))
        else:
            found.append(re.escape(atom))
    return "".join(found)


def _one_of(inner: str) -> str:
    """``[a-c_]``; a range the wrong way round, and any other character, mean themselves."""
    allowed: set[str] = set()
    while inner:
        if len(inner) > 2 and inner[1] == "-" and ord(inner[2]) - ord(inner[0]) in range(0x10000):
            allowed.update(map(chr, range(ord(inner[0]), min(ord(inner[2]), ord(inner[0]) + 255) + 1)))
            inner = inner[3:]
        else:
            allowed.add(inner[0])
            inner = inner[1:]
    return "[" + "".join(_escaped(c) for c in sorted(allowed)) + "]"


def _escaped(character: str) -> str:
    return f"\\x{ord(character):02x}" if ord(character) < 128 and not character.isalnum() else character


def has_wildcard(text: str) -> bool:
    """Whether it means several names."""
    return any(mark in text for mark in "*?[")


def all_texts(value: Value) -> list[str]:
    """Each item as text."""
    return [text_of(item) for item in items(value)]


def records(values: Iterable[Value]) -> list[Record]:
    """Those that are objects with properties."""
    return [value for value in values if isinstance(value, Record)]
