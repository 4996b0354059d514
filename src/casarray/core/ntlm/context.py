"""The two sides of an NTLM logon, as `casarray.core.dcerpc.auth.Security`: three messages, then signed or sealed calls.

Version 2 only, with extended session security, a key of 128 bits and a key exchange; whoever offers less is refused.
Clock and random come in as arguments. A server knows its users by the hash of their password.
"""

import hmac
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from casarray.core.errors import Denied, WireError
from casarray.core.ntlm.crypto import Rc4, hmac_md5, nt_hash, proof, response_key
from casarray.core.ntlm.messages import (
    MIC_AT,
    MIC_PROVIDED,
    MIC_SIZE,
    Authenticate,
    AvId,
    Challenge,
    ClientChallenge,
    Flag,
    Negotiate,
)
from casarray.core.ntlm.sealing import SIGNATURE_SIZE, Sealing

Random = Callable[[int], bytes]  # so many octets that nobody can guess
Clock = Callable[[], float]  # seconds since 1970

_NEEDED: Final = (
    Flag.UNICODE | Flag.NTLM | Flag.EXTENDED_SESSION_SECURITY | Flag.SIGN | Flag.KEY_128 | Flag.KEY_EXCHANGE
)
_OFFERED: Final = (
    _NEEDED | Flag.SEAL | Flag.ALWAYS_SIGN | Flag.REQUEST_TARGET | Flag.TARGET_INFO | Flag.VERSION | Flag.KEY_56
)
_EPOCH: Final = 11_644_473_600  # 1970 in seconds since 1601


class NtlmSide:
    """What both have in common."""

    mechanism: Final = "NTLM"
    #: The signature is over the whole PDU, whether header signing was agreed on or not: NTLM's own rule for version 2.
    signs_headers: Final = True

    def __init__(self) -> None:
        self._sealing: Sealing | None = None
        self._heard = b""  # the messages so far, for the MIC

    @property
    def complete(self) -> bool:
        """Whether the legs are over. What a server proves, its first signature proves."""
        return self._sealing is not None

    @property
    def sealing(self) -> Sealing:
        """The keys of the session. `Denied` before there are any."""
        if self._sealing is None:
            raise Denied("the NTLM logon is not complete")
        return self._sealing

    def token_size(self, sealed: bool) -> int:  # noqa: ARG002 - the same for both
        """In octets."""
        return SIGNATURE_SIZE

    def sign(self, data: bytes) -> bytes:
        """The token that vouches for ``data``."""
        return self.sealing.sign(data)

    def verify(self, data: bytes, token: bytes) -> None:
        """Check that token."""
        self.sealing.verify(data, token)

    def seal(self, before: bytes, body: bytes, after: bytes) -> tuple[bytes, bytes]:
        """The body sealed, and the token."""
        return self.sealing.seal(before, body, after)

    def unseal(self, before: bytes, body: bytes, after: bytes, token: bytes) -> bytes:
        """The body in clear."""
        return self.sealing.unseal(before, body, after, token)


class NtlmClient(NtlmSide):
    """A client that knows a password. ``target`` is the service, ``class/host``, which the response names."""

    def __init__(self, user: str, domain: str, password: str, target: str, *, random: Random, clock: Clock) -> None:
        super().__init__()
        self._user, self._domain, self._target = user, domain, target
        self._hashed = nt_hash(password)
        self._random, self._clock = random, clock
        self._server = ""

    @property
    def peer(self) -> str:
        """What the server says it is called, which NTLM does not prove; empty before the end."""
        return self._server if self.complete else ""

    def step(self, token: bytes) -> bytes:
        """Nothing, then the challenge; the message that answers it. `Denied` for what cannot be answered."""
        if self.complete:
            raise Denied("the server goes on with NTLM after its end")
        if not self._heard:
            self._heard = Negotiate(_OFFERED).encode()
            return self._heard
        try:
            challenge = Challenge.decode(token)
            if missing := _NEEDED & ~challenge.flags:
                raise Denied(f"the server cannot do what NTLM version 2 needs: {_names(missing)}")
            return self._authenticate(challenge, token)
        except WireError as error:  # of what it says, or of what would have to be repeated and does not fit
            raise Denied(f"the server's challenge of NTLM cannot be answered ({error})") from None

    def _authenticate(self, challenge: Challenge, token: bytes) -> bytes:
        told = dict(challenge.pairs)
        self._server = _decoded(told.get(AvId.DNS_COMPUTER) or told.get(AvId.NETBIOS_COMPUTER, b""))
        stamp = told.get(AvId.TIMESTAMP, b"")
        time = int.from_bytes(stamp, "little") if len(stamp) == 8 else int((self._clock() + _EPOCH) * 1e7)
        flags = int.from_bytes(told.get(AvId.FLAGS, b"")[:4], "little") | MIC_PROVIDED
        told[AvId.FLAGS] = flags.to_bytes(4, "little")
        told[AvId.CHANNEL_BINDINGS] = bytes(16)
        told[AvId.TARGET_NAME] = self._target.encode("utf-16-le")
        rest = ClientChallenge(time, self._random(8), tuple(told.items())).encode()
        key = response_key(self._hashed, self._user, self._domain)
        proven = proof(key, challenge.challenge, rest)
        session_key = self._random(16)
        message = Authenticate(
            flags=challenge.flags & _OFFERED,
            domain=self._domain,
            user=self._user,
            workstation="",
            response=proven + rest,
            session_key=Rc4(hmac_md5(key, proven)).through(session_key),
        )
        mic = hmac_md5(session_key, self._heard, token, message.encode())
        self._sealing = Sealing(session_key, client=True)
        return replace(message, mic=mic).encode()


