"""The prober over real sockets on loopback: servers that do everything a server should not."""

import asyncio
import contextlib
import errno
import gc
import inspect
import os
import resource
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from socket import AF_INET, SO_LINGER, SOCK_STREAM, SOL_SOCKET, socket
from typing import Any

import pytest
import uvloop
from tests.core.health.certificates import self_signed

from casarray.adapters.clock import SystemClock
from casarray.adapters.net.dial import DialProber, failure_of
from casarray.app.health import HealthWatch
from casarray.app.ports import Prober
from casarray.core.config import HealthPolicy, ProbeKind, Service
from casarray.core.health.conversation import Answer, Failure
from casarray.core.health.probes import Target
from casarray.core.health.verdict import HealthState

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HERE = ip_address("127.0.0.1")


def on_both_loops(body: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make two tests of it: one on asyncio's loop, one on uvloop."""

    def test(loop_factory: Callable[[], asyncio.AbstractEventLoop], **arguments: object) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(body(**arguments))

    signature = inspect.signature(body)
    own = inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY)
    test.__signature__ = signature.replace(parameters=[*signature.parameters.values(), own])  # type: ignore[attr-defined]  # functions have one, and mypy does not know it
    test.__doc__ = body.__doc__
    factories = [asyncio.new_event_loop, uvloop.new_event_loop]
    return pytest.mark.parametrize("loop_factory", factories, ids=["asyncio", "uvloop"])(test)


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    gc.collect()
    before = open_sockets()
    yield
    gc.collect()
    assert open_sockets() <= before


def open_sockets() -> set[str]:
    """This process's sockets."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
    return {what for what in found if what.startswith("socket:")}


@contextlib.asynccontextmanager
async def serving(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on loopback; its port."""
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await serve(reader, writer)

    server = await asyncio.start_server(one, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await asyncio.sleep(0.02)  # a connection that came and went may still have to be accepted
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 1)
        await server.wait_closed()
        await asyncio.sleep(0.01)


def target(port: int, kind: ProbeKind, **rest: object) -> Target:
    return Target("cas1", (HERE,), Service("x", port, "g", kind, **rest))  # type: ignore[arg-type]  # by names that the test gives


async def ask(port: int, kind: ProbeKind, seconds: float = 0.3) -> tuple[Answer, float]:
    """Probe; the answer, and how long it took."""
    prober = DialProber()
    since = time.monotonic()
    answer, wire = await prober.probe(target(port, kind), seconds)
    assert wire is None
    return answer, time.monotonic() - since


