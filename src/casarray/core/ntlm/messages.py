"""The three messages of NTLM, one value each. [MS-NLMP] 2.2.1, 2.2.2.

A message is a fixed part, in which a text or a blob is a length and an offset, and what these point to behind it. Only
Unicode is spoken. Where an offset leads must lie inside the message; anything else that is wrong is a `WireError` too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final, Self

from casarray.core.dcerpc.cursor import Reader, Writer
from casarray.core.errors import WireError

SIGNATURE: Final = b"NTLMSSP\0"
LARGEST: Final = 1 << 16  # octets of a message
MIC_SIZE: Final = 16
MOST_PAIRS: Final = 32
#: As Windows Server 2012 R2 has it, and the revision 15 of the protocol; nobody acts on it. [MS-NLMP] 2.2.2.10
VERSION: Final = bytes.fromhex("0603 8025 000000 0f")


class Flag(IntFlag):
    """What can be agreed on. [MS-NLMP] 2.2.2.5."""

    UNICODE = 0x00000001
    OEM = 0x00000002
    REQUEST_TARGET = 0x00000004
    SIGN = 0x00000010
    SEAL = 0x00000020
    NTLM = 0x00000200
    ANONYMOUS = 0x00000800
    ALWAYS_SIGN = 0x00008000
    TARGET_IS_DOMAIN = 0x00010000
    TARGET_IS_SERVER = 0x00020000
    EXTENDED_SESSION_SECURITY = 0x00080000
    TARGET_INFO = 0x00800000
    VERSION = 0x02000000
    KEY_128 = 0x20000000
    KEY_EXCHANGE = 0x40000000
    KEY_56 = 0x80000000


class AvId(IntEnum):
    """What a server tells of itself, and a client repeats with its response. [MS-NLMP] 2.2.2.1."""

    END = 0
    NETBIOS_COMPUTER = 1
    NETBIOS_DOMAIN = 2
    DNS_COMPUTER = 3
    DNS_DOMAIN = 4
    DNS_TREE = 5
    FLAGS = 6
    TIMESTAMP = 7
    SINGLE_HOST = 8
    TARGET_NAME = 9
    CHANNEL_BINDINGS = 10


MIC_PROVIDED: Final = 2  # in AvId.FLAGS
Pairs = Sequence[tuple[int, bytes]]


def write_pairs(pairs: Pairs) -> bytes:
    """With the end behind."""
    writer = Writer()
    for number, value in (*pairs, (AvId.END, b"")):
        writer.u16(number)
        writer.u16(len(value))
        writer.octets(value)
    return bytes(writer)


def read_pairs(data: bytes) -> tuple[tuple[int, bytes], ...]:
    """Up to the end; what is behind it is padding."""
    reader, pairs = Reader(data), []
    while (number := reader.u16("AV pair: id")) != AvId.END:
        pairs.append((number, reader.take(reader.u16("AV pair: length"), "AV pair: value")))
        if len(pairs) > MOST_PAIRS:
            raise WireError("oversize", f"more than {MOST_PAIRS} AV pairs")
    return tuple(pairs)


@dataclass(frozen=True, slots=True)
class Negotiate:
    """The client begins. [MS-NLMP] 2.2.1.1."""

    flags: int

    def encode(self) -> bytes:
        """The message, without names: nobody needs them."""
        writer = _begun(1)
        writer.u32(self.flags)
        writer.octets(_nowhere(2, 32 + 8))
        writer.octets(VERSION)
        return bytes(writer)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Its flags; Windows leaves out all the rest at times."""
        return cls(_body(data, 1).u32("NEGOTIATE: flags"))


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server asks for a proof. [MS-NLMP] 2.2.1.2."""

    flags: int
    challenge: bytes  # 8 octets
    target: str
    pairs: tuple[tuple[int, bytes], ...]

    def encode(self) -> bytes:
        """The message."""
        target, info = self.target.encode("utf-16-le"), write_pairs(self.pairs)
        writer = _begun(2)
        writer.octets(_place(target, 56))
        writer.u32(self.flags)
        writer.octets(self.challenge)
        writer.octets(bytes(8))
        writer.octets(_place(info, 56 + len(target)))
        writer.octets(VERSION)
        writer.octets(target + info)
        return bytes(writer)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """`WireError` if it is none."""
        reader = _body(data, 2)
        target = _taken(reader, "CHALLENGE: target")
        flags = reader.u32("CHALLENGE: flags")
        challenge = reader.take(8, "CHALLENGE: challenge")
        reader.take(8, "CHALLENGE: reserved")
        info = _taken(reader, "CHALLENGE: target info") if flags & Flag.TARGET_INFO else b""
        return cls(flags, challenge, _text(target, "CHALLENGE: target"), read_pairs(info) if info else ())


@dataclass(frozen=True, slots=True)
class Authenticate:
    """The client's proof. [MS-NLMP] 2.2.1.3."""

    flags: int
    domain: str
    user: str
    workstation: str
    response: bytes  # an NTLMv2 response: the proof, then what it is made over
    session_key: bytes = b""  # encrypted
    mic: bytes = bytes(MIC_SIZE)
    old_response: bytes = bytes(24)  # LM's; zeros since there is version 2 with a time

    def encode(self) -> bytes:
        """The message, with room for a MIC."""
        parts = [
            self.old_response,
            self.response,
            *(text.encode("utf-16-le") for text in (self.domain, self.user, self.workstation)),
            self.session_key,
        ]
        writer, at = _begun(3), MIC_AT + MIC_SIZE
        for part in parts:
            writer.octets(_place(part, at))
            at += len(part)
        writer.u32(self.flags)
        writer.octets(VERSION)
        writer.octets(self.mic)
        for part in parts:
            writer.octets(part)
        return bytes(writer)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """`WireError` if it is none. The MIC is read where there is room for one; `Client` says whether it counts."""
        reader = _body(data, 3)
        names = ("LM response", "response", "domain", "user", "workstation", "session key")
        old, response, domain, user, workstation, key = (_taken(reader, f"AUTHENTICATE: {name}") for name in names)
        flags = reader.u32("AUTHENTICATE: flags")
        return cls(
            flags,
            _text(domain, "AUTHENTICATE: domain"),
            _text(user, "AUTHENTICATE: user"),
            _text(workstation, "AUTHENTICATE: workstation"),
            response,
            key,
            data[MIC_AT : MIC_AT + MIC_SIZE],
            old,
        )


