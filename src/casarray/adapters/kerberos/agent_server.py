"""The agent's two doors: the sealed one for administrators and members, and a plain page about its health.

Each caller has a thread, a time-out for every step, and no right before it has proven who it is. More callers than
threads wait; more than that are refused, and so is an address that
has many already: it hurts nobody else. The health page has no secrets and takes no orders.
"""

import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import gssapi
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from casarray.adapters.kerberos import gss
from casarray.app.kerberos.member import Member
from casarray.core.errors import CasarrayError, Conflict, Denied, Unavailable, WireError
from casarray.core.kerberos.agent_messages import read_request, write_answer

log = logging.getLogger(__name__)

CALLERS = 32  # at one time
WAITING = 64  # besides
FROM_ONE = 16  # callers of one address
HANDSHAKE_SECONDS = 10.0
IDLE_SECONDS = 120.0


class Room:
    """How many may be there: in all, and of one address."""

    def __init__(self, most: int, of_one: int) -> None:
        self._most, self._of_one = most, of_one
        self._lock = threading.Lock()
        self._there: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Whether there is room for one more."""
        with self._lock:
            if self._there.total() >= self._most or self._there[address] >= self._of_one:
                return False
            self._there[address] += 1
            return True

    def leave(self, address: str) -> None:
        """One less."""
        with self._lock:
            self._there[address] -= 1
            if not self._there[address]:
                del self._there[address]


class AgentServer:
    """Serves one member's agent until it is closed."""

    def __init__(self, member: Member, own: Callable[[], gssapi.Credentials], place: str) -> None:
        """``place`` is HOST:PORT. `Conflict`, `Denied` or `Unavailable` when it cannot be listened on."""
        self._member = member
        self._own = own
        self._socket = _listen(place)
        self.port: int = self._socket.getsockname()[1]
        self._threads = ThreadPoolExecutor(CALLERS, thread_name_prefix="caller")
        self._room = Room(CALLERS + WAITING, FROM_ONE)
        self._open: set[socket.socket] = set()
        self._closing = threading.Event()
        self._accepting = threading.Thread(target=self._accept, name="agent", daemon=True)

    def start(self) -> None:
        """Take callers."""
        self._accepting.start()

    def close(self) -> None:
        """Take no more, and hang up on those that are there. Twice is once."""
        self._closing.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for sock in tuple(self._open):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        if self._accepting.is_alive():
            self._accepting.join(2)
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _accept(self) -> None:
        while True:
            try:
                sock, (address, *_) = self._socket.accept()
            except OSError as error:
                if self._closing.is_set():
                    return
                log.warning("a caller could not be taken: %s", error.strerror)  # no descriptors left, or it hung up
                self._closing.wait(0.1)
                continue
            sock.settimeout(HANDSHAKE_SECONDS)
            if not self._room.enter(address):
                sock.close()
                continue
            self._open.add(sock)
            try:
                self._threads.submit(self._serve, sock, address)
            except RuntimeError:  # closed meanwhile
                self._leave(sock, address)
                return

    def _serve(self, sock: socket.socket, address: str) -> None:
        try:
            channel = gss.accept(sock, self._own(), time.monotonic() + HANDSHAKE_SECONDS)
            known = self._member.knows(channel.peer)
            if known:
                sock.settimeout(IDLE_SECONDS)
            while data := channel.receive():
                channel.send(write_answer(self._member.answer(channel.peer, read_request(data))))
                if not known:  # it has been told so, and holds no thread any longer
                    break
        except Unavailable as error:
            log.debug("a caller was lost: %s", error)
        except (CasarrayError, WireError) as error:
            log.warning("a caller was sent away: %s", error)
        except Exception:
            log.exception("a caller could not be served")
        finally:
            self._leave(sock, address)

    def _leave(self, sock: socket.socket, address: str) -> None:
        self._open.discard(sock)
        sock.close()
        self._room.leave(address)


class HealthServer:
    """``/health`` and ``/metrics``, in the clear."""

    def __init__(self, member: Member, place: str) -> None:
        """``place`` is HOST:PORT. Raises as `AgentServer` does."""
        listening = _listen(place)
        handler = type("Handler", (_Handler,), {"member": member})
        self._server = _Server(listening.getsockname()[:2], handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listening
        self.port: int = listening.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    def start(self) -> None:
        """Answer."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._room = Room(CALLERS, FROM_ONE)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - the library's names
        return self._room.enter(client_address[0])

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.leave(client_address[0])

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no reason to say anything."""


class _Handler(BaseHTTPRequestHandler):
    timeout = 5
    member: Member

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._say(200, "text/plain; version=0.0.4; charset=utf-8", _metrics(self.member))
            return
        if self.path not in ("/health", "/healthz"):
            self._say(404, "text/plain", b"there are /health and /metrics\n")
            return
        health = self.member.health
        lines = health.stale or (("ok",) if not health.unknown else ("ok, as far as known", *health.unknown))
        self._say(503 if health.stale else 200, "text/plain; charset=utf-8", "\n".join((*lines, "")).encode())

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def _say(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's names
        """A probe each second is nothing to write down."""


class _Metrics(Collector):
    def __init__(self, member: Member) -> None:
        self._member = member

    def collect(self) -> Iterator[Metric]:
        health = self._member.health
        yield GaugeMetricFamily(
            "casarray_agent_stale", "1 while this server cannot read the array's tickets", float(bool(health.stale))
        )
        yield GaugeMetricFamily(
            "casarray_agent_unknown", "1 while the realm cannot be asked", float(bool(health.unknown))
        )
        if (skew := self._member.state().skew) is not None:
            text = "Seconds this server's clock is ahead of the KDC's"
            yield GaugeMetricFamily("casarray_agent_clock_skew_seconds", text, skew)
        numbers = GaugeMetricFamily("casarray_agent_key", "Newest key version held", labels=["account"])
        for one in self._member.state().held:
            numbers.add_metric([one.account], one.generations[0].number if one.generations else 0)
        yield numbers


def _metrics(member: Member) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Metrics(member))
    return generate_latest(registry)


def _listen(place: str) -> socket.socket:
    host, _, port = place.rpartition(":")
    host = host.strip("[]")
    try:
        return socket.create_server(
            (host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128
        )
    except PermissionError:
        raise Denied(f"{place} may not be listened on: use a port above 1023, or run as root") from None
    except OSError as error:
        if error.errno == 98:
            raise Conflict(f"{place} is taken: another agent, or another program, listens there") from None
        raise Unavailable(f"{place} cannot be listened on: {error.strerror}") from None
