"""Autodiscover over HTTPS, and the unauthenticated redirect to it over HTTP.

POST to ``/autodiscover/autodiscover.xml``, in whatever letters, is answered; GET there, as browsers and probes send it,
is answered with error 600, as Exchange does. Everything else is 404. A client has to say who it is before its question
is read, unless the configuration wants no logon. [MS-OXDSCLI] 3.2.5, 2.2.1.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from casarray.adapters.api_address import load_certificate, server_context
from casarray.adapters.control import listen_tcp
from casarray.adapters.http_server import HttpServer, TimedProtocol, TlsServer, stop_servers
from casarray.app.autodiscover import Autodiscover
from casarray.core.autodiscover.request import LONGEST, MAPI_HTTP
from casarray.core.autodiscover.walk import PATH
from casarray.core.config import AutodiscoverSettings, Proof
from casarray.core.errors import CasarrayError, Denied, Unavailable

log = logging.getLogger(__name__)

XML = "text/xml; charset=utf-8"
XML_TYPES = ("", "text/xml", "application/xml")
BODY_SECONDS = 15.0  # so long a request may take to arrive
PROOF_SECONDS = 20.0  # so long the KDC may take
REFUSAL_SECONDS = 0.5  # whoever guesses passwords has to wait
MOST_PROOFS = 16  # that are checked at once


T = TypeVar("T")


class Proofs(Protocol):
    """Checks what a client shows; `casarray.adapters.kerberos.http_proof.HttpProofs`. Blocking; `Denied`."""

    def ticket(self, text: str) -> tuple[str, str]:
        """Who, and the answering token."""

    def password(self, text: str) -> str:
        """Who."""


class _TooMuch(Exception):
    """The body is longer than any question."""


class AutodiscoverApp:
    """The ASGI application behind HTTPS."""

    def __init__(self, service: Autodiscover, settings: AutodiscoverSettings, proofs: Proofs | None) -> None:
        """``proofs`` may be None only where nobody has to say who he is."""
        self._service = service
        self._ways = tuple(settings.authentication)
        self._proofs = proofs
        self._room = asyncio.Semaphore(MOST_PROOFS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            response = await self._response(request)
        except ClientDisconnect:
            return
        except _TooMuch:
            response = Response(status_code=413, headers={"Connection": "close"})
        except TimeoutError:
            response = Response(status_code=408, headers={"Connection": "close"})
        except CasarrayError as error:
            log.error("autodiscover: a client could not be answered: %s", error)
            response = _xml(self._service.fail().body)
        await response(scope, receive, send)

    async def _response(self, request: Request) -> Response:
        if request.url.path.casefold() != PATH:
            return Response(status_code=404)
        if request.method not in ("POST", "GET"):
            return Response(status_code=405, headers={"Allow": "GET, POST"})
        who, proof = "", ""
        if Proof.NONE not in self._ways:
            try:
                who, proof = await self._prove(request)
            except Denied as error:
                return await self._unknown(request, str(error))
        headers = {"WWW-Authenticate": f"Negotiate {proof}"} if proof else {}
        if request.method == "GET":
            return _xml(self._service.answer(b"", by=who).body, headers)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().casefold()
        if kind not in XML_TYPES:
            return Response("send text/xml\n", 415, headers, "text/plain")
        body = await _body(request)
        reply = self._service.answer(body, request.headers.get(MAPI_HTTP, ""), who)
        return _xml(reply.body, headers)

    async def _prove(self, request: Request) -> tuple[str, str]:
        """Who asks, and the token for the client. `Denied`, with an empty text when nothing was shown."""
        given = request.headers.getlist("authorization")
        scheme, _, text = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        if self._proofs is None:
            raise Denied("there is no keytab to read tickets with")
        if scheme.casefold() == "negotiate" and Proof.KERBEROS in self._ways:
            return await self._threaded(self._proofs.ticket, text)
        if scheme.casefold() == "basic" and Proof.BASIC in self._ways:
            return await self._threaded(self._proofs.password, text), ""
        raise Denied(f"{scheme[:20]} is not spoken here" if scheme else "")

    async def _threaded(self, work: Callable[[str], T], text: str) -> T:
        async with self._room, asyncio.timeout(PROOF_SECONDS):
            return await asyncio.to_thread(work, text)

    async def _unknown(self, request: Request, why: str) -> Response:
        if why:
            peer = request.client.host if request.client else "somebody"
            log.info("autodiscover: %s is not let in: %s", peer, why)
            await asyncio.sleep(REFUSAL_SECONDS)
        response = Response(status_code=401)
        if Proof.KERBEROS in self._ways:
            response.headers.append("WWW-Authenticate", "Negotiate")
        if Proof.BASIC in self._ways:
            response.headers.append("WWW-Authenticate", 'Basic realm="Autodiscover"')
        return response


class RedirectApp:
    """The ASGI application behind HTTP: whoever asks there for Autodiscover is sent to HTTPS. [MS-OXDISCO] 3.1.5.4."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send one on. A POST would have shown its question to everybody already: it gets nothing."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        if request.url.path.casefold() != PATH:
            response = Response(status_code=404)
        elif request.method not in ("GET", "HEAD"):
            response = Response(status_code=405, headers={"Allow": "GET, HEAD", "Connection": "close"})
        else:
            response = Response(status_code=302, headers={"Location": self.url, "Cache-Control": "no-store"})
        await response(scope, receive, send)


