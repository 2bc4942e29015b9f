"""Batches in the database: taken on as a whole, worked off item by item."""

import asyncio
import weakref
from collections.abc import Iterator
from decimal import Decimal
from functools import partial

import pytest

from gaia_core.errors import BudgetExceededError, IdempotencyConflictError
from gaia_core.ledger import (
    Batch,
    BatchState,
    IdempotencyKey,
    Operation,
    OperationState,
    SqlLedger,
    batch_book,
)
from gaia_core.ledger.database import Database
from gaia_core.ledger.reports import BudgetAlert
from gaia_core.settings import BudgetSettings

from .batching import KEY, a_batch, done, kinds, leased, opened, some_items
from .stories import a_picture, an_attempt, ended, failed, settled


async def _get(ledger: SqlLedger, batch: Batch) -> Batch:
    found = await ledger.batches.get(batch.id)
    assert found is not None
    return found


async def _items(ledger: SqlLedger, batch: Batch) -> list[Operation]:
    return [item async for item in ledger.batches.items(batch.id)]


async def _end_unknown(ledger: SqlLedger, item: Operation) -> None:
    await ledger.send(item.id, an_attempt(task_id=item.id))
    await ledger.fail(item.id, failed(OperationState.UNKNOWN))


# -- taking on ----------------------------------------------------------------------


async def test_batch_is_on_the_book_with_its_items(ledger: SqlLedger) -> None:
    """A batch that was taken on is there, its items wait, and their money is held."""
    batch = await ledger.batches.open(a_batch(), some_items(3))

    items = await _items(ledger, batch)

    assert (batch.total, batch.state, batch.last_event) == (3, BatchState.RUNNING, 0)
    assert await ledger.batches.get(batch.id) == batch
    assert [item.position for item in items] == [0, 1, 2]
    assert {item.state for item in items} == {OperationState.QUEUED}
    assert {item.batch_id for item in items} == {batch.id}
    (row,) = await ledger.usage(())
    assert row.held_usd == Decimal("0.12")
    assert await ledger.check() == []


async def test_equal_key_gives_the_same_batch(ledger: SqlLedger) -> None:
    """The same requests under the same key are the same batch, and nothing is new."""
    first = await ledger.batches.open(a_batch(), some_items(3))

    again = await ledger.batches.open(a_batch(), some_items(3))

    assert again == first
    assert await ledger.batches.find(KEY) == first
    assert len(await ledger.listed()) == 3


@pytest.mark.parametrize(
    "items", [partial(some_items, 2), partial(some_items, 3, fingerprint="b" * 64)]
)
async def test_equal_key_for_other_requests_is_refused(
    ledger: SqlLedger, items: partial[Iterator[Operation]]
) -> None:
    """A key that stands for a batch stands for no other."""
    first = await ledger.batches.open(a_batch(), some_items(3))

    with pytest.raises(IdempotencyConflictError, match="'k'"):
        await ledger.batches.open(a_batch(), items())

    assert await ledger.batches.latest() == [first]
    assert await ledger.check() == []


async def test_opening_at_once_gives_one_batch(ledger: SqlLedger, address: str) -> None:
    """Two processes that open a batch under one key have the same one."""
    other = SqlLedger(Database(address))
    await other.open()

    first, second = await asyncio.gather(
        ledger.batches.open(a_batch(), some_items(40)),
        other.batches.open(a_batch(), some_items(40)),
    )

    assert first == second
    assert len(await ledger.batches.latest()) == 1
    assert await other.check() == []
    await other.close()


async def test_key_that_stands_for_nothing_finds_nothing(ledger: SqlLedger) -> None:
    """A key that was never used, or stands for an operation, finds no batch."""
    assert await ledger.batches.find(IdempotencyKey(key="other")) is None
    assert await ledger.batches.get("0" * 32) is None


