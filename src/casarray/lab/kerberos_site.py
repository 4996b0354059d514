"""A site whose members read Kerberos tickets for the array's name: web, mail and RPC, behind a gateway.

A `NetworkSite` beside a real domain controller: each member runs Apache, Dovecot and Postfix (`KerberosMember`) and the
lab's RPC server, all of them reading the keytabs that `casarray agent` writes there. Clients and members have a leg in
the domain's network, so that tickets and keys can be had; what clients say to the array goes through the gateway.
"""

import asyncio
import itertools
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from casarray.adapters.kerberos import gss
from casarray.adapters.kerberos.agent_client import PATIENCE, MemberAgent
from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.app.directory import DirectoryService
from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.ports import Agent, Agents, Realm
from casarray.core.config import KerberosSettings
from casarray.core.directory.model import Array, Directory, Server, key
from casarray.core.directory.model import Site as DirectorySite
from casarray.core.errors import Unavailable
from casarray.core.kerberos.agent_config import HEALTH_PORT, PORT, KeytabFile
from casarray.lab.agents import Place, settings_of, written
from casarray.lab.kerberos_members import HTTP, MAIL, KerberosMember
from casarray.lab.netns import Plan, here
from casarray.lab.samba_ad import ADMINISTRATOR, DomainController
from casarray.lab.site import NetworkSite, Wanted

ACCOUNT = "asa$"
ARRAY = "cas.lab.example"
DOMAIN_DEVICE = "domain0"
_hosts = itertools.count(
    101
)  # legs in the domain's network; each has its own address, because hosts remember each other
#: Which names each of a member's services reads tickets for; the RPC server reads the web server's keytab.
_READ = {HTTP: ("http", "exchangemdb", "exchangerfr", "exchangeab"), MAIL: ("imap", "pop", "smtp")}

_MAIL = (("imap", 143, "imap"), ("pop", 110, "pop3"), ("smtp", 25, "smtp"))
_SERVICES = (
    ("http", 80, "http", "/health/"),
    *((*mail, "") for mail in _MAIL),
    ("agent", HEALTH_PORT, "http", "/health"),
)
#: All in one group, the agents' word on their keys included: a member that is not well in one has clients in none.
_MORE = "".join(
    f'\n[[array.service]]\nname = "{name}"\nport = {port}\nprobe = "{probe}"\ngroup = "rpc"\n'
    + (f'path = "{path}"\n' if path else "")
    for name, port, probe, path in _SERVICES
)


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who logs in, and the cache with the tickets."""

    name: str
    ccache: str


class SiteAgents:
    """`casarray.app.kerberos.ports.Agents`, found by the addresses that the lab gave them, for lack of DNS."""

    def __init__(self, addresses: Mapping[str, str], ccache: str) -> None:
        """``addresses``: by FQDN. Use it in the domain's network."""
        self._addresses = addresses
        self._ccache = ccache

    def reach(self, host: str) -> Agent:
        """Connect. `Unavailable`, `Denied`."""
        try:
            sock = socket.create_connection((self._addresses[host], PORT), PATIENCE)
        except (KeyError, OSError) as error:
            raise Unavailable(f"the agent of {host} cannot be reached: {error}") from None
        try:
            return MemberAgent(gss.initiate(sock, host, gss.credentials("", "", self._ccache)), host)
        except BaseException:
            sock.close()
            raise


