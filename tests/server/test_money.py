"""Money over HTTP: whatever clients do at once, it is paid once and within limits."""

import asyncio
from decimal import Decimal

import httpx

from gaia_core.settings import BudgetSettings
from gaia_core.testing import FakeProvider
from tests.server.conftest import OpenClient
from tests.server.scenes import ROUTE, finished, post, prompts
from tests.waiting import HeldProvider

SMALL = {"prompt": "a red dragon", "size": "64x64"}
DOORS = {
    "/api/images/generate": SMALL,
    "/v1/images/generations": SMALL,
    "/sdapi/v1/txt2img": {"prompt": "a red dragon", "width": 64, "height": 64},
}
MANY = 200
ENOUGH_FOR = 25


async def test_requests_at_once_cannot_outrun_a_budget(
    open_client: OpenClient,
) -> None:
    """Of 200 requests for $0.04 through all doors, a budget of $1.00 pays 25."""
    provider = FakeProvider(price_usd=Decimal("0.04"))
    budgets = BudgetSettings(total_usd=Decimal(1))
    asked = (list(DOORS.items()) * MANY)[:MANY]

    async with (
        open_client(provider, budgets=budgets, server={"max_concurrent": MANY}) as one,
        httpx.AsyncClient(
            base_url=one.base_url, limits=httpx.Limits(max_connections=50), timeout=60
        ) as many,
    ):
        answers = await asyncio.gather(
            *(many.post(path, json=body) for path, body in asked)
        )
        usage = (await one.get("/api/usage")).json()

    statuses = [answer.status_code for answer in answers]
    refusals = [answer for answer in answers if answer.status_code != 200]
    assert all("budget" in answer.text for answer in refusals)
    assert statuses.count(200) == len(provider.charges) == ENOUGH_FOR
    assert (usage["cost_usd"], usage["held_usd"]) == (1.0, 0.0)


async def test_one_batch_asked_for_at_once_is_one(open_client: OpenClient) -> None:
    """Equal batches under one key that come at the same time are paid once."""
    provider = FakeProvider(price_usd=Decimal("0.04"))

    async with open_client(provider) as client:
        answers = await asyncio.gather(*(post(client, prompts(3)) for _ in range(8)))
        ids = {answer.json().get("batch_id") for answer in answers}
        batch = await finished(client, next(iter(ids)))

    assert {answer.status_code for answer in answers} == {202}
    assert len(ids) == 1
    assert (batch["done"], len(provider.charges)) == (3, 3)


async def test_calling_off_at_once_loses_nothing_sent(open_client: OpenClient) -> None:
    """However often and late a batch is called off, what was sent is paid and kept."""
    provider = HeldProvider(price_usd=Decimal("0.04"))

    async with open_client(provider) as client:
        opened = (await post(client, prompts(6), max_concurrent=2)).json()
        own = f"{ROUTE}/{opened['batch_id']}"
        await provider.called()
        called_off = asyncio.gather(*(client.delete(own) for _ in range(8)))
        provider.go.set()
        answers = await called_off
        batch = await finished(client, opened["batch_id"])

    assert {answer.status_code for answer in answers} == {200}
    assert batch["done"] == len(provider.charges)
    assert batch["done"] + batch["cancelled"] == batch["total"]
    assert batch["cost_usd"] == float(len(provider.charges) * Decimal("0.04"))
