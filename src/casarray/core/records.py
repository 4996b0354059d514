"""Frozen values as JSON, and back: under the same names, read by their types.

A value class may hold strings, numbers, booleans, enums, addresses, networks, other value classes, tuples of one kind,
string-keyed mappings, and ``None`` where its type says so.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from casarray.core.errors import WireError


def to_json(value: object) -> Any:
    """The value as dicts, lists, strings and numbers, under the same names."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(inner) for inner in value]
    if isinstance(value, StrEnum):
        return value.value
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value)


T = TypeVar("T")


def from_json(kind: type[T], data: object) -> T:
    """What `to_json` gave, as a value again. Names it does not know are passed over: the other side may be newer."""
    value: T = _read(kind, data, kind.__name__)
    return value


def _read(kind: Any, data: object, where: str) -> Any:
    origin = get_origin(kind)
    if kind in _ADDRESSES:
        return _read_address(_ADDRESSES[kind], data, where)
    if origin is UnionType:  # only ever "X | None"
        inner = next(arm for arm in get_args(kind) if arm is not NoneType)
        return None if data is None else _read(inner, data, where)
    if origin is tuple:
        return tuple(_read(get_args(kind)[0], item, where) for item in _expect(list, data, where))
    if origin is Mapping:
        return {key: _read(get_args(kind)[1], item, where) for key, item in _expect(dict, data, where).items()}
    if is_dataclass(kind):
        return _read_fields(kind, _expect(dict, data, where), where)
    return _read_plain(kind, data, where)


_ADDRESSES: dict[Any, Any] = {
    IPv4Address | IPv6Address: ip_address,
    IPv4Network | IPv6Network: ip_network,
}


def _read_address(read: Any, data: object, where: str) -> Any:
    try:
        return read(_expect(str, data, where))
    except ValueError as error:
        raise WireError("json", f"{where}: {error}") from None


def _read_plain(kind: Any, data: object, where: str) -> Any:
    if kind is object:
        return data
    if issubclass(kind, StrEnum):
        try:
            return kind(_expect(str, data, where))
        except ValueError:
            raise WireError("json", f"{where}: {data!r} is none of {', '.join(kind)}") from None
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    return _expect(kind, data, where)


def _read_fields(kind: Any, data: dict[str, object], where: str) -> Any:
    hints = _hints(kind)
    known = {}
    for f in fields(kind):
        if f.name in data:
            known[f.name] = _read(hints[f.name], data[f.name], f"{where}.{f.name}")
        elif f.default is MISSING and f.default_factory is MISSING:
            raise WireError("json", f"{where}.{f.name} is missing")
    return kind(**known)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _expect(kind: type[T], data: object, where: str) -> T:
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        raise WireError("json", f"{where}: {kind.__name__} expected")
    return data
