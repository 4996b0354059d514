"""Why a server refuses a ticket, as it says so itself: the KRB-ERROR in its token.

MIT's acceptors (Apache's, the lab's) and Windows send one in the place of their own proof, framed as every token of
Kerberos (RFC 4121 4.1, kind 03 00), inside SPNEGO, or bare in DCE style. It carries the server's clock, so the size of
a skew can be told. Nothing vouches for it: it is good for a sentence to an administrator, and for nothing else.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from casarray.core.dcerpc.cursor import Reader
from casarray.core.errors import WireError
from casarray.core.kerberos import der
from casarray.core.kerberos.tickets import KERBEROS, KERBEROS_OF_WINDOWS, out_of_spnego

LARGEST = 1 << 16  # octets
_FRAME = der.application(0)
_KRB_ERROR = der.application(30)
_ERROR_FOLLOWS = 0x0300  # RFC 4121 4.1
_GENERALIZED_TIME = 0x18
_TIME = re.compile(rb"\d{14}Z")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A KRB-ERROR. RFC 4120 5.9.1."""

    code: int  # RFC 4120 7.5.9
    server_time: float | None  # seconds since the epoch


def refusal_of(token: bytes) -> Refusal | None:
    """The KRB-ERROR in a server's token; None if there is none that can be read. Never raises."""
    if len(token) > LARGEST:
        return None
    try:
        return _error(_unframed(out_of_spnego(token)))
    except WireError:
        return None


def _unframed(token: bytes) -> Reader:
    reader = Reader(token, "big")
    if not reader.left or token[0] != _FRAME:
        return reader
    inside = der.inside(reader, _FRAME, "token")
    mechanism = der.inside(inside, der.OBJECT_IDENTIFIER, "mechanism").rest()
    if mechanism not in (KERBEROS, KERBEROS_OF_WINDOWS) or inside.u16("token: kind") != _ERROR_FOLLOWS:
        raise WireError("type", "no error of Kerberos")
    return inside


def _error(reader: Reader) -> Refusal:
    fields = der.inside(der.inside(reader, _KRB_ERROR, "KRB-ERROR"), der.SEQUENCE, "KRB-ERROR")
    for number, what, right in ((0, "pvno", 5), (1, "msg-type", 30)):
        if der.integer(der.inside(fields, der.context(number), what), what) != right:
            raise WireError("version", f"KRB-ERROR: {what}")
    der.optional(fields, der.context(2), "ctime")
    der.optional(fields, der.context(3), "cusec")
    stime = der.inside(der.inside(fields, der.context(4), "stime"), _GENERALIZED_TIME, "stime").rest()
    der.inside(fields, der.context(5), "susec")
    return Refusal(der.integer(der.inside(fields, der.context(6), "error-code"), "error-code"), _seconds(stime))


def _seconds(text: bytes) -> float | None:
    if not _TIME.fullmatch(text):
        return None
    try:
        return datetime.strptime(text.decode("ascii"), "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return None
