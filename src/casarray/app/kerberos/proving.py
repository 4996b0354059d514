"""Whether Kerberos works under the arrays' names: ask the KDC for each name, and every member one by one.

A name is asked for once; its ticket is shown to each service of each member that takes such names, at the member's own
address and under the array's name. Members are asked at the same time, each within a time limit of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.ports import AgentState
from casarray.core.directory.model import Array, Server, key
from casarray.core.errors import CasarrayError, NotFound
from casarray.core.fixed_ports.subject import effective
from casarray.core.kerberos.approach import Approach, approaches
from casarray.core.kerberos.encryption import Enctype, name_of
from casarray.core.kerberos.keys import Held
from casarray.core.kerberos.knocks import Heard
from casarray.core.kerberos.principal import Spn, parse
from casarray.core.kerberos.proof import (
    OURS,
    SKEW,
    WARNINGS,
    Evidence,
    Got,
    NoTicket,
    Trouble,
    asked_as,
    cannot_be_a_name,
    holds,
    says_itself,
    skew_of,
    trouble_of,
)
from casarray.core.kerberos.proof_words import WORDS
from casarray.core.kerberos.shares import Share
from casarray.core.kerberos.tickets import Ticket
from casarray.core.kerberos.wanted import wanted_names

SECONDS = 10.0  # for one knock
MOST_THREADS = 16
THROUGH = "(through the array)"


class Knocker(Protocol):
    """Our tickets, and the way to the members. All calls block, and may come from several threads."""

    @property
    def owner(self) -> str:
        """Our principal, once there was a ticket."""

    def get(self, name: str) -> Got | NoTicket:
        """A ticket for ``class/host``."""

    def knock(self, way: Approach, name: str, host: str, address: str, seconds: float) -> Heard:
        """Show that ticket at an address, under the name ``host``. Raises nothing."""

    def forget(self) -> None:
        """Get all tickets anew from now on."""

    def close(self) -> None:
        """Forget them. Twice is once."""


class Verdict(StrEnum):
    """What one step came to."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was looked at."""

    what: str  # ticket, agent, member
    verdict: Verdict
    text: str
    array: str
    name: str = ""
    server: str = ""
    service: str = ""
    trouble: Trouble | None = None
    sees: str = ""  # what users see of the trouble
    next: str = ""  # what to do
    version: int | None = None  # of the ticket's key
    encryption: str = ""  # of the ticket
    mechanism: str = ""  # by which the member took it
    answered_by: str = ""  # what the server calls itself


