"""When a server's certificate runs out, read from its DER without judging anything else in it. RFC 5280 4.1."""

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
