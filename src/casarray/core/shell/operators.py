"""What operators give: arithmetic, comparisons, patterns. An array on the left of a comparison is filtered by it."""

import math
import re
from collections.abc import Callable
from functools import lru_cache

from casarray.core.shell.cmdlet import Value
from casarray.core.shell.trouble import Limits, Place, ShellError
from casarray.core.shell.values import (
    LARGEST,
    all_texts,
    is_array,
    items,
    number,
    order,
    same,
    text_of,
    truth,
    wildcard,
)

_LONGEST_PATTERN, _LONGEST_SUBJECT = 1000, 100_000
_NOT = {"ne": "eq", "notlike": "like", "notmatch": "match", "notcontains": "contains", "notin": "in"}
_ORDER: dict[str, Callable[[int], bool]] = {
    "gt": lambda found: found > 0,
    "ge": lambda found: found >= 0,
    "lt": lambda found: found < 0,
    "le": lambda found: found <= 0,
}


def binary(operator: str, left: Value, right: Value, place: Place, limits: Limits) -> Value:
    """What ``left -operator right`` gives. Raises `ShellError` when it makes no sense, or too much."""
    if operator in "+-*/%":
        return _arithmetic(operator, left, right, place, limits)
    if operator == "..":
        return _span(left, right, place, limits)
    if operator == "f":
        return _format(left, right, place, limits)
    if operator in ("and", "or", "xor"):
        a, b = truth(left), truth(right)
        return (a and b) if operator == "and" else (a or b) if operator == "or" else a != b
    case = operator[0] == "c" and operator not in ("contains",)
    name = operator[1:] if case or (operator[0] == "i" and operator not in ("in",)) else operator
    if name in ("join", "split", "replace"):
        return _textual(name, left, right, place, limits, case=case)
    return compare(name, left, right, place, case=case)


def compare(name: str, left: Value, right: Value, place: Place, *, case: bool = False) -> Value:
    """A comparison: true or false of one value, those for which it is true of an array."""
    if name in ("contains", "notcontains"):
        return any(same(item, right, case=case) for item in items(left)) != (name == "notcontains")
    if name in ("in", "notin"):
        return any(same(left, item, case=case) for item in items(right)) != (name == "notin")
    test = _test(name, right, place, case=case)
    return tuple(item for item in left if test(item)) if is_array(left) else test(left)


def _test(name: str, right: Value, place: Place, *, case: bool) -> Callable[[Value], bool]:
    """The comparison with its right side, waiting for its left one."""
    opposite = name in _NOT
    name = _NOT.get(name, name)
    if name == "eq":
        return lambda left: same(left, right, case=case) != opposite
    if name == "like":
        matches = wildcard(text_of(right), case=case)
        return lambda left: matches(text_of(left)) != opposite
    if name == "match":
        pattern = expression(text_of(right), place, case=case)
        return lambda left: _found(pattern, text_of(left), place) != opposite

    def ordered(left: Value) -> bool:
        found = order(left, right, case=case)
        if found is None:
            raise ShellError(f'"{_short(left)}" and "{_short(right)}" cannot be put in order', place)
        return _ORDER[name](found)

    return ordered


def _short(value: Value) -> str:
    text = text_of(value)
    return text if len(text) <= 40 else text[:40] + "..."


def expression(pattern: str, place: Place, *, case: bool) -> re.Pattern[str]:
    """A regular expression; what could take longer than a lifetime is refused."""
    if len(pattern) > _LONGEST_PATTERN:
        raise ShellError(f"this pattern is longer than {_LONGEST_PATTERN} characters", place)
    try:
        return _compiled(pattern, case)
    except (re.error, OverflowError, RecursionError) as error:
        raise ShellError(f'"{_short(pattern)}" is no regular expression: {error}; -like takes * and ?', place) from None


@lru_cache(maxsize=256)
def _compiled(pattern: str, case: bool) -> re.Pattern[str]:
    if _is_explosive(pattern):
        raise re.error("a repetition of something that repeats itself takes too long")
    return re.compile(pattern, 0 if case else re.IGNORECASE)


_PIECE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?[:=!<P][^)(|]*?|[()|]|[*+]|\?|\{\d*,?\d*\}|.", re.DOTALL)


def _is_explosive(pattern: str) -> bool:
    """Whether a group that repeats holds something that repeats or branches, or too much repeats without end."""
    stack = [False]
    closed: bool | None = None  # what the group that ended just here held
    endless = 0
    for piece in _PIECE.findall(pattern):
        repeats = piece in ("*", "+") or (piece[0] == "{" and len(piece) > 2)
        endless += repeats
        if repeats and closed:
            return True
        held = closed
        closed = None
        if piece[0] == "(":
            stack.append(False)
        elif piece == ")" and len(stack) > 1:
            closed = stack.pop()
            stack[-1] = stack[-1] or closed
        elif repeats or piece in ("?", "|"):
            stack[-1] = True
            closed = held
    return endless > 4


def _found(pattern: re.Pattern[str], text: str, place: Place) -> bool:
    if len(text) > _LONGEST_SUBJECT:
        raise ShellError(f"this text is longer than the {_LONGEST_SUBJECT:,} characters that -match looks at", place)
    return pattern.search(text) is not None


