"""`spn`: the service principal names of the shared accounts."""

from typing import Annotated

import typer

from casarray.faces.cli.directory import DryRun, Store, Yes
from casarray.faces.cli.options import AsJson

commands = typer.Typer(
    no_args_is_help=True,
    help="The service principal names that clients ask tickets for: which are needed, who has them, what is wrong.",
)

Account = Annotated[
    str | None,
    typer.Option("--account", metavar="NAME", help="Only this shared account. Default: all.", show_default=False),
]
Array = Annotated[
    str | None,
    typer.Option("--array", metavar="NAME", help="Only the account of this array. Default: all.", show_default=False),
]
Move = Annotated[bool, typer.Option("--move", help="Also take names away from other accounts that have them.")]
Prune = Annotated[bool, typer.Option("--prune", help="Also remove names that no array wants and others have set.")]
Without = Annotated[
    bool,
    typer.Option("--without-agents", help="Although some members do not tell which keys they hold. You know it."),
]
Now = Annotated[
    bool, typer.Option("--now", help="With --move: although tickets of the account that had a name are in use.")
]
Withdraw = Annotated[
    bool, typer.Option("--withdraw", help="Take the arrays' names away from the account: Kerberos is turned off.")
]


@commands.command("plan", epilog="Example:  casarray spn plan --array CAS")
def plan(
    context: typer.Context,
    *,
    account: Account = None,
    array: Array = None,
    move: Move = False,
    prune: Prune = False,
    without_agents: Without = False,
    now: Now = False,
    withdraw: Withdraw = False,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Show which names would be added, moved and removed, and what stands in the way. Changes nothing."""
    from casarray.core.kerberos.spn_plan import Choices  # noqa: PLC0415 - only what the command needs
    from casarray.faces.cli.spn_work import Meant, show_plans  # noqa: PLC0415 - as above

    choices = Choices(move, prune, without_agents, withdraw, now)
    show_plans(context, Meant(account, array, store), choices, as_json=as_json)


@commands.command("apply", epilog="Example:  casarray spn apply --array CAS --move --yes")
def apply(
    context: typer.Context,
    *,
    account: Account = None,
    array: Array = None,
    move: Move = False,
    prune: Prune = False,
    without_agents: Without = False,
    now: Now = False,
    withdraw: Withdraw = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Give the shared accounts the names that their arrays need. Shows the plan and asks.

    Nothing is changed while a member does not hold the account's current key: it would refuse the tickets.
    """
    from casarray.core.kerberos.spn_plan import Choices  # noqa: PLC0415 - as above
    from casarray.faces.cli.spn_work import Meant, apply_plans, show_plans  # noqa: PLC0415 - as above

    choices = Choices(move, prune, without_agents, withdraw, now)
    if dry_run:
        show_plans(context, Meant(account, array, store), choices, as_json=as_json)
    else:
        apply_plans(context, Meant(account, array, store), choices, yes=yes, as_json=as_json)


@commands.command("audit", epilog="Example:  casarray spn audit --json")
def audit(
    context: typer.Context,
    *,
    account: Account = None,
    array: Array = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Look through the names of the whole forest for what is wrong, and say what the users see of it.

    Exit code 1 when something is wrong that users see now.
    """
    from casarray.faces.cli.spn_work import Meant, show_audit  # noqa: PLC0415 - as above

    show_audit(context, Meant(account, array, store), as_json=as_json)


@commands.command("list", epilog="Example:  casarray spn list --account asa$")
def list_names(
    context: typer.Context,
    *,
    account: Account = None,
    array: Array = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """List the names of the shared accounts, those that they lack, and what each is for; of any account its names."""
    from casarray.faces.cli.spn_work import Meant, show_names  # noqa: PLC0415 - as above

    show_names(context, Meant(account, array, store), as_json=as_json)


@commands.command("find", epilog="Example:  casarray spn find http/mail.domain.tld")
def find(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="class/host; * and ? stand for anything; a host means all its names.")
    ],
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Say who in the forest has a name, or an alias (host/NAME) that stands for it. Exit code 1 when nobody has."""
    from casarray.faces.cli.spn_work import Meant, show_found  # noqa: PLC0415 - as above

    show_found(context, Meant(None, None, store), name, as_json=as_json)
