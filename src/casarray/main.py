"""The program `casarray`: brings the command line its world, each piece imported when it is needed.

A gateway is started without the command line: its libraries cost a quarter of a second, and 20 MB that it would carry
for as long as it lives.
"""

import gc
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from casarray.adapters.extras import kerberos_libraries

if TYPE_CHECKING:
    from casarray.app.autodiscover_publishing import Publications
    from casarray.app.connectivity import Walker
    from casarray.app.fixed_ports import Progress
    from casarray.app.kerberos.ports import Agents, Realm
    from casarray.app.kerberos.proving import Knocker
    from casarray.app.kerberos.telling import EventLog, Timers
    from casarray.app.operations import RemoteOperations
    from casarray.app.stores import DirectoryStore
    from casarray.core.autodiscover.request import Request
    from casarray.core.autodiscover.walk import Walked
    from casarray.core.config import AutodiscoverSettings, Config, KerberosSettings
    from casarray.core.fixed_ports.asking import Answers
    from casarray.core.fixed_ports.subject import Subject
    from casarray.core.forwarding.table import Address
    from casarray.core.referral.visits import Visit
    from casarray.core.survey import Offer
    from casarray.faces.cli.world import Asking


def main() -> None:
    """Run one command; leaves by SystemExit with its exit code."""
    if (gateway := _plainly_run(sys.argv[1:])) is not None:
        sys.exit(serve(*gateway))
    if sys.argv[1:2] == ["agent"] and (agent := _plainly_run(sys.argv[2:])) is not None:
        sys.exit(_run_agent(*agent))
    if sys.argv[1:2] == ["referral"] and (referral := _plainly_run(sys.argv[2:])) is not None:
        sys.exit(_run_referral(referral[0], (), (), referral[1]))
    if sys.argv[1:2] == ["rpc-proxy"] and (proxy := _plainly_run(sys.argv[2:])) is not None:
        sys.exit(_run_rpc_proxy(*proxy))
    if sys.argv[1:2] == ["autodiscover"] and (told := _plainly_run(sys.argv[2:])) is not None:
        sys.exit(_run_autodiscover(*told))
    from casarray.faces.cli.app import cli  # noqa: PLC0415 - see above
    from casarray.faces.cli.world import World  # noqa: PLC0415 - see above

    world = World(
        connect=_connect,
        run=_run,
        run_agent=_run_agent,
        run_referral=_run_referral,
        run_rpc_proxy=_run_rpc_proxy,
        run_autodiscover=_run_autodiscover,
        autodiscover=_autodiscover,
        discover=_discover,
        publications=_publications,
        visits=_visits,
        remove=_remove,
        survey=_survey,
        environment=os.environ,
        open_store=_open_store,
        ask_ports=_ask_ports,
        kerberos=_kerberos,
        open_realm=_open_realm,
        agents=_agents,
        knocker=_knocker,
        outlook_walker=_outlook_walker,
        has_tickets=_has_tickets,
        events=_events,
        timers=_timers,
        profile=_profile,
        canonical=_canonical,
    )
    cli(obj=world, prog_name="casarray")


def _plainly_run(arguments: Sequence[str]) -> tuple[str, bool] | None:
    """The file and whether to log as JSON, of ``run -c FILE [--json]``; all else is for the command line to judge."""
    match [argument for argument in arguments if argument != "--json"]:
        case ["run", "-c" | "--config", file] if not file.startswith("-"):
            return file, "--json" in arguments
    return None


def serve(path: str, as_json: bool) -> int:
    """Be the gateway of this configuration until told to stop; its exit code."""
    gc.disable()  # whatever is made until it is ready stays: looking through it for garbage again and again is in vain
    from casarray.run import run  # noqa: PLC0415 - loads the whole gateway

    return run(path, as_json=as_json)


def _run_agent(path: str, as_json: bool) -> int:
    from casarray.core.errors import Unavailable  # noqa: PLC0415 - loads little

    try:
        with kerberos_libraries():
            from casarray.agent import run  # noqa: PLC0415 - loads the whole agent
    except Unavailable as error:  # nobody else says it: the agent is started without the command line
        print(f"casarray: {error}", file=sys.stderr)
        return 1
    return run(path, as_json=as_json)


def _run_referral(path: str, listen: Sequence[str], retired: Sequence[str], as_json: bool) -> int:
    from casarray.referral import run  # noqa: PLC0415 - loads the whole referral

    return run(path, listen, retired, as_json=as_json)


def _run_rpc_proxy(path: str, as_json: bool) -> int:
    from casarray.rpc_proxy import run  # noqa: PLC0415 - loads the whole proxy

    return run(path, as_json=as_json)


def _run_autodiscover(path: str, as_json: bool) -> int:
    from casarray.autodiscover import run  # noqa: PLC0415 - loads all of it

    return run(path, as_json=as_json)


def _autodiscover() -> "AutodiscoverSettings":
    return _usual().autodiscover


