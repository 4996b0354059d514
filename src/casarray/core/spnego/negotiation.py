"""The two sides of SPNEGO, as `casarray.core.dcerpc.auth.Security` over others. RFC 4178 3, 5; [MS-SPNG] 3.

The client offers what it can do and sends its best one's first token along. A server that cannot do the best one picks
another from the list. Somebody between them could have shortened the list, so both then sign it (the mechListMIC) with
the session that came of it; where the best one was taken they need not, but each answers the other's.

NTLM signs the list with the same stream that seals the calls, and begins the stream anew behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from casarray.core.dcerpc.auth import Security
from casarray.core.errors import Denied, WireError
from casarray.core.kerberos import der
from casarray.core.kerberos.tickets import KERBEROS, KERBEROS_OF_WINDOWS
from casarray.core.ntlm.context import NtlmSide
from casarray.core.spnego.tokens import NegState, NegTokenInit, NegTokenResp, list_octets

NTLM = bytes.fromhex("2b06010401823702020a")  # 1.3.6.1.4.1.311.2.2.10
_AP_REQ_FOLLOWS = b"\1\0"  # RFC 4121 4.1


@dataclass(frozen=True, slots=True)
class Way:
    """One mechanism that a side can do, and its own context, not begun."""

    identifier: bytes
    security: Security

    def is_called(self, identifier: bytes) -> bool:
        """Whether the other side means this one: Windows has a spelling of its own for Kerberos."""
        both = (KERBEROS, KERBEROS_OF_WINDOWS)
        return identifier == self.identifier or (identifier in both and self.identifier in both)

    def first(self) -> bytes:
        """The client's first token. A bare AP-REQ gets the frame that it has in SPNEGO, as Windows makes it."""
        token = self.security.step(b"")
        if self.identifier != KERBEROS or not token.startswith(bytes((der.application(14),))):
            return token
        named = der.element(der.OBJECT_IDENTIFIER, KERBEROS)
        return der.element(der.application(0), named + _AP_REQ_FOLLOWS + token)


class _Side:
    """What both have in common: once it is agreed, the chosen way does the work."""

    def __init__(self) -> None:
        self._way: Way | None = None
        self._listed = b""
        self._must_sign = False  # the list, both of us
        self._signed = False  # by us
        self._checked = False  # the other's

    @property
    def complete(self) -> bool:
        """Whether both sides are satisfied, with each other and with the list."""
        return self._way is not None and self._way.security.complete and (self._checked or not self._must_sign)

    @property
    def peer(self) -> str:
        """As the chosen way has it."""
        return self.chosen.peer if self.complete else ""

    @property
    def mechanism(self) -> str:
        """``SPNEGO, NTLM``; before anything was chosen only ``SPNEGO``."""
        return "SPNEGO" if self._way is None else f"SPNEGO, {self._way.security.mechanism}"

    @property
    def signs_headers(self) -> bool:
        """As the chosen way has it."""
        return self.chosen.signs_headers

    @property
    def chosen(self) -> Security:
        """What was agreed on. `Denied` before."""
        if self._way is None:
            raise Denied("nothing has been agreed on yet")
        return self._way.security

    def token_size(self, sealed: bool) -> int:
        """As the chosen way has it."""
        return self.chosen.token_size(sealed)

    def sign(self, data: bytes) -> bytes:
        """The token that vouches for ``data``."""
        return self.chosen.sign(data)

    def verify(self, data: bytes, token: bytes) -> None:
        """Check that token."""
        self.chosen.verify(data, token)

    def seal(self, before: bytes, body: bytes, after: bytes) -> tuple[bytes, bytes]:
        """The body sealed, and the token."""
        return self.chosen.seal(before, body, after)

    def unseal(self, before: bytes, body: bytes, after: bytes, token: bytes) -> bytes:
        """The body in clear."""
        return self.chosen.unseal(before, body, after, token)

    def _sign_list(self) -> bytes:
        self._signed = True
        mic = self.chosen.sign(self._listed)
        if isinstance(self.chosen, NtlmSide):
            self.chosen.sealing.outgoing.begin_stream_anew()
        return mic

    def _check_list(self, mic: bytes) -> None:
        if self._checked or not self.chosen.complete:
            raise Denied("the list of mechanisms is signed at the wrong moment")
        try:
            self.chosen.verify(self._listed, mic)
        except Denied as error:
            raise Denied(f"somebody changed the list of mechanisms on its way ({error})") from None
        if isinstance(self.chosen, NtlmSide):
            self.chosen.sealing.incoming.begin_stream_anew()
        self._checked = True


