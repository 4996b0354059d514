"""Asks a server's endpoint mapper where the interfaces of the two services are: the last word on their ports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from casarray.core.dcerpc.client import BindRefused, Bound, Broken, ClientEvent, Failed, Reply, RpcClient, ShutdownAsked
from casarray.core.dcerpc.interfaces.epm import EPM, EPT_MAP, NOT_REGISTERED, OK, EptMapReply
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.dcerpc.tower import TCP
from casarray.core.health.conversation import Answer, Ask, Dial, Steps
from casarray.core.health.rpc import LIMIT, NAK_REASONS, Part, name, question, same_uuid

Ports = dict[Syntax, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Answers:
    """What one server's endpoint mapper said: the TCP ports of each interface, none when it is not registered."""

    server: str
    ports: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # by name: EMSMDB, NSPI, RFR
    reason: str = ""  # why it said nothing; then `ports` is empty

    @property
    def answered(self) -> bool:
        """Whether the mapper could be asked."""
        return not self.reason


def answers(server: str, found: Ports, end: Answer) -> Answers:
    """What came of a conversation that ended so."""
    if not end.up:
        return Answers(server, {}, end.reason)
    return Answers(server, {name(interface): ports for interface, ports in found.items()})


def asking(mapper_port: int, interfaces: Sequence[Syntax], found: Ports) -> Steps:
    """The conversation; what the mapper says goes into ``found``. Up when every question was answered."""
    client = RpcClient(limit=LIMIT)
    yield Dial(mapper_port)
    match (yield from _event(client, "answer the bind to the endpoint mapper", client.bind(EPM))):
        case Bound() if client.accepts(EPM):
            pass
        case BindRefused(reason=reason, status=status):
            why = NAK_REASONS.get(reason, f"reason {reason}") if status is None else f"fault {status:08X}"
            return Answer(False, f"refuses to be asked for ports on {mapper_port}: {why}")
        case _:
            return Answer(False, f"has no endpoint mapper on {mapper_port}, but something else")
    for interface in interfaces:
        call = client.call(EPM, EPT_MAP, question(interface))
        match (yield from _event(client, f"answer ept_map for {name(interface)}", call)):
            case Reply(stub=stub, order=order, ndr64=ndr64):
                reply = EptMapReply.decode(stub, order, ndr64)
            case Failed(status=status):
                return Answer(False, f"answers ept_map for {name(interface)} with fault {status:08X}")
            case _:
                return Answer(False, f"answers ept_map for {name(interface)} with something else")
        if reply.status not in (OK, NOT_REGISTERED):
            return Answer(False, f"answers ept_map for {name(interface)} with status {reply.status:08X}")
        ports = (t.port for t in reply.towers if t.transport == TCP and same_uuid(t.interface, interface.uuid))
        found[interface] = tuple(sorted({port for port in ports if port}))
    return Answer(True, f"answers on {mapper_port}")


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