def _arithmetic(operator: str, left: Value, right: Value, place: Place, limits: Limits) -> Value:
    if operator == "+" and is_array(left):
        more = items(right) if is_array(right) else (right,)
        if len(left) + len(more) > limits.items:
            raise ShellError(f"an array holds {limits.items:,} items at most", place)
        return (*left, *more)
    if operator == "+" and isinstance(left, str):
        return bounded(left + text_of(right), place, limits)
    if operator == "+" and isinstance(left, dict) and isinstance(right, dict):
        return {**left, **right}
    if operator == "*" and (isinstance(left, str) or is_array(left)):
        return _repeated(left, right, place, limits)
    a, b = number(left), number(right)
    if a is None or b is None:
        wrong = left if a is None else right
        raise ShellError(f'"{_short(wrong)}" is not a number, which "{operator}" wants', place)
    try:
        return _calculated(operator, a, b)
    except ZeroDivisionError:
        raise ShellError("a division by zero", place) from None
    except (OverflowError, ValueError):
        raise ShellError("this number is too large", place) from None


def _calculated(operator: str, a: int | float, b: int | float) -> int | float:
    found: int | float
    if operator == "+":
        found = a + b
    elif operator == "-":
        found = a - b
    elif operator == "*":
        found = a * b
    elif operator == "/":
        found = a / b
        if isinstance(a, int) and isinstance(b, int) and a % b == 0:
            found = a // b
    elif not b:
        raise ZeroDivisionError
    elif isinstance(a, int) and isinstance(b, int):
        found = int(math.copysign(1, a)) * (abs(a) % abs(b))
    else:
        found = math.fmod(a, b)
    return float(found) if isinstance(found, int) and not -LARGEST <= found < LARGEST else found


def _repeated(left: Value, right: Value, place: Place, limits: Limits) -> Value:
    times = number(right)
    if times is None or not 0 <= times <= limits.text:
        raise ShellError(f'"{_short(right)}" is not a number of times', place)
    if is_array(left):
        if len(left) * times > limits.items:
            raise ShellError(f"an array holds {limits.items:,} items at most", place)
        return tuple(left) * int(times)
    text = text_of(left)
    if len(text) * times > limits.text:
        raise ShellError(f"a string holds {limits.text:,} characters at most", place)
    return text * int(times)


def bounded(text: str, place: Place, limits: Limits) -> str:
    """The text, if it is not too long."""
    if len(text) > limits.text:
        raise ShellError(f"a string holds {limits.text:,} characters at most", place)
    return text


def _span(left: Value, right: Value, place: Place, limits: Limits) -> Value:
    a, b = number(left), number(right)
    if a is None or b is None or not (abs(a) < LARGEST and abs(b) < LARGEST):
        raise ShellError('".." stands between two numbers: 1..10', place)
    first, last = int(a), int(b)
    if abs(last - first) >= limits.items:
        raise ShellError(f"an array holds {limits.items:,} items at most", place)
    return tuple(range(first, last + 1) if first <= last else range(first, last - 1, -1))


def _format(left: Value, right: Value, place: Place, limits: Limits) -> Value:
    """``"{0} of {1}" -f 1, 2``; an alignment counts, a format does not."""
    values = all_texts(right) if is_array(right) else [text_of(right)]

    def put(found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        if int(found[1]) >= len(values):
            raise ShellError(f"{{{found[1]}}} has no value; -f was given {len(values)}", place)
        width = int(found[2] or 0)
        text = values[int(found[1])]
        return text.rjust(width) if width > 0 else text.ljust(-width)

    pieces = re.split(r"(\{\{|\}\}|\{\d{1,4}(?:,-?\d{1,4})?(?::[^{}]*)?\})", text_of(left))
    whole: list[str] = []
    total = 0
    for piece in pieces:
        found = re.fullmatch(r"\{\{|\}\}|\{(\d{1,4})(?:,(-?\d{1,4}))?(?::[^{}]*)?\}", piece)
        whole.append(put(found) if found else piece)
        total += len(whole[-1])
        if total > limits.text:
            raise ShellError(f"a string holds {limits.text:,} characters at most", place)
    return "".join(whole)


def _textual(name: str, left: Value, right: Value, place: Place, limits: Limits, *, case: bool) -> Value:
    if name == "join":
        return joined(left, text_of(right), place, limits)
    if name == "split":
        pattern = expression(text_of(right), place, case=case)
        return tuple(piece for text in all_texts(left) for piece in _split(pattern, text, place))
    arguments = all_texts(right) if is_array(right) else [text_of(right)]
    if not 0 < len(arguments) <= 2:
        raise ShellError("-replace wants a pattern and a text: 'abc' -replace 'b', 'x'", place)
    pattern, by = expression(arguments[0], place, case=case), arguments[1] if len(arguments) > 1 else ""
    replaced = tuple(_replaced(pattern, by, text, place, limits) for text in all_texts(left))
    return replaced if is_array(left) else replaced[0] if replaced else ""


def _split(pattern: re.Pattern[str], text: str, place: Place) -> list[str]:
    _found(pattern, text, place)
    return [piece or "" for piece in pattern.split(text)]


def _replaced(pattern: re.Pattern[str], by: str, text: str, place: Place, limits: Limits) -> str:
    """Groups of the pattern stand as $1 in the new text."""
    _found(pattern, text, place)
    if (len(text) + 1) * max(len(by), 1) > limits.text:
        raise ShellError(f"a string holds {limits.text:,} characters at most", place)

    def put(found: re.Match[str]) -> str:
        def group(named: re.Match[str]) -> str:
            index = int(named[1])
            return (found[index] or "") if index <= pattern.groups else named[0]

        return re.sub(r"\$(\d{1,2})", group, by)

    return bounded(pattern.sub(put, text), place, limits)


def joined(left: Value, between: str, place: Place, limits: Limits) -> str:
    """The items as one text."""
    texts = all_texts(left)
    if sum(map(len, texts)) + len(between) * len(texts) > limits.text:
        raise ShellError(f"a string holds {limits.text:,} characters at most", place)
    return between.join(texts)
