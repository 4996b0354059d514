"""`referral`: stands in for servers that are gone, and who still comes to them."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from casarray.faces.cli.options import AsJson, ConfigFile
from casarray.faces.cli.output import count, print_json, say, show, table
from casarray.faces.cli.world import world

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casarray.core.referral.visits import Visit

commands = typer.Typer(no_args_is_help=True, help="Lead clients of retired servers to the array, and see who they are.")

MOST_LINES = 50

Listen = Annotated[
    list[str] | None,
    typer.Option("--listen", metavar="ADDRESS", help="Where the old names lead now; instead of the configuration's."),
]
Retired = Annotated[
    list[str] | None,
    typer.Option("--retired", metavar="NAME", help="A retired server's full host name; again for each."),
]
Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Only who came by this old name.")]
Everyone = Annotated[bool, typer.Option("--all", help=f"More than the last {MOST_LINES} lines.")]


@commands.command(
    "run", epilog="Example:  casarray referral run --listen 10.11.0.50 --retired old1.domain.tld -c casarray.toml"
)
def run(
    context: typer.Context,
    *,
    config: ConfigFile = None,
    listen: Listen = None,
    retired: Retired = None,
    as_json: AsJson = False,
) -> None:
    """Stand in for retired servers in the foreground.

    Prints "ready" once it listens. It answers their endpoint mapper, referral, address book and mailbox services, and
    leads everybody to the array. SIGHUP reads the configuration again, SIGTERM ends it; who came is kept. With --json,
    each line of the log on stderr is a JSON object.
    """
    around = world(context)
    path = config or around.default_config
    raise typer.Exit(around.run_referral(path, tuple(listen or ()), tuple(retired or ()), as_json))


@commands.command("report", epilog="Example:  casarray referral report --name old1")
def report(
    context: typer.Context,
    *,
    config: ConfigFile = None,
    name: Name = None,
    everyone: Everyone = False,
    as_json: AsJson = False,
) -> None:
    """Show who still comes to retired servers: what is left to be repaired before an old name can go."""
    from casarray.core.referral.visits import by_name  # noqa: PLC0415 - only what the command needs

    around = world(context)
    visits = [visit for visit in around.visits(config or around.default_config) if _is(visit, name)]
    visits.sort(key=lambda visit: visit.last, reverse=True)
    if as_json:
        print_json({"names": by_name(visits), "visits": visits})
        return
    if not visits:
        say("nobody has come to a retired server")
        return
    rows = [
        (old.name, count(old.users), count(old.clients), count(old.connections), _when(old.last))
        for old in by_name(visits)
    ]
    show(table(("OLD NAME", "USERS", "CLIENTS", "CONNECTIONS", "LAST"), rows, numbers=_NUMBERS))
    say("")
    _list(visits, len(visits) if everyone else MOST_LINES)


_NUMBERS = ("USERS", "CLIENTS", "CONNECTIONS")


def _list(visits: "Sequence[Visit]", most: int) -> None:
    rows = [
        (
            visit.user or "unknown",
            visit.client,
            visit.name,
            count(visit.count),
            _when(visit.first),
            _when(visit.last),
            visit.proven or ("says so" if visit.user else ""),
        )
        for visit in visits[:most]
    ]
    columns = ("USER", "CLIENT", "OLD NAME", "CONNECTIONS", "FIRST", "LAST", "PROVEN BY")
    show(table(columns, rows, numbers=("CONNECTIONS",)))
    if len(visits) > most:
        say(f"and {count(len(visits) - most)} more: --all shows them")


def _is(visit: "Visit", name: str | None) -> bool:
    if name is None:
        return True
    wanted = name.partition(".")[0].casefold()
    return wanted in (part.casefold() for part in visit.name.split(" or "))


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
