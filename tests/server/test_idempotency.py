"""The same request twice: under one key it is made and paid once."""

import asyncio

import httpx

from gaia_core.errors import AuthenticationError, ContentFilteredError, RateLimitError
from gaia_core.testing import FakeProvider
from tests.server.conftest import OpenClient
from tests.waiting import HeldProvider

SMALL = {"prompt": "a red dragon", "size": "64x64"}


async def make(client: httpx.AsyncClient, key: str, **fields: object) -> httpx.Response:
    """Ask for a picture under a key."""
    return await client.post(
        "/api/images/generate",
        json={**SMALL, **fields},
        headers={"Idempotency-Key": key},
    )


async def test_a_repeated_request_is_answered_as_it_was(
    open_client: OpenClient,
) -> None:
    """The second answer is the first again, and says so; nothing is made."""
    fake = FakeProvider(price_usd="0.01")
    async with open_client(fake) as client:
        first = await make(client, "k")
        again = await make(client, "k")

    assert (first.status_code, again.status_code) == (200, 200)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    for field in ("operation_id", "image_path", "cost_usd", "provider", "model"):
        assert again.json()[field] == first.json()[field]
    assert len(fake.charges) == 1


async def test_a_restart_forgets_no_key(open_client: OpenClient) -> None:
    """Another server on the same folder answers what the first one made."""
    before, after = FakeProvider(), FakeProvider()
    async with open_client(before) as client:
        first = await make(client, "k", response_format="b64_json")
    async with open_client(after) as client:
        again = await make(client, "k", response_format="b64_json")

    assert again.headers["Idempotency-Replayed"] == "true"
    image, same = first.json()["images"][0], again.json()["images"][0]
    assert (same["id"], same["b64_json"]) == (image["id"], image["b64_json"])
    assert not after.calls


async def test_another_body_under_the_same_key_is_refused(
    open_client: OpenClient,
) -> None:
    """A key stands for one request."""
    fake = FakeProvider()
    async with open_client(fake) as client:
        await make(client, "k")
        other = await make(client, "k", seed=5)

    assert other.status_code == 422
    assert other.json()["error_code"] == "idempotency_conflict"
    assert len(fake.calls) == 1


async def test_the_same_request_under_way_is_told_so(open_client: OpenClient) -> None:
    """While the first is under way, the second is told when to ask again."""
    held = HeldProvider(price_usd="0.01")
    async with open_client(held) as client:
        first = asyncio.create_task(make(client, "k"))
        await held.called()
        early = await make(client, "k")
        held.go.set()
        done = await first

    assert early.status_code == 409
    assert early.json()["error_code"] == "operation_in_progress"
    assert early.json()["operation_id"] == done.json()["operation_id"]
    assert int(early.headers["Retry-After"]) >= 1
    assert len(held.charges) == 1


async def test_keys_of_others_are_other_keys(open_client: OpenClient) -> None:
    """Two callers may choose the same key, and neither sees the other's answer."""
    fake, who = FakeProvider(), iter(["ann", "bob"])
    async with open_client(fake, auth=lambda: next(who)) as client:
        first = await make(client, "k")
        other = await make(client, "k", seed=3)

    assert (first.status_code, other.status_code) == (200, 200)
    assert first.json()["operation_id"] != other.json()["operation_id"]
    assert len(fake.calls) == 2


async def test_a_key_that_is_none_is_refused(open_client: OpenClient) -> None:
    """A key has 1 to 255 bytes."""
    async with open_client() as client:
        longest = await make(client, "k" * 255)
        answers = [await make(client, key) for key in ("", "k" * 256)]

    assert longest.status_code == 200
    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[0].json()["error_code"] == "idempotency_key"


async def test_a_final_failure_is_repeated_and_a_passing_one_is_tried_anew(
    open_client: OpenClient,
) -> None:
    """What was refused for good stays refused; what was busy is asked again."""
    outcomes = [ContentFilteredError("no"), AuthenticationError("no")]
    fake = FakeProvider(outcomes=outcomes)
    async with open_client(fake) as client:
        refused = [await make(client, "final") for _ in range(2)]
        passing = [await make(client, "passing") for _ in range(2)]

    assert [answer.status_code for answer in refused] == [422, 422]
    assert [answer.status_code for answer in passing] == [502, 200]
    assert len(fake.calls) == 3


async def test_waiting_that_a_provider_asks_for_is_passed_on(
    open_client: OpenClient,
) -> None:
    """A pause too long to wait for is the client's to keep."""
    busy = FakeProvider.failing(RateLimitError("slow down", retry_after=90))
    async with open_client(busy) as client:
        answer = await client.post("/api/images/generate", json=SMALL)

    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "90"
    assert answer.json()["retry_after"] == 90
