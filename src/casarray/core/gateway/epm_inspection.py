"""One connection to the endpoint mapper, watched from the middle.

Every PDU of both sides is decoded, and must be in its turn, before it goes on; it goes on as it came, octet for octet.
Only the answers to `ept_map` and `ept_lookup` are held until their last fragment is there: then the IPv4 host of each
tower becomes the array's address, in place, and the ports they name are asked for *before* the answer leaves, since
the client dials the moment it has read it.

What is remembered, and so what bounds the memory of a connection:

- one incomplete PDU of each side, no larger than the two sides agreed on when they bound ([C706] 12.6.4.3);
- what an `AssociationView` keeps: contexts, and calls that are not answered;
- the fragments of the one answer that is held.

An answer with an authentication trailer cannot be changed without breaking its signature, so it passes as it is and
a policy says what the client may reach ([MS-RPCE] 2.2.2.11).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address

from casarray.core.dcerpc.association import AssociationView, State, WatchedCall
from casarray.core.dcerpc.cursor import Order
from casarray.core.dcerpc.interfaces.epm import EPM, EPT_LOOKUP, EPT_MAP, EptLookupReply, EptMapReply
from casarray.core.dcerpc.pdu import (
    DEFAULT_FRAGMENT,
    SMALLEST_FRAGMENT,
    BindAck,
    Fault,
    Pdu,
    PduType,
    Response,
    decode_pdu,
    whole_size,
)
from casarray.core.dcerpc.syntax import NDR, NDR64
from casarray.core.dcerpc.tower import TCP, Tower
from casarray.core.errors import OutOfTurn, WireError
from casarray.core.gateway.layer import (
    Answered,
    ClientClosed,
    Close,
    Command,
    EndToServer,
    Event,
    FromClient,
    FromServer,
    OpenPinholes,
    OpenRange,
    SendToClient,
    SendToServer,
    ServerClosed,
)

CALLS = {EPT_LOOKUP: "ept_lookup", EPT_MAP: "ept_map"}
NOBODY = bytes(4)  # 0.0.0.0: "the host that you asked"
OUT_OF_TURN = "out-of-turn"  # the kind of a PDU that is right, but not now
_STUB_AT = 24  # in every response


@dataclass(frozen=True, slots=True)
class PortPolicy:
    """What an answer may open. The same for all connections of an array."""

    dynamic: tuple[int, int] = (1024, 65535)  # first and last port a member may give out
    static: frozenset[int] = frozenset()  # ports that are open for everybody anyhow
    range_when_unreadable: bool = False  # an authenticated answer opens the whole dynamic range, instead of nothing

    def pinholes(self, towers: Iterable[Tower]) -> tuple[int, ...]:
        """The TCP ports of these towers that need a pinhole, each once, in their order."""
        first, last = self.dynamic
        ports = dict.fromkeys(tower.port for tower in towers if tower.transport == TCP)
        return tuple(p for p in ports if p is not None and first <= p <= last and p not in self.static)


@dataclass(frozen=True, slots=True)
class InspectionLimits:
    """What one connection may make us remember."""

    fragment: int = DEFAULT_FRAGMENT  # octets of a PDU, until the two sides have agreed on a size
    held: int = 256 * 1024  # octets of an answer that is not complete
    fragments: int = 256  # of it
    calls: int = 64  # that are not answered
    contexts: int = 256  # presentation contexts


class _Side:
    """What one side has sent that is not a whole PDU yet."""

    __slots__ = ("count", "largest", "unread")

    def __init__(self, largest: int) -> None:
        self.unread = bytearray()
        self.largest = largest
        self.count = 0

    def pdus(self, data: bytes) -> Iterator[Pdu]:
        """The PDUs that are whole now. Raises `WireError` after those before the bad one."""
        if not self.unread and whole_size(data, self.largest) == len(data):
            self.count += 1
            yield decode_pdu(data)  # it came in one piece, as nearly all do
            return
        self.unread += data
        while (size := whole_size(self.unread, self.largest)) is not None:
            pdu = decode_pdu(bytes(self.unread[:size]))
            del self.unread[:size]
            self.count += 1
            yield pdu


class MapperInspection:
    """Stands between one client and one endpoint mapper. No socket, no clock; never raises."""

    def __init__(self, array_address: IPv4Address | None, ports: PortPolicy, limits: InspectionLimits) -> None:
        """``array_address`` is what clients are told; None tells them 0.0.0.0, as to those that came over IPv6."""
        self.ports = ports  # may be replaced at any time
        self._host = array_address.packed if array_address else NOBODY
        self._limits = limits
        self._view = AssociationView(max_outstanding=limits.calls, max_contexts=limits.contexts)
        self._client = _Side(limits.fragment)
        self._server = _Side(limits.fragment)
        self._held: list[Response] = []  # the fragments so far of an answer
        self._held_octets = 0
        self._passing: int | None = None  # the call whose answer is authenticated and has begun to pass
        self._client_ended = False
        self._over = False

    @property
    def client_pdus(self) -> int:
        """How many whole PDUs the client has sent."""
        return self._client.count

    @property
    def server_pdus(self) -> int:
        """How many whole PDUs the server has sent."""
        return self._server.count

    @property
    def client_owes_octets(self) -> bool:
        """The client has begun a PDU."""
        return bool(self._client.unread)

    @property
    def server_owes_answers(self) -> bool:
        """Something that the client asked is not answered."""
        return self._view.outstanding > 0 or self._view.state in (State.BINDING, State.ALTERING)

    def on(self, event: Event) -> list[Command]:
        """What is to be done about the event."""
        match event:
            case FromClient(data):
                return self.from_client(data)
            case FromServer(data):
                return self.from_server(data)
            case ClientClosed():
                return self.client_closed()
            case ServerClosed():
                return self.server_closed()

    def from_client(self, data: bytes) -> list[Command]:
        """The client sent these bytes, cut anywhere."""
        commands: list[Command] = []
        if self._over or self._client_ended:
            return commands
        try:
            for pdu in self._client.pdus(data):
                self._view.client_pdu(pdu)
                commands.append(SendToServer(pdu.raw))
        except WireError as wrong:
            commands.append(self._close(wrong.kind))
        except OutOfTurn:
            commands.append(self._close(OUT_OF_TURN))
        return commands

    def from_server(self, data: bytes) -> list[Command]:
        """The server sent these bytes, cut anywhere."""
        commands: list[Command] = []
        if self._over:
            return commands
        try:
            for pdu in self._server.pdus(data):
                commands += self._from_server(pdu)
        except WireError as wrong:
            commands.append(self._close(wrong.kind))
        except OutOfTurn:
            commands.append(self._close(OUT_OF_TURN))
        if self._client_ended and not self._over and not self.server_owes_answers:
            commands.append(self._close())
        return commands

    def client_closed(self) -> list[Command]:
        """The client will send nothing more."""
        if self._over or self._client_ended:
            return []
        if self._client.unread:
            return [self._close("truncated")]
        self._client_ended = True
        # One that waits for no answer has gone, and both sides can end at once.
        return [EndToServer()] if self.server_owes_answers else [self._close()]

    def server_closed(self) -> list[Command]:
        """The server will send nothing more, so there is nothing left for the client to ask."""
        if self._over:
            return []
        return [self._close("truncated" if self._server.unread or self._held else "")]

    def _close(self, kind: str = "") -> Close:
        self._over = True
        self._held.clear()
        self._client.unread.clear()
        self._server.unread.clear()
        return Close(kind)

    def _from_server(self, pdu: Pdu) -> Iterable[Command]:
        """What is to be done about a PDU of the server's."""
        call = self._view.server_pdu(pdu)
        match pdu:
            case Response() if call and call.opnum in CALLS and call.interface and call.interface.uuid == EPM.uuid:
                return self._answer(call, pdu)
            case BindAck() if pdu.type is PduType.BIND_ACK:
                self._client.largest = max(SMALLEST_FRAGMENT, pdu.max_recv)
                self._server.largest = max(SMALLEST_FRAGMENT, pdu.max_xmit)
            case Fault() if self._held and self._held[0].call_id == pdu.call_id:
                self._held.clear()  # an answer that broke off in the middle
        return (SendToClient(pdu.raw),)

    def _answer(self, call: WatchedCall, fragment: Response) -> Iterable[Command]:
        """One fragment of an answer that names endpoints. The view has seen to it that answers do not interleave."""
        if fragment.first:
            self._held.clear()
            self._held_octets = 0
            self._passing = call.call_id if fragment.auth is not None else None
        if (fragment.auth is not None) is not (self._passing is not None):
            raise WireError("fragment", f"the answer to call {call.call_id} is authenticated in part")
        if self._passing is not None:
            return self._pass_authenticated(call, fragment)
        self._held.append(fragment)
        self._held_octets += len(fragment.raw)
        if self._held_octets > self._limits.held or len(self._held) > self._limits.fragments:
            raise WireError("oversize", f"an answer of {self._held_octets} octets in {len(self._held)} fragments")
        return self._whole(call) if fragment.last else ()

    def _pass_authenticated(self, call: WatchedCall, fragment: Response) -> Iterable[Command]:
        commands: list[Command] = []
        if fragment.first and self.ports.range_when_unreadable:
            commands.append(OpenRange())
        commands.append(SendToClient(fragment.raw))
        if fragment.last:
            self._passing = None
            commands.append(Answered(CALLS[call.opnum], 0, authenticated=True))
        return commands

    def _whole(self, call: WatchedCall) -> Iterable[Command]:
        """Let a whole answer go, with the array's address in it, after the ports that it names."""
        held, self._held = self._held, []
        if len(held) > 1 and any(fragment.order != held[0].order for fragment in held):
            raise WireError("fragment", "an answer in two byte orders")
        if call.transfer not in (NDR, NDR64):
            raise WireError("syntax", f"an answer in {call.transfer}, which cannot be read")
        stub = held[0].stub if len(held) == 1 else b"".join(fragment.stub for fragment in held)
        read = _read_again if len(stub) <= _WORTH_KEEPING else _read
        answer = read(call.opnum, stub, (held[0].order, call.ndr64), self._host, self.ports)
        commands: list[Command] = []
        if answer.ports:
            commands.append(OpenPinholes(answer.ports))
        at = 0
        for fragment in held:
            end = at + len(fragment.stub)
            whole = fragment.raw[:_STUB_AT] + answer.stub[at:end] if answer.rewritten else fragment.raw
            commands.append(SendToClient(whole))
            at = end
        commands.append(Answered(CALLS[call.opnum], answer.rewritten))
        return commands


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer that was read."""

    ports: tuple[int, ...]  # that need a pinhole
    stub: bytes  # with the array's address in its towers
    rewritten: int  # towers that were changed


def _read(opnum: int, stub: bytes, encoding: tuple[Order, bool], host: bytes, policy: PortPolicy) -> _Answer:
    """What an answer says, and how it goes on. ``encoding``: its byte order, and whether it is NDR64."""
    towers = _towers(opnum, stub, *encoding)
    moved = bytearray(stub)
    rewritten = 0
    for tower, begin in towers:
        if (host_at := tower.host_at) is None:
            continue
        at = begin + host_at
        if moved[at : at + 4] not in (NOBODY, host):
            moved[at : at + 4] = host
            rewritten += 1
    return _Answer(policy.pinholes(tower for tower, _ in towers), bytes(moved), rewritten)


#: Thousands of clients ask the same few questions, and a member answers them with the same octets.
_read_again = lru_cache(maxsize=256)(_read)
_WORTH_KEEPING = 1024  # octets: what is kept for all arrays together stays within a megabyte


def _towers(opnum: int, stub: bytes, order: Order, ndr64: bool) -> list[tuple[Tower, int]]:
    """The towers of an answer, and where in the stub each one's octets begin."""
    if opnum == EPT_MAP:
        mapped = EptMapReply.decode(stub, order, ndr64)
        return list(zip(mapped.towers, mapped.towers_at, strict=True))
    found = EptLookupReply.decode(stub, order, ndr64)
    pairs = zip(found.entries, found.towers_at, strict=True)
    return [(entry.tower, at) for entry, at in pairs if entry.tower is not None and at is not None]
