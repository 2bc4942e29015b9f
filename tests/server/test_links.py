"""Addresses of pictures that open for whoever has them, for a while."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request

from gaia_core import Gaia, Secret
from gaia_core.server import router
from gaia_core.server.access import OWNER, Principal
from gaia_core.server.links import Links
from gaia_core.settings import ServerSettings
from gaia_core.testing import FakeProvider

from .conftest import OpenClient, serving, settings_in

NOBODY = "f" * 32
"""The id of a picture that does not exist."""


async def named(request: Request) -> Principal | None:
    """Let the owner in by a word, and nobody else."""
    return OWNER if request.headers.get("x-word") == "please" else None


async def raising(request: Request) -> str:
    """Refuse strangers at once, as most hosts' dependencies do."""
    if request.headers.get("x-word") != "please":
        raise HTTPException(401)
    return "anna"


WORD = {"X-Word": "please"}


async def _made(client: httpx.AsyncClient, prompt: str = "a keep") -> dict[str, Any]:
    body = {"prompt": prompt, "size": "64x64"}
    answer = await client.post("/api/images/generate", json=body, headers=WORD)
    assert answer.status_code == 200, answer.text
    image: dict[str, Any] = answer.json()["images"][0]
    return image


def _local(address: str) -> str:
    """Take the host off an address: the client knows it."""
    parts = urlsplit(address)
    return f"{parts.path}?{parts.query}"


def _signature(image: dict[str, Any]) -> str:
    return parse_qs(urlsplit(str(image["url"])).query)["s"][0]


async def test_a_link_opens_without_a_key(open_client: OpenClient) -> None:
    """Whoever has the address of a picture sees it; without its end they do not."""
    async with open_client(auth=named) as client:
        image = await _made(client)
        linked = await client.get(_local(image["url"]))
        plain = await client.get(f"/api/images/{image['id']}")
        headless = await client.head(_local(image["url"]))

    assert linked.status_code == 200
    assert linked.headers["content-type"] == image["media_type"]
    assert headless.status_code == 200
    assert plain.status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Sec-Fetch-Site": "cross-site"}, id="browser"),
        pytest.param({"Origin": "https://elsewhere.example"}, id="script"),
        pytest.param({"Authorization": "Bearer gaia_wrong"}, id="wrong-key"),
    ],
)
async def test_a_link_opens_from_anywhere(
    open_client: OpenClient, headers: dict[str, str]
) -> None:
    """A link is good in any page and with any key: it is its own permission."""
    async with open_client(auth=None, server={"require_auth": None}) as client:
        image = await _made(client)
        answer = await client.get(_local(image["url"]), headers=headers)

    assert answer.status_code == 200


async def test_a_link_opens_its_own_picture_only(open_client: OpenClient) -> None:
    """A signature of one picture opens no other, and nothing but pictures."""
    async with open_client(auth=named) as client:
        image, other = await _made(client), await _made(client, "a tower")
        query = {"s": _signature(image)}
        answers = [
            await client.get(f"/api/images/{other['id']}", params=query),
            await client.get(f"/api/operations/{image['operation_id']}", params=query),
            await client.get("/api/images", params=query),
            await client.delete(f"/api/images/{image['id']}", params=query),
        ]

    assert [answer.status_code for answer in answers] == [401, 401, 401, 405]


async def test_damaged_links_do_not_tell_what_exists(open_client: OpenClient) -> None:
    """A wrong link is answered alike, whether or not there is such a picture."""
    async with open_client(auth=named) as client:
        image = await _made(client)
        good = _signature(image)
        wrong = [
            *(good[:-1] + ("A" if good[-1] != "A" else "B"), good[1:], f"{good}x"),
            *("", ".", "..", "a.b.c", "\xe9", "s" * 600, good * 20),
        ]
        own = [
            await client.get(f"/api/images/{image['id']}", params={"s": one})
            for one in wrong
        ]
        nobodys = [
            await client.get(f"/api/images/{NOBODY}", params={"s": one})
            for one in [good, *wrong]
        ]

    assert {answer.status_code for answer in own + nobodys} == {401}
    assert len({answer.content for answer in own + nobodys}) == 1


