"""An association watched from the middle: which answer belongs to which call of which interface.

Whoever relays a connection shows every PDU to `client_pdu` or `server_pdu` before passing it on, and gets back the call
it belongs to. Bounded: contexts, offers and calls; no stub is kept.

Clients do not always wait: a call may follow the alter_context that makes its context before that is answered, so the
interface of a call is looked up when it is asked for. A fault may come before the whole request has been sent; what is
then still under way from the client is let through; so is an answer that crosses its call's orphaned PDU.
"""

from dataclasses import dataclass
from typing import Final

from casarray.core.dcerpc.cursor import Order
from casarray.core.dcerpc.pdu import (
    FIRST,
    LAST,
    MAYBE,
    AlterContextResponse,
    Bind,
    BindAck,
    BindNak,
    Context,
    Fault,
    Orphaned,
    Pdu,
    Request,
    Response,
)
from casarray.core.dcerpc.syntax import NDR, NDR64, Syntax
from casarray.core.dcerpc.turns import FROM_CLIENT, FROM_SERVER, State, step
from casarray.core.errors import OutOfTurn, WireError

MAX_OUTSTANDING: Final = 64
MAX_CONTEXTS: Final = 256


@dataclass(frozen=True, slots=True)
class WatchedCall:
    """A call under way. ``interface`` and ``transfer`` are None on a context that the server has not accepted (yet)."""

    call_id: int
    context_id: int
    opnum: int
    interface: Syntax | None
    transfer: Syntax | None
    order: Order  # of the request; the answer may come in another
    authenticated: bool  # its request had an auth trailer

    @property
    def ndr64(self) -> bool:
        """Whether its stubs are NDR64."""
        return self.transfer is not NDR and self.transfer == NDR64


