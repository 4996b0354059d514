"""RFR, the referral service: answers with names, and keeps nothing. [MS-OXABREF] 3.1.4."""

from casarray.core.dcerpc.interfaces import rfr
from casarray.core.dcerpc.server import OP_RANGE_ERROR, Call
from casarray.core.referral.guide import Answer, Guide, Person

NOT_FOUND = 0x8004010F  # MAPI_E_NOT_FOUND


class Referring:
    """Answers RFR for one server. A stub that cannot be read is a `WireError`."""

    def __init__(self, guide: Guide) -> None:
        self._guide = guide

    def answer(self, call: Call, asker: Person | None) -> Answer:
        """``asker`` is who is known to call, from another call or by authentication."""
        match call.opnum:
            case rfr.Opnum.GET_NEW_DSA:
                return self._new_dsa(call, asker)
            case rfr.Opnum.GET_FQDN_FROM_SERVER_DN:
                return self._fqdn(call, asker)
            case _:
                return Answer(fault=OP_RANGE_ERROR, call=f"opnum {call.opnum}")

    def _new_dsa(self, call: Call, asker: Person | None) -> Answer:
        asked = rfr.RfrGetNewDsa.decode(call.stub, call.order, call.ndr64)
        name = self._guide.address_book(asked.user_dn, asker)
        reply = rfr.RfrGetNewDsaReply(name, NOT_FOUND if name is None else 0)
        return Answer(
            reply.encode(call.order, call.ndr64), call="RfrGetNewDSA", client=_name(self._guide, asked.user_dn)
        )

    def _fqdn(self, call: Call, asker: Person | None) -> Answer:
        asked = rfr.RfrGetFqdnFromServerDn.decode(call.stub, call.order, call.ndr64)
        name = self._guide.fqdn_of(asked.server_dn, asker)
        reply = rfr.RfrGetFqdnFromServerDnReply(name, NOT_FOUND if name is None else 0)
        client = asker.name if asker is not None else ""
        about = rfr.server_of_dn(asked.server_dn)
        return Answer(reply.encode(call.order, call.ndr64), call="RfrGetFQDNFromServerDN", client=client, about=about)


def _name(guide: Guide, user_dn: str) -> str:
    person = guide.person(user_dn)
    return person.name if person is not None else ""
