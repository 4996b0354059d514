"""The control socket, the metrics address and the API's address: REST with JSON in front of `Operations`.

A server for each, so that whoever reaches the metrics reaches nothing else, and nobody takes the operator's connections
away. They run in the gateway's own loop on sockets made here.

GET  /v1/status                      Status
GET  /v1/explain?client=A[&array=N]  Explanation
POST /v1/servers/{name}/state        {"state": "drain", "deadline_seconds": 600} -> ServerChange
POST /v1/reload                      ReloadReport
GET  /metrics /healthz /readyz       on the socket and the metrics address

What more the API has (the directory) are routes that are made when the first of them is asked for. A failure is
{"error": {"kind": "NotFound", "message": "..."}} with a status that fits.
"""

import asyncio
import fcntl
import json
import os
import socket
import stat
import threading
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from casarray.adapters.api_address import Credentials, Door
from casarray.adapters.http_server import MOST_CONNECTIONS, HttpServer, TlsServer, stop_servers
from casarray.app.operations import Operations, Status
from casarray.core.config import ApiSettings, Wish
from casarray.core.errors import (
    CasarrayError,
    ConfigError,
    Conflict,
    Denied,
    MovedOn,
    NotFound,
    Unavailable,
    WireError,
)
from casarray.core.records import to_json

SOCKET_MODE = 0o660
IP_FREEBIND, IPV6_FREEBIND = 15, 78  # linux/in.h, linux/in6.h
LONGEST_BODY = 4096
LONGEST_DEADLINE = 30 * 86400.0

_STATUS: dict[type[CasarrayError], int] = {
    WireError: 400,
    Denied: 403,
    NotFound: 404,
    MovedOn: 412,
    Conflict: 409,
    ConfigError: 422,
    Unavailable: 503,
}


class ControlServer:
    """Serves `Operations` on a unix socket and, if asked to, the metrics on a TCP address and the API on another."""

    def __init__(
        self,
        operations: Operations,
        control: str,
        metrics: str = "",
        *,
        more: Callable[[], Sequence[BaseRoute]] = tuple,
        api: ApiSettings | None = None,
    ) -> None:
        """``control`` is a path, ``metrics`` host:port or empty.

        ``more``: what else the API has, asked for once, in a thread, when something of it is.
        """
        self._operations = operations
        self._path = Path(control)
        self._metrics = metrics
        self._inode: tuple[int, int] | None = None
        self._more = more
        self._routes: tuple[BaseRoute, ...] | None = None
        self._making_routes = threading.Lock()
        self._api = api if api is not None and api.listen else None
        self._credentials: Credentials | None = None
        self._running: list[tuple[HttpServer, asyncio.Task[None]]] = []
        self.metrics_port: int | None = None
        self.api_port: int | None = None

    async def start(self) -> None:
        """Listen. `Conflict`: somebody else does already. `Denied`, `Unavailable`, `ConfigError`: why it cannot be."""
        if self._api is not None:
            self._credentials = Credentials(self._api)
        control = listen_unix(self._path)
        self._inode = _inode(self._path)
        servers: list[tuple[HttpServer, socket.socket]] = [(HttpServer(self._unfolding(control_app)), control)]
        try:
            if self._metrics:
                servers.append((HttpServer(metrics_app(self._operations)), listen_tcp(self._metrics)))
                self.metrics_port = servers[-1][1].getsockname()[1]
            if self._api is not None and self._credentials is not None:
                app = Door(self._unfolding(api_app), self._credentials)
                listening = listen_tcp(self._api.listen, "the API", "api.listen")
                servers.append((TlsServer(app, self._credentials.context), listening))
                self.api_port = listening.getsockname()[1]
        except CasarrayError:
            for _, listening in servers:
                listening.close()
            self._unlink()
            raise
        for server, listening in servers:
            task = asyncio.create_task(server.serve([listening]), name=f"control {listening.getsockname()}")
            self._running.append((server, task))
        for server, _ in self._running:
            await server.listening.wait()

    def renew(self, api: ApiSettings) -> None:
        """Read certificate and token anew. `ConfigError`: they will not do, and the old ones stay in force."""
        if self._credentials is not None and api.listen:
            self._credentials.renew(api)

    async def stop(self) -> None:
        """End within a second: running requests may finish for a moment, idle connections are closed."""
        await stop_servers(self._running)
        self._running.clear()
        self._unlink()

    def _unfolding(self, app: "Callable[[Operations, Sequence[BaseRoute]], Starlette]") -> "Unfolding":
        return Unfolding(app(self._operations, ()), lambda: app(self._operations, self._all_routes()))

    def _all_routes(self) -> tuple[BaseRoute, ...]:
        with self._making_routes:
            if self._routes is None:
                self._routes = tuple(self._more())
            return self._routes

    def _unlink(self) -> None:
        """Take our socket away, but not that of a gateway that came after us."""
        if self._inode is not None and _inode(self._path) == self._inode:
            self._path.unlink(missing_ok=True)
        self._inode = None


