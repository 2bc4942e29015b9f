"""What belongs to one caller is not there for another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import httpx
import pytest
from fastapi import Request

from gaia_core.server.access import OWNER, Principal, Scope
from gaia_core.settings import BudgetSettings
from gaia_core.testing import FakeProvider
from tests.waiting import HeldProvider

from .conftest import OpenClient

NOTHING = "f" * 32
"""The id of what does not exist."""


async def by_header(request: Request) -> Principal | str | None:
    """Take the caller's word for who they are, for these tests."""
    name = request.headers.get("x-user")
    if name == "host":
        return Principal(name="host", scopes=Scope)
    return OWNER if name == "" else name


def _as(name: str, **more: str) -> dict[str, str]:
    return {
        "X-User": name,
        **{key.replace("_", "-"): value for key, value in more.items()},
    }


@asynccontextmanager
async def _open(
    open_client: OpenClient, *providers: object, **fields: Any
) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(*providers, auth=by_header, **fields) as client:
        yield client


async def _make(client: httpx.AsyncClient, name: str, **more: Any) -> dict[str, Any]:
    body = {"prompt": "a keep", "size": "64x64", "campaign_id": "strahd", **more}
    answer = await client.post("/api/images/generate", json=body, headers=_as(name))
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def _batch(client: httpx.AsyncClient, name: str) -> str:
    body = {"requests": [{"prompt": "a keep", "size": "64x64"}]}
    headers = _as(name, Idempotency_Key="one")
    answer = await client.post("/api/images/batch", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    found: str = answer.json()["batch_id"]
    return found


def _with(field: str, value: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Name every request that takes a stored picture, with it in its place."""
    place = {field: value}
    drawing = {"prompt": "a moat"}
    return [
        ("POST", "/api/images/generate", {**drawing, "reference_images": [place]}),
        ("POST", "/api/images/upscale", place),
        ("POST", "/api/images/remove-background", place),
        ("POST", "/api/images/describe", place),
        ("POST", "/api/images/outpaint", {**drawing, **place, "outpaint": {"left": 8}}),
        ("POST", "/api/images/inpaint", {**drawing, **place, "mask": place}),
    ]


@pytest.mark.parametrize("stranger", ["bert", "ANNA", ""])
async def test_what_is_annas_is_not_there_for_others(
    open_client: OpenClient, stranger: str
) -> None:
    """Others get the very answers that they get for what does not exist."""
    async with _open(open_client) as client:
        made = await _make(client, "anna")
        ids = {
            "/api/images/{}": made["images"][0]["id"],
            "/api/operations/{}": made["operation_id"],
            "/api/images/batch/{}": await _batch(client, "anna"),
        }
        ids["/api/images/batch/{}/events"] = ids["/api/images/batch/{}"]
        for path, own in ids.items():
            theirs = await client.get(path.format(own), headers=_as(stranger))
            nobodys = await client.get(path.format(NOTHING), headers=_as(stranger))
            assert theirs.status_code == 404, path
            assert theirs.content == nobodys.content
        called_off = await client.delete(
            f"/api/images/batch/{ids['/api/images/batch/{}']}", headers=_as(stranger)
        )

    assert called_off.status_code == 404


async def test_nobody_works_on_anothers_picture(open_client: OpenClient) -> None:
    """Neither by its id nor by its path can somebody else's picture be used."""
    provider = FakeProvider()

    async with _open(open_client, provider) as client:
        made = await _make(client, "anna")
        called = len(provider.calls)
        image = made["images"][0]
        found = {}
        for field, own in (("image_id", image["id"]), ("image_path", image["path"])):
            for method, path, body in _with(field, own):
                answer = await client.request(
                    method, path, json=body, headers=_as("bert")
                )
                found[path, field] = answer.status_code
        own_work = await client.post(
            "/api/images/upscale", json={"image_id": image["id"]}, headers=_as("anna")
        )

    assert set(found.values()) == {404}, found
    assert own_work.status_code == 200
    assert len(provider.calls) == called + 1


async def test_lists_hold_ones_own_only(open_client: OpenClient) -> None:
    """Pictures, campaigns, operations, batches and spending are each caller's own."""
    async with _open(open_client) as client:
        made = await _make(client, "anna")
        await _batch(client, "anna")
        seen = {
            path: (await client.get(path, headers=_as("bert"))).json()
            for path in (
                *("/api/images", "/api/campaigns", "/api/operations"),
                *("/api/usage", "/api/images/batch"),
                "/api/images?campaign_id=strahd&search=keep",
                "/api/usage?campaign_id=strahd",
            )
        }
        own = await client.get("/api/images?search=keep", headers=_as("anna"))

    assert len(own.json()["images"]) >= 1
    assert seen["/api/images"]["images"] == []
    assert seen["/api/campaigns"]["campaigns"] == []
    assert seen["/api/operations"]["operations"] == []
    assert seen["/api/images/batch"]["batches"] == []
    assert seen["/api/usage"]["images"] == 0
    assert seen["/api/usage"]["campaigns"] == []
    for word in ("anna", "strahd", made["operation_id"]):
        assert word not in str(list(seen.values()))


async def test_one_key_of_two_callers_is_two(open_client: OpenClient) -> None:
    """An idempotency key names a request of its caller's, not of anybody's."""
    async with _open(open_client) as client:
        body = {"prompt": "a keep", "size": "64x64"}
        made = [
            await client.post(
                "/api/images/generate",
                json=body,
                headers=_as(name, Idempotency_Key="one"),
            )
            for name in ("anna", "bert")
        ]

    anna, bert = (answer.json() for answer in made)
    assert [answer.status_code for answer in made] == [200, 200]
    assert anna["operation_id"] != bert["operation_id"]
    assert "idempotency-replayed" not in made[1].headers


async def test_equal_requests_of_two_callers_are_made_twice(
    open_client: OpenClient,
) -> None:
    """Nobody learns from a fast, free answer what somebody else has asked for."""
    provider = FakeProvider()

    async with _open(open_client, provider) as client:
        anna = await _make(client, "anna", seed=7)
        bert = await _make(client, "bert", seed=7)
        again = await _make(client, "bert", seed=7)

    assert len(provider.calls) == 2
    assert anna["images"][0]["id"] != bert["images"][0]["id"]
    assert (bert["is_reused"], again["is_reused"]) == (False, True)


async def test_nobody_sees_or_stops_what_others_have_under_way(
    open_client: OpenClient,
) -> None:
    """AUTOMATIC1111's progress and interruption are about the caller's own work."""
    provider = HeldProvider()

    async with _open(open_client, provider) as client:
        making = asyncio.create_task(_make(client, "anna"))
        await provider.called()
        progress = await client.get("/sdapi/v1/progress", headers=_as("bert"))
        stopped = await client.post("/sdapi/v1/interrupt", headers=_as("bert"))
        provider.go.set()
        made = await making

    assert progress.json()["state"]["job_count"] == 0
    assert stopped.status_code == 200
    assert made["success"]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        pytest.param("anna", 403, id="for-oneself-only"),
        pytest.param("host", 200, id="on-behalf"),
    ],
)
async def test_users_are_named_by_who_may(
    open_client: OpenClient, name: str, status: int
) -> None:
    """Only a key with its scope says for which user a request is."""
    async with _open(open_client) as client:
        answer = await client.post(
            "/api/images/generate",
            json={"prompt": "a keep", "size": "64x64", "user_id": "carl"},
            headers=_as(name),
        )

    assert answer.status_code == status


async def test_a_budget_of_users_is_one_of_keys(open_client: OpenClient) -> None:
    """What one caller spends takes nothing from the budget of another."""
    budgets = BudgetSettings(user_usd=Decimal("0.05"))
    async with _open(
        open_client, FakeProvider(price_usd=Decimal("0.04")), budgets=budgets
    ) as client:
        await _make(client, "anna")
        body = {"prompt": "a moat", "size": "64x64"}
        second = await client.post(
            "/api/images/generate", json=body, headers=_as("anna")
        )
        await _make(client, "bert")

    assert second.status_code == 402
    assert second.json()["error_code"] == "budget_exceeded"
