"""`rpc-proxy`: RPC over HTTP in front of members that speak RPC over TCP."""

import typer

from casarray.faces.cli.options import AsJson, ConfigFile
from casarray.faces.cli.world import world

commands = typer.Typer(no_args_is_help=True, help="RPC over HTTP (Outlook Anywhere) in front of the members.")


@commands.command("run", epilog="Example:  casarray rpc-proxy run -c casarray.toml")
def run(context: typer.Context, *, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Run the RPC proxy by itself, in the foreground.

    Prints "ready" once it listens at rpc-http.listen. A gateway with that key runs one on its own. SIGTERM
    ends it. With --json, each line of the log on stderr is a JSON object.
    """
    around = world(context)
    raise typer.Exit(around.run_rpc_proxy(config or around.default_config, as_json))