async def test_many_parameters_are_no_link(open_client: OpenClient) -> None:
    """A query that is no query of ours is refused, and harms nothing."""
    async with open_client(auth=named) as client:
        answer = await client.get(f"/api/images/{NOBODY}?{'a&' * 1_000}s=x")

    assert answer.status_code == 401


async def test_the_owner_needs_no_link(open_client: OpenClient) -> None:
    """Whoever may see a picture sees it, also by a link that has ended."""
    async with open_client(auth=named) as client:
        image = await _made(client)
        place = f"/api/images/{image['id']}"
        plain = await client.get(place, headers=WORD)
        stale = await client.get(place, params={"s": "stale"}, headers=WORD)

    assert (plain.status_code, stale.status_code) == (200, 200)


async def test_links_survive_a_restart(open_client: OpenClient) -> None:
    """The ledger keeps what links are signed with."""
    async with open_client(auth=named) as client:
        image = await _made(client)
    async with open_client(auth=named) as client:
        answer = await client.get(_local(image["url"]))

    assert answer.status_code == 200


async def test_links_end_with_their_secret(open_client: OpenClient) -> None:
    """Whoever exchanges the settings' secret takes all links back."""
    async with open_client(
        auth=named, server={"signing_secret": Secret("first-links-secret")}
    ) as client:
        image = await _made(client)
        before = await client.get(_local(image["url"]))
    async with open_client(
        auth=named, server={"signing_secret": Secret("second-links-secret")}
    ) as client:
        after = await client.get(_local(image["url"]))

    assert (before.status_code, after.status_code) == (200, 401)


async def test_links_open_in_a_host_that_refuses_strangers(tmp_path: Path) -> None:
    """A host's own ``auth`` may raise: pictures open for whoever has their link."""
    gaia = Gaia.open(settings_in(tmp_path), plugins=[FakeProvider()], discover=False)
    app = FastAPI()
    app.include_router(router(gaia, auth=raising))

    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(app))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url))
        image = await _made(client)
        linked = await client.get(_local(image["url"]))
        plain = await client.get(f"/api/images/{image['id']}")

    assert (linked.status_code, plain.status_code) == (200, 401)


# -- time -------------------------------------------------------------------------


class _Book:
    """Keeps one signing key."""

    async def signing_key(self) -> bytes:
        """Give it."""
        return b"k" * 32


async def _links(monkeypatch: pytest.MonkeyPatch, seconds: int, now: int) -> Links:
    links = Links(settings=ServerSettings(link_seconds=seconds))
    await links.open(_Book())  # type: ignore[arg-type]
    monkeypatch.setattr("time.time", lambda: float(now))
    return links


@pytest.mark.parametrize(
    ("later", "is_open"),
    [
        pytest.param(0, True, id="at-once"),
        pytest.param(60, True, id="to-the-last-second"),
        pytest.param(61, False, id="too-late"),
        pytest.param(-30, True, id="by-a-clock-that-is-slow"),
        pytest.param(-3_600, False, id="from-the-future"),
    ],
)
async def test_a_link_ends(
    monkeypatch: pytest.MonkeyPatch, later: int, *, is_open: bool
) -> None:
    """A link opens for as long as the settings say, on another machine as well."""
    links = await _links(monkeypatch, 60, 1_800_000_000)
    signature = links.sign(NOBODY)
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.0 + later)

    assert links.opens(NOBODY, signature) is is_open


def test_links_are_signed_inside_the_lifespan_only() -> None:
    """Before the server is open there is nothing to sign with, and it says so."""
    links = Links(settings=ServerSettings())

    with pytest.raises(RuntimeError, match="not open yet"):
        links.sign(NOBODY)


def test_what_signs_does_not_show() -> None:
    """The secret of links is in no text about them."""
    settings = ServerSettings(signing_secret=Secret("open-sesame-links"))

    assert "open-sesame" not in repr(Links(settings=settings))
