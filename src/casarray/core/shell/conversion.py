"""Makes of what was typed what a parameter takes, or says what would be right."""

import math
from collections.abc import Callable, Mapping

from casarray.core.shell.cmdlet import Credential, Parameter, ParameterKind, ScriptBlock, Value
from casarray.core.shell.registry import or_list
from casarray.core.shell.syntax import Word
from casarray.core.shell.trouble import Place, ShellError
from casarray.core.shell.values import is_array, items, number, settle, text_of

AskCredential = Callable[[str], Credential]


def convert(parameter: Parameter, value: Value, place: Place, ask_credential: AskCredential) -> Value:
    """The value as the parameter's kind wants it. Raises `ShellError`."""
    kind = parameter.kind
    if kind is ParameterKind.ANY:
        return settle(value)
    if kind is ParameterKind.STRINGS:
        return tuple(_choice(parameter, _text(parameter, item, place), place) for item in items(value))
    value = _single(parameter, value, place)
    if kind in (ParameterKind.SWITCH, ParameterKind.BOOLEAN):
        return _boolean(parameter, value, place)
    return None if value is None else _scalar(parameter, value, place, ask_credential)


def _scalar(parameter: Parameter, value: Value, place: Place, ask_credential: AskCredential) -> Value:
    if parameter.kind is ParameterKind.CREDENTIAL:
        return _credential(parameter, value, place, ask_credential)
    if parameter.kind is ParameterKind.INTEGER:
        return _integer(parameter, value, place)
    return _choice(parameter, _text(parameter, value, place), place)


def _single(parameter: Parameter, value: Value, place: Place) -> Value:
    if not is_array(value):
        return value
    if len(value) != 1:
        raise ShellError(f"-{parameter.name} takes one value, not {len(value)}", place)
    if is_array(value[0]):
        raise ShellError(f"-{parameter.name} takes one value, not an array of arrays", place)
    return value[0]


def _text(parameter: Parameter, value: Value, place: Place) -> str:
    if isinstance(value, Mapping | ScriptBlock | Credential) or is_array(value):
        what = {Mapping: "hashtable", ScriptBlock: "script block", Credential: "credential"}
        name = next((name for kind, name in what.items() if isinstance(value, kind)), "array")
        raise ShellError(f"-{parameter.name} takes text, not a {name}", place)
    return text_of(value)


def _choice(parameter: Parameter, text: str, place: Place) -> str:
    if not parameter.choices:
        return text
    wanted = text.casefold()
    for choice in parameter.choices:
        if choice.casefold() == wanted:
            return choice
    raise ShellError(f'"{text[:60]}" is nothing for -{parameter.name}; write {or_list(parameter.choices)}', place)


def _integer(parameter: Parameter, value: Value, place: Place) -> int:
    found = None if isinstance(value, bool) else number(value)
    if found is None or math.isnan(found) or abs(found) > 1 << 62 or int(found) != found:
        raise ShellError(f'"{text_of(value)[:60]}" is no whole number, which -{parameter.name} takes', place)
    return int(found)


def _boolean(parameter: Parameter, value: Value, place: Place) -> bool:
    if isinstance(value, bool | int | float) or value is None:
        return bool(value)
    if isinstance(value, str) and (found := number(value)) is not None and isinstance(value, Word):
        return bool(found)
    raise ShellError(f'"{text_of(value)[:60]}" is neither $true nor $false, which -{parameter.name} takes', place)


def _credential(parameter: Parameter, value: Value, place: Place, ask: AskCredential) -> Credential:
    if isinstance(value, Credential):
        return value
    if isinstance(value, str):
        return ask(str(value))
    raise ShellError(f"-{parameter.name} takes a credential; write (Get-Credential)", place)
