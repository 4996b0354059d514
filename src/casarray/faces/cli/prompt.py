"""The prompt of the shell: completion, history, several lines, and the questions that are asked there."""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input.base import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import Output, create_output
from prompt_toolkit.shortcuts import clear

from casarray.app.shell import Session, names_for
from casarray.core.errors import CasarrayError
from casarray.core.shell.cmdlet import Value
from casarray.core.shell.complete import complete
from casarray.core.shell.parser import unfinished
from casarray.core.shell.registry import Registry
from casarray.faces.cli.shell import put, put_aside, screen_width, show_json

PROMPT, CONTINUED = "[casarray] PS> ", ">> "
_SECRET = re.compile(r"passw|secur\w*string|secret|pscredential|-cred\w*[ :]+['\"]?[^$(\s]", re.IGNORECASE)
_LONGEST_LINE = 10_000  # of the history; who pastes more than that has it in a file


def keeps(line: str) -> bool:
    """Whether a line may stand in the history: one that could hold a secret may not."""
    return not _SECRET.search(line) and len(line) <= _LONGEST_LINE


class CarefulHistory(FileHistory):
    """The lines typed before, in a file that only their owner can read, without secrets."""

    def store_string(self, string: str) -> None:
        """Keep a line, if it may be kept."""
        if keeps(string):
            try:
                super().store_string(string)
            except OSError:  # a full disk is no reason to lose the shell
                return


def history_file() -> Path:
    """Where the history of this user is kept."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "casarray" / "shell-history"


def open_history(file: Path) -> History:
    """The history, in memory alone where no file can be written."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
    except (OSError, RuntimeError):
        return InMemoryHistory()
    return CarefulHistory(str(file))


class CmdletCompleter(Completer):
    """Offers what the language says could stand there."""

    def __init__(self, session: Session, registry: Registry) -> None:
        """The names of objects come from the registry's callback."""
        self._session = session
        self._names = names_for(session, registry)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:  # noqa: ARG002 - the library's names
        """For what stands before the cursor."""
        for found in complete(document.text_before_cursor, self._session.registry, self._names):
            yield Completion(found.text, found.start, display_meta=found.meaning)


class Screen:
    """A terminal with a person at it."""

    interactive = True

    def __init__(self, stdin: Input | None = None, stdout: Output | None = None) -> None:
        """Tests bring their own input and output."""
        self._input = stdin
        self._output = stdout or create_output(always_prefer_tty=True)
        self._progressing = False

    @property
    def width(self) -> int | None:
        """As wide as the window is now."""
        return screen_width()

    def write(self, text: str) -> None:
        """Output."""
        put(text)

    def tell(self, text: str) -> None:
        """All else."""
        put_aside(text)

    def ask(self, question: str) -> str:
        """Ask; Ctrl-D is no answer."""
        return self._session().prompt(question)

    def ask_password(self, question: str) -> str:
        """Ask without showing the answer."""
        return self._session().prompt(question, is_password=True)

    def _session(self) -> "PromptSession[str]":
        # One of its own for each question: an answer belongs into no history.
        return PromptSession(input=self._input, output=self._output, history=InMemoryHistory())

    def progress(self, text: str) -> None:
        """One line that is written over, on a terminal alone."""
        if sys.stderr.isatty() and (text or self._progressing):
            print(f"\r{text[:100]}\x1b[K", end="", file=sys.stderr, flush=True)
            self._progressing = bool(text)

    def clear(self) -> None:
        """Empty the screen."""
        clear()


def _keys() -> KeyBindings:
    """Enter goes on in the next line while something is open; after an empty line it runs what there is."""
    keys = KeyBindings()

    @Condition
    def wants_more() -> bool:
        text = get_app().current_buffer.text
        return not text.endswith("\n") and unfinished(text)

    @keys.add("enter", filter=wants_more)
    def _next_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("enter", filter=~wants_more)
    def _run(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    return keys


def at_prompt(
    registry: Registry,
    *,
    as_json: bool = False,
    stdin: Input | None = None,
    stdout: Output | None = None,
    history: History | None = None,
) -> int:
    """Ask and run until whoever is there leaves: exit code."""
    screen = Screen(stdin, stdout)
    kept: list[Value] | None = [] if as_json else None
    session = Session(registry, screen, keep=kept)
    asking: PromptSession[str] = PromptSession(
        input=stdin,
        output=stdout or create_output(always_prefer_tty=True),
        history=history or open_history(history_file()),
        completer=CmdletCompleter(session, registry),
        complete_while_typing=False,
        multiline=True,
        prompt_continuation=CONTINUED,
        key_bindings=_keys(),
    )
    put_aside(f"The directory is {registry.place or 'in memory'}. Get-Command lists the cmdlets, exit leaves.")
    for line in _lines(asking):
        try:
            ran = session.run(line)
        except KeyboardInterrupt:
            put_aside("interrupted; what was not yet carried out is not done")
            continue
        if kept is not None:
            _show_kept(kept)
        if ran.leaving is not None:
            return ran.leaving
    return 0


def _show_kept(kept: list[Value]) -> None:
    try:
        show_json(kept)
    except CasarrayError as error:
        put_aside(str(error))
    kept.clear()


def _lines(asking: "PromptSession[str]") -> Iterator[str]:
    while True:
        try:
            line = asking.prompt(PROMPT)
        except KeyboardInterrupt:  # the line is thrown away
            continue
        except EOFError:
            return
        if line.strip():
            yield line
