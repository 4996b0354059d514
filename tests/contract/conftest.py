"""A site of namespaces: clients, a gateway with the array's addresses, three servers that say who they are."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from casarray.lab.netns import Lab, Plan, build, missing

PORTS = (443, 5000, 5001, 6000, 50000, 50001, 50002, 60000)
NAMES = ("cas1", "cas2", "cas3")

# Says its name and the address it sees, then echoes.
_SERVER = """
import selectors, socket, sys
name, ports = sys.argv[1], [int(p) for p in sys.argv[2:]]
watched = selectors.DefaultSelector()
for port in ports:
    s = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    watched.register(s, selectors.EVENT_READ, True)
print("ready", flush=True)
while True:
    for key, _ in watched.select():
        if key.data:
            c, peer = key.fileobj.accept()
            c.sendall(f"{name} {peer[0].removeprefix('::ffff:')}\\n".encode())
            watched.register(c, selectors.EVENT_READ, False)
        else:
            try:
                data = key.fileobj.recv(4096)
                key.fileobj.sendall(data)
            except OSError:
                data = b""
            if not data:
                watched.unregister(key.fileobj)
                key.fileobj.close()
"""


class Session:
    """An open connection to whoever answered."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        line = b""
        while not line.endswith(b"\n"):
            got = link.recv(100)
            if not got:
                raise ConnectionResetError("closed without a word")
            line += got
        self.member, self.seen_as = line.decode().split()

    def echoes(self, seconds: float = 3.0) -> bool:
        """Is somebody still there?"""
        self.link.settimeout(seconds)
        try:
            self.link.sendall(b"x")
            return self.link.recv(1) == b"x"
        except OSError:
            return False

    def close(self) -> None:
        """End it, leaving no TIME_WAIT behind."""
        self.link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.link.close()


class Site:
    """The lab, and what a client can do in it."""

    def __init__(self, lab: Lab, plan: Plan) -> None:
        self.lab = lab
        self.plan = plan
        self._open: list[Session] = []

    def session(
        self, client: str, port: int, *, to: str | None = None, host: str = "clients", seconds: float = 3.0
    ) -> Session:
        """Connect to the array (or ``to``) from this client's address ("" = any)."""
        six = ":" in (client or to or "")
        target = to or (self.plan.vip6 if six else self.plan.vip)
        with self.lab[host].inside():
            link = socket.socket(socket.AF_INET6 if six else socket.AF_INET)
        link.settimeout(seconds)
        try:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if client:
                link.bind((client, 0))
            link.connect((target, port))
            session = Session(link)
        except BaseException:
            link.close()
            raise
        self._open.append(session)
        return session

    def ask(self, client: str, port: int, *, to: str | None = None, host: str = "clients", seconds: float = 3.0) -> str:
        """Who answers: a member's name, "refused" or "silence"."""
        try:
            session = self.session(client, port, to=to, host=host, seconds=seconds)
        except (ConnectionRefusedError, ConnectionResetError):
            return "refused"
        except TimeoutError:
            return "silence"
        session.close()
        self._open.remove(session)
        return session.member

    def nft(self, *command: str) -> str:
        """Somebody else at the gateway's nftables."""
        return self.lab["gateway"].run("nft", *command).stdout

    @contextmanager
    def serving(self, host: str, name: str, ports: Sequence[int]) -> Iterator[None]:
        """A server in ``host`` for a while."""
        server = self.lab[host].spawn(sys.executable, "-c", _SERVER, name, *map(str, ports), stdout=subprocess.PIPE)
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            server.kill()
            server.wait()

    def tidy(self) -> None:
        """As it was at the start, for the next test."""
        for session in self._open:
            session.close()
        self._open.clear()
        self.nft("flush", "ruleset")
        self.lab["gateway"].run("conntrack", "-F", check=False)


@pytest.fixture(scope="session")
def _built() -> Iterator[Site]:
    if reason := missing():
        pytest.skip(reason)
    with Lab() as lab:
        plan = build(lab)
        gateway = lab["gateway"]
        gateway.ip(f"addr add {plan.vip}/32 dev eth0", f"addr add {plan.vip6}/128 dev eth0 nodad")
        site = Site(lab, plan)
        for name in NAMES:
            server = lab[name].spawn(sys.executable, "-c", _SERVER, name, *map(str, PORTS), stdout=subprocess.PIPE)
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
        time.sleep(0.1)
        yield site


@pytest.fixture
def site(_built: Site) -> Iterator[Site]:
    """The site, with this thread (and threads it starts) in the gateway's namespace."""
    with _built.lab["gateway"].inside():
        _built.tidy()
        try:
            yield _built
        finally:
            _built.tidy()
