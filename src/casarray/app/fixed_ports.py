"""Fixed ports as an administrator uses them: show what is wanted, set it, write the files for it, check what is so."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from casarray.app.directory import DirectoryService
from casarray.core.config import Config
from casarray.core.directory import edits
from casarray.core.directory.model import Array, Directory, Kind, key
from casarray.core.directory.rules import find, missing
from casarray.core.errors import Conflict, NotFound
from casarray.core.fixed_ports import rules
from casarray.core.fixed_ports.asking import Answers
from casarray.core.fixed_ports.config_edit import with_ports as text_with_ports
from casarray.core.fixed_ports.ports import DEFAULT_PORTS, FixedPorts, RpcService
from casarray.core.fixed_ports.registry_file import Setting, registry_file
from casarray.core.fixed_ports.rules import Finding, Known
from casarray.core.fixed_ports.service_config import FILE_NAME, write_service_config
from casarray.core.fixed_ports.subject import (
    DEFAULT_PROFILE,
    Subject,
    Target,
    Why,
    check_set,
    effective,
    of_config,
    of_directory,
    with_ports,
)
from casarray.core.fixed_ports.text import Encoding
from casarray.core.health.rpc import name

AT_ONCE = 64  # servers asked at the same time
PROGRESS_AFTER = 2.0  # seconds without an end before anything is told
PROGRESS_EVERY = 1.0


class PortAsker(Protocol):
    """Asks endpoint mappers. Fulfilled by `adapters.port_asker`."""

    async def ask(self, target: Target, mapper_port: int, seconds: float) -> Answers:
        """What the mapper of this server says of the target's services; raises nothing for what a server does."""


class PortsPlace(Protocol):
    """Where the wanted ports stand: in a configuration file, or in a directory."""

    followed: str  # how a gateway comes to know of what was set; a sentence

    def subjects(self) -> tuple[Subject, ...]:
        """The arrays with RPC services, and their servers."""

    def set(self, subject: Subject, ports: FixedPorts, what: str, *, dry_run: bool) -> bool:
        """Write the ports of one array; whether that changes anything. ``what`` is the command as typed."""


class PortsInDirectory:
    """`PortsPlace` in a directory: in the settings of its arrays."""

    followed = "gateways that follow this directory take them by themselves"

    def __init__(self, service: DirectoryService, profile: str = DEFAULT_PROFILE) -> None:
        """``profile`` is that of arrays that name none."""
        self._service, self._profile = service, profile

    def subjects(self) -> tuple[Subject, ...]:
        return of_directory(self._service.directory(), self._profile)

    def set(self, subject: Subject, ports: FixedPorts, what: str, *, dry_run: bool) -> bool:
        def edit(directory: Directory) -> Directory:
            array = find(directory, Kind.ARRAY, subject.array)
            assert isinstance(array, Array)
            now = next(s for s in of_directory(directory, self._profile) if key(s.array) == key(subject.array))
            check_set(now, ports, effective(array, self._profile))
            if all(now.ports.of(service) == port for service, port in ports):
                return directory
            settings = with_ports(array.settings, now, ports, self._profile)
            effective(replace(array, settings=settings), self._profile)
            return edits.change(directory, Kind.ARRAY, array.name, settings=settings)

        outcome = self._service.plan(edit) if dry_run else self._service.change(edit, what)
        return bool(outcome.changes)


class PortsInFile:
    """`PortsPlace` in a configuration file, of which every other character stays as it is."""

    followed = "a gateway that runs with this file takes them with casarray reload"

    def __init__(
        self, file: str, text: str, load: Callable[[str, str], Config], write: Callable[[str, str], None]
    ) -> None:
        """``load`` reads a text that would stand in a file, ``write`` puts it there in one piece."""
        self._file, self._text, self._load, self._write = file, text, load, write
        self._config = load(text, file)

    def subjects(self) -> tuple[Subject, ...]:
        return of_config(self._config)

    def set(self, subject: Subject, ports: FixedPorts, what: str, *, dry_run: bool) -> bool:  # noqa: ARG002 - a file keeps no history
        array = next(a for a in self._config.arrays if a.name == subject.array)
        check_set(subject, ports, array)
        changed = [(subject.names[service], port) for service, port in ports if subject.ports.of(service) != port]
        if not changed:
            return False
        text = text_with_ports(self._text, self._file, subject.array, changed)
        config = self._load(text, self._file)  # it must still be right as a whole
        if not dry_run:
            self._write(self._file, text)
            self._text, self._config = text, config
        return True


