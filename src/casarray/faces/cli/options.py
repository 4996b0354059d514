"""Options that several commands share, and what their values may be."""

from typing import Annotated

import typer

from casarray.core.config_values import seconds_of
from casarray.core.errors import CasarrayError
from casarray.faces.cli.world import gateway

AsJson = Annotated[bool, typer.Option("--json", help="Answer as JSON.")]
Control = Annotated[
    str | None,
    typer.Option(
        "-c",
        "--control",
        metavar="PATH",
        help="The gateway's control socket, or a configuration file that names it. Default: that of "
        "/etc/casarray/casarray.toml, else /run/casarray.sock.",
    ),
]
ConfigFile = Annotated[
    str | None,
    typer.Option("-c", "--config", metavar="FILE", help="The configuration. Default: /etc/casarray/casarray.toml."),
]


def duration(text: str) -> float:
    """A duration as in the configuration; anything else is wrong usage."""
    seconds = seconds_of(text)
    if seconds is None:
        raise typer.BadParameter(f'"{text}" is not a duration; write a number with its unit, like 10m')
    return seconds


def server_names(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """For completion: the servers of the gateway that would be asked, silently none when it does not answer."""
    try:
        status = gateway(context, context.params.get("control")).status()
    except CasarrayError:
        return []
    members = {m.name: m.state.value for a in status.arrays for g in a.groups for m in g.members}
    return [(name, state) for name, state in members.items() if name.startswith(incomplete)]
