"""Encryption types: their numbers, names, and bits in Active Directory ([MS-KILE] 2.2.7, RFC 3961, RFC 3962)."""

from collections.abc import Iterable
from enum import IntEnum


class Enctype(IntEnum):
    """Those that the array's keys may have."""

    AES256 = 18
    AES128 = 17
    RC4 = 23

    @property
    def bit(self) -> int:
        """Its bit in ``msDS-SupportedEncryptionTypes``."""
        return {Enctype.RC4: 0x04, Enctype.AES128: 0x08, Enctype.AES256: 0x10}[self]

    @property
    def word(self) -> str:
        """As administrators write it in the configuration."""
        return self.name.lower()


NAMES = {
    1: "des-cbc-crc",
    3: "des-cbc-md5",
    16: "des3-cbc-sha1",
    17: "aes128-cts-hmac-sha1-96",
    18: "aes256-cts-hmac-sha1-96",
    19: "aes128-cts-hmac-sha256-128",
    20: "aes256-cts-hmac-sha384-192",
    23: "rc4-hmac",
}
AES = (Enctype.AES256, Enctype.AES128)
EXCHANGE = (*AES, Enctype.RC4)  # 28, as Exchange's guides set it
WORDS = tuple(one.word for one in EXCHANGE)


def name_of(number: int) -> str:
    """The name of an encryption type, known or not."""
    return NAMES.get(number, f"encryption type {number}")


def bits_of(types: Iterable[Enctype]) -> int:
    """The value of ``msDS-SupportedEncryptionTypes``."""
    return sum({one.bit for one in types})


def of_bits(bits: int) -> tuple[Enctype, ...]:
    """Those that are set, strongest first."""
    return tuple(one for one in EXCHANGE if bits & one.bit)


def of_words(words: Iterable[str]) -> tuple[Enctype, ...]:
    """What the configuration names, strongest first."""
    wanted = {word.casefold() for word in words}
    return tuple(one for one in EXCHANGE if one.word in wanted)
