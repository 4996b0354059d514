"""An RPC connection by way of an RPC proxy: a `Channel` as over TCP, made of two HTTP requests.

    proxy = RpcProxy("mail.lab.example", port=443, tls=context, logon=lambda: Basic("LAB\\alice", password))
    channel = await open_rpc_http(proxy, "cas.lab.example", 6001)
    await channel.bind(EMSMDB)

What fails raises `Unavailable` (no proxy, no server behind it, nonsense) or `Denied` (the logon at the proxy).
"""

import asyncio
import base64
import os
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, cast
from uuid import UUID, uuid4

from casarray.adapters.net.rpc_channel import Channel, no_linger
from casarray.core.errors import Denied, Unavailable, WireError
from casarray.core.rpc_http.client import (
    USUAL_WINDOW,
    Broken,
    Cookies,
    Deliver,
    Event,
    Opened,
    OpenIn,
    OpenOut,
    SendIn,
    SendOut,
    SwitchIn,
    SwitchOut,
    VirtualConnection,
)
from casarray.core.rpc_http.http import (
    A1_BODY,
    A3_BODY,
    IN,
    OUT,
    USUAL_LIFETIME,
    AnswerHead,
    Chunks,
    Target,
    request_head,
    take_answer,
)
from casarray.core.rpc_http.rts import take_raw

MOST_LEGS = 8
#: How often time is looked at. Seconds.
TICK = 5.0
#: What an answer to a leg of a logon may have for a body.
MOST_BODY = 64 * 1024


class HttpLogon(Protocol):
    """Proves who we are to the proxy; one for each HTTP connection."""

    scheme: str  # Basic, NTLM, Negotiate

    def step(self, token: bytes) -> tuple[bytes, bool]:
        """The next token, given the server's (empty at first), and whether the channel's request may carry it already:
        else it goes in a request without a body, which the proxy answers. `Denied` says why there is none."""

    @property
    def mechanism(self) -> str:
        """What is really used: "Basic", "Kerberos", "NTLM"."""


class Basic:
    """Name and password as they are: for TLS only."""

    scheme = "Basic"
    mechanism = "Basic"

    def __init__(self, user: str, password: str) -> None:
        self._token = f"{user}:{password}".encode()

    def step(self, token: bytes) -> tuple[bytes, bool]:
        """All at once."""
        if token or b":" not in self._token:
            raise Denied("the RPC proxy does not take this name and password")
        return self._token, True


@dataclass(frozen=True, slots=True)
class RpcProxy:
    """How an RPC proxy is reached."""

    host: str  # name or address to connect to
    port: int = 443
    tls: ssl.SSLContext | None = None  # None: HTTP without TLS
    name: str = ""  # in the Host header and the certificate; empty: the host
    logon: Callable[[], HttpLogon] | None = field(default=None, repr=False)  # None: nobody asks who we are
    session: UUID | None = None  # the same for all channels of a client; None: none is told
    lifetime: int = USUAL_LIFETIME  # octets of one IN channel
    window: int = USUAL_WINDOW  # octets


class RpcHttpChannel(Channel):
    """A `Channel` over a virtual connection."""

    mechanism: str = ""  # how the proxy was told who we are: "Basic", "Kerberos", "NTLM"; empty: not at all


async def open_rpc_http(
    proxy: RpcProxy, server: str, port: int, source: str | None = None, patience: float = 5.0
) -> RpcHttpChannel:
    """Connect to the RPC server ``server`` and ``port`` (6001, 6002, 6004) behind the proxy, in ``patience`` seconds.

    The names of an array or of a server both do where the proxy knows them.
    """
    channel = RpcHttpChannel(patience)
    virtual = _Virtual(proxy, Target(server, port), channel, source)
    try:
        async with asyncio.timeout(patience):
            await virtual.open()
    except TimeoutError as error:
        virtual.abort()
        raise Unavailable(
            f"the RPC proxy {proxy.host} port {proxy.port} opens no connection to {server}:{port} within {patience} s"
        ) from error
    except BaseException:
        virtual.abort()
        raise
    return channel


