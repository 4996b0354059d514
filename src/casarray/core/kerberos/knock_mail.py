"""A ticket shown to mail servers: SASL's GSSAPI mechanism (RFC 4752) in IMAP (RFC 9051), POP3 (RFC 5034) and SMTP
(RFC 4954)."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass

from casarray.core.errors import Denied, WireError
from casarray.core.health.conversation import Ask, Dial, Encrypt, Say
from casarray.core.health.greetings import printable
from casarray.core.kerberos import approach
from casarray.core.kerberos.approach import Approach
from casarray.core.kerberos.knocks import MOST_LEGS, SHOWN, Heard, Initiator, Knock, Outcome, Part, from64, refused
from casarray.core.kerberos.refusals import refusal_of

LONGEST_LINE = 64 * 1024
MOST_LINES = 200
_NONE_OF_THE_LAYERS = b"\x01\0\0\0"  # RFC 4752 3.1: no security layer, and so no size


@dataclass(frozen=True, slots=True)
class _Dialect:
    """How one mail protocol says it."""

    hello: bytes  # asks what the server can do; empty: as it greeted
    last: re.Pattern[bytes]  # the line that ends the answer to that
    offer: re.Pattern[bytes]  # a line that names mechanisms
    start_tls: bytes
    upgrade: re.Pattern[bytes]  # a line that offers TLS
    begin: bytes
    going_on: re.Pattern[bytes]  # the server's token
    done: re.Pattern[bytes]
    bye: bytes


_DIALECTS: Mapping[approach.Protocol, _Dialect] = {
    approach.Protocol.IMAP: _Dialect(
        b"a CAPABILITY\r\n", re.compile(rb"a "), re.compile(rb"\* CAPABILITY (.*)", re.IGNORECASE),
        b"b STARTTLS\r\n", re.compile(rb"\* CAPABILITY .*\bSTARTTLS\b", re.IGNORECASE), b"c AUTHENTICATE GSSAPI\r\n",
        re.compile(rb"\+ ?(.*)"), re.compile(rb"c OK\b", re.IGNORECASE), b"z LOGOUT\r\n",
    ),
    approach.Protocol.POP3: _Dialect(
        b"CAPA\r\n", re.compile(rb"\.$|-ERR"), re.compile(rb"SASL (.*)", re.IGNORECASE),
        b"STLS\r\n", re.compile(rb"STLS$", re.IGNORECASE), b"AUTH GSSAPI\r\n",
        re.compile(rb"\+(?: (.*)|$)"), re.compile(rb"\+OK\b"), b"QUIT\r\n",
    ),
    approach.Protocol.SMTP: _Dialect(
        b"EHLO casarray\r\n", re.compile(rb"250 |[45]"), re.compile(rb"250[ -]AUTH[ =](.*)", re.IGNORECASE),
        b"STARTTLS\r\n", re.compile(rb"250[ -]STARTTLS\b", re.IGNORECASE), b"AUTH GSSAPI\r\n",
        re.compile(rb"334 ?(.*)"), re.compile(rb"235\b"), b"QUIT\r\n",
    ),
}  # fmt: skip
_GREETED = {
    approach.Protocol.IMAP: re.compile(rb"\* (?:OK|PREAUTH) ?(.*)", re.IGNORECASE),
    approach.Protocol.POP3: re.compile(rb"\+OK ?(.*)"),
    approach.Protocol.SMTP: re.compile(rb"220 (.*)"),
}
_MORE_OF_A_GREETING = re.compile(rb"220-")
_ASIDE = re.compile(rb"\* ")  # IMAP: what is nobody's answer
_CAPABILITIES = re.compile(rb"\[CAPABILITY [^]]*\] ?", re.IGNORECASE)


class _Lines:
    """A stream cut into lines."""

    def __init__(self) -> None:
        self._unread = bytearray()
        self._count = 0

    def next(self, what: str, data: bytes = b"") -> Part[bytes]:
        """Send ``data``, and the next line, without its end."""
        while (at := self._unread.find(b"\n")) < 0 or data:
            if data and at >= 0:
                yield Say(data)
            else:
                self._unread += yield Ask(what, data)
            data = b""
            if len(self._unread) > LONGEST_LINE:
                raise WireError("oversize", "a line without end")
        self._count += 1
        if self._count > MOST_LINES:
            raise WireError("oversize", "lines without end")
        line = bytes(self._unread[:at]).rstrip(b"\r")
        del self._unread[: at + 1]
        return line

    def forget(self) -> None:
        """What came in the clear does not count once there is TLS."""
        self._unread.clear()


def knock_mail(way: Approach, host: str, initiator: Initiator, *, login: bool = True) -> Knock:
    """Log in. ``host``: the array's name.

    Without ``login`` the server is left as soon as it has proven that it read the ticket: nobody is logged in, and no
    mailbox opened.
    """
    assert way.port is not None
    yield Dial(way.port)
    if way.tls:
        yield Encrypt(host)
    dialect, lines = _DIALECTS[way.protocol], _Lines()
    what = f"greet as {way.protocol.upper()} does"
    while _MORE_OF_A_GREETING.match(line := (yield from lines.next(what))):
        pass
    if (greeted := _GREETED[way.protocol].match(line)) is None:
        return Heard(Outcome.UNREACHABLE, f"turns us away: {printable(line)}")
    by = printable(_CAPABILITIES.sub(b"", greeted[1]))
    mechanisms, tls = yield from _capabilities(lines, dialect)
    if b"GSSAPI" not in mechanisms and tls and not way.tls:
        yield from lines.next("answer STARTTLS", dialect.start_tls)
        lines.forget()
        yield Encrypt(host)
        mechanisms, _ = yield from _capabilities(lines, dialect)
    if b"GSSAPI" not in mechanisms:
        said = printable(b" ".join(sorted(mechanisms)) or b"no mechanism")
        yield Say(dialect.bye)
        return Heard(Outcome.NTLM if b"NTLM" in mechanisms else Outcome.NOT_OFFERED, f"it offers {said}", by=by)
    heard = yield from _sasl(lines, dialect, _Login(initiator, by, login))
    yield Say(dialect.bye)
    return heard


def _capabilities(lines: _Lines, dialect: _Dialect) -> Part[tuple[frozenset[bytes], bool]]:
    """The mechanisms on offer, and whether TLS is."""
    words: set[bytes] = set()
    tls, data = False, dialect.hello
    while True:
        line = yield from lines.next("say what it can do", data)
        data = b""
        if found := dialect.offer.match(line):
            words |= {word.removeprefix(b"AUTH=") for word in found[1].upper().split()}
        tls = tls or dialect.upgrade.match(line) is not None
        if dialect.last.match(line):
            return frozenset(words), tls


class _Login:
    """The client's end of the mechanism: tokens until the context stands, then the security layer, which we do not
    want."""

    def __init__(self, initiator: Initiator, by: str, whole: bool) -> None:
        self._initiator = initiator
        self._by = by
        self._whole = whole
        self._legs = 0
        self._layer = False

    def go_on(self, token: bytes) -> Heard | bytes | None:
        """What to answer to the server's token (nothing at first); None: leave. Or what it means."""
        self._legs += 1
        if self._legs > 1 and refusal_of(token) is not None:
            return refused(token, "it answers with an error of Kerberos", self._by)
        try:
            if not self._proven():
                out = self._initiator.step(token)
                return None if self._proven() and not out and not self._whole else out
            if self._layer or not self._whole:
                return Heard(Outcome.NOT_PROVEN, "it goes on after the end", by=self._by)
            self._initiator.unwrap(token)  # the layers it offers
            self._layer = True
            return self._initiator.wrap(_NONE_OF_THE_LAYERS)
        except Denied as error:
            return Heard(Outcome.NOT_PROVEN if self._initiator.complete else Outcome.REFUSED, str(error), by=self._by)

    def _proven(self) -> bool:
        return self._initiator.complete

    def end(self, line: bytes, *, well: bool) -> Heard:
        """The server ended it."""
        if self._initiator.complete:
            return Heard(Outcome.ACCEPTED, printable(line), by=self._by, let_in=well)
        return Heard(Outcome.NOT_PROVEN if well else Outcome.REFUSED, printable(line), by=self._by)


def _sasl(lines: _Lines, dialect: _Dialect, login: _Login) -> Knock:
    data = dialect.begin
    for _ in range(2 * MOST_LEGS):
        line = yield from _answer(lines, data)
        if dialect.done.match(line):
            return login.end(line, well=True)
        if (going_on := dialect.going_on.match(line)) is None:
            return login.end(line, well=False)
        found = login.go_on(from64(going_on[1] or b""))
        if isinstance(found, Heard):
            return found
        if found is None:
            return login.end((yield from _answer(lines, b"*\r\n")), well=True)
        data = base64.b64encode(found) + b"\r\n"  # with nothing to say it is an empty line, in SMTP too
    return Heard(Outcome.REFUSED, "it wants more and more tokens")


def _answer(lines: _Lines, data: bytes) -> Part[bytes]:
    line = yield from lines.next(SHOWN, data)
    while _ASIDE.match(line):
        line = yield from lines.next(SHOWN)
    return line
