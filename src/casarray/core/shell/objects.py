"""Cmdlets that choose, order, count and change the objects of a pipeline, whatever they are."""

import math
from collections.abc import Iterable, Mapping, Sequence

from casarray.core.errors import Conflict
from casarray.core.shell.cmdlet import Bound, Cmdlet, Host, Parameter, ParameterKind, Record, ScriptBlock, Value
from casarray.core.shell.columns import Column, columns, named, warn_of_missing
from casarray.core.shell.operators import compare
from casarray.core.shell.trouble import Place
from casarray.core.shell.values import collapse, is_array, items, number, order, part, sort_key, text_of, truth

_ANY, _SWITCH, _INT = ParameterKind.ANY, ParameterKind.SWITCH, ParameterKind.INTEGER
INPUT = Parameter("InputObject", _ANY, from_pipeline=("",), help="The objects; from the pipeline.")
_COMPARISONS = (
    "EQ", "NE", "GT", "GE", "LT", "LE", "Like", "NotLike", "Match", "NotMatch", "Contains", "NotContains", "In",
    "NotIn", "CEQ", "CNE", "CLike", "CMatch",
)  # fmt: skip


def inputs(bounds: Sequence[Bound]) -> list[Value]:
    """The objects of all calls: of the pipeline one each, of -InputObject what it holds."""
    found: list[Value] = []
    for bound in bounds:
        value = bound.values.get("InputObject")
        found.extend((value,) if bound.input is not None else items(value))
    return found


def first(bounds: Sequence[Bound]) -> Bound:
    """What was typed is the same for every object."""
    return bounds[0] if bounds else Bound({})