def choose(subjects: Sequence[Subject], array: str | None) -> tuple[Subject, ...]:
    """The array of that name, or all of them. `NotFound` when there is none."""
    if array is None:
        if not subjects:
            raise NotFound("there is no array with RPC services: fixed ports are for the profile exchange-2010")
        return tuple(subjects)
    found = tuple(s for s in subjects if key(array) in {key(s.array), key(s.fqdn)})
    if not found:
        raise NotFound(missing("array with RPC services", array, (s.array for s in subjects)))
    return found


def choose_one(subjects: Sequence[Subject], array: str | None) -> Subject:
    """The array of that name; without a name, the only one there is."""
    found = choose(subjects, array)
    if len(found) > 1:
        raise Conflict(f"there are several arrays; name one of {', '.join(s.array for s in found)}")
    return found[0]


@dataclass(frozen=True, slots=True)
class SetOutcome:
    """What `set_ports` did, or would do."""

    array: str
    before: FixedPorts
    after: FixedPorts
    changed: bool
    servers: tuple[str, ...]  # that need the files which `export` writes
    findings: tuple[Finding, ...]


def set_ports(
    place: PortsPlace, array: str | None, rpc: int | None, ab: int | None, *, dry_run: bool = False
) -> SetOutcome:
    """Write the two ports of an array. Both left out: the default ones. One left out: as it is, if it is fixed."""
    subject = choose_one(place.subjects(), array)
    ports = _wanted(subject, rpc, ab)
    words = " ".join(f"--{service} {port}" for service, port in ports)
    changed = place.set(subject, ports, f"ports set {subject.array} {words}", dry_run=dry_run)
    after = replace(subject, ports=ports)
    servers = tuple(target.server for target in subject.targets)
    return SetOutcome(subject.array, subject.ports, ports, changed, servers, rules.judge(after, {}))


def _wanted(subject: Subject, rpc: int | None, ab: int | None) -> FixedPorts:
    given = FixedPorts(rpc, ab)
    if given == FixedPorts(None, None):
        usual = DEFAULT_PORTS
    else:
        usual = FixedPorts(*(subject.ports.of(s) or DEFAULT_PORTS.of(s) for s in RpcService))
    both = (
        given.of(service) if given.of(service) is not None else usual.of(service) if service in subject.names else None
        for service in RpcService
    )
    return FixedPorts(*both)


@dataclass(frozen=True, slots=True)
class ExportFile:
    """A file to bring to servers."""

    name: str
    data: bytes
    service: RpcService
    port: int
    servers: tuple[str, ...]

    @property
    def is_registry(self) -> bool:
        """It is to be imported; else to be copied into Exchange's folder Bin."""
        return self.name.endswith(".reg")


def export(
    subject: Subject, encoding: Encoding = Encoding.UTF_16, *, before_sp1: bool = False, existing: bytes | None = None
) -> tuple[ExportFile, ...]:
    """The files that fix the ports. ``existing``: the Address Book's configuration file, before SP1."""
    files = []
    for service, port in subject.ports:
        servers = tuple(target.server for target in subject.targets if service in target.services)
        if service is RpcService.AB and before_sp1:
            files.append(ExportFile(FILE_NAME, write_service_config(port, existing), service, port, servers))
        else:
            file = f"{subject.array}-{service.windows_name}.reg"
            files.append(ExportFile(file, registry_file(service, port, encoding), service, port, servers))
    if not files:
        raise Conflict(f"the array {subject.array} leaves its ports dynamic; fix them with casarray ports set first")
    return tuple(files)


