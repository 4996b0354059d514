"""A site for walks, in memory: names, servers that answer with what they are told to, balancers, no sockets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, ip_address
from itertools import count
from uuid import UUID

from casarray.core.autodiscover.response import EXCH, EXPR, Protocol, Response, Settings, User
from casarray.core.dcerpc.client import Reply
from casarray.core.dcerpc.interfaces import emsmdb, epm, nspi, nspi_names, rfr
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.interfaces.emsmdb_rops import EcDoRpcExt2Reply, LogonSuccess, RopReply, reply_octets
from casarray.core.dcerpc.interfaces.epm import EPM
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.interfaces.rfr import RFR
from casarray.core.dcerpc.ndr import ContextHandle
from casarray.core.dcerpc.server import CONTEXT_MISMATCH
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.dcerpc.tower import Tower
from casarray.core.outlook.asking import (
    Answer,
    Ask,
    Certificate,
    Close,
    Command,
    Discover,
    Discovered,
    Open,
    Opened,
    Reach,
    Resolve,
    Resolved,
    ShowCertificate,
    Tell,
    Way,
    Went,
)
from casarray.core.outlook.journey import Journey, Mailbox
from casarray.core.outlook.verdicts import Result, Step
from casarray.core.outlook.walk import Plan, walk

NAME = "cas.domain.tld"
VIP = IPv4Address("10.11.0.100")
DN = "/o=Org/ou=Group/cn=Recipients/cn=alice"
ARRAY_DN = f"/o=Org/ou=Group/cn=Configuration/cn=Servers/cn={NAME}"
GUID = UUID("0c0ffee0-0000-4000-8000-000000000001")
NOBODY = Went(Way.UNREACHABLE, "cannot be reached")
REFUSED = Went(Way.REFUSED, "refuses connections")
OPEN = LogonSuccess(GUID, datetime(2026, 1, 1, tzinfo=UTC))
SILENT = Went(Way.SILENT, "does not answer")
MAIL = Certificate("mail.domain.tld")
_handles = count(1)


@dataclass(slots=True)
class Server:
    """Answers what its fields say."""

    name: str
    tower: str = "0.0.0.0"
    ports: dict[str, int] = field(default_factory=lambda: {"EMSMDB": 5001, "RFR": 5000, "NSPI": 5000})
    rfr: str = NAME
    found: tuple[int, ...] = (2,)  # what names are resolved to
    connect: int = 0
    logon: RopReply = OPEN
    dead: Mapping[int, Went] = field(default_factory=dict)  # by port
    mechanism: str = "Kerberos"
    why: str = ""
    denied: Went | None = None
    sessions: set[UUID] = field(default_factory=set)
    asked_for: str = ""  # whose session was opened last

    @property
    def guid(self) -> UUID:
        """Of its address book."""
        return UUID(int=sum(self.name.encode()))

    def open(self, wanted: Open) -> Opened | Went:
        """A connection."""
        if wanted.port != 135 and wanted.port not in (*self.ports.values(), 6001, 6002, 6004):
            return REFUSED
        if (went := self.dead.get(wanted.port)) is not None:
            return went
        if wanted.target and self.denied is not None:
            return self.denied
        return Opened(7, self.mechanism, self.why) if wanted.target else Opened(7)

    def answer(self, asked: Ask) -> bytes | Went:
        """A call's answer."""
        calls: Mapping[tuple[Syntax, int], Callable[[bytes], bytes | Went]] = {
            (EPM, epm.EPT_MAP): self._map,
            (RFR, rfr.Opnum.GET_NEW_DSA): lambda _: rfr.RfrGetNewDsaReply(self.rfr).encode(),
            (RFR, rfr.Opnum.GET_FQDN_FROM_SERVER_DN): lambda _: rfr.RfrGetFqdnFromServerDnReply(self.rfr).encode(),
            (NSPI, nspi.Opnum.BIND): lambda _: nspi.NspiBindReply(self.guid, _handle()).encode(),
            (NSPI, nspi.Opnum.RESOLVE_NAMES_W): lambda _: nspi_names.NspiResolveNamesWReply(self.found, ()).encode(),
            (NSPI, nspi.Opnum.UNBIND): lambda _: nspi.NspiUnbindReply().encode(),
            (EMSMDB, emsmdb.Opnum.CONNECT): self._connect,
            (EMSMDB, emsmdb.Opnum.RPC_EXT): self._logon,
            (EMSMDB, emsmdb.Opnum.ASYNC_CONNECT): self._show,
            (EMSMDB, emsmdb.Opnum.DISCONNECT): lambda _: emsmdb.EcHandleReply().encode(),
        }
        return calls[asked.interface, asked.opnum](asked.stub)

    def _map(self, stub: bytes) -> bytes:
        wanted = epm.EptMap.decode(stub, "little", False).tower
        assert wanted is not None
        names = {EMSMDB: "EMSMDB", RFR: "RFR", NSPI: "NSPI"}
        interface = wanted.interface
        assert interface is not None
        port = self.ports.get(names[interface], 0)
        towers = (Tower.tcp(interface, port, IPv4Address(self.tower)),) if port else ()
        return epm.EptMapReply(towers, epm.OK if towers else epm.NOT_REGISTERED, max_towers=8).encode()

    def _connect(self, stub: bytes) -> bytes:
        self.asked_for = emsmdb.EcDoConnectEx.decode(stub, "little", False).user_dn
        handle = _handle()
        self.sessions.add(handle.uuid)
        return emsmdb.EcDoConnectExReply(handle, result=self.connect).encode()

    def _logon(self, _stub: bytes) -> bytes:
        return EcDoRpcExt2Reply(_handle(), reply_octets((self.logon,), (1,))).encode()

    def _show(self, stub: bytes) -> bytes | Went:
        shown = emsmdb.EcDoAsyncConnectEx.decode(stub, "little", False).session.uuid
        if shown not in self.sessions:
            return Went(Way.FAULT, f"answers call 14 with fault 0x{CONTEXT_MISMATCH:08X}", CONTEXT_MISMATCH)
        return emsmdb.EcHandleReply(_handle()).encode()


