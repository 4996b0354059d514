"""`run`, `check`, `reload` and `remove`: what is done with a configuration file."""

import typer
from rich.text import Text

from casarray.faces.cli.options import AsJson, ConfigFile, Control
from casarray.faces.cli.output import CAUTION, print_json, say, show, span
from casarray.faces.cli.world import gateway, world


def add_to(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command("run", epilog="Example:  casarray run -c /etc/casarray/casarray.toml")(run)
    cli.command("remove", epilog="Example:  casarray remove -c /etc/casarray/casarray.toml")(remove)
    cli.command("check", epilog="Example:  casarray check -c casarray.toml")(check)
    cli.command("reload", epilog="Example:  casarray reload")(reload)


def run(context: typer.Context, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Start a gateway in the foreground.

    Prints "ready" once the arrays forward. SIGHUP reads the configuration again, SIGTERM ends the gateway; what the
    kernel forwards goes on. With --json, each line of the log on stderr is a JSON object.
    """
    around = world(context)
    raise typer.Exit(around.run(config or around.default_config, as_json))


def remove(context: typer.Context, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Take away what a stopped gateway left in the kernel: the arrays' forwarding tables and addresses.

    From then on the array's clients are refused, and every client's affinity is forgotten.
    """
    around = world(context)
    removed = around.remove(config or around.default_config)
    if as_json:
        print_json(tuple(removed))
        return
    for sentence in removed:
        say(sentence)
    if not removed:
        say("nothing was there")


def check(context: typer.Context, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Say what is wrong with a configuration, or what it would do. Touches nothing."""
    from casarray.faces.cli.checking import check_file  # noqa: PLC0415 - loads all that reads configurations

    around = world(context)
    check_file(config or around.default_config, around.environment, as_json=as_json)


def reload(context: typer.Context, control: Control = None, as_json: AsJson = False) -> None:
    """Let the gateway read its configuration again. A wrong one is refused, and the old one stays in force."""
    report = gateway(context, control).reload()
    if as_json:
        print_json(report)
        return
    for change in report.changes:
        say(change)
    say(f"reloaded in {span(report.seconds)}" if report.changes else "reloaded; nothing has changed")
    for warning in report.warnings:
        show(Text(f"warning: {warning}", CAUTION))