def free_port() -> int:
    with socket(AF_INET, SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


def sends(*pieces: bytes, every: float = 0.0) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(every)
        await reader.read()

    return serve


LISTENER = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
connections = []
while True:
    connections.append(listener.accept())
"""


@on_both_loops
async def test_it_is_a_prober() -> None:
    prober: Prober = DialProber()
    prober.close()


@on_both_loops
async def test_a_refused_connection_is_conclusive() -> None:
    port = free_port()
    answer, _ = await ask(port, ProbeKind.TCP)
    assert answer == Answer(False, f"cas1 refuses connections on {port}", conclusive=True)


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        (errno.ECONNREFUSED, Failure.REFUSED),
        (errno.EHOSTUNREACH, Failure.UNREACHABLE),
        (errno.ENETUNREACH, Failure.UNREACHABLE),
        (errno.EPERM, Failure.UNREACHABLE),
        (errno.ETIMEDOUT, Failure.TIMEOUT),
        (errno.ECONNRESET, Failure.RESET),
        (errno.EPIPE, Failure.RESET),
        (errno.EMFILE, Failure.OURS),
        (errno.EADDRNOTAVAIL, Failure.OURS),
    ],
)
def test_errors_of_a_socket_are_told_apart(code: int, failure: Failure) -> None:
    assert failure_of(OSError(code, os.strerror(code))) == (failure, os.strerror(code))


@on_both_loops
async def test_without_file_descriptors_nothing_is_said_of_the_server() -> None:
    async with serving(silent) as port:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        await ask(port, ProbeKind.TCP)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            answer, _ = await ask(port, ProbeKind.TCP)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert answer.ours
        assert answer.reason == "cas1 was not probed: Too many open files"


@on_both_loops
async def test_an_accepted_connection_is_up() -> None:
    async with serving(silent) as port:
        answer, _ = await ask(port, ProbeKind.TCP)
        assert answer == Answer(True, f"cas1 accepts connections on {port}")


@pytest.mark.parametrize("kind", [ProbeKind.IMAP, ProbeKind.HTTP, ProbeKind.HTTPS, ProbeKind.RPC])
@on_both_loops
async def test_a_hang_after_accept_ends_with_the_time(kind: ProbeKind) -> None:
    async with serving(silent) as port:
        answer, took = await ask(port, kind)
        assert not answer.up
        assert not answer.conclusive
        assert answer.reason.startswith(f"cas1 accepts connections on {port} but does not ")
        assert 0.28 < took < 0.5


@on_both_loops
async def test_a_full_backlog_is_a_server_that_does_not_accept() -> None:
    with socket(AF_INET, SOCK_STREAM) as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):
            waiting = stack.enter_context(socket(AF_INET, SOCK_STREAM))
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        await asyncio.sleep(0.05)
        answer, took = await ask(port, ProbeKind.TCP)
        assert answer == Answer(False, f"cas1 does not accept connections on {port}")
        assert took < 0.5


@pytest.mark.parametrize("kind", [ProbeKind.IMAP, ProbeKind.HTTP, ProbeKind.HTTPS, ProbeKind.RPC])
@on_both_loops
async def test_garbage_is_down_without_waiting(kind: ProbeKind) -> None:
    async with serving(sends(b"\x07\xff garbage \r\n\r\n" * 20)) as port:
        answer, took = await ask(port, kind, 5)
        assert not answer.up
        assert took < 1


@on_both_loops
async def test_garbage_without_end_is_bounded() -> None:
    async def pours(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000)
            await writer.drain()

    async with serving(pours) as port:
        answer, took = await ask(port, ProbeKind.HTTP, 5)
        assert not answer.up
        assert took < 1


@on_both_loops
async def test_one_byte_a_moment_is_read_and_one_byte_a_second_is_not_waited_for() -> None:
    greeting = [bytes([b]) for b in b"220-a\r\n220 b\r\n"]
    async with serving(sends(*greeting, every=0.01)) as port:
        assert (await ask(port, ProbeKind.SMTP, 2))[0].up
    async with serving(sends(*greeting, every=1)) as port:
        answer, took = await ask(port, ProbeKind.SMTP)
        assert answer.reason == f"cas1 accepts connections on {port} but does not greet as SMTP does"
        assert took < 0.5


@pytest.mark.parametrize("kind", [ProbeKind.IMAP, ProbeKind.HTTP, ProbeKind.HTTPS, ProbeKind.RPC])
@on_both_loops
async def test_a_server_that_closes_is_down_at_once(kind: ProbeKind) -> None:
    async def closes(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with serving(closes) as port:
        answer, took = await ask(port, kind, 5)
        assert "closes the connection and does not" in answer.reason or "resets" in answer.reason
        assert took < 1


@on_both_loops
async def test_a_server_that_resets_is_told_apart() -> None:
    async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    async with serving(resets) as port:
        answer, _ = await ask(port, ProbeKind.HTTP)
        assert (
            answer.reason == f"cas1 accepts connections on {port} but resets the connection and does not answer GET /"
        )


@on_both_loops
async def test_mail_servers_are_said_good_bye_to() -> None:
    heard = asyncio.Event()

    async def imap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK hello\r\n")
        assert await reader.read() == b"a LOGOUT\r\n"
        heard.set()

    async with serving(imap) as port:
        assert (await ask(port, ProbeKind.IMAP))[0].up
        await asyncio.wait_for(heard.wait(), 1)


def server_context(tmp_path: Path, until: datetime) -> ssl.SSLContext:
    pem = tmp_path / "cert.pem"
    pem.write_bytes(self_signed(until)[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@on_both_loops
async def test_https_reports_the_end_of_the_certificate_and_does_not_judge_it(tmp_path: Path) -> None:
    until = datetime(2021, 5, 4, tzinfo=UTC)

    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000)
        await reader.read()

    async with serving(web, server_context(tmp_path, until)) as port:
        answer, _ = await ask(port, ProbeKind.HTTPS, 5)
        assert answer == Answer(
            True, f"cas1 answers GET / on {port} with status 200", certificate_expires=until.timestamp()
        )


@on_both_loops
async def test_a_greeting_that_comes_along_with_the_handshake_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("casarray.core.health.greetings.TLS_PORTS", frozenset(range(65536)))
    context = server_context(tmp_path, datetime(2036, 1, 1, tzinfo=UTC))
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # there the server has the last word of the handshake

    async def at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        shaken = False
        while not shaken:
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                tls.write(b"* OK hello\r\n")
                shaken = True
            writer.write(outgoing.read())
            if not shaken:
                incoming.write(await reader.read(65536))
        await reader.read()

    async with serving(at_once) as port:
        answer, _ = await ask(port, ProbeKind.IMAP, 2)
        assert answer.up, answer.reason


@on_both_loops
async def test_tls_that_fails_is_a_sentence() -> None:
    async with serving(sends(b"HTTP/1.0 400 this is no TLS\r\n\r\n")) as port:
        answer, _ = await ask(port, ProbeKind.HTTPS)
        assert answer.reason.startswith(f"cas1 accepts connections on {port} but the TLS handshake fails: ")


@on_both_loops
async def test_a_source_address_is_used_and_a_wrong_one_is_our_fault() -> None:
    peers: list[str] = []

    async def notes(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername")[0])

    async with serving(notes) as port:
        prober = DialProber({4: ip_address("127.9.9.9")})
        assert (await prober.probe(target(port, ProbeKind.TCP), 1))[0].up
        await asyncio.sleep(0.05)
        assert peers == ["127.9.9.9"]
        answer, _ = await DialProber({4: ip_address("192.0.2.1")}).probe(target(port, ProbeKind.TCP), 1)
        assert answer.ours
        assert answer.reason == "cas1 was not probed: Cannot assign requested address"


@on_both_loops
async def test_every_address_has_to_answer() -> None:
    async with serving(silent) as port:
        both = (HERE, ip_address("::1"))
        answer, _ = await DialProber().probe(Target("cas1", both, Service("x", port, "g")), 1)
        assert answer == Answer(False, f"cas1 (::1) refuses connections on {port}", conclusive=True)
        assert (await DialProber().probe(Target("cas1", (), Service("x", port, "g")), 1))[0].ours


@on_both_loops
async def test_a_cancelled_probe_leaves_no_connection() -> None:
    async with serving(silent) as port:
        prober = DialProber()
        tasks = [asyncio.create_task(prober.probe(target(port, kind), 5)) for kind in ProbeKind]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@on_both_loops
async def test_a_tripwire_breaks_once_whatever_it_heard_before() -> None:
    let_go = asyncio.Event()

    async def chatty(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK hello\r\n")
        await let_go.wait()
        writer.write(b"* BYE\r\n")
        writer.close()

    async with serving(chatty) as port:
        prober, broke = DialProber(), list[float]()
        answer, wire = await prober.probe(target(port, ProbeKind.IMAP), 1, lambda: broke.append(1))
        assert answer.up
        assert wire is not None
        await asyncio.sleep(0.05)
        assert not broke
        let_go.set()
        await asyncio.sleep(0.05)
        assert broke == [1]
        wire.cut()
        prober.close()


@on_both_loops
async def test_a_tripwire_that_is_cut_says_nothing() -> None:
    async with serving(silent) as port:
        prober, broke = DialProber(), list[float]()
        for _ in range(3):
            await prober.probe(target(port, ProbeKind.TCP), 1, lambda: broke.append(1))
        prober.close()
        await asyncio.sleep(0.05)
    assert not broke


@on_both_loops
async def test_a_bad_answer_has_no_tripwire() -> None:
    async with serving(sends(b"garbage\r\n")) as port:
        answer, wire = await DialProber().probe(target(port, ProbeKind.IMAP), 1, lambda: None)
        assert (answer.up, wire) == (False, None)


@on_both_loops
async def test_time_that_we_ourselves_were_blocked_is_given_back() -> None:
    async with serving(sends(b"* OK hello\r\n")) as port:
        task = asyncio.create_task(DialProber().probe(target(port, ProbeKind.IMAP), 0.2))
        await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251 - that is the point
        answer, _ = await task
        assert answer.up, answer.reason


@pytest.mark.parametrize(("policy", "limit"), [(HealthPolicy(), 3.0), (HealthPolicy(interval=0.1, timeout=0.15), 0.5)])
@on_both_loops
async def test_a_service_that_hangs_is_noticed_in_time(policy: HealthPolicy, limit: float) -> None:
    hung = False

    async def imap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not hung:
            writer.write(b"* OK hello\r\n")
        await reader.read()

    async with serving(imap) as port:
        watch = HealthWatch(DialProber(), lambda _target: policy, SystemClock())
        watch.watch([target(port, ProbeKind.IMAP)])
        await asyncio.sleep(0.35)
        assert watch.seen()["cas1", "x"].state is HealthState.UP
        hung, since = True, time.monotonic()
        while watch.seen()["cas1", "x"].state is HealthState.UP:
            await asyncio.sleep(0.001)
            assert time.monotonic() - since < limit
        await watch.close()


@pytest.mark.parametrize("policy", [HealthPolicy(), HealthPolicy(interval=0.1, timeout=0.15)])
@on_both_loops
async def test_a_killed_process_is_noticed_within_100_ms(policy: HealthPolicy) -> None:
    process = subprocess.Popen([sys.executable, "-c", LISTENER], stdout=subprocess.PIPE)  # noqa: ASYNC220 - a test
    assert process.stdout is not None
    port = int(process.stdout.readline())
    watch = HealthWatch(DialProber(), lambda _target: policy, SystemClock())
    try:
        watch.watch([target(port, ProbeKind.TCP)])
        assert await watch.wait_first(5)
        await asyncio.sleep(0.35)
        assert watch.seen()["cas1", "x"].state is HealthState.UP
        process.kill()
        since = time.monotonic()
        while watch.seen()["cas1", "x"].state is HealthState.UP:
            await asyncio.sleep(0.001)
            assert time.monotonic() - since < 5
        took = time.monotonic() - since
        assert took < 0.1
        assert watch.seen()["cas1", "x"].reason == f"cas1 refuses connections on {port}"
    finally:
        await watch.close()
        process.kill()
        process.communicate()
