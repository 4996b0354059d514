"""How objects look as text: tables and lists as PowerShell lays them out, for a terminal's width or for none."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from casarray.core.errors import Conflict
from casarray.core.shell.cmdlet import Record, Value
from casarray.core.shell.columns import Column, all_names, named
from casarray.core.shell.values import is_array, text_of

FEW = 4  # properties that still make a table by themselves
_GAP = " "
LARGEST = 30_000_000  # characters of one text


class Formatted(str):
    """Text that Format-List or Format-Table made, and what it shows, for those who want no text."""

    objects: tuple[Value, ...]
    __slots__ = ("objects",)

    def __new__(cls, text: str, objects: Sequence[Value]) -> "Formatted":
        """The text with what it shows."""
        made = super().__new__(cls, text)
        made.objects = tuple(objects)
        return made


def printable(text: str) -> str:
    """Without characters that would do something to a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else " " if c == "\t" else "?" for c in text)


def cell(value: Value) -> str:
    """A property's value as it is shown: ``{a, b}`` for an array."""
    if is_array(value):
        return "{" + ", ".join(cell(item) for item in value[:100_000]) + "}" if _flat(value) else "{...}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"[{key}, {printable(text_of(held))}]" for key, held in value.items()) + "}"
    return printable(text_of(value))


def _allow(size: int) -> None:
    if size > LARGEST:
        raise Conflict("this is too much to show as one text; choose fewer objects or properties")


def _flat(value: Sequence[Value]) -> bool:
    """Whether it holds no arrays in arrays in arrays, which could be endless."""
    return not any(is_array(item) and any(map(is_array, item)) for item in value)


def as_list(objects: Sequence[Value], columns: Sequence[Column] | None, width: int | None = None) -> str:
    """``Name : value``, a line for each property, an empty line between objects."""
    blocks, size = [], 0
    for value in objects:
        own = columns if columns is not None else [named(name) for name in all_names([value])]
        pairs = [(column.name, column.of(value)) for column in own]
        shown = [(name, cell(found)) for name, (there, found) in pairs if there]
        if not own:
            shown = [("Value", cell(value))]
        widest = max((len(name) for name, _ in shown), default=0)
        size += sum(len(text) for _, text in shown)
        _allow(size)
        blocks.append("\n".join(_entry(name, text, widest, width) for name, text in shown))
    return "\n\n".join(block for block in blocks if block)


def _entry(name: str, text: str, widest: int, width: int | None) -> str:
    """One property; further lines of its value stand below its first one."""
    room = max(width - widest - 3, 10) if width else None
    lines = [piece for line in text.split("\n") for piece in _cut(line, room)]
    indent = " " * (widest + 3)
    return "\n".join((f"{printable(name):<{widest}} : {lines[0]}".rstrip(), *(indent + line for line in lines[1:])))


def _cut(line: str, room: int | None) -> list[str]:
    if room is None or len(line) <= room:
        return [line]
    return [line[start : start + room] for start in range(0, len(line), room)]


def as_table(
    objects: Sequence[Value], columns: Sequence[Column], width: int | None = None, *, wrap: bool = False
) -> str:
    """A header, dashes, and a row for each object; numbers to the right, what has no room is cut or wrapped."""
    rows = [[column.of(value)[1] for column in columns] for value in objects]
    texts, size = [], 0
    for values in rows:
        texts.append([cell(value).replace("\n", " ") for value in values])
        size += sum(map(len, texts[-1]))
        _allow(size)
    right = [
        all(isinstance(row[n], int | float) and not isinstance(row[n], bool) for row in rows if row[n] is not None)
        and any(row[n] is not None for row in rows)
        for n in range(len(columns))
    ]
    headers = [printable(column.name) for column in columns]
    natural = [max([len(header), *(len(row[n]) for row in texts)]) for n, header in enumerate(headers)]
    widths = _fitted(natural, width)
    _allow(sum(natural if wrap else widths) * len(rows))
    lines = [_line(headers, widths, right), _line(["-" * min(len(h), w) for h, w in zip(headers, widths, strict=True)],
             widths, right)]  # fmt: skip
    for row in texts:
        if wrap:
            parts = [_cut(text, w) for text, w in zip(row, widths, strict=True)]
            for n in range(max(map(len, parts))):
                lines.append(_line([piece[n] if n < len(piece) else "" for piece in parts], widths, right))
        else:
            lines.append(_line(row, widths, right))
    return "\n".join(lines)


def _fitted(natural: Sequence[int], width: int | None) -> list[int]:
    """Take from the widest column until the row fits; none below what a header of eight letters needs."""
    widths = [max(w, 1) for w in natural]
    if width is None:
        return widths
    spare = width - len(_GAP) * (len(widths) - 1)
    while sum(widths) > spare:
        widest = max(range(len(widths)), key=lambda n: widths[n])
        rest = sorted(widths)[-2] if len(widths) > 1 else 0
        if widths[widest] <= 8:
            break
        widths[widest] = max(8, min(widths[widest] - 1, max(rest, widths[widest] - (sum(widths) - spare))))
    return widths


def _line(texts: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    cells = []
    for text, width, is_right in zip(texts, widths, right, strict=True):
        cut = text if len(text) <= width else text[: width - 3] + "..."
        cells.append(cut.rjust(width) if is_right else cut.ljust(width))
    return _GAP.join(cells).rstrip()


def default_columns(objects: Sequence[Value]) -> list[Column] | None:
    """What a table shows by itself; None where a list says more."""
    first = objects[0]
    if isinstance(first, Mapping):
        return None
    if isinstance(first, Record) and first.columns:
        return [named(name) for name in first.columns]
    names = all_names(objects[:1000])
    return [named(name) for name in names] if 0 < len(names) <= FEW else None


def _shape(value: Value) -> str:
    if isinstance(value, Record):
        return f"record {value.type_name} {','.join(value.columns or tuple(value.properties))}"
    return "hashtable" if isinstance(value, Mapping) else "text"


def blocks(values: Sequence[Value], width: int | None = None) -> list[str]:
    """What a statement gave, as it is shown by itself: like objects together, each kind as it looks best."""
    shown = []
    for shape, run in groupby((value for value in values if value is not None), key=_shape):
        group = list(run)
        if shape == "text":
            lines, size = [], 0
            for value in group:
                lines.append(_plain(value))
                size += len(lines[-1])
                _allow(size)
            shown.append("\n".join(lines))
        elif shape == "hashtable":
            pairs: list[Value] = [
                Record("Entry", {"Name": key, "Value": held})
                for value in group
                if isinstance(value, Mapping)
                for key, held in value.items()
            ]
            shown.append(as_table(pairs, [named("Name"), named("Value")], width) if pairs else "")
        else:
            table = default_columns(group)
            shown.append(as_table(group, table, width) if table else as_list(group, None, width))
    return [block for block in shown if block]


def _plain(value: Value) -> str:
    if isinstance(value, Formatted):
        return value
    if is_array(value):
        return "\n".join(printable(text_of(item)) for item in value)
    return printable(text_of(value))