def _discover(request: "Request", urls: Sequence[str], ask: "Asking") -> "Walked":
    import asyncio  # noqa: PLC0415 - only what the command needs

    from casarray.adapters.autodiscover_client import AutodiscoverClient  # noqa: PLC0415 - as above
    from casarray.adapters.net.rpc_http_client import Basic  # noqa: PLC0415 - as above

    logon = (lambda _host: Basic(ask.user, ask.password)) if ask.user else None
    client = AutodiscoverClient(logon, ca=ask.ca, seconds=ask.seconds)
    return asyncio.run(client.walk(request, urls, only=ask.only, tell=ask.tell))


@contextmanager
def _publications() -> "Iterator[Publications]":
    from casarray.adapters.stores.ldap_publications import open_publications  # noqa: PLC0415 - its library is an extra

    with open_publications(_usual().directory) as found:
        yield found


def _visits(path: str) -> "Sequence[Visit]":
    from casarray.adapters.config_reader import read_config  # noqa: PLC0415 - loads all that reads configurations
    from casarray.adapters.stores.visits_file import VisitsFile  # noqa: PLC0415 - as above
    from casarray.core.config import Gateway  # noqa: PLC0415 - as above

    if not os.path.exists(path):
        return VisitsFile(Gateway("gateway").state).load()
    config = read_config(path)
    return VisitsFile(config.referral.state or config.gateway.state).load()


def _connect(path: str) -> "RemoteOperations":
    from casarray.adapters.control_client import ControlClient  # noqa: PLC0415 - only what the command needs

    return ControlClient(path)


def _open_store(name: str | None) -> "DirectoryStore":
    """The store of that name; without one, that of the usual configuration, and without that, the embedded one."""
    from casarray.adapters.stores.opening import open_named, open_store  # noqa: PLC0415 - as above

    config = _usual()
    gateway, settings = config.gateway, config.directory
    return open_named(gateway, settings) if name is None else open_store(name, settings, gateway.state)


def _usual() -> "Config":
    """The usual configuration; an empty one if there is none."""
    from casarray.core.config import Config, Gateway  # noqa: PLC0415 - as above
    from casarray.faces.cli.world import DEFAULT_CONFIG  # noqa: PLC0415 - the command line has loaded it

    if not os.path.exists(DEFAULT_CONFIG):
        return Config(Gateway("gateway"), (), (), ())
    from casarray.adapters.config_reader import read_config  # noqa: PLC0415 - loads all that reads configurations

    return read_config(DEFAULT_CONFIG)


def _kerberos() -> "KerberosSettings":
    return _usual().kerberos


def _profile() -> str:
    return _usual().directory.profile


def _canonical(names: Collection[str]) -> Mapping[str, str]:
    with kerberos_libraries():
        from casarray.adapters.dns import canonical  # noqa: PLC0415 - only what the command needs

        return canonical(names)


def _open_realm() -> "Realm":
    from casarray.adapters.kerberos.opening import open_realm  # noqa: PLC0415 - it has libraries of its own

    config = _usual()
    with kerberos_libraries():
        return open_realm(config.kerberos, config.directory)


def _agents() -> "Agents":
    with kerberos_libraries():
        from casarray.adapters.kerberos.agent_client import MemberAgents  # noqa: PLC0415 - as above

    return MemberAgents(_usual().kerberos)


def _knocker() -> "Knocker":
    with kerberos_libraries():
        from casarray.adapters.kerberos.knocking import GssKnocker  # noqa: PLC0415 - as above

    return GssKnocker(_usual().kerberos)


def _has_tickets() -> bool:
    try:
        from casarray.adapters.kerberos.initiator import Purse  # noqa: PLC0415 - it has libraries of its own
    except ImportError:
        return False
    purse = Purse()
    found = purse.open() is None
    purse.close()
    return found


def _outlook_walker() -> "Walker":
    import time  # noqa: PLC0415 - only what the command needs

    from casarray.adapters.outlook_network import OutlookNetwork  # noqa: PLC0415 - as above
    from casarray.app.connectivity import Walker  # noqa: PLC0415 - as above

    return Walker(OutlookNetwork, time.monotonic)


def _events() -> "EventLog":
    from casarray.adapters.kerberos.event_log import SystemLog  # noqa: PLC0415 - as above

    return SystemLog()


def _timers() -> "Timers":
    from casarray.adapters.unit_files import SystemdUnits  # noqa: PLC0415 - as above

    return SystemdUnits()


def _run(path: str, as_json: bool) -> int:
    """Become the gateway, without what the command line has loaded; it stays the same process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "casarray.serve", path, *(["--json"] if as_json else [])])


def _remove(path: str) -> Sequence[str]:
    from casarray.run import remove  # noqa: PLC0415 - loads the whole gateway

    return remove(path)


def _survey(servers: "Mapping[str, Address]") -> "Sequence[Offer]":
    from casarray.adapters.survey import survey  # noqa: PLC0415 - loads the probes

    return survey(servers)


def _ask_ports(
    subjects: "Sequence[Subject]", seconds: float, tell: "Callable[[Progress], None]"
) -> "Sequence[Answers]":
    from casarray.adapters.port_asker import ask_ports  # noqa: PLC0415 - loads all of RPC

    return ask_ports(subjects, seconds, tell)


if __name__ == "__main__":
    main()
