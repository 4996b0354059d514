"""The command `casarray`: puts the commands together and ends every failure in one sentence."""

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from casarray.core.errors import CasarrayError
from casarray.faces.cli import (
    account,
    agent,
    array,
    autodiscover,
    begin,
    completion,
    dag,
    database,
    directory,
    files,
    ports,
    referral,
    rpc_proxy,
    server,
    shell,
    site,
    spn,
    status,
    testing,
    top,
)
from casarray.faces.cli.options import AsJson
from casarray.faces.cli.output import complain, print_json, say


class _Careful(TyperGroup):
    """The outermost group: nobody who types a command is shown a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CasarrayError as error:
            complain(str(error))
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except BrokenPipeError:  # whoever read our answer has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except (OSError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError, ImportError) as error:
            if "CASARRAY_DEBUG" in os.environ:
                raise
            complain(f"this should not happen: {type(error).__name__}: {error}; CASARRAY_DEBUG=1 shows where")
        raise typer.Exit(1)


cli = typer.Typer(
    name="casarray",
    cls=_Careful,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="One stable name in front of many servers, and every client stays on one of them.",
    epilog="Exit codes: 0 done, 1 refused or failed (the reason is on stderr), 2 wrong usage.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"casarray {_version()}")
        raise typer.Exit


@cli.callback()
def _root(
    _version_wanted: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415 - slow, and only this needs it

    return version("casarray")


@cli.command("version", epilog="Example:  casarray version --json")
def show_version(as_json: AsJson = False) -> None:
    """Show the version of this program."""
    if as_json:
        print_json({"version": _version()})
    else:
        say(f"casarray {_version()}")


files.add_to(cli)
status.add_to(cli)
top.add_to(cli)
cli.add_typer(array.commands, name="array")
cli.add_typer(server.commands, name="server")
cli.add_typer(database.commands, name="database")
cli.add_typer(dag.commands, name="dag")
cli.add_typer(site.commands, name="site")
cli.add_typer(account.commands, name="account")
cli.add_typer(agent.commands, name="agent")
cli.add_typer(autodiscover.commands, name="autodiscover")
directory.add_to(cli)
cli.add_typer(ports.commands, name="ports")
cli.add_typer(referral.commands, name="referral")
cli.add_typer(rpc_proxy.commands, name="rpc-proxy")
cli.add_typer(spn.commands, name="spn")
cli.add_typer(testing.commands, name="test")
shell.add_to(cli)
begin.add_to(cli)
completion.add_to(cli)
