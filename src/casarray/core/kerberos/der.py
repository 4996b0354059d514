"""As much of DER (X.690) as Kerberos and SPNEGO tokens need: tags of one octet, definite lengths, nothing guessed."""

from casarray.core.dcerpc.cursor import Reader
from casarray.core.errors import WireError

INTEGER = 0x02
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
GENERAL_STRING = 0x1B
SEQUENCE = 0x30


def context(number: int) -> int:
    """The tag ``[number]``, explicit."""
    return 0xA0 | number


def application(number: int) -> int:
    """The tag ``[APPLICATION number]``, explicit."""
    return 0x60 | number


def inside(reader: Reader, tag: int, what: str) -> Reader:
    """Step over the next element, which must have that tag; a reader of what is in it."""
    found = reader.u8(f"{what}: tag")
    if found != tag:
        raise WireError("type", f"{what}: tag {tag:#04x} wanted, {found:#04x} found")
    length = _length(reader, what)
    if length > reader.left:
        raise WireError("truncated", f"{what}: {length} octets wanted at {reader.at}, {reader.left} left")
    start = reader.at
    reader.at = start + length
    return Reader(reader.data, "big", start, start + length)


def optional(reader: Reader, tag: int, what: str) -> Reader | None:
    """The same, if the next element has that tag; else nothing is read."""
    return inside(reader, tag, what) if reader.left and reader.data[reader.at] == tag else None


def integer(reader: Reader, what: str) -> int:
    """An INTEGER of at most five octets: 32 bits, signed or not."""
    octets = inside(reader, INTEGER, what).rest()
    if not 1 <= len(octets) <= 5:
        raise WireError("range", f"{what}: an integer of {len(octets)} octets")
    return int.from_bytes(octets, "big", signed=True)


def octets(reader: Reader, what: str) -> bytes:
    """An OCTET STRING."""
    return inside(reader, OCTET_STRING, what).rest()


def string(reader: Reader, what: str) -> str:
    """A KerberosString, which Windows fills with UTF-8 (RFC 4120 5.2.1)."""
    try:
        return inside(reader, GENERAL_STRING, what).rest().decode("utf-8")
    except UnicodeDecodeError as error:
        raise WireError("text", f"{what}: not UTF-8") from error


def element(tag: int, content: bytes) -> bytes:
    """An element, written."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def _length(reader: Reader, what: str) -> int:
    first = reader.u8(f"{what}: length")
    if first < 0x80:
        return first
    # Windows does not always write the shortest form.
    if not 1 <= (count := first & 0x7F) <= 4:
        raise WireError("length", f"{what}: a length of {count} octets")
    return int.from_bytes(reader.take(count, f"{what}: length"), "big")
