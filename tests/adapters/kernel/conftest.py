"""A client, a gateway and a server in network namespaces of their own, joined by veth pairs."""

import ctypes
import os
import resource
import secrets
import selectors
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from casarray.core.forwarding.table import connection_mark

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(pytest.mark.skip(reason="needs root and network namespaces"))


DYING, LIVING = connection_mark(1, 7), connection_mark(1, 8)
ARRAY = {4: "10.91.0.100", 6: "fd91::100"}
MEMBER = {4: "10.92.0.2", 6: "fd92::2"}
CLIENT = {4: "10.91.0.2", 6: "fd91::2"}

# Ports 5000 and 5001 lead to the same server under two marks. Nothing else is forwarded, and what nobody asked for is
# *dropped* here: neither a living member nor the host's own TCP may help with a reset.
NAT = f"""
table inet test {{
  chain entry {{ type nat hook prerouting priority dstnat;
    ip daddr 10.91.0.100 tcp dport 5000 ct mark set {DYING | 0x2A:#x} dnat ip to 10.92.0.2
    ip daddr 10.91.0.100 tcp dport 5001 ct mark set {LIVING | 0x2A:#x} dnat ip to 10.92.0.2
    ip6 daddr fd91::100 tcp dport 5000 ct mark set {DYING | 0x2A:#x} dnat ip6 to fd92::2
    ip6 daddr fd91::100 tcp dport 5001 ct mark set {LIVING | 0x2A:#x} dnat ip6 to fd92::2
  }}
  chain local {{ type nat hook output priority -100;
    ip daddr 10.91.0.100 tcp dport 5000 ct mark set {DYING | 0x2A:#x} dnat ip to 10.92.0.2
  }}
  chain input {{ type filter hook input priority filter; tcp flags & (syn | rst) == 0 ip daddr 10.91.0.100 drop
  }}
  chain forward {{ type filter hook forward priority filter;
    iifname "to92" ct state new tcp flags != syn drop
  }}
}}
"""


class Namespace:
    """A network namespace and a thread that lives in it: the kernel keeps the namespace per thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        subprocess.run(["ip", "netns", "add", name], check=True)
        self._thread = ThreadPoolExecutor(1, initializer=self._enter)
        self.run("ip link set lo up", "sysctl -qw net.ipv6.conf.default.accept_dad=0")

    def _enter(self) -> None:
        with Path(f"/run/netns/{self.name}").open() as there:
            if ctypes.CDLL(None, use_errno=True).setns(there.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def call(self, what: Callable[[], T]) -> T:
        """Run it inside; sockets it opens stay inside."""
        return self.submit(what).result()

    def submit(self, what: Callable[[], T]) -> "Future[T]":
        """The same, not waited for."""
        return self._thread.submit(what)

    def run(self, *commands: str, text: str | None = None) -> str:
        """Run programs inside; what the last one printed."""
        said = ""
        for command in commands:
            inside = ["ip", "netns", "exec", self.name, *command.split()]
            done = subprocess.run(inside, check=False, capture_output=True, input=text, text=True)
            assert done.returncode == 0, f"{command}: {done.stderr}"
            said = done.stdout
        return said

    def close(self) -> None:
        self._thread.shutdown()
        subprocess.run(["ip", "netns", "delete", self.name], check=False)


class Lab:
    """client 10.91.0.2 - 10.91.0.1 gateway (array 10.91.0.100) 10.92.0.1 - server 10.92.0.2; fd91::, fd92:: alike."""

    def __init__(self) -> None:
        prefix = f"ctk{secrets.token_hex(3)}"
        self.namespaces: list[Namespace] = []
        self.accepted: list[socket.socket] = []  # the server's ends of the latest clients
        try:
            self.client, self.gateway, self.server = (self._add(f"{prefix}-{name}") for name in ("cl", "gw", "sv"))
            self._join(self.client, 91)
            self._join(self.server, 92)
            self.gateway.run(
                "sysctl -qw net.ipv4.ip_forward=1",
                "sysctl -qw net.ipv6.conf.all.forwarding=1",
            )
        except BaseException:
            self.close()
            raise

    def _add(self, name: str) -> Namespace:
        self.namespaces.append(Namespace(name))
        return self.namespaces[-1]

    def _join(self, other: Namespace, net: int) -> None:
        link = f"to{net}"
        self.gateway.run(
            f"ip link add {link} type veth peer name eth0 netns {other.name}",
            f"ip address add 10.{net}.0.1/24 dev {link}",
            f"ip address add fd{net}::1/64 dev {link} nodad",
            f"ip link set {link} up",
        )
        other.run(
            f"ip address add 10.{net}.0.2/24 dev eth0",
            f"ip address add fd{net}::2/64 dev eth0 nodad",
            "ip link set eth0 up",
            f"ip route add default via 10.{net}.0.1",
            f"ip -6 route add default via fd{net}::1",
        )

    def serve(self) -> None:
        """Forward ports 5000 (mark DYING) and 5001 (mark LIVING) of the array to the server."""
        self.gateway.run("ip address add 10.91.0.100/32 dev to91", "ip address add fd91::100/128 dev to91 nodad")
        self.gateway.run("nft -f -", text=NAT)
        self.client.run("ping -c1 -W2 10.92.0.2", "ping -c1 -W2 fd92::2")

    @contextmanager
    def idle_clients(
        self, version: int, count: int, port: int, at: Namespace | None = None
    ) -> Iterator[list[socket.socket]]:
        """So many connections from the client's namespace to the array, accepted by the server; nobody speaks."""
        family = socket.AF_INET if version == 4 else socket.AF_INET6

        def listen() -> socket.socket:
            listener = socket.create_server((MEMBER[version], port), family=family, backlog=4096)
            listener.settimeout(10)
            return listener

        with ExitStack() as stack:
            listener = stack.enter_context(self.server.call(listen))
            accepted: list[socket.socket] = []
            acceptor = threading.Thread(target=lambda: accepted.extend(listener.accept()[0] for _ in range(count)))
            acceptor.start()

            def connect() -> list[socket.socket]:
                return [socket.create_connection((ARRAY[version], port), timeout=10) for _ in range(count)]

            clients = (at or self.client).call(connect)
            acceptor.join(20)
            assert len(accepted) == count
            for end in (*clients, *accepted):
                stack.callback(end.close)
            self.accepted = accepted
            yield clients

    @staticmethod
    def ended_within(clients: list[socket.socket], seconds: float) -> float | None:
        """After how many seconds every one of them had been reset; None if some never were."""
        began = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for client in clients:
                selector.register(client, selectors.EVENT_READ)
            while selector.get_map() and (left := began + seconds - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    assert isinstance(key.fileobj, socket.socket)
                    with pytest.raises(ConnectionResetError):
                        key.fileobj.recv(1)
                    selector.unregister(key.fileobj)
            return None if selector.get_map() else time.monotonic() - began

    def close(self) -> None:
        for namespace in self.namespaces:
            namespace.close()


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
