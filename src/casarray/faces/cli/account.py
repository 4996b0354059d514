"""`account`: the shared accounts, under which the members of arrays read tickets for the arrays' names."""

import typer

from casarray.faces.cli import account_roll
from casarray.faces.cli.directory_options import AsJson, Store, safe
from casarray.faces.cli.output import print_json, say, show, table
from casarray.faces.cli.world import desk

commands = typer.Typer(no_args_is_help=True, help="The shared accounts of the arrays: make, show, adopt, roll.")
account_roll.add_to(commands)


@commands.command("list", epilog="Example:  casarray account list --json")
def list_accounts(context: typer.Context, store: Store = None, as_json: AsJson = False) -> None:
    """List the shared accounts, the arrays that use each, and on which servers its keys lie."""
    shares = desk(context, store).shares()
    if as_json:
        found = [
            {
                "account": share.account,
                "arrays": [array.name for array in share.arrays],
                "servers": [server.name for server in share.servers],
            }
            for share in shares
        ]
        print_json({"accounts": found})
        return
    if not shares:
        say("no array uses a shared account")
        return
    rows = [
        (
            safe(share.account),
            safe(", ".join(array.name for array in share.arrays)),
            safe(", ".join(server.name for server in share.servers)),
        )
        for share in shares
    ]
    show(table(("ACCOUNT", "ARRAYS", "SERVERS"), rows))
