"""The routes of the directory, and of the document. Errors are raised as they are; who serves the routes answers them.

All work on the directory, down to the bytes of the answer, is done by the desk's thread.
"""

import json
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from importlib.metadata import version
from ipaddress import ip_network
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from casarray.app.directory import DirectoryService, Edit, Outcome
from casarray.app.stores import Snapshot
from casarray.core.directory import edits
from casarray.core.directory.changes import as_json
from casarray.core.directory.model import Directory, Kind, Thing, key
from casarray.core.directory.rules import find
from casarray.core.records import to_json
from casarray.faces.api import bodies, endpoints, openapi
from casarray.faces.api.answers import About, History, Move, entry_of, plan_of
from casarray.faces.api.desk import Desk
from casarray.faces.api.endpoints import ABOUT, CONTROL, DOCUMENT, HISTORY, MOVE, Endpoint
from casarray.faces.api.kinds import RESOURCES, Resource
from casarray.faces.api.requests import Wanted, body, etag, headers, limit, query, tags, wanted, who

Serve = Callable[[Request], Awaitable[Response]]


def api_routes(desk: Desk) -> list[BaseRoute]:
    """Every route of the API besides those of the control socket, which the document describes, too."""
    pairs = [*_pairs(desk)]
    described = [*CONTROL, *(endpoint for endpoint, _ in pairs), DOCUMENT]
    return [*(_route(endpoint, serve) for endpoint, serve in pairs), _route(DOCUMENT, _document(described))]


def _route(endpoint: Endpoint, serve: Serve) -> Route:
    path = endpoint.path
    if path == f"/v1/{RESOURCES[Kind.SUBNET].plural}/{{name}}":
        path = path.replace("{name}", "{name:path}")  # a subnet's name has a slash, and servers decode %2F
    return Route(path, serve, methods=[endpoint.method])


def _document(described: Iterable[Endpoint]) -> Serve:
    made: list[bytes] = []

    async def document(_request: Request) -> Response:
        if not made:  # at the first question: a gateway starts without it
            made.append(json.dumps(openapi.document(described, version("casarray"))).encode())
        return Response(made[0], media_type="application/json")

    return document


def _pairs(desk: Desk) -> Iterable[tuple[Endpoint, Serve]]:
    yield ABOUT, _looking(desk, ABOUT, lambda service, _request: _about(desk, service))
    yield HISTORY, _looking(desk, HISTORY, _history)
    yield MOVE, partial(_move, desk)
    for resource in RESOURCES.values():
        own = endpoints.endpoints_of(resource)
        yield own.list, _looking(desk, own.list, partial(_list, resource))
        yield own.make, partial(_make, desk, own.make, resource)
        yield own.show, _looking(desk, own.show, partial(_show, resource))
        yield own.change, partial(_change, desk, own.change, resource)
        yield own.remove, partial(_remove, desk, own.remove, resource)


# Looking.

Look = Callable[[DirectoryService, Request], tuple[Any, Snapshot | None]]


def _looking(desk: Desk, endpoint: Endpoint, look: Look) -> Serve:
    """A route that only tells; with the revision it tells of, unless there is none."""

    async def serve(request: Request) -> Response:
        query(request, endpoint)
        return await desk.do(who(request), work(request))

    def work(request: Request) -> Callable[[DirectoryService], Response]:
        def do(service: DirectoryService) -> Response:
            known = tags(headers(request, "if-none-match"))
            if known and etag(service.snapshot().revision) in known:
                return Response(status_code=304, headers=_tagged(service.snapshot()))
            told, snapshot = look(service, request)
            return JSONResponse(told, headers=_tagged(snapshot))

        return do

    return serve


def _tagged(snapshot: Snapshot | None) -> dict[str, str]:
    return {"ETag": etag(snapshot.revision)} if snapshot is not None else {}


def _about(desk: Desk, service: DirectoryService) -> tuple[Any, Snapshot]:
    snapshot = service.snapshot()
    directory = snapshot.directory
    about = About(
        service.store.name,
        snapshot.revision,
        directory.organization,
        directory.admin_group,
        {resource.plural: len(directory.of(kind)) for kind, resource in RESOURCES.items()},
        snapshot.missing,
        desk.broken(snapshot),
    )
    return to_json(about), snapshot


def _history(service: DirectoryService, request: Request) -> tuple[Any, None]:
    entries = service.history(limit(dict(request.query_params)))
    return to_json(History(tuple(entry_of(entry) for entry in entries))), None


