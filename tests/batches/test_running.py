import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from gaia_core import GenerateRequest
from gaia_core.errors import (
    BudgetExceededError,
    ContentFilteredError,
    GaiaError,
    InvalidRequestError,
    LeaseLostError,
    LedgerError,
    NoCapableProviderError,
    OutcomeUnknownError,
    RateLimitError,
    StorageError,
)
from gaia_core.ledger import (
    BatchEvent,
    BatchState,
    Failure,
    Operation,
    OperationState,
)

Shop = Any
NewShop = Callable[[], Awaitable[Shop]]


def _requests(number: int) -> list[GenerateRequest]:
    return [GenerateRequest(prompt=f"scene {index}") for index in range(number)]


async def _run(shop: Shop, batch_id: str, **choices: Any) -> list[BatchEvent]:
    async with asyncio.timeout(30):
        return [event async for event in shop.batches.run(batch_id, **choices)]


def _raise(error: Exception) -> Any:
    async def script(_: Operation) -> None:
        raise error

    return script


async def _forever(_: Operation) -> None:
    await asyncio.sleep(600)


def _after_begun(other: Shop, number: int) -> dict[str, Any]:
    """Let nothing be sent before another process has something in hand, too."""

    async def wait(_: Operation) -> None:
        await _until(lambda: other.kitchen.asked)

    return {f"scene {index}": wait for index in range(number)}


def _lost(operation: Operation) -> OutcomeUnknownError:
    message = f"The answer to {operation.id} was lost."
    return OutcomeUnknownError(message, operation_id=operation.id, provider="kitchen")


def _kinds(events: list[BatchEvent]) -> Counter[str]:
    return Counter(event.kind for event in events)


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        # Nothing tells when a kitchen has sent something.
        while not condition():  # noqa: ASYNC110  the condition has no event
            await asyncio.sleep(0.005)


async def _until_in(shop: Shop, operation_id: str, state: OperationState) -> None:
    async with asyncio.timeout(20):
        while (await shop.ledger.get(operation_id)).state is not state:  # noqa: ASYNC110  as above
            await asyncio.sleep(0.005)


async def _states(shop: Shop, batch_id: str) -> list[str]:
    return [str(item.state) async for item in shop.batches.items(batch_id)]


async def _states_at_rest(shop: Shop, batch_id: str) -> set[str]:
    """Give the states once what was sent as its batch was left has ended, too."""
    async with asyncio.timeout(20):
        while "sent" in (states := set(await _states(shop, batch_id))):  # noqa: ASYNC110  as above
            await asyncio.sleep(0.01)
    return states


# -- the way it goes --------------------------------------------------------------


async def test_every_item_is_made_once(shop: Shop) -> None:
    """A batch ends when all of its items have, and each was asked for once."""
    batch = await shop.batches.open(_requests(20))

    events = await _run(shop, batch.id, max_concurrent=4)

    assert _kinds(events)["done"] == 20
    assert sorted(shop.kitchen.sent) == sorted(f"scene {index}" for index in range(20))
    assert events[-1].kind == "batch_finished"
    assert (await shop.batches.get(batch.id)).state is BatchState.FINISHED


async def test_events_are_numbered_without_gaps(shop: Shop) -> None:
    """Whoever follows can tell that nothing is missing."""
    batch = await shop.batches.open(_requests(5))

    events = await _run(shop, batch.id)

    assert [event.sequence for event in events] == list(range(1, len(events) + 1))


async def test_events_begin_where_they_are_wanted(shop: Shop) -> None:
    """Who has seen some events is told the others only."""
    batch = await shop.batches.open(_requests(3))
    all_of_them = await _run(shop, batch.id)

    others = await _run(shop, batch.id, after=3)

    assert others == all_of_them[3:]


async def test_more_events_than_a_page_come_in_order(shop: Shop) -> None:
    """A long history is read in pieces, and nothing of it is lost."""
    batch = await shop.batches.open(_requests(300))
    events = await _run(shop, batch.id, max_concurrent=50)

    again = await _run(shop, batch.id)

    assert len(events) > 500
    assert again == events


@pytest.mark.parametrize("max_concurrent", [1, 3])
async def test_no_more_are_under_way_than_allowed(
    shop: Shop, max_concurrent: int
) -> None:
    """The bound on items under way holds."""
    shop.kitchen.delay = 0.01
    batch = await shop.batches.open(_requests(10))

    await _run(shop, batch.id, max_concurrent=max_concurrent)

    assert shop.kitchen.most == max_concurrent


