"""What is wrong, or will be, with fixed ports: wanted, set in the registry, and said by the endpoint mapper, compared.

Each finding has a code that never changes, and says what to do. An error is a difference; a warning is a port that is
right today and may fail at some start of a service; a note is something that cannot be seen from here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from casarray.core.fixed_ports.asking import Answers
from casarray.core.fixed_ports.ports import (
    DEFAULT_PORTS,
    EXCHANGE_RANGE,
    MISREAD_RANGE,
    WINDOWS_RANGE,
    DynamicRange,
    RpcService,
)
from casarray.core.fixed_ports.registry_file import Setting
from casarray.core.fixed_ports.subject import Subject, Target, Why
from casarray.core.fixed_ports.taken import TAKEN
from casarray.core.health.rpc import name

_MOST_NAMED = 10


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that somebody should know."""

    code: str
    severity: Severity
    subject: str  # the server or array
    text: str
    do: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}" + (f"; {self.do}" if self.do else "")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one server, besides what is wanted of it."""

    settings: Mapping[RpcService, Setting] = field(default_factory=dict)  # of the exports that were given
    remarks: tuple[str, ...] = ()  # on those exports
    exported: bool = False  # whether any export was given
    dynamic: DynamicRange | None = None  # what netsh printed there
    answers: Answers | None = None  # None: it was not asked


NOTHING = Known()


def judge(subject: Subject, known: Mapping[str, Known]) -> tuple[Finding, ...]:
    """Everything there is to say of an array's ports; errors first."""
    found = [
        *ports_of_others(subject),
        *in_dynamic_range(subject, known),
        *silent(subject, known),
        *mapper_differs(subject, known),
        *registry_differs(subject, known),
        *members_differ(subject, known),
        *forgotten(subject, known),
    ]
    order = list(Severity)
    return tuple(sorted(found, key=lambda finding: order.index(finding.severity)))


def ports_of_others(subject: Subject) -> Iterator[Finding]:
    """A port that another program listens on makes the service start without it."""
    for service, port in subject.ports:
        if port in TAKEN:
            yield Finding(
                "port-of-another",
                Severity.WARNING,
                subject.array,
                f"{port}, the port of {service.windows_name}, is used by {TAKEN[port]}",
                f"take {DEFAULT_PORTS.of(service)} or another free one, with casarray ports set",
            )


def in_dynamic_range(subject: Subject, known: Mapping[str, Known]) -> Iterator[Finding]:
    """A port that Windows gives to anybody may be gone when the service starts."""
    measured = {t.server: r for t in subject.targets if (r := known.get(t.server, NOTHING).dynamic) is not None}
    unmeasured = [target.server for target in subject.targets if target.server not in measured]
    for service, port in subject.ports:
        ranges: dict[DynamicRange, list[str]] = {}
        for server, dynamic in measured.items():
            if port in dynamic:
                ranges.setdefault(dynamic, []).append(server)
        for dynamic, servers in ranges.items():
            yield _in_range(subject, service, port, f"the dynamic range of {_some(servers)}, {dynamic}")
        if (unmeasured or not measured) and not ranges and (port in EXCHANGE_RANGE or port in WINDOWS_RANGE):
            usual = f"the range that Exchange's setup makes dynamic, {EXCHANGE_RANGE}"
            if port not in EXCHANGE_RANGE:
                usual = f"the dynamic range of Windows, {WINDOWS_RANGE}"
            yield _in_range(subject, service, port, usual)


def _in_range(subject: Subject, service: RpcService, port: int, where: str) -> Finding:
    why = ""
    if port in MISREAD_RANGE:
        why = (
            f". Microsoft's Set-StaticPorts.ps1 chose such ports because it took netsh's number of ports, "
            f"{EXCHANGE_RANGE.count}, for the last dynamic port, which is {EXCHANGE_RANGE.last}"
        )
    return Finding(
        "in-dynamic-range",
        Severity.WARNING,
        subject.array,
        f"{port}, the port of {service.windows_name}, lies in {where}, so another program may have it when the service "
        f"starts{why}",
        f"take {DEFAULT_PORTS.of(service)} or another port outside, with casarray ports set",
    )


def silent(subject: Subject, known: Mapping[str, Known]) -> Iterator[Finding]:
    """A server that does not answer is not known to be right."""
    for target in subject.targets:
        answers = known.get(target.server, NOTHING).answers
        if answers is not None and not answers.answered:
            yield Finding(
                "no-answer",
                Severity.ERROR,
                target.server,
                answers.reason.removeprefix(target.server).removeprefix(f" ({target.hosts[0]})").strip(),
                "see that it runs and that port "
                f"{subject.mapper_port} of it can be reached from here, then check again",
            )


def mapper_differs(subject: Subject, known: Mapping[str, Known]) -> Iterator[Finding]:
    """Clients go where the endpoint mapper sends them, whatever was set."""
    for target in subject.targets:
        mine = known.get(target.server, NOTHING)
        if mine.answers is None or not mine.answers.answered:
            continue
        for service in target.services:
            for interface in service.interfaces:
                if finding := _mapped(subject, target, mine, service, name(interface)):
                    yield finding


