"""The work of `ports`: files in, use case, tables or files out."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from casarray.app import fixed_ports as use
from casarray.core.config import Config
from casarray.core.config_file import load_config
from casarray.core.directory.model import key
from casarray.core.errors import ConfigError, Conflict, Denied
from casarray.core.fixed_ports.given import LARGEST, merged, read_given
from casarray.core.fixed_ports.netsh import read_netsh
from casarray.core.fixed_ports.ports import RpcService
from casarray.core.fixed_ports.rules import Finding, Known, Severity
from casarray.core.fixed_ports.subject import Subject
from casarray.core.fixed_ports.text import Encoding, decode
from casarray.faces.cli.output import BAD, CAUTION, DIM, GOOD, complain, print_json, say, show, table
from casarray.faces.cli.world import World, host_name, read_text, service, world

_COLOURS = {Severity.ERROR: BAD, Severity.WARNING: CAUTION, Severity.NOTE: DIM}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options of all four commands say."""

    array: str | None
    exports: Sequence[str]  # SERVER=FILE
    netsh: Sequence[str]  # SERVER=FILE
    store: str | None
    config: str | None


@dataclass(frozen=True, slots=True)
class Export:
    """What the options of `ports export` say."""

    output: str
    encoding: str
    before_sp1: bool
    existing: str | None
    force: bool


def show_ports(context: typer.Context, asked: Asked, *, as_json: bool) -> None:
    """What is wanted and known."""
    subjects = use.choose(_place(context, asked).subjects(), asked.array)
    known = _known(subjects, asked)
    _tell([use.report(subject, known) for subject in subjects], as_json=as_json, asked_mappers=False)


def check_ports(context: typer.Context, asked: Asked, seconds: float, *, as_json: bool) -> None:
    """The same, and what the endpoint mappers say. Exit code 1 when something differs."""
    subjects = use.choose(_place(context, asked).subjects(), asked.array)
    known = _known(subjects, asked)
    answers = world(context).ask_ports(subjects, seconds, _tell_progress)
    reports = [use.report(subject, use.with_answers(known, answers)) for subject in subjects]
    _tell(reports, as_json=as_json, asked_mappers=True)
    if any(report.differs for report in reports):
        raise typer.Exit(1)


def set_ports(
    context: typer.Context, asked: Asked, rpc: int | None, ab: int | None, *, dry_run: bool, as_json: bool
) -> None:
    """Write the ports of an array."""
    place = _place(context, asked)
    outcome = use.set_ports(place, asked.array, rpc, ab, dry_run=dry_run)
    if as_json:
        print_json({"done": outcome.changed and not dry_run} | _fields(outcome))
        return
    if not outcome.changed:
        say(f"{outcome.array} has these ports already: {outcome.after}; nothing to change")
    else:
        would = " would be set" if dry_run else ""
        say(f"{outcome.array}{would}: {outcome.after} (was {outcome.before})")
    _show_findings(outcome.findings)
    if outcome.changed and not dry_run:
        say(f"next: casarray ports export {_quoted(outcome.array)}, for {', '.join(outcome.servers) or 'its servers'}")
        say(place.followed)


def export_ports(context: typer.Context, asked: Asked, wanted: Export, *, as_json: bool) -> None:
    """Write the files, and say what to do with them."""
    subject = use.choose_one(_place(context, asked).subjects(), asked.array)
    existing = None if wanted.existing is None else _read(wanted.existing)
    encoding = Encoding(wanted.encoding)
    files = use.export(subject, encoding, before_sp1=wanted.before_sp1, existing=existing)
    if wanted.output != "-":
        _write_all(Path(wanted.output), files, force=wanted.force)
    findings = use.report(subject, {}).findings
    if as_json:
        _print_export(wanted.output, subject, files, findings)
        return
    for file in files:
        if wanted.output == "-":
            say(f"--- {file.name}")
            print(decode(file.data).replace("\r\n", "\n").strip("\n"))
        else:
            say(f"wrote {Path(wanted.output) / file.name}")
    for line in _instructions(files):
        say(line)
    _show_findings(findings)


# What to do with the files.


