"""RPC's security by the system's GSSAPI: `casarray.core.dcerpc.auth.Security` for both sides, Kerberos only.

RPC uses GSSAPI in its own style ("DCE style"): three legs instead of two, tokens without framing, and tokens apart
from the data they seal, with parts that are signed only ([MS-KILE] 3.4.5.4). MIT's library has all of it, behind a flag
and the calls on lists of buffers; AES tokens come out as Windows makes them (EC 16, RRC 28).

In SPNEGO nothing but Kerberos is offered or taken: who cannot do Kerberos is refused, not let in by a weaker way.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import gssapi
from gssapi import raw
from gssapi.exceptions import GSSError

from casarray.core.dcerpc.auth import AuthType
from casarray.core.errors import Denied
from casarray.core.kerberos.bare import bare

KRB5 = gssapi.OID.from_int_seq("1.2.840.113554.1.2.2")
SPNEGO = gssapi.OID.from_int_seq("1.3.6.1.5.5.2")
_MECHANISMS: Mapping[int, gssapi.OID] = MappingProxyType({AuthType.SPNEGO: SPNEGO, AuthType.KERBEROS: KRB5})
_NAMES: Mapping[int, str] = MappingProxyType({AuthType.SPNEGO: "SPNEGO, Kerberos", AuthType.KERBEROS: "Kerberos"})

_FLAGS = (
    gssapi.RequirementFlag.mutual_authentication
    | gssapi.RequirementFlag.replay_detection
    | gssapi.RequirementFlag.out_of_sequence_detection
    | gssapi.RequirementFlag.integrity
    | gssapi.RequirementFlag.dce_style
)
_BLOCK = bytes(16)
#: GSS_KRB5_CRED_NO_CI_FLAGS_X: ask for sealing only where it is asked for; MIT's library does it always otherwise.
_NO_CI_FLAGS = gssapi.OID.from_int_seq("1.2.752.43.13.29")


class PromptContext(gssapi.SecurityContext):  # type: ignore[misc]  # the library's types are not known here
    """A context that fails at once, instead of handing out the error's token first and failing at the next one."""


PromptContext.__DEFER_STEP_ERRORS__ = False  # in the class itself its metaclass would overwrite it


class GssSecurity:
    """One side's context, made by `accept` or `initiate`."""

    def __init__(self, context: gssapi.SecurityContext, kind: int) -> None:
        self._context = context
        self._kind = kind

    @property
    def complete(self) -> bool:
        """Whether both sides have proven who they are."""
        return bool(self._context.complete)

    @property
    def peer(self) -> str:
        """The other side's principal; empty before it has proven that."""
        if not self.complete:
            return ""
        name = self._context.target_name if self._context.usage == "initiate" else self._context.initiator_name
        return str(name)

    @property
    def mechanism(self) -> str:
        """``Kerberos``, or how it was agreed on."""
        return _NAMES[self._kind]

    signs_headers = False  # only where that was agreed on

    def step(self, token: bytes) -> bytes:
        """Take the peer's token; the own next one. `Denied` says what the library says."""
        accepts = self._context.usage == "accept"
        with _denied("Kerberos authentication failed"):
            return self._context.step((bare(token) if accepts else token) or None) or b""

    def token_size(self, sealed: bool) -> int:
        """By the library, for a message of a whole number of blocks, which is what we send."""
        kinds = raw.IOVBufferType
        if sealed:
            message = raw.IOV((kinds.header, False, None), (kinds.data, False, _BLOCK), std_layout=False)
            raw.wrap_iov_length(self._context, message, True)
        else:
            message = raw.IOV((kinds.mic_token, False, None), (kinds.data, False, _BLOCK), std_layout=False)
            raw.get_mic_iov_length(self._context, message)
        return len(message[0].value or b"")

    def sign(self, data: bytes) -> bytes:
        """The token that vouches for ``data``."""
        with _denied("a call cannot be signed"):
            return bytes(self._context.get_signature(data))

    def verify(self, data: bytes, token: bytes) -> None:
        """Check that token."""
        with _denied("the signature of a call is not right"):
            self._context.verify_signature(data, token)

    def seal(self, before: bytes, body: bytes, after: bytes) -> tuple[bytes, bytes]:
        """The body sealed, and the token."""
        message = _message(None, before, body, after)
        with _denied("a call cannot be sealed"):
            raw.wrap_iov(self._context, message, True)
        return bytes(message[_BODY].value), bytes(message[_TOKEN].value)

    def unseal(self, before: bytes, body: bytes, after: bytes, token: bytes) -> bytes:
        """The body in clear."""
        message = _message(token, before, body, after)
        with _denied("the seal of a call is not right"):
            result = raw.unwrap_iov(self._context, message)
        if not result.encrypted:
            raise Denied("a call came signed where its connection agreed on sealing")
        return bytes(message[_BODY].value)


_TOKEN, _BODY = 0, 2


def _message(token: bytes | None, before: bytes, body: bytes, after: bytes) -> raw.IOV:
    kinds = raw.IOVBufferType
    return raw.IOV(
        (kinds.header, token is None, token),
        (kinds.sign_only, False, before),
        (kinds.data, False, body),
        (kinds.sign_only, False, after),
        std_layout=False,
    )


@contextmanager
def _denied(what: str) -> Iterator[None]:
    """The library's errors as ours, its sentences behind, the particular ones first."""
    try:
        yield
    except GSSError as error:
        said = [*error.get_all_statuses(error.min_code, False), *error.get_all_statuses(error.maj_code, True)]
        raise Denied(f"{what}: {'; '.join(dict.fromkeys(said))}") from None


class Acceptors:
    """Makes a server's contexts from a keytab file, any key of which may serve. The file is read anew each time."""

    def __init__(self, keytab: Path) -> None:
        self._store = {"keytab": f"FILE:{keytab}"}

    def accept(self, kind: int) -> GssSecurity | None:
        """A context for a client that comes with this type; None if it is another provider's."""
        mechanism = _MECHANISMS.get(kind)
        if mechanism is None:
            return None
        try:
            credentials = gssapi.Credentials(usage="accept", store=self._store, mechs=[mechanism])
        except GSSError:
            return None  # no keytab, or nothing in it: a server without Kerberos
        if kind == AuthType.SPNEGO:
            raw.set_neg_mechs(credentials, [KRB5])
        return GssSecurity(PromptContext(creds=credentials, usage="accept"), kind)


def initiate(target: str, ccache: str, kind: AuthType = AuthType.SPNEGO, *, sealed: bool = True) -> GssSecurity:
    """A client's context for the service ``class/host``, with the tickets of that cache. `Denied` without any.

    ``sealed``: for the level privacy. At lower ones sealing must not even be asked for: Samba would leave room for its
    longer tokens in every answer, and fail over those of signing.
    """
    mechanism = _MECHANISMS[kind]
    flags = _FLAGS | gssapi.RequirementFlag.confidentiality if sealed else _FLAGS
    with _denied(f"there is no ticket to use from {ccache}"):
        credentials = gssapi.Credentials(usage="initiate", store={"ccache": ccache}, mechs=[mechanism])
        if kind == AuthType.SPNEGO:
            raw.set_neg_mechs(credentials, [KRB5])
        if not sealed:
            raw.set_cred_option(_NO_CI_FLAGS, credentials)
        name = gssapi.Name(target, gssapi.NameType.kerberos_principal)
        context = PromptContext(name=name, creds=credentials, mech=mechanism, flags=flags, usage="initiate")
    return GssSecurity(context, kind)
