r"""Logs in by Kerberos under an array's name, again and again: by HTTP, IMAP and RPC, as several users from several
addresses.

    python -m casarray.lab.logins --vip 10.11.0.100 --name cas.lab.example --count 1000 \
        --user alice=/tmp/alice.ccache --user bob=/tmp/bob.ccache --source 10.32.0.1 --source 10.32.0.2

Each login is a connection of its own: ``http`` gets /ews/ by Negotiate, ``imap`` logs in by GSSAPI, ``rpc`` binds to
the mailbox's port with Kerberos (packet privacy) and makes one call. Both sides prove who they are; who falls back to
anything else than Kerberos has failed. Tickets are those in the caches; with ``--fresh`` each login gets one of its own
from the KDC, and with ``--fresh-share 0.2`` every fifth. It ends by itself after ``--count`` logins or ``--seconds``,
on SIGTERM at once, and prints what came of it as JSON: how many succeeded by service and by member, and why others
failed. Exit code 0 if none failed.
"""

import argparse
import base64
import http.client
import imaplib
import itertools
import json
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import gssapi
import krb5
from gssapi.exceptions import GSSError

from casarray.adapters.kerberos.rpc_security import initiate
from casarray.core.dcerpc.association import Bound, Reply, RpcClient
from casarray.core.dcerpc.auth import AuthLevel, AuthType, ClientAuth
from casarray.core.dcerpc.interfaces import emsmdb
from casarray.core.errors import CasarrayError, Unavailable
from casarray.lab.load import NO_LINGER

TIMEOUT = 10.0  # of one login, seconds
TELL_SECONDS = 0.2
MOST_REASONS = 50
KRB5 = gssapi.OID.from_int_seq("1.2.840.113554.1.2.2")
_caches = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to log in to."""

    vip: str
    name: str  # the array's: what tickets are for
    rpc_port: int = 5001
    http_port: int = 80
    imap_port: int = 143


@dataclass(frozen=True, slots=True)
class Client:
    """Who logs in, and from where."""

    user: str
    ccache: str  # as KRB5CCNAME has it
    source: str = ""


@dataclass(slots=True)
class Tally:
    """What came of the logins so far."""

    succeeded: Counter[str] = field(default_factory=Counter)  # by service
    failed: Counter[str] = field(default_factory=Counter)
    members: dict[str, Counter[str]] = field(default_factory=dict)  # successes by member, by service
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def total(self) -> int:
        """All logins."""
        return self.succeeded.total() + self.failed.total()

    def json(self) -> str:
        """All of it on one line."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})

    def success(self, service: str, member: str) -> None:
        """One more that this member answered."""
        self.succeeded[service] += 1
        self.members.setdefault(member, Counter())[service] += 1

    def failure(self, service: str, reason: str) -> None:
        """One more that came to nothing."""
        self.failed[service] += 1
        text = f"{service}: {reason}"
        self.reasons[text if text in self.reasons or len(self.reasons) < MOST_REASONS else f"{service}: other"] += 1


class _Imap(imaplib.IMAP4):
    """imaplib's client, from an address of our choice."""

    def __init__(self, target: Target, client: Client) -> None:
        self._from = (client.source, 0) if client.source else None
        super().__init__(target.vip, target.imap_port, TIMEOUT)

    def _create_socket(self, timeout: float | None) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout, self._from)


def http_login(target: Target, client: Client, ccache: str) -> str:
    """GET /ews/ by Negotiate; the member that named us."""
    context = _context(f"HTTP/{target.name}", ccache)  # in capital letters, as all clients ask; a realm of MIT minds
    token = base64.b64encode(context.step() or b"").decode()
    source = (client.source, 0) if client.source else None
    connection = http.client.HTTPConnection(target.vip, target.http_port, TIMEOUT, source)
    try:
        connection.request("GET", "/ews/", headers={"Host": target.name, "Authorization": f"Negotiate {token}"})
        answer = connection.getresponse()
        body = answer.read(4096).decode(errors="replace")
        if answer.status != 200:
            raise Unavailable(f"HTTP {answer.status}")
        scheme, _, proof = (answer.getheader("WWW-Authenticate") or "").partition(" ")
        if scheme != "Negotiate":
            raise Unavailable("the server does not prove who it is")
        context.step(base64.b64decode(proof))
    finally:
        connection.close()
    member, _, rest = body.partition(" ")
    if not context.complete or not rest.casefold().startswith(f"{client.user}@".casefold()):
        raise Unavailable(f"the server took {client.user} for {rest.partition(' ')[0] or 'nobody'}")
    return member


