"""Takes the frame off a Kerberos token, as RPC's style has it.

In DCE style an AP-REQ stands by itself ([MS-KILE] 3.4.5.1), and MIT's library takes no other. Windows and impacket put
it into the usual frame of RFC 2743 3.1 all the same when it travels inside SPNEGO. Windows' own acceptor takes both,
and so do we: by unwrapping before the library sees it.
"""

from typing import Final

from casarray.core.dcerpc.cursor import Reader
from casarray.core.errors import WireError
from casarray.core.kerberos import der
from casarray.core.kerberos.tickets import KERBEROS, KERBEROS_OF_WINDOWS, SPNEGO

_FRAME: Final = der.application(0)
_INIT: Final = der.context(0)
_MECH_TOKEN: Final = der.context(2)
_AP_REQ_FOLLOWS: Final = b"\x01\x00"  # RFC 4121 4.1


def bare(token: bytes) -> bytes:
    """The first token of a client with its AP-REQ unframed; any other token, or no token at all, as it is."""
    try:
        return _bare(token)
    except WireError:
        return token  # whoever is to read it will say what is wrong with it


def _bare(token: bytes) -> bytes:
    frame = _only(token, _FRAME)
    mechanism, rest = der.inside(frame, der.OBJECT_IDENTIFIER, "mechanism").rest(), frame.rest()
    if mechanism in (KERBEROS, KERBEROS_OF_WINDOWS) and rest.startswith(_AP_REQ_FOLLOWS):
        return rest.removeprefix(_AP_REQ_FOLLOWS)
    if mechanism != SPNEGO:
        return token
    fields = _only(_only(rest, _INIT).rest(), der.SEQUENCE)
    before = fields.at
    while fields.left and fields.data[fields.at] != _MECH_TOKEN:
        der.inside(fields, fields.data[fields.at], "NegTokenInit")
    first = fields.data[before : fields.at]
    inner = _only(der.inside(fields, _MECH_TOKEN, "mechToken").rest(), der.OCTET_STRING).rest()
    changed = der.element(_MECH_TOKEN, der.element(der.OCTET_STRING, _bare(inner)))
    offer = der.element(_INIT, der.element(der.SEQUENCE, first + changed + fields.rest()))
    return der.element(_FRAME, der.element(der.OBJECT_IDENTIFIER, mechanism) + offer)


def _only(data: bytes, tag: int) -> Reader:
    """What is in the one element that ``data`` is."""
    reader = Reader(data, "big")
    found = der.inside(reader, tag, "token")
    if reader.left:
        raise WireError("trailing", f"{reader.left} octets behind an element of DER")
    return found
