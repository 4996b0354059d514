"""Asks an application of the API without a network: what a client sends, and what it gets."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp
from tests.faces.fake_gateway import FakeGateway

from casarray.adapters.control import control_app
from casarray.app.stores import DirectoryStore
from casarray.faces.api.desk import Desk
from casarray.faces.api.routes import api_routes

#: A path and what is posted there to make one thing: together a whole directory.
SITE = ("/v1/sites", {"name": "Paderborn"})
SUBNET = ("/v1/subnets", {"network": "10.11.0.0/24", "site": "Paderborn"})
ARRAY = ("/v1/arrays", {"name": "CAS", "fqdn": "cas.domain.tld", "site": "Paderborn", "addresses": ["10.11.0.100"]})
SERVER = (
    "/v1/servers",
    {"name": "cas1", "fqdn": "cas1.domain.tld", "site": "Paderborn", "roles": ["client-access", "mailbox"]},
)
OTHER_SERVER = ("/v1/servers", {"name": "mbx2", "fqdn": "mbx2.domain.tld", "site": "Paderborn", "roles": ["mailbox"]})
GROUP = ("/v1/groups", {"name": "DAG1", "servers": ["cas1", "mbx2"]})
COPIES = [{"server": "cas1"}, {"server": "mbx2", "activation_preference": 2}]
DATABASE = ("/v1/databases", {"name": "DB1", "active_server": "cas1", "copies": COPIES})
ACCOUNT = ("/v1/accounts", {"name": "anna", "database": "DB1", "address": "anna@domain.tld"})
WHOLE: tuple[tuple[str, dict[str, Any]], ...] = (SITE, SUBNET, ARRAY, SERVER, OTHER_SERVER, GROUP, DATABASE, ACCOUNT)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as a value."""
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """Why it was refused."""
        return str(self.json["error"]["message"])

    @property
    def etag(self) -> str:
        """The revision it tells of."""
        return self.headers["etag"]


@dataclass(slots=True)
class Client:
    """One client of an application; ``state`` is what the server would know of it."""

    app: ASGIApp
    state: dict[str, Any] = field(default_factory=lambda: {"who": "alice"})

    async def __call__(self, method: str, target: str, body: object = None, **headers: str) -> Answer:
        """Send a request; bytes go as they are, anything else as JSON. ``if_match`` is the header If-Match."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
            "server": ("gateway", 80),
            "scheme": "http",
            "state": dict(self.state),
        }
        pieces = iter([{"type": "http.request", "body": data, "more_body": False}])
        sent: list[Any] = []

        async def receive() -> Any:
            return next(pieces)

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], told, b"".join(m.get("body", b"") for m in sent[1:]))


@contextmanager
def desk_of(store: DirectoryStore) -> Iterator[Desk]:
    """A desk in front of this store."""
    desk = Desk(lambda: store)
    try:
        yield desk
    finally:
        desk._thread.submit(store.close).result(10)
        desk._thread.shutdown()


def app_of(desk: Desk, gateway: FakeGateway | None = None) -> ASGIApp:
    """All that is served on a control socket."""
    return control_app(gateway or FakeGateway(), api_routes(desk))
