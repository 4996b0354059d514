"""Performs health conversations over real sockets.

Hundreds of services are probed every second, so this is written on non-blocking sockets and readiness callbacks: no
task, stream or transport for each connection. One `_Exchange` carries one `Talk` to its answer, and
closes its socket on every way out, unless the connection goes on as a tripwire.
"""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Protocol

from casarray.adapters.net.consulting import Consultations
from casarray.adapters.net.readiness import BROKEN, READ, WRITE, Readiness
from casarray.core.config import ProbeKind
from casarray.core.forwarding.table import Address
from casarray.core.health.conversation import Answer, Ask, Dial, Encrypt, Failure, Step, Steps, Talk
from casarray.core.health.probes import Target, conversation
from casarray.core.health.rpc import inquiry, settled

CHUNK = 16 * 1024
#: A timer that rings so late shows that this process was not looking: the server gets that time back.
LATE_SECONDS = 0.02
#: What an idle connection may say before we stop listening to it.
TRIPWIRE_CHATTER = 64 * 1024
IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h: the port is chosen at connect, so that one source port serves many servers

OURS = frozenset({
    errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EADDRINUSE, errno.EAFNOSUPPORT,
})  # fmt: skip
RESET = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED})


def failure_of(error: OSError) -> tuple[Failure, str]:
    """What an error of a socket says about the server, if anything."""
    detail = error.strerror or str(error)
    if error.errno == errno.ECONNREFUSED:
        return Failure.REFUSED, detail
    if error.errno in RESET:
        return Failure.RESET, detail
    if error.errno == errno.ETIMEDOUT:
        return Failure.TIMEOUT, detail
    return (Failure.OURS if error.errno in OURS else Failure.UNREACHABLE), detail


def probing_context() -> ssl.SSLContext:
    """TLS as a probe wants it: whoever answers is welcome, old servers too; nothing secret is ever sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


class Door(Protocol):
    """Brings the tickets that the probe `kerberos` shows."""

    async def steps(self, target: Target, seconds: float) -> Steps | Answer:
        """The conversation for this target, or why there is none."""

    def close(self) -> None:
        """Let go of them. Twice is once."""


class DialProber:
    """`casarray.app.ports.Prober` over real sockets, on the running loop."""

    def __init__(
        self,
        sources: Mapping[int, Address] | None = None,
        context: ssl.SSLContext | None = None,
        open_door: Callable[[], Door | None] = lambda: None,
    ) -> None:
        """``sources``: the address to probe from, by IP version; else the host's routing decides.

        ``open_door``: called once, when the first probe `kerberos` is made.
        """
        self._open_door = open_door
        self._door: Door | None = None
        self._opened = False
        self._sources = {version: str(address) for version, address in (sources or {}).items()}
        self._context = context
        self._tripwires: set[_Tripwire] = set()
        self._readiness: Readiness | None = None
        self._consultations = Consultations(lambda talk, address, deadline: _Exchange(self, talk, address, deadline))

    async def probe(
        self, target: Target, seconds: float, trip: Callable[[], None] | None = None
    ) -> tuple[Answer, "_Tripwire | None"]:
        """On each of its addresses in turn, within so many seconds in all. See the port."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        answer, kept = Answer(False, f"{target.server} has no address", ours=True), None
        for at, address in enumerate(target.addresses):
            name = target.server if len(target.addresses) == 1 else f"{target.server} ({address})"
            keep = trip is not None and at == len(target.addresses) - 1
            steps = await self._steps(target, name, address, deadline, keep=keep)
            if isinstance(steps, Answer):
                return steps, None
            keep = keep and target.service.probe is not ProbeKind.KERBEROS
            exchange = _Exchange(self, Talk(name, steps), address, deadline)
            try:
                answer = await exchange.answer
                kept = exchange.take_socket() if keep and answer.up else None
            finally:
                exchange.close()
            if not answer.up:
                break
        if kept is None or trip is None:
            return answer, None
        return answer, _Tripwire(loop, kept, trip, self._tripwires)

    async def _steps(
        self, target: Target, name: str, address: Address, deadline: float, *, keep: bool
    ) -> Steps | Answer:
        """The conversation for this target at this address; or what came of what had to go before."""
        service = target.service
        if service.probe is ProbeKind.KERBEROS:
            return await self._with_ticket(target, deadline - asyncio.get_running_loop().time())
        # A tripwire at an endpoint mapper is the connection that it was asked on, so that one is not shared.
        shared = service.probe is ProbeKind.RPC and not (keep and service.mapper)
        if not shared or (asked := inquiry(service, target.mapper_port)) is None:
            return conversation(target, keep=keep)
        said = await self._consultations.ask(name, address, asked, deadline)
        return said if isinstance(said, Answer) else settled(service, asked, said)

    async def _with_ticket(self, target: Target, seconds: float) -> Steps | Answer:
        if not self._opened:
            self._opened, self._door = True, self._open_door()
        return conversation(target) if self._door is None else await self._door.steps(target, seconds)

    def close(self) -> None:
        """Cut the tripwires that are still held, and let go of the tickets and of what else is open."""
        for tripwire in tuple(self._tripwires):
            tripwire.cut()
        if self._readiness is not None:
            self._readiness.close()
            self._readiness = None
        if self._door is not None:
            self._door.close()

    def source(self, version: int) -> str | None:
        """The address to probe from, for this IP version."""
        return self._sources.get(version)

    @property
    def readiness(self) -> Readiness:
        """Of the sockets on the running loop."""
        if self._readiness is None:
            self._readiness = Readiness(asyncio.get_running_loop())
        return self._readiness

    @property
    def context(self) -> ssl.SSLContext:
        """TLS for the probes, made when the first one needs it."""
        if self._context is None:
            self._context = probing_context()
        return self._context