class _Plain(TimedProtocol):
    """HTTP for strangers, on a listener that counts by itself."""

    @staticmethod
    def leave() -> None:
        """Nobody waits for room."""


class AutodiscoverServer:
    """Listens as the configuration says, in the running loop."""

    def __init__(self, service: Autodiscover, settings: AutodiscoverSettings, proofs: Proofs | None = None) -> None:
        self._service = service
        self._settings = settings
        self._proofs = proofs
        self._context: ssl.SSLContext | None = None
        self._running: list[tuple[HttpServer, asyncio.Task[None]]] = []
        self.port = 0  # where it listens, when it does
        self.redirect_port = 0

    @property
    def counts(self) -> Mapping[str, int]:
        """How many were answered, by kind."""
        return self._service.counts

    async def start(self) -> None:
        """Listen. `ConfigError`: the certificate will not do; `Denied`, `Unavailable`: the address will not."""
        settings = self._settings
        made: list[tuple[HttpServer, socket.socket]] = []
        try:
            if settings.listen:
                self._context = server_context()
                load_certificate(self._context, settings.certificate, settings.key, "autodiscover")
                listening = listen_tcp(settings.listen, "Autodiscover", "autodiscover.listen", absent=True)
                app = AutodiscoverApp(self._service, settings, self._proofs)
                made.append((TlsServer(app, self._context), listening))
                self.port = listening.getsockname()[1]
            if settings.redirect_listen:
                key = "autodiscover.redirect_listen"
                listening = listen_tcp(settings.redirect_listen, "Autodiscover's redirect", key, absent=True)
                made.append((HttpServer(RedirectApp(settings.url), _Plain), listening))
                self.redirect_port = listening.getsockname()[1]
        except CasarrayError:
            for _, listening in made:
                listening.close()
            raise
        for server, listening in made:
            self._running.append((server, asyncio.create_task(server.serve([listening]))))
        for server, _ in self._running:
            await server.listening.wait()

    def renew(self) -> None:
        """Read the certificate anew. `ConfigError`, and the old one stays in force."""
        if self._context is not None:
            load_certificate(self._context, self._settings.certificate, self._settings.key, "autodiscover")

    async def stop(self) -> None:
        """End within a second."""
        await stop_servers(self._running)
        self._running.clear()


async def _body(request: Request) -> bytes:
    data = bytearray()
    async with asyncio.timeout(BODY_SECONDS):
        async for chunk in request.stream():
            data += chunk
            if len(data) > LONGEST:
                raise _TooMuch
    return bytes(data)


def _xml(body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, 200, {"Cache-Control": "private", **(headers or {})}, XML)


def proofs_for(settings: AutodiscoverSettings) -> Proofs | None:
    """What reads tickets and passwords, where somebody has to show one. `Unavailable` names a missing library."""
    if not settings.listen or Proof.NONE in settings.authentication:
        return None
    try:
        from casarray.adapters.kerberos.http_proof import HttpProofs  # noqa: PLC0415 - its libraries are an extra
    except ImportError as error:
        raise Unavailable(
            f'authentication of Autodiscover needs the library {error.name}: pip install "casarray[kerberos]", or set '
            'autodiscover.authentication = "none"'
        ) from None
    return HttpProofs(settings.keytab, settings.realm)
