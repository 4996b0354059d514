"""JSON schemas of value classes: what `core.records` writes, and what `bodies` reads, said in [OpenAPI 3.1]'s words."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from inspect import getdoc
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from casarray.core.records import to_json
from casarray.faces.api.bodies import LONGEST_TEXT, RANGES, READ_ONLY, WORDS

Schema = dict[str, Any]

_PLAIN: Mapping[Any, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    object: {},
    IPv4Address | IPv6Address: {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
    IPv4Network | IPv6Network: {
        "type": "string",
        "description": "A subnet: 10.11.0.0/24",
        "examples": ["10.11.0.0/24"],
    },
}


class Schemas:
    """Collects the schema of every class that is mentioned, each under its name."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}
        self._owners: dict[str, Any] = {}

    def answer(self, cls: type[Any], computed: type[Any] | None = None) -> Schema:
        """What is told; with ``computed``, what is worked out stands in it under that name."""
        more = {"computed": self.answer(computed)} if computed is not None else {}
        return self._reference(cls, cls.__name__, lambda: self._answer(cls, more))

    def new(self, cls: type[Any], optional: Mapping[str, object] | None = None) -> Schema:
        """What a new one is made from."""
        return self._reference(cls, f"New{cls.__name__}", lambda: self._new(cls, optional or {}))

    def patch(self, cls: type[Any]) -> Schema:
        """What may be changed, as a merge patch."""
        return self._reference(cls, f"{cls.__name__}Patch", lambda: self._patch(cls))

    def _reference(self, cls: Any, name: str, build: Any) -> Schema:
        owner = self._owners.setdefault(name, cls)
        assert owner is cls, f"two classes would be called {name}"
        if name not in self.components:
            self.components[name] = {}  # so that a class may mention itself
            self.components[name] = build()
        return {"$ref": f"#/components/schemas/{name}"}

    def _answer(self, cls: type[Any], more: Mapping[str, Schema]) -> Schema:
        hints = get_type_hints(cls)
        properties = {f.name: self._of(hints[f.name], self.answer) for f in fields(cls)} | dict(more)
        for name in READ_ONLY.keys() & properties.keys():
            extra = {"description": f"It {READ_ONLY[name]}.", "readOnly": True}
            properties[name] = {**properties[name], **extra}
        return _object(cls, properties, required=list(properties))

    def _new(self, cls: type[Any], optional: Mapping[str, object]) -> Schema:
        hints, properties, required = get_type_hints(cls), {}, []
        for f in _writable(cls):
            schema = _limited(cls, f.name, self._of(hints[f.name], self.new))
            if f.default is MISSING and f.default_factory is MISSING:
                if f.name not in optional:
                    required.append(f.name)
            elif "$ref" not in schema and not is_dataclass(f.default):
                value = f.default_factory() if f.default_factory is not MISSING else f.default
                schema = {**schema, "default": to_json(value)}
            properties[f.name] = schema
        return _object(cls, properties, required) | {"additionalProperties": False}

    def _patch(self, cls: type[Any]) -> Schema:
        hints = get_type_hints(cls)
        properties = {}
        for f in _writable(cls):
            hint = hints[f.name]
            # A list is given whole, an object is merged.
            of_inner = self.new if get_origin(hint) is tuple else self.patch
            properties[f.name] = _limited(cls, f.name, self._of(hint, of_inner))
        return _object(cls, properties, []) | {"additionalProperties": False}

    def _of(self, hint: Any, of_class: Any) -> Schema:
        origin = get_origin(hint)
        if origin is UnionType and hint not in _PLAIN:
            inner = next(arm for arm in get_args(hint) if arm is not NoneType)
            return {"anyOf": [self._of(inner, of_class), {"type": "null"}]}
        if origin is tuple:
            return {"type": "array", "items": self._of(get_args(hint)[0], of_class)}
        if origin is Mapping:
            return {"type": "object", "additionalProperties": self._of(get_args(hint)[1], of_class)}
        if is_dataclass(hint):
            schema: Schema = of_class(hint)
            return schema
        return _plain(hint, sent=of_class != self.answer)


def _plain(hint: Any, *, sent: bool) -> Schema:
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    if issubclass(hint, StrEnum):
        return {"type": "string", "enum": [word.value for word in hint]}
    return {"type": "string", "maxLength": LONGEST_TEXT} if sent else {"type": "string"}


def _writable(cls: type[Any]) -> list[Field[Any]]:
    return [f for f in fields(cls) if f.name not in READ_ONLY]


def _limited(cls: type[Any], name: str, schema: Schema) -> Schema:
    if limits := RANGES.get((cls, name)):
        return {**schema, "minimum": limits[0], "maximum": limits[1]}
    if words := WORDS.get((cls, name)):
        return {**schema, "items": {"type": "string", "enum": list(words)}}
    return schema


def _object(cls: type[Any], properties: Mapping[str, Schema], required: list[str]) -> Schema:
    told = (getdoc(cls) or "").split("\n\n")[0]
    schema: Schema = {"type": "object", "description": told, "properties": dict(properties)}
    return schema | ({"required": required} if required else {})
