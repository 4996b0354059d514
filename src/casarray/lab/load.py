"""Many clients that connect again and again, as cheaply as a client can be: one epoll loop, octets made beforehand.

Each client has an address of its own. One connection is: connect, bind, one call that carries the client's name, an
answer that names the member, the end. Over and over each client asks the endpoint mapper, the address book on the
dynamic port it was told, and the mailbox on its static port. Some clients also keep a standing connection; half of
those say nothing on it, half say something every second.

    python -m casarray.lab.load --vip 10.11.0.100 --clients 100 --sources 10.32.0.0/16 --rate 300

It prints a line of JSON every half second and one more at its end, which SIGTERM or ``--seconds`` brings about.
"""

import argparse
import heapq
import json
import select
import signal
import socket
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from casarray.core.dcerpc.association import RpcClient
from casarray.core.dcerpc.interfaces import emsmdb, epm, nspi
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.interfaces.epm import EPM
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.pdu import Request
from casarray.core.dcerpc.tower import Tower
from casarray.core.errors import WireError
from casarray.lab.exchange import server_guid
from casarray.lab.journal import Journal, user, user_dn, user_uuid

HELLO = {service: RpcClient().bind(interface) for service, interface in (("epm", EPM), ("ab", NSPI), ("rpc", EMSMDB))}
ASK_BOOK = epm.EptMap(Tower.tcp(NSPI))
DUMMY = Request(call_id=3, context_id=0, opnum=emsmdb.Opnum.DUMMY, stub=emsmdb.EcDummyRpc().encode()).encode()
CALLS = {"epm": "ept_map", "ab": "NspiBind", "rpc": "EcDoConnectEx"}
ROUND = ("rpc", "ab", "rpc", "rpc", "ab", "rpc", "epm", "rpc")  # what a client does, in turn
BIND_ACK, RESPONSE = 12, 2
NO_LINGER = struct.pack("ii", 1, 0)
IP_BIND_ADDRESS_NO_PORT = 24
AGAIN_SECONDS = 0.05  # after a failure
TALK_SECONDS = 1.0
TELL_SECONDS = 0.5


