"""What a client shows: the mechanism of a GSSAPI token, and the ticket in it as far as it is in the clear.

A first token of Kerberos is an AP-REQ (RFC 4120 5.5.1), and comes in three clothes: framed with the mechanism's
identifier (RFC 4121 4.1), inside SPNEGO (RFC 4178 4.2), or bare, as DCE style has it ([MS-KILE] 3.4.5.1). Its ticket
names the service, the key version and the encryption type, so it can be told which key a server needs to read it
without having any. Nothing here decrypts.
"""

from dataclasses import dataclass
from enum import StrEnum

from casarray.core.dcerpc.cursor import Reader
from casarray.core.errors import WireError
from casarray.core.kerberos import der

LARGEST = 1 << 18  # octets; the ticket of a user in 1,015 groups has some 64 KiB
MOST_COMPONENTS = 16

SPNEGO = bytes.fromhex("2b0601050502")  # 1.3.6.1.5.5.2
KERBEROS = bytes.fromhex("2a864886f712010202")  # 1.2.840.113554.1.2.2
#: Windows' own spelling, 1.2.840.48018.1.2.2: somebody cut it to 16 bits. [MS-SPNG] 3.1.5.2
KERBEROS_OF_WINDOWS = bytes.fromhex("2a864882f712010202")

_AP_REQ = der.application(14)
_AP_REQ_FOLLOWS = 0x0100  # RFC 4121 4.1
_TICKET = der.application(1)
_FRAME = der.application(0)  # RFC 2743 3.1
_INIT, _RESPONSE = der.context(0), der.context(1)  # the first token of SPNEGO, and all that follow
_NTLM = b"NTLMSSP\0"  # [MS-NLMP] 2.2.1


class Mechanism(StrEnum):
    """How a client tries to log on."""

    KERBEROS = "kerberos"
    NTLM = "ntlm"  # as it is, or inside SPNEGO
    SPNEGO_WITHOUT = "spnego-without"  # it only asks what there is, or offers something else
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Ticket:
    """The part of a service ticket that everybody can read."""

    realm: str
    components: tuple[str, ...]  # ("http", "mail.domain.tld")
    enctype: int
    version: int | None = None  # of the key it is encrypted with; None: the KDC does not say

    @property
    def name(self) -> str:
        """The service: ``http/mail.domain.tld``."""
        return "/".join(self.components)


def mechanism_of(token: bytes) -> Mechanism:
    """What a client's token, first or later, is of. Never raises."""
    try:
        inner = _out_of_spnego(token)
        found = _mechanism(token if inner is None else inner)
    except WireError:
        return Mechanism.UNKNOWN
    return Mechanism.SPNEGO_WITHOUT if inner is not None and found is Mechanism.UNKNOWN else found


def ticket_of(token: bytes) -> Ticket:
    """The ticket in a client's first token. `WireError` if it is not right.

    ``type`` says that it is something else than a first token of Kerberos; `mechanism_of` says what.
    """
    inner = _out_of_spnego(token)
    if inner == b"":
        raise WireError("type", "the token only asks what mechanisms there are")
    reader = Reader(token if inner is None else inner, "big")
    if _is(reader, _AP_REQ):
        return _ap_req(reader)
    mechanism, rest = _framed(reader)
    _end(reader, "token")
    if mechanism not in (KERBEROS, KERBEROS_OF_WINDOWS):
        raise WireError("type", "the token is not of Kerberos")
    if (kind := rest.u16("token: kind")) != _AP_REQ_FOLLOWS:
        raise WireError("type", f"the token of Kerberos is of kind {kind:#06x}, not a first one")
    return _ap_req(rest)


def read_ticket(data: bytes) -> Ticket:
    """A ticket as it lies in a credentials cache. `WireError`. RFC 4120 5.3."""
    reader = Reader(_bounded(data), "big")
    ticket = _ticket(reader)
    _end(reader, "ticket")
    return ticket


def out_of_spnego(token: bytes) -> bytes:
    """What a token carries once SPNEGO is taken off, empty if nothing; any other token as it is. `WireError`."""
    inner = _out_of_spnego(token)
    return token if inner is None else inner


def _mechanism(token: bytes) -> Mechanism:
    if token.startswith(_NTLM):
        return Mechanism.NTLM
    reader = Reader(token, "big")
    if _is(reader, _AP_REQ):
        return Mechanism.KERBEROS
    if not _is(reader, _FRAME):
        return Mechanism.UNKNOWN
    mechanism, _ = _framed(reader)
    return Mechanism.KERBEROS if mechanism in (KERBEROS, KERBEROS_OF_WINDOWS) else Mechanism.UNKNOWN