Tell = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be tested; empty: all of it."""

    array: str = ""
    name: str = ""  # one name only, whether it is wanted or not
    server: str = ""
    service: str = ""  # as the array calls it, or the class of its names
    path: str = ""  # HTTP: instead of the service's own
    through_array: bool = False  # at the arrays' addresses, too
    seconds: float = SECONDS

    def chooses(self, way: Approach) -> bool:
        """Whether it means this service."""
        return not self.service or self.service.casefold() in (way.service.casefold(), way.kind.casefold())


@dataclass(frozen=True, slots=True)
class _Place:
    """A member, or the array itself."""

    server: str
    addresses: tuple[str, ...]
    fqdn: str = ""  # of a member


@dataclass(slots=True)
class _Round:
    """One array: what is tested, and what is known so far."""

    desk: Desk
    knocker: Knocker
    share: Share
    array: Array
    wish: Wish
    tell: Tell
    now: Callable[[], float]
    states: dict[str, AgentState] = field(default_factory=dict)  # of members' agents, by server
    asked_at: dict[str, float] = field(default_factory=dict)
    said: dict[str, Trouble] = field(default_factory=dict)  # a member's own reason, by server
    steps: list[Step] = field(default_factory=list)

    def add(self, step: Step) -> None:
        """One more."""
        self.steps.append(step)
        self.tell(step)


def prove(desk: Desk, knocker: Knocker, wish: Wish, tell: Tell, now: Callable[[], float]) -> tuple[Step, ...]:
    """Test it, and tell each step as it is done. `NotFound` when there is nothing to test.

    ``now``: seconds since the epoch.
    """
    chosen = _chosen(desk, wish)
    steps: list[Step] = []
    for share, array in chosen:
        round_ = _Round(desk, knocker, share, array, wish, tell, now)
        _prove_array(round_)
        steps += round_.steps
        if any(one.trouble in OURS for one in round_.steps):
            break  # the next array would hear the same
    return tuple(steps)


def failed(steps: Sequence[Step]) -> tuple[Step, ...]:
    """What users see, or will."""
    return tuple(one for one in steps if one.verdict is Verdict.FAILED)


def _chosen(desk: Desk, wish: Wish) -> list[tuple[Share, Array]]:
    found = [(share, array) for share in desk.shares() for array in share.arrays]
    if not found:
        raise NotFound(
            "no array has a shared account: set account under [kerberos] in the configuration, then casarray spn plan"
        )
    if wish.array:
        found = [pair for pair in found if key(pair[1].name) == key(wish.array)]
        if not found:
            raise NotFound(f"there is no array {wish.array} with a shared account; casarray array list shows them")
    if wish.server:
        found = [pair for pair in found if pair[0].server(wish.server) is not None]
        if not found:
            raise NotFound(f"{wish.server} is no member of these arrays; casarray server list shows them")
    return found


def _prove_array(round_: _Round) -> None:
    names, ways = _names(round_), _ways(round_)
    places = _places(round_)
    tickets: list[tuple[Spn, Ticket]] = []
    for name in names:
        got = _ticket(round_, name)
        if isinstance(got, Ticket):
            tickets.append((name, got))
        elif got in OURS:
            return
    if not tickets:
        return
    _ask_agents(round_, places)
    _compare(round_, [ticket for _, ticket in tickets])
    asked = [
        _Question(name, ticket, way, place, address)
        for name, ticket in tickets
        for way in ways
        if way.takes(name)
        for place in places
        for address in place.addresses
    ]
    idle = [name for name, _ in tickets if not any(one.name == name for one in asked)]
    for name in idle:
        round_.add(_step(round_, Trouble.NOT_ASKED, "member", name))
    _ask_members(round_, asked)


# Names and tickets.


def _names(round_: _Round) -> list[Spn]:
    if round_.wish.name:
        return [parse(round_.wish.name)]
    wanted = wanted_names(round_.share, round_.desk.settings, round_.desk.profile)
    ways = _ways(round_)
    mine = [one.name for one in wanted if one.array == round_.array.name]
    return [name for name in mine if not round_.wish.service or any(way.takes(name) for way in ways)]


def _ways(round_: _Round) -> list[Approach]:
    found = [way for way in approaches(effective(round_.array, round_.desk.profile)) if round_.wish.chooses(way)]
    if round_.wish.service and not found:
        raise NotFound(
            f"{round_.array.name} has no service {round_.wish.service} that takes tickets; "
            f"casarray array show {round_.array.name} shows its services"
        )
    return [replace(way, path=round_.wish.path) if round_.wish.path else way for way in found]


def _ticket(round_: _Round, name: Spn) -> Ticket | Trouble:
    """The ticket for a name, and a step for it."""
    if cannot_be_a_name(name):
        round_.add(_step(round_, Trouble.NOT_A_NAME, "ticket", name))
        return Trouble.NOT_A_NAME
    asked = str(name) if round_.wish.name else asked_as(name)
    got = round_.knocker.get(asked)
    if isinstance(got, NoTicket):
        trouble = got.trouble
        owners: tuple[str, ...] = ()
        if trouble in (Trouble.MISSING_NAME, Trouble.DUPLICATE_NAME, Trouble.KDC_REFUSES):
            owners = _owners(round_, name)
            # Samba's KDC says of a name that two have that it does not know it.
            trouble = Trouble.DUPLICATE_NAME if len(owners) > 1 else trouble
        round_.add(_step(round_, trouble, "ticket", name, detail=got.detail, owners=owners))
        return trouble
    ticket = got.ticket
    if ticket.enctype == Enctype.RC4:
        round_.add(_step(round_, Trouble.RC4, "ticket", name, ticket=ticket))
    else:
        text = f"{asked}: version {ticket.version}, {name_of(ticket.enctype)}, realm {ticket.realm}"
        fine = Step("ticket", Verdict.OK, text, round_.array.name, str(name))
        round_.add(replace(fine, version=ticket.version, encryption=name_of(ticket.enctype)))
    return ticket


def _owners(round_: _Round, name: Spn) -> tuple[str, ...]:
    """Who has the name, as far as the directory can be asked; what stands for it (host/NAME) counts if nobody has."""
    try:
        found = round_.desk.realm.owners([name, *([name.alias] if name.alias else [])])
    except CasarrayError:
        return ()
    mine = found.get(name) or (found.get(name.alias, ()) if name.alias else ())
    return tuple(owner.name for owner in mine)


# Members' agents.


def _places(round_: _Round) -> list[_Place]:
    servers = round_.share.servers
    if round_.wish.server:
        found = round_.share.server(round_.wish.server)
        servers = (found,) if found else ()
    mine = [server for server in servers if key(server.site) == key(round_.array.site)]
    places = [_Place(server.name, _addresses(server), server.fqdn) for server in mine]
    if round_.wish.through_array:
        places.append(_Place(THROUGH, tuple(map(str, round_.array.addresses)) or (round_.array.fqdn,)))
    return places


def _addresses(server: Server) -> tuple[str, ...]:
    return tuple(map(str, server.addresses)) or (server.fqdn,)


def _ask_agents(round_: _Round, places: Sequence[_Place]) -> None:
    """What the members hold; those without an agent, or that do not answer us, are left out: it is only a help."""
    members = [place for place in places if place.fqdn]
    if not members:
        return
    with ThreadPoolExecutor(min(MOST_THREADS, len(members))) as pool:
        for place, state in zip(members, pool.map(lambda place: _state(round_, place.fqdn), members), strict=True):
            if state is not None:
                round_.states[place.server] = state
                round_.asked_at[place.server] = round_.now()


def _state(round_: _Round, host: str) -> AgentState | None:
    try:
        agent = round_.desk.agents.reach(host)
        try:
            return agent.state()
        finally:
            agent.close()
    except CasarrayError:
        return None


def _compare(round_: _Round, tickets: Sequence[Ticket]) -> None:
    """Say of each agent's member whether its keys would read the tickets."""
    kinds = {(ticket.enctype, ticket.version): ticket for ticket in tickets}
    for server, state in sorted(round_.states.items()):
        held = state.holding(round_.share.account)
        lacking = [ticket for ticket in kinds.values() if held is None or not holds(held, ticket)]
        if lacking:
            evidence = Evidence(lacking[0], held, agent=True)
            step = _step(round_, Trouble.STALE, "agent", None, ticket=lacking[0], server=server, evidence=evidence)
            round_.add(step)
        elif (skew := _skew(round_, server)) is not None and abs(skew) > SKEW:
            round_.add(_step(round_, Trouble.CLOCK, "agent", None, server=server, skew=skew))
        else:
            text = f"{server}: its agent holds the tickets' keys"
            round_.add(Step("agent", Verdict.OK, text, round_.array.name, server=server))


