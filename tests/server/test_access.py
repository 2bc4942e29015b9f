"""Every route asks for what it needs: a key, and the right scope."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request
from fastapi.routing import iter_route_contexts

from gaia_core import Gaia
from gaia_core.server import create_app
from gaia_core.server.access import OWNER, Principal, Scope, principal_of
from gaia_core.server.keys import bearer
from gaia_core.server.routes.linked import linked
from gaia_core.server.site import Site
from gaia_core.testing import FakeProvider

from .conftest import OpenClient, settings_in

PUBLIC = "anybody"
"""Needs no key."""
KNOWN = "any key"
"""Needs a key, and no scope in particular."""

NEEDED = {
    "GET /": PUBLIC,
    "GET /page/{name}": PUBLIC,
    "GET /openapi.json": PUBLIC,
    "GET /api/health": PUBLIC,
    "GET /api/health/{provider}": PUBLIC,
    "GET /api/images/models": KNOWN,
    "POST /api/images/generate": Scope.MAKE,
    "POST /api/images/inpaint": Scope.MAKE,
    "POST /api/images/outpaint": Scope.MAKE,
    "POST /api/images/upscale": Scope.MAKE,
    "POST /api/images/remove-background": Scope.MAKE,
    "POST /api/images/enhance-prompt": Scope.MAKE,
    "POST /api/images/describe": Scope.MAKE,
    "POST /api/images/plan": Scope.MAKE,
    "POST /api/images/batch": Scope.MAKE,
    "GET /api/images/batch": Scope.READ,
    "GET /api/images/batch/{batch_id}": Scope.READ,
    "DELETE /api/images/batch/{batch_id}": Scope.MAKE,
    "GET /api/images/batch/{batch_id}/events": Scope.READ,
    "GET /api/images": Scope.READ,
    "GET /api/images/{image_id}": Scope.READ,
    "GET /api/operations": Scope.READ,
    "GET /api/operations/{operation_id}": Scope.READ,
    "GET /api/campaigns": Scope.READ,
    "GET /api/usage": Scope.READ,
    "GET /api/stats": Scope.MONITOR,
    "GET /metrics": Scope.MONITOR,
    "POST /v1/images/generations": Scope.MAKE,
    "POST /v1/images/edits": Scope.MAKE,
    "POST /v1/images/variations": Scope.MAKE,
    "GET /v1/models": Scope.READ,
    "GET /v1/models/{model:path}": Scope.READ,
    "POST /sdapi/v1/txt2img": Scope.MAKE,
    "POST /sdapi/v1/img2img": Scope.MAKE,
    "POST /sdapi/v1/extra-single-image": Scope.MAKE,
    "POST /rembg": Scope.MAKE,
    "POST /sdapi/v1/interrogate": Scope.MAKE,
    "GET /sdapi/v1/progress": Scope.READ,
    "POST /sdapi/v1/interrupt": Scope.MAKE,
    "POST /sdapi/v1/skip": Scope.MAKE,
    "GET /sdapi/v1/options": Scope.READ,
    "POST /sdapi/v1/options": Scope.MAKE,
    "GET /sdapi/v1/sd-models": Scope.READ,
    "POST /sdapi/v1/refresh-checkpoints": Scope.MAKE,
    "GET /sdapi/v1/upscalers": Scope.READ,
    "GET /sdapi/v1/samplers": Scope.READ,
    "GET /sdapi/v1/schedulers": Scope.READ,
    "GET /sdapi/v1/scripts": Scope.READ,
    "GET /sdapi/v1/embeddings": Scope.READ,
    "GET /sdapi/v1/cmd-flags": Scope.READ,
    "GET /sdapi/v1/memory": Scope.READ,
    "GET /sdapi/v1/extensions": Scope.READ,
    "GET /sdapi/v1/face-restorers": Scope.READ,
    "GET /sdapi/v1/hypernetworks": Scope.READ,
    "GET /sdapi/v1/latent-upscale-modes": Scope.READ,
    "GET /sdapi/v1/loras": Scope.READ,
    "GET /sdapi/v1/prompt-styles": Scope.READ,
    "GET /sdapi/v1/realesrgan-models": Scope.READ,
    "GET /sdapi/v1/script-info": Scope.READ,
    "GET /sdapi/v1/sd-modules": Scope.READ,
    "GET /sdapi/v1/sd-vae": Scope.READ,
    "GET /sdapi/v1/styles": Scope.READ,
}
"""Every route, and what it needs; what is seen with GET is seen with HEAD as well."""

PLACES = {
    "{name}": "main.js",
    "{provider}": "fake",
    "{model:path}": "fake",
    "{batch_id}": "f" * 32,
    "{image_id}": "f" * 32,
    "{operation_id}": "f" * 32,
}
"""What stands in an address; of what has an owner, nothing is there."""

GIVEN = {
    "POST /v1/images/edits": {"files": {"image": ("a.png", b"", "image/png")}},
}
"""What a request must bring to come as far as its route; otherwise an empty body."""


async def as_said(request: Request) -> Principal | None:
    """Take the scopes that the request says, for these tests."""
    words = request.headers.get("x-scopes")
    return None if words is None else Principal(name="anna", scopes=words.split())


def _walk(tmp_path: Path) -> Iterator[str]:
    """Name every method of every route."""
    gaia = Gaia.open(settings_in(tmp_path), plugins=[FakeProvider()], discover=False)
    for context in iter_route_contexts(create_app(gaia).routes):
        path: Any = context.path or getattr(context.starlette_route, "path", None)
        for method in context.methods or ():
            yield f"{method} {path}"


def test_every_route_has_an_entry(tmp_path: Path) -> None:
    """A new route says here what it needs, and an entry without a route goes."""
    routes = set(_walk(tmp_path))
    seen = {route.replace("HEAD ", "GET ") for route in routes}

    assert seen == set(NEEDED)


def test_only_links_are_asked_for_before_a_key(tmp_path: Path) -> None:
    """The route of links has one place, and no other stands twice."""
    gaia = Gaia.open(settings_in(tmp_path), plugins=[FakeProvider()], discover=False)
    routes = list(_walk(tmp_path))

    twice = {route for route in routes if routes.count(route) > 1}
    (own,) = linked(Site(gaia=gaia)).routes

    assert twice == {"GET /api/images/{image_id}", "HEAD /api/images/{image_id}"}
    assert getattr(own, "path", None) == "/api/images/{image_id}"


def _address(route: str) -> tuple[str, str]:
    method, _, path = route.partition(" ")
    for place, value in PLACES.items():
        path = path.replace(place, value)
    return method, path


@asynccontextmanager
async def _asking(
    client: httpx.AsyncClient, route: str, headers: dict[str, str]
) -> AsyncIterator[httpx.Response]:
    """Ask a route, and take the head of its answer: some go on for ever."""
    method, path = _address(route)
    given = GIVEN.get(route, {"json": {}} if method == "POST" else {})
    async with client.stream(method, path, headers=headers, **given) as answer:  # type: ignore[arg-type]
        yield answer


async def _statuses(
    client: httpx.AsyncClient, headers: dict[str, str], *needs: str
) -> dict[str, int]:
    """Ask every route that needs one of these, and name those answers by route."""
    found = {}
    for route, need in NEEDED.items():
        if need in needs:
            async with _asking(client, route, headers) as answer:
                found[route] = answer.status_code
    return found


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no-key"),
        pytest.param({"Authorization": "Bearer wrong"}, id="wrong-key"),
        pytest.param({"Authorization": "Basic d3Jvbmc6d3Jvbmc="}, id="wrong-password"),
    ],
)
async def test_nothing_is_had_without_a_key(
    open_client: OpenClient,
    headers: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every route that is not public refuses whoever it does not know."""
    monkeypatch.setattr("gaia_core.server.keys.MOST_REFUSALS", 1_000)

    async with open_client(auth=bearer) as client:
        found = await _statuses(client, headers, KNOWN, *Scope)

    assert {route for route, status in found.items() if status != 401} == set()


