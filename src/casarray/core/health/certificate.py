"""When a server's certificate runs out and for whom it is, read from its DER without judging it. RFC 5280 4.1."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache

SEQUENCE, INTEGER, VERSION, UTC_TIME, GENERALIZED_TIME = 0x30, 0x02, 0xA0, 0x17, 0x18


@lru_cache(maxsize=1024)  # a server shows the same certificate at every probe
def expires(der: bytes) -> float | None:
    """`notAfter` in seconds since the epoch; None when the bytes are no certificate."""
    try:
        certificate = _inside(der, 0, SEQUENCE)
        tbs = _inside(certificate, 0, SEQUENCE)
        tag, _, at = _element(tbs, 0)
        if tag == VERSION:
            _, _, at = _element(tbs, at)  # serialNumber
        for _ in ("signature", "issuer"):
            _, _, at = _element(tbs, at)
        validity = _inside(tbs, at, SEQUENCE)
        _, _, at = _element(validity, 0)  # notBefore
        tag, value, _ = _element(validity, at)
        return _time(tag, value.decode("ascii"))
    except (IndexError, ValueError, OverflowError):
        return None


_COMMON_NAME = bytes.fromhex("0603550403")  # the whole element of the OID 2.5.4.3
_ALTERNATIVES = bytes.fromhex("0603551d11")  # subjectAltName, 2.5.29.17
_OCTETS, _EXTENSIONS, _DNS_NAME = 0x04, 0xA3, 0x82


def names(der: bytes) -> tuple[str, tuple[str, ...]]:
    """The subject's common name, and the host names of subjectAltName; empty where there are none."""
    try:
        tbs = _inside(_inside(der, 0, SEQUENCE), 0, SEQUENCE)
        fields = list(_elements(tbs))
        if fields[0][0] == VERSION:
            del fields[0]
        subject = fields[4][1]  # after serial number, signature, issuer and validity
        alternatives: tuple[str, ...] = ()
        for tag, value in fields[5:]:
            if tag == _EXTENSIONS:
                alternatives = _alternatives(_inside(value, 0, SEQUENCE))
        return _common_name(subject), alternatives
    except (IndexError, ValueError):
        return "", ()


def _common_name(subject: bytes) -> str:
    found = ""
    for _, relative in _elements(subject):
        for _, pair in _elements(relative):
            if pair.startswith(_COMMON_NAME):
                found = _text(_element(pair, len(_COMMON_NAME))[1])  # the last one is the most particular
    return found


def _alternatives(extensions: bytes) -> tuple[str, ...]:
    for _, extension in _elements(extensions):
        if extension.startswith(_ALTERNATIVES):
            value = next((inner for tag, inner in _elements(extension) if tag == _OCTETS), b"")
            return tuple(_text(name) for tag, name in _elements(_inside(value, 0, SEQUENCE)) if tag == _DNS_NAME)
    return ()


def _text(octets: bytes) -> str:
    """Names come from strangers and end in sentences: what cannot be shown is not shown."""
    return "".join(c if c.isprintable() else "?" for c in octets.decode("utf-8", "replace"))[:253]


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        tag, value, at = _element(data, at)
        yield tag, value


def _element(data: bytes, at: int) -> tuple[int, bytes, int]:
    tag, length, at = data[at], data[at + 1], at + 2
    if length & 0x80:
        octets = length & 0x7F
        if not 1 <= octets <= 4:
            raise ValueError("length")
        length = int.from_bytes(data[at : at + octets], "big")
        at += octets
    if at + length > len(data):
        raise ValueError("cut")
    return tag, data[at : at + length], at + length


def _inside(data: bytes, at: int, wanted: int) -> bytes:
    tag, value, _ = _element(data, at)
    if tag != wanted:
        raise ValueError("tag")
    return value


def _time(tag: int, text: str) -> float:
    if tag == UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text  # RFC 5280 4.1.2.5.1
    elif tag != GENERALIZED_TIME:
        raise ValueError("tag")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
