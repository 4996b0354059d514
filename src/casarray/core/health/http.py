"""The HTTP(S) probe: one GET, judged by its status.

The body is not waited for: `healthcheck.htm` of 2013 and later says all it has to say with its status.
"""

from urllib.parse import quote

from casarray.core.errors import WireError
from casarray.core.health.certificate import expires
from casarray.core.health.conversation import Answer, Ask, Dial, Encrypt, Steps

HEADER_LIMIT = 16 * 1024
STATUS_LINE_LENGTH = len("HTTP/1.1 200")


def http(port: int, path: str, status: tuple[int, ...], host: str, *, tls: bool, keep: bool) -> Steps:
    """GET ``path``; up when the answer's status is one of ``status``.

    With ``keep`` it ends on a new, silent connection: one that has carried a request is closed by most servers soon.
    """
    yield Dial(port)
    certificate = (yield Encrypt(host)) if tls else b""
    what = f"answer GET {path}"
    buffer = bytearray((yield Ask(what, request(path, host))))
    while (code := final_status(buffer)) is None:
        buffer += yield Ask(what)
    until = expires(certificate) if certificate else None
    if code not in status:
        wanted = ", ".join(map(str, status))
        return Answer(False, f"answers GET {path} on {port} with status {code} (wanted: {wanted})", False, False, until)
    if keep:
        yield Dial(port)
    return Answer(True, f"answers GET {path} on {port} with status {code}", certificate_expires=until)


def request(path: str, host: str) -> bytes:
    """The request; whatever stands in the path, it stays one line."""
    target = quote(path, safe="/?&=%:@!$'()*+,;~")
    authority = f"[{quote(host, safe=':')}]" if ":" in host else quote(host)
    return (
        f"GET {target} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: casarray-probe\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n"
    ).encode("ascii")


def final_status(buffer: bytearray) -> int | None:
    """The status once its header is complete; interim answers (1xx) are passed over. RFC 9112 section 4."""
    start = 0
    while True:
        code = _status(buffer, start)
        end = _header_end(buffer, start)
        if end is None:
            if len(buffer) > HEADER_LIMIT:
                raise WireError("oversize", "a header without end")
            return None
        if code is None:
            raise WireError("syntax", "a header without a status")
        if code >= 200:
            return code
        start = end


def _status(buffer: bytearray, start: int) -> int | None:
    line = bytes(buffer[start : start + STATUS_LINE_LENGTH])
    if not (line.startswith(b"HTTP/1.") or b"HTTP/1.".startswith(line)):
        raise WireError("syntax", "not HTTP/1")
    if len(line) < STATUS_LINE_LENGTH:
        return None
    digits = line[9:12]
    if line[8:9] != b" " or not digits.isdigit() or digits < b"100":
        raise WireError("syntax", "no status in the first line")
    return int(digits)


def _header_end(buffer: bytearray, start: int) -> int | None:
    ends = [at + len(mark) for mark in (b"\r\n\r\n", b"\n\n") if (at := buffer.find(mark, start)) >= 0]
    return min(ends, default=None)