async def test_items_begin_in_order(shop: Shop) -> None:
    """With one at a time, the order of the file is the order of the work."""
    batch = await shop.batches.open(_requests(6))

    await _run(shop, batch.id, max_concurrent=1)

    assert shop.kitchen.asked == [f"scene {index}" for index in range(6)]


async def test_two_processes_share_a_batch(new_shop: NewShop) -> None:
    """Each item is done by one of them, and both hear of all."""
    one, two = await new_shop(), await new_shop()
    one.kitchen.before |= _after_begun(two, 30)
    two.kitchen.before |= _after_begun(one, 30)
    batch = await one.batches.open(_requests(30))

    first, second = await asyncio.gather(
        _run(one, batch.id, max_concurrent=3), _run(two, batch.id, max_concurrent=3)
    )

    assert first == second
    assert len(one.kitchen.sent) + len(two.kitchen.sent) == 30
    assert set(one.kitchen.sent) & set(two.kitchen.sent) == set()
    assert one.kitchen.sent
    assert two.kitchen.sent


async def test_a_finished_batch_is_told_and_not_made(shop: Shop) -> None:
    """Running a finished batch repeats its events and asks nobody."""
    batch = await shop.batches.open(_requests(2))
    events = await _run(shop, batch.id)

    again = await _run(shop, batch.id)

    assert again == events
    assert len(shop.kitchen.sent) == 2


async def test_an_unknown_batch_is_an_error(shop: Shop) -> None:
    """A batch that is not there cannot be run or cancelled."""
    with pytest.raises(InvalidRequestError, match="no batch"):
        await _run(shop, "0" * 32)
    with pytest.raises(InvalidRequestError, match="no batch"):
        await shop.batches.cancel("0" * 32)


async def test_a_bound_below_one_is_an_error(shop: Shop) -> None:
    """Nothing at a time would never end."""
    batch = await shop.batches.open(_requests(1))

    with pytest.raises(InvalidRequestError, match="max_concurrent"):
        await _run(shop, batch.id, max_concurrent=0)


async def test_ends_are_counted(shop: Shop) -> None:
    """The metrics know how items ended."""
    shop.kitchen.before["scene 1"] = _raise(ContentFilteredError("no"))
    batch = await shop.batches.open(_requests(3))

    await _run(shop, batch.id)

    found = {
        sample.labels["state"]: sample.value
        for sample in shop.batches.metrics.samples()
        if sample.name == "gaia_batch_items_total"
    }
    assert found == {"done": 2, "failed": 1}


# -- what goes wrong --------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ContentFilteredError("not that"), id="refused"),
        pytest.param(NoCapableProviderError("nobody", {}), id="nobody-ever"),
        pytest.param(BudgetExceededError("spent", scope="total"), id="budget"),
        pytest.param(ValueError("sk-secret"), id="foreign"),
    ],
)
async def test_a_broken_item_stops_no_other(shop: Shop, error: Exception) -> None:
    """An item that can never be served fails with its reason; the others are made."""
    shop.kitchen.before["scene 1"] = _raise(error)
    batch = await shop.batches.open(_requests(3))

    events = await _run(shop, batch.id, max_concurrent=1)
    items = [item async for item in shop.batches.items(batch.id)]

    assert _kinds(events)["done"] == 2
    assert [item.state for item in items] == ["done", "failed", "done"]
    assert items[1].error_type == type(error).__name__
    assert "sk-secret" not in str(items[1].error)
    assert not items[1].reserved_usd


async def test_what_the_ledger_says_counts(shop: Shop) -> None:
    """An item whose outcome was written down already is not touched again."""

    async def fail(operation: Operation) -> None:
        failure = Failure(
            state=OperationState.UNKNOWN, error_type="OutcomeUnknownError", error="lost"
        )
        await shop.ledger.fail(operation.id, failure)
        raise _lost(operation)

    shop.kitchen.after["scene 0"] = fail
    batch = await shop.batches.open(_requests(2))

    events = await _run(shop, batch.id)

    assert await _states(shop, batch.id) == ["unknown", "done"]
    assert _kinds(events)["unknown"] == 1


