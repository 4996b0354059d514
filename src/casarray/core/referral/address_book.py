"""NSPI, the address book: everybody in the directory as one table, and names looked up in it. [MS-OXNSPI] 3.1.4.1.

Every server has a GUID of its own and numbers of its own for everybody (minimal entry ids): what one server has told
means nothing to another.
"""

from collections.abc import Callable
from uuid import NAMESPACE_DNS, UUID, uuid5

from casarray.core.dcerpc.interfaces import nspi
from casarray.core.dcerpc.ndr import NIL_HANDLE
from casarray.core.dcerpc.server import CONTEXT_MISMATCH, OP_RANGE_ERROR, Call
from casarray.core.referral.guide import Answer, Guide, Person
from casarray.core.referral.handles import Handles

GENERAL_FAILURE = 0x80004005


def server_guid(fqdn: str) -> UUID:
    """The GUID with which the server of that name answers a bind to the address book."""
    return uuid5(NAMESPACE_DNS, fqdn.lower())


class AddressBook:
    """Answers NSPI for one server. A stub that cannot be read is a `WireError`."""

    def __init__(
        self, guide: Guide, new_uuid: Callable[[], UUID], name_of_guid: Callable[[UUID | None], str] = lambda _: ""
    ) -> None:
        """``name_of_guid``: whose the GUID is that a client binds with. It means nothing to a server, but a lab's."""
        self.books: Handles[str] = Handles(new_uuid)  # by the name of whom each was opened for
        self._guide = guide
        self._name_of_guid = name_of_guid

    def answer(self, call: Call, asker: Person | None) -> Answer:
        """``asker`` is who is known to call, from another call or by authentication."""
        match call.opnum:
            case nspi.Opnum.BIND:
                return self._bind(call, asker)
            case nspi.Opnum.UNBIND:
                return self._unbind(call)
            case _:
                return Answer(fault=OP_RANGE_ERROR, call=f"opnum {call.opnum}")

    def _bind(self, call: Call, asker: Person | None) -> Answer:
        asked = nspi.NspiBind.decode(call.stub, call.order, call.ndr64)
        guid = server_guid(self._guide.fqdn) if asked.server_guid is not None else None
        client = self._name_of_guid(asked.server_guid) or (asker.name if asker is not None else "")
        unicode = asked.stat.code_page == nspi.CODE_PAGE_UNICODE
        handle = None if unicode else self.books.issue(call.group_id, client)
        reply = nspi.NspiBindReply(guid, handle or NIL_HANDLE, 0 if handle else GENERAL_FAILURE)
        return Answer(reply.encode(call.order, call.ndr64), call="NspiBind", client=client)

    def _unbind(self, call: Call) -> Answer:
        asked = nspi.NspiUnbind.decode(call.stub, call.order, call.ndr64)
        client = self.books.take_back(asked.handle, call.group_id)
        if client is None:
            return Answer(fault=CONTEXT_MISMATCH, call="NspiUnbind")
        return Answer(nspi.NspiUnbindReply().encode(call.order, call.ndr64), call="NspiUnbind", client=client)
