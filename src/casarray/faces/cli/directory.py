"""`apply` and `directory`: whole directories, seeded from a file, looked at, copied, and who changed them."""

import time
import tomllib
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from casarray.app.directory import Outcome
from casarray.core.directory import edits
from casarray.core.directory.changes import as_json as thing_json
from casarray.core.directory.model import Kind
from casarray.core.errors import Conflict
from casarray.faces.cli.options import AsJson
from casarray.faces.cli.output import CAUTION, count, print_json, say, show, table
from casarray.faces.cli.world import host_name, read_text, service, world

commands = typer.Typer(
    no_args_is_help=True, help="Look at the directory, copy it to another store, see who changed it."
)

THINGS = tuple(kind for kind in Kind if kind is not Kind.ORGANIZATION)  # there is always one: it is told by its name

Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="STORE",
        help="embedded, sqlite:FOLDER, ldap://DC or ldaps://DC. Default: what the configuration says.",
        show_default=False,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Force = Annotated[bool, typer.Option("--force", help="Also what would leave databases with a name that is gone.")]
Prune = Annotated[bool, typer.Option("--prune", help="Remove what the source does not name.")]


def add_to(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command("apply", epilog="Example:  casarray apply -f casarray.toml --dry-run")(apply)
    cli.add_typer(commands, name="directory")


def apply(
    context: typer.Context,
    *,
    file: Annotated[str, typer.Option("-f", "--file", metavar="FILE", help="The configuration to seed from.")],
    store: Store = None,
    prune: Prune = False,
    force: Force = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Put the sites, subnets, arrays and servers of a configuration file into the directory.

    Shows what would change and asks. What the directory has already is left alone, so it can be done again and again.
    """
    from casarray.app import seeding  # noqa: PLC0415 - loads all that reads configurations
    from casarray.core.config_file import load_config  # noqa: PLC0415 - as above

    around = world(context)
    text = read_text(Path(file))
    config = load_config(text, file, hostname=host_name(), environment=around.environment)
    if not config.arrays and not config.sites and not config.servers:
        raise Conflict(f"{file} has no [[site]], [[array]] or [[server]]: there is nothing to apply")
    wanted = seeding.from_file(config, tomllib.loads(text), file, prune=prune)
    mine = service(context, store)
    outcome = seeding.plan(mine, wanted, force=force)
    if _agreed(outcome, dry_run=dry_run, yes=yes, as_json=as_json):
        outcome = seeding.carry_out(mine, wanted, force=force)
    _tell(outcome, done=not dry_run, as_json=as_json, store=mine.store.name)


@commands.command("show", epilog="Example:  casarray directory show --store ldap://dc1.domain.tld")
def show_directory(context: typer.Context, store: Store = None, as_json: AsJson = False) -> None:
    """Show what the directory holds, and what in it breaks a rule."""
    from casarray.app.seeding import broken_rules  # noqa: PLC0415 - as above

    mine = service(context, store)
    snapshot = mine.snapshot()
    directory = snapshot.directory
    wrong = (*snapshot.missing, *broken_rules(directory))
    if as_json:
        things = {f"{kind}s": [thing_json(t) for t in directory.of(kind).values()] for kind in THINGS}
        about = {"store": mine.store.name, "revision": snapshot.revision, "organization": directory.organization}
        print_json(about | things | {"wrong": wrong})
        return
    say(f"{mine.store.name}: {directory.organization}, revision {snapshot.revision}")
    show(
        table(
            ("KIND", "NUMBER"), [(f"{kind}s", count(len(directory.of(kind)))) for kind in THINGS], numbers=("NUMBER",)
        )
    )
    for sentence in wrong:
        show(Text(f"warning: {sentence}", CAUTION))


@commands.command(
    "copy", epilog="Example:  casarray directory copy --from embedded --to ldap://dc1.domain.tld --dry-run"
)
def copy(
    context: typer.Context,
    *,
    source: Annotated[str, typer.Option("--from", metavar="STORE", help="Where it is now.")],
    target: Annotated[str, typer.Option("--to", metavar="STORE", help="Where it shall be, too.")],
    prune: Prune = False,
    force: Force = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Copy the whole directory from one store to another. Shows the plan and asks."""
    from casarray.app import seeding  # noqa: PLC0415 - as above

    if source == target:
        raise Conflict("--from and --to name the same store")
    there = service(context, source).snapshot()
    for sentence in there.missing:
        show(Text(f"warning: {sentence}", CAUTION))
    wanted = seeding.from_directory(there.directory, source, prune=prune)
    mine = service(context, target)
    outcome = seeding.plan(mine, wanted, force=force)
    if _agreed(outcome, dry_run=dry_run, yes=yes, as_json=as_json):
        outcome = seeding.carry_out(mine, wanted, force=force)
    _tell(outcome, done=not dry_run, as_json=as_json, store=mine.store.name)


@commands.command("history", epilog="Example:  casarray directory history --most 20")
def history(
    context: typer.Context,
    store: Store = None,
    most: Annotated[int, typer.Option("--most", min=1, max=100_000, help="So many changes, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show who changed what and when, with what stood there before and after."""
    entries = service(context, store).history(most)
    if as_json:
        print_json(
            [
                {
                    "at": entry.at,
                    "who": entry.note.who,
                    "what": entry.note.what,
                    "kind": entry.change.kind,
                    "name": entry.change.name,
                    "before": thing_json(entry.change.before),
                    "after": thing_json(entry.change.after),
                }
                for entry in entries
            ]
        )
        return
    rows = [
        (time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(e.at)), e.note.who, str(e.change), e.note.what)
        for e in entries
    ]
    if rows:
        show(table(("WHEN", "WHO", "CHANGE", "BY"), rows))
    else:
        say("nothing is known: the directory is new, or its store keeps no history")


@commands.command("organization", epilog='Example:  casarray directory organization "Contoso" --dry-run')
def organization(
    context: typer.Context,
    *,
    title: Annotated[str, typer.Argument(metavar="NAME", help="The organisation's name.")] = "",
    admin_group: Annotated[str, typer.Option("--admin-group", metavar="NAME", help="That of its group.")] = "",
    store: Store = None,
    force: Force = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Show or set the name that every legacyExchangeDN begins with. Set it before anything else is made."""
    mine = service(context, store)
    if not title and not admin_group:
        here = mine.directory()
        told = {"organization": here.organization, "admin_group": here.admin_group}
        print_json(told) if as_json else say(f"{here.organization}, {here.admin_group}")
        return
    name = partial(edits.name_organization, title=title, admin_group=admin_group)
    outcome = mine.plan(name, force=force)
    if _agreed(outcome, dry_run=dry_run, yes=yes, as_json=as_json):
        outcome = mine.change(name, f"directory organization {title}", force=force)
    _tell(outcome, done=not dry_run, as_json=as_json, store=mine.store.name)


@commands.command("schema", epilog="Example:  casarray directory schema --root DC=domain,DC=tld > schema.ldif")
def schema(
    context: typer.Context,
    store: Annotated[
        str | None, typer.Option("--store", metavar="STORE", help="Ask this Active Directory what it lacks.")
    ] = None,
    root: Annotated[
        str | None, typer.Option("--root", metavar="DN", help="All of it, for a forest of this root: DC=domain,DC=tld.")
    ] = None,
) -> None:
    """Print, as LDIF, the classes and attributes that Active Directory needs where no Exchange ever was.

    A schema administrator imports it: ldifde -i -f schema.ldif, or ldbmodify on Samba.
    """
    if (store is None) == (root is None):
        raise Conflict("name an Active Directory with --store ldap://DC, or the root of a forest with --root")
    if root is not None:
        from casarray.core.directory.ad_schema import schema_ldif  # noqa: PLC0415 - only what the command needs

        say(schema_ldif(root))
        return
    from casarray.adapters.stores.ldap_directory import LdapDirectory  # noqa: PLC0415 - as above

    there = service(context, store).store
    if not isinstance(there, LdapDirectory):
        raise Conflict(f"{there.name} is no Active Directory, and needs no schema")
    say(there.schema_ldif() or "# nothing is missing")


def _agreed(outcome: Outcome, *, dry_run: bool, yes: bool, as_json: bool) -> bool:
    """Show the plan, and ask unless told not to; whether to carry it out."""
    if not outcome.changes or dry_run:
        return False
    if yes:
        return True
    if as_json:
        raise Conflict("with --json nobody can be asked: say --dry-run or --yes")
    for change in outcome.changes:
        say(str(change))
    if not typer.confirm(f"Make {_number(outcome)}?"):
        raise Conflict("nothing was changed")
    return True


def _tell(outcome: Outcome, *, done: bool, as_json: bool, store: str) -> None:
    if as_json:
        print_json({"store": store, "done": done, "changes": [str(change) for change in outcome.changes]})
        return
    if not outcome.changes:
        say(f"{store} holds all of it already; nothing to change")
        return
    if not done:
        for change in outcome.changes:
            say(str(change))
    say(f"{store}: {_number(outcome)} {'made' if done else 'would be made'}")


def _number(outcome: Outcome) -> str:
    number = len(outcome.changes)
    return f"{count(number)} change{'s' if number > 1 else ''}"
