"""A session at the shell: runs what is typed, shows what comes of it, asks before something is destroyed.

What the terminal is, or that there is none, the face says; this file decides what is said there.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from casarray.core.errors import Conflict, Denied
from casarray.core.shell import formats, inform, objects
from casarray.core.shell.binding import Asking, Call, NobodyToAsk
from casarray.core.shell.cmdlet import Bound, Cmdlet, Credential, Host, Impact, Parameter, ParameterKind, Value
from casarray.core.shell.evaluate import Interpreter
from casarray.core.shell.layout import Formatted, blocks
from casarray.core.shell.parser import parse
from casarray.core.shell.registry import DASHES, Registry, plain
from casarray.core.shell.syntax import Statement
from casarray.core.shell.trouble import Place, ShellError
from casarray.core.shell.values import text_of, truth

_PREFERENCES: dict[str, Value] = {
    "ConfirmPreference": "High",
    "ErrorActionPreference": "Stop",
    "VerbosePreference": "SilentlyContinue",
    "WarningPreference": "Continue",
    "WhatIfPreference": False,
}
_SILENT = ("silentlycontinue", "ignore")


class Terminal(Protocol):
    """Where a session takes place."""

    @property
    def interactive(self) -> bool:
        """Whether a person is there to answer."""

    @property
    def width(self) -> int | None:
        """How long a line may be; None: nothing is cut."""

    def write(self, text: str) -> None:
        """A piece of output, of one line or many."""

    def tell(self, text: str) -> None:
        """What is no output: warnings, errors, what is being done."""

    def ask(self, question: str) -> str:
        """A question and its answer. EOFError when no answer will come."""

    def ask_password(self, question: str) -> str:
        """The same, without showing the answer."""

    def progress(self, text: str) -> None:
        """How far something has come; empty: it is over."""

    def clear(self) -> None:
        """Empty the screen."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of an input."""

    failed: bool = False
    leaving: int | None = None  # `exit` was typed: the exit code


