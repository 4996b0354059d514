"""What time a server has, by the challenge with which it answers NTLM. [MS-NLMP] 2.2.2.1, MsvAvTimestamp.

A server that refuses a ticket rarely says that it is for its clock. But whoever begins NTLM is told the time, without
having proven anything; nothing of NTLM is gone on with.
"""

from casarray.core.errors import Denied, WireError
from casarray.core.ntlm.messages import AvId, Challenge, Flag, Negotiate

_EPOCH = 11_644_473_600  # seconds from 1601, where FILETIME begins, to 1970
_OFFERED = (
    Flag.UNICODE
    | Flag.REQUEST_TARGET
    | Flag.SIGN
    | Flag.SEAL
    | Flag.NTLM
    | Flag.ALWAYS_SIGN
    | Flag.EXTENDED_SESSION_SECURITY
    | Flag.TARGET_INFO
    | Flag.VERSION
    | Flag.KEY_128
    | Flag.KEY_EXCHANGE
    | Flag.KEY_56
)


class ClockAsker:
    """`casarray.core.dcerpc.auth.Security` that asks for the challenge, and hangs up once it is there."""

    complete = False
    peer = ""
    mechanism = ""
    signs_headers = False

    def __init__(self) -> None:
        self.time: float | None = None  # what the server said, in seconds since the epoch

    def step(self, token: bytes) -> bytes:
        """Begin; `Denied` when the challenge has come, as there is nothing to go on with."""
        if not token:
            return Negotiate(_OFFERED).encode()
        self.time = time_in(token)
        raise Denied("the time is known")

    def token_size(self, sealed: bool) -> int:  # noqa: ARG002 - as every security
        """No call is ever made."""
        return 0

    def sign(self, data: bytes) -> bytes:
        """No call is ever made."""
        raise Denied(f"{len(data)} octets to sign without a logon")

    def verify(self, data: bytes, token: bytes) -> None:
        """No call is ever made."""
        raise Denied(f"{len(data)} octets and a token of {len(token)} without a logon")

    def seal(self, before: bytes, body: bytes, after: bytes) -> tuple[bytes, bytes]:
        """No call is ever made."""
        raise Denied(f"{len(before + body + after)} octets to seal without a logon")

    def unseal(self, before: bytes, body: bytes, after: bytes, token: bytes) -> bytes:
        """No call is ever made."""
        raise Denied(f"{len(before + body + after + token)} octets to unseal without a logon")


def time_in(challenge: bytes) -> float | None:
    """The time in a challenge, in seconds since the epoch; None if there is none. Never raises."""
    try:
        stamp = dict(Challenge.decode(challenge).pairs).get(AvId.TIMESTAMP, b"")
    except WireError:
        return None
    return int.from_bytes(stamp, "little") / 1e7 - _EPOCH if len(stamp) == 8 else None


def difference_text(ahead: float) -> str:
    """``30 minutes ahead of``, ``2 hours behind``."""
    minutes = round(abs(ahead) / 60)
    size = f"{minutes} minutes" if minutes < 120 else f"{round(minutes / 60)} hours"
    return f"{size} ahead of" if ahead > 0 else f"{size} behind"
