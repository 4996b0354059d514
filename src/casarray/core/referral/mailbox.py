"""EMSMDB, the mailbox service, as far as a logon: who may open a session, and which server opens whose mailbox.

A session begins on any server; only the logon within it says whether this was the right one. [MS-OXCRPC] 3.1.4,
[MS-OXCSTOR] 3.2.5.1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from casarray.core.dcerpc.auth import AuthLevel
from casarray.core.dcerpc.interfaces import emsmdb
from casarray.core.dcerpc.ndr import NIL_HANDLE, ContextHandle
from casarray.core.dcerpc.server import CONTEXT_MISMATCH, OP_RANGE_ERROR, Call
from casarray.core.referral.guide import Answer, Guide, Person
from casarray.core.referral.handles import Handles

# Results of EcDoConnectEx and of ROPs. [MS-OXCDATA] 2.4.
ACCESS_DENIED = 0x80070005  # ecAccessDenied
UNKNOWN_USER = 0x000003EB  # ecUnknownUser
NOT_ENCRYPTED = 0x00000970  # ecNotEncrypted
OUT_OF_MEMORY = 0x8007000E  # ecMemory: more sessions than there is room for


@dataclass(frozen=True, slots=True)
class Session:
    """An open session."""

    person: Person


class Mailbox:
    """Answers EMSMDB for one server. A stub that cannot be read is a `WireError`."""

    def __init__(self, guide: Guide, new_uuid: Callable[[], UUID], *, encrypted: bool = False) -> None:
        """``encrypted``: sessions are opened over sealed connections alone, as servers want by default."""
        self.sessions: Handles[Session] = Handles(new_uuid)
        self._guide = guide
        self._new_uuid = new_uuid
        self._encrypted = encrypted

    def answer(self, call: Call) -> Answer:
        """Answer one call."""
        match call.opnum:
            case emsmdb.Opnum.CONNECT:
                return self._connect(call)
            case emsmdb.Opnum.DISCONNECT:
                return self._disconnect(call)
            case emsmdb.Opnum.ASYNC_CONNECT:
                return self._async_connect(call)
            case emsmdb.Opnum.DUMMY:
                return Answer(emsmdb.EcDummyRpcReply().encode(call.order, call.ndr64), call="EcDummyRpc")
            case _:
                return Answer(fault=OP_RANGE_ERROR, call=f"opnum {call.opnum}")

    def _connect(self, call: Call) -> Answer:
        asked = emsmdb.EcDoConnectEx.decode(call.stub, call.order, call.ndr64)
        person = self._guide.person(asked.user_dn)
        handle: ContextHandle | None = None
        result = self._objection(call, asked, person)
        if person is not None and not result:
            handle = self.sessions.issue(call.group_id, Session(person))
            result = 0 if handle else OUT_OF_MEMORY
        reply = emsmdb.EcDoConnectExReply(
            handle or NIL_HANDLE,
            dn_prefix=self._guide.organization if handle else None,
            display_name=self._guide.name if handle else None,
            time_stamp=asked.time_stamp,
            result=result,
        )
        client = person.name if person is not None else ""
        return Answer(reply.encode(call.order, call.ndr64), call="EcDoConnectEx", client=client)

    def _objection(self, call: Call, asked: emsmdb.EcDoConnectEx, person: Person | None) -> int:
        if self._encrypted and (call.caller is None or call.caller.level < AuthLevel.PRIVACY):
            return NOT_ENCRYPTED
        if not asked.user_dn:
            return ACCESS_DENIED
        return 0 if person is not None else UNKNOWN_USER

    def _disconnect(self, call: Call) -> Answer:
        asked = emsmdb.EcDoDisconnect.decode(call.stub, call.order, call.ndr64)
        session = self.sessions.take_back(asked.session, call.group_id)
        if session is None:
            return Answer(fault=CONTEXT_MISMATCH, call="EcDoDisconnect")
        reply = emsmdb.EcHandleReply()
        return Answer(reply.encode(call.order, call.ndr64), call="EcDoDisconnect", client=session.person.name)

    def _async_connect(self, call: Call) -> Answer:
        asked = emsmdb.EcDoAsyncConnectEx.decode(call.stub, call.order, call.ndr64)
        session = self.sessions.value(asked.session, call.group_id)
        if session is None:
            return Answer(fault=CONTEXT_MISMATCH, call="EcDoAsyncConnectEx")
        # The handle to wait with is worth nothing, as nobody is ever notified of anything: it is not kept.
        reply = emsmdb.EcHandleReply(ContextHandle(self._new_uuid()))
        return Answer(reply.encode(call.order, call.ndr64), call="EcDoAsyncConnectEx", client=session.person.name)
