"""A ticket shown over HTTP: RFC 4559."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from casarray.core.errors import Denied, WireError
from casarray.core.health.conversation import Ask, Dial, Encrypt
from casarray.core.health.greetings import printable
from casarray.core.health.http import HEADER_LIMIT
from casarray.core.kerberos.approach import Approach
from casarray.core.kerberos.knocks import MOST_LEGS, Heard, Initiator, Knock, Outcome, Part, from64, refused
from casarray.core.kerberos.refusals import refusal_of
from casarray.core.kerberos.tickets import Mechanism, mechanism_of

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?")
_NAMES_ITSELF = ("x-feserver", "x-calculatedbetarget", "server")


@dataclass(frozen=True, slots=True)
class _Response:
    """The head of an answer."""

    status: int
    headers: tuple[tuple[str, str], ...]

    def all(self, name: str) -> tuple[str, ...]:
        return tuple(value for key, value in self.headers if key == name)

    def first(self, name: str) -> str:
        return next(iter(self.all(name)), "")

    @property
    def schemes(self) -> Mapping[str, str]:
        """The challenges: their schemes, in small letters, with what follows."""
        found: dict[str, str] = {}
        for challenge in self.all("www-authenticate"):
            scheme, _, rest = challenge.strip().partition(" ")
            found.setdefault(scheme.casefold(), rest.strip())
        return found

    def heard(self, outcome: Outcome, detail: str, *, let_in: bool = True) -> Heard:
        return Heard(outcome, detail, None, self.clock, self.by, let_in)

    @property
    def by(self) -> str:
        return next((text for name in _NAMES_ITSELF if (text := self.first(name))), "")[:80]

    @property
    def clock(self) -> float | None:
        try:
            return parsedate_to_datetime(self.first("date")).timestamp()
        except (ValueError, TypeError, IndexError, OverflowError):
            return None


def knock_http(way: Approach, host: str, initiator: Initiator) -> Knock:
    """GET, with the token in the first request; further legs on the same connection. ``host``: the array's name."""
    assert way.port is not None
    yield Dial(way.port)
    if way.tls:
        yield Encrypt(host)
    buffer = bytearray()
    token = initiator.step(b"")
    for _ in range(MOST_LEGS):
        response = yield from _response(buffer, f"answer GET {way.path}", _request(way.path, host, token))
        if isinstance(found := _judged(response, initiator), Heard):
            return found
        token = found
        yield from _body(buffer, response)
    return Heard(Outcome.REFUSED, "it wants more and more tokens")


def _judged(response: _Response, initiator: Initiator) -> Heard | bytes:
    """What the answer means, or the token to go on with."""
    said, offered = f"status {response.status}", response.schemes
    proof = from64(offered.get("negotiate", "").encode("ascii", "replace"))
    if response.status != 401:
        return _let_in(response, proof, initiator)
    if "negotiate" not in offered or mechanism_of(proof) is Mechanism.NTLM:
        ways = printable(", ".join(sorted(offered)).encode("ascii", "replace")) or "no way to log on"
        ntlm = "ntlm" in offered or "negotiate" in offered
        return response.heard(Outcome.NTLM if ntlm else Outcome.NOT_OFFERED, f"{said}, offering {ways}")
    if not proof or refusal_of(proof) is not None:
        return refused(proof, said, response.by, response.clock)
    try:
        token = initiator.step(proof)
    except Denied as error:
        return response.heard(Outcome.REFUSED, f"{said}: {error}")
    if initiator.complete:
        return response.heard(Outcome.ACCEPTED, said, let_in=False)
    return token or response.heard(Outcome.REFUSED, said)


def _let_in(response: _Response, proof: bytes, initiator: Initiator) -> Heard:
    """It does not ask again: did it read the ticket?"""
    said = f"status {response.status}"
    if not proof:
        return response.heard(Outcome.OPEN if response.status < 400 else Outcome.NOT_OFFERED, said)
    try:
        initiator.step(proof)
    except Denied as error:
        return response.heard(Outcome.NOT_PROVEN, f"{said}: {error}")
    if not initiator.complete:
        return response.heard(Outcome.NOT_PROVEN, said)
    return response.heard(Outcome.ACCEPTED, said, let_in=response.status != 403)


def _request(path: str, host: str, token: bytes) -> bytes:
    proof = base64.b64encode(token).decode("ascii")
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: casarray-test\r\nAccept: */*\r\n"
        f"Authorization: Negotiate {proof}\r\n\r\n"
    ).encode("ascii", "replace")


def _response(buffer: bytearray, what: str, data: bytes) -> Part[_Response]:
    """The next final head, taken off the buffer."""
    while True:
        while (end := buffer.find(b"\r\n\r\n")) < 0:
            if len(buffer) > HEADER_LIMIT * 4:
                raise WireError("oversize", "a header without end")
            buffer += yield Ask(what, data)
            data = b""
        head = bytes(buffer[:end])
        del buffer[: end + 4]
        first, *lines = head.split(b"\r\n")
        if (match := _STATUS.fullmatch(first)) is None:
            raise WireError("syntax", "no status in the first line")
        if match[1] >= b"200":
            pairs = (line.decode("latin-1").partition(":") for line in lines)
            return _Response(int(match[1]), tuple((k.strip().casefold(), v.strip()) for k, _, v in pairs))


def _body(buffer: bytearray, response: _Response) -> Part[None]:
    """Step over the body, so that the next answer stands at the beginning."""
    length = response.first("content-length")
    if not (length.isascii() and length.isdigit() and len(length) <= 5):
        raise WireError("length", "an answer to a token without its length")
    while len(buffer) < int(length):
        buffer += yield Ask("send the whole answer")
    del buffer[: int(length)]