def _instructions(files: Sequence[use.ExportFile]) -> list[str]:
    """What an administrator does on each server, as lines."""
    lines = []
    for servers, theirs in _by_servers(files).items():
        after = ", one after the other" if len(servers) != 1 else ""
        lines.append(f"on {', '.join(servers) or 'each server'}{after}, as an administrator:")
        lines += [f"  {_bring(file)}" for file in theirs]
        lines += [f"  Restart-Service {file.service.windows_name}" for file in theirs]
    lines.append(
        "the ports are in force once the services have been restarted, which ends the connections of their clients: "
        "casarray server drain NAME first, casarray server activate NAME afterwards"
    )
    if any(not file.is_registry for file in files):
        lines.append("SP1 moves the Address Book's port to the registry and forgets this file: export again after it")
    return lines


def _by_servers(files: Sequence[use.ExportFile]) -> dict[tuple[str, ...], list[use.ExportFile]]:
    """Servers that need the same files, together."""
    needs: dict[str, list[use.ExportFile]] = {}
    for file in files:
        for server in file.servers:
            needs.setdefault(server, []).append(file)
    together: dict[tuple[str, ...], list[str]] = {}
    by_name = {file.name: file for file in files}
    for server, theirs in needs.items():
        together.setdefault(tuple(file.name for file in theirs), []).append(server)
    if not together:
        return {(): list(files)}
    return {tuple(servers): [by_name[name] for name in names] for names, servers in together.items()}


def _bring(file: use.ExportFile) -> str:
    if file.is_registry:
        return f'reg import "{file.name}"'
    return f'Copy-Item {file.name} "$env:ExchangeInstallPath\\Bin"'


def _print_export(output: str, subject: Subject, files: Sequence[use.ExportFile], findings: Sequence[Finding]) -> None:
    print_json(
        {
            "array": subject.array,
            "files": [
                {
                    "path": None if output == "-" else str(Path(output) / file.name),
                    "name": file.name,
                    "service": file.service,
                    "windows_service": file.service.windows_name,
                    "port": file.port,
                    "servers": file.servers,
                    "text": decode(file.data),
                    "commands": [_bring(file), f"Restart-Service {file.service.windows_name}"],
                }
                for file in files
            ],
            "findings": findings,
        }
    )


