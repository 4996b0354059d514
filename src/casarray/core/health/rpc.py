"""The RPC probe: ask the endpoint mapper where each interface is, then bind to it there.

That is what a client does first, and needs no credentials: a server that has the interface accepts the bind, whatever
it says to the calls that follow. A service that nobody maps is bound to on its own port.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
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
from casarray.core.dcerpc.pdu import NakReason, Reason
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
SHORT_STUB = 512

T = TypeVar("T")
Part = Generator[Step, bytes, T]


def rpc(service: Service, mapper_port: int | None) -> Steps:
    """The conversation for an RPC service. ``mapper_port`` None: there is no endpoint mapper to ask.

    A static port is bound on directly when there is no mapper to ask, or no interface to ask it for, or when it is
    among the ports that the mapper names. Where the mapper names another one, that one counts: clients go there.
    """
    interfaces = tuple(syntax(text) for text in service.interfaces)
    if service.mapper:
        return (yield from _mapper(service.port or mapper_port or MAPPER_PORT))
    if mapper_port is None or not interfaces:
        return (yield from _direct(service, interfaces))
    ports: dict[int, list[Syntax]] = {}
    client = yield from _bound(mapper_port, (EPM,))
    if isinstance(client, Answer):
        return client
    for interface in interfaces:
        port = yield from _port(client, mapper_port, interface, service.port)
        if isinstance(port, Answer):
            return port
        ports.setdefault(port, []).append(interface)
    for port, there in ports.items():
        if (trouble := (yield from _all_bound(port, there))) is not None:
            return trouble
    return Answer(True, "accepts the bind to " + ", ".join(f"{names(on)} on {port}" for port, on in ports.items()))


def _all_bound(port: int, interfaces: Sequence[Syntax]) -> Part[Answer | None]:
    """Bind to all of these on one connection; to those that are then rejected on one of their own.

    Samba takes no more than one interface on a connection, and says "transfer syntaxes not supported" of the others.
    """
    remark = f", where its endpoint mapper says {names(interfaces)} is"
    together = len(interfaces) > 1
    client = yield from _bound(port, interfaces, remark, any_answer=together)
    if isinstance(client, Answer):
        return client
    for interface in interfaces if together else ():
        if not client.accepts(interface):
            alone = yield from _bound(port, (interface,), f", where its endpoint mapper says {name(interface)} is")
            if isinstance(alone, Answer):
                return alone
    return None


def _direct(service: Service, interfaces: tuple[Syntax, ...]) -> Steps:
    if service.port is None:
        yield from ()
        return Answer(False, f"has no port to probe for {service.name}: name its interfaces", ours=True)
    client = yield from _bound(service.port, interfaces or (MGMT,), any_answer=not interfaces)
    if isinstance(client, Answer):
        return client
    did = f"accepts the bind to {names(interfaces)}" if interfaces else "answers a bind"
    return Answer(True, f"{did} on {service.port}")


def find_port(interface: Syntax, mapper_port: int, preferred: int | None = None) -> Part[int | Answer]:
    """Ask the endpoint mapper for the interface's port, ``preferred`` if that is among them; or why there is none."""
    client = yield from _bound(mapper_port, (EPM,))
    if isinstance(client, Answer):
        return client
    return (yield from _port(client, mapper_port, interface, preferred))


def _mapper(port: int) -> Steps:
    """The endpoint mapper itself: up when it answers a question, whatever the answer."""
    client = yield from _bound(port, (EPM,))
    if isinstance(client, Answer):
        return client
    reply = yield from _mapped(client, port, EPM)
    return reply if isinstance(reply, Answer) else Answer(True, f"answers ept_map on {port}")


def _bound(
    port: int, interfaces: Sequence[Syntax], remark: str = "", *, any_answer: bool = False
) -> Part[RpcClient | Answer]:
    """Connect and bind: the client, or why not. With ``any_answer`` a server that rejects the interface will do."""
    client = RpcClient(limit=LIMIT)
    yield Dial(port, remark)
    match (yield from _event(client, f"answer the bind to {names(interfaces)}", client.bind(*interfaces))):
        case Bound(results=results):
            rejected = {i: r for i, r in zip(interfaces, results, strict=True) if not r.accepted}
            if not rejected or any_answer:
                return client
            why = next(REASONS.get(r.reason, f"result {r.result}, reason {r.reason}") for r in rejected.values())
            return Answer(False, f"rejects the bind to {names(rejected)} on {port}{remark}: {why}")
        case BindRefused(reason=reason, status=status):
            why = NAK_REASONS.get(reason, f"reason {reason}") if status is None else f"fault {status:08X}"
            return Answer(False, f"refuses the bind to {names(interfaces)} on {port}{remark}: {why}")
        case other:
            return Answer(False, f"answers the bind on {port} with {type(other).__name__}")


def _port(client: RpcClient, mapper_port: int, interface: Syntax, preferred: int | None) -> Part[int | Answer]:
    """Where the mapper says the interface is."""
    reply = yield from _mapped(client, mapper_port, interface)
    if isinstance(reply, Answer):
        return reply
    ports = [t.port for t in reply.towers if t.transport == TCP and t.port and same_uuid(t.interface, interface.uuid)]
    if not ports:
        known = "not registered" if reply.status in (OK, NOT_REGISTERED) else f"status {reply.status:08X}"
        return Answer(False, f"has no TCP port for {names([interface])}: its endpoint mapper says {known}")
    return preferred if preferred in ports else ports[0]


def _mapped(client: RpcClient, port: int, interface: Syntax) -> Part[EptMapReply | Answer]:
    call = client.call(EPM, EPT_MAP, question(interface))
    match (yield from _event(client, f"answer ept_map for {names([interface])}", call)):
        case Reply(stub=stub, order=order, ndr64=ndr64):
            return (remembered if len(stub) <= SHORT_STUB else EptMapReply.decode)(stub, order, ndr64)
        case Failed(status=status):
            return Answer(False, f"answers ept_map for {names([interface])} on {port} with fault {status:08X}")
        case other:
            return Answer(False, f"answers ept_map on {port} with {type(other).__name__}")


def _event(client: RpcClient, what: str, data: bytes) -> Part[ClientEvent]:
    """Send, and wait for what the server says to it. Raises what is wrong with its bytes."""
    while True:
        events = client.receive((yield Ask(what, data)))
        for event in events:
            if isinstance(event, Broken):
                raise event.error
            if not isinstance(event, ShutdownAsked):
                return event
        data = b""


@lru_cache(maxsize=1024)
def remembered(stub: bytes, order: Order, ndr64: bool) -> EptMapReply:
    """A mapper says the same, octet for octet, at every probe: reading it once is enough."""
    return EptMapReply.decode(stub, order, ndr64)


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


def names(interfaces: Iterable[Syntax]) -> str:
    """As administrators call them."""
    return " and ".join(name(i) for i in interfaces)


@lru_cache(maxsize=1024)
def name(interface: Syntax) -> str:
    """As administrators call it."""
    return NAMES.get(interface, str(interface))


def same_uuid(interface: Syntax | None, uuid: UUID) -> bool:
    """Mappers answer with the version that the server registered, which may be a later one."""
    return interface is not None and interface.uuid == uuid
