"""Where the benchmark runs: clients, servers, and a gateway that is made anew for whoever stands in it.

One namespace for all clients, one for each of the servers' hosts, and between them a gateway's namespace with a cable
to each. Cables are veth pairs without a switch, so that the gateway's work is as large a part of the whole as it can
be. A peer's turn begins with a fresh gateway namespace and ends with its removal: same addresses, same ports, same
servers for everybody, and nothing of one peer (conntrack entries, hooks, ports in TIME_WAIT) is there for the next.
"""

import resource
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from casarray.lab.netns import Lab, Namespace, sweep

VIP = "10.11.0.100"
PORT = 8080
WEB_PORTS = (8080, 8081, 8082)
BULK_PORTS = (5201, 5202)  # one for each of the two bulk clients: an iperf3 server has one client at a time
MAPPER_PORT = 135
ADDRESSES = 16  # client addresses under load, 10.32.0.1 and on; each has a load generator of its own
FIRST_UID = 61000  # the load generator of address n runs as this uid + n: by it the kernel picks the source address
_PORT_RANGE = "1024 65535"
_SERVER_TUNING: dict[str, int | str] = {
    "net.ipv4.ip_local_port_range": _PORT_RANGE,
    "net.core.somaxconn": 16384,
    "net.ipv4.tcp_max_syn_backlog": 65536,
}


def client(number: int) -> str:
    """The ``number``-th of the clients' addresses, up to 65,000 of them."""
    return f"10.32.{(number + 1) >> 8}.{(number + 1) & 0xFF}"


@dataclass(slots=True)
class Ground:
    """Clients and servers, for the whole run."""

    hosts: int = 2  # namespaces that servers live in; a server of the array is an address in one of them
    lab: Lab = field(default_factory=Lab)
    folder: Path = Path()
    _folder: "tempfile.TemporaryDirectory[str] | None" = None

    def __enter__(self) -> Self:
        sweep()
        self._folder = tempfile.TemporaryDirectory(prefix="casarray-bench-")
        self.folder = Path(self._folder.name)
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing of it is left."""
        try:
            self.lab.close()
        finally:
            if self._folder is not None:
                self._folder.cleanup()
                self._folder = None

    @property
    def clients(self) -> Namespace:
        """Where all clients are."""
        return self.lab["clients"]

    def server_host(self, number: int) -> Namespace:
        """The ``number``-th namespace of servers."""
        return self.lab[f"host{number}"]

    def server(self, number: int) -> str:
        """The address of the ``number``-th server, counted from 0; they take turns on the hosts."""
        host, place = number % self.hosts, number // self.hosts
        return f"10.12.{host}.{21 + place}"

    def _build(self) -> None:
        clients = self.lab.namespace("clients")
        clients.ip("route add local 10.32.0.0/16 dev lo")
        clients.sysctl("net.ipv4.ip_local_port_range", _PORT_RANGE)
        for number in range(ADDRESSES):
            # wrk and iperf3 cannot be told an address: the user they run as has routes of its own.
            clients.ip(f"rule add uidrange {FIRST_UID + number}-{FIRST_UID + number} lookup {1000 + number}")
        for number in range(self.hosts):
            host = self.lab.namespace(f"host{number}")
            host.ip(f"route add local 10.12.{number}.0/24 dev lo")
            for key, value in _SERVER_TUNING.items():
                host.sysctl(key, value)

    @contextmanager
    def gateway(self) -> Iterator[Namespace]:
        """A fresh gateway between clients and servers; it takes its processes along when it goes."""
        gateway = self.lab.namespace("gateway")
        try:
            gateway.ip(f"link add eth0 type veth peer name eth0 netns {self.clients.name}")
            gateway.ip("addr add 10.11.0.1/24 dev eth0", "link set eth0 up")
            self.clients.ip(
                "addr add 10.11.0.10/24 dev eth0",
                "link set eth0 up",
                "route add default via 10.11.0.1",
                *(
                    f"route add default via 10.11.0.1 src {client(number)} table {1000 + number}"
                    for number in range(ADDRESSES)
                ),
            )
            gateway.ip("route add 10.32.0.0/16 via 10.11.0.10")
            for number in range(self.hosts):
                host = self.server_host(number)
                gateway.ip(f"link add eth{number + 1} type veth peer name eth0 netns {host.name}")
                gateway.ip(f"addr add 10.13.{number}.1/24 dev eth{number + 1}", f"link set eth{number + 1} up")
                host.ip(
                    f"addr add 10.13.{number}.2/24 dev eth0",
                    "link set eth0 up",
                    f"route add default via 10.13.{number}.1",
                )
                gateway.ip(f"route add 10.12.{number}.0/24 via 10.13.{number}.2")
            gateway.sysctl("net.ipv4.ip_forward", 1)
            for key, value in _SERVER_TUNING.items():
                gateway.sysctl(key, value)
            yield gateway
        finally:
            self._remove(gateway)

    def _remove(self, gateway: Namespace) -> None:
        gateway.stop_processes()
        for number in range(self.hosts + 1):
            # By name and now: with the namespace the cables would go too, but only some time later.
            gateway.run("ip", "link", "del", f"eth{number}", check=False)
        subprocess.run(["ip", "netns", "del", gateway.name], capture_output=True, check=False)
        self.lab.namespaces.pop(gateway.short, None)


def raise_descriptors(wanted: int) -> int:
    """Raise our limit of descriptors, and so our children's, as far as we may; what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (wanted, hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, max(most, hard)))
            return most
        except (ValueError, OSError):
            continue
    return soft
