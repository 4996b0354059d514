"""`dag`: the database availability groups of the directory."""

from typing import Annotated

import typer

from casarray.faces.cli.directory_options import (
    AsJson,
    DryRun,
    How,
    NewName,
    Pattern,
    Store,
    Yes,
    change,
    change_named,
    cmdlet,
    completing,
    look,
    show_all,
    show_one,
)

commands = typer.Typer(no_args_is_help=True, help="The availability groups: servers that hold copies for each other.")

_known = completing("Get-DatabaseAvailabilityGroup")
_servers = completing("Get-MailboxServer")
Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name or GUID.", autocompletion=_known)]
Servers = Annotated[list[str], typer.Argument(metavar="SERVER...", help="Servers.", autocompletion=_servers)]
AcrossSites = Annotated[
    bool | None,
    typer.Option(
        "--allow-cross-site/--no-allow-cross-site",
        help="Clients keep the array of the preferred site while a database is active in another.",
        show_default=False,
    ),
]


@commands.command("list", epilog="Example:  casarray dag list")
def list_groups(context: typer.Context, name: Pattern = None, store: Store = None, as_json: AsJson = False) -> None:
    """List the availability groups with their servers."""
    show_all(look(context, "Get-DatabaseAvailabilityGroup", store, Identity=name), "dags", as_json=as_json)


@commands.command("show", epilog="Example:  casarray dag show DAG1")
def show_group(context: typer.Context, name: Name, store: Store = None, as_json: AsJson = False) -> None:
    """Show all that the directory knows of an availability group."""
    show_one(look(context, "Get-DatabaseAvailabilityGroup", store, Identity=name), name, as_json=as_json)


@commands.command("new", epilog="Example:  casarray dag new DAG1 --server mbx1 --server mbx2")
def new_group(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.")],
    *,
    server: Annotated[
        list[str] | None,
        typer.Option("--server", metavar="SERVER", help="A server in it; may be repeated.", autocompletion=_servers),
    ] = None,
    allow_cross_site: AcrossSites = None,
    store: Store = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make an availability group."""
    values = {"Name": name, "Server": tuple(server or ()), "AllowCrossSiteRpcClientAccess": allow_cross_site}
    change(context, cmdlet("New-DatabaseAvailabilityGroup"), [values], How(store, dry_run, as_json=as_json))


@commands.command("set", epilog="Example:  casarray dag set DAG1 --allow-cross-site")
def set_group(
    context: typer.Context,
    name: Name,
    *,
    new_name: NewName = None,
    allow_cross_site: AcrossSites = None,
    store: Store = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Change whether clients are led across sites after a switchover, or the name."""
    values = {"Identity": name, "Name": new_name, "AllowCrossSiteRpcClientAccess": allow_cross_site}
    change(context, cmdlet("Set-DatabaseAvailabilityGroup"), [values], How(store, dry_run, as_json=as_json))


@commands.command("remove", epilog="Example:  casarray dag remove DAG1")
def remove_groups(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Name or GUID.", autocompletion=_known)],
    *,
    store: Store = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove availability groups that have no servers any more."""
    from casarray.app.cmdlets.identity import GROUP  # noqa: PLC0415 - only what the command needs

    how = How(store, dry_run, yes=yes, as_json=as_json)
    change_named(context, cmdlet("Remove-DatabaseAvailabilityGroup"), GROUP, names, how)


@commands.command("add-server", epilog="Example:  casarray dag add-server DAG1 mbx3")
def add_servers(
    context: typer.Context,
    name: Name,
    servers: Servers,
    *,
    store: Store = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Add mailbox servers to an availability group."""
    calls = [{"Identity": name, "MailboxServer": server} for server in servers]
    change(context, cmdlet("Add-DatabaseAvailabilityGroupServer"), calls, How(store, dry_run, as_json=as_json))


@commands.command("remove-server", epilog="Example:  casarray dag remove-server DAG1 mbx3")
def remove_servers(
    context: typer.Context,
    name: Name,
    servers: Servers,
    *,
    store: Store = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take mailbox servers out of an availability group."""
    calls = [{"Identity": name, "MailboxServer": server} for server in servers]
    how = How(store, dry_run, yes=yes, as_json=as_json)
    change(context, cmdlet("Remove-DatabaseAvailabilityGroupServer"), calls, how)
