"""What an established NTLM session does to messages: a signature of 16 octets, and RC4. [MS-NLMP] 3.4.

With extended session security and a key exchanged, each direction has its own keys and counts its messages. RC4 is one
stream: the stub first, then the first half of the signature's HMAC. What is vouched for may be more than what is
sealed, as RPC has it ([MS-RPCE] 2.2.2.11): the HMAC is over all of it, in clear.
"""

import hmac
from typing import Final

from casarray.core.errors import Denied
from casarray.core.ntlm.crypto import Rc4, hmac_md5, seal_key, sign_key

SIGNATURE_SIZE: Final = 16
_VERSION: Final = b"\1\0\0\0"


class Direction:
    """One way of a session."""

    __slots__ = ("_cipher", "_number", "_seal", "_sign")

    def __init__(self, session_key: bytes, from_client: bool) -> None:
        self._sign = sign_key(session_key, from_client)
        self._seal = seal_key(session_key, from_client)
        self._cipher = Rc4(self._seal)
        self._number = 0

    def through(self, body: bytes) -> bytes:
        """Encrypted, or in clear again; its signature has to be made, or checked, next."""
        return self._cipher.through(body)

    def signature(self, data: bytes) -> bytes:
        """Of the next message. [MS-NLMP] 3.4.4.2."""
        number = self._number.to_bytes(4, "little")
        self._number = (self._number + 1) & 0xFFFFFFFF
        return _VERSION + self._cipher.through(hmac_md5(self._sign, number, data)[:8]) + number

    def check(self, data: bytes, signature: bytes, what: str) -> None:
        """`Denied` if that is not the signature of the message whose turn it is."""
        if not hmac.compare_digest(self.signature(data), signature):
            raise Denied(f"{what} is not right: the message was changed, repeated, or is out of its turn")

    def begin_stream_anew(self) -> None:
        """After SPNEGO has signed its list with it the stream begins again, and the count goes on. [MS-SPNG] 3.3.5.1"""
        self._cipher = Rc4(self._seal)


class Sealing:
    """Both ways of a session, seen from one side."""

    __slots__ = ("incoming", "outgoing")

    def __init__(self, session_key: bytes, client: bool) -> None:
        self.outgoing = Direction(session_key, client)
        self.incoming = Direction(session_key, not client)

    def sign(self, data: bytes) -> bytes:
        """The token that vouches for ``data``."""
        return self.outgoing.signature(data)

    def verify(self, data: bytes, token: bytes) -> None:
        """Check that token."""
        self.incoming.check(data, token, "the signature of a call")

    def seal(self, before: bytes, body: bytes, after: bytes) -> tuple[bytes, bytes]:
        """The body sealed, and the token, which vouches for all three."""
        sealed = self.outgoing.through(body)
        return sealed, self.outgoing.signature(before + body + after)

    def unseal(self, before: bytes, body: bytes, after: bytes, token: bytes) -> bytes:
        """The body in clear."""
        clear = self.incoming.through(body)
        self.incoming.check(before + clear + after, token, "the seal of a call")
        return clear
