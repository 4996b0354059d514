"""A whole site to break at will: lab servers, a gateway that runs `casarray run`, and a place for clients.

Two kinds. `NetworkSite` (root) builds namespaces: clients and servers in nets of their own, the gateway between them,
forwarding in the kernel. `LoopbackSite` (anybody) puts everything on 127.0.0.0/8 with high ports, in userspace mode.
Both are asynchronous context managers, and nothing of theirs is left when they are closed: namespaces, processes,
addresses, and the folder they were given is all the disk they touch.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from casarray.adapters.control_client import ControlClient
from casarray.core.errors import Unavailable
from casarray.lab.journal import Journal
from casarray.lab.netns import Lab, Namespace, Plan, build, here
from casarray.lab.server import tell

START_SECONDS = 15.0
STOP_SECONDS = 5.0

EMSMDB = "a4f1db00-ca47-1067-b31f-00dd010662da/0.81"
NSPI = "f5cc5a18-4264-101a-8c59-08002b2f8426/56.0"
RFR = "1544f5e0-613c-11d1-93df-00c04fd7bd09/1.0"

CONFIG = """\
[gateway]
name = "{gateway}"
mode = "{mode}"
return_path = "{return_path}"
state = "{folder}/state"
control = "{folder}/casarray.sock"
metrics = ""

[[site]]
name = "Lab"
subnets = [{subnets}]

[[array]]
name = "CAS"
fqdn = "cas.lab.example"
site = "Lab"
addresses = [{vips}]
profile = "msrpc"
{array}
[array.health]
{health}
[[array.service]]
name = "epm"
port = {epm}

[[array.service]]            # on a static port: forwarded without asking anybody
name = "rpc"
port = {rpc}
group = "rpc"
probe = "rpc"
interfaces = ["{emsmdb}"]

[[array.service]]            # on a dynamic port, another one on each server: opened by the mapper's answers
name = "ab"
interfaces = ["{nspi}", "{rfr}"]

"""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of the lab's services; 0 = dynamic."""

    epm: int = 135
    rpc: int = 5001
    ab: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the site's configuration should say beyond the usual: lines of TOML."""

    array: Mapping[str, str] = field(default_factory=dict)  # '"3h"' is a value
    health: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)
    return_path: str = "routed"
    more: str = ""  # appended to the file


class Loopback(Namespace):
    """A host of the site that needs no namespace: processes run where we are."""

    def command(self, *command: str) -> list[str]:
        """The command as it is."""
        return list(command)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """We are there already."""
        yield