class Unfolding:
    """A small application until something is asked for that it has not: then, and from then on, the whole one.

    Most gateways are never asked for more, and their start would wait for all of it to be loaded.
    """

    def __init__(self, small: Starlette, whole: Callable[[], ASGIApp]) -> None:
        self._app: ASGIApp = small
        self._routes = tuple(small.routes)
        self._whole: Callable[[], ASGIApp] | None = whole
        self._one_at_a_time = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if self._whole is not None and not any(route.matches(scope)[0] is Match.FULL for route in self._routes):
            async with self._one_at_a_time:
                if self._whole is not None:
                    self._app, self._whole = await asyncio.to_thread(self._whole), None
        await self._app(scope, receive, send)


def listen_unix(path: Path) -> socket.socket:
    """A listening socket at the path, mode 0660; one that a dead gateway left is replaced, a living one is refused."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise Unavailable(f"cannot make the control socket {path}: {path.parent}: {error.strerror}") from None
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # two gateways that start at once must not both find it dead
        _clear(path)
        os.fchmod(listening.fileno(), SOCKET_MODE)  # the file is born with it: nobody slips in before a chmod
        listening.bind(str(path))
        path.chmod(SOCKET_MODE)
        listening.listen(MOST_CONNECTIONS)
    except PermissionError:
        listening.close()
        raise Denied(
            f"no right to make the control socket {path}; set gateway.control to a place that is yours"
        ) from None
    except OSError as error:
        listening.close()
        raise Unavailable(f"cannot make the control socket {path}: {error.strerror or error}") from None
    except CasarrayError:
        listening.close()
        raise
    finally:
        os.close(folder)
    listening.setblocking(False)
    return listening


def _clear(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Conflict(f"{path} is there and is no socket; remove it, or set gateway.control to another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)  # nobody listens: its process is gone
            return
        except FileNotFoundError:
            return
        except (TimeoutError, BlockingIOError):  # its queue is full: alive, if not well
            pass
    raise Conflict(f"another gateway answers at {path}; stop it, or set gateway.control to another path")


def listen_tcp(
    endpoint: str, what: str = "metrics", key: str = "gateway.metrics", *, absent: bool = False
) -> socket.socket:
    """A listening socket at host:port or [v6]:port; ``what`` for, and where that is configured, are for messages.

    ``absent``: the address need not be on this host yet, as that of a pair of hosts.
    """
    host, _, port = endpoint.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if absent:
            level, option = (socket.IPPROTO_IPV6, IPV6_FREEBIND) if ":" in host else (socket.IPPROTO_IP, IP_FREEBIND)
            listening.setsockopt(level, option, 1)
        listening.bind((host, int(port)))
        listening.listen(MOST_CONNECTIONS)
    except PermissionError:
        listening.close()
        raise Denied(f"no right to listen on {endpoint}; set {key} to a port above 1023") from None
    except OSError as error:
        listening.close()
        text = f"cannot serve {what} on {endpoint}: {error.strerror}; set {key} to another address"
        raise Unavailable(text) from None
    listening.setblocking(False)
    return listening


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def control_app(operations: Operations, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """What is served on the control socket: the API, and what is public."""
    return _app([*_control_routes(operations), *routes, *_public_routes(operations)])


def api_app(operations: Operations, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The API alone."""
    return _app([*_control_routes(operations), *routes])


