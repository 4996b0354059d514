"""What Exchange calls the alternate service account of a server: what one member holds, set, cleaned up, taken away."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from casarray.app.kerberos.crew import Crew
from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.ports import AgentState
from casarray.core.directory.model import Server
from casarray.core.errors import CasarrayError, Conflict, NotFound
from casarray.core.kerberos.account import Account
from casarray.core.kerberos.account_rules import refusals
from casarray.core.kerberos.keys import Generation, Held, Holding, checks
from casarray.core.kerberos.roll import kinds_of, numbered, print_of
from casarray.core.kerberos.wanted import wanted_names

NOT_SET = "<Not set>"


def states(desk: Desk, servers: Sequence[Server]) -> dict[str, AgentState | CasarrayError]:
    """What the agents of these say of themselves, by the servers' names."""
    with Crew(desk.agents, servers) as crew:
        return crew.each(crew.names, lambda _, agent: agent.state())


def configuration(state: AgentState | CasarrayError) -> str:
    """As the property AlternateServiceAccountConfiguration says it: two lines for each account."""
    if isinstance(state, CasarrayError):
        return f"unknown: {state}"
    found = [line for held in state.held for line in _of_account(held)]
    return "\n".join(found or two_lines("", (), ()))


def two_lines(account: str, numbers: Sequence[int], made: Sequence[float]) -> tuple[str, str]:
    """``Latest: 2025-06-15 15:06:40, LAB\\asa$`` and ``Previous: <Not set>``; newest first."""
    shown = [f"{moment(when)}, {account} (key {number})" for number, when in zip(numbers, made, strict=True)]
    latest, previous = [*shown, NOT_SET, NOT_SET][:2]
    return f"Latest: {latest}", f"Previous: {previous}"


def moment(seconds: float) -> str:
    """As this machine's clock showed it then."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S") if seconds else "at an unknown time"


def _of_account(held: Held) -> Iterable[str]:
    confirmed = [one for one in held.generations if not one.pending]
    account = f"{held.realm.partition('.')[0]}\\{held.account}"
    yield from two_lines(account, [one.number for one in confirmed], [one.made for one in confirmed])
    for one in held.generations:
        if one.pending:
            yield f"Pending: {moment(one.made)}, {account} (key {one.number})"


@dataclass(frozen=True, slots=True)
class Given:
    """Keys that a password gave, for a member to hold."""

    account: Account
    generation: Generation  # pending: the directory has another password


def keys_of_password(desk: Desk, name: str, password: str, now: Callable[[], float]) -> Given:
    """The keys of a password that somebody brought. `Conflict` when the account must not be used."""
    account = desk.realm.account(name.rpartition("\\")[2].partition("@")[0])
    moment_ = now()
    if reasons := refusals(account, moment_):
        raise Conflict("; ".join(reasons))
    keys = desk.realm.keys(account, password, kinds_of(account, desk.settings.encryption))
    coming = Generation(account.number + 1, keys, moment_, pending=True)
    present = replace(numbered(coming, account.number), pending=False, made=account.set_at or moment_)
    return Given(account, coming if desk.realm.prove(account, present) else present)


def hold(desk: Desk, server: Server, given: Given) -> None:
    """Let a member hold these keys besides those it has. `Conflict` when a roll is under way there."""
    account, generation = given.account, given.generation
    with Crew(desk.agents, (server,)) as crew:
        held = crew.one(server.name, lambda agent: agent.state()).holding(account.name)
        if held and any(
            one.pending and print_of(one.checks) != print_of(checks(generation)) for one in held.generations
        ):
            raise Conflict(
                f"{server.name} holds keys of a roll of {account} that is under way or was broken off: "
                f"finish it first with casarray account roll {account.name} --all"
            )
        names = tuple(dict.fromkeys((*account.names, *_wanted(desk, account), *(held.names if held else ()))))
        crew.one(server.name, lambda agent: agent.hold(account.name, account.realm, names, generation))
        if not generation.pending:
            number, lifetime = generation.number, desk.settings.lifetime
            crew.one(server.name, lambda agent: agent.confirm(account.name, number, number, lifetime))


def _wanted(desk: Desk, account: Account) -> tuple[str, ...]:
    try:
        share = desk.share_of(account.name)
        return tuple(str(one.name) for one in wanted_names(share, desk.settings, desk.profile))
    except (NotFound, Conflict):  # no array uses it, or the names of one are wrong: the account's own are enough
        return ()


def drop(desk: Desk, server: Server) -> tuple[str, ...]:
    """Let a member forget every shared account; their names."""
    with Crew(desk.agents, (server,)) as crew:
        accounts = [held.account for held in crew.one(server.name, lambda agent: agent.state()).held]
        for account in accounts:
            crew.one(server.name, lambda agent, account=account: agent.drop(account))  # type: ignore[misc]  # mypy takes a lambda's default for an argument
    return tuple(accounts)


def clean_up(desk: Desk, server: Server, now: Callable[[], float], *, dry_run: bool = False) -> tuple[str, ...]:
    """Take away what is of no use to a member any more: ``LAB\\asa$ (key 3)`` of each.

    What the directory has is proven first, and kept, as is what tickets of before may still need. `Conflict` when
    nothing is proven: then all may be needed.
    """
    gone: list[str] = []
    with Crew(desk.agents, (server,)) as crew:
        for held in crew.one(server.name, lambda agent: agent.state()).held:
            holding = crew.one(server.name, lambda agent, name=held.account: agent.give(name))  # type: ignore[misc]  # mypy takes a lambda's default for an argument
            kept = _of_use(desk, server, holding, now())
            gone += [f"{holding.account} (key {one.number})" for one in holding.generations if one not in kept]
            if not dry_run and len(kept) < len(holding.generations):
                cleaned = replace(holding, generations=tuple(kept))
                crew.one(server.name, lambda agent, cleaned=cleaned: agent.take(cleaned))  # type: ignore[misc]  # mypy takes a lambda's default for an argument
    return tuple(gone)


def _of_use(desk: Desk, server: Server, holding: Holding, now: float) -> list[Generation]:
    account = desk.realm.account(holding.account)
    likely = [one for one in holding.generations if one.number == account.number or one.pending]
    proven = next((one for one in likely if not desk.realm.prove(account, numbered(one, account.number))), None)
    if proven is None:
        raise Conflict(
            f"{server.name} does not hold the key that the directory has for {account} (number {account.number}): "
            f"give it with casarray account roll {account.name} --server {server.name} --copy-from ANOTHER"
        )
    return [
        one
        for one in holding.generations
        if one is proven or (not one.pending and one.number < account.number and (one.until is None or one.until > now))
    ]
