"""Who calls, proven, and calls that nobody between can read or change: the auth trailer's two halves, without a socket.

A client puts a token of its security provider into the trailer of a bind. Up to three legs follow: bind, bind_ack, and
an alter_context (or an auth3, which nobody answers). From then on each request and response carries a token that signs
it, or signs it and seals its stub. [MS-RPCE] 2.2.2.11, 3.3.1.5.2; [C706] 13.2.6.

The provider itself is a port, `Security`. `Protection` is what an established one does to PDUs, for either side;
`ServerAuth` and `ClientAuth` walk the legs. With header signing ([MS-RPCE] 2.2.2.3), which both sides have to want, the
token vouches for the whole PDU; without it, for the stub and its padding only. Faults are sent and taken unsigned: an
attacker who can forge one can as well cut the connection.

A client that cannot sign headers may append a verification trailer to the stub instead (verification.py).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol, TypeVar

from casarray.core.dcerpc.pdu import HEADER_SIGNING, TRAILER_SIZE, Auth, Pdu, Request, Response
from casarray.core.dcerpc.verification import without_verification
from casarray.core.errors import Denied, OutOfTurn

P = TypeVar("P", Request, Response)


class AuthType(IntEnum):
    """Security providers. [MS-RPCE] 2.2.1.1.7."""

    SPNEGO = 9
    NTLM = 10
    KERBEROS = 16


class AuthLevel(IntEnum):
    """How much of a call is protected. [MS-RPCE] 2.2.1.1.8."""

    NONE = 1
    CONNECT = 2  # the bind proves who calls; the calls themselves are plain
    CALL = 3
    PACKET = 4
    INTEGRITY = 5  # signed; over a connection, call and packet mean this too, Kerberos knowing nothing in between
    PRIVACY = 6  # sealed as well


class Security(Protocol):
    """One side's security context. Every method raises `Denied` for a token that is not right, saying why."""

    @property
    def complete(self) -> bool:
        """Whether both sides have proven who they are."""

    @property
    def peer(self) -> str:
        """The other side's principal: ``alice@LAB.EXAMPLE``. Empty before it has proven that."""

    @property
    def mechanism(self) -> str:
        """What was agreed on: ``Kerberos``, ``NTLM``."""

    @property
    def signs_headers(self) -> bool:
        """Whether its tokens vouch for whole PDUs even where header signing was not agreed on, as NTLM's do."""

    def step(self, token: bytes) -> bytes:
        """Take the peer's token (a client begins with none); the own next one, empty when there is nothing to say."""

    def token_size(self, sealed: bool) -> int:
        """How long the tokens of `sign` or of `seal` are, in octets; it does not depend on what is protected."""

    def sign(self, data: bytes) -> bytes:
        """The token that vouches for ``data``."""

    def verify(self, data: bytes, token: bytes) -> None:
        """Check that token."""

    def seal(self, before: bytes, body: bytes, after: bytes) -> tuple[bytes, bytes]:
        """``body`` encrypted, as long as before, and the token, which vouches for all three."""

    def unseal(self, before: bytes, body: bytes, after: bytes, token: bytes) -> bytes:
        """The body as it was."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who made a call, and how well that is known."""

    name: str  # the principal
    mechanism: str
    level: AuthLevel


@dataclass(frozen=True, slots=True)
class Protection:
    """What an established security context does to the PDUs of one connection, in the order they are sent."""

    security: Security
    kind: int
    level: AuthLevel
    context_id: int
    header_signing: bool

    @property
    def active(self) -> bool:
        """Whether calls carry tokens at all."""
        return self.level > AuthLevel.CONNECT

    @property
    def whole(self) -> bool:
        """Whether tokens vouch for the whole PDU, or for its stub only."""
        return self.header_signing or self.security.signs_headers

    def mark(self, pdu: P) -> P:
        """The PDU with a trailer of the right size, so that it can be split into fragments that leave room for it."""
        if not self.active:
            return pdu
        token = bytes(self.security.token_size(self.level == AuthLevel.PRIVACY))
        return replace(pdu, auth=Auth(self.kind, self.level, self.context_id, token))

    def protect(self, pdu: Request | Response) -> bytes:
        """A marked fragment's octets, signed or sealed."""
        raw = pdu.encode()
        if pdu.auth is None:
            return raw
        end = len(raw) - len(pdu.auth.token)
        before, body, after = raw[: pdu.stub_at], raw[pdu.stub_at : end - TRAILER_SIZE], raw[end - TRAILER_SIZE : end]
        if self.level == AuthLevel.PRIVACY:
            outside = (before, after) if self.whole else (b"", b"")
            body, token = self.security.seal(outside[0], body, outside[1])
        else:
            token = self.security.sign(raw[:end] if self.whole else body)
        return before + body + after + token

    def reveal(self, pdu: P) -> P:
        """A fragment that arrived, checked and in clear. `Denied` if it is not what the peer sent."""
        if not self.active:
            return pdu
        auth = pdu.auth
        if auth is None or auth.level != self.level or auth.type != self.kind or auth.context_id != self.context_id:
            raise Denied("a call came without the protection that its connection agreed on")
        raw, end = pdu.raw, len(pdu.raw) - len(auth.token)
        before, body, after = raw[: pdu.stub_at], raw[pdu.stub_at : end - TRAILER_SIZE], raw[end - TRAILER_SIZE : end]
        if self.level == AuthLevel.PRIVACY:
            outside = (before, after) if self.whole else (b"", b"")
            body = self.security.unseal(outside[0], body, outside[1], auth.token)
        else:
            self.security.verify(raw[:end] if self.whole else body, auth.token)
        return replace(pdu, stub=body[: len(body) - len(auth.pad or b"")])


