"""The RPC probe: ask the endpoint mapper where each interface is, then bind to it there.

That is what a client does first, and needs no credentials: a server that has the interface accepts the bind, whatever
it says to the calls that follow. A service that nobody maps is bound to on its own port.

The two halves can be had apart (`inquiry`, `consulting`, `settled`): the probes of a server's services ask the same
endpoint mapper at the same time, and one connection serves them all.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar
from uuid import UUID

from casarray.core.config import Service
from casarray.core.dcerpc.client import BindRefused, Bound, Broken, ClientEvent, Failed, Reply, RpcClient, ShutdownAsked
from casarray.core.dcerpc.cursor import Order
from casarray.core.dcerpc.interfaces.emsmdb import ASYNC_EMSMDB, EMSMDB
from casarray.core.dcerpc.interfaces.epm import EPM, EPT_MAP, NOT_REGISTERED, OK, EptMap, EptMapReply
from casarray.core.dcerpc.interfaces.mgmt import MGMT
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.interfaces.rfr import RFR
from casarray.core.dcerpc.pdu import NakReason, PduType, Reason
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.dcerpc.tower import TCP, Tower
from casarray.core.health.conversation import Answer, Ask, Dial, Step, Steps
from casarray.core.profiles import MAPPER_PORT

#: What administrators call the interfaces; any other goes by its UUID and version.
NAMES: Mapping[Syntax, str] = {
    EPM: "the endpoint mapper",
    MGMT: "the management interface",
    EMSMDB: "EMSMDB",
    ASYNC_EMSMDB: "AsyncEMSMDB",
    NSPI: "NSPI",
    RFR: "RFR",
}
REASONS: Mapping[int, str] = {
    Reason.ABSTRACT_SYNTAX_NOT_SUPPORTED: "it does not have the interface",
    Reason.TRANSFER_SYNTAXES_NOT_SUPPORTED: "it does not speak NDR",
    Reason.LOCAL_LIMIT_EXCEEDED: "a limit of its own is reached",
}
NAK_REASONS: Mapping[int, str] = {
    NakReason.TEMPORARY_CONGESTION: "it is congested",
    NakReason.LOCAL_LIMIT_EXCEEDED: "a limit of its own is reached",
    NakReason.AUTHENTICATION_TYPE_NOT_RECOGNIZED: "it wants authentication",
}
#: An endpoint mapper may know several endpoints of an interface; a handful is enough to find the one over TCP.
MAX_TOWERS = 8
#: The largest answer that is put together.
LIMIT = 32 * 1024
#: Only answers up to this size are remembered: four towers.
SHORT = 512
BIND_ACK = bytes([PduType.BIND_ACK])

T = TypeVar("T")
Part = Generator[Step, bytes, T]


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What a probe has to ask an endpoint mapper before anything else."""

    port: int
    interfaces: tuple[Syntax, ...]


@dataclass(frozen=True, slots=True)
class Ports:
    """Where an endpoint mapper says that an interface is, over TCP."""

    ports: tuple[int, ...]
    status: int


Said = Ports | Answer  # the latter: what is wrong with what it said


class Agenda:
    """What an endpoint mapper is asked on one connection. Questions may be added until there is none left."""

    __slots__ = ("_due", "_hear", "closed")

    def __init__(self, hear: Callable[[Syntax, Said], None], questions: Iterable[Syntax] = ()) -> None:
        """``hear`` is told each answer when it comes."""
        self.closed = False
        self._hear = hear
        self._due = dict.fromkeys(questions)

    def add(self, interface: Syntax) -> None:
        """One more question, unless it is still to be asked anyway."""
        self._due[interface] = None

    def __iter__(self) -> Iterator[Syntax]:
        """The questions, in the order in which they came, the one for the mapper itself last; then it is closed."""
        while self._due:
            interface = next((i for i in self._due if i != EPM), EPM)
            del self._due[interface]
            yield interface
        self.closed = True

    def heard(self, interface: Syntax, said: Said) -> None:
        """It said this. Who answers a question lives: there is no need to ask it for itself any more."""
        self._hear(interface, said)
        if EPM in self._due and isinstance(said, Ports):
            del self._due[EPM]
            self._hear(EPM, said)


def inquiry(service: Service, mapper_port: int | None) -> Inquiry | None:
    """What an endpoint mapper has to be asked for this service; None when there is none to ask, or nothing to ask."""
    if service.mapper:
        return Inquiry(service.port or mapper_port or MAPPER_PORT, (EPM,))
    if mapper_port is None or not service.interfaces:
        return None
    return Inquiry(mapper_port, syntaxes(service.interfaces))


def rpc(service: Service, mapper_port: int | None) -> Steps:
    """The conversation for an RPC service. ``mapper_port`` None: there is no endpoint mapper to ask.

    A static port is bound on directly when there is no mapper to ask, or no interface to ask it for, or when it is
    among the ports that the mapper names. Where the mapper names another one, that one counts: clients go there.
    """
    if (asked := inquiry(service, mapper_port)) is None:
        return (yield from _direct(service))
    said: dict[Syntax, Said] = {}
    end = yield from consulting(asked.port, Agenda(said.__setitem__, asked.interfaces))
    return (yield from settled(service, asked, said)) if end.up else end


