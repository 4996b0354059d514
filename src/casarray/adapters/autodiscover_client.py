"""Asks Autodiscover as a client does: carries out `casarray.core.autodiscover.walk` over real connections.

    client = AutodiscoverClient(logon=lambda host: Basic("alice@domain.tld", password), ca="/etc/casarray/ca.pem")
    walked = await client.walk(Request("alice@domain.tld"))

A new connection for each visit, one logon on it, everything bounded in size and time. A certificate has to be right for
the name that was asked for before anything is said; a password is never sent without that, nor to a strange host that
only a redirect named.
"""

import asyncio
import base64
import binascii
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast
from urllib.parse import urlsplit

import h11

from casarray.adapters.net.dial import failure_of
from casarray.adapters.net.rpc_http_client import HttpLogon
from casarray.core.autodiscover.request import Request
from casarray.core.autodiscover.response import LONGEST
from casarray.core.autodiscover.walk import MOST_HOPS, Came, Found, Hop, LookUp, Problem, Visit, Walked, walk
from casarray.core.errors import Denied, Unavailable

MOST_LEGS = 4
_AGENT = b"casarray-autodiscover"


class AutodiscoverClient:
    """One client, with one logon. For the running loop."""

    def __init__(
        self,
        logon: Callable[[str], HttpLogon] | None = None,
        *,
        ca: str = "",
        verify: bool = True,
        seconds: float = 10.0,
        connect_to: Callable[[str, int], tuple[str, int]] = lambda host, port: (host, port),
        source: str | None = None,
    ) -> None:
        """``logon`` makes the proof for a host; without it, 401 is the end of a visit.

        ``ca``: certificates that may vouch, beside the system's. ``seconds`` for each visit. ``connect_to``: where a
        host and port are really reached, for a test of one server of many; the certificate's name stays the host's.
        """
        self._logon = logon
        self._seconds = seconds
        self._connect_to = connect_to
        self._source = source
        try:
            self._tls = ssl.create_default_context(cafile=None)
            if ca:
                self._tls.load_verify_locations(ca)
        except OSError as error:
            raise Denied(f"the certificates in {ca} cannot be read: {error.strerror or error}") from None
        if not verify:
            self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE

    async def walk(
        self,
        request: Request,
        urls: Sequence[str] = (),
        *,
        only: bool = False,
        most_hops: int = MOST_HOPS,
        tell: Callable[[Hop], None] = lambda _hop: None,
    ) -> Walked:
        """The whole way; see `casarray.core.autodiscover.walk.walk`. Raises nothing that a server does."""
        way = walk(request, urls, only=only, most_hops=most_hops, tell=tell)
        step = next(way)
        while True:
            try:
                step = way.send(await self.visit(step) if isinstance(step, Visit) else await self._look_up(step))
            except StopIteration as end:
                return cast(Walked, end.value)

    async def visit(self, visit: Visit) -> Came:
        """One visit, with its logon."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._seconds):
                came = await self._visit(visit)
        except TimeoutError:
            came = Came(problem=Problem.TIME, detail=f"does not answer within {self._seconds:g} s")
        except ssl.SSLCertVerificationError as error:
            came = Came(problem=Problem.CERTIFICATE, detail=f"its certificate is not right: {error.verify_message}")
        except ssl.SSLError as error:
            came = Came(problem=Problem.TLS, detail=f"does not speak TLS: {error.reason or error}")
        except (socket.gaierror, UnicodeError):
            came = Came(problem=Problem.NAME, detail="nothing says what address that name has")
        except OSError as error:
            came = Came(problem=Problem.CONNECT, detail=f"cannot be reached: {failure_of(error)[1]}")
        except (h11.RemoteProtocolError, Unavailable) as error:
            came = Came(problem=Problem.HTTP, detail=f"does not answer in HTTP: {error}")
        return replace(came, seconds=time.monotonic() - began)

    async def _visit(self, visit: Visit) -> Came:
        try:
            parts = urlsplit(visit.url)
            secure = parts.scheme == "https"
            host, port = parts.hostname or "", parts.port or (443 if secure else 80)
        except ValueError as error:
            return Came(problem=Problem.NAME, detail=f"that is no URL: {error}")
        where, at = self._connect_to(host, port)
        local = (self._source, 0) if self._source else None
        # An answer's head and a piece of its body are read at once: never more than the bounds below.
        reader, writer = await asyncio.open_connection(
            where, at, ssl=self._tls if secure else None, server_hostname=host if secure else None, local_addr=local
        )
        try:
            return await _Talk(reader, writer, visit).carry(self._proof(visit, host))
        finally:
            writer.transport.abort()

    def _proof(self, visit: Visit, host: str) -> HttpLogon | None:
        if self._logon is None or visit.method != "POST":
            return None
        proof = self._logon(host)
        return proof if visit.trusted or proof.scheme.casefold() != "basic" else None

    async def _look_up(self, step: LookUp) -> Found:
        began = time.monotonic()
        targets = await asyncio.to_thread(_records, step.name, self._seconds)
        return Found(targets, time.monotonic() - began)


class _Talk:
    """One connection: the request, and again with each token of a logon."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        self._reader, self._writer, self._visit = reader, writer, visit
        self._http = h11.Connection(h11.CLIENT)
        peer = writer.get_extra_info("peername")
        self._peer = str(peer[0]) if peer else ""
        shown = writer.get_extra_info("ssl_object")
        self._names = _names(shown.getpeercert() or {}) if shown is not None else ()

    async def carry(self, proof: HttpLogon | None) -> Came:
        token, tried, answered = b"", False, b""
        for _ in range(MOST_LEGS):
            # A password goes at once, as nobody is asked twice then; a ticket is shown when it is asked for.
            if proof is not None and (tried or proof.scheme.casefold() == "basic"):
                try:
                    token, _ = proof.step(answered)
                except Denied as error:
                    return self._came(Came(401, detail=str(error)), proof)
                tried = True
            came, headers = await self._exchange(proof, token)
            offered = _challenges(headers)
            came = self._came(replace(came, offered=tuple(offered)), proof if tried else None)
            if came.status != 401 or proof is None:
                return came
            if (challenge := offered.get(proof.scheme)) is None or (tried and not challenge):
                return came
            answered, tried = challenge, True
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return came  # it hangs up in the middle of a logon
            self._http.start_next_cycle()
        return came

    def _came(self, came: Came, proof: HttpLogon | None) -> Came:
        scheme = (proof.mechanism or proof.scheme) if proof is not None else ""
        return replace(came, scheme=scheme, address=self._peer, certificate_names=self._names)

    async def _exchange(self, proof: HttpLogon | None, token: bytes) -> tuple[Came, list[tuple[str, str]]]:
        visit = self._visit
        parts = urlsplit(visit.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = [("Host", parts.netloc.rpartition("@")[2]), ("User-Agent", _AGENT.decode()), *visit.headers]
        if visit.body:
            headers.append(("Content-Length", str(len(visit.body))))
        if proof is not None and token:
            headers.append(("Authorization", f"{proof.scheme} {base64.b64encode(token).decode()}"))
        try:
            request = h11.Request(method=visit.method, target=target, headers=headers)
            out = self._http.send(request) or b""
        except h11.LocalProtocolError as error:
            raise Unavailable(f"the URL cannot be asked for ({error})") from None
        if visit.body:
            out += self._http.send(h11.Data(data=visit.body)) or b""
        self._writer.write(out + (self._http.send(h11.EndOfMessage()) or b""))
        await self._writer.drain()
        head, body = await self._answer()
        found = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers]
        location = next((value for name, value in found if name == "location"), "")
        return Came(head.status_code, location.strip(), bytes(body)), found

    async def _answer(self) -> tuple[h11.Response, bytearray]:
        head: h11.Response | None = None
        body = bytearray()
        while True:
            event: Any = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(16 * 1024))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > LONGEST:
                    raise Unavailable(f"an answer of more than {LONGEST} octets")
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return head, body
            elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                raise Unavailable("it hangs up without an answer")


