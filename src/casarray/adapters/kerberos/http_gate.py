"""Asks clients of HTTP for a ticket: `casarray.adapters.net.rpc_http_proxy.Admission` by a keytab. RFC 4559"""

from pathlib import Path

import gssapi
from gssapi import raw
from gssapi.exceptions import GSSError

from casarray.adapters.net.rpc_http_proxy import Verdict
from casarray.core.errors import ConfigError, Denied

KRB5 = gssapi.OID.from_int_seq("1.2.840.113554.1.2.2")
SPNEGO = gssapi.OID.from_int_seq("1.3.6.1.5.5.2")
_OFFER = Verdict(offers=("Negotiate",))


class TicketGate:
    """Lets in whoever shows a ticket that a key of the keytab reads. The file is read anew for every connection."""

    def __init__(self, keytab: str) -> None:
        """Raises `ConfigError` when the file cannot be read."""
        try:
            Path(keytab).open("rb").close()
        except OSError as error:
            raise ConfigError(
                f"the keytab {keytab} cannot be read ({error.strerror}): set [rpc-http] keytab"
            ) from error
        self._store = {"keytab": f"FILE:{keytab}"}

    def __call__(self) -> "TicketCheck":
        """For one connection."""
        return TicketCheck(self._store)


class TicketCheck:
    """One connection's."""

    def __init__(self, store: dict[str, str]) -> None:
        self._store = store

    def judge(self, credentials: tuple[str, bytes] | None) -> Verdict:
        """A ticket's owner. `Denied` when the ticket is not right."""
        if credentials is None or credentials[0] != "negotiate" or not credentials[1]:
            return _OFFER
        try:
            acceptor = gssapi.Credentials(usage="accept", store=self._store, mechs=[SPNEGO, KRB5])
            raw.set_neg_mechs(acceptor, [KRB5])
            context = gssapi.SecurityContext(creds=acceptor, usage="accept")
            context.step(credentials[1])
            if not context.complete:
                return _OFFER  # NTLM in SPNEGO, or a client that wants to talk first
            return Verdict(str(context.initiator_name))
        except GSSError as error:
            said = "; ".join(error.get_all_statuses(error.min_code, False))
            raise Denied(f"a ticket is not right: {said}") from None
