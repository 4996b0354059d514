"""EMSMDB, the mailbox service, as far as a logon: who may open a session, and which server opens whose mailbox.

A session begins on any server; only the logon within it says whether this was the right one. [MS-OXCRPC] 3.1.4,
[MS-OXCSTOR] 3.2.5.1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import NAMESPACE_X500, UUID, uuid5

from casarray.core.dcerpc.auth import AuthLevel
from casarray.core.dcerpc.interfaces import emsmdb
from casarray.core.dcerpc.interfaces.emsmdb import EcResult
from casarray.core.dcerpc.interfaces.emsmdb_rops import (
    NO_HANDLE,
    REPEATED_FLAGS,
    EcDoRpcExt2,
    EcDoRpcExt2Reply,
    LogonRedirect,
    LogonSuccess,
    PublicLogonSuccess,
    RopFailure,
    RopLogon,
    RopRelease,
    RopReply,
    RopRequest,
    read_requests,
    reply_octets,
)
from casarray.core.dcerpc.ndr import NIL_HANDLE, ContextHandle
from casarray.core.dcerpc.server import CONTEXT_MISMATCH, OP_RANGE_ERROR, Call
from casarray.core.referral.guide import HERE, Answer, Guide, Person
from casarray.core.referral.handles import Handles

LONGEST_NAME = 254  # of a server, in a redirect
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Session:
    """An open session."""

    person: Person


class Mailbox:
    """Answers EMSMDB for one server. A stub that cannot be read is a `WireError`."""

    def __init__(
        self,
        guide: Guide,
        new_uuid: Callable[[], UUID],
        *,
        encrypted: bool = False,
        now: Callable[[], datetime] = lambda: EPOCH,
    ) -> None:
        """``encrypted``: sessions are opened over sealed connections alone, as servers want by default."""
        self.sessions: Handles[Session] = Handles(new_uuid)
        self._guide = guide
        self._new_uuid = new_uuid
        self._encrypted = encrypted
        self._now = now  # in UTC: logons tell the time

    def answer(self, call: Call) -> Answer:
        """Answer one call."""
        match call.opnum:
            case emsmdb.Opnum.CONNECT:
                return self._connect(call)
            case emsmdb.Opnum.DISCONNECT:
                return self._disconnect(call)
            case emsmdb.Opnum.RPC_EXT:
                return self._execute(call)
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
            result = 0 if handle else EcResult.OUT_OF_MEMORY
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
            return EcResult.NOT_ENCRYPTED
        if not asked.user_dn:
            return EcResult.ACCESS_DENIED
        return 0 if person is not None else EcResult.UNKNOWN_USER

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

    def _execute(self, call: Call) -> Answer:
        asked = EcDoRpcExt2.decode(call.stub, call.order, call.ndr64)
        session = self.sessions.value(asked.session, call.group_id)
        if session is None:
            return Answer(fault=CONTEXT_MISMATCH, call="EcDoRpcExt2")
        requests, handles = read_requests(asked.rops)
        table, answers = list(handles), []
        for request in requests:
            answer = self._perform(session, request)
            if isinstance(request, RopRelease) and request.handle_index < len(table):
                table[request.handle_index] = NO_HANDLE
            if answer is not None:
                answers.append(answer)
                _enter(table, answer)
        reply = EcDoRpcExt2Reply(asked.session, reply_octets(answers, table))
        return Answer(reply.encode(call.order, call.ndr64), call="EcDoRpcExt2", client=session.person.name)

    def _perform(self, session: Session, request: RopRequest) -> RopReply | None:
        """The answer to one operation; None where there is none. What follows one that is unknown is lost with it."""
        match request:
            case RopLogon():
                return self.logon(session.person, request)
            case RopRelease():
                return None
            case _:
                return RopFailure(EcResult.NOT_SUPPORTED, request.rop_id, request.handle_index)

    def logon(self, person: Person, asked: RopLogon) -> RopReply:
        """Whether this is the server of what is to be opened. [MS-OXCSTOR] 3.2.5.1."""
        flags, index = asked.logon_flags & REPEATED_FLAGS, asked.handle_index
        owner: Person | None = person
        if asked.is_private:
            owner = self._guide.person(asked.mailbox_dn)
            home = self._guide.mailbox_home(owner) if owner is not None else None
        else:
            home = self._guide.public_folders_home(person)
        if owner is None:
            return RopFailure(EcResult.UNKNOWN_USER, handle_index=index)
        if home is None or len(home) > LONGEST_NAME:
            return RopFailure(EcResult.LOGIN_FAILURE, handle_index=index)
        if home != HERE:
            return LogonRedirect(home, flags, index)
        if not asked.is_private:
            return PublicLogonSuccess(flags, handle_index=index)
        return LogonSuccess(uuid5(NAMESPACE_X500, owner.legacy_dn.casefold()), self._now(), flags, handle_index=index)


def _enter(table: list[int], answer: RopReply) -> None:
    """Give what was opened a handle, in the place that the client chose for it; a failure leaves none there."""
    if answer.handle_index >= len(table):
        table += [NO_HANDLE] * (answer.handle_index + 1 - len(table))
    opened = isinstance(answer, LogonSuccess | PublicLogonSuccess)
    table[answer.handle_index] = answer.handle_index + 1 if opened else NO_HANDLE
