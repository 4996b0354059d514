"""Asks clients of HTTP for a ticket: `casarray.adapters.net.rpc_http_proxy.Admission` by a keytab. RFC 4559"""

from casarray.adapters.extras import readable_keytab
from casarray.adapters.kerberos.http_proof import HttpProofs
from casarray.adapters.net.rpc_http_proxy import Verdict
from casarray.core.kerberos.tickets import Mechanism, mechanism_of

_OFFER = Verdict(offers=("Negotiate",))


class TicketGate:
    """Lets in whoever shows a ticket that a key of the keytab reads. The file is read anew for every connection."""

    def __init__(self, keytab: str) -> None:
        """Raises `ConfigError` when the file cannot be read."""
        self._proofs = HttpProofs(str(readable_keytab(keytab, "rpc-http")))

    def __call__(self) -> "TicketCheck":
        """For one connection."""
        return TicketCheck(self._proofs)


class TicketCheck:
    """One connection's."""

    def __init__(self, proofs: HttpProofs) -> None:
        self._proofs = proofs

    def judge(self, credentials: tuple[str, bytes] | None) -> Verdict:
        """A ticket's owner. `Denied` when the ticket is not right."""
        if credentials is None or credentials[0] != "negotiate" or not credentials[1]:
            return _OFFER
        if mechanism_of(credentials[1]) in (Mechanism.NTLM, Mechanism.SPNEGO_WITHOUT):
            return _OFFER  # a client that wants to talk first, or otherwise
        who, _ = self._proofs.accept(credentials[1])
        return Verdict(who)
