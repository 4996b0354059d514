"""The document that describes the API: valid, complete, and kept to by every answer, whatever was asked."""

import asyncio
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from starlette.applications import Starlette
from starlette.routing import Route
from tests.faces.asking import WHOLE, Answer, Client, app_of, desk_of

from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.core.directory.model import Kind


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    with desk_of(MemoryDirectory()) as desk:
        described: dict[str, Any] = asyncio.run(Client(app_of(desk))("GET", "/v1/openapi.json")).json
    return described


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    validate(document)


def test_the_document_has_every_route_and_no_other(document: dict[str, Any]) -> None:
    with desk_of(MemoryDirectory()) as desk:
        app = app_of(desk)
    assert isinstance(app, Starlette)
    served = {
        (method, re.sub(r":path", "", route.path))
        for route in app.routes
        if isinstance(route, Route) and route.path.startswith("/v1/")
        for method in (route.methods or set()) - {"HEAD"}
    }
    told = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    assert told == served


def fits(document: dict[str, Any], answer: Answer, method: str, path: str) -> None:
    """The answer is one of those that the document foretells."""
    operation = document["paths"][path][method.lower()]
    assert str(answer.status) in operation["responses"], (method, path, answer.status, answer.body)
    described = operation["responses"][str(answer.status)]
    if "content" not in described:
        assert answer.body == b""
        return
    schema = {**described["content"]["application/json"]["schema"], "components": document["components"]}
    OAS31Validator(schema).validate(answer.json)


#: Method, path, what goes in the place of {name} or else behind the path, body.
REQUESTS: tuple[tuple[str, str, str, object], ...] = (
    ("GET", "/v1/directory", "", None),
    ("GET", "/v1/directory/history", "", None),
    ("GET", "/v1/status", "", None),
    ("GET", "/v1/explain", "?client=10.11.0.7", None),
    ("GET", "/v1/explain", "?client=x", None),
    ("POST", "/v1/reload", "", None),
    ("POST", "/v1/servers/{name}/state", "cas1", {"state": "drain", "deadline_seconds": 5}),
    ("GET", "/v1/openapi.json", "", None),
    *(("GET", path, "?limit=1", None) for path, _ in WHOLE),
    *(("GET", f"{path}/{{name}}", str(body.get("name", "10.11.0.0/24")), None) for path, body in WHOLE),
    *(("POST", f"{path}", "?dry_run=1", body | {"name": "x"}) for path, body in WHOLE if "network" not in body),
    *(("POST", path, "", body) for path, body in WHOLE),
    *(("PATCH", f"{path}/{{name}}", "nobody", {}) for path, _ in WHOLE),
    *(("PATCH", f"{path}/{{name}}", str(body.get("name", "10.11.0.0/24")), {}) for path, body in WHOLE),
    *(("DELETE", f"{path}/{{name}}", f"{body.get('name', '10.11.0.0/24')}?dry_run=1", None) for path, body in WHOLE),
    ("POST", "/v1/databases/{name}/move", "DB1", {"server": "mbx2"}),
    ("POST", "/v1/databases/{name}/move", "DB1", {"server": "mbx2"}),
    ("DELETE", "/v1/accounts/{name}", "anna", None),
)


async def test_every_answer_is_as_the_document_says(document: dict[str, Any]) -> None:
    with desk_of(MemoryDirectory()) as desk:
        ask = Client(app_of(desk))
        for path, body in WHOLE:
            fits(document, await ask("POST", path, body), "POST", path)
        for method, path, rest, sent in REQUESTS:
            target = path.replace("{name}", rest) if "{name}" in path else path + rest
            fits(document, await ask(method, target, sent), method, path)


def bodies_of(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Every request with a body, and the schema of that."""
    return [
        (method.upper(), path, operation["requestBody"]["content"]["application/json"]["schema"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "requestBody" in operation
    ]


@pytest.mark.parametrize(("path", "body"), WHOLE)
def test_what_is_taken_is_what_the_document_allows(document: dict[str, Any], path: str, body: object) -> None:
    schemas = {(method, place): schema for method, place, schema in bodies_of(document)}
    for method, place in (("POST", path), ("PATCH", f"{path}/{{name}}")):
        validator = OAS31Validator({**schemas[method, place], "components": document["components"]})
        assert validator.is_valid(body)
        assert not validator.is_valid({"colour": "blue"})
    assert not OAS31Validator({**schemas["POST", path], "components": document["components"]}).is_valid({})


PLAIN = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=6),
        st.sampled_from(["Paderborn", "cas1", "mbx2", "DB1", "10.11.0.0/25", "10.11.0.100", "client-access", "a.b"]),
    ),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_is_sent_the_answer_is_as_the_document_says(document: dict[str, Any], data: st.DataObject) -> None:
    method, path, schema = data.draw(st.sampled_from(bodies_of(document)))
    known = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"]
    inner = st.dictionaries(st.sampled_from(["server", "name", "profile", "slots", "x"]), PLAIN, max_size=3)
    body = data.draw(st.dictionaries(st.sampled_from([*known, "x"]), PLAIN | inner | st.lists(inner, max_size=2)))
    names = ["10.11.0.0%2F24", "x"] if "subnets" in path else ["Paderborn", "cas1", "CAS", "DAG1", "DB1", "anna", "ä b"]
    name = data.draw(st.sampled_from(names))

    async def scenario() -> Answer:
        ask = Client(app_of(desk))
        for place, thing in WHOLE:
            await ask("POST", place, thing)
        return await ask(method, path.replace("{name}", name), body)

    with desk_of(MemoryDirectory()) as desk:
        fits(document, asyncio.run(scenario()), method, path)


def test_every_kind_of_thing_is_tried_here() -> None:
    assert {path.removeprefix("/v1/") for path, _ in WHOLE} == {f"{kind}s" for kind in Kind} - {"organizations"}
