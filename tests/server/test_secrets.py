"""No secret leaves the server: not in an answer, a log, the database or a metric."""

import asyncio
import logging
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest

from gaia_core import ProviderError, Secret
from gaia_core.errors import AuthenticationError
from gaia_core.ledger import SqlLedger
from gaia_core.ledger.access import new_key
from gaia_core.ledger.database import Database
from gaia_core.settings import ProviderSettings
from gaia_core.testing import FakeProvider, capture_events, png

from .conftest import OpenClient, settings_in

VENDORS = "canary-vendors-key-8c1f"
TOKEN = "canary-servers-token-5e2a"
SIGNING = "canary-signing-secret-77b0"
WRONG = "canary-wrong-key-d41d"
QUERY = "canary-in-the-query-9a3c"


@attrs.define(eq=False, kw_only=True)
class Leaky(FakeProvider):
    """
    Says its key wherever it can, as SDKs do when something goes wrong.

    Attributes:
        api_key: What must not be seen.
    """

    api_key: Secret

    async def _take_time(self, context: Any) -> None:
        await super()._take_time(context)
        words = f"401 for https://vendor.example/v1?key={self.api_key.reveal()}"
        place = (len(self.calls) - 1) % 4
        context.logger.warning("leaky.called", url=words, api_key=words)
        if place == 1:
            raise RuntimeError(words)
        if place == 2:
            raise AuthenticationError(words)
        if place == 3:
            raise ProviderError(words)


def _spellings(secret: str) -> Iterator[bytes]:
    """Spell a secret as it may be seen, so that no encoding hides it."""
    yield secret.encode()
    yield secret.encode().hex().encode()
    for start in range(3):
        # Whatever stands before it, its middle is the same in base64.
        coded = b64encode(b"\0" * start + secret.encode())
        yield coded[4:-4]


async def _issued(folder: Path, **fields: Any) -> str:
    ledger = SqlLedger(Database(settings_in(folder).database))
    await ledger.open()
    kept, secret = new_key("anna", **fields)
    await ledger.access.add(kept)
    await ledger.close()
    return secret.reveal()


