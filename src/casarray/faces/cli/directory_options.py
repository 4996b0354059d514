"""What `array`, `database`, `dag`, `server` and `site` share: their options, and how they call a cmdlet's use case.

A command of these is a cmdlet in other words: it binds what was typed to the cmdlet's parameters, and is the host that
the cmdlet talks to. Nothing of what may or may not be done is said here.
"""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from casarray.app.directory import DirectoryService, Edit, Outcome
from casarray.core.errors import CasarrayError, Conflict, NotFound
from casarray.core.shell.cmdlet import Bound, Credential, Host, Record, Run, Value
from casarray.faces.cli.directory import DryRun, Force, Store, Yes
from casarray.faces.cli.options import AsJson
from casarray.faces.cli.output import CAUTION, count, print_json, say, show, table
from casarray.faces.cli.world import service as usual_service
from casarray.faces.cli.world import who, world

if TYPE_CHECKING:
    from casarray.app.cmdlets.identity import Noun

__all__ = ["AsJson", "DryRun", "Force", "Store", "Yes"]

Use = Callable[[DirectoryService], Run]
"""A use case of the directory, for one administrator at one store."""

Pattern = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="Only these; * and ? stand for anything.", show_default=False)
]
Server = Annotated[str | None, typer.Option("--server", metavar="SERVER", help="Only those of this server.")]
InSite = Annotated[str | None, typer.Option("--site", metavar="SITE", help="Only those of this site.")]
NewName = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Another name.")]
MOST_FITTED = 500  # rows of a table that are fitted to the width of the screen
MOST_MEMBERS = 5  # in a cell of a table
MOST_CHANGES = 20  # told after they were made; a plan is shown whole


@dataclass(frozen=True, slots=True)
class How:
    """What the options of a changing command say."""

    store: str | None = None
    dry_run: bool = False
    force: bool = False
    yes: bool = True  # False: it destroys something, so ask
    as_json: bool = False


def cmdlet(name: str) -> Use:
    """The use case behind a cmdlet."""

    def use(service: DirectoryService) -> Run:
        from casarray.app.cmdlets import exchange_cmdlets  # noqa: PLC0415 - only what the command needs

        return next(known.run for known in exchange_cmdlets(service) if known.name == name)

    return use


def given(**values: Value) -> dict[str, Value]:
    """The parameters that were given: what is None or empty was not."""
    return {name: value for name, value in values.items() if value is not None and value not in ((), [])}


# Looking.


def look(context: typer.Context, name: str, store: str | None, **values: Value) -> list[Record]:
    """What a Get- gives."""
    service = usual_service(context, store)
    found = cmdlet(name)(service)([Bound(given(**values))], _Terminal(service, "", How()))
    return [record for record in found if isinstance(record, Record)]


def show_all(records: Sequence[Record], plural: str, *, as_json: bool) -> None:
    """A table, or all of it as JSON."""
    if as_json:
        print_json({plural: [as_values(record) for record in records]})
    elif not records:
        say(f"there are no {plural}")
    else:
        columns = records[0].columns
        headers = [_words(column).upper() for column in columns]
        rows = [[_cell(record.get(column)) for column in columns] for record in records]
        if len(rows) <= MOST_FITTED:
            show(table(headers, rows))
        else:
            _say_columns([headers, *rows])


def _say_columns(rows: Sequence[Sequence[str]]) -> None:
    """The same without fitting it to the screen, which takes seconds for thousands of rows."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def show_one(records: Sequence[Record], name: str, *, as_json: bool) -> None:
    """One thing with all that is known of it."""
    if not records:
        raise NotFound(f'nothing matches "{name}"')
    if len(records) > 1:
        raise Conflict(f'"{name}" means {count(len(records))} of them: name one, or use list')
    if as_json:
        print_json(as_values(records[0]))
        return
    known = {name: value for name, value in records[0].properties.items() if name != "Identity"}
    show(table(("PROPERTY", "VALUE"), [(_words(name), _cell(value, all_of=True)) for name, value in known.items()]))


def as_values(record: Record) -> dict[str, object]:
    """The properties as the API names things: ``rpc_client_access_server``."""
    known = {name: value for name, value in record.properties.items() if name != "Identity"}
    return {_words(name).replace(" ", "_"): _plain(value) for name, value in known.items()}


def _plain(value: Value) -> object:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return as_values(value) if isinstance(value, Record) else value


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name).lower()


def _cell(value: Value, *, all_of: bool = False) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        more = 0 if all_of else len(value) - MOST_MEMBERS
        shown = value if more <= 0 else value[:MOST_MEMBERS]
        return safe(", ".join(map(str, shown))) + (f" and {count(more)} more" if more > 0 else "")
    return "" if value is None else safe(str(value))


def safe(text: str) -> str:
    """Without what commands a terminal: a directory holds what others have written."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