class SpnegoClient(_Side):
    """Offers these ways, best first."""

    def __init__(self, ways: Sequence[Way]) -> None:
        super().__init__()
        self._ways = tuple(ways)
        self._listed = list_octets(tuple(way.identifier for way in self._ways))
        self._begun = False
        self._accepted = False  # by the server's own word

    @property
    def complete(self) -> bool:
        """The server, too, has to say that it is satisfied."""
        return self._accepted and super().complete

    def step(self, token: bytes) -> bytes:
        """Take the server's token; the next one. `Denied` when there is nothing to agree on, or somebody meddles."""
        if not self._begun:
            self._begun = True
            best = self._ways[0]
            return NegTokenInit(tuple(way.identifier for way in self._ways), best.first()).encode()
        try:
            said = NegTokenResp.decode(token)
        except WireError as error:
            raise Denied(f"the server's token of SPNEGO cannot be read ({error})") from None
        if said.state == NegState.REJECT:
            if said.token:  # an error of the mechanism's own, which says more: of Kerberos that clocks differ
                (self._way or self._ways[0]).security.step(said.token)
            raise Denied(f"the server takes none of these: {', '.join(way.security.mechanism for way in self._ways)}")
        out = self._choose(said) if self._way is None else self._on(said)
        if said.state == NegState.COMPLETED:
            self._accepted = True
        mic = b""
        if self.chosen.complete:
            if said.mic:
                self._check_list(said.mic)
            wanted = self._must_sign or bool(said.mic) or isinstance(self.chosen, NtlmSide)
            mic = self._sign_list() if wanted and not self._signed else b""
        if self._accepted and not self.complete:
            raise Denied("the server ends the negotiation too early")
        return NegTokenResp(None, b"", out, mic).encode() if out or mic else b""

    def _choose(self, said: NegTokenResp) -> bytes:
        best = self._ways[0]
        if not said.mechanism or best.is_called(said.mechanism):
            self._way = best
            self._must_sign = said.state == NegState.REQUEST_MIC
            return self._on(said)
        self._way = next((way for way in self._ways if way.is_called(said.mechanism)), None)
        if self._way is None:
            raise Denied("the server chose a mechanism that was not offered")
        self._must_sign = True
        return self._way.first()

    def _on(self, said: NegTokenResp) -> bytes:
        return self.chosen.step(said.token) if said.token and not self.chosen.complete else b""


class SpnegoServer(_Side):
    """Takes the first of the client's ways that it has too."""

    def __init__(self, ways: Sequence[Way]) -> None:
        super().__init__()
        self._ways = tuple(ways)

    def step(self, token: bytes) -> bytes:
        """Take the client's token; the answer. `Denied` for who proves nothing, or offers nothing that is had here."""
        try:
            return self._choose(NegTokenInit.decode(token)) if self._way is None else self._on(token)
        except WireError as error:
            raise Denied(f"the client's token of SPNEGO cannot be read ({error})") from None

    def _choose(self, offer: NegTokenInit) -> bytes:
        self._listed = offer.listed
        for identifier in offer.mechanisms:
            self._way = next((way for way in self._ways if way.is_called(identifier)), None)
            if self._way is not None:
                break
        if self._way is None:
            had = " or ".join(way.security.mechanism for way in self._ways)
            raise Denied(f"the client offers nothing that is taken here, which is {had}")
        # The token that came along is the best one's. By another spelling of the same mechanism it is as good.
        self._must_sign = not self._way.is_called(offer.mechanisms[0])
        out = b"" if self._must_sign or not offer.token else self.chosen.step(offer.token)
        state = NegState.REQUEST_MIC if self._must_sign else NegState.INCOMPLETE
        return NegTokenResp(state, identifier, out).encode()

    def _on(self, token: bytes) -> bytes:
        said = NegTokenResp.decode(token)
        out = self.chosen.step(said.token) if said.token else b""
        mic = b""
        if said.mic:
            self._check_list(said.mic)
            mic = self._sign_list()
        if self.chosen.complete and not self.complete:
            raise Denied("the client does not sign its list of mechanisms, of which the best was not taken")
        state = NegState.COMPLETED if self.complete else NegState.INCOMPLETE
        return NegTokenResp(state, b"", out, mic).encode()