def _out_of_spnego(token: bytes) -> bytes | None:
    """What a token of SPNEGO carries, empty if nothing; None if it is none of SPNEGO."""
    reader = Reader(_bounded(token), "big")
    if _is(reader, _RESPONSE):
        return _response_token(reader)
    if not _is(reader, _FRAME):
        return None
    mechanism, rest = _framed(reader)
    return _init_token(rest) if mechanism == SPNEGO else None


def _framed(reader: Reader) -> tuple[bytes, Reader]:
    """The mechanism of a framed token, and what is in the frame behind it."""
    rest = der.inside(reader, _FRAME, "token")
    return der.inside(rest, der.OBJECT_IDENTIFIER, "mechanism").rest(), rest


def _init_token(reader: Reader) -> bytes:
    """The mechToken of a NegTokenInit; empty: there is none."""
    fields = der.inside(der.inside(reader, _INIT, "NegTokenInit"), der.SEQUENCE, "NegTokenInit")
    der.inside(fields, der.context(0), "mechTypes")
    der.optional(fields, der.context(1), "reqFlags")
    token = der.optional(fields, der.context(2), "mechToken")
    return b"" if token is None else der.octets(token, "mechToken")


def _response_token(reader: Reader) -> bytes:
    """The responseToken of a NegTokenResp; empty: there is none."""
    fields = der.inside(der.inside(reader, _RESPONSE, "NegTokenResp"), der.SEQUENCE, "NegTokenResp")
    der.optional(fields, der.context(0), "negState")
    der.optional(fields, der.context(1), "supportedMech")
    token = der.optional(fields, der.context(2), "responseToken")
    return b"" if token is None else der.octets(token, "responseToken")


def _ap_req(reader: Reader) -> Ticket:
    fields = der.inside(der.inside(reader, _AP_REQ, "AP-REQ"), der.SEQUENCE, "AP-REQ")
    for number, what, right in ((0, "pvno", 5), (1, "msg-type", 14)):
        if (found := der.integer(der.inside(fields, der.context(number), what), what)) != right:
            raise WireError("version", f"AP-REQ: {what} is {found}, not {right}")
    der.inside(fields, der.context(2), "ap-options")
    ticket = _ticket(der.inside(fields, der.context(3), "ticket"))
    der.inside(fields, der.context(4), "authenticator")
    _end(reader, "AP-REQ")
    return ticket


def _ticket(reader: Reader) -> Ticket:
    fields = der.inside(der.inside(reader, _TICKET, "ticket"), der.SEQUENCE, "ticket")
    if (version := der.integer(der.inside(fields, der.context(0), "tkt-vno"), "tkt-vno")) != 5:
        raise WireError("version", f"a ticket of Kerberos {version}")
    realm = der.string(der.inside(fields, der.context(1), "realm"), "realm")
    components = _principal(der.inside(fields, der.context(2), "sname"))
    part = der.inside(der.inside(fields, der.context(3), "enc-part"), der.SEQUENCE, "enc-part")
    enctype = der.integer(der.inside(part, der.context(0), "etype"), "etype")
    numbered = der.optional(part, der.context(1), "kvno")
    # Windows writes it signed: the upper half names a read-only domain controller. [MS-KILE] 3.1.5.8
    number = None if numbered is None else der.integer(numbered, "kvno") & 0xFFFFFFFF
    der.octets(der.inside(part, der.context(2), "cipher"), "cipher")
    return Ticket(realm, components, enctype, number)


def _principal(reader: Reader) -> tuple[str, ...]:
    fields = der.inside(reader, der.SEQUENCE, "sname")
    der.inside(fields, der.context(0), "name-type")
    names = der.inside(der.inside(fields, der.context(1), "name-string"), der.SEQUENCE, "name-string")
    components: list[str] = []
    while names.left:
        if len(components) == MOST_COMPONENTS:
            raise WireError("range", f"sname: more than {MOST_COMPONENTS} components")
        components.append(der.string(names, "name-string"))
    if not components:
        raise WireError("range", "sname: no component")
    return tuple(components)


def _is(reader: Reader, tag: int) -> bool:
    return reader.left > 0 and reader.data[reader.at] == tag


def _bounded(data: bytes) -> bytes:
    if len(data) > LARGEST:
        raise WireError("oversize", f"a token of {len(data)} octets; at most {LARGEST} are read")
    return data


def _end(reader: Reader, what: str) -> None:
    if reader.left:
        raise WireError("trailing", f"{reader.left} octets behind the {what}")