async def test_who_is_late_is_waited_for(shop: Shop) -> None:
    """An item that nobody waits for any more still ends, and the batch with it."""

    async def late(_: Operation) -> None:
        await asyncio.sleep(0.3)

    async def carry_out(operation: Operation, request: Any) -> Any:
        making = asyncio.create_task(shop.kitchen.carry_out(operation, request))
        if request.prompt == "scene 1":
            return await making
        await _until(lambda: "scene 0" in shop.kitchen.sent)
        raise _lost(operation)

    shop.kitchen.after["scene 0"] = late
    shop.batches.carry_out = carry_out
    batch = await shop.batches.open(_requests(2))

    events = await _run(shop, batch.id)

    assert _kinds(events)["done"] == 2
    assert events[-1].kind == "batch_finished"


async def test_a_lost_lease_is_no_failure(shop: Shop) -> None:
    """An item that another process has taken over is left to that."""

    async def lose(operation: Operation) -> None:
        failure = Failure(
            state=OperationState.FAILED, error_type="ModelError", error="gone"
        )
        await shop.ledger.fail(operation.id, failure)
        await _raise(LeaseLostError("taken over"))(operation)

    shop.kitchen.before["scene 0"] = lose
    batch = await shop.batches.open(_requests(2))

    events = await _run(shop, batch.id)

    assert _kinds(events) == Counter(started=2, done=1, failed=1, batch_finished=1)


@pytest.mark.parametrize(
    "error", [StorageError("no room"), LedgerError("locked")], ids=["store", "ledger"]
)
async def test_what_stops_everything_loses_nothing(
    shop: Shop, error: GaiaError
) -> None:
    """Without room or without a book the run ends, and the next one goes on."""
    shop.kitchen.before["scene 2"] = _raise(error)
    batch = await shop.batches.open(_requests(6))

    with pytest.raises(type(error), match=str(error)):
        await _run(shop, batch.id, max_concurrent=1)
    before = await _states(shop, batch.id)
    shop.kitchen.before.clear()
    await _run(shop, batch.id)

    assert before == ["done", "done", *["queued"] * 4]
    assert sorted(shop.kitchen.sent) == [f"scene {index}" for index in range(6)]


async def test_a_request_that_cannot_be_read_fails_alone(shop: Shop) -> None:
    """An item whose picture is gone fails; the others are made."""
    from gaia_core import UpscaleRequest
    from gaia_core.testing import png

    batch = await shop.batches.open(
        [*_requests(1), UpscaleRequest(image=png(16, 16), upscale_factor=2)]
    )
    shop.storage._inputs.clear()

    await _run(shop, batch.id)
    items = [item async for item in shop.batches.items(batch.id)]

    assert [item.state for item in items] == ["done", "failed"]
    assert items[1].error_type == "StorageError"


# -- when everybody is busy -------------------------------------------------------


async def test_a_busy_provider_is_waited_for(shop: Shop) -> None:
    """A refusal with a wait fails no item: it is put back and made later."""
    refusals = [
        NoCapableProviderError("not now", {"kitchen": "resting"}, retry_after=0.1),
        RateLimitError("too many", retry_after=0.1),
        RateLimitError("too many", retry_after=0.0),
    ]

    async def refuse(_: Operation) -> None:
        if refusals:
            raise refusals.pop()

    shop.kitchen.before["scene 0"] = refuse
    batch = await shop.batches.open(_requests(3))

    await _run(shop, batch.id, max_concurrent=1)

    assert await _states(shop, batch.id) == ["done"] * 3
    assert shop.kitchen.asked.count("scene 0") == 4
    assert shop.kitchen.asked[:4] == ["scene 0"] * 4


async def test_nothing_is_taken_while_it_waits(shop: Shop) -> None:
    """During a pause nobody is asked, and what was sent before comes to its end."""
    clock = asyncio.get_running_loop().time
    refused: list[Operation] = []
    moments: list[float] = []

    async def wait(_: Operation) -> None:
        # Its place is free once the pause is known, not while that is found out.
        await _until(lambda: refused)
        await _until_in(shop, refused[0].id, OperationState.QUEUED)

    async def refuse(operation: Operation) -> None:
        moments.append(clock())
        if not refused:
            await _until(lambda: shop.kitchen.sent)
            moments[:] = [clock()]
            refused.append(operation)
            await _raise(RateLimitError("too many", retry_after=0.3))(operation)

    shop.kitchen.after["scene 0"] = wait
    shop.kitchen.before |= {f"scene {index}": refuse for index in range(1, 4)}
    batch = await shop.batches.open(_requests(4))

    await _run(shop, batch.id, max_concurrent=2)

    assert moments[1] - moments[0] >= 0.3
    assert await _states(shop, batch.id) == ["done"] * 4


