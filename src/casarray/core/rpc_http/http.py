"""The HTTP around the channels: request heads of clients, answer heads of proxies. [MS-RPCH] 2.1.2.1

Nothing here is a web server: two methods, a head of bounded size, a body that is not buffered.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from casarray.core.errors import WireError

IN: Final = "RPC_IN_DATA"
OUT: Final = "RPC_OUT_DATA"
PATH: Final = "/rpc/rpcproxy.dll"
PATHS: Final = (PATH, "/rpcwithcert/rpcproxy.dll")
#: Tickets with large PACs make large heads: IIS takes 16 KB a line by default.
MOST_HEAD: Final = 64 * 1024
MOST_LINES: Final = 100
#: A request with no more of a body than this is an echo, or a leg of a logon. [MS-RPCH] 2.1.2.1.5
ECHO_BODY: Final = 0x10
#: What a channel carries at least. [MS-RPCH] 2.1.2.1.1
SMALLEST_CHANNEL: Final = 128 * 1024
MOST_CHANNEL: Final = 2 * 1024**3
#: What CONN/A1 takes, and what OUT_R2/A3 and C1 take together.
A1_BODY: Final = 76
A3_BODY: Final = 120
USUAL_LIFETIME: Final = 1024**3
ECHO_ANSWER_BODY: Final = 20

_REQUEST = re.compile(rb"([A-Z_]{1,32}) (/[\x21-\x7e]{0,4000}) HTTP/1\.([01])")
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: ([^\r\n]*))?")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}")
_TARGET = re.compile(r"([^\s:/?#\[\]]{1,1023}|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5})")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")
_CHUNK_LINE = 256
_SESSION = re.compile(r"\s*SessionId=([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Target:
    """The RPC server that a client wants to reach: ``cas.lab.example:6001``."""

    server: str
    port: int

    def __str__(self) -> str:
        return f"{self.server}:{self.port}"


@dataclass(frozen=True, slots=True)
class Headers:
    """Name in small letters and value, in their order."""

    pairs: tuple[tuple[str, str], ...] = ()

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of a header."""
        return tuple(value for key, value in self.pairs if key == name)

    def first(self, name: str) -> str:
        """The first value; empty when there is none."""
        return next(iter(self.all(name)), "")

    @property
    def length(self) -> int | None:
        """Content-Length; None without one. Several, or no number, are a `WireError`."""
        lengths = set(self.all("content-length"))
        if not lengths:
            return None
        text = lengths.pop()
        if lengths or not (text.isascii() and text.isdigit() and len(text) <= 10):
            raise WireError("http", "a Content-Length that is no number")
        return int(text)

    @property
    def session(self) -> UUID | None:
        """SessionId of the Pragma headers: the same on both channels of a client. [MS-RPCH] 2.1.2.1.1"""
        for value in self.all("pragma"):
            for part in value.split(","):
                if (match := _SESSION.fullmatch(part)) is not None:
                    return UUID(match[1])
        return None


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What a client begins a channel with."""

    method: str
    path: str
    query: str
    headers: Headers
    minor: int = 1  # HTTP/1.MINOR

    @property
    def length(self) -> int:
        """Of the body, in octets."""
        return self.headers.length or 0

    @property
    def target(self) -> Target | None:
        """The server in the URL; None without one. What is no server is a `WireError`."""
        if not self.query:
            return None
        if (match := _TARGET.fullmatch(self.query)) is None or not 0 < int(match[2]) < 65536:
            raise WireError("http", "the URL names no server and port")
        return Target(match[1].strip("[]"), int(match[2]))

    @property
    def is_channel(self) -> bool:
        """Whether it begins a channel; else it is an echo, or a leg of a logon."""
        return self.length > ECHO_BODY

    @property
    def credentials(self) -> tuple[str, bytes] | None:
        """Scheme of Authorization, in small letters, and its token; None without one."""
        scheme, _, token = self.headers.first("authorization").strip().partition(" ")
        if not scheme:
            return None
        try:
            return scheme.casefold(), base64.b64decode(token.strip(), validate=True)
        except (binascii.Error, ValueError):
            raise WireError("http", "an Authorization that is not base64") from None


def take_request(buffer: bytearray) -> RequestHead | None:
    """Remove a request's head from the front, or nothing while it is not all there. `WireError` when it is none."""
    if (lines := _take_lines(buffer)) is None:
        return None
    if (match := _REQUEST.fullmatch(lines[0])) is None:
        raise WireError("http", "no request of HTTP/1.1")
    path, _, query = match[2].decode("ascii").partition("?")
    headers = _headers(lines[1:])
    if headers.all("transfer-encoding"):
        raise WireError("http", "a channel comes with its length, and not in chunks")
    headers.length  # noqa: B018 - judged here, so that nobody meets the error later
    return RequestHead(match[1].decode("ascii"), path, query, headers, int(match[3]))


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """What a proxy says to a request."""

    status: int
    reason: str
    headers: Headers

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks, as some proxies in between make it."""
        return "chunked" in self.headers.first("transfer-encoding").casefold()


def take_answer(buffer: bytearray) -> AnswerHead | None:
    """Remove an answer's head from the front, or nothing while it is not all there. `WireError` when it is none."""
    if (lines := _take_lines(buffer)) is None:
        return None
    if (match := _STATUS.fullmatch(lines[0])) is None:
        raise WireError("http", "no answer of HTTP/1.1")
    reason = (match[2] or b"").decode("utf-8", "replace")[:200]
    return AnswerHead(int(match[1]), "".join(c if c.isprintable() else "?" for c in reason), _headers(lines[1:]))