def consulting(port: int, agenda: Agenda) -> Steps:
    """Ask the endpoint mapper what is on the agenda. Up when it could be asked, whatever it said."""
    client = yield from _asker(port)
    if isinstance(client, Answer):
        return client
    for interface in agenda:
        agenda.heard(interface, (yield from _mapped(client, port, interface)))
    return Answer(True, f"answers ept_map on {port}")


def settled(service: Service, asked: Inquiry, said: Mapping[Syntax, Said]) -> Steps:
    """What follows once the endpoint mapper has said something to every question of the inquiry."""
    ports: dict[int, tuple[Syntax, ...]] = {}
    for interface in asked.interfaces:
        there = said[interface]
        if isinstance(there, Answer):
            return there
        if service.mapper:
            return Answer(True, f"answers ept_map on {asked.port}")  # whatever the answer: it lives
        port = _port(there, interface, service.port)
        if isinstance(port, Answer):
            return port
        ports[port] = (*ports.get(port, ()), interface)
    for port, interfaces in ports.items():
        if (trouble := (yield from _all_bound(port, interfaces))) is not None:
            return trouble
    return Answer(True, "accepts the bind to " + ", ".join(f"{names(on)} on {port}" for port, on in ports.items()))


def find_port(interface: Syntax, mapper_port: int, preferred: int | None = None) -> Part[int | Answer]:
    """Ask the endpoint mapper for the interface's port, ``preferred`` if that is among them; or why there is none."""
    client = yield from _asker(mapper_port)
    if isinstance(client, Answer):
        return client
    there = yield from _mapped(client, mapper_port, interface)
    return there if isinstance(there, Answer) else _port(there, interface, preferred)


def _asker(port: int) -> Part[RpcClient | Answer]:
    """Connect and bind to the endpoint mapper: who can ask it, or why nobody can."""
    client, offered = RpcClient(limit=LIMIT), offer((EPM,))
    yield Dial(port)
    event = yield from _event(client, offered.ask.what, client.bind(EPM))
    judged = _judged(event, offered, port, any_answer=False)
    return judged if isinstance(judged, Answer) else client


def _mapped(client: RpcClient, port: int, interface: Syntax) -> Part[Said]:
    """Where the mapper says the interface is."""
    call = client.call(EPM, EPT_MAP, question(interface))
    match (yield from _event(client, f"answer ept_map for {name(interface)}", call)):
        case Reply(stub=stub, order=order, ndr64=ndr64):
            return (remembered if len(stub) <= SHORT else read_ports)(stub, order, ndr64, interface)
        case Failed(status=status):
            return Answer(False, f"answers ept_map for {name(interface)} on {port} with fault {status:08X}")
        case other:
            return Answer(False, f"answers ept_map on {port} with {type(other).__name__}")


def _port(there: Ports, interface: Syntax, preferred: int | None) -> int | Answer:
    if preferred in there.ports:
        return preferred
    if there.ports:
        return there.ports[0]
    known = "not registered" if there.status in (OK, NOT_REGISTERED) else f"status {there.status:08X}"
    return Answer(False, f"has no TCP port for {name(interface)}: its endpoint mapper says {known}")


def _all_bound(port: int, interfaces: tuple[Syntax, ...]) -> Part[Answer | None]:
    """Bind to all of these on one connection; to those that are then rejected on one of their own.

    Samba takes no more than one interface on a connection, and says "transfer syntaxes not supported" of the others.
    """
    remark = f", where its endpoint mapper says {names(interfaces)} is"
    together = len(interfaces) > 1
    taken = yield from _bound(port, interfaces, remark, any_answer=together)
    if isinstance(taken, Answer):
        return taken
    for interface, result in zip(interfaces, taken.results, strict=True):
        if not result.accepted:
            alone = yield from _bound(port, (interface,), f", where its endpoint mapper says {name(interface)} is")
            if isinstance(alone, Answer):
                return alone
    return None


def _direct(service: Service) -> Steps:
    if service.port is None:
        yield from ()
        return Answer(False, f"has no port to probe for {service.name}: name its interfaces", ours=True)
    interfaces = syntaxes(service.interfaces)
    taken = yield from _bound(service.port, interfaces or (MGMT,), any_answer=not interfaces)
    if isinstance(taken, Answer):
        return taken
    did = f"accepts the bind to {names(interfaces)}" if interfaces else "answers a bind"
    return Answer(True, f"{did} on {service.port}")


