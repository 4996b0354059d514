"""The keys of NTLM version 2, and the two old algorithms that no library has to have any more: MD4 and RC4.

Neither is secure. NTLM is made of them; what they protect here is a lab, and the truth of a test.
"""

import hashlib
import hmac
from struct import Struct
from typing import Final

_WORDS: Final = Struct("<16I")
_MASK: Final = 0xFFFFFFFF
#: RFC 1320 3.4: for each round its constant, its order of words, and its four shifts.
_ROUNDS: Final = (
    (0x00000000, (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), (3, 7, 11, 19)),
    (0x5A827999, (0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), (3, 5, 9, 13)),
    (0x6ED9EBA1, (0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15), (3, 9, 11, 15)),
)


def md4(data: bytes) -> bytes:
    """The digest, 16 octets. RFC 1320."""
    padded = data + b"\x80" + bytes((55 - len(data)) % 64) + (8 * len(data)).to_bytes(8, "little")
    state = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
    for at in range(0, len(padded), 64):
        words = _WORDS.unpack_from(padded, at)
        a, b, c, d = state
        for number, (constant, order, shifts) in enumerate(_ROUNDS):
            for turn, index in enumerate(order):
                total = (a + _mixed(number, b, c, d) + words[index] + constant) & _MASK
                shift = shifts[turn % 4]
                a, b, c, d = d, (total << shift | total >> (32 - shift)) & _MASK, b, c
        state = (state[0] + a, state[1] + b, state[2] + c, state[3] + d)
        state = (state[0] & _MASK, state[1] & _MASK, state[2] & _MASK, state[3] & _MASK)
    return b"".join(word.to_bytes(4, "little") for word in state)


def _mixed(number: int, b: int, c: int, d: int) -> int:
    """The function of each round."""
    if number == 0:
        return (b & c) | (~b & d)
    if number == 1:
        return (b & c) | (b & d) | (c & d)
    return b ^ c ^ d


class Rc4:
    """A stream of RC4: what goes through it is encrypted, or decrypted, by the octets that follow."""

    __slots__ = ("_i", "_j", "_state")

    def __init__(self, key: bytes) -> None:
        state, j = list(range(256)), 0
        for i in range(256):
            j = (j + state[i] + key[i % len(key)]) & 0xFF
            state[i], state[j] = state[j], state[i]
        self._state, self._i, self._j = state, 0, 0

    def through(self, data: bytes) -> bytes:
        """The data after it, as long as before."""
        state, i, j = self._state, self._i, self._j
        out = bytearray(data)
        for at, octet in enumerate(out):
            i = (i + 1) & 0xFF
            left = state[i]
            j = (j + left) & 0xFF
            state[i] = right = state[j]
            state[j] = left
            out[at] = octet ^ state[(left + right) & 0xFF]
        self._i, self._j = i, j
        return bytes(out)


def hmac_md5(key: bytes, *parts: bytes) -> bytes:
    """16 octets."""
    return hmac.digest(key, b"".join(parts), hashlib.md5)


def nt_hash(password: str) -> bytes:
    """What a domain controller keeps of a password: as good as the password itself. [MS-NLMP] 3.3.1 (NTOWFv1)."""
    return md4(password.encode("utf-16-le"))


def response_key(hashed: bytes, user: str, domain: str) -> bytes:
    """The key of a user's responses; the domain counts as it was sent. [MS-NLMP] 3.3.2 (NTOWFv2)."""
    return hmac_md5(hashed, (user.upper() + domain).encode("utf-16-le"))


def proof(key: bytes, server_challenge: bytes, rest: bytes) -> bytes:
    """What a response begins with: only who knows the key can make it for this challenge. [MS-NLMP] 3.3.2."""
    return hmac_md5(key, server_challenge, rest)


def sign_key(session_key: bytes, from_client: bool) -> bytes:
    """[MS-NLMP] 3.4.5.2, with extended session security."""
    return hashlib.md5(session_key + _magic("signing", from_client)).digest()


def seal_key(session_key: bytes, from_client: bool) -> bytes:
    """[MS-NLMP] 3.4.5.3, with extended session security and a key of 128 bits."""
    return hashlib.md5(session_key + _magic("sealing", from_client)).digest()


def _magic(purpose: str, from_client: bool) -> bytes:
    way = "client-to-server" if from_client else "server-to-client"
    return f"session key to {way} {purpose} key magic constant\0".encode("ascii")