def _where(bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    how = first(bounds)
    test = how.values.get("FilterScript")
    objects = inputs(bounds)
    if isinstance(test, ScriptBlock):
        return [value for value in objects if truth(collapse(test.call(value)))]
    if test is None:
        if bounds:
            raise Conflict("say which: Where-Object { $_.Site -eq 'Paderborn' }, or Where-Object Site -eq Paderborn")
        return []
    name = text_of(test)
    warn_of_missing([named(name)], objects, host)
    operators = [operator for operator in _COMPARISONS if how.flag(operator)]
    if len(operators) > 1:
        raise Conflict(f"-{operators[0]} and -{operators[1]} do not go together; write {{ ... -and ... }}")
    wanted = how.values.get("Value")
    if not operators:
        if how.given("Value"):
            raise Conflict(f"a comparison is missing between {name} and its value, like -eq")
        return [value for value in objects if truth(part(value, name)[1]) != how.flag("Not")]
    operator, place = operators[0].lower(), Place()
    case = operator[0] == "c" and operator != "contains"
    plain = operator[1:] if case else operator
    return [value for value in objects if truth(compare(plain, part(value, name)[1], wanted, place, case=case))]


def _for_each(bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    how = first(bounds)
    work = how.values.get("Process")
    objects = inputs(bounds)
    if isinstance(how.values.get("Begin"), ScriptBlock):
        yield from how.values["Begin"].call(None)  # type: ignore[union-attr]  # the line above says it is a block
    blocks = [block for block in items(work) if isinstance(block, ScriptBlock)]
    if not blocks and work is not None:
        name = text_of(work)
        warn_of_missing([named(name)], objects, host)
        for value in objects:
            yield from items(part(value, name)[1])
    for value in objects:
        for block in blocks:
            yield from block.call(value)
    if isinstance(how.values.get("End"), ScriptBlock):
        yield from how.values["End"].call(None)  # type: ignore[union-attr]  # as above


def _select(bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    how, objects = first(bounds), inputs(bounds)
    objects = _some(how, objects)
    if how.given("ExpandProperty"):
        name = how.text("ExpandProperty")
        warn_of_missing([named(name)], objects, host)
        found = [inner for value in objects for inner in items(part(value, name)[1])]
    elif how.given("Property"):
        wanted = columns(how.values["Property"], objects)
        warn_of_missing(wanted, objects, host)
        without = {text_of(name).casefold() for name in items(how.values.get("ExcludeProperty"))}
        wanted = [column for column in wanted if column.name.casefold() not in without]
        found = [_selected(value, wanted) for value in objects]
    else:
        found = objects
    return _unique(found) if how.flag("Unique") else found


def _selected(value: Value, wanted: Sequence[Column]) -> Record:
    kind = value.type_name if isinstance(value, Record) else "Object"
    kind = kind if kind.startswith("Selected.") else f"Selected.{kind}"
    return Record(kind, {column.name: column.of(value)[1] for column in wanted})


def _some(how: Bound, objects: list[Value]) -> list[Value]:
    """-Skip, -First, -Last, -Index."""
    counts = {name: int(number(how.values[name]) or 0) for name in ("First", "Last", "Skip") if how.given(name)}
    if any(count < 0 for count in counts.values()):
        raise Conflict("-First, -Last and -Skip take a number from 0 on")
    if how.given("Index"):
        places = [number(text) for text in how.texts("Index")]
        return [objects[int(at)] for at in places if at is not None and 0 <= at < len(objects)]
    skip = counts.get("Skip", 0)
    if "Last" in counts and "First" not in counts:
        objects = objects[: len(objects) - skip] if skip else objects
        return objects[max(0, len(objects) - counts["Last"]) :]
    objects = objects[skip:]
    if "First" not in counts:
        return objects
    head = objects[: counts["First"]]
    return head + objects[max(len(head), len(objects) - counts.get("Last", 0)) :]


def _identity(value: Value) -> object:
    if isinstance(value, Record):
        return tuple((name, text_of(held).casefold()) for name, held in value.properties.items())
    return sort_key(value)


def _unique(values: Sequence[Value]) -> list[Value]:
    found: dict[object, Value] = {}
    for value in values:
        found.setdefault(_identity(value), value)
    return list(found.values())


def _sort(bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    how, objects = first(bounds), inputs(bounds)
    wanted = [Column("", lambda value: (True, _by_itself(value)), calculated=True)]
    backwards = [how.flag("Descending")]
    if how.given("Property"):
        wanted, backwards = [], []
        for item in items(how.values["Property"]):
            found = columns(item, objects)
            wanted += found
            backwards += [_descends(item, how)] * len(found)
        warn_of_missing(wanted, objects, host)
    keys = [(tuple(sort_key(column.of(value)[1]) for column in wanted), value) for value in objects]
    for n in reversed(range(len(wanted))):  # what is equal keeps its order, so the first one counts most
        keys.sort(key=lambda pair, n=n: pair[0][n], reverse=backwards[n])  # type: ignore[misc]  # n is a number
    if how.flag("Unique"):
        return list(dict(reversed(keys)).values())[::-1]
    return [value for _, value in keys]


def _descends(item: Value, how: Bound) -> bool:
    """Whether one property is sorted backwards: @{e='Name'; Descending=$true} knows it for itself."""
    for name, opposite in (("descending", False), ("ascending", True)):
        there, found = part(item, name) if isinstance(item, Mapping) else (False, None)
        if there:
            return truth(found) != opposite
    return how.flag("Descending")


def _by_itself(value: Value) -> Value:
    return text_of(value) if isinstance(value, Record) else value


def _group(bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    how, objects = first(bounds), inputs(bounds)
    wanted = columns(how.values["Property"], objects) if how.given("Property") else []
    warn_of_missing(wanted, objects, host)
    groups: dict[str, tuple[str, list[Value]]] = {}
    for value in objects:
        name = ", ".join(text_of(column.of(value)[1]) for column in wanted) if wanted else text_of(value)
        groups.setdefault(name.casefold(), (name, []))[1].append(value)
    for name, members in groups.values():
        properties: dict[str, Value] = {"Count": len(members), "Name": name}
        if not how.flag("NoElement"):
            properties["Group"] = tuple(members)
        yield Record("GroupInfo", properties)


def _measure(bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    how, objects = first(bounds), inputs(bounds)
    values: list[Value] = list(objects)
    properties: dict[str, Value] = {"Count": len(values)}
    if how.given("Property"):
        name = how.text("Property")
        warn_of_missing([named(name)], objects, host)
        values = [found for value in objects for found in [part(value, name)[1]] if found is not None]
        properties = {"Count": len(values)}
    if how.flag("Sum") or how.flag("Average"):
        numbers = [number(value) for value in values]
        known = [n for n in numbers if n is not None]
        if len(known) < len(numbers):
            wrong = text_of(values[numbers.index(None)])
            raise Conflict(f'"{wrong[:60]}" is not a number; name a property with numbers: -Property')
        total = math.fsum(known)
        average: Value = total / len(known) if known else None
        properties |= {"Average": average} if how.flag("Average") else {}
        properties |= {"Sum": int(total) if total.is_integer() else total} if how.flag("Sum") else {}
    for switch, sign in (("Maximum", 1), ("Minimum", -1)):
        if how.flag(switch):
            properties[switch] = _extreme(values, sign)
    if how.given("Property"):
        properties["Property"] = how.text("Property")
    yield Record("GenericMeasureInfo", properties, tuple(properties) if len(properties) == 1 else ())


def _extreme(values: Sequence[Value], sign: int) -> Value:
    best: Value = None
    for value in values:
        if is_array(value):
            continue
        if best is None or (order(value, best) or 0) * sign > 0:
            best = value
    return best


def _write(bounds: Sequence[Bound], _host: Host) -> Iterable[Value]:
    return inputs(bounds)


_PROPERTY = Parameter("Property", _ANY, position=0, completes="property", help="Names, *, or @{n='x'; e={...}}.")

CMDLETS = (
    Cmdlet(
        "Where-Object",
        _where,
        (
            Parameter("FilterScript", _ANY, position=0, aliases=("Property",), completes="property",
                      help="{ $_.Site -eq 'x' }, or a property's name."),
            Parameter("Value", _ANY, position=1, help="What the property is compared with."),
            *(Parameter(name, _SWITCH, help=f"As the operator -{name.lower()}.") for name in _COMPARISONS),
            Parameter("Not", _SWITCH, help="Those of which it is not true."),
            INPUT,
        ),
        synopsis="Let pass the objects of which something is true.",
        examples=("Get-MailboxDatabase | Where-Object { $_.RpcClientAccessServer -like '*.domain.tld' }",
                  "Get-ClientAccessArray | where Site -eq Paderborn"),
        aliases=("where", "?"),
    ),
    Cmdlet(
        "ForEach-Object",
        _for_each,
        (
            Parameter("Process", _ANY, position=0, aliases=("MemberName",), help="{ ... } with $_, or a property.",
                      mandatory=True),
            Parameter("Begin", _ANY, help="Once before."),
            Parameter("End", _ANY, help="Once after."),
            INPUT,
        ),
        synopsis="Do something with each object.",
        examples=("Get-ClientAccessArray | ForEach-Object { \"$($_.Name): $($_.Fqdn)\" }",),
        aliases=("foreach", "%"),
    ),
    Cmdlet(
        "Select-Object",
        _select,
        (
            _PROPERTY,
            Parameter("ExcludeProperty", _ANY, help="Not these."),
            Parameter("ExpandProperty", help="The values of this property instead of objects."),
            Parameter("First", _INT, help="So many from the beginning."),
            Parameter("Last", _INT, help="So many from the end."),
            Parameter("Skip", _INT, help="Leave out so many."),
            Parameter("Index", ParameterKind.STRINGS, help="Those at these places, from 0."),
            Parameter("Unique", _SWITCH, help="Each once."),
            INPUT,
        ),
        synopsis="Choose properties, or some of the objects.",
        examples=("Get-MailboxDatabase | Select-Object Name,RpcClientAccessServer",
                  "Get-ClientAccessArray | select -ExpandProperty Members"),
        aliases=("select",),
    ),
    Cmdlet(
        "Sort-Object",
        _sort,
        (
            _PROPERTY,
            Parameter("Descending", _SWITCH, help="The last first."),
            Parameter("Unique", _SWITCH, help="Each once."),
            INPUT,
        ),
        synopsis="Put objects in order.",
        examples=("Get-MailboxDatabase | Sort-Object Server,Name",),
        aliases=("sort",),
    ),
    Cmdlet(
        "Group-Object",
        _group,
        (_PROPERTY, Parameter("NoElement", _SWITCH, help="Only how many there are."), INPUT),
        synopsis="Gather objects that have a value in common.",
        examples=("Get-ClientAccessServer | Group-Object Site -NoElement",),
        aliases=("group",),
    ),
    Cmdlet(
        "Measure-Object",
        _measure,
        (
            Parameter("Property", position=0, completes="property", help="Of this property."),
            *(Parameter(name, _SWITCH, help=f"Also the {name.lower()}.") for name in
              ("Sum", "Average", "Maximum", "Minimum")),
            INPUT,
        ),
        synopsis="Count objects, or add up one of their properties.",
        examples=("Get-MailboxDatabase | Measure-Object",),
        aliases=("measure",),
    ),
    Cmdlet(
        "Write-Output",
        _write,
        (Parameter("InputObject", _ANY, position=0, from_pipeline=("",), rest=True, help="What to give."),),
        synopsis="Give what it is given.",
        examples=("Write-Output \"$($arrays.Count) arrays\"",),
        aliases=("echo", "write"),
    ),
)  # fmt: skip
