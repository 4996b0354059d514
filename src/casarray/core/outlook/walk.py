"""The whole walk: names, what Autodiscover tells, the array, every member one by one, and which of them differs."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Final

from casarray.core.autodiscover.response import EXCH, EXPR, Protocol, RedirectAddress, RedirectUrl, Refusal, Settings
from casarray.core.forwarding.table import Address
from casarray.core.outlook.asking import (
    Certificate,
    Discovered,
    Walk,
    Way,
    Went,
    certificate,
    discover,
    reach,
    resolve,
    tell,
)
from casarray.core.outlook.journey import Findings, Journey, Mailbox
from casarray.core.outlook.rpc_walk import walk_rpc
from casarray.core.outlook.verdicts import Result, Scenario, Step, Trouble, troubled
from casarray.core.profiles import MAPPER_PORT

HTTPS: Final = 443


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be walked."""

    server: str  # the array, or the server, as steps show it
    name: str  # its FQDN
    mailbox: Mailbox = field(default_factory=Mailbox)
    own_addresses: tuple[Address, ...] = ()  # the array's by the directory; empty: whatever the name says
    journey: Journey | None = None  # to the array itself; its host is found out on the way
    members: tuple[Journey, ...] = ()
    discover: bool = False
    outside: bool = False
    database: str = ""  # the mailbox's
    told: str = ""  # the name that clients of the mailbox's database are told by the directory
    told_known: bool = True  # whether that is an array or a server that the directory knows
    http: bool = False  # RPC over HTTP instead of TCP
    proxy: str = ""  # its proxy, unless Autodiscover names another
    mapper_port: int = MAPPER_PORT
    known: tuple[tuple[str, str], ...] = ()  # addresses of members, and whose they are


