"""`database`: the mailbox databases of the directory, their copies, and whom their clients are told."""

from typing import Annotated

import typer

from casarray.core.errors import Conflict
from casarray.core.shell.cmdlet import Value
from casarray.faces.cli.directory_options import (
    AsJson,
    DryRun,
    How,
    NewName,
    Pattern,
    Server,
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

commands = typer.Typer(no_args_is_help=True, help="The mailbox databases, and the name their clients are told.")

_known = completing("Get-MailboxDatabase")
_servers = completing("Get-MailboxServer")
Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name or GUID.", autocompletion=_known)]
Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME...", help="Name or GUID; * and ? stand for anything.", autocompletion=_known),
]
OnServer = Annotated[str, typer.Option("--server", metavar="SERVER", help="A mailbox server.", autocompletion=_servers)]
Preference = Annotated[int | None, typer.Option("--preference", min=1, help="Its place among the copies.")]


@commands.command("list", epilog="Example:  casarray database list --server mbx1")
def list_databases(
    context: typer.Context, name: Pattern = None, server: Server = None, store: Store = None, as_json: AsJson = False
) -> None:
    """List the mailbox databases and the name that their clients are told."""
    if name and server:
        raise Conflict("name databases, or with --server the server to look at, not both")
    show_all(look(context, "Get-MailboxDatabase", store, Identity=name, Server=server), "databases", as_json=as_json)


@commands.command("show", epilog="Example:  casarray database show DB1")
def show_database(context: typer.Context, name: Name, store: Store = None, as_json: AsJson = False) -> None:
    """Show all that the directory knows of a database."""
    show_one(look(context, "Get-MailboxDatabase", store, Identity=name), name, as_json=as_json)


@commands.command("new", epilog="Example:  casarray database new DB1 --server mbx1")
def new_database(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.")],
    *,
    server: OnServer,
    store: Store = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make a database on a server. Its clients are told the array of the server's site by itself."""
    values = {"Name": name, "Server": server}
    change(context, cmdlet("New-MailboxDatabase"), [values], How(store, dry_run, as_json=as_json))


@commands.command("set", epilog="Example:  casarray database set '*' --rpc-client-access-server cas.domain.tld")
def set_databases(
    context: typer.Context,
    names: Names,
    *,
    rpc_client_access_server: Annotated[
        str | None,
        typer.Option(
            "--rpc-client-access-server",
            metavar="FQDN",
            help="Whom clients are told: an array, or a client access server, by any of its names.",
            autocompletion=completing("Get-ClientAccessArray"),
        ),
    ] = None,
    new_name: NewName = None,
    store: Store = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Change databases, above all whom their clients are told."""
    from casarray.app.cmdlets.identity import DATABASE  # noqa: PLC0415 - only what the command needs

    if new_name and len(names) > 1:
        raise Conflict("--name gives one database another name: name one")
    change_named(
        context,
        cmdlet("Set-MailboxDatabase"),
        DATABASE,
        names,
        How(store, dry_run, as_json=as_json),
        RpcClientAccessServer=rpc_client_access_server,
        Name=new_name,
    )


@commands.command("remove", epilog="Example:  casarray database remove DB1 --dry-run")
def remove_databases(
    context: typer.Context,
    names: Names,
    *,
    store: Store = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove databases without mailboxes from the directory, with all their copies."""
    from casarray.app.cmdlets.identity import DATABASE  # noqa: PLC0415 - as above

    how = How(store, dry_run, yes=yes, as_json=as_json)
    change_named(context, cmdlet("Remove-MailboxDatabase"), DATABASE, names, how)


@commands.command("move", epilog="Example:  casarray database move DB1 --to mbx2")
def move_databases(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Name or GUID; * and ? stand for anything.", autocompletion=_known),
    ] = None,
    *,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="SERVER", help="Default: the most preferred other copy.", autocompletion=_servers),
    ] = None,
    off: Annotated[
        str | None,
        typer.Option("--from", metavar="SERVER", help="All that are active on this server.", autocompletion=_servers),
    ] = None,
    store: Store = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make the copy on another server the active one (a switchover)."""
    from casarray.app.cmdlets.identity import DATABASE  # noqa: PLC0415 - as above

    use, how = cmdlet("Move-ActiveMailboxDatabase"), How(store, dry_run, as_json=as_json)
    if bool(names) == bool(off):
        raise Conflict("name databases to move, or with --from the server that all shall leave")
    if names:
        change_named(context, use, DATABASE, names, how, ActivateOnServer=to)
    else:
        change(context, use, [{"Server": off, "ActivateOnServer": to}], how)


@commands.command("add-copy", epilog="Example:  casarray database add-copy DB1 --server mbx2 --preference 2")
def add_copy(
    context: typer.Context,
    name: Name,
    *,
    server: OnServer,
    preference: Preference = None,
    store: Store = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Add a copy of a database on another server of its availability group."""
    values = {"Identity": name, "MailboxServer": server, "ActivationPreference": preference}
    change(context, cmdlet("Add-MailboxDatabaseCopy"), [values], How(store, dry_run, as_json=as_json))


@commands.command("set-copy", epilog="Example:  casarray database set-copy DB1 --server mbx2 --preference 1")
def set_copy(
    context: typer.Context,
    name: Name,
    *,
    server: OnServer,
    preference: Annotated[int, typer.Option("--preference", min=1, help="Its place among the copies.")],
    store: Store = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Change where a database should rather be active."""
    values: dict[str, Value] = {"Identity": f"{name}\\{server}", "ActivationPreference": preference}
    change(context, cmdlet("Set-MailboxDatabaseCopy"), [values], How(store, dry_run, as_json=as_json))


@commands.command("remove-copy", epilog="Example:  casarray database remove-copy DB1 --server mbx2")
def remove_copy(
    context: typer.Context,
    name: Name,
    *,
    server: OnServer,
    store: Store = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove a copy that is not the active one."""
    how = How(store, dry_run, yes=yes, as_json=as_json)
    change(context, cmdlet("Remove-MailboxDatabaseCopy"), [{"Identity": f"{name}\\{server}"}], how)
