"""`init`: from a name and a few addresses to a commented configuration, after a look at what the servers offer."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from casarray.core.config_values import address_of
from casarray.core.errors import Conflict
from casarray.core.forwarding.table import Address
from casarray.core.profiles import PROFILES
from casarray.faces.cli.options import AsJson
from casarray.faces.cli.world import host_name, world

if TYPE_CHECKING:
    from casarray.core.survey import Wanted

DEFAULT_SITE = "Default-First-Site-Name"  # what Active Directory calls the first one


def add_to(cli: typer.Typer) -> None:
    """Add the command."""
    example = (
        "Example:  casarray init --name CAS --fqdn cas.domain.tld --address 10.11.0.100 "
        "--server cas1=10.12.0.21 --server cas2=10.12.0.22 -o casarray.toml"
    )
    cli.command("init", epilog=example)(init)


def _address(text: str) -> Address:
    address = address_of(text.strip())
    if isinstance(address, str):
        raise typer.BadParameter(f'"{text}" {address}; write it like 10.11.0.100')
    return address


def _server(text: str) -> tuple[str, tuple[Address, ...]]:
    name, _, addresses = text.partition("=")
    if not name or not addresses:
        raise typer.BadParameter(f'"{text}" is not NAME=ADDRESS; write it like cas1=10.12.0.21')
    return name, tuple(_address(address) for address in addresses.split(","))


def init(
    context: typer.Context,
    *,
    name: Annotated[str | None, typer.Option("--name", help="The array's name.", show_default=False)] = None,
    fqdn: Annotated[str | None, typer.Option("--fqdn", help="The name clients are given.", show_default=False)] = None,
    address: Annotated[
        list[str] | None,
        typer.Option("--address", help="The address clients connect to; again for IPv6.", show_default=False),
    ] = None,
    server: Annotated[
        list[str] | None,
        typer.Option("--server", metavar="NAME=ADDRESS", help="A server; once for each.", show_default=False),
    ] = None,
    site: Annotated[str, typer.Option("--site", help="The site they stand in.")] = DEFAULT_SITE,
    profile: Annotated[
        str | None,
        typer.Option("--profile", help=f"One of {', '.join(PROFILES)}; else what the servers offer decides."),
    ] = None,
    output: Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="Where to write; - is stdout.")] = (
        "casarray.toml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    look: Annotated[bool, typer.Option("--look/--no-look", help="Look at what the servers offer.")] = True,
    as_json: AsJson = False,
) -> None:
    """Write a configuration for an array. Looks at the servers, changes nothing on them."""
    if profile is not None and profile not in PROFILES:
        raise typer.BadParameter(f'there is no profile "{profile}"; write one of {", ".join(PROFILES)}')
    if output != "-" and Path(output).exists() and not force:
        raise Conflict(f"{output} is there already; write another file with -o, or overwrite it with --force")
    from casarray.faces.cli.drafting import draft  # noqa: PLC0415 - loads all that reads configurations

    draft(world(context), _wanted(name, fqdn, address, server, site), profile, output, look=look, as_json=as_json)


def _wanted(
    name: str | None, fqdn: str | None, addresses: list[str] | None, servers: list[str] | None, site: str
) -> "Wanted":
    """What the options say; what they leave open is asked, when there is somebody to ask."""
    from casarray.core.survey import Wanted  # noqa: PLC0415 - see above

    name = name or _asked("--name", "Name of the array", "CAS")
    fqdn = fqdn or _asked("--fqdn", "Host name that clients are given", f"{name.lower()}.domain.tld")
    addresses = addresses or _asked("--address", "Address of the array (several with commas)", None).split(",")
    said = [_server(text) for text in servers or _asked_servers()]
    names = [server for server, _ in said]
    if len(set(names)) < len(names):
        raise typer.BadParameter("two servers have the same name; write both addresses as NAME=ADDRESS,ADDRESS")
    return Wanted(host_name(), name, fqdn, site, tuple(map(_address, addresses)), tuple(said))


def _asked(option: str, question: str, default: str | None) -> str:
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{option} is missing, and there is nobody to ask")
    return str(typer.prompt(question, default=default, err=True))


def _asked_servers() -> list[str]:
    servers: list[str] = []
    while True:
        question = f"Server {len(servers) + 1} as NAME=ADDRESS" + (" (empty: no more)" if servers else "")
        answer = _asked("--server", question, "" if servers else None)
        if not answer:
            return servers
        servers.append(answer)
