"""Get-, New-, Set- and Remove-MailboxDatabase, and Move-ActiveMailboxDatabase."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from casarray.app.cmdlets.changing import Draft, carry_out, made_records, nothing_to_say
from casarray.app.cmdlets.identity import ARRAY, DATABASE, MAILBOX_SERVER, SERVER, all_of, find, identity, piped_kind
from casarray.app.cmdlets.parameters import identity_parameter, ignored, server_parameter, with_common
from casarray.app.cmdlets.records import record
from casarray.app.cmdlets.showing import show
from casarray.app.directory import DirectoryService, Outcome
from casarray.core.directory import edits
from casarray.core.directory.lookup import array_of_site, by_fqdn
from casarray.core.directory.model import Array, Database, Directory, Kind, Server, Thing, key
from casarray.core.directory.parts import next_server, some
from casarray.core.errors import Conflict, NotFound
from casarray.core.shell.cmdlet import Bound, Cmdlet, Host, Impact, Parameter, ParameterKind, Value


def get(service: DirectoryService, bounds: Sequence[Bound], _host: Host) -> Iterable[Value]:
    """The databases, or those with a copy on a server."""
    return show(service, DATABASE, [_by_server(bound) for bound in bounds], _on_server)


def _by_server(bound: Bound) -> Bound:
    """A server that the pipeline brings is one to list the databases of, as in Exchange."""
    if piped_kind(bound) is not Kind.SERVER or not bound.given("Identity"):
        return bound
    values = {name: value for name, value in bound.values.items() if name != "Identity"}
    return Bound({"Server": bound.values["Identity"], **values}, bound.input)


def _on_server(directory: Directory, bound: Bound) -> Callable[[Thing], bool]:
    if not bound.given("Server"):
        return lambda _thing: True
    if bound.given("Identity"):
        raise Conflict("-Identity and -Server cannot be used together: name a database, or the server to look at")
    server = key(find(directory, MAILBOX_SERVER, identity(bound, SERVER, "Server")).name)
    return lambda thing: isinstance(thing, Database) and server in {key(copy.server) for copy in thing.copies}


def new(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Make a database. Its clients are told its site's array by itself."""

    def alter(draft: Draft, bound: Bound) -> str:
        server = find(draft.before, MAILBOX_SERVER, identity(bound, SERVER, "Server"))
        draft.make(edits.database(draft.before, bound.text("Name"), server.name))
        return bound.text("Name")

    outcome = carry_out(service, bounds, host, "New-MailboxDatabase", alter)
    return made_records(service, outcome, DATABASE)