class AssociationView:
    """Follows both sides of one connection. Raises `OutOfTurn` or `WireError` for what must not be passed on."""

    def __init__(self, *, max_outstanding: int = MAX_OUTSTANDING, max_contexts: int = MAX_CONTEXTS) -> None:
        self.state = State.IDLE
        self.group_id = 0
        self._max_outstanding = max_outstanding
        self._max_contexts = max_contexts
        self._offers: dict[int, tuple[Context, ...]] = {}  # binds and alter_contexts without an answer, by call id
        self._contexts: dict[int, tuple[Syntax, Syntax]] = {}  # accepted: context id -> interface, transfer syntax
        self._calls: dict[int, Request] = {}  # first fragments without their stubs, by call id
        self._given_up: dict[int, Request] = {}  # orphaned; whether an answer still comes nobody knows
        self._sending: Request | None = None  # its last fragment has not come from the client
        self._answering: int | None = None  # its last fragment has not come from the server

    @property
    def outstanding(self) -> int:
        """Calls that wait for their answer."""
        return len(self._calls)

    def client_pdu(self, pdu: Pdu) -> WatchedCall | None:
        """Take note of a PDU from the client; the call it belongs to, if it is a request."""
        if pdu.type not in FROM_CLIENT:
            raise OutOfTurn(f"{pdu.type.name} from a client")
        self.state = step(self.state, pdu.type)
        match pdu:
            case Request():
                return self._watched(self._on_request(pdu))
            case Bind():  # and alter_context
                self._on_offer(pdu)
            case Orphaned():
                self._give_up(pdu.call_id)
                if self._sending is not None and self._sending.call_id == pdu.call_id:
                    self._sending = None
        return None

    def server_pdu(self, pdu: Pdu) -> WatchedCall | None:
        """Take note of a PDU from the server; the call it answers, if it is a response or a fault to one."""
        if pdu.type not in FROM_SERVER:
            raise OutOfTurn(f"{pdu.type.name} from a server")
        before, self.state = self.state, step(self.state, pdu.type)
        match pdu:
            case Response():
                return self._watched(self._on_response(pdu))
            case Fault() if pdu.call_id not in self._offers:
                if before is State.BINDING:
                    raise OutOfTurn(f"a fault for call {pdu.call_id}, which was not made")
                return self._watched(self._on_fault(pdu))
            case Fault() | BindNak():
                self._offer(pdu)
            case BindAck():  # and the answer to an alter_context
                self._on_ack(pdu)
        if before is State.ALTERING:
            self.state = State.ALTERING if self._offers else State.BOUND
        return None

    def _watched(self, request: Request) -> WatchedCall:
        interface, transfer = self._contexts.get(request.context_id, (None, None))
        authenticated = request.auth is not None
        return WatchedCall(
            request.call_id, request.context_id, request.opnum, interface, transfer, request.order, authenticated
        )

    def _on_offer(self, pdu: Bind) -> None:
        if pdu.call_id in self._offers:
            raise OutOfTurn(f"{pdu.type.name} {pdu.call_id} again")
        offered = len(self._contexts) + len(pdu.contexts) + sum(len(offer) for offer in self._offers.values())
        if offered > self._max_contexts or len(self._offers) >= self._max_outstanding:
            raise WireError("oversize", f"more than {self._max_contexts} contexts")
        self._offers[pdu.call_id] = pdu.contexts

    def _offer(self, answer: Pdu) -> tuple[Context, ...]:
        offer = self._offers.pop(answer.call_id, None)
        if offer is None:
            raise OutOfTurn(f"{answer.type.name} for call {answer.call_id}, which was not made")
        return offer

    def _on_request(self, pdu: Request) -> Request:
        sending = self._sending
        if pdu.flags & FIRST:
            if sending is not None:
                raise WireError("fragment", f"call {pdu.call_id} begins within call {sending.call_id}")
            if pdu.call_id in self._calls:
                raise OutOfTurn(f"call {pdu.call_id} is still being answered")
            if len(self._calls) >= self._max_outstanding:
                raise OutOfTurn(f"more than {self._max_outstanding} calls outstanding")
            sending = Request(
                call_id=pdu.call_id,
                flags=pdu.flags,
                order=pdu.order,
                auth=pdu.auth,
                context_id=pdu.context_id,
                opnum=pdu.opnum,
                stub=b"",
            )
            if not pdu.flags & MAYBE:  # nobody answers those
                self._calls[pdu.call_id] = sending
                self._given_up.pop(pdu.call_id, None)
        elif sending is None or sending.call_id != pdu.call_id:
            raise WireError("fragment", f"call {pdu.call_id} begins in the middle")
        elif (sending.context_id, sending.opnum, sending.order) != (pdu.context_id, pdu.opnum, pdu.order):
            raise WireError("fragment", f"call {pdu.call_id} changes on its way")
        self._sending = None if pdu.flags & LAST else sending
        return sending

    def _give_up(self, call_id: int) -> None:
        if (call := self._calls.pop(call_id, None)) is not None:
            self._given_up[call_id] = call
            if len(self._given_up) > self._max_outstanding:
                del self._given_up[next(iter(self._given_up))]

    def _on_response(self, pdu: Response) -> Request:
        call = self._calls.get(pdu.call_id) or self._given_up.get(pdu.call_id)
        if call is None or (self._sending is not None and self._sending.call_id == pdu.call_id):
            raise OutOfTurn(f"an answer to call {pdu.call_id}, which was not made")
        if pdu.context_id != call.context_id:
            raise WireError("fragment", f"the answer to call {pdu.call_id} changes its context id")
        if pdu.flags & FIRST:
            if self._answering is not None:
                raise WireError("fragment", f"the answer to call {pdu.call_id} begins within {self._answering}'s")
        elif self._answering != pdu.call_id:
            raise WireError("fragment", f"the answer to call {pdu.call_id} begins in the middle")
        if pdu.flags & LAST:
            self._answering = None
            self._forget(pdu.call_id)
        else:
            self._answering = pdu.call_id
        return call

    def _on_fault(self, pdu: Fault) -> Request:
        call = self._forget(pdu.call_id)
        if call is None:
            raise OutOfTurn(f"a fault for call {pdu.call_id}, which was not made")
        if self._answering == pdu.call_id:
            self._answering = None
        return call

    def _forget(self, call_id: int) -> Request | None:
        """The call is answered. A call id is used again, if ever, for a call that is not given up."""
        return self._calls.pop(call_id, None) or self._given_up.pop(call_id, None)

    def _on_ack(self, pdu: BindAck) -> None:
        offer = self._offer(pdu)
        if len(pdu.results) != len(offer):
            raise WireError("results", f"{len(pdu.results)} results for {len(offer)} contexts")
        for context, result in zip(offer, pdu.results, strict=True):
            if result.accepted:
                if result.transfer not in context.transfers:
                    raise WireError("results", f"context {context.id} accepted in {result.transfer}, not offered")
                self._contexts[context.id] = (context.interface, result.transfer)
        if not isinstance(pdu, AlterContextResponse):
            self.group_id = pdu.group_id
