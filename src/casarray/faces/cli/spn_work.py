"""The work of `spn`: use cases, shown as tables or JSON."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import typer
from rich.text import Text

from casarray.app.kerberos import spns as use
from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.spns import Outcome
from casarray.core.errors import Conflict, NotFound
from casarray.core.kerberos.shares import Share
from casarray.core.kerberos.spn_audit import Finding
from casarray.core.kerberos.spn_plan import Choices, Plan, Step
from casarray.faces.cli.directory_options import safe
from casarray.faces.cli.output import BAD, CAUTION, complain, count, print_json, say, show, table
from casarray.faces.cli.world import desk

PATIENCE = 2.0  # seconds without a word


@dataclass(frozen=True, slots=True)
class Meant:
    """What the options of all commands say."""

    account: str | None
    array: str | None
    store: str | None


class Teller:
    """Tells on stderr how far it is, once it takes longer than people wait."""

    def __init__(self) -> None:
        self._next = time.monotonic() + PATIENCE

    def __call__(self, activity: str, done: int, of: int) -> None:
        """Told by the use case, as often as it likes."""
        if (now := time.monotonic()) >= self._next:
            self._next = now + PATIENCE
            complain(f"{activity}: {count(done)}{f' of {count(of)}' if of else ''}")


@contextmanager
def _at(context: typer.Context, meant: Meant) -> Iterator[Desk]:
    found = desk(context, meant.store)
    try:
        yield found
        for remark in found.remarks:
            complain(remark)
    finally:
        found.close()
        found.directory.store.close()


# Plans.


def show_plans(context: typer.Context, meant: Meant, choices: Choices, *, as_json: bool) -> None:
    """What would be done."""
    with _at(context, meant) as place:
        plans = [plan for _, plan in _plans(place, meant, choices)]
    if as_json:
        print_json({"accounts": [_plan_fields(plan) for plan in plans]})
        return
    for plan in plans:
        _show_plan(plan)
        if plan.blocks:
            say(f"{plan.account}: nothing can be changed yet")
        elif plan.steps:
            say(f"{plan.account}: {_number(plan)} would be made")


def apply_plans(context: typer.Context, meant: Meant, choices: Choices, *, yes: bool, as_json: bool) -> None:
    """Do it, for one account after another."""
    if as_json and not yes:
        raise Conflict("with --json nobody can be asked: say --dry-run or --yes")
    with _at(context, meant) as place:
        plans = _plans(place, meant, choices)
        if blocked := [plan for _, plan in plans if plan.blocks]:
            raise Conflict("nothing was changed\n" + "\n".join(f"{p.account}: {b}" for p in blocked for b in p.blocks))
        if not yes and any(plan.steps for _, plan in plans):
            _ask([plan for _, plan in plans])
        done: list[Outcome] = []
        try:
            for share, plan in plans:
                done.append(use.apply(place, share, choices, plan, Teller()))
        finally:  # what was done is told, whatever came after it
            if as_json:
                print_json({"accounts": [_plan_fields(one.plan) | _outcome_fields(one) for one in done]})
            for one in () if as_json else done:
                _show_outcome(one, shown=not yes)


def _plans(place: Desk, meant: Meant, choices: Choices) -> list[tuple[Share, Plan]]:
    teller = Teller()
    shares = use.chosen(place, meant.account, meant.array)
    return [(share, use.make_plan(place, share, choices, teller)) for share in shares]


def _ask(plans: Sequence[Plan]) -> None:
    for plan in plans:
        _show_plan(plan)
    steps = sum(len(plan.steps) for plan in plans)
    if not typer.confirm(f"Make {count(steps)} change{'' if steps == 1 else 's'}?"):
        raise Conflict("nothing was changed")


def _show_plan(plan: Plan) -> None:
    if not plan.steps:
        say(f"{plan.account} has the names that its arrays need; nothing to change")
    else:
        say(f"{plan.account}:")
    for step in plan.steps:
        say(f"  {safe(str(step))}")
    for text in plan.blocks:
        show(Text(f"blocked: {safe(text)}", BAD))
    _warn(plan.warnings)


def _show_outcome(outcome: Outcome, *, shown: bool) -> None:
    plan = outcome.plan
    if not plan.steps:
        say(f"{plan.account} has the names that its arrays need; nothing to change")
    elif not shown:
        for step in plan.steps:
            say(safe(str(step)))
    if plan.steps:
        say(f"{plan.account}: {_number(plan)} made, and read back")
    if outcome.told:
        say(f"{plan.account}: told the new names to {', '.join(outcome.told)}")
    _warn([text for text in outcome.warnings if not shown or text not in plan.warnings])


def _warn(sentences: Sequence[str]) -> None:
    for text in sentences:
        show(Text(f"warning: {safe(text)}", CAUTION))


def _number(plan: Plan) -> str:
    return f"{count(len(plan.steps))} change{'' if len(plan.steps) == 1 else 's'}"


def _plan_fields(plan: Plan) -> dict[str, object]:
    steps = [_step_fields(step) for step in plan.steps]
    return {"account": plan.account, "steps": steps, "blocks": plan.blocks, "warnings": plan.warnings}


def _step_fields(step: Step) -> dict[str, object]:
    source = {"account": step.source.name, "dn": step.source.where} if step.source else None
    return {"act": step.act, "name": str(step.name), "why": step.why, "from": source}


def _outcome_fields(outcome: Outcome) -> dict[str, object]:
    return {"done": True, "names": outcome.names, "told": outcome.told, "warnings": outcome.warnings}


# What there is.


def show_audit(context: typer.Context, meant: Meant, *, as_json: bool) -> None:
    """What is wrong; exit code 1 when users see some of it."""
    with _at(context, meant) as place:
        findings = use.audit(place, meant.account, meant.array, Teller())
    seen = sum(one.visible for one in findings)
    if as_json:
        print_json({"visible": seen, "findings": findings})
    else:
        for one in findings:
            _show_finding(one)
        many = f"{count(len(findings))} finding{'' if len(findings) == 1 else 's'}"
        say(f"{many}, {count(seen)} of which users see" if findings else "nothing is wrong with the names")
    if seen:
        raise typer.Exit(1)


def _show_finding(one: Finding) -> None:
    arrays = f" ({', '.join(one.arrays)})" if one.arrays else ""
    show(Text(f"{one.kind}: {safe(one.name)}{safe(arrays)}", BAD if one.visible else CAUTION))
    rows = [("  at", where) for where in one.accounts] + [("  users", one.sees), ("  next", one.next)]
    for word, text in rows:
        say(f"{word:<8}{safe(text)}")
    say("")


def show_names(context: typer.Context, meant: Meant, *, as_json: bool) -> None:
    """The names of accounts."""
    with _at(context, meant) as place:
        found = use.listed(place, meant.account, meant.array)
    if as_json:
        print_json({"names": found})
        return
    if not found:
        say("there are no names")
        return
    rows = [
        (one.account, safe(one.name), "" if one.there and one.wanted else "missing" if one.wanted else "not wanted",
         safe(one.reason))
        for one in found
    ]  # fmt: skip
    show(table(("ACCOUNT", "NAME", "", "FOR"), rows))


def show_found(context: typer.Context, meant: Meant, name: str, *, as_json: bool) -> None:
    """Who has a name; exit code 1 when nobody has."""
    with _at(context, meant) as place:
        found = use.find(place.realm, name, Teller())
        realm = place.realm.name
    if as_json:
        print_json(
            {
                "owners": [
                    {
                        "name": one.name,
                        "account": one.owner.name,
                        "dn": one.owner.where,
                        "enabled": one.owner.enabled,
                        "stands_for": one.stands_for or None,
                    }
                    for one in found
                ]
            }
        )
    elif found:
        rows = [
            (safe(one.name), safe(one.owner.name), safe(one.owner.where), "" if one.owner.enabled else "disabled",
             f"stands for {safe(one.stands_for)}" if one.stands_for else "")
            for one in found
        ]  # fmt: skip
        show(table(("NAME", "ACCOUNT", "DN", "", ""), rows))
    if not found:
        raise NotFound(f"nobody in the forest of {realm} has {name}")
