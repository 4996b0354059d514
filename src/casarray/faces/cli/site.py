"""`site`: the sites of the directory and the subnets that belong to them."""

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

commands = typer.Typer(no_args_is_help=True, help="The sites and their subnets: who is near to whom.")

_known = completing("Get-ADSite")
_subnets = completing("Get-ADSubnet")
Name = Annotated[str, typer.Argument(metavar="SITE", help="Its name or GUID.", autocompletion=_known)]
Description = Annotated[str | None, typer.Option("--description", help="What people should know about it.")]
Meant = Annotated[bool, typer.Option("--force", help="Also where it overlaps the subnet of another site.")]
Subnets = Annotated[list[str], typer.Argument(metavar="SUBNET...", help="Subnets, like 10.11.0.0/24.")]
KnownSubnets = Annotated[
    list[str], typer.Argument(metavar="SUBNET...", help="Subnets, like 10.11.0.0/24.", autocompletion=_subnets)
]


@commands.command("list", epilog="Example:  casarray site list --json")
def list_sites(context: typer.Context, name: Pattern = None, store: Store = None, as_json: AsJson = False) -> None:
    """List the sites with their subnets."""
    show_all(look(context, "Get-ADSite", store, Identity=name), "sites", as_json=as_json)


@commands.command("show", epilog="Example:  casarray site show Paderborn")
def show_site(context: typer.Context, name: Name, store: Store = None, as_json: AsJson = False) -> None:
    """Show all that the directory knows of a site."""
    show_one(look(context, "Get-ADSite", store, Identity=name), name, as_json=as_json)


@commands.command("new", epilog="Example:  casarray site new Paderborn --subnet 10.11.0.0/24 --subnet 10.12.0.0/24")
def new_site(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="SITE", help="Its name.")],
    *,
    subnet: Annotated[
        list[str] | None, typer.Option("--subnet", metavar="SUBNET", help="A subnet of it; may be repeated.")
    ] = None,
    description: Description = None,
    store: Store = None,
    force: Meant = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make a site."""
    values = {"Name": name, "Subnet": tuple(subnet or ()), "Description": description}
    change(context, cmdlet("New-ADSite"), [values], How(store, dry_run, force, as_json=as_json))


@commands.command("set", epilog="Example:  casarray site set Paderborn --name Bielefeld")
def set_site(
    context: typer.Context,
    name: Name,
    *,
    new_name: NewName = None,
    description: Description = None,
    store: Store = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Change a site. What is in it follows a new name."""
    values = {"Identity": name, "Name": new_name, "Description": description}
    change(context, cmdlet("Set-ADSite"), [values], How(store, dry_run, as_json=as_json))


@commands.command("remove", epilog="Example:  casarray site remove Bielefeld")
def remove_sites(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="SITE...", help="Name or GUID.", autocompletion=_known)],
    *,
    store: Store = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove sites that have no servers, subnets and array any more."""
    from casarray.app.cmdlets.identity import SITE  # noqa: PLC0415 - only what the command needs

    how = How(store, dry_run, yes=yes, as_json=as_json)
    change_named(context, cmdlet("Remove-ADSite"), SITE, names, how)


@commands.command("add-subnet", epilog="Example:  casarray site add-subnet Paderborn 10.13.0.0/24")
def add_subnets(
    context: typer.Context,
    name: Name,
    subnets: Subnets,
    *,
    store: Store = None,
    force: Meant = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make subnets of a site."""
    calls = [{"Name": subnet, "Site": name} for subnet in subnets]
    change(context, cmdlet("New-ADSubnet"), calls, How(store, dry_run, force, as_json=as_json))


@commands.command("move-subnet", epilog="Example:  casarray site move-subnet Bielefeld 10.13.0.0/24")
def move_subnets(
    context: typer.Context,
    name: Name,
    subnets: KnownSubnets,
    *,
    store: Store = None,
    force: Meant = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Give subnets to this site, whichever they belong to."""
    calls = [{"Identity": subnet, "Site": name} for subnet in subnets]
    change(context, cmdlet("Set-ADSubnet"), calls, How(store, dry_run, force, as_json=as_json))


@commands.command("remove-subnet", epilog="Example:  casarray site remove-subnet 10.13.0.0/24")
def remove_subnets(
    context: typer.Context,
    subnets: KnownSubnets,
    *,
    store: Store = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove subnets from their sites: clients in them belong to no site then."""
    calls = [{"Identity": subnet} for subnet in subnets]
    change(context, cmdlet("Remove-ADSubnet"), calls, How(store, dry_run, yes=yes, as_json=as_json))
