"""`agent`: the member's side of the shared account, and how the members' agents are."""

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from casarray.core.errors import CasarrayError
from casarray.faces.cli.directory_options import Store
from casarray.faces.cli.options import AsJson
from casarray.faces.cli.output import complain, print_json, say, show
from casarray.faces.cli.world import desk, world

if TYPE_CHECKING:
    from casarray.app.kerberos.ports import AgentState

commands = typer.Typer(no_args_is_help=True, help="The agent that keeps the shared keys on each server.")

DEFAULT_FILE = "/etc/casarray/agent.toml"
AgentFile = Annotated[
    str, typer.Option("-c", "--config", metavar="FILE", help="The agent's configuration.", envvar="CASARRAY_AGENT")
]


@commands.command("run", epilog="Example:  casarray agent run -c /etc/casarray/agent.toml")
def run(context: typer.Context, config: AgentFile = DEFAULT_FILE, as_json: AsJson = False) -> None:
    """Run this server's agent in the foreground.

    Prints "ready" once it listens. SIGHUP reads the configuration again, SIGTERM ends it; the keytabs stay. With
    --json, each line of the log on stderr is a JSON object.
    """
    raise typer.Exit(world(context).run_agent(config, as_json))


@commands.command("check", epilog="Example:  casarray agent check -c agent.toml")
def check(config: AgentFile = DEFAULT_FILE, as_json: AsJson = False) -> None:
    """Say what is wrong with an agent's configuration, or what it would do. Touches nothing."""
    from casarray.adapters.config_reader import read_agent  # noqa: PLC0415 - loads all that reads configurations

    settings = read_agent(config)
    if as_json:
        print_json(settings)
        return
    say(f"{config} is right: {settings.fqdn} listens on {settings.listen}, health on {settings.health or 'no port'}")
    for one in settings.keytabs:
        say(f"keeps {one.path} for {one.owner}: {', '.join(one.services) or 'all'} names")
    if not settings.keytabs:
        say("it keeps no keytab: add [[keytab]] with a path, or no service can read a ticket")


@commands.command("init", epilog="Example:  casarray agent init > /etc/casarray/agent.toml")
def init() -> None:
    """Print a commented configuration for this server."""
    from casarray.core.kerberos.agent_config import AGENT_TABLES  # noqa: PLC0415 - only what the command needs

    host = socket.getfqdn()
    known = "." in host and not host.startswith("localhost")
    realm = host.partition(".")[2].upper() if known else "DOMAIN.TLD"
    say("# Edit: who may roll (administrators), and the keytabs of this server's services, at the end.")
    if not known:
        say("# This host does not know its domain: write its full name (fqdn) as well.")
    here = {"fqdn": f'"{host}"' if known else '"cas1.domain.tld"', "administrators": f'["casarray-admin@{realm}"]'}
    for table in AGENT_TABLES:
        say(f"\n{table.header}")
        for key in table.keys:
            say(f"# {key.meaning}")
            needed = key.required or (known and key.name == "fqdn")
            say(f"{'' if needed else '# '}{key.name} = {here.get(key.name, key.example)}")


@dataclass(frozen=True, slots=True)
class _Line:
    """One member's agent, or why nothing is known of it."""

    member: str
    state: "AgentState | None" = None
    error: str = ""

    @property
    def ill(self) -> bool:
        """Whether it should not get clients, as far as known."""
        return self.state is None or bool(self.state.stale)


@commands.command("state", epilog="Example:  casarray agent state cas1.domain.tld")
def state(
    context: typer.Context,
    hosts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[HOST...]", help="Members by FQDN; without one, all members that have an account."),
    ] = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Ask the members' agents what they hold. Exit code 1 if one does not answer or is stale."""
    from casarray.app.kerberos.crew import Crew  # noqa: PLC0415 - only what the command needs
    from casarray.core.directory.model import Server  # noqa: PLC0415 - as above
    from casarray.core.kerberos.shares import every_member  # noqa: PLC0415 - as above

    place = desk(context, store)
    servers = [Server(one, one, "") for one in hosts or ()]
    if not servers:
        servers = list({server.name: server for _, server in every_member(place.shares())}.values())
    if not servers:
        complain("no array has a shared account yet: set account under [kerberos], or name hosts")
        raise typer.Exit(1)
    with Crew(place.agents, servers) as crew:
        found = crew.each([server.name for server in servers], lambda _, agent: agent.state())
    lines = [
        _Line(name, error=str(one)) if isinstance(one, CasarrayError) else _Line(name, one)
        for name, one in found.items()
    ]
    if as_json:
        print_json(tuple(lines))
    else:
        _show(lines)
    raise typer.Exit(int(any(line.ill for line in lines)))


def _show(lines: list[_Line]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("member", "account", "keys", "keytabs", "clock", "what is wrong"):
        table.add_column(column)
    for line in lines:
        if line.state is None:
            table.add_row(line.member, "", "", "", "", line.error)
            continue
        held = line.state.held or (None,)
        for one in held:
            numbers = ", ".join(f"{g.number}{' pending' if g.pending else ''}" for g in one.generations) if one else ""
            table.add_row(
                line.member,
                one.account if one else "none",
                numbers,
                "\n".join(line.state.keytabs),
                "" if line.state.skew is None else f"{line.state.skew:+.0f} s",
                "\n".join(line.state.stale),
            )
    show(table)
