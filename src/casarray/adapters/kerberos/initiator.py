"""Tickets of our own, and the tokens that show them: Kerberos by the system's GSSAPI, nothing else.

A `Purse` keeps our ticket-granting ticket and the service tickets in a cache in memory that nobody else sees, so that
an old ticket in somebody's cache cannot stand for what the KDC would say today. Where it comes from is said by the
settings: a keytab, a cache, or else the cache of whoever started us (`kinit`). Names are asked for as they are: DNS is
never asked what a name is called otherwise.
"""

import secrets
import threading
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import gssapi
import krb5
from gssapi.exceptions import GSSError

from casarray.adapters.kerberos.rpc_security import KRB5, SPNEGO, GssSecurity, PromptContext, initiate
from casarray.core.dcerpc.auth import AuthType
from casarray.core.errors import Denied, WireError
from casarray.core.kerberos.approach import Protocol
from casarray.core.kerberos.proof import OURS, Got, NoTicket, Trouble, no_ticket
from casarray.core.kerberos.tickets import ticket_of

_TABLE = -1765328384  # what libkrb5 adds to the numbers of RFC 4120 7.5.9
_SOON = 300.0  # a ticket-granting ticket that ends so soon is not used any more
_FLAGS = (
    gssapi.RequirementFlag.mutual_authentication
    | gssapi.RequirementFlag.integrity
    | gssapi.RequirementFlag.out_of_sequence_detection
)
#: Web servers are spoken to in SPNEGO, as browsers do; with Kerberos as the only mechanism in it. RFC 4559 4.
_SPOKEN: Mapping[Protocol, gssapi.OID] = MappingProxyType({Protocol.HTTP: SPNEGO})


class GssInitiator:
    """`casarray.core.kerberos.knocks.Initiator`."""

    def __init__(self, context: gssapi.SecurityContext) -> None:
        self._context = context

    @property
    def complete(self) -> bool:
        """Whether the service has proven who it is, by Kerberos."""
        return bool(self._context.complete) and bool(
            self._context.actual_flags & gssapi.RequirementFlag.mutual_authentication
        )

    def step(self, token: bytes) -> bytes:
        """See the port."""
        try:
            return self._context.step(token or None) or b""
        except GSSError as error:
            raise Denied(said(error)) from None

    def wrap(self, data: bytes) -> bytes:
        """See the port."""
        try:
            return bytes(self._context.wrap(data, False).message)
        except GSSError as error:
            raise Denied(said(error)) from None

    def unwrap(self, data: bytes) -> bytes:
        """See the port."""
        try:
            return bytes(self._context.unwrap(data).message)
        except GSSError as error:
            raise Denied(said(error)) from None


def said(error: GSSError) -> str:
    """The library's sentences: the particular ones, if there are any."""
    particular = error.get_all_statuses(error.min_code, False) if error.min_code else []
    return "; ".join(dict.fromkeys(str(one) for one in particular or error.get_all_statuses(error.maj_code, True)))


