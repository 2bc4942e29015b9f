"""Batches over HTTP: taken on whole, worked on in the background, nobody else's."""

from base64 import b64encode
from decimal import Decimal
from typing import Any

import pytest

from gaia_core.errors import ContentFilteredError
from gaia_core.server.schemas.batches import BatchesOut, BatchOut, BatchWithItemsOut
from gaia_core.settings import BudgetSettings
from gaia_core.testing import FakeProvider, png
from tests.server.conftest import OpenClient
from tests.server.scenes import KEY, ROUTE, finished, post, prompts, two_callers
from tests.waiting import HeldProvider


async def test_a_batch_is_taken_on_and_worked_on(open_client: OpenClient) -> None:
    """Nobody needs to wait: the answer names the batch, and it gets done."""
    provider = FakeProvider(price_usd="0.01")
    async with open_client(provider) as client:
        taken = await post(client, prompts(5), max_concurrent=2, name="act one")
        done = await finished(client, taken.json()["batch_id"])
        listed = (await client.get(ROUTE)).json()

    BatchOut.model_validate(taken.json())
    BatchWithItemsOut.model_validate(done)
    BatchesOut.model_validate(listed)
    assert taken.status_code == 202
    assert taken.json()["total"] == 5
    assert taken.headers["location"] == taken.json()["links"]["self"]
    assert done["name"] == "act one"
    assert done["done"] == len(provider.charges) == 5
    assert done["cost_usd"] == pytest.approx(0.05)
    assert [item["position"] for item in done["items"]] == list(range(5))
    assert all(item["state"] == "done" for item in done["items"])


async def test_its_pictures_open(open_client: OpenClient) -> None:
    """The addresses in a batch are those of pictures."""
    async with open_client() as client:
        taken = await post(client, prompts(1))
        done = await finished(client, taken.json()["batch_id"])
        (image,) = done["items"][0]["images"]

    assert image["prompt"] == "scene 0"
    assert f"/api/images/{image['id']}?s=" in image["url"]


async def test_other_operations_are_named(open_client: OpenClient) -> None:
    """An item may be any operation, spelt as in an address or as in a batch file."""
    uri = "data:image/png;base64," + b64encode(png(64, 64)).decode()
    async with open_client() as client:
        taken = await post(
            client,
            [
                {"operation": "upscale", "image_base64": uri, "upscale_factor": 2},
                {"operation": "remove_background", "image_base64": uri},
                {"operation": "enhance-prompt", "prompt": "a keep"},
            ],
        )
        assert taken.status_code == 202, taken.text
        done = await finished(client, taken.json()["batch_id"])

    kinds = [item["capability"] for item in done["items"]]
    assert kinds == ["upscaling", "background-removal", "prompt-enhancement"]
    assert done["items"][2]["text"]


async def test_a_repetition_is_the_same_batch(open_client: OpenClient) -> None:
    """Whoever asks again under the same key pays once."""
    provider = FakeProvider()
    async with open_client(provider) as client:
        first = await post(client, prompts(2))
        await finished(client, first.json()["batch_id"])
        again = await post(client, prompts(2))
        other = await post(client, prompts(3))

    assert again.status_code == 202
    assert again.json()["batch_id"] == first.json()["batch_id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert other.status_code == 422
    assert other.json()["error_code"] == "idempotency_conflict"
    assert len(provider.charges) == 2


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({}, {"requests": prompts(1)}, 400, "idempotency_key_missing"),
        (
            {"Idempotency-Key": "k" * 256},
            {"requests": prompts(1)},
            400,
            "idempotency_key",
        ),
        (KEY, {"requests": []}, 422, "invalid_request"),
        (KEY, {"requests": prompts(1_001)}, 422, "invalid_request"),
        (KEY, {"requests": [{}]}, 422, "invalid_request"),
        (KEY, {"requests": prompts(1), "max_concurrent": 17}, 422, "invalid_request"),
        (KEY, {"requests": prompts(1), "url": "x"}, 422, "invalid_request"),
        (KEY, {"requests": prompts(1, policy="best")}, 422, "invalid_request"),
        (
            KEY,
            {"requests": [{"operation": "upscale", "image_base64": "AAAA"}]},
            422,
            "invalid_image",
        ),
    ],
    ids=[
        "no-key",
        "long-key",
        "empty",
        "too-many",
        "no-prompt",
        "too-fast",
        "unknown-field",
        "not-for-batches",
        "no-picture",
    ],
)
async def test_what_cannot_be_taken_on_is_refused(
    open_client: OpenClient,
    headers: dict[str, str],
    body: dict[str, Any],
    status: int,
    code: str,
) -> None:
    """A batch is taken on as a whole or not at all."""
    async with open_client() as client:
        answer = await client.post(ROUTE, json=body, headers=headers)
        known = (await client.get(ROUTE)).json()["batches"]

    assert answer.status_code == status
    assert answer.json()["error_code"] == code
    assert known == []


async def test_the_wrong_field_is_named(open_client: OpenClient) -> None:
    """Of many requests, the one that is wrong is said."""
    requests = [*prompts(2), {"prompt": "x", "provider_options": {"nobody": {}}}]
    async with open_client() as client:
        answer = await post(client, requests)

    (detail,) = answer.json()["details"]
    assert detail["field"] == "requests.2.provider_options"