class NtlmServer(NtlmSide):
    """A server. ``hash_of`` tells the `nt_hash` of a user's password, or None for whom it does not know."""

    def __init__(
        self, name: str, domain: str, hash_of: Callable[[str, str], bytes | None], *, random: Random, clock: Clock
    ) -> None:
        """``name`` is the server's, ``cas1.lab.example``; ``domain`` that of its users, LAB. ``hash_of(user, domain)``
        gets both as the client sends them."""
        super().__init__()
        self._name, self._domain, self._hash_of = name, domain, hash_of
        self._random, self._clock = random, clock
        self._challenge: Challenge | None = None
        self._user = ""

    @property
    def peer(self) -> str:
        """The user: ``LAB\\alice``. Empty before it has proven that."""
        return self._user if self.complete else ""

    def step(self, token: bytes) -> bytes:
        """The client's message; the challenge, then nothing. `Denied` for who does not prove anything."""
        if self.complete:
            raise Denied("the client goes on with NTLM after its end")
        try:
            if self._challenge is None:
                return self._ask(token)
            self._prove(Authenticate.decode(token), token, self._challenge)
        except WireError as error:
            raise Denied(f"a message of NTLM cannot be read ({error})") from None
        return b""

    def _ask(self, token: bytes) -> bytes:
        offered = Negotiate.decode(token).flags
        if missing := _NEEDED & ~offered & ~Flag.SIGN:
            raise Denied(f"the client cannot do what NTLM version 2 needs: {_names(missing)}")
        netbios = self._name.partition(".")[0].upper()[:15]
        texts = {
            AvId.NETBIOS_DOMAIN: self._domain,
            AvId.NETBIOS_COMPUTER: netbios,
            AvId.DNS_COMPUTER: self._name,
        }
        pairs = [(number.value, text.encode("utf-16-le")) for number, text in texts.items()]
        now = int((self._clock() + _EPOCH) * 1e7).to_bytes(8, "little")
        flags = (_OFFERED & (offered | Flag.SIGN | Flag.TARGET_INFO | Flag.ALWAYS_SIGN)) | Flag.TARGET_IS_SERVER
        pairs.append((AvId.TIMESTAMP.value, now))
        self._challenge = Challenge(flags, self._random(8), netbios, tuple(pairs))
        asked = self._challenge.encode()
        self._heard = token + asked
        return asked

    def _prove(self, said: Authenticate, token: bytes, asked: Challenge) -> None:
        if not said.user or said.flags & Flag.ANONYMOUS:
            raise Denied("a client came without a name: nobody is let in anonymously")
        who = f"{said.domain}\\{said.user}"
        if missing := (_NEEDED & ~Flag.SIGN) & ~said.flags:
            raise Denied(f"{who} gives up what NTLM version 2 needs: {_names(missing)}")
        proven, rest = said.response[:16], said.response[16:]
        if len(said.response) <= 24:
            raise Denied(f"{who} answers by NTLM version 1, which is refused: set the client to NTLMv2")
        repeated = dict(ClientChallenge.decode(rest).pairs)
        hashed = self._hash_of(said.user, said.domain)
        # Who is not known gets as far as who does not know the password, and hears the same.
        key = response_key(hashed or self._random(16), said.user, said.domain)
        if not hmac.compare_digest(proof(key, asked.challenge, rest), proven) or hashed is None:
            raise Denied(f"NTLM: {who} is not known here, or the password is not right")
        if len(said.session_key) != 16:
            raise Denied(f"{who} sends no session key")
        session_key = Rc4(hmac_md5(key, proven)).through(said.session_key)
        if int.from_bytes(repeated.get(AvId.FLAGS, b""), "little") & MIC_PROVIDED:
            bare = token[:MIC_AT] + bytes(MIC_SIZE) + token[MIC_AT + MIC_SIZE :]
            if not hmac.compare_digest(hmac_md5(session_key, self._heard, bare), said.mic):
                raise Denied(f"the NTLM messages of {who} were changed on their way")
        self._user = who
        self._sealing = Sealing(session_key, client=False)


def _names(flags: int) -> str:
    return ", ".join(flag.name.lower().replace("_", " ") for flag in Flag if flags & flag and flag.name)


def _decoded(octets: bytes) -> str:
    return octets.decode("utf-16-le", "replace")
