"""What `check` says of a configuration file."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from casarray.core.config import Array, Config, ProbeKind, Service
from casarray.core.config_file import MOST_PROBLEMS, Examined, describe, examine
from casarray.core.config_rules import advise
from casarray.core.errors import ConfigError
from casarray.faces.cli.output import CAUTION, DIM, percent, print_json, show, span, table
from casarray.faces.cli.world import host_name, read_text


def check_file(file: str, environment: Mapping[str, str], *, as_json: bool) -> None:
    """Print what the file would do; `ConfigError` names what is wrong with it."""
    try:
        examined = examine(read_text(Path(file)), file, hostname=host_name(), environment=environment)
    except ConfigError as error:
        if as_json:
            print_json({"ok": False, "file": file, "problems": [], "error": str(error)})
        raise
    if as_json:
        _print_check(file, examined)
    if examined.config is None:
        if as_json:
            raise typer.Exit(1)
        number = len(examined.problems)
        shown = f", the first {MOST_PROBLEMS}" if number > MOST_PROBLEMS else ""
        raise ConfigError(f"{number} problem{'s' * (number > 1)} in {file}{shown}:\n{describe(examined.problems)}")
    if not as_json:
        show(_plan(file, examined.config))


def _print_check(file: str, examined: Examined) -> None:
    if examined.config is None:
        print_json({"ok": False, "file": file, "problems": examined.problems})
    else:
        notes = (*advise(examined.config), *_missing(examined.config))
        print_json({"ok": True, "file": file, "config": examined.config, "notes": notes})


def _plan(file: str, config: Config) -> Group:
    """What the configuration would do."""
    gate = config.gateway
    served = f"metrics on {gate.metrics}" if gate.metrics else "no metrics"
    parts: list[RenderableType] = [
        Text(f"{file} is right.\n"),
        Text(
            f"gateway {gate.name}: mode {gate.mode}, return path {gate.return_path}, control {gate.control}, {served}"
        ),
    ]
    for array in config.arrays:
        addresses = ", ".join(map(str, array.addresses))
        profile = f", profile {array.profile}" if array.profile else ""
        parts.append(Text(f"\narray {array.name}: {array.fqdn} at {addresses}, site {array.site}{profile}", "bold"))
        parts.append(Text(f"  a client stays on its server for {span(array.affinity_timeout)}{_sameness(array)}"))
        parts.append(Padding(table(("GROUP", "SERVICE", "PORT", "PROBE", ""), _service_rows(array)), (0, 0, 0, 2)))
        members = config.members(array)
        total = sum(server.weight for server in members) or 1
        rows = [(s.name, ", ".join(map(str, s.addresses)), str(s.weight), percent(s.weight / total)) for s in members]
        servers = table(("SERVER", "ADDRESS", "WEIGHT", "SHARE"), rows, numbers=("WEIGHT", "SHARE"))
        parts.append(Padding(servers, (1, 0, 0, 2)))
    notes = (*advise(config), *_missing(config))
    if notes:
        parts.append(Text(""))
        parts.extend(Text(f"note: {note}", CAUTION) for note in notes)
    return Group(*parts)


def _missing(config: Config) -> tuple[str, ...]:
    """Libraries that the configuration needs and this machine lacks."""
    asked = any(service.probe is ProbeKind.KERBEROS for array in config.arrays for service in array.services)
    lacking = [name for name in ("gssapi", "krb5") if asked and find_spec(name) is None]
    if not lacking:
        return ()
    return (
        f"the probe kerberos needs {' and '.join(lacking)}, which this machine does not have, so nobody is probed by "
        "it: pip install 'casarray[kerberos]'",
    )


def _sameness(array: Array) -> str:
    """What counts as the same client, when it is not simply one address."""
    words = []
    if any(a.version == 4 for a in array.addresses) and array.affinity_prefix4 != 32:
        words.append(f"/{array.affinity_prefix4} of IPv4")
    if any(a.version == 6 for a in array.addresses) and array.affinity_prefix6 != 128:
        words.append(f"/{array.affinity_prefix6} of IPv6")
    return f"; one client is a {' or a '.join(words)}" if words else ""


def _service_rows(array: Array) -> list[tuple[str | Text, ...]]:
    rows: list[tuple[str | Text, ...]] = []
    for service in sorted(array.services, key=lambda s: (s.group, s.port or 0)):
        rows.append(
            (service.group, service.name, str(service.port or "dynamic"), _probe(service), Text(_remarks(service), DIM))
        )
    return rows


def _probe(service: Service) -> str:
    return f"{service.probe} {service.path}" if service.probe in ("http", "https") else service.probe.value


def _remarks(service: Service) -> str:
    remarks = []
    if service.mapper:
        remarks.append("endpoint mapper; opens dynamic ports")
    if not service.required:
        remarks.append("not required")
    return ", ".join(remarks)
