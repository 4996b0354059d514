"""The client's end of an association, without a socket: what to send comes out as bytes, what arrived as events.

client = RpcClient()
send(client.bind(EPM))
... for event in client.receive(data):      # Bound: client.accepts(EPM) says whether the server has it
send(client.call(EPM, EPT_MAP, EptMap(tower).encode()))
... for event in client.receive(data):      # Reply: EptMapReply.decode(event.stub, event.order, event.ndr64)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from casarray.core.dcerpc.auth import Protection
from casarray.core.dcerpc.cursor import Order
from casarray.core.dcerpc.fragments import MAX_REQUEST, Joiner, split
from casarray.core.dcerpc.pdu import (
    CONCURRENT_MULTIPLEXING,
    DEFAULT_FRAGMENT,
    DID_NOT_EXECUTE,
    HEADER_SIGNING,
    SMALLEST_FRAGMENT,
    WHOLE,
    AlterContext,
    AlterContextResponse,
    Auth,
    Auth3,
    Bind,
    BindAck,
    BindNak,
    CoCancel,
    Context,
    ContextResult,
    Fault,
    Orphaned,
    Pdu,
    Request,
    Response,
    Shutdown,
    take_pdu,
)
from casarray.core.dcerpc.syntax import NDR, NDR64, Syntax, feature_negotiation
from casarray.core.dcerpc.turns import FROM_SERVER, State, step
from casarray.core.errors import Denied, OutOfTurn, WireError

MAX_OUTSTANDING: Final = 256


@dataclass(frozen=True, slots=True)
class Broken:
    """The last event there is: these bytes cannot be right, or came out of turn. Close the connection."""

    error: WireError | OutOfTurn | Denied


@dataclass(frozen=True, slots=True)
class Bound:
    """The answer to a bind or an alter_context: one result for each context that was offered, in that order."""

    results: tuple[ContextResult, ...]
    group_id: int
    auth: Auth | None = None  # the server's leg of the authentication
    header_signing: bool = False  # whether the server signs headers, as the bind asked for


@dataclass(frozen=True, slots=True)
class BindRefused:
    """The bind was refused as a whole: `NakReason`, or the status of a fault."""

    reason: int
    versions: tuple[tuple[int, int], ...] = ()
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A call was answered. Decode the stub in the server's byte order and the context's transfer syntax."""

    call_id: int
    stub: bytes
    order: Order = "little"
    ndr64: bool = False
    auth: Auth | None = None  # of an answer that came in one piece


@dataclass(frozen=True, slots=True)
class Failed:
    """A call was answered with a fault."""

    call_id: int
    status: int
    did_not_execute: bool = False


@dataclass(frozen=True, slots=True)
class ShutdownAsked:
    """The server would like the connection closed."""


ClientEvent = Bound | BindRefused | Reply | Failed | ShutdownAsked | Broken