class Site(ABC):
    """What both kinds have: servers, a gateway, and a folder with configuration, control sockets and journals."""

    mode = ""
    vip = ""
    sources: str | None = None  # the net clients come from

    def __init__(
        self, folder: Path, servers: Sequence[str] = ("cas1", "cas2", "cas3"), ports: Ports | None = None, **wanted: Any
    ) -> None:
        """``wanted`` are the fields of :class:`Wanted`."""
        self.folder = folder
        self.names = tuple(servers)
        self.ports = ports or Ports()
        self.wanted = Wanted(**wanted)
        self.server_options: tuple[str, ...] = ()  # what else every server is started with
        self.servers: dict[str, subprocess.Popen[Any]] = {}
        self.gateway: subprocess.Popen[Any] | None = None
        self.journal = Journal(folder / "faults.jsonl", "fault")

    @abstractmethod
    def host(self, name: str) -> Namespace:
        """Where processes of ``name`` (a server's, or ``gateway``, ``clients``) run."""

    @abstractmethod
    def addresses(self, name: str) -> tuple[str, ...]:
        """The addresses of a server."""

    @abstractmethod
    def cut(self, name: str) -> None:
        """Pull a server's cable; `Unavailable` where there are no cables."""

    @abstractmethod
    def join(self, name: str) -> None:
        """Put it in again."""

    @abstractmethod
    def build(self) -> None:
        """Make the network."""

    @abstractmethod
    def tear_down(self) -> None:
        """Take the network away, with every process in it."""

    async def __aenter__(self) -> Self:
        try:
            self.build()
            await self.start_servers()
            self.write_config()
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything. The gateway first and in order, so that it can take back what it put into the system."""
        self.journal.close()
        if self.gateway is not None and self.gateway.poll() is None:
            self.gateway.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.gateway.wait(STOP_SECONDS)
        self.tear_down()

    @property
    def journals(self) -> list[Path]:
        """Everything that was written down so far."""
        return sorted(self.folder.glob("*.jsonl"))

    @property
    def config_path(self) -> Path:
        """The gateway's configuration."""
        return self.folder / "casarray.toml"

    def write_config(self, wanted: Wanted | None = None) -> None:
        """Write the gateway's configuration."""
        self.wanted = wanted = wanted or self.wanted
        text = CONFIG.format(
            gateway="gw1",
            mode=self.mode,
            return_path=wanted.return_path,
            folder=self.folder,
            subnets=self._subnets(),
            vips=", ".join(f'"{vip}"' for vip in self.vips()),
            array="".join(f"{key} = {value}\n" for key, value in wanted.array.items()),
            health="".join(f"{key} = {value}\n" for key, value in wanted.health.items()),
            epm=self.ports.epm,
            rpc=self.ports.rpc,
            emsmdb=EMSMDB,
            nspi=NSPI,
            rfr=RFR,
        )
        for name in self.names:
            addresses = ", ".join(f'"{address}"' for address in self.addresses(name))
            text += f'[[server]]\nname = "{name}"\nsite = "Lab"\naddress = [{addresses}]\n'
            if name in wanted.weights:
                text += f"weight = {wanted.weights[name]}\n"
            text += "\n"
        self.config_path.write_text(text + wanted.more, encoding="utf-8")

    def _subnets(self) -> str:
        return ""

    def vips(self) -> tuple[str, ...]:
        """The array's addresses."""
        return (self.vip,)

    async def start_servers(self) -> None:
        """Start all of them, one after the other."""
        for name in self.names:
            await self.start_server(name)

    async def start_server(self, name: str) -> None:
        """Start a server and wait until it listens; again, after it ended."""
        command = [sys.executable, "-m", "casarray.lab.server", "--name", name]
        for address in self.addresses(name):
            command += ["--address", address]
        for service in ("epm", "ab", "rpc"):
            command += [f"--{service}-port", str(getattr(self.ports, service))]
        command += self.server_options
        command += ["--journal", str(self.folder / f"{name}.jsonl"), "--control", str(self.folder / f"{name}.sock")]
        self.servers[name] = await self._start(name, name, command)

    def tell(self, name: str, line: str) -> dict[str, Any]:
        """Say a line to a server's control socket (see `lab.server`)."""
        return tell(self.folder / f"{name}.sock", line)

    async def start_gateway(self) -> float:
        """Start `casarray run` and wait for its ``ready``; how many seconds that took."""
        script = Path(sys.executable).with_name("casarray")
        program = [str(script)] if script.exists() else [sys.executable, "-m", "casarray.main"]
        since = time.monotonic()
        self.gateway = await self._start("gateway", "gateway", [*program, "run", "-c", str(self.config_path)])
        return time.monotonic() - since

    def kill_gateway(self) -> None:
        """SIGKILL to the gateway: it cannot clean up, and must not have to."""
        if self.gateway is not None:
            self.gateway.kill()
            self.gateway.wait()
            self.gateway = None

    async def stop_gateway(self, patience: float = 10.0) -> int:
        """SIGTERM to the gateway; its exit code."""
        if self.gateway is None:
            return 0
        gateway, self.gateway = self.gateway, None
        gateway.terminate()
        until = time.monotonic() + patience
        while gateway.poll() is None:
            if time.monotonic() > until:
                gateway.kill()
            await asyncio.sleep(0.01)
        return gateway.returncode

    def reload_gateway(self) -> None:
        """SIGHUP to the gateway."""
        if self.gateway is not None:
            self.gateway.send_signal(signal.SIGHUP)

    @property
    def control(self) -> ControlClient:
        """The gateway's control socket."""
        return ControlClient(str(self.folder / "casarray.sock"))

    def gateway_log(self) -> str:
        """What the gateway said on stderr so far."""
        path = self.folder / "gateway.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    async def _start(self, host: str, what: str, command: list[str]) -> "subprocess.Popen[Any]":
        """Start a process and wait for its line that begins with ``ready``."""
        out = self.folder / f"{what}.out"
        path = os.pathsep.join(filter(None, (str(here()), os.environ.get("PYTHONPATH"))))
        env = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": path}
        with out.open("wb") as stdout, (self.folder / f"{what}.log").open("ab") as stderr:
            process = self.host(host).spawn(*command, stdout=stdout, stderr=stderr, env=env)
        until = time.monotonic() + START_SECONDS
        while not any(line.startswith("ready") for line in out.read_text(errors="replace").splitlines()):
            if process.poll() is not None:
                raise Unavailable(f"{what} ended at its start ({process.returncode}):\n{self._last_words(what)}")
            if time.monotonic() > until:
                raise Unavailable(f"{what} is not ready after {START_SECONDS:.0f} s:\n{self._last_words(what)}")
            await asyncio.sleep(0.005)
        return process

    def _last_words(self, what: str) -> str:
        return (self.folder / f"{what}.log").read_text(errors="replace")[-2000:]

    def dynamic_ports(self, name: str) -> dict[str, int]:
        """The ports a server printed when it was ready."""
        text = (self.folder / f"{name}.out").read_text()
        ports: dict[str, int] = json.loads(text.partition(" ")[2])
        return ports


