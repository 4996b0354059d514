"""Load: wrk, iperf3, and connections that are only held; each from the clients' many addresses."""

import json
import os
import selectors
import socket
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from casarray.core.errors import Unavailable
from casarray.lab.bench.peers import Running, stop
from casarray.lab.bench.topology import ADDRESSES, BULK_PORTS, FIRST_UID, PORT, client

Noting = Callable[[int], None]
SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True, slots=True)
class Requests:
    """What wrk saw."""

    per_second: float
    errors: int
    latency: Counter[int]  # microseconds -> requests

    def percentile(self, share: float) -> float:
        """So many of all requests (0.99) were answered within this, in microseconds."""
        wanted = share * self.latency.total()
        seen = 0
        for micros in sorted(self.latency):
            seen += self.latency[micros]
            if seen >= wanted:
                return float(micros)
        return 0.0


def requests(
    running: Running, seconds: float, *, connections: int, processes: int, close: bool = False, pace_ms: int = 0
) -> Requests:
    """HTTP requests from ``processes`` client addresses at once, on kept connections or each on a new one."""
    started = []
    header = ["-H", "Connection: close"] if close else []
    for address in range(processes):
        command = [
            "wrk", "-t1", f"-c{max(1, connections // processes)}", f"-d{max(1, round(seconds))}s", "-s", str(SCRIPT),
            *header, f"http://{running.target(address)}:{PORT}/",
        ]  # fmt: skip
        environment = os.environ | {"PACE_MS": str(pace_ms), "SEED": str(address)}
        started.append(_as_address(running, address, command, environment))
    answers = _answers(started, seconds + 20)
    found = [json.loads(answer.rpartition("JSON ")[2]) for answer in answers]
    latency: Counter[int] = Counter()
    for one in found:
        for micros, count in one["latency"]:
            latency[micros] += count
    errors = sum(one[kind] for one in found for kind in ("connect", "read", "write", "status", "timeout"))
    return Requests(sum(one["requests"] / one["micros"] * 1e6 for one in found), errors, latency)


def bulk(running: Running, seconds: float, *, streams: int = 2) -> float:
    """Gigabits per second from the clients to the servers, over two iperf3 clients with so many streams each."""
    started = []
    for address, port in enumerate(BULK_PORTS):
        command = [
            "iperf3", "-c", running.target(address), "-p", str(port), "-t", str(max(1, round(seconds))),
            "-P", str(streams), "-Z", "-J",
        ]  # fmt: skip
        started.append(_as_address(running, address, command, None))
    reports = [json.loads(answer) for answer in _answers(started, seconds + 20)]
    for report in reports:
        if "error" in report:
            raise Unavailable(f"iperf3: {report['error']}")
    return float(sum(report["end"]["sum_received"]["bits_per_second"] for report in reports)) / 1e9


def _as_address(
    running: Running, address: int, command: list[str], environment: "dict[str, str] | None"
) -> "subprocess.Popen[bytes]":
    """Start a client program so that it comes from this address."""
    uid = str(FIRST_UID + address % ADDRESSES)
    return running.ground.clients.spawn(
        "setpriv", "--reuid", uid, "--clear-groups", *command,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
    )  # fmt: skip


def _answers(started: Sequence["subprocess.Popen[bytes]"], seconds: float) -> list[str]:
    until = time.monotonic() + seconds
    answers = []
    try:
        for process in started:
            said = process.communicate(timeout=max(1.0, until - time.monotonic()))[0].decode(errors="replace")
            if process.returncode != 0:
                raise Unavailable(f"a load generator failed ({process.returncode}): {said.strip()[-500:]}")
            answers.append(said)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"a load generator did not end within {seconds:.0f} s") from error
    finally:
        stop(started)
    return answers


@contextmanager
def held(running: Running, count: int) -> Iterator[list[socket.socket]]:
    """So many idle connections from as many addresses as there are."""
    connections: list[socket.socket] = []
    try:
        with running.ground.clients.inside():
            for start in range(0, count, 200):
                connections += _connected(running, range(start, min(start + 200, count)))
        yield connections
    finally:
        for connection in connections:
            connection.close()


def _connected(running: Running, numbers: range) -> list[socket.socket]:
    made = []
    with selectors.DefaultSelector() as waiting:
        for number in numbers:
            connection = socket.socket()
            made.append(connection)
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            connection.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            connection.bind((client(number % 4096), 0))
            connection.connect_ex((running.target(number), PORT))
            waiting.register(connection, selectors.EVENT_WRITE)
        until = time.monotonic() + 10
        while waiting.get_map():
            if time.monotonic() > until:
                raise Unavailable(f"{len(waiting.get_map())} of {len(numbers)} connections were not made within 10 s")
            for key, _ in waiting.select(1.0):
                waiting.unregister(key.fileobj)
    for connection in made:
        if error := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise Unavailable(f"a connection to hold was refused: {os.strerror(error)}")
    return made


_IP_BIND_ADDRESS_NO_PORT = 24
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # nothing of it stays in TIME_WAIT to be counted with the next peer


def report_of(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """The JSON object on a child's standard output."""
    found: dict[str, Any] = json.loads(_answers([process], 60)[0])
    return found
