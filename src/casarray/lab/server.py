"""A lab server that speaks real DCE/RPC: endpoint mapper, address book (RFR, NSPI), mailbox (EMSMDB).

    python -m casarray.lab.server --name cas1 --address 10.12.0.21 --control /tmp/cas1.sock --journal /tmp/cas1.jsonl

It prints ``ready {"epm": 135, "ab": 6005, "rpc": 6006}`` once it listens, and ends on SIGTERM. Port 0 (the default of
``ab`` and ``rpc``) is a dynamic port, kept for the life of the process.

It can be made to misbehave while it runs: a line on the control socket (`tell`, or ``--tell`` from a shell), answered
with the state as JSON.

    SERVICE BEHAVIOUR [SECONDS]      SERVICE: epm, ab, rpc, all
    normal        answers
    refuse        does not listen, and ends the connections it has (a stopped service; on rpc and ab: half dead)
    reset         accepts and resets at once
    hang-accept   accepts and never says a word, not even on the connections it has
    hang-bind     answers binds and nothing after that
    slow          answers after SECONDS
    garbage       answers with octets that are no PDU
    state         (without a service) only tells the state

With ``--directory STORE`` (``embedded``, ``sqlite:FOLDER``, ``ldap://DC``) it answers as that server of the directory
would: names are those of arrays, the address book is filled, and a mailbox of another site is not opened. The directory
is looked at anew when it has changed.

With ``--keytab FILE`` callers may authenticate by Kerberos, with a ticket for any name whose key stands in that file,
which is read anew for each of them. The state then tells who called last and how, and how many calls each has made;
those who do not authenticate are served as ever, unless ``--kerberos-only``. With ``--ntlm-users FILE`` they may do it
by NTLM too, by itself or inside SPNEGO; with ``--no-kerberos`` by nothing else, as where a server has lost its keys.

The journal (see `lab.journal`) gets a line for each connection and each call, with the name of the client as soon as a
call has carried it.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any, cast

import uvloop

from casarray.adapters.stores.opening import open_store
from casarray.core.dcerpc.association import ACCESS_DENIED, AssociationGroups, Broken, Call, RpcServer, Send
from casarray.core.dcerpc.auth import Caller, Security, ServerAuth
from casarray.core.dcerpc.syntax import NDR, NDR64, Syntax
from casarray.core.directory.model import Directory
from casarray.core.errors import CasarrayError, Denied
from casarray.core.referral.client_access import Demands
from casarray.core.referral.signpost import Signpost, Station
from casarray.lab.channel import no_linger
from casarray.lab.exchange import Answer, Exchange
from casarray.lab.journal import Journal
from casarray.lab.rpc_http_server import RpcHttpServer

SERVICES = ("epm", "ab", "rpc")
MOST_CALLERS = 1000
GARBAGE = b"\xffthis is not DCE/RPC\r\n" * 3


class Behaviour(StrEnum):
    """How a service treats its clients."""

    NORMAL = "normal"
    REFUSE = "refuse"
    RESET = "reset"
    HANG_ACCEPT = "hang-accept"
    HANG_BIND = "hang-bind"
    SLOW = "slow"
    GARBAGE = "garbage"


@dataclass(slots=True)
class Service:
    """One port of the server."""

    name: str
    port: int  # 0 until the first listen: a dynamic port
    behaviour: Behaviour = Behaviour.NORMAL
    seconds: float = 0.0
    listeners: list[asyncio.Server] = field(default_factory=list)
    connections: set["Connection"] = field(default_factory=set)


class Connection(asyncio.Protocol):
    """One client's connection to one service."""

    __slots__ = ("_bound", "_heard", "_rpc", "_seen", "client", "peer", "server", "service", "transport")

    def __init__(self, server: "LabServer", service: Service) -> None:
        self.server = server
        self.service = service
        self.client = ""  # its name, once a call has told it
        self.peer: tuple[str, int] = ("", 0)
        self.transport: asyncio.Transport | None = None
        self._seen = False
        self._rpc = server.association(service)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        peer = transport.get_extra_info("peername") or ("", 0)
        self.peer = (peer[0], peer[1])
        if self.service.behaviour is Behaviour.RESET:
            reset(self.transport)
            return
        self.service.connections.add(self)
        self.note("open")

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self.service.connections:
            self.service.connections.discard(self)
            group = self._rpc.group_id
            if self._rpc.close():
                self.server.exchange.forget_group(group)
            self.note("close", why=str(exc or "end"))

    def data_received(self, data: bytes) -> None:
        service = self.service
        if service.behaviour is Behaviour.HANG_ACCEPT:
            return
        if service.behaviour is Behaviour.GARBAGE:
            self._write(GARBAGE)
            return
        answer = bytearray()
        for event in self._rpc.receive(data):
            match event:
                case Send(octets):
                    answer += octets
                case Call() if service.behaviour is not Behaviour.HANG_BIND:
                    try:
                        answer += self._answer(event)
                    except Denied as error:  # its caller's ticket has run out, so that nothing can be signed any more
                        self.note("error", why=str(error))
                        self._end(bytes(answer))
                        return
                case Broken(error):
                    self.note("error", why=str(error))
                    self._end(bytes(answer))
                    return
                case _:
                    pass
        if service.behaviour is Behaviour.SLOW:
            asyncio.get_running_loop().call_later(service.seconds, self._write, bytes(answer))
        elif answer:
            self._write(bytes(answer))

    def _end(self, last_words: bytes) -> None:
        """Hang up; a refusal is still sent."""
        if self.transport is None:
            return
        if not last_words:
            self.transport.abort()
            return
        self._write(last_words)
        self.transport.close()

    def note(self, event: str, **facts: Any) -> None:
        """Write a line into the server's journal."""
        self.server.journal(event, service=self.service.name, client=self.peer[0], port=self.peer[1], **facts)

    def _write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def _answer(self, call: Call) -> bytes:
        if self.server.kerberos_only and call.caller is None:
            self.note("call", call=f"opnum {call.opnum}", id=self.client, fault=ACCESS_DENIED)
            return call.fault(ACCESS_DENIED, did_not_execute=True)
        answer = self.server.exchange.answer(call)
        self.client = answer.client or self.client
        details = self._details(answer)
        if (caller := call.caller) is not None:
            self.server.heard(caller)
            details["principal"] = caller.name
        self.note("call", call=answer.call, id=self.client, **details)
        return call.fault(answer.fault) if answer.fault else call.reply(answer.stub)

    def _details(self, answer: Answer) -> dict[str, Any]:
        details: dict[str, Any] = {"fault": answer.fault} if answer.fault else {}
        if self.client and not self._seen:
            self._seen = True
            details["first"] = True  # the first call on this connection whose caller is known
        return details


