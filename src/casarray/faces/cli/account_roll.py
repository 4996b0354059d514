"""`account roll`: a new password for a shared account, on every member first; or a copy of what one member holds."""

from typing import TYPE_CHECKING, Annotated

import typer

from casarray.faces.cli.directory_options import AsJson, DryRun, Store

if TYPE_CHECKING:
    from casarray.app.kerberos.desk import Desk
    from casarray.app.kerberos.order import Order

EXAMPLE = "Example:  casarray account roll asa$ --all --unattended"


def _text(option: str, metavar: str, words: str) -> typer.models.OptionInfo:
    made: typer.models.OptionInfo = typer.Option(option, metavar=metavar, help=words, show_default=False)
    return made


AccountName = Annotated[
    str, typer.Argument(metavar="[ACCOUNT]", help="Its name. Default: the only one there is.", show_default=False)
]
Everywhere = Annotated[bool, typer.Option("--all", help="On every member of every array that uses it: the default.")]
Arrays = Annotated[list[str] | None, _text("--array", "NAME", "On the members of this array; again for more.")]
Servers = Annotated[list[str] | None, _text("--server", "NAME", "On this server; again for more.")]
CopyFrom = Annotated[str, _text("--copy-from", "SERVER", "No new password: give what this member holds to the others.")]
Unattended = Annotated[
    bool, typer.Option("--unattended", help="Ask nothing: with a member missing, nothing is changed.")
]
LeftOut = Annotated[
    list[str] | None, _text("--except", "NAME", "Go on without this member if it is dead; again for more.")
]
OlderThan = Annotated[str, _text("--older-than", "DURATION", "Only a password that is older, like 3w or 30d.")]
Force = Annotated[
    bool, typer.Option("--force", help="Also within the life of a ticket, or when no member holds the present key.")
]
Schedule = Annotated[
    str, _text("--schedule", "NAME", "Roll nothing now: write a systemd timer of this name that rolls unattended.")
]
Every = Annotated[str, typer.Option("--every", metavar="DURATION", help="With --schedule: how old a password may get.")]
Folder = Annotated[
    str, _text("--folder", "FOLDER", "With --schedule: where the units go. Default: /etc/systemd/system.")
]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say every step.")]


def add_to(commands: typer.Typer) -> None:
    """Add the command."""
    commands.command("roll", epilog=EXAMPLE)(roll)


def roll(
    context: typer.Context,
    account: AccountName = "",
    *,
    all_members: Everywhere = False,
    array: Arrays = None,
    server: Servers = None,
    copy_from: CopyFrom = "",
    unattended: Unattended = False,
    left_out: LeftOut = None,
    older_than: OlderThan = "",
    force: Force = False,
    schedule: Schedule = "",
    every: Every = "3w",
    folder: Folder = "",
    store: Store = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Give a shared account a new password that every member knows before the directory does.

    What a run that was broken off has left, the next one finishes. Exit codes: 0 done, or nothing was due; 1 refused or
    failed, and the directory has the password it had; 2 wrong usage; 3 the directory has (or may have) the new
    password, and another run is needed to finish it.
    """
    from casarray.app.kerberos.order import Order, Scope  # noqa: PLC0415 - only what the command needs
    from casarray.faces.cli import roll_work as work  # noqa: PLC0415 - as above
    from casarray.faces.cli.world import desk  # noqa: PLC0415 - as above

    if [all_members, bool(array), bool(server)].count(True) > 1:
        raise typer.BadParameter("--all, --array and --server do not go together: say one of them")
    if schedule and dry_run:
        raise typer.BadParameter("--schedule rolls nothing now, so --dry-run does not go with it")
    here = desk(context, store)
    try:
        order = Order(
            account or work.only_account(here),
            Scope(tuple(array or ()), tuple(server or ())),
            attended=work.somebody_is_there() and not unattended and not as_json,
            force=force,
            left_out=tuple(left_out or ()),
            not_before=work.age(older_than) if older_than else None,
            dry_run=dry_run,
            copy_from=copy_from,
        )
        code = _go(here, order, (schedule, every, folder), as_json=as_json, verbose=verbose)
    finally:
        here.close()
        here.directory.store.close()
    raise typer.Exit(code)


def _go(here: "Desk", order: "Order", schedule: tuple[str, str, str], *, as_json: bool, verbose: bool) -> int:
    from casarray.faces.cli import roll_work as work  # noqa: PLC0415 - only what the command needs

    name, every, folder = schedule
    if name:
        return work.schedule(here, order, name, every, folder or None, as_json=as_json)
    return work.roll(here, order, as_json=as_json, verbose=verbose)
