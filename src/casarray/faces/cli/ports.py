"""`ports`: the fixed ports of the two RPC services of Exchange 2010, wanted, set and really in use."""

from enum import StrEnum
from typing import Annotated

import typer

from casarray.faces.cli.directory import Store
from casarray.faces.cli.options import AsJson, ConfigFile, duration

commands = typer.Typer(
    no_args_is_help=True, help="Fix the ports of the RPC services, write the files for it, check what is really so."
)


class Encoding(StrEnum):
    """How the registry files are encoded."""

    UTF_16 = "utf-16"
    UTF_8 = "utf-8"


ArrayName = Annotated[
    str | None,
    typer.Argument(metavar="ARRAY", help="The array. Default: the only one, or all.", show_default=False),
]
Exports = Annotated[
    list[str] | None,
    typer.Option(
        "--export",
        metavar="SERVER=FILE",
        help="A registry export of a server, or its Address Book configuration file; again for more.",
        show_default=False,
    ),
]
Netsh = Annotated[
    list[str] | None,
    typer.Option(
        "--netsh",
        metavar="SERVER=FILE",
        help='What "netsh int ipv4 show dynamicport tcp" printed on a server; again for more.',
        show_default=False,
    ),
]
Timeout = Annotated[str, typer.Option("--timeout", metavar="DURATION", help="So long each server may take to answer.")]


def _port(what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        f"--{what}", metavar="PORT", min=0, max=99_999, show_default=False, help=_PORT_HELP[what]
    )
    return option


_PORT_HELP = {
    "rpc": "Port of MSExchangeRPC (EMSMDB). Default: 5001.",
    "ab": "Port of MSExchangeAB (NSPI and RFR). Default: 5000.",
}


@commands.command("show", epilog="Example:  casarray ports show CAS --export cas1=cas1.reg --netsh cas1=cas1.txt")
def show(
    context: typer.Context,
    *,
    array: ArrayName = None,
    exports: Exports = None,
    netsh: Netsh = None,
    store: Store = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show which ports are wanted, on which servers, and what is known of these. Asks nobody."""
    from casarray.faces.cli.port_work import Asked, show_ports  # noqa: PLC0415 - loads all of RPC

    show_ports(context, Asked(array, exports or (), netsh or (), store, config), as_json=as_json)


@commands.command("set", epilog="Example:  casarray ports set CAS --rpc 5001 --ab 5000")
def set_(
    context: typer.Context,
    *,
    array: ArrayName = None,
    rpc: Annotated[int | None, _port("rpc")] = None,
    ab: Annotated[int | None, _port("ab")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    store: Store = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Write the two ports of an array into the configuration file or the directory. Touches no server."""
    from casarray.faces.cli.port_work import Asked, set_ports  # noqa: PLC0415 - as above

    set_ports(context, Asked(array, (), (), store, config), rpc, ab, dry_run=dry_run, as_json=as_json)


@commands.command("export", epilog="Example:  casarray ports export CAS -o /tmp/ports")
def export(
    context: typer.Context,
    *,
    array: ArrayName = None,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FOLDER", help="Where to write; - shows the files instead.")
    ] = ".",
    encoding: Annotated[
        Encoding, typer.Option("--encoding", help="Of registry files; regedit itself writes utf-16.")
    ] = Encoding.UTF_16,
    before_sp1: Annotated[
        bool,
        typer.Option("--before-sp1", help="For Exchange 2010 before SP1: the Address Book's port in its XML file."),
    ] = False,
    existing: Annotated[
        str | None,
        typer.Option(
            "--existing",
            metavar="FILE",
            help="With --before-sp1: a server's file, of which everything else is kept.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are different.")] = False,
    store: Store = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Write the files that fix the ports on the servers, and say what to do with them. Touches no server."""
    from casarray.faces.cli.port_work import Asked, Export, export_ports  # noqa: PLC0415 - as above

    if existing is not None and not before_sp1:
        raise typer.BadParameter("--existing goes with --before-sp1: since SP1 the port is in the registry")
    wanted = Export(output, encoding.value, before_sp1, existing, force)
    export_ports(context, Asked(array, (), (), store, config), wanted, as_json=as_json)


@commands.command("check", epilog="Example:  casarray ports check CAS --export cas1=cas1.reg")
def check(
    context: typer.Context,
    *,
    array: ArrayName = None,
    exports: Exports = None,
    netsh: Netsh = None,
    timeout: Timeout = "5s",
    store: Store = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Ask the endpoint mapper of every server, and compare what it says with what is wanted and what is set.

    Exit code 1 when anything differs, or a server does not answer.
    """
    from casarray.faces.cli.port_work import Asked, check_ports  # noqa: PLC0415 - as above

    check_ports(
        context, Asked(array, exports or (), netsh or (), store, config), max(duration(timeout), 0.01), as_json=as_json
    )
