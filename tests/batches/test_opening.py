import gc
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import attrs
import pytest

from gaia_core import GenerateRequest, Image, UpscaleRequest
from gaia_core.errors import (
    BudgetExceededError,
    IdempotencyConflictError,
    InvalidImageError,
    InvalidRequestError,
    SettingsError,
)
from gaia_core.ledger import IdempotencyKey, MemoryLedger
from gaia_core.records import from_record
from gaia_core.requests import Request
from gaia_core.testing import MemoryStorage, png

Shop = Any
KEY = IdempotencyKey(key="tuesday", route="batch")


class Counting(MemoryStorage):
    """Counts how often a picture is written."""

    count = 0

    async def put_input(self, image: Image) -> None:
        """Count, and keep."""
        self.count += 1
        await super().put_input(image)


def _requests(number: int) -> Iterator[GenerateRequest]:
    return (GenerateRequest(prompt=f"scene {index}") for index in range(number))


async def _async_requests(number: int) -> AsyncIterator[GenerateRequest]:
    for request in _requests(number):
        yield request


@pytest.mark.parametrize("source", [_requests, _async_requests], ids=["plain", "async"])
async def test_requests_come_one_at_a_time(shop: Shop, source: Any) -> None:
    """A batch is opened from any iterable, asynchronous ones too."""
    batch = await shop.batches.open(source(3), name="scenes", principal="anna")

    items = [item async for item in shop.batches.items(batch.id)]

    assert (batch.total, batch.name, batch.principal) == (3, "scenes", "anna")
    assert [item.request["prompt"] for item in items] == [
        "scene 0",
        "scene 1",
        "scene 2",
    ]
    assert [item.position for item in items] == [0, 1, 2]
    assert {item.principal for item in items} == {"anna"}
    assert {item.reserved_usd for item in items} == {Decimal("0.04")}


async def test_an_empty_batch_is_refused(shop: Shop) -> None:
    """Nothing is no batch."""
    with pytest.raises(InvalidRequestError, match="empty"):
        await shop.batches.open([])


async def test_a_ledger_without_batches_says_so(shop: Shop) -> None:
    """The ledger of one process keeps none."""
    shop.batches.ledger = MemoryLedger()

    with pytest.raises(SettingsError, match="keeps no batches"):
        await shop.batches.open(_requests(1))


async def test_pictures_wait_in_the_store(shop: Shop) -> None:
    """What a request brings along is kept, and comes back as it was."""
    request = UpscaleRequest(image=png(16, 32), upscale_factor=2)

    batch = await shop.batches.open([request])
    item = await anext(aiter(shop.batches.items(batch.id)))
    picture = await shop.storage.read_input(item.request["image"]["sha256"])

    assert from_record(item.request, lambda _: picture) == request


async def test_a_picture_of_many_requests_is_kept_once(shop: Shop) -> None:
    """The same picture in a hundred requests is written once."""
    picture = png(16, 16)
    shop.batches.storage = storage = Counting()

    await shop.batches.open(
        UpscaleRequest(image=picture, upscale_factor=2) for _ in range(100)
    )

    assert storage.count == 1


async def test_middleware_prepares_what_is_kept(shop: Shop) -> None:
    """What middleware made of a request is what will be carried out."""

    def prepare(request: Request) -> Request:
        return attrs.evolve(request, campaign_id="spring")

    shop.batches.prepare = prepare

    batch = await shop.batches.open(_requests(1))
    item = await anext(aiter(shop.batches.items(batch.id)))

    assert item.request["campaign_id"] == item.campaign_id == "spring"


async def test_an_equal_key_finds_the_same_batch(shop: Shop) -> None:
    """The same requests under the same key are one batch, and held for once."""
    first = await shop.batches.open(_requests(3), key=KEY)

    second = await shop.batches.open(_requests(3), key=KEY)

    assert second.id == first.id
    assert (await shop.batches.find(KEY)).id == first.id
    assert [one.id for one in await shop.batches.latest()] == [first.id]


async def test_a_key_recognises_what_middleware_changes_each_time(shop: Shop) -> None:
    """Repetitions are recognised by what was asked for, not by what became of it."""
    turns = iter("ab")

    def prepare(request: Request) -> Request:
        return attrs.evolve(request, campaign_id=turn)

    shop.batches.prepare = prepare
    turn = next(turns)
    first = await shop.batches.open(_requests(1), key=KEY)
    turn = next(turns)

    second = await shop.batches.open(_requests(1), key=KEY)

    assert second.id == first.id


async def test_an_equal_key_with_other_requests_is_a_conflict(shop: Shop) -> None:
    """A key stands for what it was first used for."""
    await shop.batches.open(_requests(3), key=KEY)

    with pytest.raises(IdempotencyConflictError):
        await shop.batches.open(_requests(4), key=KEY)


async def test_a_wrong_request_is_named_by_its_place(shop: Shop) -> None:
    """The message says which of the requests cannot be accepted; none is."""
    odd = GenerateRequest(prompt="a", provider_options={"fake": {"key": object()}})

    with pytest.raises(InvalidRequestError, match="Request 3 of the batch: provider"):
        await shop.batches.open([*_requests(2), odd])

    assert await shop.batches.latest() == []


async def test_what_the_requests_raise_comes_through(shop: Shop) -> None:
    """An iterable that fails leaves no batch behind."""

    def broken() -> Iterator[GenerateRequest]:
        yield from _requests(2)
        message = "torn"
        raise InvalidImageError(message)

    with pytest.raises(InvalidImageError, match="torn"):
        await shop.batches.open(broken())

    assert await shop.batches.latest() == []


async def test_a_batch_beyond_the_budget_is_refused_as_a_whole(new_shop: Any) -> None:
    """What does not fit is not begun: no item is accepted."""
    from gaia_core.settings import BudgetSettings

    shop = await new_shop(budgets=BudgetSettings(total_usd=Decimal("0.10")))

    with pytest.raises(BudgetExceededError):
        await shop.batches.open(_requests(3))
    fitting = await shop.batches.open(_requests(2))

    assert fitting.total == 2
    assert [one.id for one in await shop.batches.latest()] == [fitting.id]


@pytest.mark.slow
async def test_memory_does_not_grow_with_the_number_of_items(shop: Shop) -> None:
    """Opening ten thousand items takes no more memory than a thousand."""
    await shop.batches.open(_requests(100))

    small = await _peak(shop, 1_000)
    large = await _peak(shop, 10_000)

    assert large < 1.5 * small + 1_000_000


async def _peak(shop: Shop, number: int) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        await shop.batches.open(_requests(number))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        pytest.param(
            [GenerateRequest(prompt="a"), "nonsense"],
            "Request 2 of the batch: It is str, not one of GenerateRequest, ",
            id="text",
        ),
        pytest.param("nonsense", "Request 1 of the batch: It is str", id="one-text"),
        pytest.param(
            GenerateRequest(prompt="a"), "iterable of requests, not Gen", id="one"
        ),
        pytest.param(None, "iterable of requests, not NoneType", id="none"),
    ],
)
async def test_what_is_no_request_is_refused(
    shop: Shop, requests: Any, words: str
) -> None:
    """Whatever else is given, the error says what a batch takes."""
    with pytest.raises(InvalidRequestError, match=words):
        await shop.batches.open(requests)

    assert not await shop.batches.latest()
