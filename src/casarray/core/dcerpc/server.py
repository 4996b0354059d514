"""The server's end of an association, without a socket.

The short way, when every call can be answered at once::

    server = RpcServer({EPM: endpoint_map})           # interface -> function from a Call to a stub, or to a status
    send(server.serve(data)); if server.closed: close()

The long way, when an answer may take its time (or never come)::

    for event in server.receive(data):
        match event:
            case Send(octets): send(octets)
            case Call(): ... later: send(event.reply(stub)) or send(event.fault(status))
            case Cancelled() | Orphan(): ...           # the client lost interest in event.call_id
            case Broken(): close()
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from casarray.core.dcerpc.auth import Caller, ServerAuth
from casarray.core.dcerpc.client import Broken
from casarray.core.dcerpc.cursor import Order
from casarray.core.dcerpc.fragments import MAX_REQUEST, Joiner, split
from casarray.core.dcerpc.groups import AssociationGroups
from casarray.core.dcerpc.interfaces.mgmt import (
    INQ_IF_IDS,
    IS_SERVER_LISTENING,
    MGMT,
    InqIfIdsReply,
    IsServerListeningReply,
)
from casarray.core.dcerpc.pdu import (
    CONCURRENT_MULTIPLEXING,
    DEFAULT_FRAGMENT,
    DID_NOT_EXECUTE,
    HEADER_SIGNING,
    HEADER_SIZE,
    MAYBE,
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
    NakReason,
    Orphaned,
    Pdu,
    PduType,
    Reason,
    Request,
    Response,
    Result,
    take_pdu,
)
from casarray.core.dcerpc.syntax import KEEP_ON_ORPHAN, NDR, NDR64, NO_SYNTAX, Syntax
from casarray.core.dcerpc.turns import FROM_CLIENT, State, step
from casarray.core.errors import Denied, OutOfTurn, WireError

# Statuses of a fault. [C706] appendices E and N.2 (nca_s_*), [MS-ERREF].
ACCESS_DENIED: Final = 0x00000005
SECURITY_ERROR: Final = 0x00000721  # a token that is not right
BAD_STUB_DATA: Final = 0x000006F7
OP_RANGE_ERROR: Final = 0x1C010002
UNKNOWN_INTERFACE: Final = 0x1C010003
PROTOCOL_ERROR: Final = 0x1C01000B
SERVER_TOO_BUSY: Final = 0x1C010014
CONTEXT_MISMATCH: Final = 0x1C00001A

MAX_CONTEXTS: Final = 256
MAX_OUTSTANDING: Final = 64


@dataclass(frozen=True, slots=True)
class Send:
    """Octets for the client."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The client would rather not have this call finished; it still wants an answer."""

    call_id: int


@dataclass(frozen=True, slots=True)
class Orphan:
    """The client gave up on this call and wants no answer."""

    call_id: int


class Call:
    """One whole call, to be answered once: now, later, or never."""

    __slots__ = ("_request", "_server", "interface", "transfer")

    def __init__(self, server: "RpcServer", request: Request, interface: Syntax, transfer: Syntax) -> None:
        self._server = server
        self._request = request
        self.interface = interface
        self.transfer = transfer

    @property
    def call_id(self) -> int:
        """The client's number for it."""
        return self._request.call_id

    @property
    def opnum(self) -> int:
        """Which operation of the interface."""
        return self._request.opnum

    @property
    def stub(self) -> bytes:
        """The arguments, in ``order`` and NDR, or NDR64 where ``ndr64``."""
        return self._request.stub

    @property
    def order(self) -> Order:
        """The client's byte order; the answer is sent in the same."""
        return self._request.order

    @property
    def ndr64(self) -> bool:
        """Whether stubs are NDR64."""
        return self.transfer == NDR64

    @property
    def object(self) -> UUID | None:
        """The object it is about."""
        return self._request.object

    @property
    def auth(self) -> Auth | None:
        """The auth trailer of a call that came in one piece."""
        return self._request.auth

    @property
    def group_id(self) -> int:
        """The association group, for which context handles are valid."""
        return self._server.group_id

    @property
    def caller(self) -> Caller | None:
        """Who calls, where the connection is authenticated by a `ServerAuth`."""
        return self._server.caller

    def reply(self, stub: bytes) -> bytes:
        """The answer as octets, in as many fragments as it takes; nothing when the client wants none (any more)."""
        if not self._server._finish(self):
            return b""
        response = Response(call_id=self.call_id, order=self.order, context_id=self._request.context_id, stub=stub)
        return self._server._encode(response)

    def fault(self, status: int, *, did_not_execute: bool = False) -> bytes:
        """A fault as octets; nothing when the client wants no answer (any more)."""
        if not self._server._finish(self):
            return b""
        return _fault(self._request, self._request.context_id, status, did_not_execute)


