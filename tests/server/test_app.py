"""The app as a whole."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from gaia_core import Gaia, SettingsError, server
from gaia_core.ledger import MemoryLedger
from gaia_core.server import create_app, nobody_asked, router
from gaia_core.server.app import _auth_for
from gaia_core.server.keys import bearer, bearer_or_owner
from gaia_core.server.site import Site
from gaia_core.settings import ServerSettings
from gaia_core.testing import FakeProvider, capture_events
from tests.server.conftest import OpenClient, serving, settings_in

CANARY = "canary-0123456789"
PROBLEM = {
    "success",
    "error",
    "error_type",
    "error_code",
    "retry_after",
    "fallback_available",
    "suggested_action",
    "operation_id",
    "billed",
}


def _app(folder: Path, **server: Any) -> FastAPI:
    gaia = Gaia.open(
        settings_in(folder, server=server), plugins=[FakeProvider()], discover=False
    )
    return create_app(gaia)


@pytest.fixture(name="document", scope="module")
def _document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Give the document; it takes a moment to make."""
    return _app(tmp_path_factory.mktemp("document")).openapi()


# -- what it says of itself -------------------------------------------------------


async def test_it_describes_itself(
    open_client: OpenClient, document: dict[str, Any]
) -> None:
    """Clients can read what it takes."""
    async with open_client() as client:
        answer = await client.get("/openapi.json")

    assert answer.status_code == 200
    assert answer.json() == document
    assert document["info"]["title"] == "Gaia images"


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    """It is an OpenAPI document by the letter of the standard."""
    schemathesis.openapi.from_dict(document).validate()


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """No shape is named that is not there, and none is there that nobody names."""
    named = set(re.findall(r"'#/components/schemas/([^']+)'", str(document)))

    assert named == set(document["components"]["schemas"])


def test_operations_are_told_apart(document: dict[str, Any]) -> None:
    """Each has an id of its own, a summary, and says how it may be refused."""
    operations = [
        operation for path in document["paths"].values() for operation in path.values()
    ]

    ids = [operation["operationId"] for operation in operations]

    assert len(set(ids)) == len(ids)
    for operation in operations:
        assert operation["summary"]
        assert {"4XX", "429", "503"} <= set(operation["responses"])
        assert "Retry-After" in str(operation["responses"]["429"])


def test_what_needs_a_key_says_so(document: dict[str, Any]) -> None:
    """Every operation behind a scope names it, and no other does."""
    secured = {
        path: [
            word
            for one in operation["security"]
            for words in one.values()
            for word in words
        ]
        for path, methods in document["paths"].items()
        for operation in methods.values()
        if "security" in operation
    }

    assert secured["/api/images/generate"] == ["make", "make"]
    assert secured["/api/images/{image_id}"] == ["read", "read"]
    assert "/api/health" not in secured


# -- what goes wrong outside of every route ---------------------------------------


async def test_unknown_addresses_are_answered_like_the_rest(
    open_client: OpenClient,
) -> None:
    """What leads nowhere has the error of the door it is nearest to."""
    async with open_client() as client:
        ours = await client.get("/api/nothing")
        openai = await client.get("/v1/nothing")
        automatic1111 = await client.get("/sdapi/v1/nothing")

    assert {answer.status_code for answer in (ours, openai, automatic1111)} == {404}
    assert set(ours.json()) == PROBLEM
    assert set(openai.json()["error"]) >= {"message", "type", "param", "code"}
    assert {"error", "detail"} <= set(automatic1111.json())


async def test_wrong_methods_are_told_the_right_one(open_client: OpenClient) -> None:
    """The answer to a wrong method names those that would do."""
    async with open_client() as client:
        answer = await client.delete("/api/images/generate")

    assert answer.status_code == 405
    assert answer.headers["Allow"] == "POST"
    assert answer.json()["error_code"] == "method_not_allowed"