def _skew(round_: _Round, server: str) -> float | None:
    state = round_.states.get(server)
    return None if state is None else state.now - round_.asked_at[server]


# Members.


@dataclass(frozen=True, slots=True)
class _Question:
    """One knock."""

    name: Spn
    ticket: Ticket
    way: Approach
    place: _Place
    address: str


def _ask_members(round_: _Round, asked: Sequence[_Question]) -> None:
    """All of them at the same time; a step for each as it is answered, the refusals without a reason at the end."""
    if not asked:
        return
    unexplained: list[tuple[_Question, Heard]] = []
    with ThreadPoolExecutor(min(MOST_THREADS, len(asked))) as pool:
        futures = {pool.submit(_knock, round_, one): one for one in asked}
        for future in as_completed(futures):
            question, heard = futures[future], future.result()
            if (reason := says_itself(heard)) is not None:
                round_.said.setdefault(question.place.server, reason)
            if _trouble(round_, question, heard) is Trouble.REFUSED:
                unexplained.append((question, heard))
            else:
                round_.add(_member_step(round_, question, heard))
    for question, heard in unexplained:
        round_.add(_member_step(round_, question, heard))


def _knock(round_: _Round, one: _Question) -> Heard:
    name = str(one.name) if round_.wish.name else asked_as(one.name)
    return round_.knocker.knock(one.way, name, one.name.host, one.address, round_.wish.seconds)