class NetworkSite(Site):
    """The site in network namespaces, forwarded by the kernel. Needs root."""

    mode = "kernel"

    def __init__(self, folder: Path, plan: Plan | None = None, **options: Any) -> None:
        super().__init__(folder, **options)
        self.plan = replace(plan or Plan(), server_names=self.names)
        self.lab = Lab()
        self.vip = self.plan.vip
        self.sources = self.plan.crowd

    def build(self) -> None:
        """Make the namespaces and what connects them."""
        build(self.lab, self.plan)

    def tear_down(self) -> None:
        """Remove them, with every process inside."""
        self.lab.close()

    def host(self, name: str) -> Namespace:
        """The namespace of that name."""
        return self.lab[name]

    def addresses(self, name: str) -> tuple[str, ...]:
        """A server's IPv4 and IPv6 address."""
        number = self.names.index(name)
        both = (self.plan.server(number), self.plan.server6(number))
        return both if self.plan.ipv6 else both[:1]

    def vips(self) -> tuple[str, ...]:
        """The array's IPv4 and IPv6 address."""
        return (self.plan.vip, self.plan.vip6) if self.plan.ipv6 else (self.plan.vip,)

    def _subnets(self) -> str:
        nets = [self.plan.clients, self.plan.servers, self.plan.crowd]
        if self.plan.ipv6:
            nets += [self.plan.clients6, self.plan.servers6, self.plan.crowd6]
        return ", ".join(f'"{net}"' for net in nets)

    def cut(self, name: str) -> None:
        """Pull a server's cable out at the switch."""
        self.lab.cut(self.lab[name])

    def join(self, name: str) -> None:
        """Put it in again."""
        self.lab.join(self.lab[name])


class LoopbackSite(Site):
    """The site on loopback addresses and high ports, in userspace mode. Needs no right at all."""

    mode = "userspace"

    def __init__(self, folder: Path, net: str = "", **options: Any) -> None:
        """``net`` is the first two octets of the site's addresses; by default they follow from our pid."""
        options.setdefault("ports", Ports(epm=free_port(20135), rpc=free_port(25001)))
        super().__init__(folder, **options)
        self.net = net or f"127.{64 + os.getpid() % 128}"
        self.vip = f"{self.net}.0.100"
        self.sources = f"{self.net}.32.0/19"
        self._hosts: dict[str, Loopback] = {}

    def build(self) -> None:
        """Loopback is there already."""

    def tear_down(self) -> None:
        """End the processes."""
        for host in self._hosts.values():
            host.stop_processes()
        self._hosts.clear()

    def host(self, name: str) -> Namespace:
        """This very host."""
        return self._hosts.setdefault(name, Loopback(name, name))

    def addresses(self, name: str) -> tuple[str, ...]:
        """A server's loopback address."""
        return (f"{self.net}.1.{21 + self.names.index(name)}",)

    def _subnets(self) -> str:
        return f'"{self.net}.0.0/16"'

    def cut(self, name: str) -> None:
        """Not to be had here."""
        raise Unavailable(f"there is no cable to pull at {name}: on loopback hosts have none")

    def join(self, name: str) -> None:
        """Not to be had here."""
        raise Unavailable(f"there is no cable at {name}: on loopback hosts have none")


def free_port(wanted: int) -> int:
    """The first TCP port from ``wanted`` on that nobody on this host uses on any address."""
    for port in range(wanted, wanted + 1000):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port
    raise Unavailable(f"no TCP port from {wanted} to {wanted + 999} is free")
