"""What is inside the octets of EMSMDB: extended buffers, and the auxiliary blocks of a connect. [MS-OXCRPC] 2.2.2.

An extended buffer is a header of eight octets and a payload, ``RPC_HEADER_EXT``; several may stand one after the other,
the last one says so. All in it is little-endian and unaligned, whatever the order of the stub around it.

A payload may be obfuscated (every octet xor 0xA5), which is undone here, or compressed, which is not: no client has to
compress, and what is sent here is too small to gain from it. A client asks for none by `NO_COMPRESSION` in EcDoRpcExt2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from casarray.core.dcerpc.cursor import Reader, Writer
from casarray.core.errors import WireError

#: How many extended buffers one call may hold. [MS-OXCRPC] 3.1.4.2.1.2 has 96 as the most a server packs.
FRAMES_MAX = 96

_VERSION = 0
_XOR = bytes(octet ^ 0xA5 for octet in range(256))


class Frame(IntFlag):
    """The flags of an extended buffer. [MS-OXCRPC] 2.2.2.1."""

    COMPRESSED = 1
    XOR_MAGIC = 2
    LAST = 4


def frame(payload: bytes, *, obfuscated: bool = False) -> bytes:
    """A payload as the one and last extended buffer; over 65,535 octets is `WireError`."""
    octets = Writer()
    octets.u16(_VERSION)
    octets.u16(Frame.LAST | (Frame.XOR_MAGIC if obfuscated else 0))
    octets.u16(len(payload))
    octets.u16(len(payload))
    octets.octets(payload.translate(_XOR) if obfuscated else payload)
    return bytes(octets)


def payloads(octets: bytes) -> tuple[bytes, ...]:
    """What the extended buffers hold, in their order; nothing in nothing. Compressed ones are `WireError`."""
    reader = Reader(octets)
    found: list[bytes] = []
    last = not octets
    while not last:
        if len(found) == FRAMES_MAX:
            raise WireError("range", f"more than {FRAMES_MAX} extended buffers in one call")
        if (version := reader.u16("extended buffer: version")) != _VERSION:
            raise WireError("version", f"extended buffer: version {version}, only {_VERSION} is known")
        flags = reader.u16("extended buffer: flags")
        size, actual = reader.u16("extended buffer: size"), reader.u16("extended buffer: actual size")
        if flags & Frame.COMPRESSED:
            raise WireError("compressed", "extended buffer: compressed; ask for NoCompression in pulFlags")
        if size != actual:
            raise WireError("range", f"extended buffer: {size} octets, but {actual} when not compressed")
        payload = reader.take(size, "extended buffer: payload")
        found.append(payload.translate(_XOR) if flags & Frame.XOR_MAGIC else payload)
        last = bool(flags & Frame.LAST)
    if reader.left:
        raise WireError("range", f"extended buffer: {reader.left} octets after the last one")
    return tuple(found)


class AuxType(IntEnum):
    """Kinds of auxiliary blocks, those that are told or looked at here. [MS-OXCRPC] 2.2.2.2."""

    CLIENT_CONTROL = 0x0A
    OS_VERSION = 0x16
    ORGANIZATION = 0x17
    SERVER_CAPABILITIES = 0x46
    ENDPOINT_CAPABILITIES = 0x48


#: In `AuxType.ENDPOINT_CAPABILITIES`: EMSMDB, NSPI and RFR are on one endpoint, as 2013 and later have it.
SINGLE_ENDPOINT = 1

#: In `AuxType.ORGANIZATION`: there are public folders; their server is to be looked up by Autodiscover.
PUBLIC_FOLDERS = 1
PUBLIC_FOLDERS_BY_AUTODISCOVER = 2


@dataclass(frozen=True, slots=True)
class AuxBlock:
    """Something that client or server tells besides. ``AUX_HEADER`` and what follows it, [MS-OXCRPC] 2.2.2.2."""

    type: int
    data: bytes
    version: int = 1

    @classmethod
    def flags(cls, kind: AuxType, flags: int) -> "AuxBlock":
        """One that holds flags and nothing else: ORGANIZATION, SERVER_CAPABILITIES, ENDPOINT_CAPABILITIES."""
        return cls(kind, flags.to_bytes(4, "little"))

    @property
    def as_flags(self) -> int:
        """The flags of such a one; 0 if it is too short for any."""
        return int.from_bytes(self.data[:4], "little") if len(self.data) >= 4 else 0


def write_aux(blocks: Sequence[AuxBlock]) -> bytes:
    """The blocks in an extended buffer, for ``aux_in`` and ``aux_out`` of EcDoConnectEx; nothing for none."""
    octets = Writer()
    for block in blocks:
        octets.u16(4 + len(block.data))
        octets.u8(block.version)
        octets.u8(block.type)
        octets.octets(block.data)
    return frame(bytes(octets)) if blocks else b""


def read_aux(octets: bytes) -> tuple[AuxBlock, ...]:
    """The blocks in an extended buffer, known or not, or `WireError`."""
    blocks = []
    for payload in payloads(octets):
        reader = Reader(payload)
        while reader.left:
            size = reader.u16("auxiliary block: size")
            version, kind = reader.u8("auxiliary block: version"), reader.u8("auxiliary block: type")
            blocks.append(AuxBlock(kind, reader.take(size - 4, "auxiliary block"), version))
    return tuple(blocks)
