"""Network namespaces to build a site in: a switch, hosts with legs, addresses and routes, processes inside.

Everything is made with the `ip` program and has one owner, a :class:`Lab`, which takes all of it away again: processes
by their recorded pids, then the namespaces, also after an exception or Ctrl-C. Names carry the owner's pid, so labs do
not meet, and what a killed owner left behind can be told (:func:`sweep`).

The usual shape is :func:`build`: one namespace for all clients, one for the gateway with two legs, one for each server.
"""

import ctypes
import itertools
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_interface, ip_network
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from casarray.core.errors import CasarrayError, Denied

_labs = itertools.count()
_NAME = re.compile(r"ca(\d+)x\d+-")
_CLONE_NEWNET = 0x40000000


def missing() -> str | None:
    """What keeps namespaces from being made here, as a sentence; nothing if they can be."""
    if not shutil.which("ip"):
        return "the program `ip` (package iproute2) is missing"
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = f"ca{os.getpid()}x0-probe"
    try:
        made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    finally:
        subprocess.run(["ip", "netns", "del", probe], capture_output=True, check=False)
    return f"network namespaces cannot be made here: {made.stderr.strip()}" if made.returncode else None


def sweep() -> list[str]:
    """Remove the namespaces of labs whose process is gone; returns their names."""
    gone = []
    for name in os.listdir("/run/netns") if os.path.isdir("/run/netns") else []:
        owner = _NAME.match(name)
        if owner and not os.path.exists(f"/proc/{owner[1]}"):
            _remove(name)
            gone.append(name)
    return gone


def _ip(*arguments: str, lines: Sequence[str] = ()) -> str:
    """Run `ip`; with ``lines`` a whole batch in one process."""
    command = ["ip", *arguments, *(["-batch", "-"] if lines else [])]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.strip()
        if "Operation not permitted" in reason or "Permission denied" in reason:
            raise Denied(f"{' '.join(command)}: {reason}; network namespaces need root")
        raise CasarrayError(f"{' '.join(command)}: {reason}")
    return done.stdout


def _pids(name: str) -> list[int]:
    done = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
    return [int(pid) for pid in done.stdout.split()]


def _remove(name: str) -> None:
    """End whatever still runs inside, then remove the namespace: a process would keep it and its links alive unseen."""
    for sign, patience in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 2.0)):
        until = time.monotonic() + patience
        pids = _pids(name)
        for pid in pids:
            if pid != os.getpid():
                _signal(pid, sign)
        while pids and time.monotonic() < until:
            time.sleep(0.01)
            pids = _pids(name)
        if not pids:
            break
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _signal(pid: int, sign: int) -> None:
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        return


