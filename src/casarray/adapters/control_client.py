"""The other end of the control socket, for the command line: stdlib only, so that a command starts at once."""

import json
import socket
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from casarray.app.operations import Explanation, ReloadReport, ServerChange, Status
from casarray.core.config import Wish
from casarray.core.errors import CasarrayError, ConfigError, Conflict, Denied, NotFound, Unavailable
from casarray.core.records import from_json

LONGEST_ANSWER = 64 << 20
QUICK_SECONDS = 10.0
SLOW_SECONDS = 60.0  # a reload waits for the kernel

_KINDS: dict[str, type[CasarrayError]] = {
    kind.__name__: kind for kind in (Denied, NotFound, Conflict, ConfigError, Unavailable)
}


class ControlClient:
    """A gateway that is asked over its control socket; fulfils `RemoteOperations`."""

    def __init__(self, path: str) -> None:
        self._path = path

    def status(self) -> Status:
        """Everything at this moment."""
        return from_json(Status, self._ask("GET", "/v1/status"))

    def explain(self, client: str, array: str | None = None) -> Explanation:
        """Where this client is led, and why."""
        query = {"client": client} | ({"array": array} if array else {})
        return from_json(Explanation, self._ask("GET", f"/v1/explain?{urlencode(query)}"))

    def set_server(self, name: str, wish: Wish, deadline_seconds: float | None = None) -> ServerChange:
        """Tell the gateway what is wanted of a server."""
        body: dict[str, object] = {"state": wish.value}
        if deadline_seconds is not None:
            body["deadline_seconds"] = deadline_seconds
        path = f"/v1/servers/{quote(name, safe='')}/state"
        return from_json(ServerChange, self._ask("POST", path, body, SLOW_SECONDS))

    def reload(self) -> ReloadReport:
        """Let the gateway read its configuration again."""
        return from_json(ReloadReport, self._ask("POST", "/v1/reload", {}, SLOW_SECONDS))

    def _ask(self, method: str, path: str, body: object = None, seconds: float = QUICK_SECONDS) -> object:
        connection = _UnixConnection(self._path, seconds)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": "application/json"} if payload else {})
            answer = connection.getresponse()
            data = answer.read(LONGEST_ANSWER)
            return self._value(answer.status, data)
        except (OSError, HTTPException) as error:
            raise self._failure(error) from None
        finally:
            connection.close()

    def _value(self, status: int, data: bytes) -> object:
        try:
            value: Any = _clean(json.loads(data))
        except (ValueError, RecursionError):
            value = None
        if status == 200 and value is not None:
            return value
        error = value.get("error") if isinstance(value, dict) else None
        if isinstance(error, dict):
            # Bytes that the gateway calls wrong are, for the one who asked, simply refused.
            kind = _KINDS.get(str(error.get("kind")), Conflict)
            raise kind(str(error.get("message")))
        if status == 404:
            raise NotFound(f"what answers at {self._path} does not know this question; is it another version?")
        raise Unavailable(f"what answers at {self._path} is no casarray gateway, or is ill (HTTP {status})")

    def _failure(self, error: OSError | HTTPException) -> CasarrayError:
        """Why nobody answered, and the next step."""
        start = 'start one with "casarray run -c FILE", or name its socket with --control'
        if isinstance(error, FileNotFoundError):
            return Unavailable(f"no gateway runs here: there is no {self._path}; {start}")
        if isinstance(error, ConnectionRefusedError):
            return Unavailable(f"no gateway runs here: the one that made {self._path} is gone; {start}")
        if isinstance(error, PermissionError):
            return Denied(f"no right to use {self._path}{_owner(self._path)}; use sudo, or join that group")
        if isinstance(error, TimeoutError):
            return Unavailable(f"the gateway at {self._path} does not answer in time; look at its log")
        return Unavailable(f"the gateway at {self._path} broke off: {error}; look at its log")


def _clean(value: Any) -> Any:
    """The same without control characters: some texts come from servers, and a terminal must not obey them."""
    if isinstance(value, str):
        return "".join(c if c.isprintable() or c == "\n" else "?" for c in value)
    if isinstance(value, list):
        return [_clean(inner) for inner in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(inner) for key, inner in value.items()}
    return value


def _owner(path: str) -> str:
    try:
        file = Path(path)
        return f": it belongs to {file.owner()}, group {file.group()}"
    except (OSError, KeyError):
        return ""


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.sock.close()
            raise
