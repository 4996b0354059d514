"""The agent's configuration file: TOML text in, `AgentSettings` out, or everything that is wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from casarray.core import config_values as read
from casarray.core.config_file import (
    Problem,
    complete_table,
    describe,
    each_table,
    parse,
    problems_of,
    read_table,
    unknown_key,
)
from casarray.core.config_table import Key, Table
from casarray.core.config_values import Report
from casarray.core.errors import ConfigError
from casarray.core.kerberos.principal import is_spn
from casarray.core.toml_lines import Path

DEFAULT_FILE = "/etc/casarray/agent.toml"
PORT, HEALTH_PORT = 7135, 7136
_WORDS = 'write a list of words, like ["systemctl", "reload", "dovecot"]'
_PRINCIPALS = 'write a list of principals, like ["admin@DOMAIN.TLD"]'


@dataclass(frozen=True, slots=True)
class KeytabFile:
    """A keytab that the agent keeps."""

    path: str
    owner: str = "root"
    group: str = ""  # empty: the owner's
    services: tuple[str, ...] = ()  # classes of names; empty: all
    with_own: bool = False
    reload: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """The whole file."""

    administrators: tuple[str, ...]
    fqdn: str = ""  # empty: the host's
    listen: str = f"0.0.0.0:{PORT}"
    health: str = f"0.0.0.0:{HEALTH_PORT}"
    keytab: str = "/etc/krb5.keytab"
    state: str = "/var/lib/casarray-agent"
    key_file: str = "/etc/casarray/agent.key"
    members: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    check_interval: float = 60.0
    keytabs: tuple[KeytabFile, ...] = ()


def _read_principal(value: object, path: Path, report: Report) -> str | None:
    """``NAME@REALM``."""
    text = read.read_text(value, path, report)
    if text is not None and not (all(text.rpartition("@")[::2]) and text.isprintable()):
        report.wrong(path, f'"{text[:60]}" is no Kerberos principal', _PRINCIPALS)
        return None
    return text


def _read_class(value: object, path: Path, report: Report) -> str | None:
    """The class of service principal names: ``imap``, ``exchangeMDB``."""
    text = read.read_text(value, path, report)
    if text is not None and not is_spn(f"{text}/host"):
        report.wrong(path, f'"{text[:60]}" is no class of names', 'write what stands before the slash, like "imap"')
        return None
    return text


def _read_place(value: object, path: Path, report: Report) -> str | None:
    """Where to listen."""
    found = read.read_endpoint(value, path, report)
    if found == "":
        report.wrong(path, "nobody could reach the agent", f'write an address and a port, like "0.0.0.0:{PORT}"')
        return None
    return found


AGENT = Table(
    "[agent]",
    AgentSettings,
    "The agent itself.",
    (
        Key(
            "administrators",
            read.list_of(_read_principal, _PRINCIPALS, at_least=1, at_most=256),
            "Who may give this server keys and take them away: Kerberos principals.",
            '["casarray-admin@DOMAIN.TLD"]',
            required=True,
        ),
        Key(
            "fqdn",
            read.read_fqdn,
            "This server's full name, as in host/NAME of its machine account.",
            '"cas1.domain.tld"',
            default="the host's",
        ),
        Key("listen", _read_place, "Where administrators and other members reach it.", '"10.12.0.21:7135"'),
        Key(
            "health",
            read.read_endpoint,
            "Where `/health` (200, or 503 with the reason) and `/metrics` are served, in the clear and without "
            "secrets. Empty: nowhere.",
            '"10.12.0.21:7136"',
        ),
        Key(
            "keytab",
            read.read_file_path,
            "The machine's own keytab, with which it proves who it is.",
            '"/etc/krb5.keytab"',
        ),
        Key("state", read.read_file_path, "Folder of the encrypted vault.", '"/var/lib/casarray-agent"'),
        Key(
            "key_file",
            read.read_file_path,
            "The key of the vault, made at the first start. Keep it out of the backup that holds `state`.",
            '"/etc/casarray/agent.key"',
        ),
        Key(
            "members",
            read.list_of(_read_principal, _PRINCIPALS, at_most=4096),
            "Machine accounts of other members, which may ask this one for the keys they missed.",
            '["CAS2$@DOMAIN.TLD"]',
        ),
        Key(
            "peers",
            read.list_of(read.read_text, 'write a list of names, like ["cas2.domain.tld"]', at_most=4096),
            "Members (NAME or NAME:PORT) to ask for keys when this one has missed a roll.",
            '["cas2.domain.tld"]',
        ),
        Key(
            "accounts",
            read.list_of(read.read_text, 'write a list of accounts, like ["cas-asa$"]', at_most=256),
            "Shared accounts whose keys it must hold: without one of them it gets no clients, and asks its peers.",
            '["cas-asa$"]',
            default="none: a server without keys is taken for one that needs none",
        ),
        Key(
            "check_interval",
            read.duration(1, 86400),
            "So often it gets a ticket for the array's name and compares key versions.",
            '"60s"',
        ),
    ),
)

KEYTAB = Table(
    "[[keytab]]",
    KeytabFile,
    "A keytab that services of this server read. The agent owns the file: what was in it before is put aside once, as "
    "`NAME.before-casarray`.",
    (
        Key("path", read.read_file_path, "Where it is.", '"/etc/dovecot/array.keytab"', required=True),
        Key("owner", read.read_text, "Who may read it: a user, mode 0600.", '"dovecot"'),
        Key("group", read.read_text, "Its group.", '"dovecot"', default="the owner's"),
        Key(
            "services",
            read.list_of(_read_class, 'write a list of classes, like ["imap", "pop"]', at_most=64),
            "Only names of these classes.",
            '["imap", "pop", "smtp"]',
            default="all",
        ),
        Key("with_own", read.read_boolean, "Also the machine's own keys, for clients that use its own name.", "true"),
        Key(
            "reload",
            read.list_of(read.read_text, _WORDS, at_most=32),
            "The command, without a shell, that makes the service read it again.",
            '["systemctl", "reload", "dovecot"]',
        ),
    ),
)
AGENT_TABLES = (AGENT, KEYTAB)


def load_agent(text: str, file: str = DEFAULT_FILE, *, hostname: str = "") -> AgentSettings:
    """The settings in the text; raises `ConfigError` that names all problems, each on its line."""
    raw = parse(text, file)
    if isinstance(raw, Problem):
        raise ConfigError(describe((raw,)))
    report = Report()
    for key in raw.keys() - {"agent", "keytab"}:
        unknown_key((key,), key, ["agent", "keytab"], report)
    values = read_table(AGENT, raw.get("agent", {}), ("agent",), report)
    keytabs = [
        KeytabFile(**found)
        for path, table in each_table("keytab", raw, report, header=KEYTAB.header)
        if (found := complete_table(KEYTAB, table, path, report)) is not None
    ]
    _check_paths(keytabs, values, report)
    if "fqdn" not in _agent_table(raw) and "." not in hostname:
        report.wrong(("agent",), "fqdn is missing, and this host has no domain", 'write fqdn = "cas1.domain.tld"')
    if problems := problems_of(report, text, file):
        raise ConfigError(describe(problems))
    named: dict[str, Any] = {"fqdn": hostname} | values
    return AgentSettings(**named, keytabs=tuple(keytabs))


def _agent_table(raw: Mapping[str, object]) -> Mapping[str, object]:
    """The table of the agent itself, if it is one."""
    found = raw.get("agent")
    return found if isinstance(found, dict) else {}


def _check_paths(keytabs: list[KeytabFile], values: Mapping[str, Any], report: Report) -> None:
    seen: set[str] = set()
    machine = values.get("keytab", AgentSettings.__dataclass_fields__["keytab"].default)
    for number, one in enumerate(keytabs):
        if one.path in seen:
            report.wrong(("keytab", number, "path"), f"{one.path} is kept twice", "name each file once")
        seen.add(one.path)
        if one.path == machine:
            what = f"{one.path} is the machine's own keytab, which its domain's programs write"
            report.wrong(("keytab", number, "path"), what, "name another file, and with_own = true")