MIC_AT: Final = 72  # in an AUTHENTICATE message


@dataclass(frozen=True, slots=True)
class ClientChallenge:
    """What a response of version 2 is made over beside the server's challenge. [MS-NLMP] 2.2.2.7."""

    time: int  # FILETIME: 100 ns since 1601
    challenge: bytes  # 8 octets
    pairs: tuple[tuple[int, bytes], ...]

    def encode(self) -> bytes:
        """With the four octets of zero that Windows appends."""
        writer = Writer()
        writer.octets(b"\1\1" + bytes(6))
        writer.u64(self.time)
        writer.octets(self.challenge + bytes(4) + write_pairs(self.pairs) + bytes(4))
        return bytes(writer)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """`WireError` if it is none."""
        reader = Reader(data)
        if reader.take(2, "client challenge: version") != b"\1\1":
            raise WireError("version", "the response is not of NTLM version 2")
        reader.take(6, "client challenge: reserved")
        time, challenge = reader.u64("client challenge: time"), reader.take(8, "client challenge: challenge")
        reader.take(4, "client challenge: reserved")
        return cls(time, challenge, read_pairs(reader.rest()))


def _begun(kind: int) -> Writer:
    writer = Writer()
    writer.octets(SIGNATURE)
    writer.u32(kind)
    return writer


def _body(data: bytes, kind: int) -> Reader:
    if len(data) > LARGEST:
        raise WireError("oversize", f"an NTLM message of {len(data)} octets")
    reader = Reader(data)
    if reader.take(8, "NTLM: signature") != SIGNATURE:
        raise WireError("type", "no message of NTLM")
    if (found := reader.u32("NTLM: message type")) != kind:
        raise WireError("type", f"message {found} of NTLM where {kind} was due")
    return reader


def _place(part: bytes, at: int) -> bytes:
    writer = Writer()
    writer.u16(len(part))
    writer.u16(len(part))
    writer.u32(at)
    return bytes(writer)


def _nowhere(count: int, at: int) -> bytes:
    return _place(b"", at) * count


def _taken(reader: Reader, what: str) -> bytes:
    length = reader.u16(f"{what}: length")
    reader.u16(f"{what}: room")
    offset = reader.u32(f"{what}: offset")
    return Reader(reader.data, "little", min(offset, len(reader.data))).take(length, what) if length else b""


def _text(octets: bytes, what: str) -> str:
    try:
        return octets.decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise WireError("text", f"{what}: not UTF-16") from error
