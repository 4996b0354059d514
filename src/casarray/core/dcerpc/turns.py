"""Whose turn it is: the legal order of PDUs on one connection, as a table. [C706] chapter 11, [MS-RPCE] 3.3.

Client, server and the view from the middle walk the same table; a PDU's type tells which side sent it.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final

from casarray.core.dcerpc.pdu import PduType
from casarray.core.errors import OutOfTurn


class State(Enum):
    """Where an association stands."""

    IDLE = "idle"  # nothing agreed
    BINDING = "binding"  # a bind waits for its answer
    BOUND = "bound"  # calls may be made
    ALTERING = "altering"  # bound, and alter_contexts wait for their answers
    CLOSED = "closed"  # nothing more may come


_T = PduType

#: (state, PDU) -> state. What is missing is out of turn.
NEXT: Final[Mapping[tuple[State, PduType], State]] = {
    (State.IDLE, _T.BIND): State.BINDING,
    (State.BINDING, _T.BIND_ACK): State.BOUND,
    (State.BINDING, _T.BIND_NAK): State.IDLE,  # with another version or another authentication it may be tried again
    (State.BINDING, _T.FAULT): State.IDLE,  # some servers refuse a bind so
    (State.BOUND, _T.ALTER_CONTEXT): State.ALTERING,
    (State.ALTERING, _T.ALTER_CONTEXT): State.ALTERING,
    (State.ALTERING, _T.ALTER_CONTEXT_RESPONSE): State.BOUND,  # or still altering, when it was not the only one
    **{
        (state, pdu): state
        for state in (State.BOUND, State.ALTERING)  # calls go on while a context is added
        for pdu in (_T.REQUEST, _T.RESPONSE, _T.FAULT, _T.AUTH3, _T.CO_CANCEL, _T.ORPHANED)
    },
    **{(state, _T.SHUTDOWN): state for state in (State.BOUND, State.ALTERING)},
}

#: PDUs that a client sends; all others (but RTS, which both send and no association knows) are a server's.
FROM_CLIENT: Final = frozenset({_T.REQUEST, _T.BIND, _T.ALTER_CONTEXT, _T.AUTH3, _T.CO_CANCEL, _T.ORPHANED})
FROM_SERVER: Final = frozenset(
    {_T.RESPONSE, _T.FAULT, _T.BIND_ACK, _T.BIND_NAK, _T.ALTER_CONTEXT_RESPONSE, _T.SHUTDOWN}
)


def step(state: State, pdu: PduType) -> State:
    """The state after ``pdu``; `OutOfTurn` where it is not legal."""
    try:
        return NEXT[state, pdu]
    except KeyError:
        raise OutOfTurn(f"{pdu.name} while {state.value}") from None
