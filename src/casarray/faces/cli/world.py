"""What the command line needs of the world; `main` brings it, tests bring their own.

Nothing here is imported before a command needs it, so that `casarray status` starts at once.
"""

import os
import pwd
import re
import socket
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from casarray.app.operations import RemoteOperations
from casarray.core.errors import ConfigError, Unavailable
from casarray.core.forwarding.table import Address

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from casarray.app.autodiscover_publishing import Publications
    from casarray.app.connectivity import Walker
    from casarray.app.directory import DirectoryService
    from casarray.app.fixed_ports import Progress
    from casarray.app.kerberos.desk import Desk
    from casarray.app.kerberos.ports import Agents, Realm
    from casarray.app.kerberos.proving import Knocker
    from casarray.app.kerberos.telling import EventLog, Timers
    from casarray.app.stores import DirectoryStore
    from casarray.core.autodiscover.request import Request
    from casarray.core.autodiscover.walk import Hop, Walked
    from casarray.core.config import AutodiscoverSettings, KerberosSettings
    from casarray.core.fixed_ports.asking import Answers
    from casarray.core.fixed_ports.subject import Subject
    from casarray.core.referral.visits import Visit
    from casarray.core.survey import Offer

DEFAULT_CONFIG = "/etc/casarray/casarray.toml"
DEFAULT_CONTROL = "/run/casarray.sock"
SERVICE_CONTROL = "/run/casarray/control.sock"  # of the systemd unit, whose user may not write to /run itself
CONTROL_VARIABLE = "CASARRAY_GATEWAY_CONTROL"


def _no_store(name: str | None) -> "DirectoryStore":
    raise Unavailable(f"no directory can be opened here ({name or 'the usual one'})")


def _no_asker(
    _subjects: "Sequence[Subject]", _seconds: float, _tell: "Callable[[Progress], None]"
) -> "Sequence[Answers]":
    raise Unavailable("no endpoint mapper can be asked from here")


def _no_realm() -> "Realm":
    raise Unavailable("no realm can be reached from here")


def _no_agents() -> "Agents":
    raise Unavailable("no agents can be reached from here")


def _no_knocker() -> "Knocker":
    raise Unavailable("no tickets can be shown from here")


def _no_tickets() -> bool:
    return False


def _no_walker() -> "Walker":
    raise Unavailable("nothing can be tested from here")


def _no_kerberos() -> "KerberosSettings":
    raise Unavailable("there is no configuration here")


def _usual_profile() -> str:
    from casarray.app.kerberos.desk import usual_profile  # noqa: PLC0415 - only what the command needs

    return usual_profile()


def _no_events() -> "EventLog":
    from casarray.app.kerberos.telling import Quiet  # noqa: PLC0415 - as above

    return Quiet()


def _no_timers() -> "Timers":
    from casarray.app.kerberos.telling import NoTimers  # noqa: PLC0415 - as above

    return NoTimers()


def _no_aliases(_names: Collection[str]) -> Mapping[str, str]:
    return {}


def _no_agent(path: str, _as_json: bool) -> int:
    raise Unavailable(f"no agent can be run from here ({path})")


def _no_referral(path: str, _listen: Sequence[str], _retired: Sequence[str], _as_json: bool) -> int:
    raise Unavailable(f"no referral can be run from here ({path})")


def _no_rpc_proxy(path: str, _as_json: bool) -> int:
    raise Unavailable(f"no RPC proxy can be run from here ({path})")


def _no_visits(path: str) -> "Sequence[Visit]":
    raise Unavailable(f"nobody here knows who came ({path})")


def _no_autodiscover(path: str, _as_json: bool) -> int:
    raise Unavailable(f"no Autodiscover can be run from here ({path})")


def _untold() -> "AutodiscoverSettings":
    from casarray.core.config import AutodiscoverSettings  # noqa: PLC0415 - only what the command needs

    return AutodiscoverSettings()


@dataclass(frozen=True, slots=True)
class Asking:
    """How a client of Autodiscover asks: its logon, whom it trusts, and who hears of each stop."""

    user: str
    password: str = field(repr=False)
    ca: str
    seconds: float
    only: bool
    tell: "Callable[[Hop], None]"


def _no_discovery(_request: "Request", _urls: Sequence[str], _asking: Asking) -> "Walked":
    raise Unavailable("nobody can be asked from here")


def _no_publications() -> "AbstractContextManager[Publications]":
    raise Unavailable("no Active Directory can be reached from here")


