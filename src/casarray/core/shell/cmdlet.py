"""What a cmdlet is, to those who write one: its name, its parameters, and what it does with them.

The shell binds what was typed to parameters (by name, by abbreviation, by position, from the pipeline) and checks their
kinds; a cmdlet meets canonical names and ready values alone. All objects that a pipeline brings to a cmdlet arrive as
one batch, so that a change of ten thousand databases is one change of the directory: all of it, or nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Record:
    """An object in the pipeline: properties in the order in which Format-List shows them."""

    type_name: str  # "ClientAccessArray"
    properties: Mapping[str, "Value"]
    columns: tuple[str, ...] = ()  # what Format-Table shows by itself; empty: the first four

    def __str__(self) -> str:
        """As PowerShell shows an object inside another: its identity or name."""
        for name in ("Identity", "Name"):
            if name in self.properties:
                return str(self.properties[name])
        return self.type_name

    def get(self, name: str) -> "Value":
        """A property, whatever its capital letters; None if there is none."""
        wanted = name.casefold()
        return next((value for known, value in self.properties.items() if known.casefold() == wanted), None)


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """A user name and a password, which is never shown."""

    user: str
    password: str = field(compare=False)

    def __repr__(self) -> str:
        """Without the password."""
        return f"Credential({self.user!r})"

    __str__ = __repr__


@dataclass(frozen=True, slots=True, eq=False)
class ScriptBlock:
    """``{ $_.Site -eq 'Paderborn' }``: to be worked out for one object after another."""

    text: str
    call: Callable[["Value"], Sequence["Value"]]  # the object that is $_ -> what the block gives

    def __str__(self) -> str:
        """As typed."""
        return self.text


Value = None | bool | int | float | str | Record | Credential | ScriptBlock | Sequence["Value"] | Mapping[str, "Value"]
"""What variables, parameters and properties may hold."""


class ParameterKind(StrEnum):
    """What a parameter takes; the shell converts what was typed, or says what would be right."""

    STRING = "string"
    STRINGS = "string[]"  # one, or a list with commas
    INTEGER = "int"
    BOOLEAN = "bool"  # $true, $false, also 1 and 0
    SWITCH = "switch"  # true when named; -Name:$false
    CREDENTIAL = "credential"
    ANY = "object"


class Impact(StrEnum):
    """Whether a cmdlet changes something, and whether it asks first."""

    NONE = "none"  # looks only: has neither -WhatIf nor -Confirm
    LOW = "low"  # changes; asks with -Confirm
    HIGH = "high"  # destroys; asks unless -Confirm:$false


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a cmdlet. -WhatIf, -Confirm and -Verbose are the shell's own."""

    name: str
    kind: ParameterKind = ParameterKind.STRING
    mandatory: bool = False
    position: int | None = None  # 0: the first word without a parameter's name
    from_pipeline: tuple[str, ...] = ()  # properties of an input object it is taken from; "" is the object itself
    aliases: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()  # other words are refused
    completes: str = ""  # a kind of thing whose names are offered: "array", "server", "database", "site", ...
    help: str = ""
    rest: bool = False  # with a position: takes all further words as a list


@dataclass(frozen=True, slots=True)
class Bound:
    """The parameters of one call: canonical name -> value; what was not given is absent."""

    values: Mapping[str, Value]
    input: Value = None  # the pipeline's object, if there was one

    def given(self, name: str) -> bool:
        """Whether the parameter was given, even as $null."""
        return name in self.values

    def text(self, name: str, default: str = "") -> str:
        """A STRING parameter."""
        value = self.values.get(name, default)
        return "" if value is None else str(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A STRINGS parameter."""
        value = self.values.get(name, ())
        if isinstance(value, str) or not isinstance(value, Sequence):
            return () if value is None else (str(value),)
        return tuple(map(str, value))

    def flag(self, name: str, default: bool = False) -> bool:
        """A SWITCH or BOOLEAN parameter."""
        return bool(self.values.get(name, default))


class Host(Protocol):
    """What a cmdlet may do besides giving objects: talk to whoever typed it."""

    what_if: bool  # only say what would be done
    line: str  # as typed, for the audit trail

    def say_what_if(self, action: str, target: str) -> None:
        """``What if: Performing operation "Remove" on Target "CAS".``"""

    def may(self, action: str, target: str) -> bool:
        """Whether to go on: asks when -Confirm or the impact wants it; no is not an error."""

    def agree(self, question: str) -> bool:
        """A question of the cmdlet's own, whatever -Confirm says; no when nobody is there to answer."""

    def warn(self, text: str) -> None:
        """``WARNING: ...``"""

    def verbose(self, text: str) -> None:
        """``VERBOSE: ...``, shown with -Verbose."""

    def progress(self, activity: str, done: int, of: int) -> None:
        """How far something long has come."""

    def ask_credential(self, message: str) -> Credential:
        """Ask for a user name and a password, which is not echoed."""


Run = Callable[[Sequence[Bound], Host], Iterable[Value]]


@dataclass(frozen=True, slots=True)
class Cmdlet:
    """A command of the shell. ``run`` raises `CasarrayError` for what is refused, and has then changed nothing."""

    name: str  # Verb-Noun
    run: Run
    parameters: tuple[Parameter, ...] = ()
    impact: Impact = Impact.NONE
    synopsis: str = ""
    examples: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