def imap_login(target: Target, client: Client, ccache: str) -> str:
    """AUTHENTICATE GSSAPI; the member that greets. [RFC 4752]."""
    context = _context(f"imap/{target.name}", ccache)

    def answer(challenge: bytes) -> bytes:
        if not context.complete:
            return context.step(challenge or None) or b""
        context.unwrap(challenge)  # which layers the server offers; we want none, and nobody else's name
        return bytes(context.wrap(b"\x01\0\0\0", False).message)

    try:
        connection = _Imap(target, client)
    except imaplib.IMAP4.error as error:
        raise Unavailable(f"no IMAP greeting: {error}") from None
    try:
        member = connection.welcome.decode(errors="replace").removeprefix("* OK ").rpartition("]")[2].split()
        connection.authenticate("GSSAPI", answer)
    except imaplib.IMAP4.error as error:
        raise Unavailable(str(error)) from None
    finally:
        connection.shutdown()
    return member[0] if member else ""


def rpc_login(target: Target, client: Client, ccache: str) -> str:
    """Bind to the mailbox's port with Kerberos, sealed, and open a session; the member that answers."""
    security = initiate(f"exchangeMDB/{target.name}", ccache)
    auth, rpc = ClientAuth(security, AuthType.SPNEGO, AuthLevel.PRIVACY), RpcClient()
    source = (client.source, 0) if client.source else None
    with socket.create_connection((target.vip, target.rpc_port), TIMEOUT, source) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        sock.sendall(rpc.bind(emsmdb.EMSMDB, auth=auth.begin(), header_signing=True))
        while isinstance(bound := _event(sock, rpc), Bound):
            if (leg := auth.answered(bound.auth, bound.header_signing)) is None:
                break
            sock.sendall(rpc.alter(emsmdb.EMSMDB, auth=leg))
        else:
            raise Unavailable(f"the bind was refused: {bound}")
        rpc.protection = auth.protection
        question = emsmdb.EcDoConnectEx(f"/o=Lab/cn={client.user}")
        sock.sendall(rpc.call(emsmdb.EMSMDB, emsmdb.Opnum.CONNECT, question.encode()))
        reply = _event(sock, rpc)
    if not isinstance(reply, Reply):
        raise Unavailable(f"the call failed: {reply}")
    return emsmdb.EcDoConnectExReply.decode(reply.stub, reply.order, reply.ndr64).display_name or ""


SERVICES: Mapping[str, Callable[[Target, Client, str], str]] = MappingProxyType(
    {"http": http_login, "imap": imap_login, "rpc": rpc_login}
)


def _event(sock: socket.socket, rpc: RpcClient) -> object:
    while data := sock.recv(16384):
        if events := rpc.receive(data):
            return events[0]
    raise ConnectionResetError("ended")


def _context(target: str, ccache: str) -> gssapi.SecurityContext:
    name = gssapi.Name(target, gssapi.NameType.kerberos_principal)
    credentials = gssapi.Credentials(usage="initiate", store={"ccache": ccache}, mechs=[KRB5])
    flags = gssapi.RequirementFlag.mutual_authentication | gssapi.RequirementFlag.integrity
    return gssapi.SecurityContext(name=name, creds=credentials, mech=KRB5, flags=flags, usage="initiate")


class TicketsOnly:
    """A cache in memory with nothing but another one's ticket-granting ticket: whoever uses it gets new tickets."""

    def __init__(self, ccache: str) -> None:
        self.name = f"MEMORY:fresh{next(_caches)}"
        context = krb5.init_context()
        old, self._new = krb5.cc_resolve(context, ccache.encode()), krb5.cc_resolve(context, self.name.encode())
        krb5.cc_initialize(context, self._new, krb5.cc_get_principal(context, old))
        for ticket in old:
            if ticket.server.name.startswith(b"krbtgt/"):
                krb5.cc_store_cred(context, self._new, ticket)
        self._context = context

    def __enter__(self) -> str:
        return self.name

    def __exit__(self, *_: object) -> None:
        krb5.cc_destroy(self._context, self._new)


