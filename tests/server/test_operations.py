"""What became of a request."""

import asyncio
from typing import Any

import httpx

from gaia_core.errors import AuthenticationError
from gaia_core.server.schemas.answers import OperationOut, OperationsOut
from gaia_core.testing import FakeProvider
from tests.server.conftest import OpenClient
from tests.waiting import HeldProvider

SMALL = {"prompt": "a red dragon", "size": "64x64"}


async def make(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """Ask for a picture; give the answer, good or not."""
    answer = await client.post("/api/images/generate", json={**SMALL, **fields})
    body: dict[str, Any] = answer.json()
    return body


async def test_what_is_done_is_told_with_its_pictures(open_client: OpenClient) -> None:
    """Who made it, what it cost, and where the pictures are."""
    async with open_client(FakeProvider(price_usd="0.01")) as client:
        made = await make(client, n=2, campaign_id="storm")
        answer = await client.get(f"/api/operations/{made['operation_id']}")
        picture = await client.get(answer.json()["images"][1]["url"])

    told = OperationOut.model_validate(answer.json())
    assert (told.state, told.is_final, told.capability) == (
        "done",
        True,
        "text-to-image",
    )
    assert (told.provider, told.model, told.cost_usd) == ("fake", "fake", 0.02)
    assert told.campaign_id == "storm"
    assert [one.id for one in told.images] == [one["id"] for one in made["images"]]
    assert [one.outcome for one in told.attempts] == ["ok"]
    assert told.failure is None
    assert picture.status_code == 200


async def test_what_is_under_way_is_told(open_client: OpenClient) -> None:
    """An operation can be looked up from the moment it was taken on."""
    held = HeldProvider(price_usd="0.01")
    async with open_client(held) as client:
        asking = asyncio.create_task(make(client))
        await held.called()
        (under_way,) = (await client.get("/api/operations")).json()["operations"]
        held.go.set()
        await asking

    assert (under_way["state"], under_way["is_final"]) == ("sent", False)
    assert under_way["held_usd"] == 0.01
    assert under_way["cost_usd"] is None


async def test_a_failure_is_told_by_its_code(open_client: OpenClient) -> None:
    """The vendor's own words stay in the ledger."""
    fake = FakeProvider.failing(AuthenticationError("sk-canary"), price_usd="0.01")
    async with open_client(fake) as client:
        made = await make(client)
        answer = await client.get(f"/api/operations/{made['operation_id']}")

    told = answer.json()
    assert told["state"] == "failed"
    assert told["failure"]["error_code"] == "authentication"
    assert (told["held_usd"], told["images"]) == (0.0, [])
    assert "sk-canary" not in answer.text


async def test_words_are_told_as_well(open_client: OpenClient) -> None:
    """What a prompt was worked out to can be looked up."""
    async with open_client() as client:
        made = await client.post("/api/images/enhance-prompt", json={"prompt": "a"})
        answer = await client.get(f"/api/operations/{made.json()['operation_id']}")

    assert answer.json()["prompt"] == "a, highly detailed"


async def test_the_latest_come_first_and_only_ones_own(
    open_client: OpenClient,
) -> None:
    """Nobody sees what others asked for, in a list or by its number."""
    callers = iter(["ann", "ann", "bob", "ann", "bob", "bob"])
    async with open_client(auth=lambda: next(callers)) as client:
        first = await make(client, seed=1)
        second = await make(client, seed=2)
        other = await make(client, seed=3)
        own = await client.get("/api/operations?limit=5")
        bobs = await client.get("/api/operations")
        hidden = await client.get(f"/api/operations/{first['operation_id']}")

    OperationsOut.model_validate(own.json())
    numbers = [one["operation_id"] for one in own.json()["operations"]]
    assert numbers == [second["operation_id"], first["operation_id"]]
    assert [one["operation_id"] for one in bobs.json()["operations"]] == [
        other["operation_id"]
    ]
    assert hidden.status_code == 404


async def test_what_is_no_number_is_not_there(open_client: OpenClient) -> None:
    """Any address that names no operation is answered alike."""
    async with open_client() as client:
        answers = [
            await client.get(f"/api/operations/{name}")
            for name in ("0" * 32, "x", "%00", "..%2f")
        ]

    assert {answer.status_code for answer in answers} <= {400, 404}
