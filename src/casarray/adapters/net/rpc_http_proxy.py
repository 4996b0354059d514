"""An RPC proxy on real sockets: HTTP channels of clients on one side, RPC over TCP to servers on the other.

Nothing here decides what a PDU means (`core.rpc_http.proxy`) or which server a client gets (whoever gives `Finder`).
Nothing is buffered that a window does not bound: octets go on as they come. Clients are strangers: the number of their
connections is bounded, and so is the time until each has said what it wants.
"""

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from types import MappingProxyType
from typing import Protocol, cast
from uuid import UUID

from casarray.adapters.net.mapper import BACKLOG, GRACE, affordable_relays, listening_socket
from casarray.adapters.net.rpc_http_link import Finder, Link, Words
from casarray.core.errors import CasarrayError, Denied, OutOfTurn, WireError
from casarray.core.forwarding.table import Address
from casarray.core.rpc_http.http import (
    A1_BODY,
    A3_BODY,
    ACCESS_DENIED,
    CONTINUE,
    ECHO_ANSWER_BODY,
    IN,
    OUT,
    PATHS,
    PROTOCOL_ERROR,
    SMALLEST_CHANNEL,
    RequestHead,
    Target,
    challenge,
    refusal,
    rpc_error,
    success,
    take_request,
)
from casarray.core.rpc_http.messages import ConnA1, ConnB1, Echo, InR1A1, OutR2A3
from casarray.core.rpc_http.proxy import Settings
from casarray.core.rpc_http.rts import decode_rts, take_raw


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a proof comes to. Without a user, ``offers`` are what the client is told: ``Negotiate TOKEN``."""

    user: str = ""
    offers: tuple[str, ...] = ()


class Gatekeeping(Protocol):
    """Asks one HTTP connection's client who it is."""

    def judge(self, credentials: tuple[str, bytes] | None) -> Verdict:
        """By scheme (in small letters) and token, or None: it has not said."""


class Admission(Protocol):
    """Opens the gate of each connection."""

    def __call__(self) -> Gatekeeping:
        """For one HTTP connection."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and connections."""

    head: float = 10.0  # until a request and the first PDU on it are there
    idle: float = 60.0  # between two short requests on one connection
    connect: float = 5.0  # to find a server and connect to it
    per_client: int = 512  # HTTP connections of one address; a client behind NAT is many
    total: int = 8192
    requests: int = 64  # short ones, on one connection