@pytest.mark.parametrize("number", [25, 26])
async def test_batch_fits_its_budget_or_is_refused(address: str, number: int) -> None:
    """A batch may cost exactly what is left; one cent more refuses it as a whole."""
    budgets = BudgetSettings(campaign_usd=Decimal(1))
    ledger = SqlLedger(Database(address), budgets=budgets)
    await ledger.open()
    items = some_items(number, campaign_id="c")

    if number == 25:
        await ledger.batches.open(a_batch(), items)
    else:
        with pytest.raises(BudgetExceededError, match=r"\$1\.00 left"):
            await ledger.batches.open(a_batch(), items)

    assert len(await ledger.listed()) == (25 if number == 25 else 0)
    assert len(await ledger.batches.latest()) == (1 if number == 25 else 0)
    assert await ledger.check() == []
    await ledger.close()


async def test_batch_that_uses_a_budget_up_is_told(address: str) -> None:
    """A batch that reaches a share of a budget gives rise to its alert."""
    told: list[BudgetAlert] = []
    budgets = BudgetSettings(total_usd=Decimal(1), alert_at=(Decimal("0.8"),))
    ledger = SqlLedger(Database(address), budgets=budgets, on_alert=told.append)
    await ledger.open()

    await ledger.batches.open(a_batch(), some_items(20))

    assert [(alert.scope, alert.used_usd) for alert in told] == [
        ("total", Decimal("0.8"))
    ]
    await ledger.close()


async def test_items_of_many_payers_are_held_for_each(ledger: SqlLedger) -> None:
    """Each item's money counts for its own user and campaign, also when it is freed."""
    items = [
        *some_items(2, user_id="anna"),
        *some_items(3, user_id="bert", campaign_id="c"),
        *some_items(1, reserved_usd=Decimal(0)),
    ]
    batch = await ledger.batches.open(a_batch(), items)

    held = {row.group["user"]: row.held_usd for row in await ledger.usage(["user"])}
    await ledger.batches.cancel(batch.id)

    assert held == {"anna": Decimal("0.08"), "bert": Decimal("0.12"), None: 0}
    assert {row.held_usd for row in await ledger.usage(["user"])} == {Decimal(0)}
    assert await ledger.check() == []


async def test_failing_source_leaves_nothing(ledger: SqlLedger) -> None:
    """Where the items cannot be read to the end, nothing is taken on."""

    def broken() -> Iterator[Operation]:
        yield from some_items(2)
        raise KeyError

    with pytest.raises(KeyError):
        await ledger.batches.open(a_batch(), broken())

    assert await ledger.batches.latest() == []
    assert await ledger.listed() == []


async def test_empty_batch_is_finished(ledger: SqlLedger) -> None:
    """A batch of nothing has nothing left to do."""
    batch = await ledger.batches.open(a_batch(), ())

    assert batch.state is BatchState.FINISHED
    assert await kinds(ledger, batch) == ["batch_finished"]