@dataclass(slots=True)
class Namespace:
    """One host of the lab."""

    name: str  # with the lab's prefix, as `ip netns` shows it
    short: str
    processes: list[subprocess.Popen[Any]] = field(default_factory=list)

    def command(self, *command: str) -> list[str]:
        """The command line that runs ``command`` in here; `ip` replaces itself, so the pid is the command's own."""
        return ["ip", "netns", "exec", self.name, *command]

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in here to its end, text captured; a failure raises `CalledProcessError` unless check=False."""
        options = {"check": True, "capture_output": True, "text": True, "timeout": 30} | options
        done: subprocess.CompletedProcess[str] = subprocess.run(self.command(*command), **options)  # noqa: PLW1510 - the options say
        return done

    def spawn(
        self,
        *command: str,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[Any]:
        """Start a command in here. The lab ends it at the latest when it closes.

        It leads a session of its own: Ctrl-C at the terminal reaches the lab's owner only, who then cleans up.
        """
        process = subprocess.Popen(
            self.command(*command),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=None if env is None else dict(env),
            start_new_session=True,
            **options,
        )
        self.processes.append(process)
        return process

    def ip(self, *lines: str) -> None:
        """Run lines of `ip` in here as one batch: ``ns.ip("addr add 10.0.0.1/24 dev eth0", "link set lo up")``."""
        _ip("-n", self.name, lines=lines)

    def sysctl(self, key: str, value: int | str) -> None:
        """Set a kernel parameter of this namespace (``net.ipv4.ip_forward``)."""
        path = "/proc/sys/" + key.replace(".", "/")
        self.run("sh", "-c", 'printf %s "$1" > "$2"', "sh", str(value), path)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Move the calling thread in here for a while: sockets opened meanwhile belong to this namespace for ever."""
        libc = ctypes.CDLL(None, use_errno=True)
        here = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            there = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _setns(libc, there)
            finally:
                os.close(there)
            try:
                yield
            finally:
                _setns(libc, here)
        finally:
            os.close(here)

    def stop_processes(self) -> None:
        """End what was started in here and is still running: politely, then not."""
        running = [process for process in self.processes if process.poll() is None]
        for process in running:
            _signal(process.pid, signal.SIGCONT)
            process.terminate()
        until = time.monotonic() + 3
        for process in running:
            try:
                process.wait(max(0.01, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for process in self.processes:
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


def _setns(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise Denied(f"cannot enter a network namespace: {os.strerror(code)}")


class Lab:
    """Owner of namespaces. Use it as a context manager; leaving it leaves nothing behind."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix or f"ca{os.getpid()}x{next(_labs)}-"
        self.namespaces: dict[str, Namespace] = {}
        self._ports: dict[tuple[str, str], str] = {}  # (host, leg) -> port of the switch
        self._port_numbers = itertools.count()  # never again: hosts of the same name may come and go in other labs
        self._bridges: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes and remove the namespaces. A second Ctrl-C does not stop this half-way."""
        interrupted: KeyboardInterrupt | None = None
        for namespace in reversed(self.namespaces.values()):
            while True:
                try:
                    namespace.stop_processes()
                    _remove(namespace.name)
                    break
                except KeyboardInterrupt as again:
                    interrupted = again
        self.namespaces.clear()
        if interrupted is not None:
            raise interrupted

    def __getitem__(self, short: str) -> Namespace:
        return self.namespaces[short]

    def namespace(self, short: str) -> Namespace:
        """A new namespace with its loopback up."""
        namespace = Namespace(self.prefix + short, short)
        self.namespaces[short] = namespace  # before it exists, so that an interrupt cannot lose it
        _ip("netns", "add", namespace.name)
        namespace.ip("link set lo up")
        return namespace

    def bridge(self, net: str) -> None:
        """A network that hosts can have a leg in. All of them live in one namespace, the switch."""
        if net in self._bridges:
            return
        switch = self.namespaces.get("switch")
        if switch is None:
            switch = self.namespace("switch")
            # A frame between two ports of the switch is no business of its firewall.
            for family in ("iptables", "ip6tables"):
                key = f"net.bridge.bridge-nf-call-{family}"
                if switch.run("test", "-e", "/proc/sys/" + key.replace(".", "/"), check=False).returncode == 0:
                    switch.sysctl(key, 0)
        switch.ip(f"link add {net} type bridge forward_delay 0 mcast_snooping 0", f"link set {net} up")
        self._bridges.add(net)

    def leg(self, host: Namespace, net: str, *addresses: str, device: str = "") -> str:
        """Give a host a leg in a network, with addresses like ``10.12.0.21/24``; returns the device's name."""
        self.bridge(net)
        device = device or f"eth{sum(1 for owner, _ in self._ports if owner == host.short)}"
        port = f"p{next(self._port_numbers)}"
        self._ports[host.short, device] = port
        switch = self.namespaces["switch"]
        host.ip(f"link add {device} type veth peer name {port} netns {switch.name}")
        switch.ip(f"link set {port} master {net}", f"link set {port} up")
        host.ip(
            *(f"addr add {address} dev {device}{' nodad' if ':' in address else ''}" for address in addresses),
            f"link set {device} up",
        )
        return device

    def cut(self, host: Namespace, device: str = "eth0") -> None:
        """Pull the cable out at the switch: the host still has its address, and nobody hears it."""
        self.namespaces["switch"].ip(f"link set {self._ports[host.short, device]} down")

    def join(self, host: Namespace, device: str = "eth0") -> None:
        """Put the cable in again."""
        self.namespaces["switch"].ip(f"link set {self._ports[host.short, device]} up")


@dataclass(frozen=True, slots=True)
class Plan:
    """The addresses of a site. Hosts count from the start of their net: the gateway is .1, clients' host .10."""

    clients: str = "10.11.0.0/24"
    servers: str = "10.12.0.0/24"
    crowd: str = "10.32.0.0/16"  # many client addresses behind the clients' host, all of them usable at once
    clients6: str = "fd11::/64"
    servers6: str = "fd12::/64"
    crowd6: str = "fd32::/64"
    server_names: tuple[str, ...] = ("cas1", "cas2", "cas3")
    ipv6: bool = True
    routed: bool = True  # the servers' way back leads through the gateway

    def host(self, net: str, number: int) -> IPv4Interface | IPv6Interface:
        """The ``number``-th address of a net, with the net's length."""
        network: IPv4Network | IPv6Network = ip_network(net)
        return ip_interface(f"{network[number]}/{network.prefixlen}")

    @property
    def vip(self) -> str:
        """The array's address (nobody has it yet)."""
        return str(self.host(self.clients, 100).ip)

    @property
    def vip6(self) -> str:
        """The array's IPv6 address."""
        return str(self.host(self.clients6, 0x100).ip)

    def server(self, number: int) -> str:
        """The address of the ``number``-th server, counted from 0: .21 and on."""
        return str(self.host(self.servers, 21 + number).ip)

    def server6(self, number: int) -> str:
        """Its IPv6 address: ::21 and on."""
        return str(self.host(self.servers6, 0x21 + number).ip)

    def client(self, number: int) -> str:
        """The ``number``-th address of the crowd."""
        return str(ip_network(self.crowd)[number + 1])

    def client6(self, number: int) -> str:
        """The ``number``-th IPv6 address of the crowd."""
        return str(ip_network(self.crowd6)[number + 1])


def build(lab: Lab, plan: Plan | None = None) -> Plan:
    """Build the usual site: namespaces ``clients``, ``gateway`` (eth0 to the clients, eth1 to the servers), servers.

    Processes in ``clients`` can bind any address of the crowd's nets; nothing has to be added to an interface.
    """
    plan = plan or Plan()
    clients, gateway = lab.namespace("clients"), lab.namespace("gateway")
    _leg(lab, plan, clients, "lan", number=10, number6=0x10)
    _leg(lab, plan, gateway, "lan", number=1, number6=1)
    _leg(lab, plan, gateway, "farm", number=1, number6=1)
    gateway.sysctl("net.ipv4.ip_forward", 1)
    clients.ip(
        f"route add local {plan.crowd} dev lo",  # the whole net is ours: no address has to be added one by one
        f"route add default via {plan.host(plan.clients, 1).ip}",
    )
    gateway.ip(f"route add {plan.crowd} via {plan.host(plan.clients, 10).ip}")
    clients.sysctl("net.ipv4.ip_local_port_range", "1024 65535")
    if plan.ipv6:
        gateway.sysctl("net.ipv6.conf.all.forwarding", 1)
        clients.sysctl("net.ipv6.ip_nonlocal_bind", 1)
        clients.ip(f"route add local {plan.crowd6} dev lo", f"route add default via {plan.host(plan.clients6, 1).ip}")
        gateway.ip(f"route add {plan.crowd6} via {plan.host(plan.clients6, 0x10).ip}")
    for number, name in enumerate(plan.server_names):
        server = lab.namespace(name)
        _leg(lab, plan, server, "farm", number=21 + number, number6=0x21 + number)
        if plan.routed:
            server.ip(f"route add default via {plan.host(plan.servers, 1).ip}")
            if plan.ipv6:
                server.ip(f"route add default via {plan.host(plan.servers6, 1).ip}")
    return plan


def _leg(lab: Lab, plan: Plan, host: Namespace, net: str, *, number: int, number6: int) -> None:
    four, six = (plan.servers, plan.servers6) if net == "farm" else (plan.clients, plan.clients6)
    addresses = [str(plan.host(four, number)), *([str(plan.host(six, number6))] if plan.ipv6 else [])]
    lab.leg(host, net, *addresses)


def here() -> Path:
    """The folder of the package's sources: what a process in a namespace needs in PYTHONPATH."""
    return Path(__file__).resolve().parents[2]