def _app(routes: Sequence[BaseRoute]) -> Starlette:
    """The routes, and an answer of the same shape to whatever else is asked or goes wrong."""

    async def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path, known = request.url.path, [r for r in routes if isinstance(r, Route)]
        methods = sorted({m for r in known if r.path_regex.match(path) for m in r.methods or ()})
        if error.status_code != 405:
            return _failure(error.status_code, "NotFound", f"there is nothing at {path}; is it another version?")
        words = f"{request.method} is not known at {path}, but {', '.join(methods)}"
        return _failure(405, "WireError", words, {"Allow": ", ".join(methods)})

    handlers: dict[Any, Any] = {
        CasarrayError: _refused,
        ClientDisconnect: _gone,
        HTTPException: unknown,
        Exception: _broken,
    }
    return Starlette(routes=routes, exception_handlers=handlers)


def _control_routes(operations: Operations) -> list[Route]:

    async def status(_request: Request) -> Response:
        await operations.freshen()
        return JSONResponse(to_json(operations.status()))

    async def explain(request: Request) -> Response:
        client = request.query_params.get("client", "")
        try:
            client = str(ip_address(client))
        except ValueError:
            raise WireError("client", f'"{client[:60]}" is not an IP address') from None
        return JSONResponse(to_json(operations.explain(client, request.query_params.get("array"))))

    async def set_server(request: Request) -> Response:
        wish, deadline = _wish(await _body(request))
        return JSONResponse(to_json(await operations.set_server(request.path_params["name"], wish, deadline)))

    async def reload(_request: Request) -> Response:
        return JSONResponse(to_json(await operations.reload()))

    return [
        Route("/v1/status", status, methods=["GET"]),
        Route("/v1/explain", explain, methods=["GET"]),
        Route("/v1/servers/{name}/state", set_server, methods=["POST"]),
        Route("/v1/reload", reload, methods=["POST"]),
    ]


def metrics_app(operations: Operations) -> Starlette:
    """What is served on the metrics address: nothing that changes anything."""
    return _app(_public_routes(operations))


def _public_routes(operations: Operations) -> list[Route]:
    async def metrics(_request: Request) -> Response:
        await operations.freshen()
        return await asyncio.to_thread(_exposed, operations.status())

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")  # the loop that answers this is the one that steers

    async def readyz(_request: Request) -> Response:
        ready, reason = operations.readiness()
        return PlainTextResponse(f"{reason or 'ready'}\n", 200 if ready else 503)

    return [
        Route("/metrics", metrics, methods=["GET"]),
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
    ]


def _exposed(status: Status) -> Response:
    from casarray.adapters.prometheus import CONTENT_TYPE, exposition  # noqa: PLC0415 - no start need wait for it

    return Response(exposition(lambda: status), media_type=CONTENT_TYPE)


async def _refused(_request: Request, error: Exception) -> Response:
    kind = next((k for k in _STATUS if isinstance(error, k)), Unavailable)
    return _failure(_STATUS[kind], kind.__name__, str(error))


async def _gone(_request: Request, _error: Exception) -> Response:
    return _failure(400, "WireError", "the request ended in the middle")  # nobody reads it


async def _broken(_request: Request, error: Exception) -> Response:
    # uvicorn logs where it was.
    return _failure(500, "Unavailable", f"this should not happen: {type(error).__name__}; the gateway's log says more")


def _failure(status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"kind": kind, "message": message}}, status, headers)


async def _body(request: Request) -> Any:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > LONGEST_BODY:
            raise WireError("body", f"more than {LONGEST_BODY} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise WireError("body", 'not JSON; send {"state": "drain"}') from None


def _wish(body: object) -> tuple[Wish, float | None]:
    states = ", ".join(Wish)
    if not isinstance(body, dict) or body.keys() - {"state", "deadline_seconds"}:
        raise WireError("body", f'send {{"state": one of {states}}}, and with drain "deadline_seconds" if wanted')
    try:
        wish = Wish(str(body.get("state")))
    except ValueError:
        raise WireError("state", f"write one of {states}") from None
    deadline = body.get("deadline_seconds")
    if deadline is None:
        return wish, None
    if wish is not Wish.DRAIN:
        raise WireError("deadline_seconds", f"has no meaning with state {wish}")
    if isinstance(deadline, bool) or not isinstance(deadline, int | float) or not 0 <= deadline <= LONGEST_DEADLINE:
        raise WireError("deadline_seconds", f"write a number from 0 to {LONGEST_DEADLINE:.0f}")
    return wish, float(deadline)
