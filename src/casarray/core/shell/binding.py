"""Brings what was typed behind a cmdlet, and what the pipeline gives it, to its parameters.

First what was typed: by name, by the beginning of a name, by position. Then, for each object of the pipeline, the
parameters that are taken from it. What is mandatory and still missing is asked for, when there is somebody to ask.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from casarray.core.shell.cmdlet import Bound, Cmdlet, Credential, Impact, Parameter, ParameterKind, Value
from casarray.core.shell.conversion import convert
from casarray.core.shell.registry import did_you_mean, or_list
from casarray.core.shell.trouble import Place, ShellError
from casarray.core.shell.values import is_array, part, text_of, truth


@dataclass(frozen=True, slots=True)
class Word:
    """One thing typed behind a cmdlet: a parameter's name, perhaps with its value, or a value alone."""

    place: Place
    name: str | None = None
    value: Value = None
    has_value: bool = False


@dataclass(frozen=True, slots=True)
class Common:
    """The parameters that the shell gives to every cmdlet; None where one was not typed."""

    what_if: bool | None = None
    confirm: bool | None = None
    verbose: bool = False
    debug: bool = False
    error_action: str = ""
    warning_action: str = ""
    out_variable: str = ""
    error_variable: str = ""


_ACTIONS = ("Stop", "Continue", "SilentlyContinue", "Ignore", "Inquire")
_CHANGING = (
    Parameter("WhatIf", ParameterKind.SWITCH, aliases=("wi",), help="Only say what would be done."),
    Parameter("Confirm", ParameterKind.SWITCH, aliases=("cf",), help="Ask before each change; -Confirm:$false never."),
)
_ALWAYS = (
    Parameter("Verbose", ParameterKind.SWITCH, aliases=("vb",), help="Say more about what is done."),
    Parameter("Debug", ParameterKind.SWITCH, aliases=("db",), help="Accepted, and of no effect."),
    Parameter("ErrorAction", aliases=("ea",), choices=_ACTIONS, help="What an error ends; Stop unless said."),
    Parameter("WarningAction", aliases=("wa",), choices=_ACTIONS, help="SilentlyContinue: show no warnings."),
    Parameter("OutVariable", aliases=("ov",), help="Keep the outcome in this variable as well."),
    Parameter("ErrorVariable", aliases=("ev",), help="Keep the error in this variable."),
    Parameter("InformationAction", aliases=("infa",), choices=_ACTIONS, help="Accepted, and of no effect."),
    Parameter("OutBuffer", ParameterKind.INTEGER, aliases=("ob",), help="Accepted, and of no effect."),
)


def common_parameters(cmdlet: Cmdlet) -> tuple[Parameter, ...]:
    """Those that the shell adds to this cmdlet."""
    return _ALWAYS if cmdlet.impact is Impact.NONE else (*_CHANGING, *_ALWAYS)


@dataclass(frozen=True, slots=True)
class Asking:
    """How a binding gets what was not typed. Both raise when there is nobody to ask."""

    parameter: Callable[[Parameter], str]
    credential: Callable[[str], Credential]  # user name -> with the password


@dataclass(slots=True)
class Call:
    """A cmdlet with what was typed behind it, brought to its parameters."""

    cmdlet: Cmdlet
    place: Place
    asking: Asking
    values: dict[str, Value] = field(default_factory=dict)
    common: Common = Common()
    wants_help: bool = False

    @classmethod
    def of(cls, cmdlet: Cmdlet, words: Sequence[Word], place: Place, asking: Asking) -> "Call":
        """Bind what was typed. Raises `ShellError` for whatever does not fit."""
        call = cls(cmdlet, place, asking)
        if any(word.name == "?" for word in words):
            call.wants_help = True
            return call
        known = (*cmdlet.parameters, *common_parameters(cmdlet))
        typed: dict[str, Value] = {}
        loose: list[Word] = []
        waiting = list(reversed(words))
        while waiting:
            word = waiting.pop()
            if word.name is None:
                loose.append(word)
                continue
            parameter = find_parameter(cmdlet, known, word.name, word.place)
            if parameter.name in typed:
                raise ShellError(f"-{parameter.name} was given more than once", word.place)
            value = _value_of(parameter, word, waiting)
            typed[parameter.name] = convert(parameter, value, word.place, asking.credential)
        call._positions(loose, typed)
        shells = {p.name for p in common_parameters(cmdlet)} - {p.name for p in cmdlet.parameters}
        call.common = _common({name: value for name, value in typed.items() if name in shells})
        call.values = {name: value for name, value in typed.items() if name not in shells}
        return call

    def _positions(self, loose: Sequence[Word], typed: dict[str, Value]) -> None:
        """Give the words without a name to the parameters with a position that are still free."""
        free = sorted(
            (p for p in self.cmdlet.parameters if p.position is not None and p.name not in typed),
            key=lambda p: p.position or 0,
        )
        words = list(loose)
        for parameter in free:
            if not words:
                return
            taken, words = (words, []) if parameter.rest else (words[:1], words[1:])
            value = taken[0].value if len(taken) == 1 else tuple(word.value for word in taken)
            typed[parameter.name] = convert(parameter, value, taken[0].place, self.asking.credential)
        if words:
            hint = _names(self.cmdlet)
            if isinstance(words[0].value, bool):
                hint = "a switch takes its value behind a colon, as in -Confirm:$false"
            raise ShellError(
                f'{self.cmdlet.name} does not know what to do with "{_short(words[0].value)}"; {hint}', words[0].place
            )

    def bounds(self, inputs: Sequence[Value] | None) -> list[Bound]:
        """One for each object of the pipeline, or one if it is not in a pipeline at all."""
        self._check_given()
        if inputs is None:
            self._ask_for_missing()
            return [Bound(dict(self.values))]
        taking = [p for p in self.cmdlet.parameters if p.from_pipeline]
        if not taking and inputs:
            raise ShellError(f"{self.cmdlet.name} takes nothing from the pipeline", self.place)
        free = [p for p in taking if p.name not in self.values]
        found = [self._bound(value, free) for value in inputs]
        if not inputs:
            return []
        return found

    def _bound(self, value: Value, free: Sequence[Parameter]) -> Bound:
        values = dict(self.values)
        taken = False
        for parameter in free:
            there, found = _from_input(parameter, value)
            if there:
                taken = True
                values[parameter.name] = convert(parameter, found, self.place, self.asking.credential)
        if not taken:
            wanted = or_list([f"-{p.name}" for p in free]) if free else "what was not typed already"
            raise ShellError(
                f'{self.cmdlet.name} can take nothing from "{_short(value)}", which came through the pipeline; it '
                f"wants something for {wanted}",
                self.place,
            )
        missing = [p.name for p in self.cmdlet.parameters if p.mandatory and values.get(p.name) in (None, "", ())]
        if missing:
            raise self._missing(missing)
        return Bound(values, value)

    def _check_given(self) -> None:
        for parameter in self.cmdlet.parameters:
            if parameter.mandatory and self.values.get(parameter.name, "x") in (None, "", ()):
                raise ShellError(f"-{parameter.name} of {self.cmdlet.name} may not be empty", self.place)

    def _ask_for_missing(self) -> None:
        missing = [p for p in self.cmdlet.parameters if p.mandatory and p.name not in self.values]
        for parameter in missing:
            try:
                answer = self.asking.parameter(parameter)
            except NobodyToAsk:
                raise self._missing([p.name for p in missing]) from None
            self.values[parameter.name] = convert(parameter, answer, self.place, self.asking.credential)
        self._check_given()

    def _missing(self, names: Sequence[str]) -> ShellError:
        listed = " and ".join(f"-{name}" for name in names)
        return ShellError(f"{self.cmdlet.name} needs {listed}", self.place)


