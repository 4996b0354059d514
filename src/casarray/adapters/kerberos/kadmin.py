"""MIT Kerberos' `kadmin`, talked to as a person would: a line, and what it says to it.

There is no library for it that Python could call, and the program is what administrators have. It reads its commands
from standard input and needs no terminal, so a password in a command is in no process list: what is typed at kadmin's
prompt is on no command line. Before each answer it repeats the command (libedit does); nobody looks at that line.

One session logs on once (10 ms) and asks as often as it wants to (0.3 ms each). If it is lost, what was asked last may
have been done or not; a new session tells.
"""

import os
import re
import selectors
import shutil
import subprocess
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

import krb5

from casarray.core.config import KerberosSettings
from casarray.core.errors import CasarrayError, Conflict, Denied, NotFound, Unavailable, WireError
from casarray.core.kerberos.keytab import read_keytab

ANSWER_SECONDS = 30.0
LONGEST_ANSWER = 64 << 20  # octets: a million principals

_PROMPT = b"kadmin:  "
_FAILED = re.compile(
    r"(?:(?:add|change|modify|delete|get)_(?:principal|principals|password|strings)|(?:set|del)_string|kadmin): (.*)"
)
_RIGHTS = {"add": "a", "delete": "d", "modify": "m", "change-password": "c", "get": "i", "list": "l"}
_NOBODY = ("Communication failure", "Cannot resolve", "timed out")
_NOT_LET_IN = (
    "Matching credential not found",
    "Keytab contains no suitable keys",
    "Credentials cache",
    "No credentials cache found",
    "Client not found",
    "Client's credentials have been revoked",
    "Preauthentication failed",
    "Decrypt integrity check failed",
    "Key table",
    "No such file or directory",
    "Permission denied",
    "Ticket expired",
)


class Kadmin:
    """One session. Use it as a context manager."""

    def __init__(self, realm: str, settings: KerberosSettings) -> None:
        """Log on by the keytab or the ticket that the settings name. `Unavailable`, `Denied`."""
        program = shutil.which("kadmin")
        if program is None:
            raise Unavailable("the program kadmin is missing: install the package krb5-user")
        self.realm = realm
        self.who, options = _logon(settings)
        self._process = subprocess.Popen(
            [program, "-r", realm, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"LC_ALL": "C.UTF-8", "TZ": "UTC", "TERM": "dumb"},
            start_new_session=True,  # it has no terminal, and Ctrl-C does not reach it
        )
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Log off. Twice is once."""
        process = self._process
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
        try:
            process.wait(1.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def ask(self, *words: str) -> list[str]:
        """Give one command; the lines of its answer. `NotFound`, `Conflict`, `Denied`, `Unavailable`."""
        line = " ".join(_quoted(word) for word in words)
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Unavailable(f"kadmin of {self.realm} has ended: try again") from None
        answer = self._read()
        if answer and (answer[0] == words[0] or answer[0].startswith(f"{words[0]} ")):
            answer = answer[1:]  # the command, with whatever secret is in it
        for text in answer:
            if failed := _FAILED.fullmatch(text):
                raise self._error(failed[1])
        return answer

    def _read(self) -> list[str]:
        """What it says until it asks for the next line. When it ends instead, its last words are the error."""
        octets, until = bytearray(), time.monotonic() + ANSWER_SECONDS
        stdout = self._process.stdout
        assert stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while not octets.endswith(_PROMPT):
                if not selector.select(until - time.monotonic()):
                    raise Unavailable(f"kadmin of {self.realm} does not answer within {ANSWER_SECONDS:.0f} s")
                chunk = os.read(stdout.fileno(), 1 << 16)
                if not chunk or len(octets) > LONGEST_ANSWER:
                    raise self._error(_last_words(octets))
                octets += chunk
        text = octets[: -len(_PROMPT)].decode("utf-8", "replace")
        return [line for line in text.replace("\r", "").split("\n") if line]

    def _error(self, text: str) -> CasarrayError:
        """What kadmin said, as what it means."""
        text, kadmin = text.rstrip("."), f"kadmin of {self.realm}"
        right = re.search(r"requires [`'\"]*([a-z-]+)[`'\"]* privilege", text)
        error: CasarrayError = Conflict(f"{kadmin} refuses: {text}")
        if right:
            letter = _RIGHTS.get(right[1], right[1])
            error = Denied(
                f'{self.who} may not do this in {self.realm} ({text}): give it the right "{letter}" in kadm5.acl of '
                "the KDC, and restart kadmind"
            )
        elif "does not exist" in text:
            error = NotFound(f"{kadmin}: {text}")
        elif "already exists" in text:
            error = Conflict(f"{kadmin}: {text}")
        elif "Clock skew" in text:
            error = Unavailable(f"{kadmin} does not let {self.who} in: the clocks differ too much ({text})")
        elif "GSS-API" in text:
            error = Unavailable(
                f"kadmind of {self.realm} does not take the ticket of {self.who} and does not say why ({text}): look "
                "at the clocks of the KDC, of kadmind and of this machine, and at kadmind's log"
            )
        elif "any KDC" in text:
            error = Unavailable(f"no KDC of {self.realm} answers ({text}): look at [realms] in krb5.conf")
        elif any(words in text for words in _NOBODY):
            error = Unavailable(
                f"kadmind of {self.realm} does not answer ({text}): look whether it runs, and at admin_server in "
                "krb5.conf"
            )
        elif any(words in text for words in _NOT_LET_IN):
            error = Denied(
                f"{kadmin} does not let {self.who} in ({text}): set principal and keytab under [kerberos], or a "
                "ccache with a ticket of kinit -S kadmin/admin"
            )
        return error


def _logon(settings: KerberosSettings) -> tuple[str, list[str]]:
    """Who we are there, and the options that say so. None of them is a secret."""
    if settings.keytab:
        who = settings.principal or _first_principal(settings.keytab)
        return who, ["-p", who, "-k", "-t", settings.keytab]
    cache = settings.ccache or krb5.cc_default_name(krb5.init_context()).decode()
    named = ["-p", settings.principal] if settings.principal else []
    return settings.principal or f"the ticket in {cache}", [*named, "-c", cache]


def _first_principal(path: str) -> str:
    try:
        with open(path.removeprefix("FILE:"), "rb") as file:
            entries = read_keytab(file.read())
    except (OSError, WireError) as error:
        raise Denied(f"the keytab {path} cannot be read: {error}") from error
    if not entries:
        raise Denied(f"the keytab {path} is empty")
    return entries[0].principal


def _quoted(word: str) -> str:
    """As kadmin's prompt takes it: a quotation mark within is doubled."""
    if any(not character.isprintable() for character in word):
        raise Conflict("kadmin takes no control characters")
    return word if re.fullmatch(r"[^\s\"]+", word) else '"' + word.replace('"', '""') + '"'


def _last_words(octets: bytearray) -> str:
    """Why it has ended. A line that is not its error may be a command it repeated, with a secret in it."""
    lines = octets.decode("utf-8", "replace").splitlines()
    said = next((line for line in reversed(lines) if line.startswith("kadmin: ")), "Communication failure: it ended")
    return said.removeprefix("kadmin: ").removesuffix(" while initializing kadmin interface")