async def test_nothing_is_redirected(open_client: OpenClient) -> None:
    """No answer sends a client elsewhere, least of all by a name it brought along."""
    async with open_client() as client:
        statuses = [
            (await client.get(path)).status_code
            for path in ("/api/health/", "/api/images/models/", "//", "/v1/models/")
        ]

    assert [status for status in statuses if 300 <= status < 400] == []


async def test_what_nobody_foresaw_is_answered_without_a_word_of_it(
    tmp_path: Path,
) -> None:
    """A failure of our own says nothing of itself; half an answer is cut off."""
    app = _app(tmp_path)

    async def fail(_request: Request) -> Response:
        raise RuntimeError(CANARY)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"half"
        raise RuntimeError(CANARY)

    async def fail_late(_request: Request) -> Response:
        return StreamingResponse(pieces())

    app.add_route("/fail", fail)
    app.add_route("/fail-late", fail_late)
    with capture_events() as events:
        async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
            whole = await client.get("/fail")
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/fail-late")

    assert whole.status_code == 500
    assert whole.json()["error_code"] == "internal"
    assert CANARY not in whole.text
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    failures = [event for event in events if event["event"] == "gaia.server_failed"]
    assert [event["error"] for event in failures] == ["RuntimeError"] * 2


# -- who is asked for a key -------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        pytest.param({}, bearer_or_owner, id="this-machine"),
        pytest.param({"host": "::"}, bearer, id="every-address"),
        pytest.param({"public_url": "https://a.example"}, bearer, id="proxied"),
    ],
)
def test_a_key_is_asked_for_where_others_call(
    server: dict[str, Any], expected: object
) -> None:
    """Who calls from this machine may have no key, who may come from elsewhere must."""
    assert _auth_for(ServerSettings(**server)) is expected


# -- in the app of a host ---------------------------------------------------------


async def test_a_host_includes_the_router_in_one_line(tmp_path: Path) -> None:
    """The routes work below a prefix, with their limits, and open by themselves."""
    gaia = Gaia.open(settings_in(tmp_path), plugins=[FakeProvider()], discover=False)
    app = FastAPI()
    app.include_router(router(gaia, auth=nobody_asked), prefix="/pictures")

    async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
        made = await client.post(
            "/pictures/api/images/generate", json={"prompt": "a dragon"}
        )
        picture = await client.get(made.json()["image_url"])
        large = await client.post(
            "/pictures/api/images/generate",
            content=b" " * (25 * 1024 * 1024 + 1),
            headers={"Content-Type": "application/json"},
        )
        foreign = await client.get(
            "/pictures/api/images/models", headers={"Origin": "https://evil.example"}
        )

    assert made.status_code == 200
    assert picture.headers["Content-Type"] == "image/png"
    assert (large.status_code, foreign.status_code) == (413, 403)
    assert not gaia.is_open


async def test_a_host_that_says_nobody_is_asked_for_a_key(tmp_path: Path) -> None:
    """Without a word about who calls, a router lets nobody in who has no key."""
    gaia = Gaia.open(settings_in(tmp_path), plugins=[FakeProvider()], discover=False)
    app = FastAPI()
    app.include_router(router(gaia))

    async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
        answer = await client.get("/api/images/models")

    assert answer.status_code == 401


async def test_what_cannot_be_opened_leaves_nothing_open(tmp_path: Path) -> None:
    """A ledger without a book of keys is refused, and the Gaia is closed again."""
    gaia = Gaia.open(
        settings_in(tmp_path),
        plugins=[FakeProvider()],
        ledger=MemoryLedger(),
        discover=False,
    )

    with pytest.raises(SettingsError, match="knows no pictures or keys"):
        async with Site(gaia=gaia):
            pytest.fail("It must not be opened.")

    assert not gaia.is_open


def test_every_module_has_its_place_in_the_tour() -> None:
    """Whoever opens the package reads where each module belongs."""
    named = set(re.findall(r"(?<!`)`(\w+)`", server.__doc__ or ""))
    folder = Path(server.__file__).parent
    modules = {entry.stem for entry in folder.glob("[a-z]*.py")}
    folders = {entry.name for entry in folder.glob("[a-z]*") if entry.is_dir()}

    assert named == modules | folders
