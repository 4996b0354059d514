"""What a request says besides its body: who asks, what of the query, which revision is expected."""

import re
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import Request

from casarray.app.directory import DirectoryService, Edit
from casarray.app.stores import Snapshot
from casarray.core.directory.model import Directory
from casarray.core.errors import MovedOn, WireError
from casarray.faces.api.bodies import LONGEST_BODY, unknown
from casarray.faces.api.endpoints import MOST_ITEMS, USUAL_ITEMS, Endpoint

_TAG = re.compile(r'\s*(W/)?"([^"]*)"\s*(?:,|$)')
LONGEST_NOTE = 500  # of a request in the audit trail


def who(request: Request) -> str | int:
    """The account at the other end of the control socket, by its number; the name of whoever came by TCP."""
    state = request.state
    name: str | None = getattr(state, "who", None)
    uid: str | int = getattr(state, "uid", "unknown")
    return name or uid


def query(request: Request, endpoint: Endpoint) -> dict[str, str]:
    """The query. One that is not known is refused: a misspelt dry_run must not change anything."""
    for name in request.query_params:
        if name not in endpoint.query:
            raise WireError("query", f"{name[:60]}: {unknown('parameter', name, set(endpoint.query))}")
    return dict(request.query_params)


def flag(asked: dict[str, str], name: str) -> bool:
    """A parameter that is true or false."""
    word = asked.get(name, "false").lower()
    if word not in ("true", "false", "1", "0"):
        raise WireError("query", f"{name}: write true or false")
    return word in ("true", "1")


def limit(asked: dict[str, str]) -> int:
    """How many are wanted at most."""
    text = asked.get("limit", str(USUAL_ITEMS))
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MOST_ITEMS):
        raise WireError("query", f"limit: write a number from 1 to {MOST_ITEMS}")
    return int(text)


async def body(request: Request) -> bytes:
    """The body, which is not long."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > LONGEST_BODY:
            raise WireError("body", f"more than {LONGEST_BODY} bytes")
    return bytes(data)


def etag(revision: str) -> str:
    """The revision as an entity tag."""
    return f'"{quote(revision, safe="!#$&()*+-./:;<=>?@[]^_`{|}~")}"'


def headers(request: Request, name: str) -> str | None:
    """A header whose values may stand in several."""
    found = request.headers.getlist(name)
    return ", ".join(found) if found else None


def tags(header: str | None) -> frozenset[str] | None:
    """The strong entity tags in a header; None: no header, or any tag will do. A weak one matches nothing."""
    if header is None or header.strip() == "*":
        return None
    return frozenset(f'"{tag}"' for weak, tag in _TAG.findall(header) if not weak)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a change is wanted."""

    what: str  # for the audit trail
    dry_run: bool
    force: bool
    expected: frozenset[str] | None  # the revisions one of which the directory must have

    def guarded(self, service: DirectoryService, edit: Edit) -> Edit:
        """The edit, of the expected revision alone: `MovedOn` at whatever moment it turns out to be another one."""
        if self.expected is None:
            return edit
        snapshot = service.snapshot()
        if etag(snapshot.revision) not in self.expected:
            raise moved_on(snapshot)

        def guarded(directory: Directory) -> Directory:
            if directory is not snapshot.directory:
                raise moved_on(service.snapshot())
            return edit(directory)

        return guarded


def moved_on(now: Snapshot) -> MovedOn:
    """What whoever was overtaken is told."""
    return MovedOn(
        f"the directory has changed since the revision in If-Match and is at {etag(now.revision)} now: look at it "
        f"again, and repeat"
    )


def wanted(request: Request, endpoint: Endpoint, data: bytes = b"") -> Wanted:
    """How this request wants its change."""
    asked = query(request, endpoint)
    line = f"{request.method} {request.url.path}{'?' if asked else ''}{request.url.query}"
    text = data.decode("utf-8", "replace")
    note = " ".join(f"{line} {text}".split())
    note = "".join(c if c.isprintable() else "?" for c in note)
    return Wanted(
        note if len(note) <= LONGEST_NOTE else f"{note[: LONGEST_NOTE - 3]}...",
        flag(asked, "dry_run"),
        flag(asked, "force"),
        tags(headers(request, "if-match")),
    )
