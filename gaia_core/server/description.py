"""The OpenAPI document: what the routes say of themselves, and what holds for all."""

import asyncio
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts

from gaia_core.server.access import authorised

_PROBLEM = {"$ref": "#/components/schemas/ProblemOut"}
_REFUSED = {"description": "What is wrong with the request."}
_LATE = {
    "429": "Too many requests: `Retry-After` says when to ask again.",
    "503": "It cannot be served now: `Retry-After` says when to ask again.",
}
_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds after which to ask again.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_SECURITY_SCHEMES = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, as `gaia keys create` makes them.",
    },
    "password": {
        "type": "http",
        "scheme": "basic",
        "description": "The same key, as the password of any user.",
    },
}
_SUMMARY = (
    "Make, edit, enlarge and cut out pictures through any provider. Errors have one "
    "shape; `error_code` is for programs, `error` for people."
)


def add_description(app: FastAPI) -> None:
    """Have an app give the document under ``/openapi.json``."""

    @cache
    def written() -> bytes:
        return orjson.dumps(app.openapi())

    async def openapi_json(_request: Request) -> Response:
        # It is made when first asked for, which takes a moment.
        data = await asyncio.to_thread(written)
        return Response(data, media_type="application/json")

    app.openapi = partial(_document, app)  # type: ignore[method-assign]
    app.add_route("/openapi.json", openapi_json, include_in_schema=False)


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=_SUMMARY,
        routes=app.routes,
    )
    scopes = dict(_scopes_of(app))
    for path, methods in document.get("paths", {}).items():
        for method, operation in methods.items():
            _complete(operation, scopes.get((path, method)))
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["securitySchemes"] = _SECURITY_SCHEMES
    return document


def _complete(operation: dict[str, Any], scopes: list[str] | None) -> None:
    """Add what holds for all to what a route says: compatible doors say their own."""
    responses = operation.setdefault("responses", {})
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    content = {"application/json": {"schema": _PROBLEM}}
    found: dict[str, Any] = {"4XX": {**_REFUSED, "content": content}}
    if scopes is not None:
        operation["security"] = [{name: scopes} for name in _SECURITY_SCHEMES]
    for status, words in _LATE.items():
        late = responses.setdefault(status, {"description": words, "content": content})
        late.setdefault("headers", _RETRY_AFTER)
    operation["responses"] = found | responses


def _scopes_of(app: FastAPI) -> Iterator[tuple[tuple[str, str], list[str]]]:
    """Say which scopes each protected operation needs."""
    for context in iter_route_contexts(app.routes):
        if isinstance(context.original_route, APIRoute) and context.path_format:
            needed = _needed(context.dependant)
            for method in context.methods or () if needed is not None else ():
                yield (context.path_format, method.lower()), needed or []


def _needed(dependant: Dependant) -> list[str] | None:
    """Look through the dependencies for the one that checks the caller."""
    call: Callable[..., Any] | None = dependant.call
    if call is authorised:
        return [str(scope) for scope in dependant.own_oauth_scopes or ()]
    for part in dependant.dependencies:
        if (found := _needed(part)) is not None:
            return found
    return None