class _Leave(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Continued(Exception):
    """Instead of a value that was asked for, the rest of the command came."""

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.line = line


class Session:
    """One shell: its variables live as long as it does."""

    def __init__(
        self, registry: Registry, terminal: Terminal, *, source: str = "", keep: list[Value] | None = None
    ) -> None:
        """``source`` goes before the place of an error; ``keep`` gets the objects instead of the terminal."""
        self._terminal = terminal
        self._source = source
        self._keep = keep
        self._failed = False
        self._wrote: str | None = None  # the kind of what was written last
        self._interpreter = Interpreter(registry, self)
        self._interpreter.registry = registry.with_more(
            (
                *objects.CMDLETS,
                *formats.CMDLETS,
                *inform.cmdlets(lambda: self.registry, self._interpreter.variables),
                *self._own(),
            )
        )
        for name, value in _PREFERENCES.items():
            self._interpreter.variables.set(name, value, Place())
        self.answer_for_all: bool | None = None

    @property
    def registry(self) -> Registry:
        """All cmdlets of this session."""
        return self._interpreter.registry

    def variables(self) -> list[str]:
        """The names of the variables, to complete them."""
        return [*self._interpreter.variables.names(), "true", "false", "null", "_"]

    def preference(self, name: str) -> Value:
        """A variable by which the shell is told how to behave."""
        return self._interpreter.variables.peek(name)

    def run(self, text: str) -> Ran:
        """Run an input; its first error ends it, and is shown."""
        self._failed = False
        if self._terminal.interactive:
            self._wrote = None
        try:
            for statement in parse(text):
                self._show(self._outcome(statement))
        except ShellError as error:
            self.report(error)
        except _Leave as leave:
            return Ran(self._failed, leave.code)
        return Ran(self._failed)

    def _outcome(self, statement: Statement) -> Sequence[Value]:
        """Run one statement; a person may go on with its parameters instead of answering."""
        self.answer_for_all = None
        while True:
            try:
                found = self._interpreter.run(statement)
            except _Continued as more:
                if any(mark in statement.text for mark in "({|"):  # a part of it may have been carried out already
                    raise ShellError("type this again, with all its parameters in one go", statement.place) from None
                (statement,) = parse(f"{statement.text}\n{more.line}")[:1]
                continue
            except ShellError:
                self._interpreter.variables.set("?", False, statement.place)
                raise
            self._interpreter.variables.set("?", not self._failed, statement.place)
            return found

    def _show(self, values: Sequence[Value]) -> None:
        if self._keep is not None:
            for value in values:
                self._keep.extend(value.objects if isinstance(value, Formatted) else (value,))
            return
        if not values:
            return
        width = self._terminal.width
        text = all(isinstance(value, str | int | float) and not isinstance(value, Formatted) for value in values)
        for block in _blocks(values, width):
            if self._wrote is not None and not (text and self._wrote == "text"):
                self._terminal.write("")
            self._terminal.write(block)
            self._wrote = "text" if text else "block"

    # What the language needs of the shell around it

    def host(self, call: Call, line: str) -> Host:
        """Whom a cmdlet talks to."""
        return _CallHost(self, self._terminal, call, line)

    def asking(self, cmdlet: Cmdlet) -> Asking:
        """How to get what was not typed."""
        asked: list[str] = []

        def parameter(wanted: Parameter) -> str:
            if not self._terminal.interactive:
                raise NobodyToAsk
            if not asked:
                self._terminal.tell(f"{cmdlet.name}: supply values for the following parameters:")
            asked.append(wanted.name)
            answer = self._answer(f"{wanted.name}: ")
            if _is_parameter(answer, cmdlet):
                raise _Continued(answer)
            return answer

        return Asking(parameter, self.ask_password)

    def _answer(self, question: str) -> str:
        try:
            return self._terminal.ask(question)
        except EOFError:
            raise NobodyToAsk from None

    def ask_password(self, user: str) -> Credential:
        """Ask for a user's password."""
        if not self._terminal.interactive:
            raise Denied(f"the password of {user} would have to be asked for, and nobody is here to answer; "
                         "run the shell at a terminal")  # fmt: skip
        try:
            return Credential(user, self._terminal.ask_password(f"Password for user {user}: "))
        except EOFError:
            raise Denied(f"no password was given for {user}") from None

    def ask_credential(self, message: str) -> Credential:
        """Ask for a user's name and password."""
        if not self._terminal.interactive:
            raise Denied("a user name and a password would have to be asked for, and nobody is here to answer; "
                         "run the shell at a terminal")  # fmt: skip
        self._terminal.tell(message)
        try:
            user = self._terminal.ask("User: ").strip()
        except EOFError:
            user = ""
        if not user:
            raise Denied("no user name was given")
        return self.ask_password(user)

    def warn(self, text: str) -> None:
        """Show a warning."""
        if text_of(self.preference("WarningPreference")).casefold() not in _SILENT:
            self._terminal.tell(f"WARNING: {text}")

    def report(self, error: ShellError) -> None:
        """Show an error."""
        self._failed = True
        self._terminal.tell(f"{self._source}: {error}" if self._source else str(error))

    def what_if(self, text: str) -> None:
        """Say what would be done: output, unless that is for a program."""
        if self._keep is None:
            self._terminal.write(text)
            self._wrote = "text"
        else:
            self._terminal.tell(text)

    def _own(self) -> tuple[Cmdlet, ...]:
        """Cmdlets about the session itself."""

        def leave(bounds: Sequence[Bound], _host: Host) -> Iterable[Value]:
            code = bounds[0].values.get("Code") if bounds else None
            raise _Leave(code & 0xFF if isinstance(code, int) else 1 if self._failed else 0)

        def clear(_bounds: Sequence[Bound], _host: Host) -> Iterable[Value]:
            self._terminal.clear()
            return ()

        code = Parameter("Code", ParameterKind.INTEGER, position=0, help="The exit code.")
        return (
            Cmdlet("exit", leave, (code,), synopsis="Leave the shell.", examples=("exit",), aliases=("quit",)),
            Cmdlet("Clear-Host", clear, synopsis="Empty the screen.", examples=("cls",), aliases=("clear", "cls")),
        )


def _blocks(values: Sequence[Value], width: int | None) -> list[str]:
    try:
        return blocks(values, width)
    except Conflict as error:
        raise ShellError(str(error), Place()) from None
    except RecursionError:
        raise ShellError("this is nested too deeply to be shown", Place()) from None


def _is_parameter(answer: str, cmdlet: Cmdlet) -> bool:
    """Whether an answer is the next line of the command: it begins with one of its parameters."""
    if not answer.strip()[:1] or answer.strip()[0] not in DASHES:
        return False
    name = plain(answer.split(maxsplit=1)[0])[1:].partition(":")[0]
    return any(plain(parameter.name).startswith(name) for parameter in cmdlet.parameters if name)


_CHOICES = '[Y] Yes  [A] Yes to All  [N] No  [L] No to All  (default is "Y"): '
_ANSWERS: dict[str, tuple[bool, bool]] = {  # what was answered -> yes or no, for all
    "": (True, False), "y": (True, False), "yes": (True, False), "a": (True, True), "yes to all": (True, True),
    "n": (False, False), "no": (False, False), "l": (False, True), "no to all": (False, True),
}  # fmt: skip


class _CallHost:
    """The shell, as one call of a cmdlet sees it."""

    def __init__(self, session: Session, terminal: Terminal, call: Call, line: str) -> None:
        self._session = session
        self._terminal = terminal
        self._call = call
        self._said: set[str] = set()
        self.line = line
        self.width = terminal.width
        common = call.common
        asked = common.what_if if common.what_if is not None else truth(session.preference("WhatIfPreference"))
        self.what_if = asked and call.cmdlet.impact is not Impact.NONE

    def say_what_if(self, action: str, target: str) -> None:
        """Say what would be done, each thing once."""
        text = f'What if: Performing operation "{action}" on Target "{target}".'
        if text not in self._said:
            self._said.add(text)
            self._session.what_if(text)

    def may(self, action: str, target: str) -> bool:
        """Ask, where that is due."""
        if self.what_if:
            self.say_what_if(action, target)
            return False
        if not self._asks():
            return True
        if self._session.answer_for_all is not None:
            return self._session.answer_for_all
        if not self._terminal.interactive:
            raise Denied(
                f'"{action}" on "{target}" wants to be confirmed, and nobody is here to answer; add -Confirm:$false'
            )
        what = f'Performing operation "{action}" on Target "{target}".'
        self._terminal.tell(f"Confirm\nAre you sure you want to perform this action?\n{what}")
        while True:
            try:
                answer = self._terminal.ask(_CHOICES).strip().casefold()
            except EOFError:
                return False
            if answer in _ANSWERS:
                yes, for_all = _ANSWERS[answer]
                self._session.answer_for_all = yes if for_all else None
                return yes

    def agree(self, question: str) -> bool:
        """Ask; silence is no."""
        if self.what_if or not self._terminal.interactive:
            return False
        self._terminal.tell(question)
        try:
            answer = self._terminal.ask('[Y] Yes  [N] No  (default is "N"): ').strip().casefold()
        except EOFError:
            return False
        return answer in ("y", "yes")

    def _asks(self) -> bool:
        impact = self._call.cmdlet.impact
        if self._call.common.confirm is not None or impact is Impact.NONE:
            return bool(self._call.common.confirm)
        wanted = text_of(self._session.preference("ConfirmPreference")).casefold()
        if wanted in ("low", "medium"):
            return True
        return wanted != "none" and impact is Impact.HIGH

    def warn(self, text: str) -> None:
        """Show a warning, unless it was not wanted."""
        if self._call.common.warning_action.casefold() not in _SILENT:
            self._session.warn(text)

    def verbose(self, text: str) -> None:
        """Say more, if that was wanted."""
        wanted = text_of(self._session.preference("VerbosePreference")).casefold()
        if self._call.common.verbose or wanted == "continue":
            self._terminal.tell(f"VERBOSE: {text}")

    def progress(self, activity: str, done: int, of: int) -> None:
        """Show how far it has come, where somebody watches."""
        if self._terminal.interactive:
            self._terminal.progress("" if done >= of else f"{activity}: {done} of {of}")

    def ask_credential(self, message: str) -> Credential:
        """Ask for a user's name and password."""
        return self._session.ask_credential(message)

    def ask_password(self, user: str) -> Credential:
        """Ask for a user's password."""
        return self._session.ask_password(user)


Names = Callable[[str], Sequence[str]]


def names_for(session: Session, registry: Registry) -> Names:
    """What completion offers for a kind of thing: cmdlets and variables too."""

    def names(kind: str) -> Sequence[str]:
        if kind == "cmdlet":
            return [cmdlet.name for cmdlet in session.registry.all()]
        if kind == "variable":
            return session.variables()
        return registry.names(kind)

    return names
