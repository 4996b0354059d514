"""The two tokens of SPNEGO. RFC 4178 4.2.

NegotiationToken ::= CHOICE { negTokenInit [0] NegTokenInit, negTokenResp [1] NegTokenResp }
NegTokenInit ::= SEQUENCE { mechTypes [0], reqFlags [1], mechToken [2], mechListMIC [3] }, all optional but mechTypes
NegTokenResp ::= SEQUENCE { negState [0], supportedMech [1], responseToken [2], mechListMIC [3] }, all optional
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from casarray.core.dcerpc.cursor import Reader
from casarray.core.errors import WireError
from casarray.core.kerberos import der
from casarray.core.kerberos.tickets import SPNEGO

LARGEST: Final = 1 << 18  # octets, as of a Kerberos token
MOST_MECHANISMS: Final = 32
_ENUMERATED: Final = 0x0A
_BIT_STRING_OF_FLAGS: Final = der.context(1)


class NegState(IntEnum):
    """How far a server is."""

    COMPLETED = 0
    INCOMPLETE = 1
    REJECT = 2
    REQUEST_MIC = 3


@dataclass(frozen=True, slots=True)
class NegTokenInit:
    """A client's first token: what it can do, best first, and the best one's own first token."""

    mechanisms: tuple[bytes, ...]  # object identifiers, without tag and length
    token: bytes = b""
    listed: bytes = b""  # the list's octets as they came, which a MIC is made over

    def encode(self) -> bytes:
        """In the frame of RFC 2743 3.1."""
        fields = der.element(der.context(0), list_octets(self.mechanisms)) + _octets(2, self.token)
        inner = der.element(der.context(0), der.element(der.SEQUENCE, fields))
        return der.element(der.application(0), der.element(der.OBJECT_IDENTIFIER, SPNEGO) + inner)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """`WireError` if it is none."""
        frame = der.inside(_bounded(data), der.application(0), "token")
        if der.inside(frame, der.OBJECT_IDENTIFIER, "mechanism").rest() != SPNEGO:
            raise WireError("type", "the token is not of SPNEGO")
        fields = der.inside(der.inside(frame, der.context(0), "NegTokenInit"), der.SEQUENCE, "NegTokenInit")
        listed = der.inside(fields, der.context(0), "mechTypes").rest()
        found, mechanisms = der.inside(Reader(listed, "big"), der.SEQUENCE, "mechTypes"), []
        while found.left:
            mechanisms.append(der.inside(found, der.OBJECT_IDENTIFIER, "mechType").rest())
            if len(mechanisms) > MOST_MECHANISMS:
                raise WireError("oversize", f"more than {MOST_MECHANISMS} mechanisms")
        if not mechanisms:
            raise WireError("range", "mechTypes: no mechanism at all")
        der.optional(fields, _BIT_STRING_OF_FLAGS, "reqFlags")
        return cls(tuple(mechanisms), _optional(fields, 2, "mechToken"), listed)


@dataclass(frozen=True, slots=True)
class NegTokenResp:
    """Every later token."""

    state: int | None = None
    mechanism: bytes = b""
    token: bytes = b""
    mic: bytes = b""

    def encode(self) -> bytes:
        """Only what there is."""
        fields = b""
        if self.state is not None:
            fields += der.element(der.context(0), der.element(_ENUMERATED, bytes((self.state,))))
        if self.mechanism:
            fields += der.element(der.context(1), der.element(der.OBJECT_IDENTIFIER, self.mechanism))
        fields += _octets(2, self.token) + _octets(3, self.mic)
        return der.element(der.context(1), der.element(der.SEQUENCE, fields))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """`WireError` if it is none."""
        fields = der.inside(der.inside(_bounded(data), der.context(1), "NegTokenResp"), der.SEQUENCE, "NegTokenResp")
        state: int | None = None
        if (found := der.optional(fields, der.context(0), "negState")) is not None:
            state = der.inside(found, _ENUMERATED, "negState").u8("negState")
        mechanism = b""
        if (found := der.optional(fields, der.context(1), "supportedMech")) is not None:
            mechanism = der.inside(found, der.OBJECT_IDENTIFIER, "supportedMech").rest()
        return cls(state, mechanism, _optional(fields, 2, "responseToken"), _optional(fields, 3, "mechListMIC"))


def list_octets(mechanisms: tuple[bytes, ...]) -> bytes:
    """The list as it is written, and signed."""
    return der.element(der.SEQUENCE, b"".join(der.element(der.OBJECT_IDENTIFIER, one) for one in mechanisms))


def _octets(number: int, value: bytes) -> bytes:
    return der.element(der.context(number), der.element(der.OCTET_STRING, value)) if value else b""


def _optional(fields: Reader, number: int, what: str) -> bytes:
    found = der.optional(fields, der.context(number), what)
    return b"" if found is None else der.octets(found, what)


def _bounded(data: bytes) -> Reader:
    if len(data) > LARGEST:
        raise WireError("oversize", f"a token of {len(data)} octets")
    return Reader(data, "big")
