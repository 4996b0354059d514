"""The mail probes: wait for the server's greeting, say good-bye.

A greeting may come in many small pieces and, for SMTP, on several lines (`220-...` up to `220 ...`, RFC 5321 4.2.1).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from casarray.core.config import ProbeKind
from casarray.core.errors import WireError
from casarray.core.health.certificate import expires
from casarray.core.health.conversation import Answer, Ask, Dial, Encrypt, Say, Steps
from casarray.core.profiles import TLS_PORTS

GREETING_LIMIT = 8 * 1024


@dataclass(frozen=True, slots=True)
class Mail:
    """How one mail protocol greets."""

    welcomes: tuple[bytes, ...]  # the first line starts so when the server is there for us
    refusals: tuple[bytes, ...]  # ... and so when it speaks the protocol but wants nobody
    farewell: bytes


MAIL: Mapping[ProbeKind, Mail] = {
    ProbeKind.IMAP: Mail((b"* OK", b"* PREAUTH"), (b"* BYE",), b"a LOGOUT\r\n"),  # RFC 9051 7.1
    ProbeKind.POP3: Mail((b"+OK",), (b"-ERR",), b"QUIT\r\n"),  # RFC 1939 section 4
    ProbeKind.SMTP: Mail((b"220",), (b"4", b"5"), b"QUIT\r\n"),  # RFC 5321 4.3.1
}


def greeting(kind: ProbeKind, port: int, host: str, *, keep: bool) -> Steps:
    """Wait for the whole greeting. With ``keep`` the connection stays as it is then, else the server hears good-bye."""
    mail = MAIL[kind]
    yield Dial(port)
    certificate = (yield Encrypt(host)) if port in TLS_PORTS else b""
    until = expires(certificate) if certificate else None
    buffer = bytearray()
    while (line := last_line(buffer, mail)) is None:
        buffer += yield Ask(f"greet as {kind.upper()} does")
    up = line.startswith(mail.welcomes)
    if not (up and keep):
        yield Say(mail.farewell)
    verb = "greets" if up else "turns us away"
    return Answer(up, f"{verb} on {port}: {printable(line)}", certificate_expires=until)


def last_line(buffer: bytearray, mail: Mail) -> bytes | None:
    """The line that ends the greeting, or None while it is not complete."""
    known = mail.welcomes + mail.refusals
    text = bytes(buffer)
    if not any(text.startswith(k) or k.startswith(text) for k in known):
        raise WireError("syntax", f"it begins with {printable(text[:16])!r}")
    if len(text) > GREETING_LIMIT:
        raise WireError("oversize", "a greeting without end")
    *lines, _rest = text.split(b"\n")
    for raw in lines:
        line = raw.rstrip(b"\r")
        if not line.startswith(known):
            raise WireError("syntax", f"a line begins with {printable(line[:16])!r}")
        if not (line[:1].isdigit() and line[3:4] == b"-"):
            return line
    return None


def printable(line: bytes) -> str:
    """What may be shown of a line that somebody else sent."""
    return "".join(c if " " <= c <= "~" else "?" for c in line[:80].decode("latin-1"))
