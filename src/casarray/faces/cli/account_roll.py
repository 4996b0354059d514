"""`account roll`: a new password for a shared account, on every member first; or a copy of what one member holds."""

from typing import TYPE_CHECKING, Annotated

import typer

from casarray.faces.cli.directory_options import AsJson, DryRun, Store

if TYPE_CHECKING:
    from casarray.app.kerberos.desk import Desk
    from casarray.app.kerberos.order import Order

EXAMPLE = "Example:  casarray account roll asa$ --all --unattended"


def add_to(commands: typer.Typer) -> None:
    """Add the command."""
    commands.command("roll", epilog=EXAMPLE)(roll)


def roll(
    context: typer.Context,
    account: Annotated[
        str,
        typer.Argument(metavar="[ACCOUNT]", help="Its name. Default: the only one there is.", show_default=False),
    ] = "",
    *,
    all_members: Annotated[
        bool, typer.Option("--all", help="On every member of every array that uses it: the default.")
    ] = False,
    array: Annotated[
        list[str] | None,
        typer.Option(
            "--array", metavar="NAME", help="On the members of this array; again for more.", show_default=False
        ),
    ] = None,
    server: Annotated[
        list[str] | None,
        typer.Option("--server", metavar="NAME", help="On this server; again for more.", show_default=False),
    ] = None,
    copy_from: Annotated[
        str,
        typer.Option(
            "--copy-from",
            metavar="SERVER",
            help="No new password: give what this member holds to the others.",
            show_default=False,
        ),
    ] = "",
    unattended: Annotated[
        bool, typer.Option("--unattended", help="Ask nothing: with a member missing, nothing is changed.")
    ] = False,
    left_out: Annotated[
        list[str] | None,
        typer.Option(
            "--except",
            metavar="NAME",
            help="Go on without this member if it is dead; again for more.",
            show_default=False,
        ),
    ] = None,
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than",
            metavar="DURATION",
            help="Only a password that is older, like 3w or 30d.",
            show_default=False,
        ),
    ] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also within the life of a ticket, or when no member holds the present key.")
    ] = False,
    schedule: Annotated[
        str,
        typer.Option(
            "--schedule",
            metavar="NAME",
            help="Roll nothing now: write a systemd timer of this name that rolls unattended.",
            show_default=False,
        ),
    ] = "",
    every: Annotated[
        str, typer.Option("--every", metavar="DURATION", help="With --schedule: how old a password may get.")
    ] = "3w",
    folder: Annotated[
        str,
        typer.Option(
            "--folder",
            metavar="FOLDER",
            help="With --schedule: where the units go. Default: /etc/systemd/system.",
            show_default=False,
        ),
    ] = "",
    store: Store = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say every step.")] = False,
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