def set_(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Change databases, above all whom their clients are told."""

    def alter(draft: Draft, bound: Bound) -> str:
        database = find(draft.before, DATABASE, identity(bound, DATABASE))
        fields: dict[str, object] = {"name": bound.text("Name")} if bound.given("Name") else {}
        if bound.given("RpcClientAccessServer"):
            fields["rpc_client_access_server"] = _rpc_server(draft.before, bound)
        draft.change(database, edits.altered(draft.before, draft.now(database), **fields))
        return database.name

    told = any(bound.given("RpcClientAccessServer") for bound in bounds)
    carry_out(service, bounds, host, "Set-MailboxDatabase", alter, warn=_far_from_home if told else nothing_to_say)
    return ()


def _rpc_server(directory: Directory, bound: Bound) -> str:
    """An array or client access server, by any of its names."""
    text = bound.text("RpcClientAccessServer")
    if not text.strip():
        raise Conflict("-RpcClientAccessServer is empty: name a client access array, like cas.domain.tld")
    for noun in (ARRAY, SERVER):
        try:
            thing = find(directory, noun, text)
        except NotFound:
            continue
        assert isinstance(thing, Array | Server)
        return thing.fqdn
    return text


def _far_from_home(outcome: Outcome) -> Iterator[str]:
    """Databases that would send their clients through another site, or past the array of their own."""
    far: dict[str, list[str]] = {}
    past: dict[str, list[str]] = {}
    for change in outcome.changes:
        database = change.after
        if not isinstance(database, Database):
            continue
        named = by_fqdn(outcome.after, database.rpc_client_access_server)
        home = outcome.after.servers.get(key(database.active_server))
        if named is None or home is None:
            continue
        array = array_of_site(outcome.after, home.site)
        if key(named.site) != key(home.site):
            far.setdefault(named.fqdn, []).append(f"{database.name} ({home.site})")
        elif array is not None and not isinstance(named, Array):
            past.setdefault(array.fqdn, []).append(database.name)
    for fqdn, names in far.items():
        yield f"{fqdn} serves another site than the one where these databases are active: {some(names)}"
    for fqdn, names in past.items():
        yield f"clients of {some(names)} are told a server, although the site has the array {fqdn}"


def remove(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Remove databases."""

    def alter(draft: Draft, bound: Bound) -> str:
        database = find(draft.before, DATABASE, identity(bound, DATABASE))
        draft.remove(database)
        return database.name

    carry_out(service, bounds, host, "Remove-MailboxDatabase", alter)
    return ()


def move(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Make another copy of a database the active one; with -Server, of all that are active there."""

    def alter(draft: Draft, bound: Bound) -> str:
        databases = _to_move(draft.before, bound)
        wanted = ""
        if bound.given("ActivateOnServer"):
            wanted = find(draft.before, MAILBOX_SERVER, identity(bound, SERVER, "ActivateOnServer")).name
        for database in databases:
            now = draft.now(database)
            draft.change(database, edits.moved(draft.before, now, wanted or next_server(now)))
        return some([database.name for database in databases])

    outcome = carry_out(service, bounds, host, "Move-ActiveMailboxDatabase", alter)
    if outcome is None:
        return ()
    moved = [change.after.name for change in outcome.changes if change.after is not None]
    return (record(outcome.after, DATABASE, outcome.after.databases[key(name)]) for name in moved)


def _to_move(directory: Directory, bound: Bound) -> list[Database]:
    if bound.given("Server") == bound.given("Identity"):
        raise Conflict("name a database to move with -Identity, or with -Server the server that all shall leave")
    if bound.given("Identity"):
        found: list[Thing] = [find(directory, DATABASE, identity(bound, DATABASE))]
    else:
        server = find(directory, MAILBOX_SERVER, identity(bound, SERVER, "Server"))
        found = [
            thing
            for thing in all_of(directory, DATABASE)
            if isinstance(thing, Database) and key(thing.active_server) == key(server.name)
        ]
        if not found:
            raise NotFound(f"no database is active on {server.name}: there is nothing to move")
    return [thing for thing in found if isinstance(thing, Database)]


_TOLD = (
    "Whom clients are told: the FQDN (or another name) of a client access array, or of a client access server. "
    "Always the array, where there is one."
)


def cmdlets(service: DirectoryService) -> tuple[Cmdlet, ...]:
    """What this file offers."""
    must = True
    return (
        Cmdlet(
            "Get-MailboxDatabase",
            partial(get, service),
            with_common(
                identity_parameter("database", mandatory=False),
                Parameter("Server", completes="server", help="Those with a copy on this server."),
                more=ignored(
                    "Status",
                    "IncludePreExchange2007",
                    "IncludePreExchange2010",
                    "DumpsterStatistics",
                    kind=ParameterKind.SWITCH,
                ),
            ),
            synopsis="Lists the mailbox databases, those of a server, or shows one.",
            examples=(
                "Get-MailboxDatabase | Format-Table Name,Server,RpcClientAccessServer",
                "Get-MailboxServer mbx1 | Get-MailboxDatabase",
            ),
        ),
        Cmdlet(
            "New-MailboxDatabase",
            partial(new, service),
            with_common(
                Parameter("Name", mandatory=must, position=0, from_pipeline=("Name",), help="Its name."),
                server_parameter(),
                more=ignored("EdbFilePath", "LogFolderPath"),
            ),
            Impact.LOW,
            "Makes a mailbox database on a server. Its clients are told the array of the server's site by itself.",
            ("New-MailboxDatabase DB1 -Server mbx1",),
        ),
        Cmdlet(
            "Set-MailboxDatabase",
            partial(set_, service),
            with_common(
                identity_parameter("database"),
                Parameter("Name", help="Another name."),
                Parameter("RpcClientAccessServer", completes="array", help=_TOLD),
            ),
            Impact.LOW,
            "Changes mailbox databases, above all whom their clients are told.",
            ("Get-MailboxDatabase | Set-MailboxDatabase -RpcClientAccessServer cas.domain.tld",),
        ),
        Cmdlet(
            "Remove-MailboxDatabase",
            partial(remove, service),
            with_common(identity_parameter("database")),
            Impact.HIGH,
            "Removes a mailbox database without mailboxes from the directory, with all its copies.",
            ("Remove-MailboxDatabase DB1",),
        ),
        Cmdlet(
            "Move-ActiveMailboxDatabase",
            partial(move, service),
            with_common(
                identity_parameter("database", mandatory=False),
                Parameter("ActivateOnServer", position=1, completes="server", help="Default: the most preferred."),
                Parameter("Server", completes="server", help="Move all databases that are active on this server."),
                more=(
                    *ignored("MoveComment", "MountDialOverride"),
                    *ignored(
                        "SkipActiveCopyChecks",
                        "SkipClientExperienceChecks",
                        "SkipHealthChecks",
                        "SkipLagChecks",
                        kind=ParameterKind.SWITCH,
                    ),
                ),
            ),
            Impact.HIGH,
            "Makes the copy of a database on another server the active one (a switchover).",
            ("Move-ActiveMailboxDatabase DB1 -ActivateOnServer mbx2", "Move-ActiveMailboxDatabase -Server mbx1"),
        ),
    )
