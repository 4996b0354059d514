"""Which properties are meant by ``Name,Fq*,@{n='Members';e={...}}``, and what each is for an object."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from casarray.core.errors import Conflict
from casarray.core.shell.cmdlet import Host, Record, ScriptBlock, Value
from casarray.core.shell.registry import did_you_mean
from casarray.core.shell.values import collapse, has_wildcard, is_array, items, part, property_names, text_of, wildcard

_NAME_KEYS = ("n", "name", "l", "label")
_VALUE_KEYS = ("e", "expression")


@dataclass(frozen=True, slots=True)
class Column:
    """A property, or what a script block makes of an object."""

    name: str
    of: Callable[[Value], tuple[bool, Value]]  # whether the object has it, and it
    calculated: bool = False


def columns(wanted: Value, objects: Sequence[Value]) -> list[Column]:
    """The columns that a -Property means for these objects. Raises `Conflict` for what is no property."""
    found: dict[str, Column] = {}
    for item in items(wanted):
        for column in _columns(item, objects):
            found.setdefault(column.name.casefold(), column)
    return list(found.values())


def _columns(item: Value, objects: Sequence[Value]) -> list[Column]:
    if isinstance(item, Mapping):
        return [_calculated(item)]
    if isinstance(item, ScriptBlock):
        return [Column(item.text.strip("{} \n"), _by_block(item), calculated=True)]
    name = text_of(item)
    if is_array(item) or not name:
        raise Conflict("a property is a name, or @{n='Name'; e={ ... }}")
    if not has_wildcard(name):
        return [named(next((known for known in all_names(objects) if known.casefold() == name.casefold()), name))]
    matches = wildcard(name)
    return [named(known) for known in all_names(objects) if matches(known)]


def named(name: str) -> Column:
    """A property by its name."""
    return Column(name, lambda value: part(value, name))


def _calculated(item: Mapping[str, Value]) -> Column:
    keys = {str(key).casefold(): value for key, value in item.items()}
    name = next((keys[key] for key in _NAME_KEYS if key in keys), None)
    value = next((keys[key] for key in _VALUE_KEYS if key in keys), None)
    if value is None:
        raise Conflict("a calculated property wants an expression: @{n='Name'; e={ $_.Name }}")
    if isinstance(value, ScriptBlock):
        shown = text_of(name) if name is not None else value.text.strip("{} \n")
        return Column(shown, _by_block(value), calculated=True)
    inner = text_of(value)
    return Column(text_of(name) if name is not None else inner, lambda held: part(held, inner))


def _by_block(block: ScriptBlock) -> Callable[[Value], tuple[bool, Value]]:
    return lambda value: (True, collapse(block.call(value)))


def all_names(objects: Sequence[Value]) -> list[str]:
    """The names of the properties of all of these, each once, in their order."""
    names: dict[str, None] = {}
    seen: set[tuple[str, ...]] = set()
    for value in objects:
        own = tuple(property_names(value))
        if own not in seen:
            seen.add(own)
            names.update(dict.fromkeys(own))
    return list(names)


def warn_of_missing(wanted: Sequence[Column], objects: Sequence[Value], host: Host) -> None:
    """A warning for each column that none of the objects has."""
    if not any(isinstance(value, Record) for value in objects):
        return
    known = all_names(objects)
    folded = {name.casefold() for name in known}
    for column in wanted:
        if not column.calculated and column.name.casefold() not in folded and not any(
            column.of(value)[0] for value in objects[:100]
        ):  # fmt: skip
            kind = next(value.type_name for value in objects if isinstance(value, Record))
            host.warn(f'{kind} has no property "{column.name[:60]}"{did_you_mean(column.name, known)}')