class Chunks:
    """Takes a body out of its chunks, as octets come. [RFC 9112] 7.1"""

    def __init__(self) -> None:
        self._unread = bytearray()
        self._left = 0  # octets of the chunk that has begun
        self.over = False

    def take(self, data: bytes) -> bytes:
        """What of the body these octets hold; what is no chunk is a `WireError`."""
        self._unread += data
        body = bytearray()
        while self._unread and not self.over:
            if self._left:
                part = self._unread[: self._left]
                body += part
                del self._unread[: len(part)]
                self._left -= len(part)
                continue
            if self._unread.startswith(b"\r\n"):  # after the chunk before
                del self._unread[:2]
            end = self._unread.find(b"\r\n")
            if end < 0:
                if len(self._unread) > _CHUNK_LINE:
                    raise WireError("http", "a chunk without its size")
                break
            self._begin(bytes(self._unread[:end]))
            del self._unread[: end + 2]
        return bytes(body)

    def _begin(self, line: bytes) -> None:
        if (match := _CHUNK.fullmatch(line)) is None:
            raise WireError("http", "a chunk without its size")
        self._left = int(match[1], 16)
        self.over = self._left == 0


def _take_lines(buffer: bytearray) -> list[bytes] | None:
    end = buffer.find(b"\r\n\r\n", 0, MOST_HEAD + 4)
    if end < 0:
        if len(buffer) > MOST_HEAD:
            raise WireError("oversize", "a head without end")
        if buffer and not 0x20 < buffer[0] < 0x7F:
            raise WireError("http", "no HTTP")
        return None
    lines = bytes(buffer[:end]).split(b"\r\n")
    del buffer[: end + 4]
    if len(lines) > MOST_LINES:
        raise WireError("oversize", f"a head of {len(lines)} lines")
    return lines


def _headers(lines: Sequence[bytes]) -> Headers:
    pairs = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or _NAME.fullmatch(name) is None:
            raise WireError("http", "a line in the head that is no header")
        pairs.append((name.decode("ascii").casefold(), value.strip().decode("latin-1")))
    return Headers(tuple(pairs))


def request_head(method: str, target: Target, host: str, length: int, extra: Sequence[tuple[str, str]] = ()) -> bytes:
    """The head of a client's request, as Windows sends it. ``extra``: Authorization, Pragma."""
    server = f"[{target.server}]" if ":" in target.server else target.server
    lines = [
        f"{method} {PATH}?{server}:{target.port} HTTP/1.1",
        "Cache-Control: no-cache",
        "Connection: Keep-Alive",
        "Pragma: No-cache",
        "Accept: application/rpc",
        "User-Agent: MSRPC",
        f"Host: {host}",
        f"Content-Length: {length}",
        *(f"{name}: {value}" for name, value in extra),
    ]
    return _encoded(lines)


CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def success(length: int) -> bytes:
    """The head of the answer on an OUT channel, or to an echo: so many octets follow. [MS-RPCH] 2.1.2.1.4"""
    return _encoded(["HTTP/1.1 200 Success", "Content-Type: application/rpc", f"Content-Length: {length}"])


def rpc_error(status: int) -> bytes:
    """The answer to a channel that cannot be: a Win32 code, as 0x6BA (server unavailable). [MS-RPCH] 2.1.2.1.3"""
    return _encoded([f"HTTP/1.0 503 RPC Error: {status:x}", "Content-Length: 0", "Connection: close"])


def refusal(status: int, reason: str) -> bytes:
    """Any other refusal; the connection ends."""
    return _encoded([f"HTTP/1.1 {status} {reason}", "Content-Length: 0", "Connection: close"])


def challenge(offers: Sequence[str], *, close: bool = False) -> bytes:
    """The client is to say who it is, in one of these ways: ``Negotiate``, ``Basic realm="..."``, ``NTLM TOKEN``."""
    lines = ["HTTP/1.1 401 Unauthorized", *(f"WWW-Authenticate: {offer}" for offer in offers), "Content-Length: 0"]
    return _encoded([*lines, "Connection: close"] if close else lines)


def _encoded(lines: Sequence[str]) -> bytes:
    if any(c in line for line in lines for c in "\r\n"):
        raise WireError("http", "a line break in a header")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


# Win32 codes of `rpc_error`. [MS-ERREF]
ACCESS_DENIED: Final = 0x5
SERVER_UNAVAILABLE: Final = 0x6BA
PROTOCOL_ERROR: Final = 0x6C0
