"""`shell`: the cmdlets of an Exchange administrator, at a prompt, in one line, or from a script.

Nothing of the shell is imported before the command runs, and nothing of the prompt before there is a person at it.
"""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from casarray.core.errors import CasarrayError, Conflict, Denied, NotFound
from casarray.faces.cli.directory_options import Store
from casarray.faces.cli.options import AsJson
from casarray.faces.cli.world import desk, world

if TYPE_CHECKING:
    from casarray.app.cmdlets.outlook import OpenWalker
    from casarray.app.kerberos.desk import Desk
    from casarray.core.shell.cmdlet import Value
    from casarray.core.shell.registry import Registry

_LARGEST = 64_000_000  # bytes of a script


def add_to(cli: typer.Typer) -> None:
    """Add the command."""
    example = "Example:  casarray shell -c 'Get-ClientAccessArray | fl Name,Fqdn,Site,Members'"
    cli.command("shell", epilog=example)(shell)


def shell(
    context: typer.Context,
    *,
    command: Annotated[
        str | None, typer.Option("-c", "--command", metavar="TEXT", help="Run this and leave.", show_default=False)
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("-f", "--file", metavar="FILE", help="Run this script and leave; - is stdin.", show_default=False),
    ] = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Type what an Exchange administrator has always typed: Get-ClientAccessArray and its relatives.

    Without -c and -f it is a prompt with completion and help; what comes through a pipe is run as a script. A script
    ends at its first error, with exit code 1. What wants to be confirmed is asked only at the prompt: elsewhere add
    -Confirm:$false.
    """
    if command is not None and file is not None:
        raise typer.BadParameter("-c and -f do not go together; run one after the other")
    text = command if command is not None else None if file is None else _script(file)
    if text is None and not _is_person():
        text = _script("-")
    commands = _registry(desk(context, store), world(context).outlook_walker)
    try:
        code = _prompt(commands, as_json=as_json) if text is None else _run(commands, text, file, as_json=as_json)
    finally:
        commands.close()
    raise typer.Exit(code)


def _is_person() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _registry(desk_: "Desk", outlook_walker: "OpenWalker") -> "Registry":
    from casarray.app.cmdlets import exchange_cmdlets  # noqa: PLC0415 - only what the command needs
    from casarray.app.cmdlets.kerberos import kerberos_cmdlets  # noqa: PLC0415 - as above
    from casarray.app.cmdlets.outlook import outlook_cmdlets  # noqa: PLC0415 - as above
    from casarray.core.directory.model import Kind  # noqa: PLC0415 - as above
    from casarray.core.shell.registry import Registry  # noqa: PLC0415 - as above

    directory = desk_.directory

    def names(kind: str) -> Sequence[str]:
        try:
            return [thing.name for thing in directory.directory().of(Kind(kind)).values()]
        except (CasarrayError, ValueError):  # completion is no place to complain
            return ()

    def close() -> None:
        desk_.close()
        directory.store.close()

    outlook = outlook_cmdlets(directory, outlook_walker)
    cmdlets = (*exchange_cmdlets(directory), *kerberos_cmdlets(desk_), *outlook)
    return Registry(cmdlets, names, directory.store.name, close)


def _run(commands: "Registry", text: str, file: str | None, *, as_json: bool) -> int:
    """Run a script: exit code."""
    from casarray.app.shell import Session  # noqa: PLC0415 - as above

    terminal = Pipe()
    kept: list[Value] | None = [] if as_json else None
    session = Session(commands, terminal, source=file if file not in (None, "-") else "", keep=kept)
    ran = session.run(text)
    if kept is not None:
        show_json(kept)
    return ran.leaving if ran.leaving is not None else int(ran.failed)


def _prompt(commands: "Registry", *, as_json: bool) -> int:
    from casarray.faces.cli.prompt import at_prompt  # noqa: PLC0415 - prompt_toolkit is large

    return at_prompt(commands, as_json=as_json)


def show_json(values: "Sequence[Value]") -> None:
    """The objects as one JSON array, however many they are."""
    from casarray.core.shell.formats import plain  # noqa: PLC0415 - as above

    put(json.dumps(plain(tuple(values), 20), indent=2, ensure_ascii=False))


def put(text: str) -> None:
    """A line or more on stdout, whatever characters it can take."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding))


def put_aside(text: str) -> None:
    """The same on stderr, in its order with stdout."""
    sys.stdout.flush()
    safe = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    encoding = sys.stderr.encoding or "utf-8"
    print(safe.encode(encoding, "replace").decode(encoding), file=sys.stderr)


def screen_width() -> int | None:
    """How wide a line may be; a pipe has no width."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return max(shutil.get_terminal_size().columns, 20)
    return None


class Pipe:
    """A place where nobody answers."""

    interactive = False

    def __init__(self) -> None:
        """As wide as what stdout is."""
        self.width = screen_width()

    def write(self, text: str) -> None:
        """Output."""
        put(text)

    def tell(self, text: str) -> None:
        """All else."""
        put_aside(text)

    def ask(self, question: str) -> str:
        """Nobody answers."""
        raise EOFError(question)

    def ask_password(self, question: str) -> str:
        """Nobody answers."""
        raise EOFError(question)

    def progress(self, text: str) -> None:
        """Nobody watches."""

    def clear(self) -> None:
        """There is no screen."""


def _script(name: str) -> str:
    """The text of a script: UTF-8, or UTF-16 as Windows saves it."""
    if name == "-":
        return "" if sys.stdin is None else decoded(sys.stdin.buffer.read(_LARGEST + 1), "stdin")
    try:
        with Path(name).open("rb") as script:
            return decoded(script.read(_LARGEST + 1), name)
    except FileNotFoundError:
        raise NotFound(f"there is no script {name}; what should be run itself goes behind -c") from None
    except PermissionError:
        raise Denied(f"no right to read {name}; use sudo, or give the right") from None
    except (OSError, ValueError) as error:
        raise NotFound(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def decoded(content: bytes, name: str) -> str:
    """The text of these bytes. Raises `Conflict` for what is no text."""
    if len(content) > _LARGEST:
        raise Conflict(f"{name} is larger than {_LARGEST:,} bytes; split it into several")
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise Conflict(f"{name}: line {line} is neither UTF-8 nor UTF-16; save the script as UTF-8") from None
    if "\0" in text:
        raise Conflict(f"{name} is UTF-16 without its mark, or no text at all; save the script as UTF-8")
    return text
