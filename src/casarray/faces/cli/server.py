"""`server`: the states that an operator sets in a running gateway, and the servers of the directory."""

from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from typing import Annotated

import typer
from rich.text import Text

from casarray.app.operations import ServerChange, Status
from casarray.core.config import Wish
from casarray.core.errors import Conflict
from casarray.faces.cli.directory_options import (
    DryRun,
    Force,
    How,
    NewName,
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
from casarray.faces.cli.options import AsJson, Control, duration, server_names
from casarray.faces.cli.output import CAUTION, count, print_json, say, show, span, table
from casarray.faces.cli.status import state_cell
from casarray.faces.cli.world import gateway

commands = typer.Typer(no_args_is_help=True, help="List the servers, take one out of use, bring it back.")

_WORDS = {Wish.ACTIVE: "active", Wish.DRAIN: "draining", Wish.STANDBY: "on standby", Wish.OUT: "out"}

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="The server's name in the configuration.", show_default=False, autocompletion=server_names
    ),
]
Deadline = Annotated[
    float | None,
    typer.Option(
        "--deadline",
        metavar="DURATION",
        parser=duration,
        help="After so long (10m, 2h) the clients that are left are reset and move.",
        show_default=False,
    ),
]


@commands.command("list", epilog="Example:  casarray server list --json")
def list_servers(
    context: typer.Context,
    control: Control = None,
    directory: Annotated[
        bool, typer.Option("--directory", help="Those of the directory, rather than those of the running gateway.")
    ] = False,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """List the servers, the state of each and where it is in use."""
    if directory or store is not None:
        show_all(look(context, "Get-ExchangeServer", store), "servers", as_json=as_json)
        return
    status = gateway(context, control).status()
    if as_json:
        print_json({"servers": _as_values(status)})
        return
    rows: list[tuple[str | Text, ...]] = []
    for array in status.arrays:
        members = {m.name: m for group in array.groups for m in group.members}
        for name, member in members.items():
            mine = [(g.name, m) for g in array.groups for m in g.members if m.name == name]
            used = ", ".join(group for group, m in mine if m.eligible) or "nowhere"
            living = sum(m.connections for _, m in mine)
            addresses = ", ".join(member.addresses)
            rows.append((name, array.name, addresses, state_cell(member), used, str(member.weight), count(living)))
    columns = ("SERVER", "ARRAY", "ADDRESS", "STATE", "IN USE FOR", "WEIGHT", "CONNECTIONS")
    show(table(columns, rows, numbers=("WEIGHT", "CONNECTIONS")))


@commands.command("drain", epilog="Example:  casarray server drain cas1 --deadline 10m")
def drain(
    context: typer.Context, name: Name, deadline: Deadline = None, control: Control = None, as_json: AsJson = False
) -> None:
    """Lead no new clients to a server; those who are on it stay, until the deadline if there is one."""
    _set(context, name, Wish.DRAIN, deadline, control=control, as_json=as_json)


@commands.command("standby", epilog="Example:  casarray server standby cas3")
def standby(context: typer.Context, name: Name, control: Control = None, as_json: AsJson = False) -> None:
    """Use a server only when no active one is left."""
    _set(context, name, Wish.STANDBY, None, control=control, as_json=as_json)


@commands.command("out", epilog="Example:  casarray server out cas1")
def out(context: typer.Context, name: Name, control: Control = None, as_json: AsJson = False) -> None:
    """Take a server out at once: its connections are reset and its clients move."""
    _set(context, name, Wish.OUT, None, control=control, as_json=as_json)


@commands.command("activate", epilog="Example:  casarray server activate cas1")
def activate(context: typer.Context, name: Name, control: Control = None, as_json: AsJson = False) -> None:
    """Use a server again."""
    _set(context, name, Wish.ACTIVE, None, control=control, as_json=as_json)


def _set(
    context: typer.Context, name: str, wish: Wish, deadline: float | None, *, control: str | None, as_json: bool
) -> None:
    change = gateway(context, control).set_server(name, wish, deadline)
    if as_json:
        print_json(change)
        return
    say(_told(change))
    for warning in change.warnings:
        show(Text(f"warning: {warning}", CAUTION))


def _told(change: ServerChange) -> str:
    was = "" if change.before is change.state else f" (was {_WORDS[change.before]})"
    text = f"{change.server} is {_WORDS[change.state]}{was}"
    if change.state is not Wish.DRAIN:
        return text
    until = (
        f"in {span(change.deadline_seconds)} the rest is reset"
        if change.deadline_seconds is not None
        else "no deadline"
    )
    return f"{text}; {count(change.connections)} connections live on it, {until}"


def _as_values(status: Status) -> list[dict[str, object]]:
    return [
        {"array": array.name, "group": group.name, "member": member}
        for array in status.arrays
        for group in array.groups
        for member in group.members
    ]


# The servers of the directory.


_known = completing("Get-ExchangeServer")
Known = Annotated[str, typer.Argument(metavar="NAME", help="Its name, FQDN or GUID.", autocompletion=_known)]
SeveralKnown = Annotated[
    list[str],
    typer.Argument(metavar="NAME...", help="Name, FQDN or GUID; * and ? stand for anything.", autocompletion=_known),
]
Fqdn = Annotated[str | None, typer.Option("--fqdn", metavar="FQDN", help="Its full name, like cas1.domain.tld.")]
Addresses = Annotated[
    list[str] | None,
    typer.Option("--address", metavar="ADDRESS", help="Its address; may be repeated. Default: what the FQDN says."),
]
Weight = Annotated[
    int | None, typer.Option("--weight", min=1, max=10_000, help="Its share of new clients; 100 is usual.")
]
PublicFolders = Annotated[
    bool | None,
    typer.Option(
        "--public-folders/--no-public-folders",
        help="Clients reach public folders on it, past the array.",
        show_default=False,
    ),
]


class Role(StrEnum):
    """What a server does."""

    CLIENT_ACCESS = "client-access"
    MAILBOX = "mailbox"


@commands.command("show", epilog="Example:  casarray server show cas1")
def show_server(context: typer.Context, name: Known, store: Store = None, as_json: AsJson = False) -> None:
    """Show all that the directory knows of a server."""
    show_one(look(context, "Get-ExchangeServer", store, Identity=name), name, as_json=as_json)


@commands.command("new", epilog="Example:  casarray server new cas3.domain.tld --address 10.12.0.23")
def new_server(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its short name, or its full one.")],
    fqdn: Fqdn = None,
    site: Annotated[
        str | None, typer.Option("--site", metavar="SITE", help="Default: the site of its address's subnet.")
    ] = None,
    role: Annotated[list[Role] | None, typer.Option("--role", help="May be repeated. Default: client-access.")] = None,
    address: Addresses = None,
    weight: Weight = None,
    public_folders: PublicFolders = None,
    store: Store = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Put a server into the directory, or give one that is there a further role."""
    from casarray.app.cmdlets import servers  # noqa: PLC0415 - only what the command needs
    from casarray.app.cmdlets.identity import SERVER  # noqa: PLC0415 - as above

    kind = servers.Roles(SERVER, tuple(dict.fromkeys(map(str, role or [Role.CLIENT_ACCESS]))))
    values = {"Name": name, "Fqdn": fqdn, "Site": site, "Address": tuple(address or ())}
    more = {"Weight": weight, "PublicFolders": public_folders}
    how = How(store, dry_run, as_json=as_json)
    change(context, lambda service: partial(servers.new, service, kind), [{**values, **more}], how)


@commands.command("set", epilog="Example:  casarray server set cas1 --weight 200 --encryption-required")
def set_servers(
    context: typer.Context,
    names: SeveralKnown,
    *,
    new_name: NewName = None,
    fqdn: Fqdn = None,
    site: Annotated[str | None, typer.Option("--site", metavar="SITE", help="Another site.")] = None,
    address: Addresses = None,
    weight: Weight = None,
    public_folders: PublicFolders = None,
    encryption_required: Annotated[
        bool | None,
        typer.Option("--encryption-required/--no-encryption-required", help="Refuse clients that do not encrypt."),
    ] = None,
    blocked_client_versions: Annotated[
        str | None, typer.Option("--blocked-client-versions", help="Outlook versions to refuse, like 0.0.0-5.9.9.")
    ] = None,
    maximum_connections: Annotated[
        int | None, typer.Option("--maximum-connections", help="Kept, but not enforced, as in Exchange.")
    ] = None,
    store: Store = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Change servers of the directory, and what their RPC client access accepts."""
    from casarray.app.cmdlets import servers  # noqa: PLC0415 - only what the command needs
    from casarray.app.cmdlets.identity import SERVER  # noqa: PLC0415 - as above

    if len(names) > 1 and (new_name or fqdn or address):
        raise Conflict("--name, --fqdn and --address belong to one server: name one")
    change_named(
        context,
        lambda service: partial(servers.set_with_access, service),
        SERVER,
        names,
        How(store, dry_run, force, as_json=as_json),
        Name=new_name,
        Fqdn=fqdn,
        Site=site,
        Address=tuple(address or ()),
        Weight=weight,
        PublicFolders=public_folders,
        EncryptionRequired=encryption_required,
        BlockedClientVersions=blocked_client_versions,
        MaximumConnections=maximum_connections,
    )


@commands.command("remove", epilog="Example:  casarray server remove cas3 --dry-run")
def remove_servers(
    context: typer.Context,
    names: SeveralKnown,
    *,
    role: Annotated[Role | None, typer.Option("--role", help="Take this role alone; the last one takes all.")] = None,
    store: Store = None,
    force: Force = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove servers from the directory, or a role from servers."""
    from casarray.app.cmdlets import servers  # noqa: PLC0415 - only what the command needs
    from casarray.app.cmdlets.identity import SERVER  # noqa: PLC0415 - as above

    kind = servers.Roles(SERVER, (str(role),) if role else ())
    how = How(store, dry_run, force, yes, as_json)
    change_named(context, lambda service: partial(servers.remove, service, kind), SERVER, names, how)


@commands.command("take-out", epilog="Example:  casarray server take-out cas1")
def take_out(
    context: typer.Context,
    names: SeveralKnown,
    *,
    store: Store = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Take servers out of the array of their site, in the directory: every gateway follows. See also out."""
    _access(context, "Remove-RpcClientAccess", names, How(store, dry_run, as_json=as_json))


@commands.command("put-back", epilog="Example:  casarray server put-back cas1")
def put_back(
    context: typer.Context,
    names: SeveralKnown,
    *,
    store: Store = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Put servers back into the array of their site."""
    _access(context, "New-RpcClientAccess", names, How(store, dry_run, as_json=as_json))


def _access(context: typer.Context, name: str, names: Sequence[str], how: How) -> None:
    from casarray.app.cmdlets.identity import SERVER  # noqa: PLC0415 - only what the command needs

    change_named(context, cmdlet(name), SERVER, names, how, parameter="Server")