@dataclass(slots=True)
class Walked:
    """All that was found out."""

    steps: list[Step] = field(default_factory=list)
    findings: list[Findings] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether a client stopped anywhere."""
        return any(step.result is Result.FAILURE for step in self.steps)


class _Stopped(Exception):
    """A client would not get on from here."""


def walk(plan: Plan) -> Walk[Walked]:
    """Everything that the plan wants; members are asked whatever became of the array."""
    walked = Walked()
    walker = _Walker(plan, walked)
    with suppress(_Stopped):
        yield from walker.to_the_array()
    for journey in plan.members if walker.may_reach_members else ():
        yield from walker.rpc(journey)
    yield from walker.compare()
    yield from walker.identify()
    return walked


class _Walker:
    """A walk under way."""

    def __init__(self, plan: Plan, walked: Walked) -> None:
        self._plan = plan
        self._walked = walked
        self._proxy = plan.proxy
        self._mailbox = plan.mailbox

    @property
    def may_reach_members(self) -> bool:
        """Over HTTP there has to be a proxy."""
        return not self._plan.http or bool(self._proxy)

    def to_the_array(self) -> Walk[None]:
        plan = self._plan
        if plan.told:
            yield from self._directory()
        addresses = yield from self._inside()
        if plan.outside:
            yield from self._outside()
        if plan.discover:
            yield from self._autodiscover()
        if plan.http and not self._proxy:
            step = self._step(Scenario.PROXY, plan.name)
            yield from self._tell(troubled(step, Trouble.NO_PROXY))
        if plan.journey is None:
            return
        host = str(addresses[0])
        own = (*map(str, plan.own_addresses or addresses),)
        journey = replace(plan.journey, host=host, own_addresses=own, mailbox=self._mailbox)
        yield from self.rpc(replace(journey, host=plan.name) if plan.http else journey)

    def rpc(self, journey: Journey) -> Walk[None]:
        """From the endpoint mapper on, at one host."""
        if self._plan.http:
            journey = replace(journey, proxy=self._proxy)
        if journey.mailbox.guessed or not journey.mailbox.dn:
            journey = replace(journey, mailbox=self._mailbox)
        found = yield from walk_rpc(journey)
        self._walked.findings.append(found)
        self._walked.steps += found.steps

    # Telling.

    def _step(self, scenario: Scenario, endpoint: str, text: str = "") -> Step:
        return Step(self._plan.server, endpoint, scenario, Result.SUCCESS, text=text)

    def _tell(self, step: Step, *, goes_on: bool = False) -> Walk[None]:
        self._walked.steps.append((yield from tell(step)))
        if step.result is Result.FAILURE and not goes_on:
            raise _Stopped

    # The directory and names.

    def _directory(self) -> Walk[None]:
        plan = self._plan
        step = self._step(Scenario.DIRECTORY, plan.mailbox.address or plan.mailbox.account)
        facts = {"database": plan.database, "told": plan.told, "name": plan.name}
        if not plan.told_known:
            detail = "the directory has neither an array nor a server of that name"
            yield from self._tell(troubled(step, Trouble.DEAD_SERVER, detail=detail, **facts))
        if plan.told.casefold() != plan.name.casefold():
            yield from self._tell(troubled(step, Trouble.TOLD_ANOTHER, **facts))
        text = f"the mailbox is in {plan.database}, whose clients are told {plan.told}"
        yield from self._tell(replace(step, text=text))

    def _inside(self) -> Walk[Sequence[Address]]:
        plan = self._plan
        step = self._step(Scenario.INSIDE, plan.name)
        found = yield from resolve(plan.name)
        if isinstance(found, Went):
            trouble = Trouble.NAME_UNKNOWN if found.way is Way.UNKNOWN else Trouble.DNS_SILENT
            yield from self._tell(troubled(step, trouble, name=plan.name, detail=found.detail))
            raise _Stopped
        shown = ", ".join(map(str, found.addresses))
        if found.alias:
            step = troubled(step, Trouble.ALIAS, name=plan.name, alias=found.alias)
        elif plan.own_addresses and not set(found.addresses) & set(plan.own_addresses):
            own = ", ".join(map(str, plan.own_addresses))
            step = troubled(step, Trouble.NAME_ELSEWHERE, name=plan.name, addresses=shown, own=own)
        else:
            step = replace(step, text=f"{shown} (A record)")
        yield from self._tell(step)
        # The endpoint mapper's towers know IPv4 alone, and so does Outlook before 2013.
        return sorted(found.addresses, key=lambda address: not isinstance(address, IPv4Address))

    def _outside(self) -> Walk[None]:
        """Outside, the array's name should not be known: what Outlook can resolve it tries before HTTP, and waits."""
        plan = self._plan
        step = self._step(Scenario.OUTSIDE, plan.name)
        found = yield from resolve(plan.name, outside=True)
        if isinstance(found, Went):
            if found.way is not Way.UNKNOWN:
                silent = troubled(step, Trouble.DNS_SILENT, name=plan.name, detail=found.detail)
                yield from self._tell(silent, goes_on=True)
                return
            yield from self._tell(replace(step, text="nobody outside knows the name, as it should be"))
            return
        shown = ", ".join(map(str, found.addresses))
        trouble = yield from reach(str(found.addresses[0]), plan.mapper_port)
        if trouble is None:
            step = troubled(step, Trouble.PUBLIC_NAME, name=plan.name, addresses=shown)
        else:
            facts = {"name": plan.name, "addresses": shown, "detail": trouble.detail}
            step = troubled(step, Trouble.PUBLIC_UNREACHABLE, **facts)
        # Inside, all may be well all the same: that part of the walk goes on.
        yield from self._tell(step, goes_on=True)

    # Autodiscover.

    def _autodiscover(self) -> Walk[None]:
        plan, address = self._plan, self._plan.mailbox.address
        step = self._step(Scenario.AUTODISCOVER, address)
        found = yield from discover(address)
        if isinstance(found, Went):  # profiles that are there go on with what they know, and so does the walk
            silent = troubled(step, Trouble.NO_AUTODISCOVER, name=address, detail=found.detail)
            yield from self._tell(silent, goes_on=True)
            return
        settings = yield from self._settings(replace(step, endpoint=found.url or address), found)
        exch, expr = settings.protocol(EXCH), settings.protocol(EXPR)
        if settings.user.legacy_dn and (self._mailbox.guessed or not self._mailbox.dn):
            self._mailbox = replace(self._mailbox, dn=settings.user.legacy_dn, guessed=False)
        step = replace(step, endpoint=found.url or address)
        if not plan.http:
            yield from self._check_exch(step, exch)
        if exch and expr and exch.server and exch.server.casefold() == expr.server.casefold():
            step = troubled(step, Trouble.SAME_NAME, told=expr.server)
        else:
            step = replace(step, text=_told(exch, expr))
        yield from self._tell(step)
        if expr is not None and expr.server:
            self._proxy = self._proxy or expr.server
            yield from self._certificate(expr)

    def _settings(self, step: Step, found: Discovered) -> Walk[Settings]:
        address = self._plan.mailbox.address
        match found.response:
            case Settings():
                return found.response
            case Refusal(code=code, message=message):
                detail = f"{message} (error {code})"
            case RedirectAddress(address=other):
                detail = f"it sends on to {other}"
            case RedirectUrl(url=other):
                detail = f"it sends on to {other}"
        yield from self._tell(troubled(step, Trouble.AUTODISCOVER_REFUSES, name=address, detail=detail))
        raise _Stopped

    def _check_exch(self, step: Step, exch: Protocol | None) -> Walk[None]:
        plan = self._plan
        if exch is None or not exch.server:
            yield from self._tell(troubled(step, Trouble.NOT_ONLY_HTTP, name=plan.mailbox.address))
            return
        if exch.server.casefold() == plan.name.casefold():
            return
        facts = {"database": plan.database or "DATABASE", "told": exch.server, "name": plan.name}
        found = yield from resolve(exch.server)
        if isinstance(found, Went):
            detail = f"nobody knows that name ({found.detail})"
            yield from self._tell(troubled(step, Trouble.DEAD_SERVER, detail=detail, **facts))
            return
        answers = yield from reach(str(found.addresses[0]), plan.mapper_port)
        if answers is not None:
            detail = f"that server {answers.detail}"
            yield from self._tell(troubled(step, Trouble.DEAD_SERVER, detail=detail, **facts))
        yield from self._tell(troubled(step, Trouble.TOLD_ANOTHER, **facts))

    def _certificate(self, expr: Protocol) -> Walk[None]:
        """Whether the proxy shows what clients expect. Outlook over TCP does not mind: the walk goes on.

        Clients that are told no principal expect the name of the proxy itself.
        """
        told = expr.cert_principal_name.strip()
        wanted = told or f"msstd:{expr.server}"
        step = self._step(Scenario.CERTIFICATE, f"{expr.server}:{HTTPS}")
        if expr.ssl.casefold() == "off":
            return
        shown = yield from certificate(expr.server, HTTPS)
        if isinstance(shown, Went):
            if not told and not self._plan.http:  # nobody goes there now
                return
            step = troubled(step, Trouble.PROXY_DOWN, detail=shown.detail)
        elif wanted.casefold() == "none":
            step = replace(step, text="clients do not compare its name")
        elif not principal_matches(wanted, shown):
            facts = {"told": wanted.removeprefix("msstd:"), "name": shown.subject or expr.server}
            detail = f"shows one for {', '.join(dict.fromkeys((shown.subject, *shown.names)))}"
            step = troubled(step, Trouble.CERTIFICATE_PRINCIPAL, detail=detail, **facts)
        else:
            step = replace(step, text=f"it is for {wanted.removeprefix('msstd:')}, as clients expect")
        yield from self._tell(step, goes_on=not self._plan.http)

    # Every member.

    def compare(self) -> Walk[None]:
        """Name the member that differs from the others."""
        members = [found for found in self._walked.findings if not found.journey.through_array]
        if len(members) < 2:
            return
        for odd, usual in _odd(members):
            step = Step(odd.journey.server, odd.journey.host, Scenario.COMPARISON, Result.SUCCESS)
            detail = _difference(odd, usual)
            yield from self._tell(troubled(step, Trouble.DIFFERS, detail=detail), goes_on=True)

    def identify(self) -> Walk[None]:
        """Who answered the array's connections, by what each member said of itself.

        A balancer may keep each client on one server for each port, and yet on another one for another port: nothing
        of that shows on the way. The mapper's towers tell the one, the address book's GUID the other.
        """
        members = [found for found in self._walked.findings if not found.journey.through_array]
        for found in self._walked.findings:
            mapped = dict(self._plan.known).get(found.tower, "") if found.journey.through_array else ""
            book = next((one.journey.server for one in members if one.book and one.book == found.book), "")
            if mapped and book and mapped != book:
                detail = f"135 was answered by {mapped}, the address book by {book}"
                step = self._step(Scenario.AFFINITY, self._plan.name)
                yield from self._tell(troubled(step, Trouble.AFFINITY, detail=detail), goes_on=True)