@dataclass(frozen=True, slots=True)
class World:
    """The outside of the command line."""

    connect: Callable[[str], RemoteOperations]  # path of a control socket -> the gateway behind it
    run: Callable[[str, bool], int]  # path of a configuration, log as JSON -> exit code
    remove: Callable[[str], Sequence[str]]  # path of a configuration -> what was taken away, a sentence each
    survey: Callable[[Mapping[str, Address]], "Sequence[Offer]"]  # server name -> address -> what each really offers
    environment: Mapping[str, str]
    default_config: str = DEFAULT_CONFIG
    default_control: str = DEFAULT_CONTROL
    service_control: str = SERVICE_CONTROL
    open_store: Callable[[str | None], "DirectoryStore"] = _no_store  # a store's name, or the configuration's
    # arrays, seconds for each server, whom to tell how far it is -> what each server's endpoint mapper says
    ask_ports: "Callable[[Sequence[Subject], float, Callable[[Progress], None]], Sequence[Answers]]" = _no_asker
    run_agent: Callable[[str, bool], int] = _no_agent  # path of an agent's configuration, log as JSON -> exit code
    # path of a configuration, addresses, retired names, log as JSON -> exit code
    run_referral: Callable[[str, Sequence[str], Sequence[str], bool], int] = _no_referral
    run_rpc_proxy: Callable[[str, bool], int] = _no_rpc_proxy  # path of a configuration, log as JSON -> exit code
    run_autodiscover: Callable[[str, bool], int] = _no_autodiscover  # path of a configuration, log as JSON
    autodiscover: "Callable[[], AutodiscoverSettings]" = _untold  # of the usual configuration
    discover: "Callable[[Request, Sequence[str], Asking], Walked]" = _no_discovery  # whose settings, URLs to ask first
    publications: "Callable[[], AbstractContextManager[Publications]]" = _no_publications  # service connection points
    visits: "Callable[[str], Sequence[Visit]]" = _no_visits  # path of a configuration -> who came to retired names
    kerberos: "Callable[[], KerberosSettings]" = _no_kerberos  # of the usual configuration
    open_realm: "Callable[[], Realm]" = _no_realm
    agents: "Callable[[], Agents]" = _no_agents
    knocker: "Callable[[], Knocker]" = _no_knocker  # with our own tickets, as `[kerberos]` says
    outlook_walker: "Callable[[], Walker]" = _no_walker  # walks to mailboxes as Outlook does
    has_tickets: Callable[[], bool] = _no_tickets  # whether kinit has left some that live
    profile: Callable[[], str] = _usual_profile  # of arrays that name none
    canonical: Callable[[Collection[str]], Mapping[str, str]] = _no_aliases  # names -> those that are aliases in DNS
    events: "Callable[[], EventLog]" = _no_events  # of this machine
    timers: "Callable[[], Timers]" = _no_timers


def world(context: typer.Context) -> World:
    """The world that this command was started with."""
    found = context.find_object(World)
    assert found is not None
    return found


def gateway(context: typer.Context, control: str | None) -> RemoteOperations:
    """The gateway that the options mean."""
    around = world(context)
    return around.connect(control_path(around, control))


def service(context: typer.Context, store: str | None) -> "DirectoryService":
    """The directory that ``--store`` or the configuration means, in the name of whoever called us."""
    from casarray.app.directory import DirectoryService  # noqa: PLC0415 - only what the command needs

    around = world(context)
    return DirectoryService(around.open_store(store), who(around))


def desk(context: typer.Context, store: str | None = None) -> "Desk":
    """What commands around the shared account work with."""
    from casarray.app.kerberos.desk import Desk  # noqa: PLC0415 - only what the command needs

    around = world(context)
    parts = (service(context, store), around.kerberos, around.open_realm, around.agents)
    return Desk(*parts, profile=around.profile, canonical=around.canonical, events=around.events, timers=around.timers)


def who(around: World) -> str:
    """Who called us, for the audit trail: the account's name, and by whom sudo was used."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    by = around.environment.get("SUDO_USER", "")
    return f"{name} (sudo by {by})" if by.isprintable() and by else name


def control_path(around: World, given: str | None) -> str:
    """The control socket: as given, or that of the configuration given, of the environment, of the default one."""
    if given is not None:
        return _control_in(Path(given)) or around.default_control if Path(given).is_file() else given
    if found := around.environment.get(CONTROL_VARIABLE):
        return found
    try:
        named = _control_in(Path(around.default_config))
    except ConfigError:  # it is not there, or it is not ours to read: no reason not to try the usual places
        named = None
    if named is None and not Path(around.default_control).exists() and Path(around.service_control).exists():
        return around.service_control
    return named or around.default_control


def _control_in(path: Path) -> str | None:
    """`gateway.control` in a configuration; the rest of the file may be as wrong as it likes."""
    try:
        gateway_table = tomllib.loads(read_text(path)).get("gateway")
    except (ValueError, RecursionError):
        raise ConfigError(f"{path} is not TOML; see casarray check -c {path}") from None
    control = gateway_table.get("control") if isinstance(gateway_table, dict) else None
    return control if isinstance(control, str) else None


def read_text(path: Path) -> str:
    """The text of a configuration file, or a `ConfigError` that says why not."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}; write one with casarray init, or name yours with -c") from None
    except PermissionError:
        raise ConfigError(f"no right to read {path}; use sudo, or name another file with -c") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: this is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name the configuration with -c") from None


def host_name() -> str:
    """What this machine is called, without its domain."""
    return re.sub(r"[^\w-]", "", socket.gethostname().partition(".")[0]) or "gateway"