@dataclass(slots=True)
class Client:
    """One of many."""

    number: int
    vip: str
    source: str | None
    book_port: int = 0  # 0: not known, or no longer
    proven: float = 0.0  # when that port was learnt, or served last; monotonic
    turn: int = 0
    member: str = ""  # where it was answered last
    requests: dict[str, bytes] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``user00042``."""
        return user(self.number)

    def request(self, service: str) -> bytes:
        """The call that carries its name, made once."""
        if service not in self.requests:
            opnum, stub = self._call(service)
            about = user_uuid(self.number) if service == "epm" else None
            self.requests[service] = Request(call_id=2, context_id=0, opnum=opnum, stub=stub, object=about).encode()
        return self.requests[service]

    def _call(self, service: str) -> tuple[int, bytes]:
        me = user_uuid(self.number)
        if service == "epm":
            return epm.EPT_MAP, epm.EptMap(Tower.tcp(NSPI), object=me).encode()
        if service == "ab":
            return nspi.Opnum.BIND, nspi.NspiBind(server_guid=me).encode()
        return emsmdb.Opnum.CONNECT, emsmdb.EcDoConnectEx(user_dn(self.name)).encode()


@dataclass(slots=True, eq=False)
class Attempt:
    """One connection."""

    client: Client
    service: str
    sock: socket.socket
    since: float
    standing: bool = False
    stage: int = 0  # 0 connecting, 1 bind sent, 2 call sent, 3 standing
    received: bytes = b""
    over: bool = False


class Load:
    """The loop. Blocking; ``stop`` may be set from a signal handler."""

    def __init__(
        self,
        clients: Sequence[Client],
        journal: Journal,
        *,
        epm_port: int = 135,
        rpc_port: int = 5001,
        servers: Sequence[str] = ("cas1", "cas2", "cas3"),
        domain: str = "lab.example",
        patience: float = 1.0,
        rate: float = 300.0,
        width: int = 200,
        turns: Sequence[str] = ROUND,
    ) -> None:
        """``rate``: connections a second; ``width``: at most so many at a time; ``patience``: seconds for each."""
        self.stop = False
        self.answered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.seconds: list[float] = []  # how long each answered connection took, from connect to answer
        self.keep_seconds = False
        self._journal = journal
        self._ports = {"epm": epm_port, "rpc": rpc_port}
        self._names = {server_guid(f"{name}.{domain}"): name for name in servers}
        self._patience, self._rate, self._width, self._turns = patience, rate, width, tuple(turns)
        self._ready = deque(clients)
        self._later: list[tuple[float, int, Client, bool]] = []  # due, tie-breaker, who, standing
        self._open: dict[int, Attempt] = {}
        self._oldest: deque[Attempt] = deque()
        self._standing: set[Attempt] = set()
        self._epoll = select.epoll()
        self._ties = 0

    @property
    def standing(self) -> int:
        """How many standing connections there are."""
        return len(self._standing)

    def run(self, seconds: float | None = None, standing: int = 0) -> None:
        """Until `stop`. ``standing`` of the clients keep a connection."""
        began = told = talked = time.monotonic()
        due = began
        for client in list(self._ready)[:standing]:
            self._start(client, "rpc", standing=True)
        while not self.stop and (seconds is None or time.monotonic() - began < seconds):
            now = time.monotonic()
            self._take_back(now)
            while due <= now and self._ready and len(self._open) - len(self._standing) < self._width:
                due = max(due, now - 0.1) + 1 / self._rate
                client = self._ready.popleft()
                self._start(client, self._next(client))
            for number, events in self._epoll.poll(max(0.0, min(due - now, 0.02)) if self._ready else 0.005):
                self._happened(self._open[number], events)
            self._time_out(time.monotonic())
            if now - talked > TALK_SECONDS:
                talked = now
                self._talk()
            if now - told > TELL_SECONDS:
                told = now
                self.tell()
        for attempt in list(self._open.values()):
            self._close(attempt)
        self._epoll.close()

    def tell(self) -> None:
        """Print how things stand."""
        state = {"answered": self.answered, "failed": self.failed, "standing": self.standing}
        print(json.dumps(state), flush=True)

    def _next(self, client: Client) -> str:
        service = self._turns[client.turn % len(self._turns)]
        client.turn += 1
        return "epm" if service == "ab" and not client.book_port else service

    def _take_back(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            _, _, client, standing = heapq.heappop(self._later)
            if standing:
                self._start(client, "rpc", standing=True)
            else:
                self._ready.append(client)

    def _wait(self, client: Client, standing: bool) -> None:
        self._ties += 1
        heapq.heappush(self._later, (time.monotonic() + AGAIN_SECONDS, self._ties, client, standing))

    def _start(self, client: Client, service: str, *, standing: bool = False) -> None:
        family = socket.AF_INET6 if ":" in client.vip else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        attempt = Attempt(client, service, sock, time.monotonic(), standing)
        self._open[sock.fileno()] = attempt
        self._epoll.register(sock, select.EPOLLOUT)
        if client.source is not None:
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((client.source, 0))
        self._oldest.append(attempt)
        try:
            sock.connect((client.vip, client.book_port if service == "ab" else self._ports[service]))
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(attempt, _word(error))

    def _happened(self, attempt: Attempt, events: int) -> None:
        try:
            if attempt.stage == 0:
                error = attempt.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    raise OSError(error, "")
                attempt.sock.send(HELLO[attempt.service])
                attempt.stage = 1
                self._epoll.modify(attempt.sock, select.EPOLLIN)
                return
            data = attempt.sock.recv(16384)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(attempt, "refused" if attempt.stage == 0 and events else _word(error))
            return
        if not data:
            self._fail(attempt, "ended")
            return
        attempt.received += data
        if len(attempt.received) >= 16 and len(attempt.received) >= struct.unpack_from("<H", attempt.received, 8)[0]:
            received, attempt.received = attempt.received, b""
            self._heard(attempt, received)

    def _heard(self, attempt: Attempt, pdu: bytes) -> None:
        """A whole PDU came."""
        if attempt.stage == 3:
            return
        if pdu[2] != (BIND_ACK if attempt.stage == 1 else RESPONSE):
            self._fail(attempt, f"PDU type {pdu[2]}")
        elif attempt.stage == 1:
            attempt.stage = 2
            try:
                attempt.sock.send(attempt.client.request(attempt.service))
            except OSError as error:
                self._fail(attempt, _word(error))
        else:
            self._answered(attempt, pdu[24:])

    def _answered(self, attempt: Attempt, stub: bytes) -> None:
        client, service = attempt.client, attempt.service
        try:
            member = self._member(client, service, stub)
        except WireError as error:
            self._fail(attempt, f"unreadable: {error}")
            return
        self.answered[service] += 1
        if service != "rpc":
            client.proven = time.monotonic()
        if self.keep_seconds:
            self.seconds.append(time.monotonic() - attempt.since)
        if member:
            client.member = member
            self._note("answered", attempt, call=CALLS[service])
        if attempt.standing:
            attempt.stage = 3
            self._standing.add(attempt)
            return
        self._close(attempt, hard=client.turn % 4 != 0)
        self._ready.append(client)

    def _member(self, client: Client, service: str, stub: bytes) -> str:
        """Who answered; empty if the answer does not tell."""
        if service == "epm":
            reply = epm.EptMapReply.decode(stub, "little", False)
            client.book_port = next((tower.port for tower in reply.towers if tower.port), 0)
            if not client.book_port:
                raise WireError("ept_map", f"no port, status 0x{reply.status:08X}")
            return ""
        if service == "ab":
            guid = nspi.NspiBindReply.decode(stub, "little", False).server_guid
            return self._names.get(guid, str(guid)) if guid else ""
        return emsmdb.EcDoConnectExReply.decode(stub, "little", False).display_name or ""

    def _fail(self, attempt: Attempt, why: str) -> None:
        standing = attempt.stage == 3
        self.failed[f"{'standing' if standing else attempt.service} {why}"] += 1
        proven = {"proven": attempt.client.proven} if attempt.service == "ab" else {}
        self._note("lost" if standing else "failed", attempt, why=why, **proven)
        if attempt.service == "ab":
            attempt.client.book_port = 0  # perhaps the server was started anew, and has another port
        self._close(attempt)
        self._wait(attempt.client, attempt.standing)

    def _note(self, event: str, attempt: Attempt, **facts: Any) -> None:
        client = attempt.client
        self._journal(
            event, id=client.name, client=client.source or "", service=attempt.service, member=client.member, **facts
        )

    def _close(self, attempt: Attempt, *, hard: bool = True) -> None:
        attempt.over = True
        self._open.pop(attempt.sock.fileno(), None)
        self._standing.discard(attempt)
        if hard:
            attempt.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        attempt.sock.close()

    def _time_out(self, now: float) -> None:
        while self._oldest and (self._oldest[0].over or now - self._oldest[0].since > self._patience):
            attempt = self._oldest.popleft()
            if not attempt.over and attempt.stage < 3:
                self._fail(attempt, "timeout while connecting" if attempt.stage == 0 else "timeout")

    def _talk(self) -> None:
        for attempt in list(self._standing):
            if attempt.client.number % 2:
                try:
                    attempt.sock.send(DUMMY)
                except OSError as error:
                    self._fail(attempt, _word(error))


def _word(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    return "reset" if isinstance(error, (ConnectionResetError, BrokenPipeError)) else error.strerror or str(error)


def clients(vips: Sequence[str], sources: Sequence[str], first: int, count: int, six: int = 5) -> list[Client]:
    """``count`` clients, numbered from ``first``; with two VIPs every ``six``-th comes over IPv6."""
    found = []
    nets = [ip_network(net) for net in sources]
    for number in range(first, first + count):
        which = 1 if len(vips) > 1 and number % six == 0 else 0
        assert not nets or nets[which].version == ip_address(vips[which]).version
        found.append(Client(number, vips[which], str(nets[which][number]) if nets else None))
    return found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="casarray.lab.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vip", action="append", required=True, help="the array's address; again for the IPv6 one")
    parser.add_argument("--sources", action="append", default=[], help="a net of addresses we have, one for each VIP")
    parser.add_argument("--server", action="append", default=[], help="a member's name, repeated")
    parser.add_argument("--port", type=int, default=135, help="of the endpoint mapper")
    parser.add_argument("--rpc-port", type=int, default=5001)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--standing", type=int, default=0, help="so many of the clients keep a connection")
    parser.add_argument("--rate", type=float, default=300.0, help="connections a second")
    parser.add_argument("--width", type=int, default=200, help="at most so many connections at a time")
    parser.add_argument("--patience", type=float, default=1.0, help="seconds for one connection")
    parser.add_argument("--only", help="one service: epm or rpc")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--journal", type=Path)
    arguments = parser.parse_args()
    load = Load(
        clients(arguments.vip, arguments.sources, arguments.first, arguments.clients),
        Journal(arguments.journal, "client"),
        epm_port=arguments.port,
        rpc_port=arguments.rpc_port,
        servers=arguments.server or ("cas1", "cas2", "cas3"),
        patience=arguments.patience,
        rate=arguments.rate,
        width=arguments.width,
        turns=(arguments.only,) if arguments.only else ROUND,
    )
    load.keep_seconds = arguments.seconds is not None

    def stop(_number: int, _frame: object) -> None:
        load.stop = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    began = time.monotonic()
    load.run(arguments.seconds, arguments.standing)
    took = time.monotonic() - began
    state: dict[str, Any] = {"answered": load.answered, "failed": load.failed, "standing": 0, "took": round(took, 3)}
    if load.seconds:
        state |= {"cpu": round(time.process_time(), 3), "percentiles": percentiles(load.seconds)}
    print(json.dumps(state), flush=True)
    return 0


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p99 and the longest, in milliseconds."""
    ordered = sorted(seconds)
    at = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    found = {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] for name, share in at.items()}
    return {name: round(value * 1000, 3) for name, value in (found | {"longest": ordered[-1]}).items()}


if __name__ == "__main__":
    sys.exit(main())