def _requests(image_id: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Name a good sample of traffic, half of it wrong."""
    drawing = {"prompt": "a keep", "size": "64x64"}
    file = {"image": ("a.png", png(), "image/png")}
    return [
        *[("POST", "/api/images/generate", {"json": drawing})] * 8,
        ("POST", "/api/images/generate", {"json": {**drawing, "api_key": WRONG}}),
        ("POST", "/api/images/generate", {"content": f"{{{WRONG}"}),
        ("POST", "/api/images/plan", {"json": drawing}),
        ("POST", "/api/images/upscale", {"json": {"image_id": image_id}}),
        (
            "POST",
            "/api/images/upscale",
            {"json": {"image_url": f"http://127.0.0.1/?key={WRONG}"}},
        ),
        ("POST", "/api/images/upscale", {"json": {"image_path": "/etc/passwd"}}),
        ("POST", "/v1/images/generations", {"json": {"prompt": "a keep"}}),
        ("POST", "/v1/images/edits", {"data": {"prompt": "a moat"}, "files": file}),
        ("POST", "/sdapi/v1/txt2img", {"json": drawing}),
        ("POST", "/sdapi/v1/txt2img", {"json": {"prompt": "a keep"}}),
        *(
            ("GET", path, {})
            for path in (
                *("/", "/openapi.json", "/metrics", "/api/stats", "/api/images"),
                *("/api/health", "/api/health/Leaky", "/api/health?level=authorised"),
                *("/api/operations", "/api/usage", "/api/campaigns", "/v1/models"),
                *("/api/images/models", "/sdapi/v1/options", "/sdapi/v1/cmd-flags"),
                *(f"/api/images/{image_id}", "/nowhere", "/api/images/%00"),
            )
        ),
    ]


async def test_no_canary_is_seen(
    open_client: OpenClient,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Keys of every kind go in; none is in what comes out or stays."""
    caplog.set_level(logging.DEBUG)
    live = await _issued(tmp_path, scopes=["make", "read", "monitor"])
    answers: list[httpx.Response] = []

    async def ask(client: httpx.AsyncClient, key: str, *request: Any) -> httpx.Response:
        method, path, fields = request
        more = {"headers": {"Authorization": f"Bearer {key}"}, **fields}
        answers.append(await client.request(method, path, **more))
        return answers[-1]

    async with open_client(
        Leaky,
        auth=None,
        server={
            "token": Secret(TOKEN),
            "signing_secret": Secret(SIGNING),
            "require_auth": True,
        },
        providers={
            "Leaky": ProviderSettings(
                name="Leaky", options={"api_key": Secret(VENDORS)}
            )
        },
    ) as client:
        first = await ask(client, TOKEN, *_requests("")[0])
        found = first.json()["images"]
        for request in _requests(found[0]["id"]):
            for key in (live, TOKEN):
                await ask(client, key, *request)
        for request in _requests("f" * 32)[-8:]:
            for key in (WRONG, live[:-1] + "!"):
                await ask(client, key, *request)
        await ask(client, live, "GET", f"/api/images?cursor={QUERY}&key={QUERY}", {})
        links = [url for answer in answers for url in _links(answer)]
        answers += [await client.get(url) for url in links]
    await asyncio.sleep(0)

    seen = {
        "answers": b"".join(map(_whole, answers)),
        "logs": _logs(caplog) + "".join(capfd.readouterr()).encode(),
        "files": b"".join(_files(tmp_path)),
    }
    statuses = {answer.status_code for answer in answers}
    assert {200, 401, 404, 422} <= statuses
    assert any(status >= 500 for status in statuses)
    secrets = {VENDORS, TOKEN, SIGNING, WRONG, live, live[18:], live[:-1] + "!"}
    leaks = {
        (secret[:14], place)
        for secret in secrets
        for spelling in _spellings(secret)
        for place, text in seen.items()
        if spelling in text
    }
    assert leaks == set()
    assert b"leaky.called" in seen["logs"]
    assert QUERY.encode() not in seen["logs"]


def _logs(caplog: pytest.LogCaptureFixture) -> bytes:
    """Give what the server logged; the client in this process logs as well."""
    own = [
        caplog.handler.format(record)
        for record in caplog.records
        if not record.name.startswith(("httpx", "httpcore"))
    ]
    return "\n".join(own).encode()


def _files(folder: Path) -> Iterator[bytes]:
    return (path.read_bytes() for path in folder.rglob("*") if path.is_file())


def _links(answer: httpx.Response) -> list[str]:
    if not answer.headers.get("content-type", "").startswith("application/json"):
        return []
    body = answer.json()
    images = body.get("images") if isinstance(body, dict) else None
    if not isinstance(images, list):
        return []
    urls = [one["url"] for one in images if isinstance(one, dict) and "url" in one]
    return [url.partition("//")[2].partition("/")[2] for url in urls[:1]]


def _whole(answer: httpx.Response) -> bytes:
    head = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
    return head.encode() + answer.content


async def test_refused_keys_are_told_by_their_id(
    open_client: OpenClient, tmp_path: Path
) -> None:
    """The person on call sees which key it was, and not the key."""
    live = await _issued(tmp_path)
    wrong = live[:-4] + "AAAA"

    with capture_events() as events:
        async with open_client(auth=None, server={"require_auth": True}) as client:
            headers = {"Authorization": f"Bearer {wrong}"}
            answer = await client.get("/api/images", headers=headers)

    (told,) = [one for one in events if one["event"] == "gaia.key_refused"]
    assert answer.status_code == 401
    assert (told["id"], told["reason"]) == (live.split("_")[1], "wrong")
    assert wrong not in str(events)
    assert wrong[18:] not in str(events)