def _list(resource: Resource, service: DirectoryService, request: Request) -> tuple[Any, Snapshot]:
    asked = dict(request.query_params)
    most, after = limit(asked), key(asked.get("after", ""))
    snapshot = service.snapshot()
    things = snapshot.directory.of(resource.kind)
    names = sorted(name for name in things if name > after)
    page = [things[name] for name in names[:most]]
    following = page[-1].name if len(names) > most else None
    items = [_told(resource, snapshot.directory, thing) for thing in page]
    return {"items": items, "next": following, "total": len(things)}, snapshot


def _show(resource: Resource, service: DirectoryService, request: Request) -> tuple[Any, Snapshot]:
    snapshot = service.snapshot()
    thing = find(snapshot.directory, resource.kind, _named(resource, request))
    return _told(resource, snapshot.directory, thing), snapshot


def _told(resource: Resource, directory: Directory, thing: Thing) -> Any:
    told = as_json(thing)
    if resource.compute is not None:
        told["computed"] = to_json(resource.compute(directory, thing))
    return told


def _named(resource: Resource, request: Request) -> str:
    name: str = request.path_params["name"]
    if resource.kind is Kind.SUBNET:
        try:
            return str(ip_network(name))
        except ValueError:
            pass  # there is none of that name, and it is said so
    return name


# Changing.


async def _make(desk: Desk, endpoint: Endpoint, resource: Resource, request: Request) -> Response:
    data = await body(request)
    fields = bodies.new_fields(resource.cls, bodies.parse(data), resource.optional)

    def edit(directory: Directory) -> Directory:
        return resource.make(directory, dict(fields))

    how = wanted(request, endpoint, data)
    return await desk.do(who(request), partial(_carry_out, how, edit, partial(_done, resource, "", 201)))


async def _change(desk: Desk, endpoint: Endpoint, resource: Resource, request: Request) -> Response:
    data = await body(request)
    patch, name = bodies.parse(data), _named(resource, request)

    def edit(directory: Directory) -> Directory:
        thing = find(directory, resource.kind, name)
        return resource.change(directory, thing.name, bodies.changed_fields(thing, patch))

    how = wanted(request, endpoint, data)
    return await desk.do(who(request), partial(_carry_out, how, edit, partial(_done, resource, name, 200)))


async def _remove(desk: Desk, endpoint: Endpoint, resource: Resource, request: Request) -> Response:
    name = _named(resource, request)

    def edit(directory: Directory) -> Directory:
        return edits.remove(directory, resource.kind, name)

    def gone(_service: DirectoryService, _outcome: Outcome) -> Response:
        return Response(status_code=204)

    return await desk.do(who(request), partial(_carry_out, wanted(request, endpoint), edit, gone))


async def _move(desk: Desk, request: Request) -> Response:
    data = await body(request)
    move: Move = bodies.read_plain(Move, bodies.parse(data))
    name = request.path_params["name"]

    def edit(directory: Directory) -> Directory:
        return edits.move_active_database(directory, name, move.server)

    how, done = wanted(request, MOVE, data), partial(_done, RESOURCES[Kind.DATABASE], name, 200)
    return await desk.do(who(request), partial(_carry_out, how, edit, done))


def _carry_out(
    how: Wanted, edit: Edit, done: Callable[[DirectoryService, Outcome], Response], service: DirectoryService
) -> Response:
    """Plan it or do it; ``done`` answers for what was done."""
    edit = how.guarded(service, edit)
    if not how.dry_run:
        return done(service, service.change(edit, how.what, force=how.force))
    outcome = service.plan(edit, force=how.force)
    snapshot = service.snapshot()
    planned_on = snapshot if snapshot.directory is outcome.before else None
    return JSONResponse(to_json(plan_of(outcome)), headers=_tagged(planned_on))


def _done(resource: Resource, name: str, status: int, service: DirectoryService, outcome: Outcome) -> Response:
    """The thing as it is now: somebody may have changed it again since, and what is told goes with its revision."""
    changed = next((c.after for c in outcome.changes if c.kind is resource.kind and c.after is not None), None)
    name = changed.name if changed is not None else name
    snapshot: Snapshot | None = service.snapshot()
    assert snapshot is not None
    directory = snapshot.directory
    thing = directory.get(resource.kind, name)
    if thing is None:  # gone already; it was there, all the same
        directory, thing, snapshot = outcome.after, find(outcome.after, resource.kind, name), None
    more = _tagged(snapshot)
    if status == 201:
        more["Location"] = f"/v1/{resource.plural}/{quote(name, safe='')}"
    return JSONResponse(_told(resource, directory, thing), status, more)