class ServerAuth:
    """The authentication of one connection, seen from its server. ``open_security`` is asked with the trailer's type
    and returns an acceptor, or None for a provider it does not have."""

    def __init__(self, open_security: Callable[[int], Security | None]) -> None:
        self._open = open_security
        self._protection: Protection | None = None
        self._refused: Denied | None = None

    @property
    def caller(self) -> Caller | None:
        """Who calls; None while nobody has proven anything."""
        found = self._protection
        if found is None or not found.security.complete:
            return None
        return Caller(found.security.peer, found.security.mechanism, found.level)

    def knows(self, auth: Auth) -> bool:
        """Whether that provider and level are to be had; what a bind is refused by."""
        if auth.level not in set(AuthLevel) - {AuthLevel.NONE}:
            return False
        security = self._open(auth.type)
        if security is None:
            return False
        self._protection = Protection(security, auth.type, AuthLevel(auth.level), auth.context_id, False)
        return True

    def leg(self, pdu: Pdu) -> Auth | None:
        """Take the token of a bind, an alter_context or an auth3; the answer's trailer. `Denied` if it proves nothing.

        Call `knows` first for a bind.
        """
        auth, found = pdu.auth, self._protection
        if auth is None:
            return None
        if found is None or (auth.type, auth.context_id, auth.level) != (found.kind, found.context_id, found.level):
            raise Denied("a connection has one security context; the client wants another one")
        if self._refused is not None:
            raise self._refused
        if found.security.complete:
            raise Denied("the client goes on authenticating after both sides were satisfied")
        if pdu.flags & HEADER_SIGNING:
            self._protection = found = replace(found, header_signing=True)
        token = found.security.step(auth.token)
        return replace(auth, token=token, pad=None) if token else None

    def last_leg(self, pdu: Pdu) -> None:
        """Take the token of an auth3. Nobody answers it: what is wrong with it the first call hears, as with Windows.

        [MS-RPCE] 3.3.1.5.2.2
        """
        try:
            self.leg(pdu)
        except Denied as error:
            self._refused = error

    @property
    def refused(self) -> bool:
        """Whether the client's auth3 proved nothing."""
        return self._refused is not None

    @property
    def signs_headers(self) -> bool:
        """Whether the answer to the bind has to say so."""
        return self._protection is not None and self._protection.header_signing

    def reveal(self, request: Request) -> Request:
        """A fragment of a call, checked and in clear. `Denied` if it is not what the caller sent."""
        if self._protection is None:
            return request
        if self._refused is not None:
            raise self._refused
        if not self._protection.security.complete:
            raise Denied("a call came before its caller had proven who that is")
        return self._protection.reveal(request)

    def whole(self, request: Request) -> Request:
        """A call that was put together, without its verification trailer. `Denied` if that contradicts the call."""
        if self._protection is None or not self._protection.active:
            return request
        return without_verification(request)

    def mark(self, response: Response) -> Response:
        """An answer that leaves room for its tokens."""
        return response if self._protection is None else self._protection.mark(response)

    def protect(self, fragment: Response) -> bytes:
        """The octets of a fragment of an answer."""
        return fragment.encode() if self._protection is None else self._protection.protect(fragment)


class ClientAuth:
    """The authentication of one connection, seen from its client: tokens for the trailers, then a `Protection`."""

    def __init__(
        self, security: Security, kind: AuthType, level: AuthLevel, *, context_id: int = 1, header_signing: bool = True
    ) -> None:
        self.header_signing = header_signing
        self._protection = Protection(security, kind, level, context_id, False)

    @property
    def complete(self) -> bool:
        """Whether calls can be made."""
        return self._protection.security.complete

    @property
    def mechanism(self) -> str:
        """What was agreed on, by the security provider's word."""
        return self._protection.security.mechanism

    @property
    def ends_unanswered(self) -> bool:
        """Whether the leg after the bind_ack goes in an auth3, which nobody answers, and not in an alter_context.

        NTLM's third leg is its last: the server has nothing more to say. [MS-RPCE] 3.3.1.5.2
        """
        return self._protection.kind == AuthType.NTLM

    def begin(self) -> Auth:
        """The trailer of the bind; give the bind the flag HEADER_SIGNING where ``header_signing``."""
        return self._auth(self._protection.security.step(b""))

    def answered(self, auth: Auth | None, header_signing: bool) -> Auth | None:
        """Take the trailer of a bind_ack (and whether it has the flag), or of an alter_context_response.

        The next leg's trailer, for an alter_context; None when there is none. `Denied` when the server proves nothing.
        """
        security = self._protection.security
        if header_signing and self.header_signing:
            self._protection = replace(self._protection, header_signing=True)
        if auth is None:
            if not security.complete:
                raise Denied("the server does not prove who it is")
            return None
        token = b"" if security.complete else security.step(auth.token)
        return self._auth(token) if token else None

    @property
    def protection(self) -> Protection:
        """What is done to calls and answers. `OutOfTurn` before both sides are satisfied."""
        if not self.complete:
            raise OutOfTurn("the authentication is not complete")
        return self._protection

    def _auth(self, token: bytes) -> Auth:
        return Auth(self._protection.kind, self._protection.level, self._protection.context_id, token)