def _mapped(subject: Subject, target: Target, mine: Known, service: RpcService, interface: str) -> Finding | None:
    wanted = subject.ports.of(service)
    ports = mine.answers.ports.get(interface, ()) if mine.answers is not None else ()
    if not ports:
        text = (
            f"its endpoint mapper does not know {interface}: {service.windows_name} does not run, or has just started"
        )
        do = f"on {target.server}: Get-Service {service.windows_name}"
        return Finding("not-registered", Severity.ERROR, target.server, text, do)
    if wanted is None or ports == (wanted,):
        return None
    said = " and ".join(map(str, ports))
    if wanted in ports:
        text = f"its endpoint mapper has {interface} on {said}; only {wanted} is wanted"
        do = f"on {target.server}: Restart-Service {service.windows_name}"
        return Finding("further-port", Severity.NOTE, target.server, text, do)
    text = f"its endpoint mapper says {interface} is on {said}, and {wanted} is wanted"
    restart = f"on {target.server}: Restart-Service {service.windows_name}"
    if (setting := mine.settings.get(service)) is not None and setting.port == wanted:
        text += "; its registry says so too, so the service has not been restarted since, or found the port taken"
        return Finding("not-restarted", Severity.ERROR, target.server, text, restart)
    do = f"import the file that casarray ports export writes, then {restart}"
    if target.why is Why.PUBLIC_FOLDERS:
        text += "; Outlook reaches its public folders past the array, so it needs the port as well"
        return Finding("public-folders-forgotten", Severity.ERROR, target.server, text, do)
    return Finding("mapper-differs", Severity.ERROR, target.server, text, do)


def registry_differs(subject: Subject, known: Mapping[str, Known]) -> Iterator[Finding]:
    """What the registry says is what the next start of the service makes of it."""
    for target in subject.targets:
        mine = known.get(target.server, NOTHING)
        for remark in mine.remarks:
            yield Finding("export-remark", Severity.NOTE, target.server, remark)
        for service in target.services:
            setting, wanted = mine.settings.get(service), subject.ports.of(service)
            if setting is None:
                continue
            if setting.problem:
                yield Finding("without-effect", Severity.ERROR, target.server, *_parted(setting.problem))
            elif wanted is not None and setting.port != wanted:
                text = f"its registry gives {service.windows_name} {_port(setting.port)}, and {wanted} is wanted"
                do = f"import the file that casarray ports export writes, then Restart-Service {service.windows_name}"
                yield Finding("registry-differs", Severity.ERROR, target.server, text, do)


def members_differ(subject: Subject, known: Mapping[str, Known]) -> Iterator[Finding]:
    """A firewall, and a gateway without an endpoint mapper to ask, know one port for all members."""
    members = [target for target in subject.targets if target.why is Why.MEMBER]
    for service in subject.names:
        if subject.ports.of(service) is None:
            continue  # dynamic: each has its own
        said: dict[str, list[str]] = {}
        for target in members:
            if ports := _in_use(known.get(target.server, NOTHING), service):
                said.setdefault(ports, []).append(target.server)
        if len(said) > 1:
            parts = "; ".join(f"{_some(servers)} on {ports}" for ports, servers in said.items())
            text = f"its members have {service.windows_name} on different ports: {parts}"
            do = "import the same file on all of them, and restart the service there"
            yield Finding("members-differ", Severity.ERROR, subject.array, text, do)


def _in_use(known: Known, service: RpcService) -> str:
    """The ports the mapper says, else the one that is set, in words; empty when nothing is known."""
    if known.answers is not None and known.answers.answered:
        ports = sorted({port for i in service.interfaces for port in known.answers.ports.get(name(i), ())})
        return " and ".join(map(str, ports))
    setting = known.settings.get(service)
    return "" if setting is None else _port(setting.port)


def forgotten(subject: Subject, known: Mapping[str, Known]) -> Iterator[Finding]:
    """Outlook reaches public folders on the mailbox server itself, past the array."""
    if any(one.exported for one in known.values()):
        for target in subject.targets:
            mine = known.get(target.server, NOTHING)
            if mine.exported or (mine.answers is not None and mine.answers.answered):
                continue
            reaches = "; Outlook reaches its public folders past the array" if target.why is Why.PUBLIC_FOLDERS else ""
            text = f"no export of it was given, and of others there was{reaches}"
            code = "public-folders-forgotten" if target.why is Why.PUBLIC_FOLDERS else "member-forgotten"
            do = f"give --export {target.server}=FILE"
            do += ", or ask it with casarray ports check" if mine.answers is None else ""
            yield Finding(code, Severity.WARNING, target.server, text, do)
    if subject.unmarked:
        text = f"nothing says that these mailbox servers hold public folders: {_some(subject.unmarked)}"
        do = (
            "one that does needs the port of MSExchangeRPC as well: import that file there; a directory remembers it "
            f"with Set-MailboxServer {subject.unmarked[0]} -PublicFolders $true"
        )
        yield Finding("mailbox-server", Severity.NOTE, subject.array, text, do)


def _parted(problem: str) -> tuple[str, str]:
    """A sentence that ends in what to do, in its two parts."""
    text, _, do = problem.rpartition("; ")
    return (text, do) if text else (problem, "")


def _port(port: int | None) -> str:
    return "a dynamic port" if port is None else str(port)


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def differs(findings: Iterable[Finding]) -> bool:
    """Whether anything is not as it should be."""
    return any(finding.severity is Severity.ERROR for finding in findings)