async def test_others_do_not_see_it(open_client: OpenClient) -> None:
    """What belongs to somebody else is not there, whatever is asked of it."""
    async with two_callers(open_client) as (client, bob):
        taken = await post(client, prompts(1))
        own = f"{ROUTE}/{taken.json()['batch_id']}"
        answers = [
            await client.get(own, headers=bob),
            await client.delete(own, headers=bob),
            await client.get(f"{own}/events", headers=bob),
            await client.get(f"{ROUTE}/nonsense"),
        ]
        listed = (await client.get(ROUTE, headers=bob)).json()["batches"]
        own_list = (await client.get(ROUTE)).json()["batches"]

    assert [answer.status_code for answer in answers] == [404] * 4
    assert listed == []
    assert len(own_list) == 1


async def test_a_key_is_its_callers_own(open_client: OpenClient) -> None:
    """Two callers may use the same words as a key."""
    async with two_callers(open_client) as (client, bob):
        mine = await post(client, prompts(1))
        theirs = await client.post(
            ROUTE, json={"requests": prompts(2)}, headers={**KEY, **bob}
        )

    assert theirs.status_code == 202
    assert theirs.json()["batch_id"] != mine.json()["batch_id"]


async def test_calling_off_begins_nothing_new(open_client: OpenClient) -> None:
    """What was sent comes to its end, the rest ends at once; twice is as once."""
    provider = HeldProvider()
    async with open_client(provider) as client:
        taken = await post(client, prompts(4), max_concurrent=1)
        own = f"{ROUTE}/{taken.json()['batch_id']}"
        await provider.called()
        first = await client.delete(own)
        second = await client.delete(own)
        provider.go.set()
        done = await finished(client, taken.json()["batch_id"])
        third = await client.delete(own)

    assert [one.status_code for one in (first, second, third)] == [200] * 3
    assert first.json()["state"] == second.json()["state"] == "cancelled"
    assert third.json()["state"] == "finished"
    assert (done["done"], done["cancelled"]) == (1, 3)
    assert done["items"][3]["error_code"] == "cancelled"
    assert len(provider.charges) == 1


async def test_errors_are_told_by_code(open_client: OpenClient) -> None:
    """What a provider says in its own words stays inside."""
    provider = FakeProvider(outcomes=[ContentFilteredError("secret words")])
    async with open_client(provider) as client:
        taken = await post(client, prompts(2), max_concurrent=1)
        await finished(client, taken.json()["batch_id"])
        answer = await client.get(f"{ROUTE}/{taken.json()['batch_id']}")

    codes = [item["error_code"] for item in answer.json()["items"]]
    assert codes == ["content_filtered", None]
    assert "secret words" not in answer.text


async def test_items_come_a_page_at_a_time(open_client: OpenClient) -> None:
    """A long batch is read in pages, without gaps."""
    async with open_client() as client:
        taken = await post(client, prompts(7))
        own = f"{ROUTE}/{taken.json()['batch_id']}"
        await finished(client, taken.json()["batch_id"])
        places, after = [], -1
        while after is not None:
            page = (await client.get(own, params={"after": after, "limit": 3})).json()
            places.append([item["position"] for item in page["items"]])
            after = page["next_after"]

    assert places == [[0, 1, 2], [3, 4, 5], [6]]


async def test_money_is_held_for_the_whole(open_client: OpenClient) -> None:
    """A batch that costs more than the budget has left is not begun."""
    provider = FakeProvider(price_usd="0.10")
    budgets = BudgetSettings(total_usd=Decimal("0.25"))
    async with open_client(provider, budgets=budgets) as client:
        refused = await post(client, prompts(3))
        taken = await post(client, prompts(2))

    assert refused.status_code == 402
    assert refused.json()["error_code"] == "budget_exceeded"
    assert taken.status_code == 202


async def test_items_are_paid_by_their_caller(open_client: OpenClient) -> None:
    """Nobody opens a batch in somebody else's name who may not."""
    async with two_callers(open_client) as (client, bob):
        requests = prompts(1, user_id="carol")
        refused = await client.post(
            ROUTE, json={"requests": requests}, headers={**KEY, **bob}
        )
        taken = await post(client, requests)
        page = await client.get(f"{ROUTE}/{taken.json()['batch_id']}")
        item = page.json()["items"][0]
        made = await client.get(f"/api/operations/{item['operation_id']}")

    assert refused.status_code == 403
    assert refused.json()["details"][0]["field"] == "requests.0.user_id"
    assert made.json()["user_id"] == "carol"


async def test_nobody_opens_batches_without_end(
    open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller has so many batches open at a time, and is told when to come back."""
    monkeypatch.setattr("gaia_core.server.routes.batches.MOST_OPEN", 2)
    provider = HeldProvider()
    async with open_client(provider) as client:
        answers = [
            await post(client, prompts(1), key=str(number)) for number in (1, 2, 3)
        ]
        repeated = await post(client, prompts(1), key="1")
        provider.go.set()

    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert answers[2].headers["retry-after"] == "60"
    assert repeated.status_code == 202