async def test_patience_ends(shop: Shop) -> None:
    """Refused for longer than an hour would take, an item fails with the reason."""
    error = NoCapableProviderError("not now", {"kitchen": "closed"}, retry_after=4_000)
    shop.kitchen.before["scene 0"] = _raise(error)
    batch = await shop.batches.open(_requests(1))

    await _run(shop, batch.id)
    item = await anext(aiter(shop.batches.items(batch.id)))

    assert item.state is OperationState.FAILED
    assert item.error_type == "NoCapableProviderError"


# -- leaving and coming back ------------------------------------------------------


async def test_who_leaves_puts_back_what_was_not_sent(shop: Shop) -> None:
    """Closing the generator lets sent items end and queues the others again."""
    shop.kitchen.before["scene 1"] = _forever
    shop.kitchen.delay = 0.1
    batch = await shop.batches.open(_requests(4))

    async with aclosing(shop.batches.run(batch.id)) as events:
        async for _ in events:
            await _until(lambda: len(shop.kitchen.sent) == 3)
            break

    assert await _states(shop, batch.id) == ["done", "queued", "done", "done"]
    assert (await shop.batches.get(batch.id)).state is BatchState.RUNNING


async def test_another_process_goes_on(new_shop: NewShop) -> None:
    """What one run leaves, the next one finishes, whoever runs it."""
    one, two = await new_shop(), await new_shop()
    batch = await one.batches.open(_requests(10))

    async with aclosing(one.batches.run(batch.id, max_concurrent=2)) as events:
        async for event in events:
            if event.kind == "done":
                break
    await _run(two, batch.id)

    assert await _states(two, batch.id) == ["done"] * 10
    assert sorted(one.kitchen.sent + two.kitchen.sent) == sorted(
        f"scene {index}" for index in range(10)
    )


async def test_who_is_cancelled_leaves_like_who_closes(shop: Shop) -> None:
    """Cancelling the task that follows a batch loses nothing."""
    has_left = asyncio.Event()

    async def wait(_: Operation) -> None:
        await has_left.wait()

    shop.kitchen.after |= {"scene 0": wait, "scene 1": wait}
    batch = await shop.batches.open(_requests(6))
    following = asyncio.create_task(_run(shop, batch.id, max_concurrent=2))

    await _until(lambda: len(shop.kitchen.sent) == 2)
    (run,) = shop.batches._runs
    following.cancel()
    await _until(lambda: run._is_stopping)
    has_left.set()
    await asyncio.wait([following])

    assert following.cancelled()
    assert await _states_at_rest(shop, batch.id) == {"done", "queued"}
    assert sorted(shop.kitchen.sent) == ["scene 0", "scene 1"]


async def test_closing_stops_every_run(shop: Shop) -> None:
    """`Batches.close` ends runs that nobody closed."""
    shop.kitchen.delay = 0.05
    batch = await shop.batches.open(_requests(50))
    following = asyncio.create_task(_run(shop, batch.id, max_concurrent=2))

    await _until(lambda: shop.kitchen.sent)
    await shop.batches.close()
    events = await following

    assert _kinds(events)["batch_finished"] == 0
    assert await _states_at_rest(shop, batch.id) == {"done", "queued"}


async def test_what_a_dead_process_held_is_done(new_shop: NewShop) -> None:
    """Items that were leased by a process that is gone are made by another."""
    one, two = await new_shop(), await new_shop()
    batch = await one.batches.open(_requests(4))
    await one.ledger.batches.lease(batch.id, 2)
    await one.ledger.close()

    await _run(two, batch.id)

    assert await _states(two, batch.id) == ["done"] * 4