def reset(transport: asyncio.Transport) -> None:
    """End a connection with a reset instead of an orderly end."""
    no_linger(transport)
    transport.abort()


class LabServer:
    """The server: three services, their listeners and the state behind them."""

    def __init__(
        self,
        name: str,
        addresses: Sequence[str],
        ports: dict[str, int] | None = None,
        *,
        domain: str = "lab.example",
        journal: Journal | None = None,
        transfer: Sequence[Syntax] = (NDR,),
        security: Callable[[int], Security | None] | None = None,
        kerberos_only: bool = False,
        directory: Callable[[], Directory] | None = None,
        demands: Demands | None = None,
    ) -> None:
        self.kerberos_only = kerberos_only
        self.callers: Counter[str] = Counter()  # calls by authenticated principal
        self.last_caller: Caller | None = None
        self._security = security  # opens an acceptor; None: nobody can authenticate
        self.addresses = tuple(addresses)
        self.transfer = tuple(transfer)  # NDR64 first makes a server as 64-bit Windows is one
        wanted = {"epm": 135, "ab": 0, "rpc": 0} | (ports or {})
        self.services = {service: Service(service, wanted[service]) for service in SERVICES}
        four = next((a for a in map(ip_address, addresses) if isinstance(a, IPv4Address)), IPv4Address(0))
        # With a directory it answers as that server of it would; without one, for the lab's own users.
        guide = None if directory is None else Signpost(Station(name, f"{name}.{domain}"), directory)
        self.exchange = Exchange(name, domain, four, guide=guide, demands=demands or Demands())
        self.journal = journal or Journal(None, "server")
        self._groups = AssociationGroups()

    def association(self, service: Service) -> RpcServer:
        """The protocol of a new connection to that service."""
        return RpcServer(
            self.exchange.interfaces[service.name],
            transfer=self.transfer,
            groups=self._groups,
            secondary_address=str(service.port),
            auth=None if self._security is None else ServerAuth(self._security),
        )

    def heard(self, caller: Caller) -> None:
        """A call of somebody who has proven who that is."""
        self.last_caller = caller
        if caller.name in self.callers or len(self.callers) < MOST_CALLERS:
            self.callers[caller.name] += 1

    async def start(self) -> None:
        """Listen on all services."""
        for service in self.services.values():
            if service.behaviour is not Behaviour.REFUSE:
                await self._listen(service)
        self.exchange.ports = {name: service.port for name, service in self.services.items()}

    async def _listen(self, service: Service) -> None:
        loop = asyncio.get_running_loop()
        for address in self.addresses:
            try:
                listener = await loop.create_server(
                    lambda: Connection(self, service), address, service.port, backlog=4096, reuse_address=True
                )
            except OSError as error:
                raise CasarrayError(f"cannot listen on {address} port {service.port}: {error}") from error
            service.listeners.append(listener)
            service.port = listener.sockets[0].getsockname()[1]

    async def behave(self, service: Service, behaviour: Behaviour, seconds: float = 0.0) -> None:
        """Make a service misbehave, or behave again."""
        was, service.behaviour, service.seconds = service.behaviour, behaviour, seconds
        if behaviour is Behaviour.REFUSE:
            self._close(service)
        elif was is Behaviour.REFUSE:
            await self._listen(service)

    def _close(self, service: Service) -> None:
        for listener in service.listeners:
            listener.close()
        service.listeners.clear()
        for connection in list(service.connections):
            if connection.transport is not None:
                connection.transport.abort()

    async def close(self) -> None:
        """Stop listening and end all connections."""
        for service in self.services.values():
            self._close(service)

    def state(self) -> dict[str, Any]:
        """What it is doing, for people and tests."""
        return {
            "name": self.exchange.name,
            "handles": self.exchange.open_handles,
            "lookups": self.exchange.open_lookups,
            **self._kerberos_state(),
            "services": {
                service.name: {
                    "port": service.port,
                    "behaviour": service.behaviour.value,
                    "connections": len(service.connections),
                }
                for service in self.services.values()
            },
        }

    def _kerberos_state(self) -> dict[str, Any]:
        if self._security is None:
            return {}
        last = self.last_caller
        return {
            "kerberos": {
                "only": self.kerberos_only,
                "callers": dict(self.callers),
                "last": last
                and {"principal": last.name, "mechanism": last.mechanism, "level": last.level.name.lower()},
            }
        }

    async def obey(self, line: str) -> dict[str, Any]:
        """Do what a line of the control socket says; the state, or ``{"error": ...}``."""
        words = line.split()
        if words in ([], ["state"]):
            return self.state()
        try:
            service, behaviour, *seconds = words
            names = SERVICES if service == "all" else (service,)
            for name in names:
                await self.behave(self.services[name], Behaviour(behaviour), float(seconds[0]) if seconds else 0.0)
        except (KeyError, ValueError):
            usage = "SERVICE (epm, ab, rpc, all) BEHAVIOUR [SECONDS]; behaviours: " + ", ".join(Behaviour)
            return {"error": f"{line!r} is not understood", "usage": usage}
        except CasarrayError as error:
            return {"error": str(error)}
        return self.state()

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of the control socket."""
        with contextlib.suppress(ConnectionError, ValueError):
            while line := await reader.readline():
                writer.write(json.dumps(await self.obey(line.decode(errors="replace"))).encode() + b"\n")
                await writer.drain()
        writer.close()


def tell(control: Path | str, line: str, timeout: float = 5.0) -> dict[str, Any]:
    """Say a line to a server's control socket; its state. An error in the answer is a `CasarrayError`."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect(str(control))
            sock.sendall(line.encode() + b"\n")
            answer: dict[str, Any] = json.loads(sock.makefile().readline())
        except (OSError, ValueError) as error:
            raise CasarrayError(f"the lab server at {control} does not answer: {error}") from error
    if "error" in answer:
        raise CasarrayError(f"{answer['error']}; {answer.get('usage', '')}")
    return answer


