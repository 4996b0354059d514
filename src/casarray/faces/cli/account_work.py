"""The work of `account`: use cases, shown as tables or JSON."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import typer
from rich.text import Text

from casarray.app.kerberos import accounts as use
from casarray.app.kerberos.accounts import Done, Listed, Shown, Wanted
from casarray.app.kerberos.desk import Desk
from casarray.core.errors import Conflict
from casarray.core.kerberos.account import Account
from casarray.core.kerberos.account_rules import LAST, Finding, Grade, findings
from casarray.core.kerberos.encryption import Enctype, of_bits
from casarray.faces.cli.directory_options import How, command_line, safe
from casarray.faces.cli.output import BAD, CAUTION, complain, count, print_json, say, show, span, table
from casarray.faces.cli.spn_work import Teller
from casarray.faces.cli.world import desk

__all__ = ["How"]

GRADES = {Grade.NEVER: "cannot be shared", Grade.REFUSED: "must not be shared"}


@contextmanager
def _at(context: typer.Context, store: str | None) -> Iterator[Desk]:
    found = desk(context, store)
    try:
        yield found
        for remark in found.remarks:
            complain(f"warning: {remark}")
    finally:
        found.close()
        found.directory.store.close()


# Looking.


def show_list(context: typer.Context, store: str | None, *, as_json: bool) -> None:
    """All that arrays use."""
    with _at(context, store) as place:
        found = use.list_accounts(place)
    now = time.time()
    if as_json:
        print_json({"accounts": [_listed_fields(one, now) for one in found]})
        return
    if not found:
        say("no array uses a shared account: casarray account create NAME --array ARRAY makes one")
        return
    columns = ("ACCOUNT", "ARRAYS", "SERVERS", "KIND", "KEY VERSION", "ENCRYPTION", "PASSWORD", "FINDINGS")
    show(table(columns, [_row(one, now) for one in found], numbers=("KEY VERSION",)))
    for one in found:
        if one.trouble:
            show(Text(f"warning: {safe(one.share.account)}: {safe(one.trouble)}", CAUTION))


def _row(one: Listed, now: float) -> tuple[str, ...]:
    share, account = one.share, one.account
    arrays = ", ".join(array.name for array in share.arrays)
    first = (safe(share.account), safe(arrays), count(len(share.servers)))
    if account is None:
        return (*first, "?", "?", "?", "?", "?")
    wrong = ", ".join(finding.code for finding in findings(account, now)) or "none"
    return (*first, str(account.kind), str(account.number), _encryption(account), _age(account, now), wrong)


def _listed_fields(one: Listed, now: float) -> dict[str, object]:
    known = _account_fields(one.account, findings(one.account, now)) if one.account else {}
    return {
        "account": one.share.account,
        "arrays": [array.name for array in one.share.arrays],
        "servers": [server.name for server in one.share.servers],
        **known,
        "trouble": one.trouble,
    }


def show_one(context: typer.Context, store: str | None, name: str, *, members: bool, as_json: bool) -> None:
    """One, with all that is known of it."""
    now = time.time()
    with _at(context, store) as place:
        found = use.show_account(place, name, now, ask_members=members, tell=_Asked())
    if as_json:
        print_json(_shown_fields(found, asked=members))
        return
    show(table(("PROPERTY", "VALUE"), _properties(found, now)))
    for finding in found.findings:
        grade = GRADES.get(finding.grade)
        text = f"{grade or 'warning'}: {safe(finding.text)}"
        show(Text(text, BAD if grade else CAUTION))
    if members:
        rows = [
            (safe(one.name), ", ".join(map(str, one.numbers)) or "none", safe(one.trouble)) for one in found.members
        ]
        show(table(("MEMBER", "KEY VERSIONS", "TROUBLE"), rows))


class _Asked:
    """Tells on stderr how many members were asked, once it takes longer than people wait."""

    def __init__(self) -> None:
        self._tell = Teller()
        self._number = 0

    def __call__(self, _name: str, _why: str) -> None:
        self._number += 1
        self._tell("members asked", self._number, 0)


def _properties(found: Shown, now: float) -> list[tuple[str, str]]:
    account = found.account
    rows = [
        ("name", str(account)),
        ("realm", account.realm),
        ("kind", str(account.kind)),
        ("where", account.where),
        ("description", account.description),
        ("enabled", "yes" if account.enabled else "no"),
        ("encryption", _encryption(account)),
        ("key version", str(account.number)),
        ("password", _age(account, now)),
        ("expires", _moment(account.expires_at) or "never"),
        ("last seen", _moment(account.seen_at) or "never"),
        ("arrays", ", ".join(found.arrays) or "none"),
        ("servers", ", ".join(found.servers) or "none"),
        ("names", "\n".join(account.names) or "none"),
    ]
    return [(word, "\n".join(map(safe, value.split("\n")))) for word, value in rows]


def _shown_fields(found: Shown, *, asked: bool) -> dict[str, object]:
    fields = _account_fields(found.account, found.findings)
    fields |= {"arrays": found.arrays, "servers": found.servers}
    return fields | ({"members": found.members} if asked else {})


def _account_fields(account: Account, found: Sequence[Finding]) -> dict[str, object]:
    return {
        "name": account.name,
        "realm": account.realm,
        "kind": account.kind,
        "where": account.where,
        "description": account.description,
        "enabled": account.enabled,
        "encryption": [one.word for one in of_bits(account.encryption)],
        "encryption_bits": account.encryption,
        "key_version": account.number,
        "password_set": account.set_at,
        "expires": account.expires_at,
        "last_seen": account.seen_at,
        "names": account.names,
        "findings": [{"code": one.code, "grade": one.grade.value, "text": one.text} for one in found],
    }


def _encryption(account: Account) -> str:
    if not account.encryption:
        return "not set"
    return f"{use.words_of(of_bits(account.encryption))} ({account.encryption})"


def _age(account: Account, now: float) -> str:
    return f"{span(max(0.0, now - account.set_at))} old" if account.set_at else "never set"


def _moment(seconds: float | None) -> str:
    return datetime.fromtimestamp(min(seconds, LAST), UTC).strftime("%Y-%m-%d %H:%M UTC") if seconds else ""


# Changing.


def create(context: typer.Context, wanted: Wanted, how: How) -> None:
    """Make one."""
    _carry_out(context, how, lambda place, line: use.create(place, wanted, line, dry_run=how.dry_run))


def adopt(context: typer.Context, wanted: Wanted, how: How) -> None:
    """Take one that is there."""

    def work(place: Desk, line: str) -> Done:
        return use.adopt(place, wanted, time.time(), line, force=how.force, dry_run=how.dry_run)

    _carry_out(context, how, work)


def change_encryption(context: typer.Context, name: str, types: tuple[Enctype, ...], how: How) -> None:
    """Other encryption types."""
    _carry_out(context, how, lambda place, _: use.change_encryption(place, name, types, dry_run=how.dry_run))


def remove(context: typer.Context, name: str, how: How) -> None:
    """Delete one, when that is agreed to."""

    def work(place: Desk, _line: str) -> Done:
        if not how.yes and not how.dry_run:
            _agree(use.remove(place, name, time.time(), force=how.force, dry_run=True), how)
        return use.remove(place, name, time.time(), force=how.force, dry_run=how.dry_run)

    _carry_out(context, how, work)


def _agree(plan: Done, how: How) -> None:
    if how.as_json:
        raise Conflict("with --json nobody can be asked: say --dry-run or --yes")
    for text in plan.changes:
        say(safe(text))
    for warning in plan.warnings:
        show(Text(f"warning: {safe(warning)}", CAUTION))
    if not typer.confirm("It cannot be undone. Do it?"):
        raise Conflict("nothing was changed")


def _carry_out(context: typer.Context, how: How, work: Callable[[Desk, str], Done]) -> None:
    with _at(context, how.store) as place:
        done = work(place, command_line(context))
    if how.as_json:
        print_json(
            {
                "account": done.account,
                "done": not how.dry_run,
                "changes": done.changes,
                "warnings": done.warnings,
                "next_steps": done.next_steps,
            }
        )
        return
    for text in done.changes:
        say(safe(text))
    number = f"{count(len(done.changes))} change{'' if len(done.changes) == 1 else 's'}"
    if not done.changes:
        say("nothing to change: it is so already")
    else:
        say(f"{number} {'would be made' if how.dry_run else 'made'}")
    for warning in done.warnings:
        show(Text(f"warning: {safe(warning)}", CAUTION))
    for step in done.next_steps:
        say(f"next: {safe(step)}")
