"""Names of interfaces and transfer syntaxes: a UUID and a version. [C706] 12.6.3.1 (p_syntax_id_t)."""

from dataclasses import dataclass
from functools import lru_cache
from struct import unpack_from
from typing import Final
from uuid import UUID

from casarray.core.dcerpc.cursor import NIL, Order, uuid_from_octets, uuid_to_octets

_FEATURES_PREFIX: Final = bytes.fromhex("2c1cb76c12984045")


@dataclass(frozen=True, slots=True)
class Syntax:
    """An interface or a transfer syntax. Its string is ``uuid/major.minor``."""

    uuid: UUID
    major: int = 1
    minor: int = 0

    def __str__(self) -> str:
        return f"{self.uuid}/{self.major}.{self.minor}"

    @property
    def features(self) -> int | None:
        """The bits of a bind-time feature negotiation that poses as a transfer syntax. [MS-RPCE] 3.3.1.5.3."""
        octets = self.uuid.bytes_le
        if not octets.startswith(_FEATURES_PREFIX) or (self.major, self.minor) != (1, 0):
            return None
        return int.from_bytes(octets[8:], "little")

    def encode(self, order: Order) -> bytes:
        """Its 20 octets: the major version is the low half of the version word."""
        return uuid_to_octets(self.uuid, order) + (self.minor << 16 | self.major).to_bytes(4, order)


@lru_cache(maxsize=1024)
def syntax_from_octets(octets: bytes, order: Order) -> Syntax:
    """The syntax in these 20 octets; NDR and NDR64 are the very values below, which are compared with all the time."""
    (version,) = unpack_from("<I" if order == "little" else ">I", octets, 16)
    found = Syntax(uuid_from_octets(octets[:16], order), version & 0xFFFF, version >> 16)
    return next((known for known in (NDR, NDR64) if known == found), found)


def feature_negotiation(bits: int) -> Syntax:
    """The pretended transfer syntax that offers these features; see `SECURITY_MULTIPLEXING`, `KEEP_ON_ORPHAN`."""
    return Syntax(UUID(bytes_le=_FEATURES_PREFIX + bits.to_bytes(8, "little")), 1, 0)


#: Bits of the bind-time feature negotiation. [MS-RPCE] 2.2.2.14.
SECURITY_MULTIPLEXING: Final = 0x01
KEEP_ON_ORPHAN: Final = 0x02

NO_SYNTAX: Final = Syntax(NIL, 0, 0)  # what stands beside a refusal
NDR: Final = Syntax(UUID("8a885d04-1ceb-11c9-9fe8-08002b104860"), 2, 0)
NDR64: Final = Syntax(UUID("71710533-beba-4937-8319-b5dbef9ccc36"), 1, 0)
