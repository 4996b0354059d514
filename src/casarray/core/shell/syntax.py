"""What a line of the shell is made of, after it was read and before it is worked out.

Whatever may repeat (``a + b + c``, ``.x.y.z``, ``a, b, c``) is one node with many parts, so that only brackets make a
tree deep, and brackets are counted.
"""

from dataclasses import dataclass
from typing import Union

from casarray.core.shell.trouble import Place


class Word(str):
    """A word that was typed without quotes: ``5`` may still become a number, ``"5"`` not."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, a string in which nothing is replaced, or a bare `Word`."""

    value: int | float | str
    place: Place


@dataclass(frozen=True, slots=True)
class Expandable:
    """A string with variables and subexpressions in it."""

    parts: tuple[Union[str, "Expression"], ...]
    bare: bool  # typed without quotes
    place: Place


@dataclass(frozen=True, slots=True)
class Variable:
    """``$name``."""

    name: str
    place: Place


@dataclass(frozen=True, slots=True)
class ListOf:
    """``a, b, c``."""

    items: tuple["Expression", ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Group:
    """``( ... )``, ``$( ... )`` and ``@( ... )``, which alone is always an array."""

    statements: tuple["Statement", ...]
    array: bool
    place: Place


@dataclass(frozen=True, slots=True)
class HashLiteral:
    """``@{ Key = value; ... }``."""

    pairs: tuple[tuple["Expression", tuple["Statement", ...]], ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Block:
    """``{ ... }``."""

    statements: tuple["Statement", ...]
    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class Member:
    """``.Name``, or ``.Name()`` when it is called."""

    name: Union[str, "Expression"]
    arguments: tuple["Expression", ...] | None
    place: Place


@dataclass(frozen=True, slots=True)
class Index:
    """``[0]``."""

    index: "Expression"
    place: Place


@dataclass(frozen=True, slots=True)
class Access:
    """Something, and the steps from it to a part of it."""

    base: "Expression"
    steps: tuple[Member | Index, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Unary:
    """Operators before an operand, outermost first: ``-not``, ``!``, ``-``, ``+``, ``-join``."""

    operators: tuple[str, ...]
    operand: "Expression"
    place: Place


@dataclass(frozen=True, slots=True)
class Chain:
    """Operands between operators of one precedence, worked out from the left."""

    first: "Expression"
    rest: tuple[tuple[str, "Expression", Place], ...]
    place: Place


Expression = Literal | Expandable | Variable | ListOf | Group | HashLiteral | Block | Access | Unary | Chain


@dataclass(frozen=True, slots=True)
class Named:
    """``-Name`` or ``-Name:value``; whether the next word is its value is known only to the cmdlet."""

    name: str
    value: Expression | None
    place: Place


@dataclass(frozen=True, slots=True)
class Positional:
    """A word that may be the value of the parameter before it, or have a position of its own."""

    value: Expression
    place: Place


@dataclass(frozen=True, slots=True)
class Splat:
    """``@parameters``: a hashtable of parameters, or an array of words."""

    name: str
    place: Place


Argument = Named | Positional | Splat


@dataclass(frozen=True, slots=True)
class Command:
    """A cmdlet's name and what follows it."""

    name: Expression
    arguments: tuple[Argument, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands between bars; the first may be an expression."""

    elements: tuple[Command | Expression, ...]
    text: str  # as typed
    place: Place


@dataclass(frozen=True, slots=True)
class Assignment:
    """``$name = ...``, or with ``+=``."""

    name: str
    operator: str
    value: "Statement"
    text: str
    place: Place


Statement = Pipeline | Assignment