def _evidence(round_: _Round, question: _Question, owners: tuple[str, ...] = ()) -> Evidence:
    server = question.place.server
    state = round_.states.get(server)
    return Evidence(
        question.ticket,
        None if state is None else state.holding(round_.share.account),
        agent=state is not None,
        skew=_skew(round_, server),
        owners=owners,
        account=round_.share.account,
        elsewhere=round_.said.get(server),
    )


def _trouble(round_: _Round, question: _Question, heard: Heard) -> Trouble | None:
    return trouble_of(heard, _evidence(round_, question))


def _member_step(round_: _Round, question: _Question, heard: Heard) -> Step:
    way, server = question.way, question.place.server
    evidence = _evidence(round_, question)
    trouble = trouble_of(heard, evidence)
    owners: tuple[str, ...] = ()
    if trouble in (Trouble.WRONG_KEY, Trouble.STALE, Trouble.REFUSED, Trouble.NAME_NOT_HELD):
        owners = _owners(round_, question.name)
        evidence = _evidence(round_, question, owners)
        trouble = trouble_of(heard, evidence)
    if trouble is None:
        text = f"{server} {way}: takes {question.name} by Kerberos and proves it ({heard.detail})"
        return Step(
            "member", Verdict.OK, text, round_.array.name, str(question.name), server, way.service,
            version=question.ticket.version, encryption=name_of(question.ticket.enctype), mechanism="Kerberos",
            answered_by=heard.by,
        )  # fmt: skip
    return _step(
        round_, trouble, "member", question.name, ticket=question.ticket, server=server, way=way, heard=heard,
        owners=owners, evidence=evidence, skew=skew_of(heard, evidence, round_.now()),
    )  # fmt: skip


def _step(
    round_: _Round,
    trouble: Trouble,
    what: str,
    name: Spn | None,
    *,
    ticket: Ticket | None = None,
    server: str = "",
    way: Approach | None = None,
    heard: Heard | None = None,
    detail: str = "",
    owners: Sequence[str] = (),
    evidence: Evidence | None = None,
    skew: float | None = None,
) -> Step:
    """A step of a trouble, in its words."""
    places = {
        "name": name or "the names",
        "fqdn": round_.array.fqdn,
        "array": round_.array.name,
        "account": round_.share.account,
        "server": server,
        "service": way or "the service",
        "detail": (heard.detail if heard else detail) or "no reason given",
        "owners": ", ".join(owners) or "see casarray spn audit",
        "realm": ticket.realm if ticket else "another one",
        "version": ticket.version if ticket else "?",
        "enctype": name_of(ticket.enctype) if ticket else "?",
        "held": _held(evidence),
        "skew": _skew_words(skew),
        "most": f"{SKEW / 60:.0f}",
        "principal": round_.knocker.owner or "us",
    }
    words = WORDS[trouble]
    verdict = Verdict.WARNING if trouble in WARNINGS else Verdict.FAILED
    return Step(
        what, verdict, words.says.format_map(places), round_.array.name, str(name) if name else "", server,
        way.service if way else "", trouble, words.sees.format_map(places), words.next.format_map(places),
        ticket.version if ticket else None, name_of(ticket.enctype) if ticket else "",
        answered_by=heard.by if heard else "",
    )  # fmt: skip


def _held(evidence: Evidence | None) -> str:
    if evidence is None or not evidence.agent:
        return "an older one, or one of another type"
    return _versions(evidence.held)


def _versions(held: Held | None) -> str:
    if held is None or not held.generations:
        return "none of the account"
    return ", ".join(_checks(held)) or "none of the account"


def _checks(held: Held) -> Iterator[str]:
    seen = {" ".join(check.split(" ")[:2]) for generation in held.generations for check in generation.checks}
    for text in sorted(seen):
        word, _, number = text.partition(" ")
        yield f"version {number} {word}"


def _skew_words(skew: float | None) -> str:
    if skew is None or abs(skew) <= SKEW:
        return ""
    size = f"{abs(skew) / 60:.0f} minutes" if abs(skew) < 7200 else f"{abs(skew) / 3600:.0f} hours"
    return f": it is {size} {'ahead' if skew > 0 else 'behind'}"