def _write_all(folder: Path, files: Sequence[use.ExportFile], *, force: bool) -> None:
    """Write the files; what is there already and different is left alone unless forced."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            there = folder / file.name
            if not force and there.exists() and there.read_bytes() != file.data:
                raise Conflict(f"{there} is there already and different; name another folder with -o, or use --force")
        for file in files:
            _write(folder / file.name, file.data)
    except PermissionError:
        raise Denied(f"no right to write into {folder}; name another folder with -o") from None
    except OSError as error:
        raise ConfigError(f"cannot write into {folder}: {error.strerror}; name another folder with -o") from None


def _write(target: Path, data: bytes) -> None:
    """In one piece: a broken-off write leaves the old file. Its owner and mode stay."""
    target = target.resolve()
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        draft.write_bytes(data)
        if target.exists():
            old = target.stat()
            draft.chmod(old.st_mode & 0o7777)
            if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(draft, old.st_uid, old.st_gid)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


# What comes in.


def _place(context: typer.Context, asked: Asked) -> use.PortsPlace:
    """Where the wanted ports stand: the store that was named, else what the configuration says."""
    around = world(context)
    if asked.store is not None:
        return use.PortsInDirectory(service(context, asked.store))
    if asked.config is None and not Path(around.default_config).exists():
        return use.PortsInDirectory(service(context, None))
    file = asked.config or around.default_config
    text = read_text(Path(file))
    config = _load(around, text, file)
    if config.directory.is_file:
        text = Path(file).read_bytes().decode()  # with the line ends that it has
        return use.PortsInFile(file, text, lambda text, file: _load(around, text, file), _write_text)
    store = " ".join(config.directory.store)
    named = f"sqlite:{config.gateway.state}" if store == "embedded" else store
    return use.PortsInDirectory(service(context, named if asked.config else None), config.directory.profile)


def _load(around: World, text: str, file: str) -> Config:
    return load_config(text, file, hostname=host_name(), environment=around.environment)


def _write_text(file: str, text: str) -> None:
    try:
        _write(Path(file), text.encode())
    except PermissionError:
        raise Denied(f"no right to write {file}; use sudo") from None
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from None


def _known(subjects: Sequence[Subject], asked: Asked) -> dict[str, Known]:
    """What the files that were brought say, by server."""
    exports = [_named(text, "--export") for text in asked.exports]
    netsh = [_named(text, "--netsh") for text in asked.netsh]
    use.check_names(subjects, [server for server, _ in (*exports, *netsh)])
    spelt = {key(target.server): target.server for subject in subjects for target in subject.targets}
    known: dict[str, Known] = {}
    for server in dict.fromkeys(key(name) for name, _ in exports):
        mine = [file for name, file in exports if key(name) == server]
        export = merged((file, read_given(_read(file), file)) for file in mine)
        known[spelt[server]] = Known(export.settings, export.remarks, exported=True)
    for name, file in netsh:
        server = spelt[key(name)]
        known[server] = replace(known.get(server, Known()), dynamic=read_netsh(_read(file), file))
    return known


def _named(text: str, option: str) -> tuple[str, str]:
    name, _, file = text.partition("=")
    if not name or not file:
        raise typer.BadParameter(f'{option}: "{text}" is not SERVER=FILE; write it like cas1=cas1.reg')
    return name, file


def _read(file: str) -> bytes:
    """A file of an administrator; one byte more than is allowed shows that it is too large."""
    try:
        with Path(file).open("rb") as stream:
            return stream.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}; name another file") from None


# What goes out.


def _tell_progress(progress: use.Progress) -> None:
    shown = ", ".join(progress.waiting[:5]) + (" ..." if len(progress.waiting) > 5 else "")
    complain(f"{progress.done} of {progress.of} servers have answered, waiting for {shown}")
    sys.stderr.flush()


def _tell(reports: Sequence[use.ArrayReport], *, as_json: bool, asked_mappers: bool) -> None:
    if as_json:
        print_json({"differs": any(report.differs for report in reports), "arrays": reports})
        return
    for report in reports:
        show(_shown(report, asked_mappers=asked_mappers))
        _show_findings(report.findings)
    if asked_mappers and not any(report.differs for report in reports):
        say("every server has the ports that are wanted")


def _shown(report: use.ArrayReport, *, asked_mappers: bool) -> Group:
    wanted = ", ".join(f"{s.windows_name} {report.ports.of(s) or 'dynamic'}" for s in RpcService)
    parts: list[RenderableType] = [Text(f"array {report.array} ({report.fqdn}, site {report.site}): {wanted}", "bold")]
    columns = ["SERVER", "NEEDED AS", "SERVICE", "WANTED", "REGISTRY", "DYNAMIC PORTS"]
    columns += ["ENDPOINT MAPPER", ""] if asked_mappers else []
    rows = [_row(line, report.dynamic, asked_mappers=asked_mappers) for line in report.lines]
    parts.append(Padding(table(columns, rows), (0, 0, 0, 2)))
    if not rows:
        parts.append(Text("  it has no servers", CAUTION))
    return Group(*parts)


def _row(
    line: use.ServiceLine, dynamic: Mapping[str, tuple[int, int]], *, asked_mappers: bool
) -> tuple[str | Text, ...]:
    first_last = dynamic.get(line.server)
    row: list[str | Text] = [
        line.server,
        line.why.value,
        line.windows_service,
        str(line.wanted or "dynamic"),
        _set(line),
        f"{first_last[0]} to {first_last[1]}" if first_last else Text("unknown", DIM),
    ]
    if asked_mappers:
        row.append(_said(line))
        row.append(_verdict(line))
    return tuple(row)


def _set(line: use.ServiceLine) -> str | Text:
    if line.registry is None:
        return Text("unknown", DIM)
    return Text("without effect", BAD) if line.registry.problem else str(line.registry.port or "dynamic")


def _said(line: use.ServiceLine) -> str | Text:
    if line.mapper is None:
        return Text("no answer", BAD)
    said = {interface: " and ".join(map(str, ports)) or "nothing" for interface, ports in line.mapper.items()}
    if len(set(said.values())) == 1:
        return next(iter(said.values()))
    return ", ".join(f"{interface} {ports}" for interface, ports in said.items())


def _verdict(line: use.ServiceLine) -> Text:
    if line.right is None:
        return Text("")
    return Text("right", GOOD) if line.right else Text("differs", BAD)


def _show_findings(findings: Sequence[Finding]) -> None:
    for finding in findings:
        show(Text(f"{finding.severity}: {finding}", _COLOURS[finding.severity]))


def _fields(outcome: use.SetOutcome) -> dict[str, object]:
    return {name: getattr(outcome, name) for name in ("array", "before", "after", "changed", "servers", "findings")}


def _quoted(name: str) -> str:
    return f"'{name}'" if " " in name else name