class _Exchange:
    """One talk under way with one address. ``answer`` is a future of how it ends."""

    __slots__ = (
        "_address", "_deadline", "_extended", "_loop", "_out", "_prober", "_socket", "_step", "_talk", "_timer", "_tls",
        "_waiting", "answer",
    )  # fmt: skip

    def __init__(self, prober: DialProber, talk: Talk, address: Address, deadline: float) -> None:
        self._prober, self._talk, self._address, self._deadline = prober, talk, address, deadline
        self._loop = loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._extended = False
        self._waiting = 0  # what for, as `Readiness` knows it
        self._out = b""
        self._tls: _Tls | None = None
        self._step: Step | Answer
        self.answer: asyncio.Future[Answer] = loop.create_future()
        self._timer = loop.call_at(deadline, self._time_over)
        self._perform(talk.begin())

    def take_socket(self) -> socket.socket | None:
        """The connection the talk ended on; it is the caller's from now on."""
        taken, self._socket = self._socket, None
        return taken

    def close(self) -> None:
        """Let go of everything. Twice is once."""
        self._timer.cancel()
        self._hang_up()

    # --- steps ---------------------------------------------------------------------------------------------------

    def _perform(self, step: Step | Answer) -> None:
        """Perform steps until one has to wait, or there is an answer."""
        while not isinstance(step, Answer):
            self._step = step
            try:
                if isinstance(step, Dial):
                    self._dial(step.port)
                    return
                if isinstance(step, Ask):
                    if step.data:
                        self._send(step.data)
                    if not (unread := self._tls.decrypt(b"")[0] if self._tls else b""):
                        self._arm()
                        return
                    step = self._talk.go_on(unread)  # came along with the end of the handshake
                    continue
                if isinstance(step, Encrypt):
                    self._tls = _Tls(self._prober.context, step.host)
                    self._handshake(b"")
                    return
                self._send(step.data)
                step = self._talk.go_on(b"")
            except OSError as error:
                step = self._failed(error)
        self._timer.cancel()
        self._wait(0)
        if not self.answer.done():
            self.answer.set_result(step)

    def _failed(self, error: OSError) -> Answer:
        if isinstance(error, ssl.SSLError):
            return self._talk.fail(Failure.TLS, error.reason or "not TLS")
        return self._talk.fail(*failure_of(error))

    def _time_over(self) -> None:
        late = self._loop.time() - self._deadline
        if late > LATE_SECONDS and not self._extended:
            self._extended = True
            self._deadline += 2 * late
            self._timer = self._loop.call_at(self._deadline, self._time_over)
            return
        self._perform(self._talk.fail(Failure.TIMEOUT))

    # --- the socket ----------------------------------------------------------------------------------------------

    def _dial(self, port: int) -> None:
        self._hang_up()
        family = socket.AF_INET if self._address.version == 4 else socket.AF_INET6
        try:
            sock = self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            if (source := self._prober.source(self._address.version)) is not None:
                sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind((source, 0))
        except OSError as error:
            self._perform(self._talk.fail(Failure.OURS, error.strerror or str(error)))
            return
        code = sock.connect_ex((str(self._address), port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        self._wait(WRITE)

    def _hang_up(self) -> None:
        if (sock := self._socket) is not None:
            self._wait(0)
            sock.close()
        self._socket, self._tls, self._out = None, None, b""

    def _wait(self, what: int) -> None:
        """Wait for this from now on; 0 for nothing."""
        before, self._waiting = self._waiting, what
        if what == before:
            return
        assert self._socket is not None
        descriptor, readiness = self._socket.fileno(), self._prober.readiness
        if not before:
            readiness.watch(descriptor, what, self._ready)
        elif what:
            readiness.change(descriptor, what)
        else:
            readiness.forget(descriptor)

    def _arm(self) -> None:
        self._wait(READ | WRITE if self._out else READ)

    def _ready(self, what: int) -> None:
        """One of the two; if both, it is called again."""
        if self._waiting & WRITE and what & (WRITE | BROKEN):
            self._writable()
        else:
            self._readable()

    def _writable(self) -> None:
        sock = self._socket
        assert sock is not None
        try:
            if isinstance(self._step, Dial):
                if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(code, os.strerror(code))
                if self._address.is_loopback and sock.getsockname()[:2] == (str(self._address), self._step.port):
                    # Nobody listens, and the kernel chose the very port we dial as our own: TCP then meets itself.
                    raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
                step = self._talk.go_on(b"")
            else:
                self._flush(b"")
                self._arm()
                return
        except OSError as error:
            step = self._failed(error)
        self._perform(step)

    def _send(self, data: bytes) -> None:
        if self._tls is not None:
            data = self._tls.encrypt(data)
        self._flush(data)

    def _flush(self, data: bytes) -> None:
        assert self._socket is not None
        self._out += data
        try:
            self._out = self._out[self._socket.send(self._out) :] if self._out else b""
        except BlockingIOError:
            return

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(CHUNK)
            if self._tls is not None:
                self._from_tls(self._tls, data)
                return
        except BlockingIOError:
            return
        except OSError as error:
            self._perform(self._failed(error))
            return
        self._heard(data)

    def _heard(self, data: bytes) -> None:
        self._perform(self._talk.go_on(data) if data else self._talk.fail(Failure.CLOSED))

    # --- TLS -----------------------------------------------------------------------------------------------------

    def _from_tls(self, tls: "_Tls", data: bytes) -> None:
        if isinstance(self._step, Encrypt):
            if not data:
                self._perform(self._talk.fail(Failure.CLOSED))
            else:
                self._handshake(data)
            return
        plain, ended = tls.decrypt(data)
        self._flush(tls.pending())
        if plain or ended or not data:
            self._heard(plain)

    def _handshake(self, data: bytes) -> None:
        """Go on with the handshake. Raises SSLError when it fails."""
        assert self._tls is not None
        certificate = self._tls.handshake(data)
        self._flush(self._tls.pending())
        if certificate is None:
            self._arm()
        else:
            self._perform(self._talk.go_on(certificate))


class _Tls:
    """TLS in memory: what comes from the wire in, what goes to it out."""

    __slots__ = ("_incoming", "_object", "_outgoing")

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host or None)
        except ValueError:  # no name that TLS could carry: ask without one
            self._object = context.wrap_bio(self._incoming, self._outgoing)

    def handshake(self, data: bytes) -> bytes | None:
        """The server's certificate once the handshake is over, else None."""
        self._incoming.write(data)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return None
        return self._object.getpeercert(binary_form=True) or b""

    def encrypt(self, data: bytes) -> bytes:
        self._object.write(data)
        return self.pending()

    def decrypt(self, data: bytes) -> tuple[bytes, bool]:
        """What became readable, and whether the server ended the session."""
        if data:
            self._incoming.write(data)
        plain = bytearray()
        while True:
            try:
                part = self._object.read(CHUNK)
            except ssl.SSLWantReadError:
                return bytes(plain), False
            except ssl.SSLZeroReturnError:
                return bytes(plain), True
            if not part:
                return bytes(plain), True
            plain += part

    def pending(self) -> bytes:
        return self._outgoing.read()


class _Tripwire:
    """An idle connection; calls back once when it breaks."""

    __slots__ = ("_heard", "_held", "_loop", "_socket", "_trip")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, trip: Callable[[], None], held: "set[_Tripwire]"
    ) -> None:
        self._loop, self._socket, self._trip, self._held = loop, sock, trip, held
        self._heard = 0
        # So that a server that vanished without a word (its power was cut) does not leave us holding half a connection.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        held.add(self)
        loop.add_reader(sock.fileno(), self._readable)

    def cut(self) -> None:
        """See the port."""
        if self in self._held:
            self._held.discard(self)
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _readable(self) -> None:
        try:
            data = self._socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._heard += len(data)
        if not data or self._heard > TRIPWIRE_CHATTER:
            self.cut()
            self._trip()
