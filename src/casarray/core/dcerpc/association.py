"""One RPC connection as a state machine: bytes in, events and bytes out. No socket, no clock.

`RpcClient` and `RpcServer` are its ends (client.py, server.py), `AssociationView` watches from the middle (view.py),
and turns.py holds the table of what may follow what. This module is where all of them are imported from.
"""

from casarray.core.dcerpc.client import (
    BindRefused,
    Bound,
    Broken,
    ClientEvent,
    Failed,
    Reply,
    RpcClient,
    ShutdownAsked,
)
from casarray.core.dcerpc.groups import AssociationGroups
from casarray.core.dcerpc.server import (
    ACCESS_DENIED,
    BAD_STUB_DATA,
    CONTEXT_MISMATCH,
    OP_RANGE_ERROR,
    PROTOCOL_ERROR,
    SECURITY_ERROR,
    SERVER_TOO_BUSY,
    UNKNOWN_INTERFACE,
    Call,
    Cancelled,
    Handler,
    Orphan,
    RpcServer,
    Send,
    ServerEvent,
)
from casarray.core.dcerpc.turns import State
from casarray.core.dcerpc.view import AssociationView, WatchedCall

__all__ = [
    "ACCESS_DENIED",
    "BAD_STUB_DATA",
    "CONTEXT_MISMATCH",
    "OP_RANGE_ERROR",
    "PROTOCOL_ERROR",
    "SECURITY_ERROR",
    "SERVER_TOO_BUSY",
    "UNKNOWN_INTERFACE",
    "AssociationGroups",
    "AssociationView",
    "BindRefused",
    "Bound",
    "Broken",
    "Call",
    "Cancelled",
    "ClientEvent",
    "Failed",
    "Handler",
    "Orphan",
    "Reply",
    "RpcClient",
    "RpcServer",
    "Send",
    "ServerEvent",
    "ShutdownAsked",
    "State",
    "WatchedCall",
]