async def serve(arguments: argparse.Namespace) -> None:
    """Run until SIGTERM or SIGINT."""
    journal = Journal(arguments.journal, "server", member=arguments.name)
    ports = {service: getattr(arguments, f"{service}_port") for service in SERVICES}
    transfer = (NDR64, NDR) if arguments.ndr64 else (NDR,)
    server = LabServer(
        arguments.name,
        arguments.address,
        ports,
        domain=arguments.domain,
        journal=journal,
        transfer=transfer,
        security=_security(arguments),
        kerberos_only=arguments.kerberos_only,
        directory=_directory(arguments.directory),
        demands=Demands(encrypted=arguments.encrypted_only),
    )
    over = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, over.set)
    await server.start()
    over_http = RpcHttpServer(
        lambda service: Connection(server, server.services[service]),
        lambda service: server.services[service].behaviour is Behaviour.REFUSE,
    )
    if arguments.http:
        await over_http.start(server.addresses)
    for fault in arguments.fault:
        answer = await server.obey(fault)
        if "error" in answer:
            raise CasarrayError(f"{answer['error']}; {answer.get('usage', '')}")
    control = None
    if arguments.control:
        arguments.control.unlink(missing_ok=True)
        control = await asyncio.start_unix_server(server.control, arguments.control)
    print("ready", json.dumps({name: service.port for name, service in server.services.items()}), flush=True)
    await over.wait()
    over_http.close()
    await server.close()
    if control is not None:
        control.close()
        arguments.control.unlink(missing_ok=True)
    journal.close()


