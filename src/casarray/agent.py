"""Puts one member's agent together and lets it run: `casarray agent run`."""

import logging
import signal
import sys
import threading
import time
from importlib.metadata import version
from types import FrameType

from casarray.adapters.config_reader import read_agent
from casarray.adapters.kerberos import gss
from casarray.adapters.kerberos.agent_client import MemberAgents
from casarray.adapters.kerberos.agent_server import AgentServer, HealthServer
from casarray.adapters.kerberos.keytab_files import KeytabFiles
from casarray.adapters.kerberos.own_tickets import OwnTickets, machine_principal
from casarray.adapters.kerberos.vault import FileVault
from casarray.adapters.log import log_to_stderr
from casarray.adapters.systemd import Notifier
from casarray.app.kerberos.member import Member
from casarray.core.config import KerberosSettings
from casarray.core.errors import CasarrayError
from casarray.core.kerberos.agent_config import AgentSettings
from casarray.core.kerberos.keys import Holding

log = logging.getLogger("casarray.agent")


class RunningAgent:
    """One agent with its doors. `close` ends it; for threads, so that a lab can have many in one process."""

    def __init__(self, settings: AgentSettings) -> None:
        """Raises what is wrong with the vault, the keytabs, the addresses."""
        self.settings = settings
        self.member = Member(
            settings,
            version("casarray"),
            vault=FileVault(settings.state, settings.key_file, settings.fqdn),
            keytabs=KeytabFiles(settings.keytabs, settings.keytab),
            tickets=OwnTickets(settings.keytab),
            fetch=self._fetch,
            now=time.time,
        )
        gss.acceptor_credentials(settings.keytab)  # or the first caller would be told what we can see now
        self.server = AgentServer(self.member, lambda: gss.acceptor_credentials(settings.keytab), settings.listen)
        try:
            self.health = HealthServer(self.member, settings.health) if settings.health else None
        except CasarrayError:
            self.server.close()
            raise
        self._ending = threading.Event()
        self._checking = threading.Thread(target=self._check_now_and_then, name="check", daemon=True)

    def start(self) -> None:
        """Serve."""
        self.server.start()
        if self.health is not None:
            self.health.start()
        self._checking.start()

    def close(self) -> None:
        """End. Twice is once."""
        self._ending.set()
        self.server.close()
        if self.health is not None:
            self.health.close()
        if self._checking.is_alive():
            self._checking.join(5)

    def _check_now_and_then(self) -> None:
        while True:
            try:
                self.member.check()
            except CasarrayError as error:
                log.error("the check failed: %s", error)
            except Exception:  # the next one may do better
                log.exception("the check failed")
            if self._ending.wait(self.settings.check_interval):
                return

    def _fetch(self, peer: str, account: str) -> Holding:
        """Ask another member, as this machine."""
        own = self.settings.keytab
        agent = MemberAgents(KerberosSettings(principal=machine_principal(own), keytab=own)).reach(peer)
        try:
            return agent.give(account)
        finally:
            agent.close()


def run(path: str, *, as_json: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the configuration again. The exit code."""
    log_to_stderr(as_json=as_json)
    asked: list[int] = []
    woken = threading.Event()

    def remember(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        woken.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, remember)
    notifier = Notifier()
    try:
        agent = RunningAgent(read_agent(path))
    except CasarrayError as error:
        print(f"casarray: {error}", file=sys.stderr)
        return 1
    agent.start()
    print("ready", flush=True)
    notifier.ready(f"{len(agent.settings.keytabs)} keytabs")
    while True:
        while not woken.wait(notifier.watchdog_seconds / 2 if notifier.watchdog_seconds else None):
            notifier.watchdog()
        woken.clear()
        reasons, asked[:] = list(asked), []
        if signal.SIGHUP in reasons:
            agent = _renewed(agent, path, notifier)
        if signal.SIGTERM in reasons or signal.SIGINT in reasons:
            notifier.stopping()
            agent.close()
            return 0


def _renewed(agent: RunningAgent, path: str, notifier: Notifier) -> RunningAgent:
    """The agent with the configuration as it is now; the old one goes on where the new one cannot be."""
    notifier.reloading()
    try:
        settings = read_agent(path)
        if settings != agent.settings:
            KeytabFiles(settings.keytabs, settings.keytab)
            before = agent.settings
            agent.close()
            try:
                agent = RunningAgent(settings)
            except CasarrayError:
                agent = RunningAgent(before)  # if even that fails, the service ends and is started again
                agent.start()
                raise
            agent.start()
        log.info("the configuration was read again")
    except CasarrayError as error:
        log.error("the configuration was not taken, the old one stays: %s", error)
    notifier.ready()
    return agent