def _handle() -> ContextHandle:
    return ContextHandle(UUID(int=next(_handles)))


@dataclass(slots=True)
class Balancer:
    """Before several servers: for each port by turns, as a balancer without affinity, or always the same one."""

    servers: Sequence[Server]
    affinity: bool = True
    turns: dict[int, int] = field(default_factory=dict)

    def server(self, port: int) -> Server:
        """Who gets the next connection to a port."""
        turn = self.turns.get(port, -1) + 1
        self.turns[port] = turn
        return self.servers[0 if self.affinity else turn % len(self.servers)]


@dataclass(slots=True)
class Site:
    """Names and hosts."""

    hosts: dict[str, Balancer] = field(default_factory=dict)  # by address
    inside: dict[str, Resolved | Went] = field(default_factory=lambda: {NAME: Resolved((VIP,))})
    outside: dict[str, Resolved | Went] = field(default_factory=dict)
    told: Response | Went = SILENT
    shown: Certificate | Went = MAIL
    opened: list[Open] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    _open: dict[str, Server] = field(default_factory=dict)

    def walk(self, plan: Plan) -> list[Step]:
        """Perform a plan; every step takes 7 ms."""
        walking = walk(plan)
        try:
            command = next(walking)
            while True:
                command = walking.send(self.perform(command))
        except StopIteration:
            return self.steps

    def perform(self, command: Command) -> Answer:  # noqa: PLR0911 - a table
        """Answer one command."""
        match command:
            case Tell(step):
                self.steps.append(replace(step, latency_ms=7.0))
                return self.steps[-1]
            case Resolve(name, outside):
                known = self.outside if outside else self.inside
                return known.get(name, Went(Way.UNKNOWN, "there is no such name"))
            case Reach(host, _):
                return None if host in self.hosts else NOBODY
            case Discover():
                return (
                    self.told
                    if isinstance(self.told, Went)
                    else Discovered(self.told, "https://autodiscover.domain.tld")
                )
            case ShowCertificate():
                return self.shown
            case Open(key, host, port):
                self.opened.append(command)
                if host not in self.hosts:
                    return NOBODY
                self._open[key] = self.hosts[host].server(port)
                return self._open[key].open(command)
            case Ask(key):
                answer = self._open[key].answer(command)
                return answer if isinstance(answer, Went) else Reply(1, answer)
            case Close():
                return None


def one_server(**facts: object) -> Site:
    """An array with one member."""
    server = Server("cas1")
    for name, value in facts.items():
        setattr(server, name, value)
    return Site({str(VIP): Balancer([server])})


def to_array(**facts: object) -> Journey:
    """What a user's Outlook does."""
    usual = Journey("CAS", NAME, NAME, Mailbox("alice@domain.tld", "alice", DN), ARRAY_DN, (NAME,), through_array=True)
    return replace(usual, **facts)  # type: ignore[arg-type]  # a test says what it changes


def plan(journey: Journey | None = None, **facts: object) -> Plan:
    """A plan for the array, without Autodiscover unless asked for."""
    journey = journey or to_array()
    usual = Plan("CAS", NAME, journey.mailbox, (VIP,), journey)
    return replace(usual, **facts)  # type: ignore[arg-type]  # as above


def settings(server: str = NAME, published: str = "mail.domain.tld", principal: str = "") -> Settings:
    """What Autodiscover tells."""
    ways = (Protocol(EXCH, server=server), Protocol(EXPR, server=published, cert_principal_name=principal))
    return Settings(User("Alice", DN, "alice@domain.tld"), ways)


def outcome(steps: Sequence[Step]) -> list[tuple[str, str]]:
    """Steps and results, the short way; a trouble instead of its result."""
    return [(str(step.scenario), str(step.trouble or step.result)) for step in steps]


def last(steps: Sequence[Step]) -> tuple[str, str | None, str]:
    """Where a walk stopped: step, trouble and words."""
    step = steps[-1]
    assert step.result is Result.FAILURE, outcome(steps)
    return str(step.scenario), step.trouble, step.text


def address(text: str) -> Resolved:
    """A name's only address."""
    return Resolved((ip_address(text),))
