"""Cmdlets that make text of objects: lists, tables, JSON, CSV."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence

from casarray.core.errors import Conflict
from casarray.core.shell.cmdlet import Bound, Cmdlet, Credential, Host, Parameter, ParameterKind, Record, Value
from casarray.core.shell.columns import Column, all_names, columns, named, warn_of_missing
from casarray.core.shell.layout import LARGEST, Formatted, as_list, as_table, blocks, cell, default_columns
from casarray.core.shell.objects import INPUT, first, inputs
from casarray.core.shell.values import is_array, text_of

_ANY, _SWITCH, _INT = ParameterKind.ANY, ParameterKind.SWITCH, ParameterKind.INTEGER
_DEEPEST = 20
_PLAIN = (type(None), bool, int, float, str)


def width_of(host: Host) -> int | None:
    """The width of the terminal that a host writes to; none for a pipe or file."""
    found = getattr(host, "width", None)
    return found if isinstance(found, int) else None


def _shown(objects: Sequence[Value], wanted: Sequence[Column] | None) -> list[Value]:
    if wanted is None:
        return list(objects)
    found: list[Value] = []
    for value in objects:
        kind = value.type_name if isinstance(value, Record) else "Object"
        found.append(Record(kind, {column.name: column.of(value)[1] for column in wanted}))
    return found


def _list(bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    how, objects = first(bounds), inputs(bounds)
    wanted = columns(how.values["Property"], objects) if how.given("Property") else None
    if not objects:
        return
    warn_of_missing(wanted or (), objects, host)
    yield Formatted(as_list(objects, wanted, width_of(host)), _shown(objects, wanted))


def _table(bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    how, objects = first(bounds), inputs(bounds)
    if not objects:
        return
    if how.given("Property"):
        wanted = columns(how.values["Property"], objects)
        warn_of_missing(wanted, objects, host)
    else:
        names = [named(name) for name in all_names(objects[:1000])]
        wanted = default_columns(objects) or names[:10] or [Column("Value", lambda value: (True, value))]
    text = as_table(objects, wanted, width_of(host), wrap=how.flag("Wrap"))
    if how.flag("HideTableHeaders"):
        text = "\n".join(text.split("\n")[2:])
    yield Formatted(text, _shown(objects, wanted))


class _Budget:
    """How much may still be written: objects that hold each other twice grow with every level."""

    def __init__(self) -> None:
        self.left = LARGEST

    def spend(self, value: Value) -> None:
        self.left -= 30 + (len(value) if isinstance(value, str) else 0)
        if self.left < 0:
            raise Conflict("this is too much for one JSON text; take a smaller -Depth or fewer objects")


def plain(value: Value, depth: int, budget: _Budget | None = None) -> object:
    """A value as JSON has it: what lies deeper is its text. Passwords are in none."""
    budget = budget or _Budget()
    budget.spend(value)
    if isinstance(value, Formatted):
        return [plain(item, depth, budget) for item in value.objects]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Record | Mapping) or is_array(value):
        return _inner(value, depth, budget)
    return {"UserName": value.user} if isinstance(value, Credential) else text_of(value)


def _inner(value: Value, depth: int, budget: _Budget) -> object:
    if is_array(value):
        if depth < 0:
            return cell(value)
        return [plain(item, depth - 1 if is_array(item) else depth, budget) for item in value]
    if depth < 0 or not isinstance(value, Record | Mapping):
        return text_of(value)
    properties = value.properties if isinstance(value, Record) else value
    return {str(name): plain(held, depth - 1, budget) for name, held in properties.items()}


def _json(bounds: Sequence[Bound], _host: Host) -> Iterable[Value]:
    how, objects = first(bounds), inputs(bounds)
    depth = how.values.get("Depth", 2)
    if not isinstance(depth, int) or not 0 <= depth <= _DEEPEST:
        raise Conflict(f"-Depth is a number from 0 to {_DEEPEST}")
    if not objects and not how.flag("AsArray"):
        return
    whole = plain(tuple(objects) if len(objects) != 1 or how.flag("AsArray") else objects[0], depth)
    if how.flag("Compress"):
        yield json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
    else:
        yield json.dumps(whole, ensure_ascii=False, indent=2)


def _csv(bounds: Sequence[Bound], _host: Host) -> Iterable[Value]:
    how, objects = first(bounds), inputs(bounds)
    delimiter = how.text("Delimiter", ",")
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise Conflict("-Delimiter is one character, like ; or `t")
    if not objects:
        return
    names = all_names(objects[:1])
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, delimiter=delimiter, lineterminator="\n")
    writer.writerow(names)
    for value in objects:
        writer.writerow([_csv_cell(named(name).of(value)[1]) for name in names])
    yield from text.getvalue().removesuffix("\n").split("\n")


def _csv_cell(value: Value) -> str:
    """A value without line ends, which would make two lines of the pipeline of one."""
    text = ", ".join(map(text_of, value)) if is_array(value) else text_of(value)
    return " ".join(text.splitlines())


def _out_string(bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    how, objects = first(bounds), inputs(bounds)
    width = how.values.get("Width")
    text = "\n\n".join(blocks(objects, width if isinstance(width, int) and width > 0 else width_of(host)))
    if how.flag("Stream"):
        yield from text.split("\n")
    elif text:
        yield text


def _out_default(bounds: Sequence[Bound], _host: Host) -> Iterable[Value]:
    return inputs(bounds)


def _out_null(_bounds: Sequence[Bound], _host: Host) -> Iterable[Value]:
    return ()


_PROPERTY = Parameter("Property", _ANY, position=0, completes="property", help="Names, *, or @{n='x'; e={...}}.")

CMDLETS = (
    Cmdlet(
        "Format-List",
        _list,
        (_PROPERTY, Parameter("Force", _SWITCH, help="Accepted, and of no effect."), INPUT),
        synopsis="Show objects as lists, a line for each property.",
        examples=("Get-ClientAccessArray | fl Name,Fqdn,Site,Members",),
        aliases=("fl",),
    ),
    Cmdlet(
        "Format-Table",
        _table,
        (
            _PROPERTY,
            Parameter("AutoSize", _SWITCH, help="As wide as what stands in them; they always are."),
            Parameter("Wrap", _SWITCH, help="Go on in the next line instead of cutting off."),
            Parameter("HideTableHeaders", _SWITCH, help="Only the rows."),
            INPUT,
        ),
        synopsis="Show objects as a table.",
        examples=("Get-MailboxDatabase | ft Name,RpcClientAccessServer -AutoSize",),
        aliases=("ft",),
    ),
    Cmdlet(
        "ConvertTo-Json",
        _json,
        (
            Parameter("Depth", _INT, help="How deep objects in objects are shown; 2 unless said."),
            Parameter("Compress", _SWITCH, help="In one line."),
            Parameter("AsArray", _SWITCH, help="An array even of one object."),
            INPUT,
        ),
        synopsis="Make JSON of objects.",
        examples=("Get-ClientAccessArray | ConvertTo-Json",),
    ),
    Cmdlet(
        "ConvertTo-Csv",
        _csv,
        (
            Parameter("Delimiter", position=0, help="Between the values; a comma unless said."),
            Parameter("NoTypeInformation", _SWITCH, aliases=("NTI",), help="It is never shown."),
            INPUT,
        ),
        synopsis="Make lines of comma-separated values.",
        examples=("Get-MailboxDatabase | select Name,Server | ConvertTo-Csv -NoTypeInformation",),
    ),
    Cmdlet(
        "Out-String",
        _out_string,
        (
            Parameter("Width", _INT, help="Characters in a line."),
            Parameter("Stream", _SWITCH, help="A string for each line."),
            INPUT,
        ),
        synopsis="Make one string of what would be shown.",
        examples=("Get-ClientAccessArray | Out-String",),
    ),
    Cmdlet("Out-Default", _out_default, (INPUT,), synopsis="Show objects as they are shown anyway.",
           examples=("Get-ClientAccessArray | Out-Default",), aliases=("Out-Host", "oh")),
    Cmdlet("Out-Null", _out_null, (INPUT,), synopsis="Show nothing.",
           examples=("Set-ClientAccessArray CAS -Fqdn cas.domain.tld | Out-Null",)),
)  # fmt: skip
