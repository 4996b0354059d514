"""What a measurement gives, and the one client that most of them need."""

import select
import socket
import statistics
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from casarray.core.dcerpc.interfaces import emsmdb
from casarray.core.errors import CasarrayError, Unavailable
from casarray.lab.load import HELLO, NO_LINGER, Client


@dataclass(frozen=True, slots=True)
class Figure:
    """One promise and what was measured."""

    name: str
    goal: str  # in words; empty: nothing was promised
    value: str
    met: bool | None = None  # None: nothing was promised
    samples: tuple[float, ...] = field(default=(), repr=False)
    unit: str = "ms"


def spread(samples: Sequence[float], unit: str = "ms") -> str:
    """Median, the middle half, the extremes."""
    ordered = sorted(samples)
    if len(ordered) < 3:
        return ", ".join(f"{value:.3g} {unit}" for value in ordered)
    low, middle, high = statistics.quantiles(ordered, n=4)
    return (
        f"median {middle:.3g} {unit}, half of them {low:.3g} to {high:.3g}, "
        f"all {ordered[0]:.3g} to {ordered[-1]:.3g} ({len(ordered)} times)"
    )


def share(samples: Sequence[float], part: float) -> float:
    """The value that so many of them do not exceed: 0.99 for p99."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


class Knock:
    """One client's connections to the mailbox's port, blocking. Use it in the namespace of the clients."""

    def __init__(self, vip: str, port: int, number: int, source: str) -> None:
        self._client = Client(number, vip, source)
        self._port = port

    def ask(self, seconds: float) -> str:
        """Connect, bind, call, and close: the member that answered. Raises `OSError` when none did in time."""
        sock = self.connect(seconds)
        try:
            return self.talk(sock)
        finally:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            sock.close()

    def connect(self, seconds: float) -> socket.socket:
        """A connection, to be closed by the caller."""
        family = socket.AF_INET6 if ":" in self._client.vip else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(seconds)
            sock.bind((self._client.source, 0))
            sock.connect((self._client.vip, self._port))
        except OSError:
            sock.close()
            raise
        return sock

    def talk(self, sock: socket.socket) -> str:
        """Bind and call; the member that answered."""
        sock.sendall(HELLO["rpc"])
        _pdu(sock)
        sock.sendall(self._client.request("rpc"))
        reply = emsmdb.EcDoConnectExReply.decode(_pdu(sock)[24:], "little", False)
        return reply.display_name or ""

    def until_not(self, member: str, seconds: float, each: float = 0.05) -> float:
        """Ask again and again until another member answers; when that was, on the monotonic clock."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                answered = self.ask(each)
            except OSError:
                time.sleep(0.001)
                continue
            if answered and answered != member:
                return time.monotonic()
        raise Unavailable(f"after {seconds:.0f} s no other server than {member} has answered")


def _pdu(sock: socket.socket) -> bytes:
    data = b""
    while len(data) < 16 or len(data) < struct.unpack_from("<H", data, 8)[0]:
        more = sock.recv(16384)
        if not more:
            raise ConnectionResetError(104, "ended")
        data += more
    return data


def client_of(member: str, knocks: Sequence[Knock]) -> Knock:
    """One of these clients that lives on that member."""
    for knock in knocks:
        if knock.ask(2.0) == member:
            return knock
    raise CasarrayError(f"none of {len(knocks)} clients lives on {member}")


def reset_times(socks: Sequence[socket.socket], seconds: float) -> list[float]:
    """Wait until all of these are reset; when each was. Those that were not in time are missing."""
    poll, left, found = select.epoll(), {sock.fileno() for sock in socks}, []
    for number in left:
        poll.register(number, select.EPOLLIN)
    until = time.monotonic() + seconds
    while left and time.monotonic() < until:
        for number, _ in poll.poll(0.05):
            found.append(time.monotonic())
            poll.unregister(number)
            left.discard(number)
    poll.close()
    return found
