"""Every request that the API knows, as values: the routes and the document are made of these."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from casarray.app.operations import Explanation, ReloadReport, ServerChange, Status
from casarray.core.directory.model import Kind
from casarray.faces.api.answers import About, History, Move, Plan, ServerState
from casarray.faces.api.kinds import RESOURCES, Resource
from casarray.faces.api.schemas import Schema, Schemas

MOST_ITEMS = 1000
USUAL_ITEMS = 100

Describe = Callable[[Schemas], Schema]


@dataclass(frozen=True, slots=True)
class Parameter:
    """Something that is said in the path, the query or a header."""

    name: str
    place: Literal["path", "query", "header"]
    meaning: str
    schema: Mapping[str, Any]
    required: bool = False


NAME = Parameter("name", "path", "The thing's name, whatever its capital letters.", {"type": "string"}, required=True)
LIMIT = Parameter(
    "limit",
    "query",
    "So many at most.",
    {"type": "integer", "minimum": 1, "maximum": MOST_ITEMS, "default": USUAL_ITEMS},
)
AFTER = Parameter("after", "query", "Those after this name: `next` of the page before.", {"type": "string"})
DRY_RUN = Parameter(
    "dry_run", "query", "Change nothing, only tell what would change.", {"type": "boolean", "default": False}
)
FORCE = Parameter(
    "force",
    "query",
    "Also what would leave databases with a name that is gone, or move clients to another site.",
    {"type": "boolean", "default": False},
)
IF_MATCH = Parameter(
    "If-Match",
    "header",
    "An `ETag` that was told: do it only if the directory is still as it was then.",
    {"type": "string"},
)
IF_NONE_MATCH = Parameter(
    "If-None-Match", "header", "An `ETag` that was told: answer 304 if nothing changed since.", {"type": "string"}
)
CLIENT = Parameter("client", "query", "A client's address.", {"type": "string"}, required=True)
ARRAY = Parameter("array", "query", "Only this array.", {"type": "string"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One request and its answers."""

    method: str
    path: str
    id: str
    summary: str
    answer: Describe | None = None
    body: Describe | None = None
    parameters: tuple[Parameter, ...] = ()
    status: HTTPStatus = HTTPStatus.OK
    fails: tuple[int, ...] = ()
    tag: str = "directory"

    @property
    def query(self) -> frozenset[str]:
        """The names that may stand in the query."""
        return frozenset(p.name for p in self.parameters if p.place == "query")

    @property
    def changes(self) -> bool:
        """It changes the directory, with a plan first if wanted."""
        return DRY_RUN in self.parameters


_LOOKING = (400, 403, 404, 503)
_CHANGING = (400, 403, 404, 409, 412, 503)
_HOW = (DRY_RUN, FORCE, IF_MATCH)


def _class(cls: type[Any]) -> Describe:
    return lambda schemas: schemas.answer(cls)


CONTROL: tuple[Endpoint, ...] = (
    Endpoint("GET", "/v1/status", "status", "Everything at this moment.", _class(Status), tag="gateway"),
    Endpoint(
        "GET",
        "/v1/explain",
        "explain",
        "Where a client is led, and why.",
        _class(Explanation),
        parameters=(CLIENT, ARRAY),
        fails=(400, 404),
        tag="gateway",
    ),
    Endpoint(
        "POST",
        "/v1/servers/{name}/state",
        "setServerState",
        "Use a server, drain it, take it out.",
        _class(ServerChange),
        lambda schemas: schemas.new(ServerState),
        (NAME,),
        fails=(400, 404, 409, 503),
        tag="gateway",
    ),
    Endpoint(
        "POST",
        "/v1/reload",
        "reload",
        "Read the configuration again.",
        _class(ReloadReport),
        fails=(403, 409, 422, 503),
        tag="gateway",
    ),
)

ABOUT = Endpoint(
    "GET",
    "/v1/directory",
    "about",
    "The directory as a whole, and what in it is wrong.",
    _class(About),
    parameters=(IF_NONE_MATCH,),
    fails=(400, 403, 503),
)
HISTORY = Endpoint(
    "GET",
    "/v1/directory/history",
    "history",
    "Who changed what, newest first.",
    _class(History),
    parameters=(LIMIT,),
    fails=(400, 403, 503),
)
DOCUMENT = Endpoint(
    "GET", "/v1/openapi.json", "document", "This document.", lambda _: {"type": "object"}, tag="gateway"
)
MOVE = Endpoint(
    "POST",
    "/v1/databases/{name}/move",
    "moveDatabase",
    "Make another copy the active one.",
    lambda schemas: told_of(schemas, RESOURCES[Kind.DATABASE]),
    lambda schemas: schemas.new(Move),
    (NAME, *_HOW),
    fails=_CHANGING,
)


def told_of(schemas: Schemas, resource: Resource) -> Schema:
    """A thing as it is told."""
    return schemas.answer(resource.cls, resource.computed)


def page_of(schemas: Schemas, resource: Resource) -> Schema:
    """A page of things."""
    properties = {
        "items": {"type": "array", "items": told_of(schemas, resource)},
        "next": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "The value of `after` for the next."},
        "total": {"type": "integer", "description": "How many there are on all pages."},
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


@dataclass(frozen=True, slots=True)
class ResourceEndpoints:
    """What can be done with one kind of thing."""

    list: Endpoint
    make: Endpoint
    show: Endpoint
    change: Endpoint
    remove: Endpoint


def endpoints_of(resource: Resource) -> ResourceEndpoints:
    """The five requests that every kind has."""
    kind, some, one = resource.kind, f"/v1/{resource.plural}", f"/v1/{resource.plural}/{{name}}"
    word = kind.capitalize()

    def told(schemas: Schemas) -> Schema:
        return told_of(schemas, resource)

    def page(schemas: Schemas) -> Schema:
        return page_of(schemas, resource)

    def new(schemas: Schemas) -> Schema:
        return schemas.new(resource.cls, resource.optional)

    def change(schemas: Schemas) -> Schema:
        return schemas.patch(resource.cls)

    fail, made = _CHANGING, HTTPStatus.CREATED
    return ResourceEndpoints(
        Endpoint(
            "GET",
            some,
            f"list{word}s",
            f"The {kind}s, by name.",
            page,
            None,
            (LIMIT, AFTER, IF_NONE_MATCH),
            fails=(400, 403, 503),
        ),
        Endpoint("POST", some, f"new{word}", f"Make a {kind}.", told, new, _HOW, made, fail),
        Endpoint("GET", one, f"show{word}", f"One {kind}.", told, None, (NAME, IF_NONE_MATCH), fails=_LOOKING),
        Endpoint("PATCH", one, f"change{word}", f"Change a {kind}.", told, change, (NAME, *_HOW), fails=fail),
        Endpoint(
            "DELETE",
            one,
            f"remove{word}",
            f"Remove a {kind}.",
            None,
            None,
            (NAME, *_HOW),
            HTTPStatus.NO_CONTENT,
            fail,
        ),
    )


def plan(schemas: Schemas) -> Schema:
    """What a dry run tells."""
    return schemas.answer(Plan)
