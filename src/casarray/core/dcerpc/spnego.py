"""Takes the frame off a Kerberos token, as RPC's style has it.

In DCE style an AP-REQ stands by itself ([MS-KILE] 3.4.5.1), and MIT's library takes no other. Windows and impacket put
it into the usual frame of RFC 2743 3.1 all the same when it travels inside SPNEGO. Windows' own acceptor takes both,
and so do we: by unwrapping before the library sees it.
"""

from typing import Final

from casarray.core.dcerpc.cursor import Reader
from casarray.core.errors import WireError

_FRAME: Final = 0x60  # [APPLICATION 0], constructed
_OID: Final = 0x06
_OCTETS: Final = 0x04
_SEQUENCE: Final = 0x30
_NEG_TOKEN_INIT: Final = 0xA0
_MECH_TOKEN: Final = 0xA2
_SPNEGO: Final = bytes.fromhex("2b0601050502")
_KERBEROS: Final = (bytes.fromhex("2a864886f712010202"), bytes.fromhex("2a864882f712010202"))  # right, and Microsoft's
_AP_REQ: Final = b"\x01\x00"


def bare(token: bytes) -> bytes:
    """The first token of a client with its AP-REQ unframed; any other token, or no token at all, as it is."""
    try:
        return _bare(token)
    except WireError:
        return token  # whoever is to read it will say what is wrong with it


def _bare(token: bytes) -> bytes:
    if not token or token[0] != _FRAME:
        return token
    reader = Reader(_only(token)[1])
    _, oid = _element(reader, _OID)
    rest = reader.rest()
    if oid in _KERBEROS and rest[:2] == _AP_REQ:
        return rest[2:]
    if oid != _SPNEGO:
        return token
    _, choice = _only(rest, _NEG_TOKEN_INIT)
    _, fields = _only(choice, _SEQUENCE)
    reader, changed = Reader(fields), b""
    while reader.left:
        tag, value = _element(reader)
        if tag == _MECH_TOKEN:
            _, inner = _only(value, _OCTETS)
            value = _encode(_OCTETS, _bare(inner))
        changed += _encode(tag, value)
    offer = _encode(_NEG_TOKEN_INIT, _encode(_SEQUENCE, changed))
    return _encode(_FRAME, _encode(_OID, oid) + offer)


def _only(data: bytes, tag: int | None = None) -> tuple[int, bytes]:
    """The one element that ``data`` is."""
    reader = Reader(data)
    found = _element(reader, tag)
    if reader.left:
        raise WireError("trailing", f"{reader.left} octets behind an element of DER")
    return found


def _element(reader: Reader, tag: int | None = None) -> tuple[int, bytes]:
    """The next element of DER: its tag and its content."""
    found, size = reader.u8("DER: tag"), reader.u8("DER: length")
    if tag is not None and found != tag:
        raise WireError("tag", f"{found:#x} where {tag:#x} was wanted")
    if size >= 0x80:
        count = size & 0x7F
        if not 1 <= count <= 4:
            raise WireError("length", f"a length of {count} octets")
        size = int.from_bytes(reader.take(count, "DER: length"), "big")
    return found, reader.take(size, "DER: content")


def _encode(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content