@dataclass(frozen=True, slots=True)
class ServiceLine:
    """One service on one server: wanted, set and said."""

    server: str
    why: Why
    service: RpcService
    windows_service: str
    wanted: int | None
    registry: Setting | None  # None: no export was given that speaks of it
    mapper: Mapping[str, tuple[int, ...]] | None  # interface -> ports; None: not asked, or no answer
    answered: bool | None  # None: not asked
    right: bool | None  # whether the mapper says what is wanted; None: nothing is known


@dataclass(frozen=True, slots=True)
class ArrayReport:
    """An array's ports, as far as they are known."""

    array: str
    fqdn: str
    site: str
    ports: FixedPorts
    lines: tuple[ServiceLine, ...]
    dynamic: Mapping[str, tuple[int, int]]  # server -> first and last dynamic port, where netsh said so
    findings: tuple[Finding, ...]
    differs: bool


def report(subject: Subject, known: Mapping[str, Known]) -> ArrayReport:
    """Everything that is known of one array's ports, and what is wrong with them."""
    findings = rules.judge(subject, known)
    lines = tuple(
        _line(subject, target, service, known.get(target.server, rules.NOTHING))
        for target in subject.targets
        for service in target.services
    )
    dynamic = {
        t.server: (r.start, r.last) for t in subject.targets if (r := known.get(t.server, rules.NOTHING).dynamic)
    }
    return ArrayReport(
        subject.array, subject.fqdn, subject.site, subject.ports, lines, dynamic, findings, rules.differs(findings)
    )


def _line(subject: Subject, target: Target, service: RpcService, known: Known) -> ServiceLine:
    wanted = subject.ports.of(service)
    setting = known.settings.get(service)
    mapper, answered, right = None, None, None
    if known.answers is not None:
        answered = known.answers.answered
        if answered:
            mapper = {name(i): known.answers.ports.get(name(i), ()) for i in service.interfaces}
            right = all(bool(ports) and (wanted is None or wanted in ports) for ports in mapper.values())
    return ServiceLine(
        target.server, target.why, service, service.windows_name, wanted, setting, mapper, answered, right
    )


def check_names(subjects: Sequence[Subject], servers: Sequence[str]) -> None:
    """`NotFound` for a server that somebody brought files of and that needs no fixed ports."""
    known = {key(target.server) for subject in subjects for target in subject.targets}
    for server in servers:
        if key(server) not in known:
            names = (target.server for subject in subjects for target in subject.targets)
            raise NotFound(missing("server with fixed ports", server, names))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far asking has come."""

    done: int
    of: int
    waiting: tuple[str, ...]  # servers that have not answered yet


async def ask_all(
    asker: PortAsker, subjects: Sequence[Subject], seconds: float, tell: Callable[[Progress], None]
) -> tuple[Answers, ...]:
    """Ask every server at once, each for so long at most. ``tell`` hears of it when it takes over two seconds."""
    waiting = dict.fromkeys(target.server for subject in subjects for target in subject.targets)
    total = len(waiting)
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(target: Target, mapper_port: int) -> Answers:
        async with limit:
            found = await asker.ask(target, mapper_port, seconds)
        waiting.pop(target.server, None)
        return found

    async def tell_now_and_then() -> None:
        await asyncio.sleep(PROGRESS_AFTER)
        while True:
            tell(Progress(total - len(waiting), total, tuple(waiting)))
            await asyncio.sleep(PROGRESS_EVERY)

    teller = asyncio.create_task(tell_now_and_then())
    try:
        asked = (one(target, subject.mapper_port) for subject in subjects for target in subject.targets)
        return tuple(await asyncio.gather(*asked))
    finally:
        teller.cancel()
        await asyncio.gather(teller, return_exceptions=True)


def with_answers(known: Mapping[str, Known], answers: Sequence[Answers]) -> dict[str, Known]:
    """What is known, and what the mappers said."""
    after = dict(known)
    for said in answers:
        after[said.server] = replace(after.get(said.server, rules.NOTHING), answers=said)
    return after
