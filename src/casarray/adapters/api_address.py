"""What keeps strangers out of the REST API on TCP: TLS and a token, read from files that can be renewed at any time."""

import asyncio
import hmac
import os
import ssl
import stat
from contextlib import suppress
from hashlib import sha256

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from casarray.core.config import ApiSettings
from casarray.core.errors import ConfigError

LONGEST_TOKEN = 1024
TOKEN_MODE = 0o640  # no other bits than these
REFUSAL_SECONDS = 0.5  # whoever guesses has to wait
JSON_TYPES = ("application/json", "application/merge-patch+json")


class Credentials:
    """The certificate and the token in force."""

    def __init__(self, settings: ApiSettings) -> None:
        """Read the files. Raises `ConfigError` when one of them will not do, with the reason."""
        self.context = server_context()
        self._token = b""
        self.renew(settings)

    def renew(self, settings: ApiSettings) -> None:
        """Read them again, for connections from now on. Raises `ConfigError`, and the old ones stay in force."""
        token = read_token(settings.token_file)
        load_certificate(self.context, settings.certificate, settings.key, "api")
        self._token = sha256(token).digest()

    def admit(self, authorization: list[str]) -> bool:
        """Whether these headers hold the token. Takes as long for a wrong one as for the right one."""
        scheme, _, token = authorization[0].partition(" ") if len(authorization) == 1 else ("", "", "")
        given = sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        return hmac.compare_digest(given, self._token) and scheme.lower() == "bearer"


def server_context() -> ssl.SSLContext:
    """TLS for HTTP/1.1, still without a certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


def load_certificate(context: ssl.SSLContext, certificate: str, key: str, table: str) -> None:
    """Show this one from now on. `ConfigError` names the key of ``table``, and the old one stays in force."""
    # On a context of its own first: one that took half of a wrong pair would serve nobody any more.
    for one in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), context):
        _load(one, certificate, key, table)


def _load(context: ssl.SSLContext, certificate: str, key: str, table: str) -> None:
    for name, path in (("certificate", certificate), ("key", key)):
        try:
            open(path, "rb").close()  # ssl would not say which of the two it is
        except OSError as error:
            raise ConfigError(f"{table}.{name}: {path} cannot be read: {error.strerror}") from None
    try:
        # Without this a key with a password would ask for it on a terminal.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, ValueError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise ConfigError(
            f"{table}.certificate and {table}.key do not go together ({reason}): {certificate} must hold the "
            f"certificate and {key} its key, both as PEM, the key without a password"
        ) from None


def read_token(path: str) -> bytes:
    """The token in a file that nobody else can read. Raises `ConfigError`."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe in its place must not stop us
    except OSError as error:
        raise ConfigError(f"api.token_file: {path} cannot be read: {error.strerror}") from None
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode):
            raise ConfigError(f"api.token_file: {path} is no file; name one whose one line is the token")
        if (mode := stat.S_IMODE(about.st_mode)) & ~TOKEN_MODE:
            raise ConfigError(
                f"api.token_file: {path} has the mode {mode:04o}, so others could read or change it: chmod 0640 {path}"
            )
        if about.st_uid not in (0, os.geteuid()):
            raise ConfigError(f"api.token_file: {path} belongs to somebody else: chown it to root or to the gateway")
        data = os.read(file, LONGEST_TOKEN + 2).strip()
    finally:
        os.close(file)
    if not data:
        raise ConfigError(f"api.token_file: {path} is empty; write a token, for example: openssl rand -hex 32 > {path}")
    if len(data) > LONGEST_TOKEN or any(not 0x21 <= byte <= 0x7E for byte in data):
        raise ConfigError(
            f"api.token_file: {path} must hold one line of at most {LONGEST_TOKEN} letters, digits and signs, no blanks"
        )
    return data


class Door:
    """Lets in who has the token and speaks JSON. Nobody else learns anything, not even what paths there are."""

    def __init__(self, app: ASGIApp, credentials: Credentials) -> None:
        self._app = app
        self._credentials = credentials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        if not self._credentials.admit(request.headers.getlist("authorization")):
            await asyncio.sleep(REFUSAL_SECONDS)
            headers = {"WWW-Authenticate": "Bearer", "Connection": "close"}
            refusal = _refusal(401, "Denied", "not authorized", headers)
        elif _has_body(request) and not _is_json(request):
            refusal = _refusal(415, "WireError", "send the header Content-Type: application/json")
        else:
            scope.setdefault("state", {})["who"] = "token"
            await self._app(scope, receive, send)
            return
        with suppress(OSError):
            await refusal(scope, receive, send)


def _has_body(request: Request) -> bool:
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


def _is_json(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() in JSON_TYPES


def _refusal(status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"kind": kind, "message": message}}, status, headers)