class NobodyToAsk(Exception):
    """Something is missing, and the shell does not talk to a person."""


def find_parameter(cmdlet: Cmdlet, known: Sequence[Parameter], name: str, place: Place) -> Parameter:
    """By name, alias, or the beginning of either, if that is the beginning of one parameter alone."""
    wanted = name.casefold()
    for parameter in known:
        if wanted in (parameter.name.casefold(), *(alias.casefold() for alias in parameter.aliases)):
            return parameter
    own = [p for p in known if any(n.casefold().startswith(wanted) for n in (p.name, *p.aliases))]
    if len(own) == 1:
        return own[0]
    if own:
        names = or_list([f"-{p.name}" for p in own])
        raise ShellError(f"-{name} of {cmdlet.name} could be {names}; write more of it", place)
    offer = did_you_mean(name, [p.name for p in known]).replace("mean ", "mean -").replace(" or ", " or -")
    offer = offer.replace(", ", ", -")
    raise ShellError(f"{cmdlet.name} has no parameter -{name}{offer or '; ' + _names(cmdlet)}", place)


def _names(cmdlet: Cmdlet) -> str:
    names = [f"-{p.name}" for p in cmdlet.parameters]
    return f"it has {', '.join(names)}" if names else "it takes none"


def _value_of(parameter: Parameter, word: Word, waiting: list[Word]) -> Value:
    """What was typed for a parameter: behind its colon, or as the next word."""
    if word.has_value:
        return word.value
    if parameter.kind is ParameterKind.SWITCH:
        return True
    if not waiting or waiting[-1].name is not None:
        raise ShellError(f"a value is missing after -{parameter.name}; it takes {_wanted(parameter)}", word.place)
    return waiting.pop().value


def _wanted(parameter: Parameter) -> str:
    if parameter.choices:
        return or_list(parameter.choices)
    return {ParameterKind.BOOLEAN: "$true or $false", ParameterKind.INTEGER: "a number"}.get(
        parameter.kind, f"<{parameter.kind}>"
    )


def _from_input(parameter: Parameter, value: Value) -> tuple[bool, Value]:
    """What a parameter takes from an object: the object itself, or the first of its properties that is there."""
    for name in parameter.from_pipeline:
        if not name:
            return True, value
        there, found = part(value, name)
        if there and found is not None and not (name.casefold() in ("count", "length") and isinstance(value, str)):
            return True, found
    return False, None


def _common(typed: Mapping[str, Value]) -> Common:
    def flag(name: str) -> bool | None:
        return truth(typed[name]) if name in typed else None

    def text(name: str) -> str:
        return text_of(typed.get(name))

    return Common(
        what_if=flag("WhatIf"),
        confirm=flag("Confirm"),
        verbose=bool(flag("Verbose")),
        debug=bool(flag("Debug")),
        error_action=text("ErrorAction"),
        warning_action=text("WarningAction"),
        out_variable=text("OutVariable").removeprefix("$"),
        error_variable=text("ErrorVariable").removeprefix("$"),
    )


def _short(value: Value) -> str:
    text = " ".join(text_of(item) for item in value[:3]) if is_array(value) else text_of(value)
    return text if len(text) <= 60 else text[:60] + "..."