def _security(arguments: argparse.Namespace) -> Callable[[int], Security | None] | None:
    """What opens acceptors, by the files that are given."""
    keytab = None if arguments.no_kerberos else arguments.keytab
    if keytab is None and arguments.ntlm_users is None:
        return None
    from casarray.adapters.rpc_acceptors import AnyAcceptors  # noqa: PLC0415 - its libraries are an extra

    name = f"{arguments.name}.{arguments.domain}"
    return AnyAcceptors(keytab, arguments.ntlm_users, name=name, domain=arguments.domain).accept


def _directory(name: str | None) -> Callable[[], Directory] | None:
    """What reads the directory in that store, again only when it has changed."""
    if name is None:
        return None
    store = open_store(name)
    snapshot = store.read()

    def now() -> Directory:
        nonlocal snapshot
        if store.revision() != snapshot.revision:
            snapshot = store.read()
        return snapshot.directory

    return now


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="casarray.lab.server", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", default="cas1", help="the host name; every answer that can carries it")
    parser.add_argument("--domain", default="lab.example")
    parser.add_argument(
        "--address", action="append", default=[], help="listen here (repeat for more; default loopback)"
    )
    parser.add_argument("--epm-port", type=int, default=135)
    parser.add_argument("--ab-port", type=int, default=0, help="RFR and NSPI; 0 = dynamic")
    parser.add_argument("--rpc-port", type=int, default=0, help="EMSMDB; 0 = dynamic")
    parser.add_argument("--http", action="store_true", help="RPC over HTTP as well, on 6001, 6002 and 6004")
    parser.add_argument("--ndr64", action="store_true", help="prefer NDR64, as 64-bit Windows does")
    parser.add_argument("--directory", metavar="STORE", help="answer by this directory")
    parser.add_argument("--encrypted-only", action="store_true", help="open mailbox sessions over sealed calls alone")
    parser.add_argument("--keytab", type=Path, help="take Kerberos tickets for the names in this keytab")
    parser.add_argument("--no-kerberos", action="store_true", help="take no tickets, whatever keytab there is")
    parser.add_argument("--ntlm-users", type=Path, metavar="FILE", help="take NTLM; mode 0600, lines of name:password")
    parser.add_argument("--kerberos-only", action="store_true", help="deny calls of who has not authenticated")
    parser.add_argument("--journal", type=Path, help="append one JSON object a line")
    parser.add_argument("--control", type=Path, help="path of the control socket")
    parser.add_argument("--fault", action="append", default=[], metavar="LINE", help='begin with "rpc hang-accept"')
    parser.add_argument("--tell", metavar="LINE", help="say a line to the server at --control and leave")
    return parser


def main() -> int:
    """The command line."""
    arguments = _parser().parse_args()
    arguments.address = arguments.address or ["127.0.0.1"]
    try:
        if arguments.tell:
            print(json.dumps(tell(arguments.control or "", arguments.tell)))
        else:
            uvloop.run(serve(arguments))
    except CasarrayError as error:
        print(f"casarray.lab.server: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
