"""A client and an endpoint mapper joined in memory, with the inspection between them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from casarray.core.dcerpc.association import ClientEvent, RpcClient, RpcServer
from casarray.core.dcerpc.cursor import Order
from casarray.core.dcerpc.endpoint_map import EndpointMap
from casarray.core.dcerpc.interfaces.epm import EPM, Entry
from casarray.core.dcerpc.syntax import NDR, Syntax
from casarray.core.gateway.epm_inspection import InspectionLimits, MapperInspection, PortPolicy
from casarray.core.gateway.layer import Command, Event, FromClient, FromServer, SendToClient, SendToServer

ARRAY = IPv4Address("10.11.0.100")
MEMBER = IPv4Address("10.12.0.21")


def inspection(
    address: IPv4Address | None = ARRAY, ports: PortPolicy | None = None, limits: InspectionLimits | None = None
) -> MapperInspection:
    """One to try."""
    return MapperInspection(address, ports or PortPolicy(), limits or InspectionLimits())


def tell(layer: MapperInspection, events: Iterable[Event]) -> list[Command]:
    """Everything that is to be done about these."""
    return [command for event in events for command in layer.on(event)]


def to_client(commands: Iterable[Command]) -> bytes:
    """What reaches the client."""
    return b"".join(c.data for c in commands if isinstance(c, SendToClient))


def to_server(commands: Iterable[Command]) -> bytes:
    """What reaches the server."""
    return b"".join(c.data for c in commands if isinstance(c, SendToServer))


@dataclass
class Middle:
    """Carries bytes to and fro, and keeps what was said and ordered."""

    entries: tuple[Entry, ...] = ()
    order: Order = "little"
    transfer: tuple[Syntax, ...] = (NDR,)
    max_fragment: int = 5840
    page: int = 500
    layer: MapperInspection = field(default_factory=inspection)
    events: list[Event] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = RpcClient(order=self.order, max_fragment=self.max_fragment)
        mapper = EndpointMap(self.entries, page=self.page)
        self.server = RpcServer({EPM: mapper}, transfer=self.transfer, max_fragment=self.max_fragment)
        self.events_of_client: list[ClientEvent] = []

    def say(self, data: bytes) -> list[Command]:
        """The client says this; what is ordered until both are silent."""
        self.events.append(FromClient(data))
        ordered = self.layer.from_client(data)
        if answer := self.server.serve(to_server(ordered)):
            self.events.append(FromServer(answer))
            ordered += self.layer.from_server(answer)
        self.events_of_client = self.client.receive(to_client(ordered))
        self.commands += ordered
        return ordered

    def bind(self, *interfaces: Syntax) -> list[Command]:
        """Bind to the mapper, and to others."""
        return self.say(self.client.bind(EPM, *interfaces, transfer=self.transfer))
