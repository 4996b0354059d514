"""`completion`: the script that teaches a shell our words."""

from enum import StrEnum
from typing import Annotated

import typer
from typer import completion as typer_completion

from casarray.faces.cli.options import AsJson
from casarray.faces.cli.output import print_json, say


class Shell(StrEnum):
    """Shells that can be taught."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def add_to(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command("completion", epilog="Example:  casarray completion bash > /etc/bash_completion.d/casarray")(completion)


def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell.", show_default=False)], as_json: AsJson = False
) -> None:
    """Print a completion script for a shell."""
    # typer itself takes it from there for --show-completion, without declaring it exported.
    write = typer_completion.get_completion_script  # type: ignore[attr-defined]  # typer's own commands use it, and it is not exported
    script = str(write(prog_name="casarray", complete_var="_CASARRAY_COMPLETE", shell=shell.value))
    if as_json:
        print_json({"shell": shell.value, "script": script})
    else:
        say(script)
