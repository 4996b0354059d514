"""What clients, servers and faults write down, one JSON object a line, and who the clients are.

Every line has ``at`` (seconds of the machine's monotonic clock, which all processes of a lab share), ``by`` (one of
``client``, ``server``, ``fault``) and ``event``; the rest depends on the event. A client carries its number through
every protocol in whatever field has room for it: a user DN, or a UUID where there is none.
"""

import json
import time
from pathlib import Path
from typing import IO, Any
from uuid import UUID

_DN = "/o=Lab/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)/cn=Recipients/cn="
_MARK = 0xCA5A88A7_0000_4000_8000 << 48


def user(number: int) -> str:
    """The name of client ``number``: ``user00042``."""
    return f"user{number:05d}"


def user_dn(name: str) -> str:
    """The DN under which a client presents itself to RFR and EMSMDB."""
    return _DN + name


def name_of_dn(dn: str) -> str:
    """The client's name in a DN; the last component of any other DN."""
    return dn.rpartition("=")[2]


def user_uuid(number: int) -> UUID:
    """What carries the client's number where a protocol has room for a UUID only. ``number`` below 2**48."""
    return UUID(int=_MARK | number)


def name_of_uuid(uuid: UUID | None) -> str:
    """The client's name in a UUID; empty if it is none of ours."""
    if uuid is None or uuid.int >> 48 << 48 != _MARK:
        return ""
    return user(uuid.int & (1 << 48) - 1)


class Journal:
    """Writes events. Without a path they are dropped; each line reaches the file at once, as writers get killed."""

    def __init__(self, path: str | Path | None, by: str, **always: Any) -> None:
        self._always = {"by": by} | always
        self._file: IO[str] | None = None
        if path is not None:
            self._file = Path(path).open("a", buffering=1, encoding="utf-8")  # noqa: SIM115 - closed by close()

    def __call__(self, event: str, /, **facts: Any) -> None:
        if self._file is not None:
            line = {"at": round(time.monotonic(), 6), **self._always, "event": event, **facts}
            self._file.write(json.dumps(line, separators=(",", ":")) + "\n")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
