"""Making again what a batch did not make."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gaia_core import GenerateRequest, UpscaleRequest
from gaia_core.errors import ContentFilteredError, InvalidRequestError
from gaia_core.ledger import Batch, BatchState, Failure, Operation, OperationState
from gaia_core.testing import png

Shop = Any
NewShop = Callable[[], Awaitable[Shop]]


def _requests(number: int) -> list[GenerateRequest]:
    return [
        GenerateRequest(prompt=f"scene {index}", campaign_id="spring", user_id="ada")
        for index in range(number)
    ]


async def _refuse(_: Operation) -> None:
    message = "Not that."
    raise ContentFilteredError(message)


async def _run(shop: Shop, batch: Batch) -> None:
    async with asyncio.timeout(30):
        async for _ in shop.batches.run(batch.id, max_concurrent=1):
            pass


async def _states(shop: Shop, batch: Batch) -> list[str]:
    return [str(item.state) async for item in shop.batches.items(batch.id)]


async def _partly_done(shop: Shop, *failing: int, number: int = 5) -> Batch:
    """Run a batch some items of which fail."""
    shop.kitchen.before = {f"scene {index}": _refuse for index in failing}
    batch: Batch = await shop.batches.open(_requests(number), name="scenes")
    await _run(shop, batch)
    shop.kitchen.before.clear()
    shop.kitchen.sent.clear()
    return batch


async def test_what_failed_is_made_again(shop: Shop) -> None:
    """The items that failed, and no others, are those of a new batch."""
    first = await _partly_done(shop, 1, 3)

    again = await shop.batches.again(first.id)
    await _run(shop, again)
    items = [item async for item in shop.batches.items(again.id)]

    assert (again.name, again.total) == ("scenes (again)", 2)
    assert shop.kitchen.sent == ["scene 1", "scene 3"]
    assert {(item.campaign_id, item.user_id) for item in items} == {("spring", "ada")}
    assert await _states(shop, first) == ["done", "failed", "done", "failed", "done"]


async def test_asking_twice_gives_one_batch(new_shop: NewShop) -> None:
    """While it is unfinished it is the same batch, in whichever process."""
    one, two = await new_shop(), await new_shop()
    first = await _partly_done(one, 1, 3)

    batches = await asyncio.gather(
        one.batches.again(first.id), two.batches.again(first.id)
    )
    third = await two.batches.again(first.id)

    assert len({batch.id for batch in (*batches, third)}) == 1
    assert len(await one.batches.latest()) == 2


async def test_what_was_made_again_is_not_made_once_more(shop: Shop) -> None:
    """Asked again after its end, only what failed once more is made."""
    first = await _partly_done(shop, 1, 3)
    second = await shop.batches.again(first.id)
    shop.kitchen.before["scene 3"] = _refuse
    await _run(shop, second)
    shop.kitchen.before.clear()

    third = await shop.batches.again(first.id)
    await _run(shop, third)
    fourth = await shop.batches.again(first.id)

    assert (second.total, third.total) == (2, 1)
    assert (third.name, fourth.id) == ("scenes (again)", third.id)
    assert fourth.state is BatchState.FINISHED
    assert shop.kitchen.sent == ["scene 1", "scene 3"]


async def test_what_was_called_off_is_made_again(shop: Shop) -> None:
    """Items that were cancelled count as not made."""
    first = await shop.batches.open(_requests(2))
    await shop.batches.cancel(first.id)

    again = await shop.batches.again(first.id)
    await _run(shop, again)

    assert await _states(shop, again) == ["done", "done"]
    with pytest.raises(InvalidRequestError, match="none to make again"):
        await shop.batches.again(again.id)


async def test_what_is_unknown_is_made_again_only_if_wanted(shop: Shop) -> None:
    """An unknown outcome may be paid twice, so that a person has to say so."""

    async def lose(operation: Operation) -> None:
        failure = Failure(
            state=OperationState.UNKNOWN, error_type="OutcomeUnknownError", error="lost"
        )
        await shop.ledger.fail(operation.id, failure)
        message = "lost"
        raise RuntimeError(message)

    shop.kitchen.after["scene 0"] = lose
    first = await shop.batches.open(_requests(2))
    await _run(shop, first)
    shop.kitchen.after.clear()

    with pytest.raises(InvalidRequestError, match="cancelled or failed"):
        await shop.batches.again(first.id)
    again = await shop.batches.again(first.id, states={"failed", "unknown"})
    await _run(shop, again)

    assert await _states(shop, again) == ["done"]
    assert await _states(shop, first) == ["unknown", "done"]


@pytest.mark.parametrize("states", [(), ("done",), "done", ("nonsense",)])
async def test_only_what_was_not_made(shop: Shop, states: Any) -> None:
    """What is done, or has no such name, is not made again."""
    first = await _partly_done(shop, 1)

    with pytest.raises(InvalidRequestError, match="can be made again"):
        await shop.batches.again(first.id, states=states)


async def test_an_unknown_batch_cannot_be_made_again(shop: Shop) -> None:
    """A batch that is not there is an error."""
    with pytest.raises(InvalidRequestError, match="no batch"):
        await shop.batches.again("0" * 32)


async def test_pictures_come_along(shop: Shop) -> None:
    """What a request brought along is read from the store, not asked for."""
    shop.kitchen.before[""] = _refuse
    request = UpscaleRequest(image=png(16, 16), upscale_factor=2)
    first = await shop.batches.open([request])
    await _run(shop, first)
    shop.kitchen.before.clear()

    again = await shop.batches.again(first.id)
    await _run(shop, again)

    assert await _states(shop, again) == ["done"]


async def test_places_are_those_of_the_first_batch(shop: Shop) -> None:
    """However often an item is made again, it is known where it came from."""
    first = await _partly_done(shop, 1, 3, 4)
    second = await shop.batches.again(first.id)
    shop.kitchen.before |= {"scene 3": _refuse, "scene 4": _refuse}
    await _run(shop, second)
    shop.kitchen.before.clear()
    third = await shop.batches.again(second.id)
    await _run(shop, third)

    found = [await shop.batches.origins(one.id) for one in (first, second, third)]
    places = [
        [origins.place(item) async for item in shop.batches.items(batch.id)]
        for origins, batch in zip(found, (first, second, third), strict=True)
    ]

    assert [origins.total for origins in found] == [5, 5, 5]
    assert places == [[0, 1, 2, 3, 4], [1, 3, 4], [3, 4]]
