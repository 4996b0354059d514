"""`account`: the shared accounts, under which the members of arrays read tickets for the arrays' names."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from casarray.faces.cli import account_roll
from casarray.faces.cli.directory import DryRun, Store, Yes
from casarray.faces.cli.options import AsJson

if TYPE_CHECKING:
    from casarray.app.kerberos.accounts import Wanted

commands = typer.Typer(no_args_is_help=True, help="The shared accounts of the arrays: make, show, adopt, roll.")
account_roll.add_to(commands)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name, with or without the $ of a computer account.")]
Arrays = Annotated[
    list[str] | None,
    typer.Option(
        "--array",
        metavar="ARRAY",
        help="An array that is to use it; again for more. Default: all that have none of their own, as soon as the "
        "configuration names it.",
        show_default=False,
    ),
]
Encryption = Annotated[
    str,
    typer.Option(
        "--encryption",
        metavar="TYPES",
        help="aes, exchange (AES and RC4, which is 28), or some of aes256, aes128, rc4 with commas between.",
        show_default=False,
    ),
]


class Kind(StrEnum):
    """What an account can be made as."""

    COMPUTER = "computer"
    USER = "user"


@commands.command("list", epilog="Example:  casarray account list --json")
def list_accounts(context: typer.Context, store: Store = None, as_json: AsJson = False) -> None:
    """List the shared accounts, the arrays that use each, and on which servers its keys belong."""
    from casarray.faces.cli import account_work as work  # noqa: PLC0415 - only what the command needs

    work.show_list(context, store, as_json=as_json)


@commands.command("show", epilog="Example:  casarray account show asa$ --members")
def show(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="[NAME]", help="Its name. Default: the only one that arrays use.", show_default=False),
    ] = "",
    *,
    members: Annotated[bool, typer.Option("--members", help="Ask each member which keys it holds, too.")] = False,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Show an account: its names, key version and encryption, who uses it, and what is wrong with it."""
    from casarray.faces.cli import account_work as work  # noqa: PLC0415 - only what the command needs

    work.show_one(context, store, name, members=members, as_json=as_json)


@commands.command("create", epilog="Example:  casarray account create asa$ --array CAS")
def create(
    context: typer.Context,
    name: Name,
    *,
    kind: Annotated[Kind, typer.Option("--kind", help="A computer account needs no care for its password.")] = (
        Kind.COMPUTER
    ),
    encryption: Encryption = "",
    description: Annotated[
        str, typer.Option("--description", help="What others should know of it.", show_default=False)
    ] = "",
    array: Arrays = None,
    store: Store = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make a shared account, with a password that nobody knows, and let arrays use it."""
    from casarray.faces.cli import account_work as work  # noqa: PLC0415 - only what the command needs

    how = work.How(store, dry_run, as_json=as_json)
    work.create(context, _wanted(name, kind, encryption, description, array), how)


@commands.command("adopt", epilog="Example:  casarray account adopt asa$ --array CAS --array BER")
def adopt(
    context: typer.Context,
    name: Name,
    *,
    array: Arrays = None,
    store: Store = None,
    force: Annotated[bool, typer.Option("--force", help="Also one that has something against it.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Take an account that is there for the shared one, unless something is against it, and let arrays use it."""
    from casarray.faces.cli import account_work as work  # noqa: PLC0415 - only what the command needs

    how = work.How(store, dry_run, force, as_json=as_json)
    work.adopt(context, _wanted(name, Kind.COMPUTER, "", "", array), how)


@commands.command("encryption", epilog="Example:  casarray account encryption asa$ --encryption exchange")
def encryption(
    context: typer.Context,
    name: Name,
    *,
    encryption: Encryption,
    store: Store = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Say with which types tickets for the account are encrypted; keys of new types come with its next password."""
    from casarray.app.kerberos.accounts import encryption_of  # noqa: PLC0415 - only what the command needs
    from casarray.faces.cli import account_work as work  # noqa: PLC0415 - as above

    work.change_encryption(context, name, encryption_of(encryption), work.How(store, dry_run, as_json=as_json))


@commands.command("remove", epilog="Example:  casarray account remove asa$ --dry-run")
def remove(
    context: typer.Context,
    name: Name,
    *,
    store: Store = None,
    force: Annotated[bool, typer.Option("--force", help="Although arrays use it, or it has names.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete a shared account that no array uses and that has no names any more."""
    from casarray.faces.cli import account_work as work  # noqa: PLC0415 - only what the command needs

    work.remove(context, name, work.How(store, dry_run, force, yes, as_json))


def _wanted(name: str, kind: Kind, encryption: str, description: str, arrays: list[str] | None) -> "Wanted":
    from casarray.app.kerberos.accounts import Wanted, encryption_of  # noqa: PLC0415 - only what the command needs
    from casarray.core.kerberos.account import AccountKind  # noqa: PLC0415 - as above

    types = encryption_of(encryption) if encryption else ()
    return Wanted(name, AccountKind(str(kind)), types, description, tuple(arrays or ()))
