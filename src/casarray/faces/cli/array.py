"""`array`: the client access arrays of the directory."""

from typing import Annotated

import typer

from casarray.core.shell.cmdlet import Value
from casarray.faces.cli.directory_options import (
    AsJson,
    DryRun,
    Force,
    How,
    InSite,
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

commands = typer.Typer(no_args_is_help=True, help="The client access arrays: one name for the servers of a site.")

_known = completing("Get-ClientAccessArray")
Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name, FQDN or GUID.", autocompletion=_known)]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Name, FQDN or GUID.", autocompletion=_known)]
Addresses = Annotated[
    list[str] | None,
    typer.Option("--address", metavar="ADDRESS", help="Its address; may be repeated. Default: what the FQDN says."),
]


@commands.command("list", epilog="Example:  casarray array list --json")
def list_arrays(
    context: typer.Context, name: Pattern = None, site: InSite = None, store: Store = None, as_json: AsJson = False
) -> None:
    """List the arrays of the directory with their members."""
    show_all(look(context, "Get-ClientAccessArray", store, Identity=name, Site=site), "arrays", as_json=as_json)


@commands.command("show", epilog="Example:  casarray array show CAS")
def show_array(context: typer.Context, name: Name, store: Store = None, as_json: AsJson = False) -> None:
    """Show all that the directory knows of an array."""
    show_one(look(context, "Get-ClientAccessArray", store, Identity=name), name, as_json=as_json)


@commands.command("new", epilog="Example:  casarray array new CAS --fqdn cas.domain.tld --site Paderborn")
def new_array(
    context: typer.Context,
    *,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Default: the host part of the FQDN.", show_default=False)
    ] = None,
    fqdn: Annotated[str, typer.Option("--fqdn", metavar="FQDN", help="The name that clients connect to.")],
    site: Annotated[str, typer.Option("--site", metavar="SITE", help="The site whose servers are its members.")],
    address: Addresses = None,
    store: Store = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make the array of a site. Its client access servers are its members at once."""
    values = {"Name": name, "Fqdn": fqdn, "Site": site, "Address": tuple(address or ())}
    change(context, cmdlet("New-ClientAccessArray"), [values], How(store, dry_run, as_json=as_json))


@commands.command("set", epilog="Example:  casarray array set CAS --address 10.11.0.100")
def set_array(
    context: typer.Context,
    name: Name,
    *,
    new_name: NewName = None,
    fqdn: Annotated[str | None, typer.Option("--fqdn", metavar="FQDN", help="Another FQDN.")] = None,
    site: Annotated[str | None, typer.Option("--site", metavar="SITE", help="Another site.")] = None,
    address: Addresses = None,
    service_account: Annotated[
        str | None,
        typer.Option(
            "--service-account",
            metavar="ACCOUNT",
            help="The shared account whose keys its members hold; an empty one is that of the configuration.",
        ),
    ] = None,
    published: Annotated[
        list[str] | None,
        typer.Option(
            "--published",
            metavar="NAME",
            help="A further name of its web and mail services; may be repeated. All of them; an empty one is none.",
        ),
    ] = None,
    store: Store = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Change an array. Clients keep the FQDN they were told, so that is better left as it is."""
    values: dict[str, Value] = {"Identity": name, "Name": new_name, "Fqdn": fqdn, "Site": site}
    values |= {"Address": tuple(address or ()), "ServiceAccount": service_account, "Published": tuple(published or ())}
    change(context, cmdlet("Set-ClientAccessArray"), [values], How(store, dry_run, force, as_json=as_json))


@commands.command("remove", epilog="Example:  casarray array remove CAS --dry-run")
def remove_arrays(
    context: typer.Context,
    names: Names,
    *,
    store: Store = None,
    force: Force = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove arrays, unless databases tell their names to clients."""
    from casarray.app.cmdlets.identity import ARRAY  # noqa: PLC0415 - only what the command needs

    how = How(store, dry_run, force, yes, as_json)
    change_named(context, cmdlet("Remove-ClientAccessArray"), ARRAY, names, how)
