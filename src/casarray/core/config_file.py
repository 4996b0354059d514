"""The configuration file: TOML text in, a `Config` out, or everything that is wrong with it.

Three steps: each value is read by its key's reader (`config_keys`), profile and services are merged
(`config_services`), and the whole is held against the rules (`config_rules`). Each step reports and goes on, so that
one run names all problems; a part with a faulty value is left out of the later steps: one mistake is named once.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from casarray.core.config import (
    ApiSettings,
    Array,
    AutodiscoverSettings,
    Config,
    DirectorySettings,
    Gateway,
    HealthPolicy,
    KerberosSettings,
    ReferralSettings,
    Retired,
    RpcHttpSettings,
    Server,
    Site,
)
from casarray.core.config_access import API, KERBEROS
from casarray.core.config_autodiscover import AUTODISCOVER
from casarray.core.config_keys import (
    ARRAY,
    DIRECTORY,
    GATEWAY,
    HEALTH,
    IN_ARRAY,
    SERVER,
    SERVICE,
    SITE,
    TABLES,
    TOP,
)
from casarray.core.config_referral import REFERRAL, RETIRED
from casarray.core.config_rpc_http import RPC_HTTP
from casarray.core.config_rules import Draft, check_rules, key_text
from casarray.core.config_services import merge_services, nearest
from casarray.core.config_table import Table
from casarray.core.config_values import Report, show
from casarray.core.errors import ConfigError
from casarray.core.profiles import PROFILES
from casarray.core.toml_lines import Path, key_lines, line_of

DEFAULT_FILE = "/etc/casarray/casarray.toml"
ENVIRONMENT_PREFIX = "CASARRAY_GATEWAY_"
MOST_PROBLEMS = 20  # shown at once


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    file: str  # or the name of the environment variable
    line: int  # 0: nowhere in particular
    key: str  # array[0].addresses[1]
    what: str
    right: str

    def __str__(self) -> str:
        """One line for people."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        key = f" {self.key}:" if self.key else ""
        return f"{place}:{key} {self.what}; {self.right}"


@dataclass(frozen=True, slots=True)
class Examined:
    """A configuration, or its problems in the order of the file."""

    config: Config | None
    problems: tuple[Problem, ...]


def load_config(
    text: str,
    file: str = DEFAULT_FILE,
    *,
    hostname: str = "gateway",
    environment: Mapping[str, str] | None = None,
) -> Config:
    """The configuration in the text; raises `ConfigError` that names all problems (at most 20), each on its line."""
    examined = examine(text, file, hostname=hostname, environment=environment)
    if examined.config is None:
        raise ConfigError(describe(examined.problems))
    return examined.config


def describe(problems: tuple[Problem, ...]) -> str:
    """The first problems, one on each line."""
    lines = [str(problem) for problem in problems[:MOST_PROBLEMS]]
    if len(problems) > MOST_PROBLEMS:
        lines.append(f"... and {len(problems) - MOST_PROBLEMS} more")
    return "\n".join(lines)


def examine(
    text: str,
    file: str = DEFAULT_FILE,
    *,
    hostname: str = "gateway",
    environment: Mapping[str, str] | None = None,
) -> Examined:
    """Read the text, and from the environment what starts with CASARRAY_GATEWAY_. ``file`` is for messages alone."""
    raw = parse(text, file)
    if isinstance(raw, Problem):
        return Examined(None, (raw,))
    report = Report()
    variables = _add_environment(raw, environment or {})
    draft = _read_draft(raw, hostname, report)
    check_rules(draft, report)
    return Examined(None if report.problems else draft.config(), problems_of(report, text, file, variables))


def parse(text: str, file: str) -> dict[str, Any] | Problem:
    """The TOML, or what is wrong with it."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        return Problem(file, 0, "", "this is nested too deeply", "no key here needs a list in a list")
    except ValueError as error:
        return _syntax_problem(file, text, str(error))


def problems_of(
    report: Report, text: str, file: str, variables: Mapping[Path, str] | None = None
) -> tuple[Problem, ...]:
    """What was reported, each once, in the order of the file."""
    if not report.problems:
        return ()
    lines = key_lines(text)
    found = {_problem(file, lines, variables or {}, problem): None for problem in report.problems}
    return tuple(sorted(found, key=lambda p: (p.line, p.key)))


def _problem(
    file: str, lines: Mapping[Path, int], variables: Mapping[Path, str], problem: tuple[Path, str, str]
) -> Problem:
    path, what, right = problem
    if variable := variables.get(path[:2]):
        return Problem(variable, 0, key_text(path), what, right)
    return Problem(file, line_of(lines, path), key_text(path), what, right)


def _syntax_problem(file: str, text: str, message: str) -> Problem:
    """What `tomllib` says, with the line it hides in the text."""
    found = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    line = int(found[1]) if found else 0
    if message.endswith("(at end of document)"):
        line = text.count("\n") + 1
    what = re.sub(r" \(at .*\)$", "", message)
    if "Exceeds the limit" in what:
        what = "a number with thousands of digits"
    what = "".join(c if c.isprintable() else "?" for c in what)
    return Problem(file, line, "", f"not TOML: {what[:1].lower()}{what[1:200]}", 'a line is: key = "value"')


def _add_environment(raw: dict[str, Any], environment: Mapping[str, str]) -> dict[Path, str]:
    """Put the variables over the file's `[gateway]`; which variable stands for which key."""
    variables: dict[Path, str] = {}
    gateway = raw.get("gateway", {})
    if not isinstance(gateway, dict):
        return variables
    for variable, value in sorted(environment.items()):
        if variable.startswith(ENVIRONMENT_PREFIX):
            key = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
            listed = key == "source_addresses"
            gateway[key] = [part.strip() for part in value.split(",") if part.strip()] if listed else value
            variables["gateway", key] = variable
    if variables:
        raw["gateway"] = gateway
    return variables


