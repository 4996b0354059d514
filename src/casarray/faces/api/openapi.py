"""The document that describes the API, made of its endpoints and of the value classes that travel."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from casarray.faces.api.answers import Failure
from casarray.faces.api.endpoints import IF_NONE_MATCH, Endpoint, Parameter, plan
from casarray.faces.api.schemas import Schema, Schemas

ABOUT = """\
What `casarray` does on the command line, for programs. On the control socket whoever may write to it may use it; on TCP
it wants TLS and a token. A failure is always an `error` with a kind and a sentence that says the next step.
"""
ETAG = {"description": "The revision of the directory, for If-Match.", "schema": {"type": "string"}}


def document(endpoints: Iterable[Endpoint], version: str) -> dict[str, Any]:
    """The whole document, [OpenAPI 3.1.0]."""
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "casarray", "version": version, "description": ABOUT, "license": {"name": "Apache-2.0"}},
        "servers": [{"url": "/", "description": "The control socket, or the address in api.listen."}],
        "security": [{"token": []}, {}],
        "tags": [
            {"name": "gateway", "description": "What a running gateway does."},
            {"name": "directory", "description": "What exists: sites, arrays, servers, databases."},
        ],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "On TCP: what stands in api.token_file."}
            },
        },
    }


def _operation(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.id,
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "parameters": [_parameter(parameter) for parameter in endpoint.parameters],
    }
    if endpoint.body is not None:
        body = endpoint.body(schemas)
        types = ("application/json", "application/merge-patch+json")[: 2 if endpoint.method == "PATCH" else 1]
        operation["requestBody"] = {"required": True, "content": {kind: {"schema": body} for kind in types}}
    operation["responses"] = _responses(endpoint, schemas)
    return operation


def _responses(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    done: dict[str, Any] = {"description": endpoint.status.phrase}
    if endpoint.answer is not None:
        done["content"] = _json(endpoint.answer(schemas))
    if endpoint.changes or IF_NONE_MATCH in endpoint.parameters:
        done["headers"] = {"ETag": ETAG}
    responses = {str(endpoint.status.value): done}
    if endpoint.changes and endpoint.status is not HTTPStatus.OK:
        responses["200"] = {"description": "With dry_run: the plan.", "content": _json(plan(schemas))}
    elif endpoint.changes:
        done["description"] = "Done; with dry_run: the plan."
        done["content"] = _json({"anyOf": [endpoint.answer(schemas), plan(schemas)]} if endpoint.answer else {})
    if IF_NONE_MATCH in endpoint.parameters:
        responses["304"] = {"description": "Nothing changed since."}
    for status in (*endpoint.fails, 401):
        responses[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": _json(schemas.answer(Failure)),
        }
    return dict(sorted(responses.items()))


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.meaning,
        "required": parameter.required,
        "schema": dict(parameter.schema),
    }


def _json(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