def principal_matches(principal: str, shown: Certificate) -> bool:
    """Whether a certificate is the one that ``msstd:NAME`` means: by its subject, or by a further name.

    A wildcard in the principal is compared as it stands, as Windows does; one in the certificate covers one label.
    """
    wanted = principal.casefold().removeprefix("msstd:")
    for name in (shown.subject.casefold(), *(name.casefold() for name in shown.names)):
        if name == wanted:
            return True
        if name.startswith("*.") and "*" not in wanted and wanted.partition(".")[2] == name[2:]:
            return True
    return False


def _told(exch: Protocol | None, expr: Protocol | None) -> str:
    parts = [f"{kind} {one.server}" for kind, one in (("EXCH", exch), ("EXPR", expr)) if one is not None and one.server]
    return "tells " + ", ".join(parts)


_Outcome = tuple[tuple[Scenario, Result, Trouble | None, str], ...]


def _outcome(found: Findings) -> _Outcome:
    return tuple((step.scenario, step.result, step.trouble, step.mechanism) for step in found.steps)


def _odd(members: Sequence[Findings]) -> list[tuple[Findings, Findings]]:
    """Those that differ from most, each with one of those; where no side is the larger, those that fail."""
    counts = Counter(map(_outcome, members))
    if len(counts) == 1:
        return []
    usual = max(members, key=lambda one: (counts[_outcome(one)], not one.failed))
    return [(one, usual) for one in members if _outcome(one) != _outcome(usual)]


def _difference(odd: Findings, usual: Findings) -> str:
    """The first step that came to something else."""
    others = {step.scenario: step for step in usual.steps}
    for step in odd.steps:
        other = others.get(step.scenario)
        if other is None or (step.result, step.trouble) != (other.result, other.trouble):
            text = f"{step.scenario} there: {step.text}"
            return text if other is None else f"{text}; at {usual.journey.server}: {other.text}"
        if step.mechanism != other.mechanism:
            return f"{step.scenario} is taken by {step.mechanism or 'nobody'} there, by {other.mechanism} elsewhere"
    return f"it stops where {usual.journey.server} goes on"