class RpcClient:
    """One connection, seen from its client. Methods that send return the bytes and raise `OutOfTurn` when it is not
    their turn. Memory: one PDU, one answer of at most ``limit`` octets, ``MAX_OUTSTANDING`` calls."""

    def __init__(
        self,
        *,
        order: Order = "little",
        max_fragment: int = DEFAULT_FRAGMENT,
        limit: int = MAX_REQUEST,
    ) -> None:
        self.state = State.IDLE
        self.group_id = 0
        self.last_call_id = 0  # of the bind, alter_context or call made last
        self.protection: Protection | None = None  # what calls get from now on, once somebody has authenticated
        self._order: Order = order
        self._max_fragment = max_fragment
        self._max_xmit = max_fragment
        self._unread = bytearray()
        self._joiner = Joiner(limit)
        self._offers: dict[int, tuple[Context, ...]] = {}  # binds and alter_contexts without an answer, by call id
        self._bind_id = 0
        self._next_context = 0
        self._contexts: dict[Syntax, tuple[int, Syntax]] = {}  # interface -> context id, transfer syntax
        self._calls: dict[int, bool] = {}  # outstanding call id -> whether NDR64
        self._orphans: set[int] = set()  # those among them whose answer nobody wants

    def bind(
        self,
        *interfaces: Syntax,
        transfer: Sequence[Syntax] = (NDR,),
        features: int | None = None,
        group_id: int = 0,
        auth: Auth | None = None,
        header_signing: bool = False,
    ) -> bytes:
        """Open the association: each interface in each transfer syntax is a context of its own, as Windows does it.

        ``features`` adds a bind-time feature negotiation. `Bound` or `BindRefused` answers.
        """
        self.state = step(self.state, Bind.type)
        offered = self._offer(interfaces, transfer)
        if features is not None and interfaces:
            offered += (Context(self._next_context, interfaces[0], (feature_negotiation(features),)),)
            self._next_context += 1
        bind = Bind(
            call_id=self._new_call_id(),
            flags=WHOLE | CONCURRENT_MULTIPLEXING | (HEADER_SIGNING if header_signing else 0),
            order=self._order,
            auth=auth,
            contexts=offered,
            max_xmit=self._max_fragment,
            max_recv=self._max_fragment,
            group_id=group_id,
        )
        self._offers[bind.call_id] = offered
        self._bind_id = bind.call_id
        return bind.encode()

    def alter(self, *interfaces: Syntax, transfer: Sequence[Syntax] = (NDR,), auth: Auth | None = None) -> bytes:
        """Add interfaces, or go on authenticating. `Bound` answers, or `Failed`."""
        self.state = step(self.state, AlterContext.type)
        offered = self._offer(interfaces, transfer)
        alter = AlterContext(
            call_id=self._new_call_id(),
            order=self._order,
            auth=auth,
            contexts=offered,
            max_xmit=self._max_fragment,
            max_recv=self._max_fragment,
            group_id=self.group_id,
        )
        self._offers[alter.call_id] = offered
        return alter.encode()

    def auth3(self, auth: Auth) -> bytes:
        """The third leg of an authentication, which nobody answers."""
        self.state = step(self.state, Auth3.type)
        return Auth3(call_id=self._bind_id, order=self._order, auth=auth).encode()

    def accepts(self, interface: Syntax) -> bool:
        """Whether the server took this interface."""
        return interface in self._contexts

    def ndr64(self, interface: Syntax) -> bool:
        """Whether calls of this interface are to be encoded in NDR64."""
        return self._context(interface)[1] == NDR64

    def call(self, interface: Syntax, opnum: int, stub: bytes, *, object: UUID | None = None) -> bytes:  # noqa: A002 - IDL's word
        """Make a call; its id is then ``last_call_id``. `Reply` or `Failed` answers."""
        self.state = step(self.state, Request.type)
        context_id, transfer = self._context(interface)
        if len(self._calls) >= MAX_OUTSTANDING:
            raise OutOfTurn(f"{MAX_OUTSTANDING} calls are outstanding")
        request = Request(
            call_id=self._new_call_id(),
            order=self._order,
            context_id=context_id,
            opnum=opnum,
            stub=stub,
            object=object,
        )
        self._calls[request.call_id] = transfer == NDR64
        if (protection := self.protection) is None:
            return b"".join(fragment.encode() for fragment in split(request, self._max_xmit))
        marked = protection.mark(request)
        return b"".join(protection.protect(fragment) for fragment in split(marked, self._max_xmit))

    def cancel(self, call_id: int) -> bytes:
        """Ask the server not to finish a call; it is still answered."""
        self.state = step(self.state, CoCancel.type)
        return CoCancel(call_id=call_id, order=self._order).encode()

    def orphan(self, call_id: int) -> bytes:
        """Give a call up; an answer that still comes is not reported."""
        self.state = step(self.state, Orphaned.type)
        if call_id in self._calls:
            self._orphans.add(call_id)
        return Orphaned(call_id=call_id, order=self._order).encode()

    def receive(self, data: bytes) -> list[ClientEvent]:
        """Take in bytes, cut anywhere; what has happened. After `Broken` there is nothing more to receive."""
        if self.state is State.CLOSED:
            raise OutOfTurn("the association is closed")
        self._unread += data
        events: list[ClientEvent] = []
        try:
            while (pdu := take_pdu(self._unread, self._max_fragment)) is not None:
                self._on(pdu, events)
        except (WireError, OutOfTurn, Denied) as error:
            self.state = State.CLOSED
            self._unread.clear()
            self._joiner.drop()
            self._calls.clear()
            self._orphans.clear()
            self._offers.clear()
            events.append(Broken(error))
        return events

    def _on(self, pdu: Pdu, events: list[ClientEvent]) -> None:
        if pdu.type not in FROM_SERVER:
            raise OutOfTurn(f"{pdu.type.name} from a server")
        before, self.state = self.state, step(self.state, pdu.type)
        match pdu:
            case Response():
                self._on_response(pdu, events)
            case Fault():
                self._on_fault(pdu, before, events)
            case BindAck():  # and the answer to an alter_context
                self._on_ack(pdu, events)
            case BindNak():
                self._answered_offer(pdu)
                events.append(BindRefused(pdu.reason, pdu.versions))
            case Shutdown():
                events.append(ShutdownAsked())
        if before is State.ALTERING:
            self.state = State.ALTERING if self._offers else State.BOUND

    def _on_response(self, pdu: Response, events: list[ClientEvent]) -> None:
        if pdu.call_id not in self._calls:
            raise OutOfTurn(f"an answer to call {pdu.call_id}, which was not made")
        if self.protection is not None:
            pdu = self.protection.reveal(pdu)
        if (whole := self._joiner.add(pdu)) is not None:
            ndr64 = self._calls.pop(whole.call_id)
            if whole.call_id in self._orphans:
                self._orphans.discard(whole.call_id)
                return
            events.append(Reply(whole.call_id, whole.stub, whole.order, ndr64, whole.auth))

    def _on_fault(self, pdu: Fault, before: State, events: list[ClientEvent]) -> None:
        if before is State.BINDING:
            self._answered_offer(pdu)
            events.append(BindRefused(0, (), pdu.status))
            return
        if pdu.call_id in self._offers:
            del self._offers[pdu.call_id]
        elif pdu.call_id in self._calls:
            del self._calls[pdu.call_id]
            if self._joiner.open_call == pdu.call_id:
                self._joiner.drop()
            if pdu.call_id in self._orphans:
                self._orphans.discard(pdu.call_id)
                return
        else:
            raise OutOfTurn(f"a fault for call {pdu.call_id}, which was not made")
        events.append(Failed(pdu.call_id, pdu.status, bool(pdu.flags & DID_NOT_EXECUTE)))

    def _on_ack(self, pdu: BindAck, events: list[ClientEvent]) -> None:
        offered = self._answered_offer(pdu)
        if len(pdu.results) != len(offered):
            raise WireError("results", f"{len(pdu.results)} results for {len(offered)} contexts")
        for context, result in zip(offered, pdu.results, strict=True):
            if not result.accepted:
                continue
            if result.transfer not in context.transfers:
                raise WireError("results", f"context {context.id} accepted in {result.transfer}, which was not offered")
            self._contexts[context.interface] = (context.id, result.transfer)
        if not isinstance(pdu, AlterContextResponse):
            self._max_xmit = max(min(self._max_fragment, pdu.max_recv), SMALLEST_FRAGMENT)
            self.group_id = pdu.group_id
        events.append(Bound(pdu.results, pdu.group_id, pdu.auth, bool(pdu.flags & HEADER_SIGNING)))

    def _answered_offer(self, pdu: Pdu) -> tuple[Context, ...]:
        offered = self._offers.pop(pdu.call_id, None)
        if offered is None:
            raise OutOfTurn(f"{pdu.type.name} for call {pdu.call_id}, which was not made")
        return offered

    def _context(self, interface: Syntax) -> tuple[int, Syntax]:
        try:
            return self._contexts[interface]
        except KeyError:
            raise OutOfTurn(f"{interface} is not bound") from None

    def _offer(self, interfaces: Sequence[Syntax], transfer: Sequence[Syntax]) -> tuple[Context, ...]:
        offered = []
        for interface in interfaces:
            for syntax in transfer:
                offered.append(Context(self._next_context, interface, (syntax,)))
                self._next_context += 1
        return tuple(offered)

    def _new_call_id(self) -> int:
        self.last_call_id += 1
        return self.last_call_id
