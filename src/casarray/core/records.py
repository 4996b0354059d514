"""Frozen values as JSON, and back: under the same names, read by their types.

A value class may hold strings, numbers, booleans, enums, addresses, networks, other value classes, tuples of one kind,
string-keyed mappings, and ``None`` where its type says so.

How a type is read is worked out once: ten thousand values of a directory are read at every start of a command.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache, reduce
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from operator import or_
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from casarray.core.errors import WireError


def to_json(value: object) -> Any:
    """The value as dicts, lists, strings and numbers, under the same names."""
    if isinstance(value, StrEnum):
        return value.value
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, tuple | list):
        return [to_json(inner) for inner in value]
    if isinstance(value, Mapping):
        return {str(key): to_json(inner) for key, inner in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {name: to_json(getattr(value, name)) for name in _names(type(value))}
    return str(value)


T = TypeVar("T")


def from_json(kind: type[T], data: object) -> T:
    """What `to_json` gave, as a value again. Names it does not know are passed over: the other side may be newer."""
    plain: Any = kind
    try:
        value: T = _reader(plain)(data)
    except _Wrong as wrong:
        where = ".".join((kind.__name__, *reversed(wrong.path)))
        raise WireError("json", f"{where}{wrong.what}") from None
    return value


class _Wrong(Exception):
    """What is wrong, and the names of the fields that lead there, the innermost first."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.path: list[str] = []


_Reader = Callable[[object], Any]

_ADDRESSES: dict[Any, Callable[[str], Any]] = {
    IPv4Address | IPv6Address: ip_address,
    IPv4Network | IPv6Network: ip_network,
}


@cache
def _reader(kind: Any) -> _Reader:
    origin, arms = get_origin(kind), get_args(kind)
    if kind in _ADDRESSES:
        return _address_reader(_ADDRESSES[kind])
    if origin is UnionType:  # only ever "X | None"
        read_inner = _reader(reduce(or_, (arm for arm in arms if arm is not NoneType)))  # X may be a union itself
        return lambda data: None if data is None else read_inner(data)
    if origin is tuple:
        read_item = _reader(arms[0])
        return lambda data: tuple([read_item(item) for item in _expect(list, data)])
    if origin is Mapping:
        read_value = _reader(arms[1])
        return lambda data: {name: read_value(item) for name, item in _expect(dict, data).items()}
    if is_dataclass(kind):
        return _fields_reader(kind)
    return _plain_reader(kind)


def _address_reader(read: Callable[[str], Any]) -> _Reader:
    def read_address(data: object) -> Any:
        try:
            return read(_expect(str, data))
        except ValueError as error:
            raise _Wrong(f": {error}") from None

    return read_address


def _plain_reader(kind: Any) -> _Reader:
    def read_enum(data: object) -> Any:
        try:
            return kind(_expect(str, data))
        except ValueError:
            raise _Wrong(f": {str(data)[:40]!r} is none of {', '.join(kind)}") from None

    def read_float(data: object) -> Any:
        if not isinstance(data, int) or isinstance(data, bool):
            return _expect(float, data)
        try:
            return float(data)
        except OverflowError:
            raise _Wrong(": a smaller number expected") from None

    if kind is object:
        return lambda data: data
    if issubclass(kind, StrEnum):
        return read_enum
    if kind is float:
        return read_float
    return lambda data: _expect(kind, data)


def _fields_reader(kind: Any) -> _Reader:
    hints = get_type_hints(kind)
    readers = {f.name: _reader(hints[f.name]) for f in fields(kind)}
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]

    def read_fields(data: object) -> Any:
        known = {}
        table = _expect(dict, data)
        for name, item in table.items():
            if (read := readers.get(name)) is not None:
                try:
                    known[name] = read(item)
                except _Wrong as wrong:
                    wrong.path.append(name)
                    raise
        for name in needed:
            if name not in known:
                raise _Wrong(f".{name} is missing")
        return kind(**known)

    return read_fields


@cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind))


def _expect(kind: type[T], data: object) -> T:
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        raise _Wrong(f": {kind.__name__} expected")
    return data