class RpcHttpProxy:
    """Listens on one address and port. When `start` raises (`Conflict`, `Denied`, `Unavailable`), nothing listens."""

    def __init__(
        self,
        finder: Finder,
        *,
        settings: Settings = Settings(),  # noqa: B008 - a frozen value
        limits: Limits = Limits(),
        tls: ssl.SSLContext | None = None,
        admission: Admission | None = None,
    ) -> None:
        """``tls``: without it, HTTP as it is. ``admission``: without it everybody is let in, as far as HTTP goes."""
        self.finder = finder
        self.settings = settings
        self.limits = limits
        self.admission = admission
        self.connect_seconds = limits.connect
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._connections: set[_HttpConnection] = set()
        self._of_client: Counter[Address] = Counter()
        self.links: dict[UUID, Link] = {}
        self._counts: Counter[str] = Counter()
        self._sweeper: asyncio.TimerHandle | None = None
        self._total = limits.total
        self._empty = asyncio.Event()
        self._empty.set()
        self._numbers = 0

    async def start(self, address: Address, port: int) -> int:
        """Listen; the port."""
        self._total = min(self.limits.total, affordable_relays())
        sock = listening_socket(address, port)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            partial(_HttpConnection, self),
            sock=sock,
            backlog=BACKLOG,
            ssl=self._tls,
            ssl_handshake_timeout=self.limits.head if self._tls else None,
        )
        self._sweep()
        return int(sock.getsockname()[1])

    async def close(self) -> None:
        """Listen no more, end everything. Twice is once."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for link in list(self.links.values()):
            link.close("", "")
        for connection in list(self._connections):
            connection.abort()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), GRACE)  # transports say goodbye, those with TLS not at once
        await asyncio.sleep(0)

    @property
    def connections(self) -> int:
        """Virtual connections there are now."""
        return len(self.links)

    def counters(self) -> Mapping[str, int]:
        """Event -> how often since the start."""
        return MappingProxyType(dict(self._counts))

    def count(self, event: str) -> None:
        """Something happened."""
        self._counts[event] += 1

    def number(self) -> int:
        """A number for one more channel."""
        self._numbers += 1
        return self._numbers

    def admit(self, connection: "_HttpConnection", client: Address) -> bool:
        """Whether one more HTTP connection may be."""
        self.count("http_connections")
        if len(self._connections) >= self._total or self._of_client[client] >= self.limits.per_client:
            self.count("refused:limit")
            return False
        self._connections.add(connection)
        self._empty.clear()
        self._of_client[client] += 1
        return True

    def left(self, connection: "_HttpConnection", client: Address) -> None:
        """It is no more."""
        if connection in self._connections:
            self._connections.discard(connection)
            if not self._connections:
                self._empty.set()
            self._of_client[client] -= 1
            if not self._of_client[client]:
                del self._of_client[client]

    def join(self, connection: "_HttpConnection", words: "Words") -> Link | None:
        """The virtual connection of a channel that began with these words; None refuses it.

        Only those join that mean the same server and have proven to be the same user: a cookie alone is not enough.
        """
        link = self.links.get(words.connection)
        if link is None:
            if not isinstance(words, ConnA1 | ConnB1):
                return None
            link = self.links[words.connection] = Link(self, words.connection, connection)
        if (link.user, link.target) != (connection.user, connection.target):
            return None
        return link

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for link in list(self.links.values()):
            link.look(now)
        for connection in list(self._connections):
            if connection.overdue(now):
                self.count("timeout:head")
                connection.abort()
        self._sweeper = loop.call_later(min(1.0, max(0.02, self.limits.head / 8)), self._sweep)


class _HttpConnection(asyncio.Protocol):
    """One connection of a client: short requests, then perhaps a channel."""

    def __init__(self, owner: RpcHttpProxy) -> None:
        self.user = ""
        self.target: Target | None = None
        self.number = 0  # of the channel, once it is one
        self.client: Address | None = None
        self.begun = False  # the answer of an OUT channel
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._gate = owner.admission() if owner.admission else None
        self._unread = bytearray()
        self._head: RequestHead | None = None
        self._link: Link | None = None
        self._left = 0  # octets of the request's body
        self._requests = 0
        self._since = asyncio.get_running_loop().time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        peer = transport.get_extra_info("peername")
        client = ip_address(str(peer[0]).partition("%")[0]) if peer else None
        if client is None or not self._owner.admit(self, client):
            self._transport.abort()
            return
        self.client = client

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        if self.client is not None:
            self._owner.left(self, self.client)
        link, self._link = self._link, None
        if link is not None:
            link.lost(self)

    def data_received(self, data: bytes) -> None:
        if self.client is None or self._transport is None or self._transport.is_closing():
            return
        self._unread += data
        try:
            while self._step():
                pass
        except WireError as wrong:
            self._owner.count(f"wire_error:{wrong.kind}")
            self._wrong(wrong)
        except OutOfTurn:
            self._owner.count("out_of_turn")
            self.abort()

    def _wrong(self, wrong: WireError) -> None:
        if self._link is not None:
            self._link.close(wrong.kind, str(wrong))
        elif self._head is None:
            self.finish(refusal(400, "Bad Request"))
        else:
            self.finish(rpc_error(PROTOCOL_ERROR))

    def _step(self) -> bool:
        """Take one thing off what came; whether there was one."""
        if self._transport is None or self._transport.is_closing():
            return False
        if self._head is None:
            head = take_request(self._unread)
            if head is None:
                return False
            self._request(head)
            return True
        if not self._head.is_channel:
            return self._short(self._head)
        if self._left < len(self._unread):
            raise WireError("http", "more than the request's Content-Length")
        raw = take_raw(self._unread)
        if raw is None:
            return False
        self._left -= len(raw)
        self._pdu(raw)
        return True

    # --- requests ------------------------------------------------------------------------------------------------

    def _request(self, head: RequestHead) -> None:
        """What a request's head asks for."""
        self._requests += 1
        self._owner.count(f"request:{head.method if head.method in (IN, OUT) else 'other'}")
        if head.method not in (IN, OUT):
            self.finish(refusal(405, "Method Not Allowed"))
        elif head.path.casefold() not in PATHS:
            self.finish(refusal(404, "Not Found"))
        elif self._requests > self._owner.limits.requests:
            self.finish(refusal(400, "Too Many Requests"))
        elif self._asked(head):
            self._head, self._left = head, head.length
            if head.is_channel and not self._takes(head):
                return
            if head.minor == 1 and "100-continue" in head.headers.first("expect").casefold():
                self._write(CONTINUE)

    def _asked(self, head: RequestHead) -> bool:
        """Whether the client may go on, having said who it is; if not, it is told what to do."""
        if self._gate is None or self.user:
            return True
        try:
            verdict = self._gate.judge(head.credentials)
        except Denied:
            self._gate = self._owner.admission() if self._owner.admission else self._gate
            verdict = self._gate.judge(None)  # it may begin again
            self._owner.count("denied:logon")
        self.user = verdict.user
        if verdict.user:
            return True
        self._owner.count("challenged")
        # A body that is on its way cannot be stepped over: a channel's is a gigabyte.
        if head.is_channel or head.length:
            self.finish(challenge(verdict.offers, close=True))
        else:
            self._write(challenge(verdict.offers))
            self._since = asyncio.get_running_loop().time()
        return False

    def _takes(self, head: RequestHead) -> bool:
        """Whether a channel may be what this head says; if not, the client is told why."""
        self.target = head.target
        right = head.length >= SMALLEST_CHANNEL if head.method == IN else head.length in (A1_BODY, A3_BODY)
        if self.target is None or not right:
            self._owner.count("refused:request")
            self.finish(rpc_error(PROTOCOL_ERROR))
            return False
        try:
            self._owner.finder.check(self.target)
        except CasarrayError:
            self._owner.count("refused:target")
            self.finish(rpc_error(ACCESS_DENIED))
            return False
        return True

    def _short(self, head: RequestHead) -> bool:
        """An echo: the rest of it, and its answer. [MS-RPCH] 3.2.3.5.2"""
        if len(self._unread) < head.length:
            return False
        del self._unread[: head.length]
        self._head = None
        self._since = asyncio.get_running_loop().time()
        self._write(success(ECHO_ANSWER_BODY) + Echo().encode())
        return True

    # --- channels ------------------------------------------------------------------------------------------------

    def _pdu(self, raw: bytes) -> None:
        now = asyncio.get_running_loop().time()
        if self._link is not None:
            self._link.from_client(self, raw, now)
            return
        words = self._words(raw)
        link = self._owner.join(self, words)
        if link is None:
            self._owner.count("refused:cookie")
            self.finish(rpc_error(ACCESS_DENIED))
            return
        self.number = self._owner.number()
        self._link = link
        link.begin(self, words, now)

    def _words(self, raw: bytes) -> Words:
        rts = decode_rts(raw)
        first: Sequence[type[Words]] = (InR1A1, ConnB1) if self.is_in else (OutR2A3, ConnA1)
        return next((kind for kind in first if kind.matches(rts)), first[-1]).read(rts)

    @property
    def is_in(self) -> bool:
        """Whether this is an IN channel."""
        return self._head is not None and self._head.method == IN

    def answer(self, lifetime: int) -> None:
        """Begin the answer of an OUT channel."""
        self.begun = True
        self._write(success(lifetime))

    def send(self, data: bytes) -> None:
        """Write on an OUT channel."""
        self._write(data)

    def forget(self) -> None:
        """It belongs to no virtual connection any more."""
        self._link = None

    def overdue(self, now: float) -> bool:
        """Whether the client leaves us to wait too long."""
        if self._link is not None:
            return False
        limits = self._owner.limits
        return now - self._since > (limits.idle if self._requests and self._head is None else limits.head)

    def finish(self, last_words: bytes = b"") -> None:
        """Say this, and end it when it has been taken; who takes nothing is cut off a while later."""
        self._since = asyncio.get_running_loop().time()
        if last_words:
            self._write(last_words)
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
