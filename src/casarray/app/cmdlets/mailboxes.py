"""Get-, Enable-, Set- and Disable-Mailbox: who has a mailbox, in which database, under which addresses."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from casarray.app.cmdlets.changing import Draft, carry_out, made_records
from casarray.app.cmdlets.identity import DATABASE, MAILBOX, find, identity
from casarray.app.cmdlets.parameters import identity_parameter, ignored, with_common
from casarray.app.cmdlets.showing import show
from casarray.app.directory import DirectoryService
from casarray.core.directory.model import Account, Directory, Kind, Thing, key
from casarray.core.errors import Conflict
from casarray.core.shell.cmdlet import Bound, Cmdlet, Host, Impact, Parameter, ParameterKind, Value

_SMTP = "smtp:"


def get(service: DirectoryService, bounds: Sequence[Bound], _host: Host) -> Iterable[Value]:
    """The mailboxes, or those in a database."""
    return show(service, MAILBOX, bounds, _in_database)


def _in_database(directory: Directory, bound: Bound) -> Callable[[Thing], bool]:
    if not bound.given("Database"):
        return lambda _thing: True
    name = key(find(directory, DATABASE, identity(bound, DATABASE, "Database")).name)
    return lambda thing: isinstance(thing, Account) and key(thing.database) == name


def enable(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Give users a mailbox. Who is not there yet is made."""

    def alter(draft: Draft, bound: Bound) -> str:
        name = bound.text("Identity")
        known = draft.before.get(Kind.ACCOUNT, name)
        if known is not None and known.database:
            raise Conflict(f"{known.name} has a mailbox in {known.database} already: Set-Mailbox changes it")
        database = find(draft.before, DATABASE, identity(bound, DATABASE, "Database")).name
        account = replace(known or Account(name), database=database, **_fields(bound))
        if known is None:
            draft.make(account)
        else:
            draft.change(known, account)
        return account.name

    outcome = carry_out(service, bounds, host, "Enable-Mailbox", alter)
    return made_records(service, outcome, MAILBOX)


def set_(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Change the addresses of mailboxes, or where they are."""

    def alter(draft: Draft, bound: Bound) -> str:
        account = find(draft.before, MAILBOX, identity(bound, MAILBOX))
        assert isinstance(account, Account)
        fields = _fields(bound)
        if bound.given("Database"):
            fields["database"] = find(draft.before, DATABASE, identity(bound, DATABASE, "Database")).name
        draft.change(account, replace(draft.now(account), **fields))
        return account.name

    carry_out(service, bounds, host, "Set-Mailbox", alter)
    return ()


def disable(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Take users their mailbox."""

    def alter(draft: Draft, bound: Bound) -> str:
        account = find(draft.before, MAILBOX, identity(bound, MAILBOX))
        draft.remove(account)
        return account.name

    carry_out(service, bounds, host, "Disable-Mailbox", alter)
    return ()


def _fields(bound: Bound) -> dict[str, Any]:
    """What the parameters say of an account."""
    fields: dict[str, Any] = {}
    for parameter, field in (("PrimarySmtpAddress", "address"), ("DisplayName", "display_name")):
        if bound.given(parameter):
            fields[field] = bound.text(parameter).strip()
    if bound.given("EmailAddresses"):
        fields |= _addresses(bound.texts("EmailAddresses"))
    return fields


def _addresses(texts: Sequence[str]) -> dict[str, Any]:
    """As Exchange takes them: ``SMTP:`` in capitals is the primary one; those of other kinds mean nothing here."""
    primary, further = "", []
    for text in texts:
        kind, mark, rest = text.strip().partition(":")
        if mark and key(kind) != key(_SMTP[:-1]):
            continue
        address = rest if mark else kind
        if mark and kind.isupper():
            if primary:
                raise Conflict(f"-EmailAddresses has two primary addresses, {primary} and {address}: write one SMTP:")
            primary = address
        else:
            further.append(address)
    found: dict[str, Any] = {"aliases": tuple(dict.fromkeys(further))}
    return found | {"address": primary} if primary else found


def cmdlets(service: DirectoryService) -> tuple[Cmdlet, ...]:
    """What this file offers."""
    common = (
        Parameter("PrimarySmtpAddress", help="The address that the user writes from."),
        Parameter(
            "EmailAddresses",
            ParameterKind.STRINGS,
            help="All further addresses, instead of those that there are; SMTP: in capitals marks the primary one.",
        ),
        Parameter("DisplayName", help="How people are shown the user."),
    )
    database = Parameter("Database", completes="database", help="The mailbox database.")
    return (
        Cmdlet(
            "Get-Mailbox",
            partial(get, service),
            with_common(
                identity_parameter("account", mandatory=False),
                Parameter("Database", completes="database", help="Those in this database."),
                more=ignored("ResultSize"),
            ),
            synopsis="Lists the mailboxes, those in a database, or shows one.",
            examples=("Get-Mailbox -Database DB1", "Get-Mailbox alice@domain.tld | Format-List"),
        ),
        Cmdlet(
            "Enable-Mailbox",
            partial(enable, service),
            with_common(
                Parameter("Identity", mandatory=True, position=0, from_pipeline=("Name", ""), help="The logon name."),
                replace(database, mandatory=True),
                *common,
                more=ignored("Alias"),
            ),
            Impact.LOW,
            "Gives a user a mailbox. A user who is not in the directory yet is made.",
            ("Enable-Mailbox alice -Database DB1 -PrimarySmtpAddress alice@domain.tld",),
        ),
        Cmdlet(
            "Set-Mailbox",
            partial(set_, service),
            with_common(identity_parameter("account"), database, *common),
            Impact.LOW,
            "Changes the addresses of a mailbox, or the database that it is said to be in.",
            ("Set-Mailbox alice -EmailAddresses SMTP:alice@domain.tld,info@domain.tld",),
        ),
        Cmdlet(
            "Disable-Mailbox",
            partial(disable, service),
            with_common(identity_parameter("account")),
            Impact.HIGH,
            "Takes a user the mailbox. In Active Directory the user stays, in the embedded directory nothing does.",
            ("Disable-Mailbox alice",),
        ),
    )