async def test_what_kills_its_process_is_failed_in_the_end(new_shop: NewShop) -> None:
    """An item that three processes took and died over is poison; others are made."""
    one = await new_shop()
    batch = await one.batches.open(_requests(2))
    await one.ledger.close()

    for _ in range(3):
        victim = await new_shop()
        await victim.ledger.adopt()
        await victim.ledger.batches.lease(batch.id, 1)
        await victim.ledger.close()
    last = await new_shop()
    await _run(last, batch.id)
    items = [item async for item in last.batches.items(batch.id)]

    assert [item.state for item in items] == ["failed", "done"]
    assert items[0].error_type == "PoisonError"
    assert not items[0].reserved_usd


# -- calling off ------------------------------------------------------------------


async def test_what_is_called_off_is_not_begun(new_shop: NewShop) -> None:
    """Another process calls the batch off: nothing new is begun, what was sent ends."""
    one, two = await new_shop(), await new_shop()
    is_called_off = asyncio.Event()

    async def wait(_: Operation) -> None:
        await is_called_off.wait()

    one.kitchen.after |= {"scene 0": wait, "scene 1": wait}
    batch = await one.batches.open(_requests(20))
    following = asyncio.create_task(_run(one, batch.id, max_concurrent=2))

    await _until(lambda: len(one.kitchen.sent) == 2)
    await two.batches.cancel(batch.id)
    is_called_off.set()
    events = await following
    found = await two.batches.get(batch.id)

    assert (found.done, found.cancelled) == (2, 18)
    assert _kinds(events)["cancelled"] == 18
    assert len(one.kitchen.sent) == 2


async def test_what_waits_for_its_turn_is_called_off_too(new_shop: NewShop) -> None:
    """An item that is leased and not sent ends as cancelled, its money free."""
    one, two = await new_shop(), await new_shop()
    one.kitchen.before["scene 0"] = _forever
    batch = await one.batches.open(_requests(2))
    following = asyncio.create_task(_run(one, batch.id, max_concurrent=1))

    await _until(lambda: one.kitchen.asked)
    await two.batches.cancel(batch.id)
    await following

    items = [item async for item in two.batches.items(batch.id)]
    assert [item.state for item in items] == ["cancelled"] * 2
    assert not any(item.reserved_usd for item in items)


# -- what was sent in vain --------------------------------------------------------


async def _sent_and_left(one: Shop) -> str:
    """Send an item, and end like a process that is killed then."""

    async def wait(_: Operation) -> None:
        await asyncio.sleep(600)

    batch = await one.batches.open(_requests(1))
    item = (await one.ledger.batches.lease(batch.id, 1))[0]
    one.kitchen.after["scene 0"] = wait
    making = asyncio.create_task(
        one.kitchen.carry_out(item, GenerateRequest(prompt="scene 0"))
    )
    await _until(lambda: one.kitchen.sent)
    making.cancel()
    await asyncio.wait([making])
    await one.ledger.close()
    return str(batch.id)


async def test_what_was_sent_in_vain_waits_again(new_shop: NewShop) -> None:
    """An item that certainly never arrived is made after all, by whoever adopted it."""
    one, two = await new_shop(), await new_shop()
    batch_id = await _sent_and_left(one)

    adopted = (await two.ledger.adopt())[0]
    is_back = await two.ledger.batches.release(adopted.id, was_sent=True)
    await _run(two, batch_id)

    assert is_back
    assert await _states(two, batch_id) == ["done"]


async def test_what_was_sent_is_not_put_back_by_mistake(new_shop: NewShop) -> None:
    """Only who knows that nothing came of it puts an item back that was sent."""
    one, two = await new_shop(), await new_shop()
    batch_id = await _sent_and_left(one)

    adopted = (await two.ledger.adopt())[0]
    is_back = await two.ledger.batches.release(adopted.id)

    assert not is_back
    assert await _states(two, batch_id) == ["sent"]


async def test_what_was_told_as_unknown_does_not_wait_again(new_shop: NewShop) -> None:
    """An item that is counted as unknown ends as failed, for the batch has ended."""
    one, two = await new_shop(), await new_shop()
    batch_id = await _sent_and_left(one)
    unknown = Failure(
        state=OperationState.UNKNOWN, error_type="OutcomeUnknownError", error="lost"
    )

    adopted = (await two.ledger.adopt())[0]
    await two.ledger.fail(adopted.id, unknown)
    await two.ledger.reopen(adopted.id)
    is_back = await two.ledger.batches.release(adopted.id, was_sent=True)

    assert not is_back
    assert (await two.batches.get(batch_id)).unknown == 1
