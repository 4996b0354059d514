"""A client and a proxy joined in memory: what one says is cut into pieces and given to the other."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from uuid import UUID

from casarray.core.dcerpc.pdu import Response
from casarray.core.rpc_http import client, proxy
from casarray.core.rpc_http.client import Cookies, VirtualConnection
from casarray.core.rpc_http.messages import ConnA1, ConnB1, InR1A1, OutR2A3
from casarray.core.rpc_http.proxy import ProxiedConnection, Settings
from casarray.core.rpc_http.rts import decode_rts, take_all

COOKIES = Cookies(UUID(int=1), UUID(int=2), UUID(int=3), UUID(int=4))


def rpc(number: int, octets: int = 200) -> bytes:
    """A PDU of RPC that can be told from others, of so many octets."""
    return Response(call_id=number, context_id=0, stub=bytes(octets - 24)).encode()


def drawing(start: int = 100) -> Iterator[UUID]:
    return (UUID(int=number) for number in count(start))


@dataclass
class Wire:
    """One HTTP connection: its first words, and then PDUs."""

    out: bool
    unread: bytearray = field(default_factory=bytearray)
    first: bool = True
    answer: bytearray = field(default_factory=bytearray)  # what the client has not been given yet
    begun: bool = False
    ended: bool = False


class Pair:
    """Both ends, and the server behind the proxy, which is a list."""

    def __init__(self, settings: Settings | None = None, *, lifetime: int = 1 << 30, window: int = 65536) -> None:
        draw = drawing()
        self.now = 0.0
        self.client = VirtualConnection(COOKIES, 0.0, draw=lambda: next(draw), lifetime=lifetime, window=window)
        self.proxy = ProxiedConnection(COOKIES.connection, settings or Settings(), 0.0)
        self.wires: dict[int, Wire] = {}
        self.in_channel, self.out_channel = self._wire(out=False), self._wire(out=True)
        self.next_in = self.next_out = 0
        self.to_server: list[bytes] = []
        self.to_client: list[bytes] = []
        self.opened = False
        self.refused: list[str] = []
        self.broken: str | None = None  # the client's reason
        self.closed: proxy.Close | None = None
        self.replaced = {"in": 0, "out": 0}
        self._todo: deque[Callable[[], None]] = deque()  # in its order, as a network would have it
        self._busy = False

    def _wire(self, *, out: bool) -> int:
        number = len(self.wires) + 1
        self.wires[number] = Wire(out)
        return number

    def open(self) -> None:
        self.write(self.out_channel, self.client.first_out)
        self.write(self.in_channel, self.client.first_in)

    def write(self, number: int, data: bytes) -> None:
        """The client writes on one of its requests."""
        wire = self.wires[number]
        wire.unread += data
        for raw in take_all(wire.unread):
            if not wire.first:
                take = self.proxy.from_out if wire.out else self.proxy.from_in
                self.obey(take(number, raw, self.now))
                continue
            wire.first = False
            rts = decode_rts(raw)
            if wire.out:
                words = ConnA1.read(rts) if ConnA1.matches(rts) else OutR2A3.read(rts)
                self.obey(self.proxy.out_channel(number, words, self.now))
            else:
                begin = ConnB1.read(rts) if ConnB1.matches(rts) else InR1A1.read(rts)
                self.obey(self.proxy.in_channel(number, begin, self.now))

    def _work(self, *todo: Callable[[], None]) -> None:
        self._todo += todo
        if self._busy:
            return
        self._busy = True
        while self._todo:
            self._todo.popleft()()
        self._busy = False

    def obey(self, commands: Sequence[proxy.Command]) -> None:
        self._work(*(partial(self._obey, command) for command in commands))

    def do(self, events: Sequence[client.Event]) -> None:
        self._work(*(partial(self._do, event) for event in events))

    def _obey(self, command: proxy.Command) -> None:
        match command:
            case proxy.Connect():
                self.obey(self.proxy.connected(self.now))
            case proxy.Begin(number):
                self.wires[number].begun = True
            case proxy.SendOut(number, data):
                assert self.wires[number].begun
                assert not self.wires[number].ended
                self.wires[number].answer += data
                self.give()
            case proxy.End(number):
                self.wires[number].ended = True
            case proxy.Refuse(_, why):
                self.refused.append(why)
            case proxy.ToServer(data):
                self.to_server.append(data)
            case proxy.Close():
                self.closed = command

    def give(self) -> None:
        """What has come on the client's OUT channel, in two pieces."""
        wire = self.wires[self.out_channel]
        data, wire.answer = bytes(wire.answer), bytearray()
        for part in (data[:7], data[7:]):
            self.do(self.client.from_out(part, self.now))

    def _do(self, event: client.Event) -> None:
        match event:
            case client.SendIn(data):
                self.write(self.in_channel, data)
            case client.OpenIn(data):
                self.next_in = self._wire(out=False)
                self.write(self.next_in, data)
            case client.OpenOut(data):
                self.next_out = self._wire(out=True)
                self.write(self.next_out, data)
            case client.SendOut(data):
                self.write(self.next_out, data)
            case client.SwitchIn():
                self.in_channel = self.next_in
                self.replaced["in"] += 1
            case client.SwitchOut():
                self.out_channel = self.next_out
                self.replaced["out"] += 1
                self.give()
            case client.Opened():
                self.opened = True
            case client.Deliver(data):
                self.to_client.append(data)
            case client.Broken(error):
                self.broken = str(error)

    def call(self, pdu: bytes) -> None:
        self.do(self.client.send(pdu, self.now))

    def answer(self, pdu: bytes) -> None:
        self.obey(self.proxy.from_server(pdu, self.now))
