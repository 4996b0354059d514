"""One server as its clients meet it behind the endpoint mapper: RFR, NSPI and EMSMDB, without a socket.

The lab's servers answer by this, and `casarray referral`, which stands in for servers that are gone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from casarray.core.config import Anonymous
from casarray.core.dcerpc.interfaces.emsmdb import ASYNC_EMSMDB, EMSMDB
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.interfaces.rfr import RFR
from casarray.core.dcerpc.server import ACCESS_DENIED, BAD_STUB_DATA, OP_RANGE_ERROR, Call
from casarray.core.errors import WireError
from casarray.core.referral.address_book import AddressBook
from casarray.core.referral.guide import Answer, Guide, Person
from casarray.core.referral.mailbox import EPOCH, Mailbox
from casarray.core.referral.referring import Referring

#: The interfaces behind each of a server's two ports.
BOOK_INTERFACES = (RFR, NSPI)
MAILBOX_INTERFACES = (EMSMDB, ASYNC_EMSMDB)


@dataclass(frozen=True, slots=True)
class Demands:
    """What callers have to bring."""

    anonymous: Anonymous = Anonymous.EVERYTHING
    encrypted: bool = False  # mailbox sessions over sealed connections alone


class ClientAccess:
    """Answers one server's calls. Handles count within the association group they were issued to."""

    def __init__(
        self,
        guide: Guide,
        new_uuid: Callable[[], UUID],
        demands: Demands = Demands(),
        name_of_guid: Callable[[UUID | None], str] = lambda _: "",
        now: Callable[[], datetime] = lambda: EPOCH,
    ) -> None:
        self.demands = demands
        self._guide = guide
        self._referring = Referring(guide)
        self._book = AddressBook(guide, new_uuid, name_of_guid)
        self._mailbox = Mailbox(guide, new_uuid, encrypted=demands.encrypted, now=now)

    @property
    def open_handles(self) -> int:
        """Sessions and address books that are open now."""
        return len(self._book.books) + len(self._mailbox.sessions)

    def answer(self, call: Call) -> Answer:
        """Answer a call, whatever is in it."""
        if call.caller is None and not self._serves_anonymous(call):
            return Answer(fault=ACCESS_DENIED, call=f"opnum {call.opnum}")
        try:
            if call.interface == RFR:
                return self._referring.answer(call, self._asker(call))
            if call.interface == NSPI:
                return self._book.answer(call, self._asker(call))
            if call.interface == EMSMDB:
                return self._mailbox.answer(call)
        except WireError:
            return Answer(fault=BAD_STUB_DATA, call=f"opnum {call.opnum}")
        return Answer(fault=OP_RANGE_ERROR, call=f"opnum {call.opnum}")

    def forget_group(self, group: int) -> None:
        """Run down an association group: its last connection is gone."""
        self._book.books.forget_group(group)
        self._mailbox.sessions.forget_group(group)

    def _serves_anonymous(self, call: Call) -> bool:
        if self.demands.anonymous is Anonymous.REFERRAL:
            return call.interface != NSPI
        return self.demands.anonymous is Anonymous.EVERYTHING

    def _asker(self, call: Call) -> Person | None:
        return None if call.caller is None else self._guide.account(call.caller.name)