def _read_draft(raw: dict[str, Any], hostname: str, report: Report) -> Draft:
    for key in raw.keys() - TOP.keys():
        unknown_key((key,), key, list(TOP), report)
    gateway = read_table(GATEWAY, raw.get("gateway", {}), ("gateway",), report)
    directory = read_table(DIRECTORY, raw.get("directory", {}), ("directory",), report)
    api = read_table(API, raw.get("api", {}), ("api",), report)
    kerberos = read_table(KERBEROS, raw.get("kerberos", {}), ("kerberos",), report)
    named = {"name": hostname or "gateway"} | gateway
    draft = Draft(Gateway(**named), DirectorySettings(**directory), ApiSettings(**api), KerberosSettings(**kerberos))
    sites = each_table("site", raw, report)
    draft.site_names = frozenset(t["name"] for _, t in sites if isinstance(t.get("name"), str))
    for path, table in sites:
        if values := complete_table(SITE, table, path, report):
            draft.sites.append((path, Site(**values)))
    for path, table in each_table("array", raw, report):
        if array := read_array(table, path, report):
            draft.arrays.append((path, array))
    for path, table in each_table("server", raw, report):
        if values := complete_table(SERVER, table, path, report):
            draft.servers.append((path, Server(**values)))
    told = read_table(AUTODISCOVER, raw.get("autodiscover", {}), ("autodiscover",), report)
    draft.autodiscover = AutodiscoverSettings(**told)
    draft.rpc_http = RpcHttpSettings(**read_table(RPC_HTTP, raw.get("rpc-http", {}), ("rpc-http",), report))
    draft.referral = ReferralSettings(**read_table(REFERRAL, raw.get("referral", {}), ("referral",), report))
    for path, table in each_table("retired", raw, report):
        if values := complete_table(RETIRED, table, path, report):
            draft.retired.append((path, Retired(**values)))
    return draft


def read_array(table: dict[str, Any], path: Path, report: Report) -> Array | None:
    """One array with its profile's services, or None when anything in it is wrong."""
    before = len(report.problems)
    values = read_table(ARRAY, table, path, report, inner=IN_ARRAY)
    health = read_table(HEALTH, table.get("health", {}), (*path, "health"), report)
    services = [
        (place, given)
        for place, service in each_table("service", table, report, path)
        if (given := complete_table(SERVICE, service, place, report))
    ]
    without = values.pop("without", ())
    values["services"] = merge_services(values.get("profile", ""), without, services, path, report)
    if not values["services"] and len(report.problems) == before:
        known = ", ".join(f'"{name}"' for name in PROFILES)
        report.wrong(path, "the array has no services", f"set profile to one of {known}, or add [[array.service]]")
    if len(report.problems) > before:
        return None
    return Array(**values, health=HealthPolicy(**health))


def complete_table(table: Table, raw: dict[str, Any], path: Path, report: Report) -> dict[str, Any] | None:
    """The table's values, or nothing when any of them is wrong."""
    before = len(report.problems)
    values = read_table(table, raw, path, report)
    return values if len(report.problems) == before else None


def read_table(
    table: Table, raw: object, path: Path, report: Report, inner: Mapping[str, Table] | None = None
) -> dict[str, Any]:
    """The fields of the table's value class that the file gives, those that are right."""
    if not isinstance(raw, dict):
        report.wrong(path, f"{show(raw)} is not a table", f"write {table.header} on a line of its own, once")
        return {}
    inner = inner or {}
    values: dict[str, Any] = {}
    for key in raw.keys() - inner.keys():
        known = table.key(key)
        if known is None:
            unknown_key((*path, key), key, [k.name for k in table.keys] + list(inner), report)
        elif (value := known.read(raw[key], (*path, key), report)) is not None:
            values[known.target] = value
    for known in table.keys:
        if known.required and known.name not in raw:
            report.wrong(path, f"{known.name} is missing", f"write {known.name} = {known.example}")
    return values


def each_table(
    key: str, raw: dict[str, Any], report: Report, parent: Path = (), header: str = ""
) -> list[tuple[Path, dict[str, Any]]]:
    """The tables of an array of tables, each with its path."""
    path = (*parent, key)
    header = header or (IN_ARRAY if parent else TOP)[key].header
    tables = raw.get(key, [])
    if not isinstance(tables, list):
        report.wrong(
            path, f"{show(tables)} is not a list of tables", f"write {header} with two brackets, once for each"
        )
        return []
    found = []
    for index, table in enumerate(tables):
        if isinstance(table, dict):
            found.append(((*path, index), table))
        else:
            report.wrong((*path, index), f"{show(table)} is not a table", f"write {header} on a line of its own")
    return found


def unknown_key(path: Path, key: str, known: list[str], report: Report) -> None:
    """Report a key that nothing reads, with the one that was probably meant."""
    elsewhere = [table.header for table in TABLES if table.key(key)]
    if close := nearest(key, known):
        right = f'did you mean "{close}"?'
    elif elsewhere:
        right = f"it belongs under {' or '.join(elsewhere)}"
    else:
        right = f"known here: {', '.join(known)}"
    report.wrong(path, "unknown key", right)