class KerberosSite(NetworkSite):
    """The site. ``first`` of its servers are members from the beginning; `add_member` brings in the next one."""

    def __init__(self, folder: Path, controller: DomainController, *, first: int = 2, **options: Any) -> None:
        options.setdefault("more", _MORE)
        super().__init__(folder, plan=Plan(ipv6=False), **options)
        self.controller = controller
        self.members: dict[str, KerberosMember] = {}
        self.agents: dict[str, subprocess.Popen[Any]] = {}
        self._machines: dict[str, Path] = {}  # their keytabs
        self._all, self._first = self.names, first
        self._in_domain: dict[str, str] = {}  # addresses there, by FQDN

    def build(self) -> None:
        """Also the legs in the domain's network."""
        super().build()
        for short in ("clients", *self._all):
            address = f"10.99.0.{next(_hosts)}"
            self._in_domain[self.fqdn(short)] = address
            self.controller.lab.leg(self.lab[short], "domain", f"{address}/24", device=DOMAIN_DEVICE)
        self.names = self._all[: self._first]

    def fqdn(self, name: str) -> str:
        """A member's full name."""
        return f"{name}.{self.controller.domain}"

    def tear_down(self) -> None:
        """The web and mail servers first: they have folders of their own."""
        for member in self.members.values():
            member.ask_to_end()
        for member in self.members.values():
            member.close()
        self.members.clear()
        super().tear_down()

    async def start_servers(self) -> None:
        """All at once: each takes seconds."""
        await asyncio.gather(*map(self.start_server, self.names))

    async def start_server(self, name: str) -> None:
        """Start a member's RPC server, web and mail servers; they have no keys yet."""
        host = self.host(name)
        member = KerberosMember(host, name, self.addresses(name), krb5_conf=self.controller.krb5_conf)
        self.members[name] = member
        starting = asyncio.to_thread(member.start)
        environment = [f"KRB5_CONFIG={self.controller.krb5_conf}", f"KRB5RCACHEDIR={member.folder}/replay"]
        (member.folder / "replay").mkdir(exist_ok=True)
        command = ["env", *environment, sys.executable, "-m", "casarray.lab.server", "--name", name]
        command += ["--address", self.addresses(name)[0], "--keytab", str(member.keytabs["http"].path)]
        for service in ("epm", "ab", "rpc"):
            command += [f"--{service}-port", str(getattr(self.ports, service))]
        command += ["--journal", str(self.folder / f"{name}.jsonl"), "--control", str(self.folder / f"{name}.sock")]
        self.servers[name], _ = await asyncio.gather(self._start(name, name, command), starting)

    async def start_agent(self, name: str) -> None:
        """Run `casarray agent` on a member, which joins the domain the first time. It looks at its keys each second."""
        folder, address = self.folder / f"{name}.agent", self._in_domain[self.fqdn(name)]
        if name not in self._machines:
            self._machines[name] = await asyncio.to_thread(self.controller.add_machine, name)
        files = self.members[name].keytabs
        settings = settings_of(
            Place(self.fqdn(name), address, self._machines[name], folder),
            [f"{ADMINISTRATOR}@{self.controller.realm}"],
            keytabs=[KeytabFile(str(file.path), file.owner, services=_READ[which]) for which, file in files.items()],
            check_interval=1.0,
        )
        seen_by_gateway = f"{self.addresses(name)[0]}:{HEALTH_PORT}"
        config = written(replace(settings, health=seen_by_gateway), folder / "agent.toml")
        environment = f"KRB5_CONFIG={self.controller.krb5_conf}"
        command = ["env", environment, sys.executable, "-m", "casarray.main", "agent", "run", "-c", str(config)]
        self.agents[name] = await self._start(name, f"{name}.agent", command)

    def stop_agent(self, name: str) -> None:
        """End a member's agent; its services go on with the keys they have."""
        agent = self.agents.pop(name)
        agent.terminate()
        agent.wait(10)

    def reach(self) -> SiteAgents:
        """The way to the agents, for the domain's administrator, in the domain's network."""
        ccache = self.controller.ticket(ADMINISTRATOR, self.controller.password)
        return SiteAgents(self._in_domain, ccache)

    async def add_member(self) -> str:
        """Start the next server; it gets clients as soon as `take_in` says so."""
        name = self._all[len(self.names)]
        self.names = self._all[: len(self.names) + 1]  # before: its addresses follow from its place
        await self.start_server(name)
        return name

    def take_in(self, wanted: Wanted | None = None) -> None:
        """Tell the gateway of the members as they are now."""
        self.write_config(wanted)
        self.reload_gateway()

    async def all_in_use(self, seconds: float = 20.0) -> None:
        """Wait until the gateway leads clients to every member. `Unavailable` with the reasons if it does not."""
        until = time.monotonic() + seconds
        while True:
            status = await asyncio.to_thread(self.control.status)
            members = [member for group in status.arrays[0].groups for member in group.members]
            if members and all(member.eligible for member in members):
                return
            if time.monotonic() > until:
                raise Unavailable("; ".join(f"{member.name}: {member.reason}" for member in members))
            await asyncio.sleep(0.1)

    def desk(self, realm: Realm, agents: Agents) -> Desk:
        """What an administrator of this array works with: its directory as it is now, in memory."""
        settings = KerberosSettings(account=ACCOUNT)
        service = DirectoryService(MemoryDirectory(self._directory()), "admin")
        return Desk(service, lambda: settings, lambda: realm, lambda: agents, profile=lambda: "exchange-2010")

    def _directory(self) -> Directory:
        servers = [Server(name, self.fqdn(name), "Lab") for name in self.names]
        mail = [{"name": name, "port": port, "probe": probe} for name, port, probe in _MAIL]
        array = Array("CAS", ARRAY, "Lab", settings={"profile": "exchange-2010", "service": mail})
        return Directory(
            sites={"lab": DirectorySite("Lab")},
            arrays={key(array.name): array},
            servers={key(server.name): server for server in servers},
        )

    # Clients.

    def user(self, name: str) -> User:
        """A new user of the domain, with a fresh ticket-granting ticket."""
        return User(name, self.controller.ticket(name, self.controller.add_user(name)))

    def environment(self) -> Mapping[str, str]:
        """What tells clients of the domain and of our sources."""
        return self.controller.environment() | {"PYTHONPATH": str(here())}

    def start_logins(
        self,
        users: Sequence[User],
        sources: int,
        out: Path,
        *,
        first_source: int = 0,
        progress: bool = False,
        **options: float,
    ) -> "subprocess.Popen[Any]":
        """Start `casarray.lab.logins` against the array: each user from so many addresses. It prints into ``out``."""
        command = [sys.executable, "-m", "casarray.lab.logins", "--vip", self.vip, "--name", ARRAY]
        command += ["--rpc-port", str(self.ports.rpc)]
        for number, user in enumerate(user for user in users for _ in range(sources)):
            command += ["--user", f"{user.name}={user.ccache}", "--source", self.plan.client(first_source + number)]
        command += ["--progress"] * progress
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        with out.open("wb") as stdout, out.with_suffix(".err").open("wb") as stderr:
            return self.host("clients").spawn(*command, stdout=stdout, stderr=stderr, env=self.environment())