# Changing.


def change(context: typer.Context, use: Use, calls: Sequence[Mapping[str, Value]], how: How) -> None:
    """Carry a use case out, or show what it would do."""
    around = world(context)
    service = _Watched(around.open_store(how.store), who(around))
    host = _Terminal(service, command_line(context), how)
    bounds = [Bound(given(**call) | ({"Force": True} if how.force else {})) for call in calls]
    for _ in use(service)(bounds, host):
        pass
    _tell(service, host, how)


def change_named(
    context: typer.Context,
    use: Use,
    noun: "Noun",
    names: Sequence[str],
    how: How,
    *,
    parameter: str = "Identity",
    **values: Value,
) -> None:
    """The same for things that are there, by their names, of which each may have wildcards."""
    from casarray.app.cmdlets.identity import has_wildcard, matching  # noqa: PLC0415 - only what the command needs

    chosen: list[str] = []
    for name in names:
        if has_wildcard(name):
            found = [thing.name for thing in matching(usual_service(context, how.store).directory(), noun, name)]
            if not found:
                raise NotFound(f'nothing matches "{name}"')
            chosen += found
        else:
            chosen.append(name)
    change(context, use, [{parameter: name, **values} for name in dict.fromkeys(chosen)], how)


class _Watched(DirectoryService):
    """Remembers what was planned last: that is what was done, or would be."""

    outcome: Outcome | None = None

    def plan(self, edit: Edit, *, force: bool = False) -> Outcome:
        self.outcome = super().plan(edit, force=force)
        return self.outcome


class _Terminal(Host):
    """Whoever typed a command."""

    def __init__(self, service: DirectoryService, line: str, how: How) -> None:
        self.what_if = how.dry_run
        self.line = line
        self.warnings: list[str] = []
        self._service = service
        self._how = how
        self._agreed = how.yes

    def say_what_if(self, action: str, target: str) -> None:
        """The plan is told as a whole."""

    def may(self, action: str, target: str) -> bool:  # noqa: ARG002 - asked once, for all
        if not self._agreed:
            self._ask()
        return True

    def _ask(self) -> None:
        if self._how.as_json:
            raise Conflict("with --json nobody can be asked: say --dry-run or --yes")
        outcome = self._service.outcome if isinstance(self._service, _Watched) else None
        changes = outcome.changes if outcome else ()
        for planned in changes:
            say(safe(str(planned)))
        if not typer.confirm(f"Make {_number(len(changes))}?"):
            raise Conflict("nothing was changed")
        self._agreed = True

    def agree(self, question: str) -> bool:
        return not self._how.as_json and typer.confirm(question)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def verbose(self, text: str) -> None:
        """Not here."""

    def progress(self, activity: str, done: int, of: int) -> None:
        """Not here."""

    def ask_credential(self, message: str) -> Credential:
        raise Conflict(f"{message}: use casarray shell for this")


def _tell(service: _Watched, host: _Terminal, how: How) -> None:
    changes = [str(planned) for planned in service.outcome.changes] if service.outcome else []
    store = service.store.name
    if how.as_json:
        print_json({"store": store, "done": not how.dry_run, "changes": changes, "warnings": host.warnings})
        return
    if not changes:
        say(f"{store} holds it so already; nothing to change")
        return
    for line in changes if how.dry_run else changes[:MOST_CHANGES]:
        say(safe(line))
    say(f"{store}: {_number(len(changes))} {'would be made' if how.dry_run else 'made'}")
    for warning in host.warnings:
        show(Text(f"warning: {safe(warning)}", CAUTION))


def _number(number: int) -> str:
    return f"{count(number)} change{'' if number == 1 else 's'}"


def command_line(context: typer.Context) -> str:
    """The command as typed, near enough for the audit trail."""
    words = [context.command_path]
    for parameter in context.command.params:
        value: Any = context.params.get(str(parameter.name))
        option = max(parameter.opts, key=len) if parameter.param_type_name == "option" else ""
        for item in value if isinstance(value, list | tuple) else [value]:
            if item is None or item is False:
                continue
            words += [option] if option else []
            words += [] if item is True else [shlex.quote(str(item))]
    return " ".join(words)


# Completion.


def completing(name: str) -> Callable[[typer.Context, str], list[str]]:
    """The names that a Get- knows, silently none when the store cannot be asked."""

    def names(context: typer.Context, incomplete: str) -> list[str]:
        try:
            found = look(context, name, context.params.get("store"))
        except (CasarrayError, OSError):
            return []
        return [str(record) for record in found if str(record).casefold().startswith(incomplete.casefold())]

    return names
