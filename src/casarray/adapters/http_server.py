"""uvicorn in the gateway's own loop: no signals, no logging, a quick end; and who is at the other end of a connection.

What answers finds in the state of a request: ``uid``, the account behind a connection to a unix socket as the kernel
tells it, or ``who``, the name for whoever came by TCP.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
from collections.abc import Callable, Generator, Sequence
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 128  # on each address
HANDSHAKE_SECONDS = 5.0  # so long a client may take to agree on TLS
HEAD_SECONDS = 10.0  # ... to say what it wants, and to be silent between two requests
ANSWER_SECONDS = 120.0  # ... to have sent its request and read its answer
STOP_SECONDS = 0.6  # so long what runs may go on when all ends
LOOK_SECONDS = 2.5  # between two looks at the clock
_UCRED = struct.Struct("3i")


class LocalProtocol(H11Protocol):
    """HTTP on a unix socket: the kernel knows who is at the other end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Ask for the peer's account while it is certainly there."""
        super().connection_made(transport)
        peer = transport.get_extra_info("socket")
        if peer is None or peer.family != socket.AF_UNIX:
            return
        with contextlib.suppress(OSError):
            _, uid, _ = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
            self.app_state = {**self.app_state, "uid": uid}


class TimedProtocol(H11Protocol):
    """HTTP for strangers: whoever dawdles is cut off."""

    leave: Callable[[], None]  # to be called when the connection is gone
    _look_again: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to watch the clock."""
        super().connection_made(transport)
        self._phase: tuple[object, bool] = (None, True)
        self._since = self.loop.time()
        self._look_again = self.loop.call_later(LOOK_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room for the next one."""
        if self._look_again is not None:
            self._look_again.cancel()
        super().connection_lost(exc)
        self.leave()

    def _look(self) -> None:
        idle = self.cycle is None or self.cycle.response_complete
        phase = (self.cycle, idle)
        now = self.loop.time()
        if phase != self._phase:
            self._phase, self._since = phase, now
        elif now - self._since >= (HEAD_SECONDS if idle else ANSWER_SECONDS):
            self.transport.abort()
            return
        self._look_again = self.loop.call_later(LOOK_SECONDS, self._look)


class HttpServer(uvicorn.Server):
    """Serves one application on sockets that are listening already."""

    def __init__(self, app: ASGIApp, protocol: type[asyncio.Protocol] = LocalProtocol) -> None:
        super().__init__(_config(app, protocol))
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell whoever waits that connections are taken."""
        try:
            await super().startup(sockets)
        finally:
            self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are the gateway's business."""
        yield

    def cut(self) -> None:
        """Waste no more time on whoever is still connected."""
        self.force_exit = True
        for task in self.server_state.tasks:
            task.cancel()
        for connection in list(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if isinstance(transport, asyncio.Transport):
                transport.abort()


class TlsServer(HttpServer):
    """The same over TLS, for strangers. It accepts by itself, since only so the handshakes are counted, too."""

    def __init__(self, app: ASGIApp, context: ssl.SSLContext) -> None:
        super().__init__(app, TimedProtocol)
        self.config.limit_concurrency = None  # the door counts
        self._context = context
        self._room = asyncio.Semaphore(MOST_CONNECTIONS)
        self._tasks: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections."""
        await self.lifespan.startup()
        self.servers = []
        for listening in sockets or ():
            self._spawn(self._accept(listening))
        self.started = True
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take none any more, then as always."""
        for task in self._tasks:
            task.cancel()
        await super().shutdown(sockets)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as error:  # no file descriptors, or the client has gone
                self._room.release()
                log.debug("no connection could be taken: %s", error)
                await asyncio.sleep(0.1)
                continue
            self._spawn(self._greet(connection))

    async def _greet(self, connection: socket.socket) -> None:
        left = False

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                self._room.release()

        def protocol() -> asyncio.Protocol:
            made = TimedProtocol(self.config, self.server_state, self.lifespan.state)
            made.leave = leave
            return made

        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                protocol, connection, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_SECONDS, ssl_shutdown_timeout=2
            )
        except (OSError, EOFError) as error:  # plain HTTP, an old TLS, a port scan: no news
            log.debug("no TLS with a client of the API: %s", error)
            connection.close()
            leave()
        except asyncio.CancelledError:
            connection.close()
            leave()
            raise

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def stop_servers(running: "Sequence[tuple[HttpServer, asyncio.Task[None]]]") -> None:
    """End these servers: requests may finish for a moment, idle connections are closed."""
    for server, _ in running:
        server.should_exit = True
    tasks = [task for _, task in running]
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_SECONDS)
    for server, task in running:
        if not task.done():
            server.cut()
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_SECONDS / 2)
        for task in tasks:
            task.cancel()


def _config(app: ASGIApp, protocol: type[asyncio.Protocol]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="none",
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=5,
    )
