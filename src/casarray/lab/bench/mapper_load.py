"""Endpoint mapper traffic as fast as Python can make it: both ends answer and ask with octets made beforehand.

    python -m casarray.lab.bench.mapper_load serve
    python -m casarray.lab.bench.mapper_load ask --target 10.11.0.100 --seconds 3 [--pace 1000] [--whole]

The asker prints one JSON object: calls, seconds, and the latencies as pairs of microseconds and how often. ``--whole``
counts whole conversations (connect, bind, ask, close) instead of questions on kept connections.
"""

import argparse
import json
import selectors
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address

from casarray.core.dcerpc.association import RpcClient, RpcServer
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.interfaces.epm import EPM, EPT_MAP, EptMap, EptMapReply
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.syntax import NDR, Syntax
from casarray.core.dcerpc.tower import Tower
from casarray.lab.bench.topology import MAPPER_PORT, client

_BIND = 11
_CALL_ID = slice(12, 16)


@dataclass(frozen=True, slots=True)
class Script:
    """One conversation as octets."""

    bind: bytes
    bound: bytes
    ask: bytes
    answer: bytes


@lru_cache
def script(address: str = "10.12.0.21", interface: Syntax = NSPI, port: int = 50213) -> Script:
    """Made by the project's codec: a bind to the mapper, and the question where an interface is."""
    tower = Tower.tcp(interface, port, IPv4Address(address))
    server = RpcServer({EPM: lambda call: EptMapReply((tower,)).encode(call.order, call.ndr64)})
    asker = RpcClient()
    bind = asker.bind(EPM, transfer=(NDR,))
    bound = server.serve(bind)
    asker.receive(bound)
    ask = asker.call(EPM, EPT_MAP, EptMap(Tower.tcp(interface, 0, IPv4Address(0))).encode())
    return Script(bind, bound, ask, server.serve(ask))


class Answering:
    """The server's end: a whole PDU in, its canned answer with the right call number out. Any bind is accepted.

    The mapper is on 135 and knows two interfaces, which are there too.
    """

    PORTS: Mapping[Syntax, int] = {NSPI: 50213, EMSMDB: 50214}

    def __init__(self) -> None:
        self._bound = script().bound
        self._answers = [(i.uuid.bytes_le, script(interface=i, port=port).answer) for i, port in self.PORTS.items()]
        self._selector = selectors.DefaultSelector()
        for port in (MAPPER_PORT, *self.PORTS.values()):
            listening = socket.create_server(("0.0.0.0", port), backlog=4096)
            listening.setblocking(False)
            self._selector.register(listening, selectors.EVENT_READ, self._accept)

    def run(self) -> None:
        """Until killed."""
        while True:
            for key, _ in self._selector.select():
                assert isinstance(key.fileobj, socket.socket)
                key.data(key.fileobj)

    def _hear(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(65536)
            if data:
                said = self._bound if data[2] == _BIND else self._answer(data)
                connection.send(said[:12] + data[_CALL_ID] + said[16:])
                return
        except OSError:
            pass
        self._selector.unregister(connection)
        connection.close()

    def _answer(self, asked: bytes) -> bytes:
        return next((answer for uuid, answer in self._answers if uuid in asked), self._answers[0][1])

    def _accept(self, listening: socket.socket) -> None:
        try:
            while True:
                connection, _ = listening.accept()
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._selector.register(connection, selectors.EVENT_READ, self._hear)
        except BlockingIOError:
            return


@dataclass(slots=True)
class Asking:
    """The clients' end, on many addresses; each connection asks, waits, asks again."""

    target: str
    port: int
    connections: int
    pace: float = 0.0  # calls a second over all connections; 0: as fast as they are answered
    whole: bool = False
    latency: Counter[int] = field(default_factory=Counter)
    errors: int = 0

    def run(self, seconds: float) -> dict[str, object]:
        """What came of it."""
        words = script()
        number = 1
        with selectors.DefaultSelector() as selector:
            idle = [self._bound(selector, n) for n in range(self.connections)] if not self.whole else []
            asked: dict[socket.socket, float] = {}
            began = time.perf_counter()
            due, until = began, began + seconds
            fresh = self.connections
            while (now := time.perf_counter()) < until:
                while self.whole and len(asked) < self.connections and (not self.pace or due <= now):
                    due += 1 / self.pace if self.pace else 0.0
                    fresh += 1
                    connection = self._connection(fresh)
                    asked[connection] = time.perf_counter()
                    connection.connect((self.target, self.port))
                    connection.send(words.bind)
                    selector.register(connection, selectors.EVENT_READ, "bind")
                while idle and (not self.pace or due <= now):
                    due += 1 / self.pace if self.pace else 0.0
                    connection = idle.pop(0)
                    number += 1
                    asked[connection] = time.perf_counter()
                    connection.send(words.ask[:12] + struct.pack("<I", number) + words.ask[16:])
                wait = min(until, due if self.pace and (idle or self.whole) else until) - time.perf_counter()
                for key, _ in selector.select(max(0.0, wait)):
                    assert isinstance(key.fileobj, socket.socket)
                    self._heard(selector, key.fileobj, key.data, asked, idle)
            took = time.perf_counter() - began
        return {
            "calls": self.latency.total(),
            "seconds": took,
            "errors": self.errors,
            "latency": sorted(self.latency.items()),
        }

    def _heard(
        self,
        selector: selectors.BaseSelector,
        connection: socket.socket,
        awaited: str,
        asked: dict[socket.socket, float],
        idle: list[socket.socket],
    ) -> None:
        data = connection.recv(65536)
        if len(data) < 24 or data[2] not in (2, 12):
            self.errors += 1
            asked.pop(connection, None)
            selector.unregister(connection)
            connection.close()
            return
        if awaited == "bind":
            connection.send(script().ask)
            selector.modify(connection, selectors.EVENT_READ, "answer")
            return
        self.latency[round((time.perf_counter() - asked.pop(connection)) * 1e6)] += 1
        if self.whole:
            selector.unregister(connection)
            connection.close()
        else:
            idle.append(connection)

    def _connection(self, number: int) -> socket.socket:
        connection = socket.socket()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.bind((client(number % 1024), 0))
        return connection

    def _bound(self, selector: selectors.BaseSelector, number: int) -> socket.socket:
        connection = self._connection(number)
        connection.settimeout(5)
        connection.connect((self.target, self.port))
        connection.sendall(script().bind)
        connection.recv(65536)
        selector.register(connection, selectors.EVENT_READ, "answer")
        return connection


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="casarray.lab.bench.mapper_load", description=__doc__)
    parser.add_argument("what", choices=("serve", "ask"))
    parser.add_argument("--port", type=int, default=MAPPER_PORT)
    parser.add_argument("--target", default="127.0.0.1")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--pace", type=float, default=0.0)
    parser.add_argument("--whole", action="store_true")
    arguments = parser.parse_args()
    if arguments.what == "serve":
        Answering().run()
    asking = Asking(arguments.target, arguments.port, arguments.connections, arguments.pace, arguments.whole)
    print(json.dumps(asking.run(arguments.seconds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
