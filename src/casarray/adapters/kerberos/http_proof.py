"""How a web client proves who it is: by a ticket (RFC 4559), or by a password that the KDC is asked about.

All of it may wait for a KDC: for threads.
"""

import base64
import binascii

import gssapi
import krb5
from gssapi import raw
from gssapi.exceptions import GSSError

from casarray.adapters.kerberos.initiator import said
from casarray.adapters.kerberos.rpc_security import KRB5, SPNEGO, PromptContext
from casarray.core.errors import Denied
from casarray.core.kerberos.tickets import Mechanism, mechanism_of

LONGEST_TOKEN = 64 * 1024
LONGEST_PASSWORD = 1024


class HttpProofs:
    """Checks what stands in an Authorization header, by one keytab."""

    def __init__(self, keytab: str, realm: str = "") -> None:
        """``realm``: of users who give no other; empty: the host's usual one."""
        self._keytab = keytab
        self._realm = realm

    def ticket(self, text: str) -> tuple[str, str]:
        """Whose ticket that is, and the token that answers it, in base64. `Denied` says why it is none."""
        token = _from64(text)
        if mechanism_of(token) is Mechanism.NTLM:
            raise Denied("the client wants NTLM, and only Kerberos is spoken here")
        who, answer = self.accept(token)
        return who, base64.b64encode(answer).decode()

    def password(self, text: str) -> str:
        """Whose name and password that is. `Denied` if the KDC says no, or is not the one that has our key."""
        user, mark, password = _from64(text).decode("utf-8", "replace").partition(":")
        if not mark or not user or not password or len(password) > LONGEST_PASSWORD or not user.isprintable():
            raise Denied("that is no name and password")
        try:
            # A false KDC could say yes to any password: it has to give a ticket that our own key reads.
            owned = raw.acquire_cred_with_password(
                gssapi.Name(self._principal(user), gssapi.NameType.kerberos_principal),
                password.encode(),
                mechs=[KRB5],
                usage="initiate",
            ).creds
            own = gssapi.Name(self._own_name(), gssapi.NameType.kerberos_principal)
            client = PromptContext(name=own, creds=gssapi.Credentials(owned), mech=KRB5, usage="initiate")
            token = client.step() or b""
        except GSSError as error:
            raise Denied(f"{user}: {said(error)}") from None
        return self.accept(token)[0]

    def accept(self, token: bytes) -> tuple[str, bytes]:
        """Whose token that is, read with any key of the keytab, and the answer. A client has one token, no more.

        `Denied` says why it is none.
        """
        try:
            own = gssapi.Credentials(usage="accept", store={"keytab": f"FILE:{self._keytab}"}, mechs=[SPNEGO, KRB5])
            raw.set_neg_mechs(own, [KRB5])
            context = PromptContext(creds=own, usage="accept")
            answer = context.step(token) or b""
        except GSSError as error:
            raise Denied(f"a ticket is not right: {said(error)}") from None
        if not context.complete:
            raise Denied("the client shows no ticket at once")
        return str(context.initiator_name), answer

    def _principal(self, user: str) -> str:
        r"""``DOMAIN\user``, ``user@realm`` and ``user``."""
        name = user.rpartition("\\")[2]
        name, mark, realm = name.partition("@")
        # An address is no principal: where its domain is not the realm's name, the realm has to be said.
        if mark and self._realm and realm.casefold() != self._realm.casefold():
            raise Denied(f"{user}: only users of the realm {self._realm} are known here")
        realm = self._realm or realm.upper()
        return f"{name}@{realm}" if realm else name

    def _own_name(self) -> str:
        """A name of which the keytab has the key, one for web servers if there is any."""
        context = krb5.init_context()
        try:
            names: list[str] = [
                str(e.principal.name.decode()) for e in krb5.kt_resolve(context, f"FILE:{self._keytab}".encode())
            ]
        except krb5.Krb5Error:
            names = []
        if not names:
            raise Denied(f"the keytab {self._keytab} cannot be read, or has no key")
        return next((name for name in names if name.casefold().startswith("http/")), names[0])


def _from64(text: str) -> bytes:
    if len(text) > LONGEST_TOKEN:
        raise Denied("a token that is too long")
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise Denied("a token that is not base64") from None