class _Virtual(asyncio.Transport):
    """Both HTTP connections, and what the `Channel` writes to."""

    def __init__(self, proxy: RpcProxy, target: Target, channel: RpcHttpChannel, source: str | None) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self.proxy, self.target, self.source = proxy, target, source
        self._channel = channel
        self._connection = VirtualConnection(
            Cookies.new(uuid4), self._loop.time(), draw=uuid4, lifetime=proxy.lifetime, window=proxy.window
        )
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._in: _Http | None = None
        self._out: _Http | None = None
        self._next_in: _Http | None = None
        self._next_out: _Http | None = None
        self._legs: set[_Http] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._unsent = bytearray()
        self._over = False

    async def open(self) -> None:
        """Open both channels and wait until the server is reached."""
        self._out = out = await self._begin(OUT, A1_BODY)
        out.write(self._connection.first_out)
        self._in = into = await self._begin(IN, self.proxy.lifetime)
        into.write(self._connection.first_in)
        await self._opened
        self._channel.connection_made(self)
        self._tick()

    async def _begin(self, method: str, length: int) -> "_Http":
        """An HTTP connection whose request has begun: its head is sent, and the logon done as far as it goes before."""
        proxy = self.proxy
        leg = _Http(self, method)
        self._legs.add(leg)
        try:
            await self._loop.create_connection(
                lambda: leg,
                proxy.host,
                proxy.port,
                ssl=proxy.tls,
                server_hostname=(proxy.name or proxy.host) if proxy.tls else None,
                local_addr=(self.source, 0) if self.source else None,
            )
        except ssl.SSLError as error:
            raise Unavailable(f"the RPC proxy {proxy.host} port {proxy.port}: TLS: {_tls_words(error)}") from error
        except OSError as error:
            what = os.strerror(error.errno) if error.errno else str(error)
            raise Unavailable(f"the RPC proxy {proxy.host} port {proxy.port}: {what}") from error
        extra = [("Pragma", f"SessionId={proxy.session}")] if proxy.session else []
        host = proxy.name or proxy.host
        if proxy.logon is None:
            leg.write(request_head(method, self.target, host, length, extra))
            return leg
        logon, token = proxy.logon(), b""
        for _ in range(MOST_LEGS):
            proof, last = logon.step(token)
            said = f"{logon.scheme} {base64.b64encode(proof).decode('ascii')}"
            leg.write(request_head(method, self.target, host, length if last else 0, [*extra, ("Authorization", said)]))
            if last:
                self._channel.mechanism = logon.mechanism
                return leg
            token = self._challenge(await leg.answer(), logon.scheme)
        raise Denied("the RPC proxy goes on asking for proofs")

    def _challenge(self, head: AnswerHead, scheme: str) -> bytes:
        if head.status != 401:
            raise Unavailable(self._words(head))
        offers = head.headers.all("www-authenticate")
        for offer in offers:
            offered, _, token = offer.strip().partition(" ")
            if offered.casefold() == scheme.casefold() and token.strip():
                with suppress(ValueError):
                    return base64.b64decode(token.strip(), validate=True)
        ways = ", ".join(sorted({offer.partition(" ")[0] for offer in offers})) or "nothing"
        raise Denied(f"the RPC proxy {self.proxy.host} does not go on with {scheme}: it offers {ways}")

    def _words(self, head: AnswerHead) -> str:
        proxy, said = self.proxy.host, f"{head.status} {head.reason}".strip()
        if head.status == 503 and head.reason.casefold().startswith("rpc error"):
            return f"the RPC proxy {proxy} cannot reach {self.target}: {said}"
        return f"{proxy} answers a channel for {self.target} with {said}"

    # --- what the HTTP connections tell ---------------------------------------------------------------------------

    def answered(self, leg: "_Http", head: AnswerHead) -> None:
        """The proxy answers the request of a channel: on an OUT channel, and with 200, the channel begins."""
        if head.status == 200 and leg.method == OUT:
            return
        if head.status == 401:
            ways = ", ".join(o.partition(" ")[0] for o in head.headers.all("www-authenticate")) or "nothing"
            self._end(Denied(f"the RPC proxy {self.proxy.host} does not let us in: it offers {ways}"))
        elif head.status == 403:
            self._end(Denied(self._words(head)))
        else:
            self._end(Unavailable(self._words(head)))

    def received(self, leg: "_Http", data: bytes) -> None:
        """Octets of an OUT channel."""
        if leg is self._out:
            self._perform(self._connection.from_out(data, self._loop.time()))
        else:
            leg.early += data
            if len(leg.early) > 4 * self.proxy.window:
                self._end(Unavailable("the RPC proxy sends on a channel that it has not switched to"))

    def lost(self, leg: "_Http", error: Exception | None) -> None:
        """An HTTP connection has ended."""
        self._legs.discard(leg)
        if leg in (self._in, self._out, self._next_in, self._next_out) or not self._opened.done():
            which = "IN" if leg.method == IN else "OUT"
            self._end(Unavailable(f"the RPC proxy {self.proxy.host} ended the {which} channel"), error)

    # --- what the virtual connection wants ------------------------------------------------------------------------

    def _perform(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case SendIn(data):
                    if self._in is not None:
                        self._in.write(data)
                case Deliver(pdu):
                    self._channel.data_received(pdu)
                case Opened():
                    if not self._opened.done():
                        self._opened.set_result(None)
                case OpenIn(data):
                    self._start(self._open_in(data))
                case OpenOut(data):
                    self._start(self._open_out(data))
                case SendOut(data):
                    if self._next_out is not None:
                        self._next_out.write(data)
                case SwitchIn() | SwitchOut():
                    self._switch(event)
                case Broken(error):
                    self._end(Unavailable(f"the RPC proxy {self.proxy.host}: {error}"))

    def _start(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._end(error if isinstance(error, Unavailable | Denied) else Unavailable(str(error)))

    async def _open_in(self, data: bytes) -> None:
        self._next_in = await self._begin(IN, self.proxy.lifetime)
        self._next_in.write(data)

    async def _open_out(self, data: bytes) -> None:
        self._next_out = await self._begin(OUT, A3_BODY)
        self._next_out.write(data)

    def _switch(self, event: SwitchIn | SwitchOut) -> None:
        if isinstance(event, SwitchIn):
            before, self._in, self._next_in = self._in, self._next_in, None
            self._leave(before)
        else:
            before, self._out, self._next_out = self._out, self._next_out, None
            self._leave(before)
            self._catch_up()

    def _catch_up(self) -> None:
        if self._out is not None and self._out.early:
            early, self._out.early = bytes(self._out.early), bytearray()
            self._perform(self._connection.from_out(early, self._loop.time()))

    def _leave(self, leg: "_Http | None") -> None:
        if leg is not None:
            self._legs.discard(leg)
            leg.end()

    def _tick(self) -> None:
        if not self._over:
            self._perform(self._connection.tick(self._loop.time()))
            self._timer = self._loop.call_later(TICK, self._tick)

    def _end(self, why: Exception, cause: Exception | None = None) -> None:
        if self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        for leg in tuple(self._legs):
            leg.abort(why)
        self._legs.clear()
        if not self._opened.done():
            self._opened.set_exception(why)
            self._opened.exception()  # whoever waits for it gets it; that nobody does is no fault
        elif self._channel.lost_at is None:
            self._channel.connection_lost(cause)

    # --- asyncio.Transport: what the Channel does with it ---------------------------------------------------------

    def write(self, data: "bytes | bytearray | memoryview[int]") -> None:
        """Send octets of RPC, which are whole PDUs."""
        self._unsent += data
        while not self._over and (pdu := take_raw(self._unsent)) is not None:
            self._perform(self._connection.send(pdu, self._loop.time()))

    def is_closing(self) -> bool:
        """Whether it has ended."""
        return self._over

    def close(self) -> None:
        """End it; what is written is sent."""
        ending, self._legs = self._legs, set()  # they are not aborted
        for leg in ending:
            leg.end()
        self._end(Unavailable("the connection was closed"))

    def abort(self) -> None:
        """End it at once."""
        self._end(Unavailable("the connection was closed"))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Of the IN channel's connection."""
        transport = self._in.transport if self._in is not None else None
        return default if transport is None else transport.get_extra_info(name, default)


class _Http(asyncio.Protocol):
    """One HTTP connection: requests out, answers in, and then the octets of an OUT channel."""

    def __init__(self, virtual: _Virtual, method: str) -> None:
        self.method = method
        self.transport: asyncio.Transport | None = None
        self.early = bytearray()  # what came on a successor before it was switched to
        self._virtual = virtual
        self._unread = bytearray()
        self._head: AnswerHead | None = None  # of the channel
        self._skip = 0  # octets of a body that are nobody's
        self._chunks: Chunks | None = None
        self._waiting: asyncio.Future[AnswerHead] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def write(self, data: bytes) -> None:
        """Send."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    async def answer(self) -> AnswerHead:
        """The answer to a leg of a logon."""
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            return await self._waiting
        finally:
            self._waiting = None

    def data_received(self, data: bytes) -> None:
        try:
            if self._head is None:
                self._unread += data
                data = self._read_heads()
            if self._head is not None and data:
                body = data if self._chunks is None else self._chunks.take(data)
                self._virtual.received(self, body)
        except WireError as error:
            self.connection_lost(error)
            self.abort(Unavailable(f"what answers is no RPC proxy: {error}"))

    def _read_heads(self) -> bytes:
        """Take heads off what came; what then is a channel's."""
        while self._head is None:
            skipped = min(self._skip, len(self._unread))
            del self._unread[:skipped]
            self._skip -= skipped
            if self._skip or (head := take_answer(self._unread)) is None:
                return b""
            if head.status < 200:
                continue
            if self._waiting is not None and not self._waiting.done():
                self._skip = head.headers.length or 0
                if self._skip > MOST_BODY:
                    raise WireError("oversize", f"an answer of {self._skip} octets to a leg of a logon")
                self._waiting.set_result(head)
                continue
            self._head = head
            self._chunks = Chunks() if head.chunked else None
            self._virtual.answered(self, head)
        rest = bytes(self._unread)
        self._unread.clear()
        return rest if self._head.status == 200 and self.method == OUT else b""

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Unavailable("the RPC proxy ended the connection in the middle of the logon"))
        self._virtual.lost(self, exc)

    def end(self) -> None:
        """Close it in peace."""
        if self.transport is not None:
            self.transport.close()

    def abort(self, why: Exception) -> None:
        """End it at once."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(why)
        if self.transport is not None:
            no_linger(self.transport)
            self.transport.abort()


def _tls_words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    return (error.reason or "no TLS").replace("_", " ").lower()
