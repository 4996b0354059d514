"""Add-, Set- and Remove-MailboxDatabaseCopy."""

from collections.abc import Iterable, Sequence
from functools import partial

from casarray.app.cmdlets.changing import Draft, carry_out
from casarray.app.cmdlets.identity import DATABASE, SERVER, find, find_server, identity
from casarray.app.cmdlets.parameters import identity_parameter, ignored, number, with_common
from casarray.app.directory import DirectoryService
from casarray.core.directory.model import Database, Directory
from casarray.core.directory.parts import with_copy, with_preference, without_copy
from casarray.core.errors import Conflict
from casarray.core.shell.cmdlet import Bound, Cmdlet, Host, Impact, Parameter, ParameterKind, Value


def add(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Add copies of databases."""

    def alter(draft: Draft, bound: Bound) -> str:
        database = _database(draft.before, identity(bound, DATABASE))
        server = find_server(draft.before, SERVER, identity(bound, SERVER, "MailboxServer"))
        preference = number(bound, "ActivationPreference")
        draft.change(database, with_copy(draft.before, draft.now(database), server.name, preference))
        return f"{database.name}\\{server.name}"

    carry_out(service, bounds, host, "Add-MailboxDatabaseCopy", alter)
    return ()


def set_(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Change the activation preference of copies."""

    def alter(draft: Draft, bound: Bound) -> str:
        database, server = _copy(draft.before, bound)
        preference = number(bound, "ActivationPreference")
        if preference is not None:
            draft.change(database, with_preference(draft.now(database), server, preference))
        return f"{database.name}\\{server}"

    carry_out(service, bounds, host, "Set-MailboxDatabaseCopy", alter)
    return ()


def remove(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Remove copies that are not active."""

    def alter(draft: Draft, bound: Bound) -> str:
        database, server = _copy(draft.before, bound)
        draft.change(database, without_copy(draft.now(database), server))
        return f"{database.name}\\{server}"

    carry_out(service, bounds, host, "Remove-MailboxDatabaseCopy", alter)
    return ()


def _copy(directory: Directory, bound: Bound) -> tuple[Database, str]:
    """``DB1\\mbx2``: a database, and the server that has the copy."""
    name, mark, server = identity(bound, DATABASE).partition("\\")
    if not mark or not server:
        raise Conflict(f'"{bound.text("Identity")}" names no copy: write DATABASE\\SERVER, like DB1\\mbx2')
    return _database(directory, name), find_server(directory, SERVER, server).name


def _database(directory: Directory, name: str) -> Database:
    database = find(directory, DATABASE, name)
    assert isinstance(database, Database)
    return database


def cmdlets(service: DirectoryService) -> tuple[Cmdlet, ...]:
    """What this file offers."""
    must = True
    preference = Parameter(
        "ActivationPreference",
        ParameterKind.INTEGER,
        help="Its place among the copies, 1 the first. The others move back for it.",
    )
    server = Parameter(
        "MailboxServer",
        mandatory=must,
        position=1,
        from_pipeline=("MailboxServer",),
        completes="server",
        help="Of the same availability group as the server where the database is active.",
    )
    copy = Parameter(
        "Identity",
        mandatory=must,
        position=0,
        from_pipeline=("Identity", ""),
        help="DATABASE\\SERVER, like DB1\\mbx2.",
    )
    lags = ignored("ReplayLagTime", "TruncationLagTime")
    return (
        Cmdlet(
            "Add-MailboxDatabaseCopy",
            partial(add, service),
            with_common(
                identity_parameter("database"),
                server,
                preference,
                more=(*lags, *ignored("SeedingPostponed", "ConfigurationOnly", kind=ParameterKind.SWITCH)),
            ),
            Impact.LOW,
            "Adds a copy of a database on another server of the availability group.",
            ("Add-MailboxDatabaseCopy DB1 -MailboxServer mbx2 -ActivationPreference 2",),
        ),
        Cmdlet(
            "Set-MailboxDatabaseCopy",
            partial(set_, service),
            with_common(copy, preference, more=lags),
            Impact.LOW,
            "Changes where a database should rather be active.",
            ("Set-MailboxDatabaseCopy DB1\\mbx2 -ActivationPreference 1",),
        ),
        Cmdlet(
            "Remove-MailboxDatabaseCopy",
            partial(remove, service),
            with_common(copy),
            Impact.HIGH,
            "Removes a copy that is not the active one.",
            ("Remove-MailboxDatabaseCopy DB1\\mbx2",),
        ),
    )