Handler = Callable[[Call], bytes | int]
ServerEvent = Send | Call | Cancelled | Orphan | Broken


class RpcServer:
    """One connection, seen from its server.

    ``interfaces`` are those it has, with the function that answers each (not needed for `receive`). ``transfer`` are
    the transfer syntaxes it speaks, best first; a client gets at most one of them for an interface. The management
    interface is answered here unless it is among ``interfaces``. Memory: one PDU, one call of at most ``limit`` octets,
    ``max_outstanding`` calls. ``auth`` authenticates callers and protects their calls; ``authenticate`` only answers
    tokens, and calls are taken as they come. Without either, a bind that brings a token is refused.
    """

    def __init__(
        self,
        interfaces: Mapping[Syntax, Handler | None] | Iterable[Syntax],
        *,
        transfer: Sequence[Syntax] = (NDR,),
        groups: AssociationGroups | None = None,
        secondary_address: str = "",
        features: int = KEEP_ON_ORPHAN,
        max_fragment: int = DEFAULT_FRAGMENT,
        limit: int = MAX_REQUEST,
        max_outstanding: int = MAX_OUTSTANDING,
        authenticate: Callable[[Auth], Auth | None] | None = None,
        auth: ServerAuth | None = None,
    ) -> None:
        self.state = State.IDLE
        self.group_id = 0
        self.max_xmit = max_fragment
        self._interfaces = dict(interfaces) if isinstance(interfaces, Mapping) else dict.fromkeys(interfaces)
        self._own_mgmt = MGMT not in self._interfaces
        self._transfer = tuple(transfer)
        self._groups = groups if groups is not None else AssociationGroups()
        self._secondary_address = secondary_address.encode("ascii") + b"\0"
        self._features = features
        self._max_fragment = max_fragment
        self._max_recv = max_fragment
        self._max_outstanding = max_outstanding
        self._authenticate = authenticate
        self._auth = auth
        self._unread = bytearray()
        self._joiner = Joiner(limit)
        self._contexts: dict[int, tuple[Syntax, Syntax]] = {}  # context id -> interface, transfer syntax
        self._calls: dict[int, Call] = {}

    @property
    def closed(self) -> bool:
        """Whether the connection has to be closed."""
        return self.state is State.CLOSED

    @property
    def outstanding(self) -> int:
        """Calls that wait for their answer."""
        return len(self._calls)

    @property
    def caller(self) -> Caller | None:
        """Who has bound, as far as that is proven."""
        return None if self._auth is None else self._auth.caller

    def serve(self, data: bytes) -> bytes:
        """Take in bytes and answer every call at once by the interfaces' functions."""
        answer = bytearray()
        for event in self.receive(data):
            if isinstance(event, Send):
                answer += event.data
            elif isinstance(event, Call):
                answer += self.answer(event)
        return bytes(answer)

    def answer(self, call: Call) -> bytes:
        """Answer one call by its interface's function; a stub that it cannot read is a fault of its own."""
        handler = self._interfaces.get(call.interface)
        if handler is None:
            return call.fault(OP_RANGE_ERROR, did_not_execute=True)
        try:
            result = handler(call)
        except WireError:
            return call.fault(BAD_STUB_DATA)
        return call.reply(result) if isinstance(result, bytes) else call.fault(result)

    def receive(self, data: bytes) -> list[ServerEvent]:
        """Take in bytes, cut anywhere; what has happened, in order. After `Broken` there is nothing more to receive."""
        if self.closed:
            raise OutOfTurn("the association is closed")
        self._unread += data
        events: list[ServerEvent] = []
        try:
            while (pdu := take_pdu(self._unread, self._max_recv)) is not None:
                self._on(pdu, events)
        except (WireError, OutOfTurn, Denied) as error:
            if self.state is State.IDLE and _is_bind_of_another_version(self._unread):
                events.append(Send(_version_nak(self._unread)))
            self._break(events, error)
        return events

    def close(self) -> bool:
        """The connection has ended; whether its association group has with it (run down its context handles)."""
        self.state = State.CLOSED
        self._calls.clear()
        self._joiner.drop()
        group_id, self.group_id = self.group_id, 0
        return self._groups.leave(group_id) if group_id else False

    def _break(self, events: list[ServerEvent], error: WireError | OutOfTurn | Denied) -> None:
        self.state = State.CLOSED
        self._unread.clear()
        self._joiner.drop()
        self._calls.clear()
        events.append(Broken(error))

    def _on(self, pdu: Pdu, events: list[ServerEvent]) -> None:
        if pdu.type not in FROM_CLIENT:
            raise OutOfTurn(f"{pdu.type.name} from a client")
        try:
            self.state = step(self.state, pdu.type)
        except OutOfTurn:
            if isinstance(pdu, Request):
                events.append(Send(_fault(pdu, pdu.context_id, PROTOCOL_ERROR, True)))
            elif pdu.type is PduType.BIND:
                events.append(Send(_nak(pdu, NakReason.NOT_SPECIFIED)))
            raise
        match pdu:
            case Request():
                self._on_request(pdu, events)
            case AlterContext():
                self._on_alter(pdu, events)
            case Bind():
                self._on_bind(pdu, events)
            case Auth3() if self._auth is not None:
                self._auth.last_leg(pdu)
            case Auth3():
                self._next_leg(pdu)
            case CoCancel():
                events.append(Cancelled(pdu.call_id))
            case Orphaned():
                if self._joiner.open_call == pdu.call_id:
                    self._joiner.drop()
                self._calls.pop(pdu.call_id, None)
                events.append(Orphan(pdu.call_id))

    def _on_bind(self, pdu: Bind, events: list[ServerEvent]) -> None:
        if pdu.auth is not None and not self._knows(pdu.auth):
            self._refuse(pdu, NakReason.AUTHENTICATION_TYPE_NOT_RECOGNIZED, events)
            return
        try:
            auth = self._next_leg(pdu)
        except Denied:
            self._refuse(pdu, NakReason.INVALID_CHECKSUM, events)
            raise
        group_id = self._groups.join(pdu.group_id)
        if group_id is None:
            self._refuse(pdu, NakReason.NOT_SPECIFIED, events)
            return
        self.group_id = group_id
        self.max_xmit = max(min(self._max_fragment, pdu.max_recv), SMALLEST_FRAGMENT)
        self._max_recv = max(min(self._max_fragment, pdu.max_xmit), SMALLEST_FRAGMENT)
        ack = BindAck(
            call_id=pdu.call_id,
            flags=WHOLE | (pdu.flags & CONCURRENT_MULTIPLEXING) | self._signing(),
            order=pdu.order,
            auth=auth,
            max_xmit=self.max_xmit,
            max_recv=self._max_recv,
            group_id=group_id,
            secondary_address=self._secondary_address,
            results=self._judge(pdu.contexts),
        )
        self.state = step(self.state, ack.type)
        events.append(Send(ack.encode()))

    def _refuse(self, bind: Bind, reason: NakReason, events: list[ServerEvent]) -> None:
        self.state = step(self.state, PduType.BIND_NAK)
        events.append(Send(_nak(bind, reason)))

    def _on_alter(self, pdu: AlterContext, events: list[ServerEvent]) -> None:
        try:
            auth = self._next_leg(pdu)
        except Denied:
            events.append(Send(_fault(pdu, 0, ACCESS_DENIED, True)))
            raise
        answer = AlterContextResponse(
            call_id=pdu.call_id,
            flags=WHOLE | self._signing(),
            order=pdu.order,
            auth=auth,
            max_xmit=self.max_xmit,
            max_recv=self._max_recv,
            group_id=self.group_id,
            results=self._judge(pdu.contexts),
        )
        self.state = step(self.state, answer.type)
        events.append(Send(answer.encode()))

    def _knows(self, auth: Auth) -> bool:
        return self._authenticate is not None if self._auth is None else self._auth.knows(auth)

    def _next_leg(self, pdu: Pdu) -> Auth | None:
        if self._auth is not None:
            return self._auth.leg(pdu)
        return None if pdu.auth is None or self._authenticate is None else self._authenticate(pdu.auth)

    def _signing(self) -> int:
        return HEADER_SIGNING if self._auth is not None and self._auth.signs_headers else 0

    def _encode(self, response: Response) -> bytes:
        """In fragments, each protected as the connection agreed on."""
        if self._auth is None:
            return b"".join(piece.encode() for piece in split(response, self.max_xmit))
        return b"".join(self._auth.protect(piece) for piece in split(self._auth.mark(response), self.max_xmit))

    def _judge(self, contexts: Sequence[Context]) -> tuple[ContextResult, ...]:
        """One result for each context; of the transfer syntaxes offered for an interface only the best is taken."""
        offered: dict[Syntax, set[Syntax]] = {}
        for context in contexts:
            offered.setdefault(context.interface, set()).update(context.transfers)
        best = {
            interface: next((syntax for syntax in self._transfer if syntax in transfers), None)
            for interface, transfers in offered.items()
        }
        return tuple(self._judge_one(context, best[context.interface]) for context in contexts)

    def _judge_one(self, context: Context, best: Syntax | None) -> ContextResult:
        if len(context.transfers) == 1 and (features := context.transfers[0].features) is not None:
            return ContextResult(Result.NEGOTIATE_ACK, features & self._features, NO_SYNTAX)
        if context.interface not in self._interfaces and not (self._own_mgmt and context.interface == MGMT):
            reason = Reason.ABSTRACT_SYNTAX_NOT_SUPPORTED
        elif best is None or best not in context.transfers:
            reason = Reason.TRANSFER_SYNTAXES_NOT_SUPPORTED
        elif self._contexts.get(context.id, (context.interface, best)) != (context.interface, best):
            reason = Reason.NOT_SPECIFIED  # this id already means something else
        elif context.id not in self._contexts and len(self._contexts) >= MAX_CONTEXTS:
            reason = Reason.LOCAL_LIMIT_EXCEEDED
        else:
            self._contexts[context.id] = (context.interface, best)
            return ContextResult(Result.ACCEPTANCE, 0, best)
        return ContextResult(Result.PROVIDER_REJECTION, reason, NO_SYNTAX)

    def _on_request(self, pdu: Request, events: list[ServerEvent]) -> None:
        try:
            request = self._joiner.add(pdu if self._auth is None else self._auth.reveal(pdu))
            if request is not None and self._auth is not None:
                request = self._auth.whole(request)
        except WireError as error:
            status = ACCESS_DENIED if error.kind == "oversize" else PROTOCOL_ERROR
            events.append(Send(_fault(pdu, pdu.context_id, status, True)))
            raise
        except Denied:
            status = ACCESS_DENIED if self._auth is not None and self._auth.refused else SECURITY_ERROR
            events.append(Send(_fault(pdu, pdu.context_id, status, True)))
            raise
        if request is None:
            return
        if request.flags & MAYBE:
            self._on_maybe(request, events)
            return
        if request.call_id in self._calls:
            events.append(Send(_fault(request, request.context_id, PROTOCOL_ERROR, True)))
            raise OutOfTurn(f"call {request.call_id} is still being answered")
        context = self._contexts.get(request.context_id)
        if context is None:
            events.append(Send(_fault(request, request.context_id, UNKNOWN_INTERFACE, True)))
        elif len(self._calls) >= self._max_outstanding:
            events.append(Send(_fault(request, request.context_id, SERVER_TOO_BUSY, True)))
        else:
            call = Call(self, request, *context)
            self._calls[call.call_id] = call
            events.append(Send(self._manage(call)) if self._own_mgmt and call.interface == MGMT else call)

    def _on_maybe(self, request: Request, events: list[ServerEvent]) -> None:
        """A call that wants no answer, whatever comes of it."""
        if (context := self._contexts.get(request.context_id)) is not None and context[0] in self._interfaces:
            events.append(Call(self, request, *context))

    def _manage(self, call: Call) -> bytes:
        """Answer the management interface. What would need a right is denied, as Windows does by default."""
        if call.opnum == INQ_IF_IDS:
            return call.reply(InqIfIdsReply((*self._interfaces, MGMT)).encode(call.order, call.ndr64))
        if call.opnum == IS_SERVER_LISTENING:
            return call.reply(IsServerListeningReply(True).encode(call.order, call.ndr64))
        if call.opnum <= 4:
            return call.fault(ACCESS_DENIED, did_not_execute=True)
        return call.fault(OP_RANGE_ERROR, did_not_execute=True)

    def _finish(self, call: Call) -> bool:
        """Whether the call still wants an answer; it is given now."""
        if self._calls.get(call.call_id) is not call:
            return False
        del self._calls[call.call_id]
        return True


def _fault(pdu: Pdu, context_id: int, status: int, did_not_execute: bool) -> bytes:
    return Fault(
        call_id=pdu.call_id,
        flags=WHOLE | (DID_NOT_EXECUTE if did_not_execute else 0),
        order=pdu.order,
        context_id=context_id,
        status=status,
    ).encode()


def _nak(pdu: Pdu, reason: NakReason) -> bytes:
    return BindNak(call_id=pdu.call_id, order=pdu.order, reason=reason).encode()


def _is_bind_of_another_version(unread: bytearray) -> bool:
    return len(unread) >= HEADER_SIZE and unread[2] == PduType.BIND and unread[:2] != b"\5\0"


def _version_nak(unread: bytearray) -> bytes:
    """The refusal of a bind in another version of RPC, with the one that would do."""
    order: Order = "little" if unread[4] >> 4 == 1 else "big"
    call_id = int.from_bytes(unread[12:16], order)
    return BindNak(call_id=call_id, order=order, reason=NakReason.PROTOCOL_VERSION_NOT_SUPPORTED).encode()