def _challenges(headers: list[tuple[str, str]]) -> dict[str, bytes]:
    """The schemes of a 401 as this client writes them, with the token that follows."""
    found: dict[str, bytes] = {}
    for name, value in headers:
        if name != "www-authenticate":
            continue
        scheme, _, rest = value.strip().partition(" ")
        usual = {"negotiate": "Negotiate", "ntlm": "NTLM", "basic": "Basic"}.get(scheme.casefold(), scheme[:40])
        try:
            token = b"" if usual == "Basic" else base64.b64decode(rest.strip(), validate=True)
        except (binascii.Error, ValueError):
            token = b""
        found.setdefault(usual, token)
    return found


def _names(certificate: Any) -> tuple[str, ...]:
    return tuple(str(value) for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS")


def _records(name: str, seconds: float) -> tuple[tuple[str, int], ...]:
    """SRV records, the best first; none where DNS does not answer or cannot be asked."""
    try:
        import dns.resolver  # noqa: PLC0415 - half a second, and only at the end of a way
        from dns.exception import DNSException  # noqa: PLC0415 - as above
    except ImportError:
        return ()
    try:
        answer = dns.resolver.resolve(f"{name.rstrip('.')}.", "SRV", lifetime=seconds)
    except (DNSException, OSError, ValueError):
        return ()
    best = sorted(answer, key=lambda record: (record.priority, -record.weight))
    return tuple((str(record.target).rstrip("."), int(record.port)) for record in best)