async def test_nothing_is_had_without_the_scope(open_client: OpenClient) -> None:
    """Whoever may do everything else is refused what they may not."""
    async with open_client(auth=as_said) as client:
        found: dict[str, int] = {}
        for scope in (Scope.MAKE, Scope.READ, Scope.MONITOR):
            others = " ".join(set(Scope) - {scope})
            found |= await _statuses(client, {"X-Scopes": others}, scope)

    assert {route for route, status in found.items() if status != 403} == set()


async def test_the_scope_is_enough(open_client: OpenClient) -> None:
    """A key with the one scope that a route needs is let in."""
    async with open_client(auth=as_said) as client:
        found = await _statuses(client, {"X-Scopes": ""}, KNOWN)
        for scope in (Scope.MAKE, Scope.READ, Scope.MONITOR):
            found |= await _statuses(client, {"X-Scopes": scope.value}, scope)

    assert {route for route, status in found.items() if status in {401, 403}} == set()
    assert {route for route, status in found.items() if status >= 500} == set()


async def test_public_routes_answer_anybody(open_client: OpenClient) -> None:
    """The page, its parts, the document and the health need no key."""
    async with open_client(auth=bearer) as client:
        found = await _statuses(client, {}, PUBLIC)

    assert set(found.values()) == {200}


async def test_a_refusal_says_what_to_do(open_client: OpenClient) -> None:
    """Who has no key is told how to present one; who may not is told so."""
    async with open_client(auth=as_said) as client:
        unknown = await client.get("/api/images")
        wanting = await client.get("/api/images", headers={"X-Scopes": "make"})

    assert unknown.json()["error_code"] == "unauthorised"
    assert "Authorization: Bearer KEY" in unknown.json()["error"]
    assert unknown.headers["www-authenticate"] == "Bearer"
    assert wanting.json()["error_code"] == "forbidden"


# -- who it is --------------------------------------------------------------------


def test_a_name_is_a_principal() -> None:
    """A host's dependency may give a name: it may make pictures and see its own."""
    found = principal_of("anna")

    assert found is not None
    assert found.name == "anna"
    assert found.scopes == {Scope.MAKE, Scope.READ}


@pytest.mark.parametrize("who", [OWNER, Principal(name="anna", scopes=["read"]), None])
def test_principals_are_taken_as_they_are(who: Principal | None) -> None:
    """A principal keeps its scopes, and nobody stays nobody."""
    assert principal_of(who) is who


@pytest.mark.parametrize("who", ["", 7, {"name": "anna"}, True, object()])
def test_what_names_nobody_is_an_error_of_the_host(who: object) -> None:
    """A dependency that gives something else is at fault, not the caller."""
    with pytest.raises(TypeError, match="return the user's id as a str"):
        principal_of(who)


@pytest.mark.parametrize("name", ["anna\0", "\0", "an\ud800na"], ids=ascii)
def test_a_name_no_database_keeps_is_nobodys(name: str) -> None:
    """What would be replaced on its way in could become another's name."""
    with pytest.raises(ValueError, match="no text"):
        principal_of(name)
    with pytest.raises(ValueError, match="no text"):
        Principal(name=name)


def test_scopes_are_known_words() -> None:
    """A scope that does not exist is refused, not ignored."""
    with pytest.raises(ValueError, match="admin"):
        Principal(name="anna", scopes=["admin"])