class Logins:
    """Several clients that log in at the same time, each in a thread of its own, until told to stop or each has done
    its share of the count. ``fresh_share`` of the logins get a new ticket from the KDC."""

    def __init__(
        self,
        target: Target,
        clients: list[Client],
        services: tuple[str, ...] = tuple(SERVICES),
        *,
        count: int = 100,
        seconds: float = 60.0,
        fresh_share: float = 0.0,
        pause: float = 0.0,
    ) -> None:
        self.tally = Tally()
        self._target = target
        self._clients = clients
        self._services = services
        self._count = count
        self._seconds = seconds
        self._fresh_share = fresh_share
        self._pause = pause
        self._over = threading.Event()
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Finish the logins that are on their way, begin no others."""
        self._over.set()

    def run(self, tell: Callable[[int], None] | None = None) -> Tally:
        """All of them; what came of it. ``tell`` hears now and then how many there were."""
        since = told = time.monotonic()
        threads = [
            threading.Thread(target=self._work, args=(number, client)) for number, client in enumerate(self._clients)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            now = time.monotonic()
            if now - since > self._seconds:
                self._over.set()
            if tell and now - told >= TELL_SECONDS:
                told = now
                tell(self.tally.total)
            next((thread for thread in threads if thread.is_alive()), threads[0]).join(0.05)
        self.tally.seconds = time.monotonic() - since
        return self.tally

    def _work(self, number: int, client: Client) -> None:
        fresh, clients = 0.0, len(self._clients)
        for turn in range(number, number + (self._count + clients - 1 - number) // clients):
            if self._over.is_set():
                return
            service = self._services[turn % len(self._services)]
            fresh += self._fresh_share
            self._log_in(service, client, fresh >= 1)
            fresh -= fresh >= 1
            if self._pause:
                self._over.wait(self._pause)

    def _log_in(self, service: str, client: Client, fresh: bool) -> None:
        reason = member = ""
        try:
            if fresh:
                with TicketsOnly(client.ccache) as ccache:
                    member = SERVICES[service](self._target, client, ccache)
            else:
                member = SERVICES[service](self._target, client, client.ccache)
        except GSSError as error:
            said = [*error.get_all_statuses(error.min_code, False), *error.get_all_statuses(error.maj_code, True)]
            reason = "; ".join(said) or str(error)
        except (CasarrayError, OSError, struct.error, http.client.HTTPException, krb5.Krb5Error) as error:
            reason = str(error) or type(error).__name__
        with self._lock:
            if member:
                self.tally.success(service, member)
            else:
                self.tally.failure(service, reason or "nobody said who answered")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="casarray.lab.logins", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vip", required=True)
    parser.add_argument("--name", required=True, help="the array's name, which tickets are for")
    parser.add_argument("--rpc-port", type=int, default=5001)
    parser.add_argument("--user", action="append", required=True, metavar="NAME=CCACHE", help="repeat for more clients")
    parser.add_argument("--source", action="append", default=[], help="their addresses, in the users' order")
    parser.add_argument("--services", default=",".join(SERVICES))
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between a client's logins")
    parser.add_argument("--progress", action="store_true", help="print now and then how many there were")
    parser.add_argument("--fresh", action="store_const", const=1.0, default=0.0, dest="fresh_share")
    parser.add_argument("--fresh-share", type=float, dest="fresh_share")
    return parser


def main() -> int:
    """The command line."""
    arguments = _parser().parse_args()
    sources = itertools.chain(arguments.source, itertools.repeat(""))
    pairs = [user.partition("=")[::2] for user in arguments.user]
    clients = [Client(user, ccache, source) for (user, ccache), source in zip(pairs, sources, strict=False)]
    logins = Logins(
        Target(arguments.vip, arguments.name, arguments.rpc_port),
        clients,
        tuple(arguments.services.split(",")),
        count=arguments.count,
        seconds=arguments.seconds,
        fresh_share=arguments.fresh_share,
        pause=arguments.pause,
    )
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: logins.stop())
    print("ready", flush=True)
    tally = logins.run((lambda total: print(total, flush=True)) if arguments.progress else None)
    print(tally.json(), flush=True)
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