async def test_items_are_read_a_few_at_a_time(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many items there are, only a few are in memory."""
    monkeypatch.setattr(batch_book, "CHUNK", 10)
    alive: list[weakref.ref[Operation]] = []
    most = 0

    def watched() -> Iterator[Operation]:
        nonlocal most
        for item in some_items(200):
            alive.append(weakref.ref(item))
            most = max(most, sum(one() is not None for one in alive))
            yield item

    batch = await ledger.batches.open(a_batch(), watched())

    assert most <= 22
    assert [item.position for item in await _items(ledger, batch)] == [*range(200)]


# -- working off --------------------------------------------------------------------


async def test_items_are_taken_in_order(ledger: SqlLedger) -> None:
    """Whoever comes takes the next items, and each is taken once."""
    batch = await opened(ledger, 5)

    first = await ledger.batches.lease(batch.id, 2)
    rest = await ledger.batches.lease(batch.id, 9)
    none = await ledger.batches.lease(batch.id, 9)

    assert [item.position for item in first] == [0, 1]
    assert [item.position for item in rest] == [2, 3, 4]
    assert {item.state for item in first} == {OperationState.LEASED}
    assert none == []


async def test_processes_share_a_batch(ledger: SqlLedger, address: str) -> None:
    """Processes that work on one batch at once never take the same item."""
    others = [SqlLedger(Database(address)) for _ in range(3)]
    batch = await opened(ledger, 40)

    async def work(one: SqlLedger) -> list[int | None]:
        await one.open()
        taken = []
        while items := await one.batches.lease(batch.id, 3):
            for item in items:
                taken.append(item.position)
                await done(one, item)
        return taken

    shares = await asyncio.gather(*map(work, [ledger, *others]))

    assert sorted(place or 0 for share in shares for place in share) == [*range(40)]
    events = await ledger.batches.events(batch.id)
    assert [event.sequence for event in events] == [*range(1, 82)]
    assert [event.kind for event in events].count("batch_finished") == 1
    assert (await _get(ledger, batch)).cost_usd == Decimal("1.60")
    assert await ledger.check() == []
    for other in others:
        await other.close()


async def test_ends_are_counted_and_told(ledger: SqlLedger) -> None:
    """Each end is counted, each is an event, and the last one finishes the batch."""
    batch = await opened(ledger, 3)
    items = await ledger.batches.lease(batch.id, 3)
    await done(ledger, items[0], "0.03")

    await ledger.fail(items[1].id, failed())
    await _end_unknown(ledger, items[2])

    ended = await _get(ledger, batch)
    assert (ended.done, ended.failed, ended.unknown, ended.ended) == (1, 1, 1, 3)
    assert ended.state is BatchState.FINISHED
    assert ended.finished_at is not None
    assert ended.cost_usd == Decimal("0.03")
    assert await kinds(ledger, batch) == [
        *["started"] * 3,
        *("done", "failed", "unknown", "batch_finished"),
    ]
    assert await ledger.check() == []


async def test_event_says_what_was_made(ledger: SqlLedger) -> None:
    """The event of an item that is done names its pictures and its cost."""
    batch = await opened(ledger, 1)
    item = await leased(ledger, batch)
    picture = a_picture(item)
    await ledger.send(item.id, an_attempt())

    await ledger.settle(item.id, settled(images=(picture,)))

    event = (await ledger.batches.events(batch.id))[1]
    assert (event.kind, event.operation_id, event.position) == ("done", item.id, 0)
    assert event.data["images"] == [{"id": picture.id, "sha256": picture.sha256}]
    assert Decimal(event.data["cost_usd"]) == Decimal("0.04")


async def test_events_are_read_from_anywhere(ledger: SqlLedger) -> None:
    """Whoever saw some events asks for those behind them."""
    batch = await opened(ledger, 4)
    await ledger.batches.lease(batch.id, 4)

    some = await ledger.batches.events(batch.id, after=1, limit=2)

    assert [event.sequence for event in some] == [2, 3]


@pytest.mark.parametrize("state", ["done", "failed"])
async def test_unknown_item_is_counted_anew(ledger: SqlLedger, state: str) -> None:
    """An outcome that is known after all moves in the counts, with one more event."""
    batch = await opened(ledger, 1)
    item = await leased(ledger, batch)
    await _end_unknown(ledger, item)

    if state == "done":
        await ledger.settle(item.id, settled(images=(a_picture(item),)))
    else:
        await ledger.fail(item.id, failed())

    ended = await _get(ledger, batch)
    assert (ended.unknown, ended.ended) == (0, 1)
    assert getattr(ended, state) == 1
    assert ended.cost_usd == Decimal("0.04")
    assert await kinds(ledger, batch) == ["started", "unknown", "batch_finished", state]
    assert await ledger.check() == []


async def test_outcome_that_stays_unknown_is_told_once(ledger: SqlLedger) -> None:
    """Looking an outcome up in vain counts nothing twice."""
    batch = await opened(ledger, 1)
    item = await leased(ledger, batch)
    await _end_unknown(ledger, item)

    await ledger.reopen(item.id)
    problems = await ledger.check()
    await ledger.fail(item.id, failed(OperationState.UNKNOWN))

    assert problems == []
    assert (await _get(ledger, batch)).unknown == 1
    assert await kinds(ledger, batch) == ["started", "unknown", "batch_finished"]
    assert await ledger.check() == []


async def test_released_item_is_taken_again(ledger: SqlLedger) -> None:
    """An item that was put back is the next one, as often as it takes."""
    batch = await opened(ledger, 2)

    for _ in range(5):
        item = await leased(ledger, batch)
        await ledger.batches.release(item.id)

    assert item.position == 0
    assert (await leased(ledger, batch)).position == 0
    assert await ledger.check() == []


async def test_only_a_taken_item_is_released(ledger: SqlLedger, address: str) -> None:
    """What was sent, or was taken by another process, is not put back."""
    other = SqlLedger(Database(address))
    await other.open()
    batch = await opened(ledger, 2)
    sent, taken = await ledger.batches.lease(batch.id, 2)
    await ledger.send(sent.id, an_attempt())

    await ledger.batches.release(sent.id)
    await other.batches.release(taken.id)
    await other.batches.release("0" * 32)

    assert [item.state for item in await _items(ledger, batch)] == [
        OperationState.SENT,
        OperationState.LEASED,
    ]
    await other.close()


@pytest.mark.parametrize("cost", ["0", "0.04"])
async def test_item_that_was_sent_in_vain_waits_again(
    ledger: SqlLedger, cost: str
) -> None:
    """An item that nothing came of is taken again; one that cost something is not."""
    batch = await opened(ledger, 1)
    item = await leased(ledger, batch)
    attempt = an_attempt(task_id=item.id)
    await ledger.send(item.id, attempt)
    await ledger.end_attempt(item.id, ended(attempt, cost_usd=Decimal(cost)))

    is_back = await ledger.batches.release(item.id, was_sent=True)

    found = await ledger.get(item.id)
    assert found is not None
    assert is_back is (cost == "0")
    assert found.state is (OperationState.QUEUED if is_back else OperationState.SENT)
    assert await ledger.check() == []


async def test_item_told_as_unknown_does_not_wait_again(ledger: SqlLedger) -> None:
    """An item whose outcome was unknown has ended once: it is not begun anew."""
    batch = await opened(ledger, 1)
    item = await leased(ledger, batch)
    await _end_unknown(ledger, item)
    await ledger.reopen(item.id)

    assert not await ledger.batches.release(item.id, was_sent=True)
    assert await ledger.check() == []


# -- calling off --------------------------------------------------------------------


async def test_cancelled_batch_ends_what_waits(ledger: SqlLedger) -> None:
    """Items that wait end with the batch, their money free; what runs goes on."""
    batch = await opened(ledger, 4)
    item = await leased(ledger, batch)

    cancelled = await ledger.batches.cancel(batch.id)
    none = await ledger.batches.lease(batch.id, 4)
    (row,) = await ledger.usage(())
    await done(ledger, item)

    assert cancelled is not None
    assert (cancelled.state, cancelled.cancelled) == (BatchState.CANCELLED, 3)
    assert cancelled.finished_at is None
    assert none == []
    assert row.held_usd == Decimal("0.04")
    assert (await _get(ledger, batch)).state is BatchState.FINISHED
    events = await ledger.batches.events(batch.id)
    assert [(event.kind, event.position) for event in events] == [
        ("started", 0),
        ("batch_cancelled", None),
        *[("cancelled", place) for place in (1, 2, 3)],
        ("done", 0),
        ("batch_finished", None),
    ]
    assert await ledger.check() == []


async def test_batch_is_cancelled_once(ledger: SqlLedger) -> None:
    """Calling a batch off again, or after its end, changes nothing."""
    batch = await opened(ledger, 2)
    first = await ledger.batches.cancel(batch.id)

    again = await ledger.batches.cancel(batch.id)

    assert again == first
    assert again is not None
    assert again.state is BatchState.FINISHED
    assert await ledger.batches.cancel("0" * 32) is None


async def test_item_put_back_into_a_cancelled_batch_ends(ledger: SqlLedger) -> None:
    """An item that is released after its batch was called off is called off too."""
    batch = await opened(ledger, 1)
    item = await leased(ledger, batch)
    await ledger.batches.cancel(batch.id)

    await ledger.batches.release(item.id)

    ended = await _get(ledger, batch)
    assert (ended.state, ended.cancelled) == (BatchState.FINISHED, 1)
    assert await kinds(ledger, batch) == [
        *("started", "batch_cancelled", "cancelled", "batch_finished")
    ]
    assert await ledger.check() == []


async def test_cancelling_while_others_work_loses_nothing(
    ledger: SqlLedger, address: str
) -> None:
    """A batch that is called off at any moment finishes, and every item has ended."""
    others = [SqlLedger(Database(address)) for _ in range(3)]
    batch = await opened(ledger, 60)

    is_well_begun = asyncio.Event()

    async def work(one: SqlLedger) -> None:
        await one.open()
        while items := await one.batches.lease(batch.id, 2):
            await done(one, items[0])
            is_well_begun.set()
            for item in items[1:]:
                await one.batches.release(item.id)

    async def stop() -> None:
        await is_well_begun.wait()
        await ledger.batches.cancel(batch.id)

    await asyncio.gather(stop(), *map(work, others))

    ended = await _get(ledger, batch)
    assert ended.state is BatchState.FINISHED
    assert ended.done + ended.cancelled == 60
    events = await ledger.batches.events(batch.id)
    assert [event.sequence for event in events] == [*range(1, ended.last_event + 1)]
    assert events[-1].kind == "batch_finished"
    assert await ledger.check() == []
    for other in others:
        await other.close()


# -- listing ------------------------------------------------------------------------


async def test_latest_batches_come_first(ledger: SqlLedger) -> None:
    """Batches are listed from the newest."""
    for month in (1, 3, 2):
        moment = a_batch().created_at.replace(month=month)
        batch = a_batch(key=None, created_at=moment, name=str(month))
        await ledger.batches.open(batch, ())

    latest = await ledger.batches.latest(2)

    assert [batch.name for batch in latest] == ["3", "2"]


# -- putting back -------------------------------------------------------------------


async def test_many_are_put_back_at_once(ledger: SqlLedger) -> None:
    """What was taken and not sent waits again; what was sent or is done does not."""
    batch = await opened(ledger, 5)
    items = await ledger.batches.lease(batch.id, 4)
    await ledger.send(items[0].id, an_attempt(task_id=items[0].id))
    await done(ledger, items[1])

    await ledger.batches.release_all([item.id for item in items])
    await ledger.batches.release_all([])

    states = [item.state for item in await _items(ledger, batch)]
    again = await ledger.batches.lease(batch.id, 9)
    assert states == ["sent", "done", "queued", "queued", "queued"]
    assert [item.position for item in again] == [2, 3, 4]


async def test_what_comes_back_to_a_batch_that_was_called_off_ends(
    ledger: SqlLedger,
) -> None:
    """Items that are put back after the others were called off are called off, too."""
    batch = await opened(ledger, 3)
    items = await ledger.batches.lease(batch.id, 2)
    await ledger.batches.cancel(batch.id)

    await ledger.batches.release_all([item.id for item in items])

    assert {item.state for item in await _items(ledger, batch)} == {"cancelled"}
    assert (await _get(ledger, batch)).cancelled == 3


async def test_nobody_puts_back_what_others_have(
    ledger: SqlLedger, address: str
) -> None:
    """Items of another process stay with it."""
    other = SqlLedger(Database(address))
    await other.open()
    batch = await opened(ledger, 2)
    items = await other.batches.lease(batch.id, 2)

    await ledger.batches.release_all([item.id for item in items])
    states = {item.state for item in await _items(ledger, batch)}
    await other.close()

    assert states == {"leased"}


# -- what vendors have --------------------------------------------------------------


async def test_what_was_sent_is_told_in_order(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items that vendors have are listed, over any number of pages, and no others."""
    monkeypatch.setattr(batch_book, "SENT_CHUNK", 2)
    batch = await opened(ledger, 8)
    items = await ledger.batches.lease(batch.id, 7)
    for item in items[:5]:
        await ledger.send(item.id, an_attempt(task_id=item.id))
    await ledger.refer({items[1].id: "file-1"})
    await ledger.settle(items[0].id, settled(images=(a_picture(items[0]),)))

    found = [one async for one in ledger.batches.sent(batch.id)]

    assert [one.operation_id for one in found] == [one.id for one in items[1:5]]
    assert [one.task_id for one in found] == [one.id for one in items[1:5]]
    assert [one.reference for one in found] == ["file-1", None, None, None]
    assert {one.provider for one in found} == {an_attempt().provider}
