"""`autodiscover`: what tells clients where their mailbox is, and what they are told."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from casarray.core.errors import NotFound
from casarray.faces.cli.directory import DryRun, Store
from casarray.faces.cli.options import AsJson, ConfigFile
from casarray.faces.cli.output import print_json, say
from casarray.faces.cli.world import Asking, service, world

if TYPE_CHECKING:
    from casarray.app.autodiscover_publishing import Publications, Publishing
    from casarray.core.autodiscover.walk import Hop
    from casarray.core.directory.ad_steps import Step

commands = typer.Typer(no_args_is_help=True, help="Tell clients where their mailbox is, and see what they are told.")

User = Annotated[str, typer.Argument(metavar="USER@DOMAIN", help="An SMTP address.")]
AsXml = Annotated[bool, typer.Option("--xml", help="The answer as clients get it.")]
MapiHttp = Annotated[bool, typer.Option("--mapi-http", help="As a client that speaks MAPI over HTTP.")]
Arrays = Annotated[
    list[str] | None, typer.Option("--array", metavar="NAME", help="Only for this array; again for more.")
]
Url = Annotated[str, typer.Option("--url", metavar="URL", help="The URL to publish; else that of the configuration.")]


@commands.command("run", epilog="Example:  casarray autodiscover run -c casarray.toml")
def run(context: typer.Context, *, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Answer clients in the foreground, without a gateway.

    Prints "ready" once it listens. SIGHUP reads the certificate anew, SIGTERM ends it. With --json, each line of the
    log on stderr is a JSON object.
    """
    around = world(context)
    raise typer.Exit(around.run_autodiscover(config or around.default_config, as_json))


@commands.command("show", epilog="Example:  casarray autodiscover show alice@domain.tld")
def show_told(
    context: typer.Context,
    user: User,
    *,
    mapi_http: MapiHttp = False,
    as_xml: AsXml = False,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """What this user's clients are told, and what is wrong with it.

    Nobody is asked over the network: the directory is read, and the answer is worked out as the server does.
    """
    from casarray.app.autodiscover import kind_of, rules_of  # noqa: PLC0415 - only what the command needs
    from casarray.core.autodiscover.decide import decide  # noqa: PLC0415 - as above
    from casarray.core.autodiscover.request import Request  # noqa: PLC0415 - as above
    from casarray.core.autodiscover.response import Refusal, write_response  # noqa: PLC0415 - as above
    from casarray.faces.cli.autodiscover_words import answer_lines, plain  # noqa: PLC0415 - as above

    around = world(context)
    rules = rules_of(around.autodiscover(), around.profile())
    directory = service(context, store).directory()
    decision = decide(directory, Request(user, mapi_http=mapi_http), rules)
    refused = isinstance(decision.response, Refusal)
    if as_xml:
        typer.echo(write_response(decision.response).decode())
    elif as_json:
        answer = {"kind": kind_of(decision.response), **plain(decision.response)}
        print_json({"user": user, "answer": answer, "notes": list(decision.notes)})
    else:
        for line in answer_lines(decision.response):
            say(line)
        for note in decision.notes:
            say(f"note: {note}")
    if refused:
        raise typer.Exit(1)


@commands.command("ask", epilog="Example:  casarray autodiscover ask alice@domain.tld --user alice@domain.tld")
def ask(
    context: typer.Context,
    user: User,
    *,
    at: Annotated[str, typer.Option("--url", metavar="URL", help="Ask there first.")] = "",
    only: Annotated[bool, typer.Option("--only", help="Ask nowhere else.")] = False,
    logon: Annotated[str, typer.Option("--user", metavar="NAME", help="Log on with this name and a password.")] = "",
    ca: Annotated[str, typer.Option("--ca", metavar="FILE", help="Certificates that may vouch, as PEM.")] = "",
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, max=300, help="For each stop of the way.")] = 10.0,
    mapi_http: MapiHttp = False,
    as_json: AsJson = False,
) -> None:
    """Walk the way of a client over the network, a line for each stop, to what it is told there.

    The password is asked for, or read from standard input.
    """
    from casarray.core.autodiscover.request import Request  # noqa: PLC0415 - only what the command needs
    from casarray.faces.cli.autodiscover_words import answer_lines, hop_line, plain, stop  # noqa: PLC0415 - as above

    password = typer.prompt(f"Password of {logon}", hide_input=True, err=True) if logon else ""

    def tell(hop: "Hop") -> None:
        if not as_json:
            say(hop_line(hop))

    asking = Asking(logon, password, ca, seconds, only, tell)
    walked = world(context).discover(Request(user, mapi_http=mapi_http), [at] if at else [], asking)
    if as_json:
        hops = [
            {"step": stop(hop), "ok": hop.ok, "words": hop.words, "seconds": hop.came.seconds} for hop in walked.hops
        ]
        answer = None if walked.response is None else plain(walked.response)
        print_json({"user": user, "url": walked.url, "answer": answer, "hops": hops})
    elif walked.response is not None:
        for line in answer_lines(walked.response):
            say(line)
    if walked.settings is None:
        raise NotFound(f"nobody tells clients of {user} their settings; the lines above say where the way ends")


@commands.command("publish", epilog="Example:  casarray autodiscover publish --dry-run")
def publish(
    context: typer.Context, *, arrays: Arrays = None, url: Url = "", dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Have every service connection point of the arrays' sites in Active Directory say the published URL.

    Those of Exchange's servers are corrected; a site that has none gets one.
    """
    _change(context, arrays, url, lambda it: it.publish(), dry_run=dry_run, as_json=as_json)


@commands.command("unpublish", epilog="Example:  casarray autodiscover unpublish --array CAS")
def unpublish(
    context: typer.Context, *, arrays: Arrays = None, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Take away the service connection points that casarray made; those of Exchange's servers stay as they are."""
    _change(context, arrays, "-", lambda it: it.unpublish(), dry_run=dry_run, as_json=as_json)


@commands.command("check", epilog="Example:  casarray autodiscover check")
def check(context: typer.Context, *, arrays: Arrays = None, url: Url = "", as_json: AsJson = False) -> None:
    """Look whether the service connection points all say the published URL. Exit code 1 when one does not."""
    with world(context).publications() as publications:
        found = _publishing(context, publications, arrays, url).check()
    if as_json:
        print_json([{"site": one.site, "words": one.words} for one in found])
    for one in () if as_json else found:
        say(one.words)
    if found:
        raise typer.Exit(1)
    if not as_json:
        say("every service connection point says the published URL")


def _publishing(
    context: typer.Context, publications: "Publications", arrays: list[str] | None, url: str
) -> "Publishing":
    from casarray.app import autodiscover_publishing as app  # noqa: PLC0415 - only what the command needs

    configured = world(context).autodiscover().url
    directory = service(context, None).directory()
    named = app.arrays_named(directory, arrays or ())
    return app.Publishing(publications, directory, app.the_url(url, configured), named)


def _change(
    context: typer.Context,
    arrays: list[str] | None,
    url: str,
    plan: "Callable[[Publishing], Sequence[Step]]",
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    from casarray.faces.cli.autodiscover_words import step_line  # noqa: PLC0415 - only what the command needs

    with world(context).publications() as publications:
        steps = plan(_publishing(context, publications, arrays, url))
        if not dry_run and steps:
            publications.perform(steps)
    lines = [step_line(step) for step in steps]
    if as_json:
        print_json({"done": not dry_run, "steps": lines})
        return
    for line in lines:
        say(line)
    say("nothing to do" if not lines else "nothing was changed: it was only tried" if dry_run else "done")
