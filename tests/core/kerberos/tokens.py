"""Tokens as clients send them, made by hand: nothing in them was ever encrypted."""

from casarray.core.kerberos.tickets import KERBEROS, SPNEGO


def tlv(tag: int, *parts: bytes) -> bytes:
    """An element of DER, with the shortest length."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def integer(value: int) -> bytes:
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def oid(octets: bytes) -> bytes:
    return tlv(0x06, octets)


def encrypted(enctype: int, version: int | None, cipher: bytes) -> bytes:
    kvno = b"" if version is None else tlv(0xA1, integer(version))
    return tlv(0x30, tlv(0xA0, integer(enctype)), kvno, tlv(0xA2, tlv(0x04, cipher)))


def ticket(
    name: str = "http/mail.lab.example",
    realm: str = "LAB.EXAMPLE",
    enctype: int = 18,
    version: int | None = 5,
) -> bytes:
    names = tlv(0x30, *(tlv(0x1B, part.encode()) for part in name.split("/")))
    principal = tlv(0x30, tlv(0xA0, integer(2)), tlv(0xA1, names))
    return tlv(
        0x61,
        tlv(
            0x30,
            tlv(0xA0, integer(5)),
            tlv(0xA1, tlv(0x1B, realm.encode())),
            tlv(0xA2, principal),
            tlv(0xA3, encrypted(enctype, version, bytes(90))),
        ),
    )


def ap_req(inside: bytes) -> bytes:
    options = tlv(0x03, b"\0\x20\0\0\0")
    fields = (integer(5), integer(14), options, inside, encrypted(18, None, bytes(60)))
    return tlv(0x6E, tlv(0x30, *(tlv(0xA0 | number, field) for number, field in enumerate(fields))))


def framed(mechanism: bytes, *parts: bytes) -> bytes:
    return tlv(0x60, oid(mechanism), *parts)


def nego_init(*mechanisms: bytes, token: bytes | None) -> bytes:
    """What a browser sends first."""
    carried = b"" if token is None else tlv(0xA2, tlv(0x04, token))
    types = tlv(0xA0, tlv(0x30, *(oid(one) for one in mechanisms)))
    return framed(SPNEGO, tlv(0xA0, tlv(0x30, types, carried)))


def nego_response(token: bytes) -> bytes:
    """What it sends next."""
    return tlv(0xA1, tlv(0x30, tlv(0xA0, tlv(0x0A, b"\1")), tlv(0xA2, tlv(0x04, token))))


def client_token(inside: bytes | None = None, *, framed: bool = True, spnego: bool = False) -> bytes:
    """A first token with a ticket in it: bare it is as DCE style has it."""
    token = ap_req(ticket() if inside is None else inside)
    if framed:
        token = tlv(0x60, oid(KERBEROS), b"\1\0", token)
    return nego_init(KERBEROS, token=token) if spnego else token
