"""What clients send, read strictly: by the value classes' own types, and nothing that is not known by name.

A change is a merge patch ([RFC7396]): what is named gets another value, an object within is merged with the one before,
`null` takes away.
"""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from casarray.core.directory.model import MAXIMUM_CONNECTIONS, ROLES, RpcClientAccess, Server, Thing
from casarray.core.directory.rules import WEIGHTS
from casarray.core.errors import WireError
from casarray.core.records import from_json, to_json

LONGEST_BODY = 64 << 10
LONGEST_TEXT = 1024
DEEPEST = 8
READ_ONLY: Mapping[str, str] = {
    "guid": "is given by the store",
    "computed": "is worked out from the rest",
}

#: What a type alone does not say; for the reader as for the document.
RANGES: Mapping[tuple[type[Any], str], tuple[int, int]] = {
    (Server, "weight"): (WEIGHTS[0], WEIGHTS[-1]),
    (RpcClientAccess, "maximum_connections"): (1, MAXIMUM_CONNECTIONS),
}
WORDS: Mapping[tuple[type[Any], str], tuple[str, ...]] = {(Server, "roles"): ROLES}

Fields = dict[str, Any]


def parse(data: bytes | bytearray) -> dict[str, Any]:
    """A JSON object of moderate depth whose texts are printable."""
    try:
        body = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise WireError("body", "this is not JSON") from None
    if not isinstance(body, dict):
        raise WireError("body", "send one JSON object")
    _check_plain(body, "body", DEEPEST)
    return body


def _no_number(word: str) -> object:
    raise ValueError(word)


def _check_plain(value: object, where: str, depth: int) -> None:
    if depth == 0:
        raise WireError("body", f"{where}: too deep")
    if isinstance(value, str) and (len(value) > LONGEST_TEXT or not value.isprintable()):
        raise WireError("body", f"{where}: write at most {LONGEST_TEXT} printable characters")
    if isinstance(value, list):
        for number, inner in enumerate(value):
            _check_plain(inner, f"{where}[{number}]", depth - 1)
    elif isinstance(value, dict):
        for name, inner in value.items():
            _check_plain(name, f"a name in {where}", depth)
            _check_plain(inner, f"{where}.{name}" if where != "body" else name, depth - 1)


def new_fields(cls: type[Any], body: dict[str, Any], stand_ins: Mapping[str, object]) -> Fields:
    """The values that a new thing is given; ``stand_ins`` for what may be left out."""
    _check_known(cls, body, "")
    return _read(cls, {**{name: to_json(value) for name, value in stand_ins.items()}, **body}, body)


def changed_fields(thing: Thing, body: dict[str, Any]) -> Fields:
    """The values that a thing is to get instead of those that it has."""
    _check_known(type(thing), body, "")
    return _read(type(thing), _merged(to_json(thing), body, type(thing)), body)


def read_plain(cls: type[Any], body: dict[str, Any]) -> Any:
    """A value of a class that is no thing of the directory."""
    _check_known(cls, body, "")
    return from_json(cls, body)


def _read(cls: type[Any], whole: dict[str, Any], body: dict[str, Any]) -> Fields:
    value = from_json(cls, whole)
    _check_limits(value, "")
    return {name: getattr(value, name) for name in body}


def _merged(before: dict[str, Any], patch: dict[str, Any], cls: Any) -> dict[str, Any]:
    """The patch over what is there. A field's `null` stays: its type says whether nothing may stand there."""
    out = dict(before)
    hints = get_type_hints(cls) if is_dataclass(cls) else {}
    for name, value in patch.items():
        if not isinstance(value, dict):
            if value is None and not hints:
                out.pop(name, None)
            else:
                out[name] = value
        else:
            there = out.get(name)
            out[name] = _merged(there if isinstance(there, dict) else {}, value, _inner(hints.get(name)))
    return out


def _inner(hint: Any) -> Any:
    """The class in ``X | None``."""
    if get_origin(hint) is UnionType:
        return next(arm for arm in get_args(hint) if arm is not NoneType)
    return hint


def _check_known(cls: Any, body: object, where: str) -> None:
    """Refuse names that the class does not have, with the nearest that it has."""
    cls = _inner(cls)
    if get_origin(cls) is tuple and isinstance(body, list):
        for number, item in enumerate(body):
            _check_known(get_args(cls)[0], item, f"{where}[{number}]")
        return
    if not is_dataclass(cls) or not isinstance(body, dict):
        return
    known = {f.name for f in fields(cls)} - READ_ONLY.keys()
    hints = get_type_hints(cls)
    for name, value in body.items():
        place = f"{where}.{name}" if where else name
        if name in READ_ONLY:
            raise WireError("body", f"{place}: {READ_ONLY[name]}; leave it out")
        if name not in known:
            raise WireError("body", f"{place}: {unknown('field', name, known)}")
        _check_known(hints[name], value, place)


def unknown(what: str, name: str, known: set[str]) -> str:
    """The sentence about a name that is not known here."""
    if near := get_close_matches(name, known, n=1, cutoff=0.6):
        return f'unknown {what}; did you mean "{near[0]}"?'
    return f"unknown {what}; known here: {', '.join(sorted(known)) or 'none'}"


def _check_limits(value: Any, where: str) -> None:
    for f in fields(value):
        inner, place = getattr(value, f.name), f"{where}.{f.name}" if where else f.name
        if limits := RANGES.get((type(value), f.name)):
            if not limits[0] <= inner <= limits[1]:
                raise WireError("body", f"{place}: write a number from {limits[0]} to {limits[1]}")
        elif words := WORDS.get((type(value), f.name)):
            for word in inner:
                if word not in words:
                    raise WireError("body", f'{place}: "{word}" is not known here; write {" or ".join(words)}')
        elif is_dataclass(inner):
            _check_limits(inner, place)
        elif isinstance(inner, tuple) and any(getattr(item, "scope_id", None) for item in inner):
            raise WireError("body", f"{place}: an address with an interface (after %) means something here alone")