class Purse:
    """Our tickets. Several threads may use it; each call may have to wait for a KDC."""

    def __init__(self, principal: str = "", keytab: str = "", ccache: str = "", password: str = "") -> None:
        """As `[kerberos]` says it; all empty: the cache of whoever started us. A password is the principal's."""
        self._principal = principal
        self._password = password
        self._keytab = keytab
        self._ccache = ccache
        self._cache = ""
        self._until = 0.0
        self._owner = ""
        self._realms: dict[str, str] = {}  # of the tickets that we have, by name
        self._lock = threading.Lock()

    @property
    def owner(self) -> str:
        """Our principal; empty before there was a ticket."""
        return self._owner

    @property
    def lives(self) -> bool:
        """Whether there are tickets that have not run out."""
        return bool(self._cache) and time.time() < self._until

    def open(self) -> NoTicket | None:
        """Get a ticket-granting ticket, if there is none; what is wrong with it."""
        with self._lock:
            if self._cache and time.time() < self._until - _SOON:
                return None
            try:
                return self._fill()
            except krb5.Krb5Error as error:
                return _without(error)

    def forget(self) -> None:
        """Ask the KDC anew next time."""
        with self._lock:
            self._drop()

    def get(self, name: str) -> Got | NoTicket:
        """A ticket for the service ``class/host``; one that is here already, if it is."""
        if (trouble := self.open()) is not None:
            return trouble
        try:
            token = self._context(name, KRB5).step() or b""
            ticket = ticket_of(token)
        except GSSError as error:
            code = (error.min_code if error.min_code < 1 << 31 else error.min_code - (1 << 32)) - _TABLE
            return _other_realm(no_ticket(code, said(error)))
        except WireError as error:
            return NoTicket(Trouble.KDC_REFUSES, f"the ticket cannot be read ({error})")
        with self._lock:
            self._realms[name] = ticket.realm
        return Got(ticket)

    def initiator(self, name: str, protocol: Protocol) -> GssInitiator:
        """A context for one connection. With a ticket from `get` no KDC is asked. `Denied`."""
        try:
            return GssInitiator(self._context(self._spelt(name), _SPOKEN.get(protocol, KRB5)))
        except GSSError as error:
            raise Denied(said(error)) from None

    def security(self, name: str, kind: AuthType = AuthType.SPNEGO, *, sealed: bool = True) -> GssSecurity:
        """The same for RPC; see `initiate`. `Denied`."""
        return initiate(self._spelt(name), self._cache, kind, sealed=sealed)

    def close(self) -> None:
        """Forget all tickets. Twice is once."""
        self.forget()

    def _spelt(self, name: str) -> str:
        return f"{name}@{self._realms[name]}" if name in self._realms else name

    def _context(self, name: str, mechanism: gssapi.OID) -> gssapi.SecurityContext:
        credentials = gssapi.Credentials(usage="initiate", store={"ccache": self._cache}, mechs=[mechanism])
        if mechanism == SPNEGO:
            gssapi.raw.set_neg_mechs(credentials, [KRB5])
        target = gssapi.Name(name, gssapi.NameType.kerberos_principal)
        return PromptContext(name=target, creds=credentials, mech=mechanism, flags=_FLAGS, usage="initiate")

    # The cache.

    def _fill(self) -> NoTicket | None:
        context = krb5.init_context()
        if self._password:
            self._fill_by_password(context)
            return None
        if self._keytab:
            return self._fill_from_keytab(context)
        source = krb5.cc_resolve(context, self._ccache.encode()) if self._ccache else krb5.cc_default(context)
        client = krb5.cc_get_principal(context, source)
        tickets = _granting(source)
        if not tickets:
            return NoTicket(Trouble.NO_TICKET_OF_OURS, "the cache has no ticket-granting ticket")
        self._keep(context, client, tickets)
        if self._until <= time.time():
            return NoTicket(Trouble.NO_TICKET_OF_OURS, "the ticket-granting ticket has expired")
        return None

    def _fill_by_password(self, context: Any) -> None:
        client = krb5.parse_name_flags(context, self._principal.encode())
        options = krb5.get_init_creds_opt_alloc(context)
        found = krb5.get_init_creds_password(context, client, options, self._password.encode())
        self._keep(context, client, [found])

    def _fill_from_keytab(self, context: Any) -> NoTicket | None:
        keytab = krb5.kt_resolve(context, self._keytab.encode())
        principal = self._principal or next((entry.principal.name.decode() for entry in keytab), "")
        if not principal:
            return NoTicket(Trouble.NO_TICKET_OF_OURS, f"{self._keytab} is empty")
        client = krb5.parse_name_flags(context, principal.encode())
        options = krb5.get_init_creds_opt_alloc(context)
        self._keep(context, client, [krb5.get_init_creds_keytab(context, client, options, keytab)])
        return None

    def _keep(self, context: Any, client: Any, tickets: list[Any]) -> None:
        self._drop()
        self._cache = f"MEMORY:casarray-{secrets.token_hex(8)}"
        cache = krb5.cc_resolve(context, self._cache.encode())
        krb5.cc_initialize(context, cache, client)
        for ticket in tickets:
            krb5.cc_store_cred(context, cache, ticket)
        self._until = max(float(ticket.times.endtime) for ticket in tickets)
        self._owner = client.name.decode("utf-8", "replace")

    def _drop(self) -> None:
        if self._cache:
            context = krb5.init_context()
            krb5.cc_destroy(context, krb5.cc_resolve(context, self._cache.encode()))
        self._cache, self._until = "", 0.0
        self._realms.clear()


def _granting(cache: Any) -> list[Any]:
    return [one for one in cache if one.server.name.startswith(b"krbtgt/")]


def _without(error: Any) -> NoTicket:
    """Why we have no ticket-granting ticket."""
    text = str(error).removesuffix(f" {error.err_code}")
    found = no_ticket(error.err_code - _TABLE, text)
    return NoTicket(Trouble.NO_TICKET_OF_OURS, text) if found.trouble not in OURS else found


def _other_realm(found: NoTicket) -> NoTicket:
    """The name that the KDC does not know may be that of a whole realm, to which the name was taken to belong."""
    if found.trouble is Trouble.MISSING_NAME and "krbtgt/" in found.detail:
        return NoTicket(Trouble.OTHER_REALM, found.detail)
    return found