def _bound(
    port: int, interfaces: tuple[Syntax, ...], remark: str = "", *, any_answer: bool = False
) -> Part[Bound | Answer]:
    """Connect and bind: the answer, or what is wrong. With ``any_answer`` a server that takes none of them will do."""
    offered = offer(interfaces)
    yield Dial(port, remark)
    heard = yield offered.ask
    event = remembered_ack(offered, without_group(heard)) if is_short_ack(heard) else None
    if event is None:
        client = RpcClient(limit=LIMIT)
        client.bind(*interfaces)
        event = yield from _event(client, offered.ask.what, heard=heard)
    return _judged(event, offered, port, remark, any_answer=any_answer)


def _judged(event: ClientEvent, offered: "Offer", port: int, remark: str = "", *, any_answer: bool) -> Bound | Answer:
    match event:
        case Bound(results=results):
            if any_answer or all(r.accepted for r in results):
                return event
            rejected = {i: r for i, r in zip(offered.interfaces, results, strict=True) if not r.accepted}
            why = next(REASONS.get(r.reason, f"result {r.result}, reason {r.reason}") for r in rejected.values())
            return Answer(False, f"rejects the bind to {names(tuple(rejected))} on {port}{remark}: {why}")
        case BindRefused(reason=reason, status=status):
            why = NAK_REASONS.get(reason, f"reason {reason}") if status is None else f"fault {status:08X}"
            return Answer(False, f"refuses the bind to {names(offered.interfaces)} on {port}{remark}: {why}")
        case other:
            return Answer(False, f"answers the bind on {port} with {type(other).__name__}")


def _event(client: RpcClient, what: str, data: bytes = b"", heard: bytes = b"") -> Part[ClientEvent]:
    """Send, if there is something to send, and wait for what the server says to it; it may already be in ``heard``.

    Raises what is wrong with its bytes.
    """
    while True:
        for event in client.receive(heard or (yield Ask(what, data))):
            if isinstance(event, Broken):
                raise event.error
            if not isinstance(event, ShutdownAsked):
                return event
        data = heard = b""


@dataclass(frozen=True, slots=True, eq=False)  # there is one for each choice of interfaces
class Offer:
    """A bind with which a connection begins."""

    interfaces: tuple[Syntax, ...]
    ask: Ask


@lru_cache(maxsize=1024)
def offer(interfaces: tuple[Syntax, ...]) -> Offer:
    """The bind to these: the same octets on every connection."""
    return Offer(interfaces, Ask(f"answer the bind to {names(interfaces)}", RpcClient(limit=LIMIT).bind(*interfaces)))


def is_short_ack(heard: bytes) -> bool:
    """Whether it begins a bind_ack, and is worth remembering."""
    return len(heard) <= SHORT and heard[2:3] == BIND_ACK


def without_group(ack: bytes) -> bytes:
    """A bind_ack but for its association group, a new one each time that no probe looks at."""
    return ack[:20] + bytes(4) + ack[24:]


@lru_cache(maxsize=1024)
def remembered_ack(offered: Offer, ack: bytes) -> ClientEvent | None:
    """What a client makes of the answer to a bind; None when it has to look closer.

    A server says the same, octet for octet, at every probe: reading it once is enough.
    """
    client = RpcClient(limit=LIMIT)
    client.bind(*offered.interfaces)
    events = client.receive(ack)
    return events[0] if len(events) == 1 and isinstance(events[0], Bound) else None


@lru_cache(maxsize=1024)
def remembered(stub: bytes, order: Order, ndr64: bool, interface: Syntax) -> Ports:
    """So does its endpoint mapper."""
    return read_ports(stub, order, ndr64, interface)


def read_ports(stub: bytes, order: Order, ndr64: bool, interface: Syntax) -> Ports:
    """The ports in an answer to an ept_map for the interface."""
    reply = EptMapReply.decode(stub, order, ndr64)
    ports = (t.port for t in reply.towers if t.transport == TCP and same_uuid(t.interface, interface.uuid))
    return Ports(tuple(port for port in ports if port), reply.status)


@lru_cache(maxsize=1024)
def syntaxes(texts: tuple[str, ...]) -> tuple[Syntax, ...]:
    """The interfaces as they are configured."""
    return tuple(syntax(text) for text in texts)


@lru_cache(maxsize=1024)
def syntax(text: str) -> Syntax:
    """The interface in ``uuid/major.minor``; the configuration has seen to the form."""
    uuid, _, version = text.partition("/")
    major, _, minor = version.partition(".")
    return Syntax(UUID(uuid), int(major or 0), int(minor or 0))


@lru_cache(maxsize=1024)
def question(interface: Syntax) -> bytes:
    """The stub of an ept_map for it."""
    return EptMap(Tower.tcp(interface), MAX_TOWERS).encode()


@lru_cache(maxsize=1024)
def names(interfaces: tuple[Syntax, ...]) -> str:
    """As administrators call them."""
    return " and ".join(name(i) for i in interfaces)


@lru_cache(maxsize=1024)
def name(interface: Syntax) -> str:
    """As administrators call it."""
    return NAMES.get(interface, str(interface))


def same_uuid(interface: Syntax | None, uuid: UUID) -> bool:
    """Mappers answer with the version that the server registered, which may be a later one."""
    return interface is not None and interface.uuid == uuid
