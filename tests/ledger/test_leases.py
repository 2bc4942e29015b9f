"""What a process leaves behind passes to another, and never to two."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from functools import partial

import pytest

from gaia_core.errors import LeaseLostError
from gaia_core.ledger import (
    BatchState,
    Operation,
    OperationState,
    SqlLedger,
    endings,
    leases,
    rows,
)
from gaia_core.ledger.database import Database
from gaia_core.ledger.tables import operations

from .batching import done, kinds, leased, opened
from .stories import a_picture, an_attempt, an_operation, failed, settled


@pytest.fixture(name="heir")
async def _heir(address: str) -> AsyncIterator[SqlLedger]:
    """Give the ledger of another process."""
    heir = SqlLedger(Database(address))
    await heir.open()
    yield heir
    await heir.close()


async def _accepted(ledger: SqlLedger) -> Operation:
    return await ledger.accept(an_operation())


async def _sent(ledger: SqlLedger) -> Operation:
    operation = await _accepted(ledger)
    await ledger.send(operation.id, an_attempt())
    return operation


async def _received(ledger: SqlLedger) -> Operation:
    operation = await _sent(ledger)
    await ledger.receive(operation.id, an_attempt())
    return operation


async def _unknown(ledger: SqlLedger) -> Operation:
    operation = await _sent(ledger)
    await ledger.fail(operation.id, failed(OperationState.UNKNOWN))
    return operation


async def _take_from(heir: SqlLedger, ledger: SqlLedger) -> list[str]:
    """Take over from a process that only stands still."""
    work = partial(
        leases.adopt,
        worker=heir.database.worker,
        dead={ledger.database.worker},
        limit=100,
        now=rows.now(),
    )
    return await heir.database.write(work)


async def test_who_was_given_up_refers_to_nothing(
    ledger: SqlLedger, heir: SqlLedger
) -> None:
    """Of several attempts one of which was taken over, none is noted."""
    tasks = {}
    for name in ("mine", "theirs"):
        operation = await _accepted(ledger)
        await ledger.send(operation.id, an_attempt(task_id=name))
        tasks[operation.id] = name
    mine, theirs = tasks
    await heir.database.write(
        lambda connection: connection.execute(
            operations.update()
            .where(operations.c.id == theirs)
            .values(owner=heir.database.worker, fence=1)
        )
    )

    with pytest.raises(LeaseLostError, match=theirs):
        await ledger.refer(dict.fromkeys(tasks.values(), "batch-1"))

    found = await ledger.get(mine)
    assert found is not None
    assert found.attempts[0].reference is None


async def test_an_older_lease_refers_to_nothing(
    ledger: SqlLedger, heir: SqlLedger
) -> None:
    """The number of the lease counts, even where the owner is the same."""
    operation = await _sent(ledger)
    await _take_from(heir, ledger)
    await _take_from(ledger, heir)

    with pytest.raises(LeaseLostError):
        await ledger.refer({an_attempt().task_id: "batch-1"})

    found = await heir.get(operation.id)
    assert found is not None
    assert found.attempts[0].reference is None


async def test_what_had_begun_is_taken_over(ledger: SqlLedger, heir: SqlLedger) -> None:
    """Whatever a process that ended had begun passes to another, oldest first."""
    begun = [await begin(ledger) for begin in (_accepted, _sent, _received)]
    over = await _unknown(ledger)
    await ledger.close()

    adopted = await heir.adopt()

    assert [one.id for one in adopted] == [one.id for one in begun]
    assert [one.state for one in adopted] == [
        *(OperationState.ACCEPTED, OperationState.SENT, OperationState.RECEIVED)
    ]
    assert over.id not in {one.id for one in adopted}
    assert await heir.adopt() == []


async def test_what_somebody_works_on_is_left(
    ledger: SqlLedger, heir: SqlLedger
) -> None:
    """Nothing is taken from a process that is there."""
    await _sent(ledger)
    await leased(ledger, await opened(ledger, 1))

    assert await heir.adopt() == []


async def test_so_many_are_taken_over(ledger: SqlLedger, heir: SqlLedger) -> None:
    """The oldest are taken over first, and the others the next time."""
    begun = [await _sent(ledger) for _ in range(3)]
    await ledger.close()

    first, rest = await heir.adopt(2), await heir.adopt(2)

    assert [one.id for one in (*first, *rest)] == [one.id for one in begun]
    assert len(first) == 2


async def test_heirs_never_share(
    ledger: SqlLedger, heir: SqlLedger, address: str
) -> None:
    """Of two processes that take over at once each operation has one."""
    other = SqlLedger(Database(address))
    await other.open()
    begun = [await _sent(ledger) for _ in range(30)]
    await ledger.close()

    async def take(one: SqlLedger) -> list[str]:
        taken: list[str] = []
        for _ in range(40):
            taken += [operation.id for operation in await one.adopt(3)]
        return taken

    first, second = await asyncio.gather(take(heir), take(other))

    assert sorted(first + second) == sorted(one.id for one in begun)
    await other.close()


async def test_process_that_was_given_up_cannot_write(
    ledger: SqlLedger, heir: SqlLedger
) -> None:
    """A process that wakes up after its work was taken over is turned away."""
    operation = await _sent(ledger)
    item = await leased(ledger, await opened(ledger, 1))

    taken = await _take_from(heir, ledger)

    assert taken == [operation.id]
    for own in (operation, item):
        with pytest.raises(LeaseLostError):
            await ledger.send(own.id, an_attempt())
        with pytest.raises(LeaseLostError):
            await ledger.settle(own.id, settled())
        with pytest.raises(LeaseLostError):
            await ledger.fail(own.id, failed())
    await heir.settle(operation.id, settled(images=(a_picture(operation),)))
    assert await heir.check() == []


# -- items --------------------------------------------------------------------------


async def test_item_that_was_not_sent_waits_again(
    ledger: SqlLedger, heir: SqlLedger
) -> None:
    """An item whose process ended before sending it is the next one to be taken."""
    batch = await opened(ledger, 2)
    item = await leased(ledger, batch)
    await ledger.close()

    adopted = await heir.adopt()

    assert adopted == []
    assert (await leased(heir, batch)).id == item.id
    assert await heir.check() == []


async def test_item_that_ends_processes_is_given_up(
    address: str, heir: SqlLedger
) -> None:
    """An item whose third process ends before sending it has failed, and is free."""
    batch = await opened(heir, 1)

    for _ in range(endings.MAX_LEASES):
        victim = SqlLedger(Database(address))
        await victim.open()
        item = await leased(victim, batch)
        await victim.close()
        await heir.adopt()

    poison = await heir.get(item.id)
    ended = await heir.batches.get(batch.id)
    assert poison is not None
    assert (poison.state, poison.error_type) == (OperationState.FAILED, "PoisonError")
    assert (poison.reserved_usd, poison.cost_usd) == (Decimal(0), Decimal(0))
    assert ended is not None
    assert (ended.state, ended.failed) == (BatchState.FINISHED, 1)
    assert await kinds(heir, batch) == [*["started"] * 3, "failed", "batch_finished"]
    assert await heir.check() == []


async def test_item_of_a_cancelled_batch_is_not_begun_again(
    ledger: SqlLedger, heir: SqlLedger
) -> None:
    """An item that was taken when its batch was called off ends with its process."""
    batch = await opened(ledger, 3)
    await leased(ledger, batch)
    await ledger.batches.cancel(batch.id)
    await ledger.close()

    await heir.adopt()

    ended = await heir.batches.get(batch.id)
    assert ended is not None
    assert (ended.state, ended.cancelled) == (BatchState.FINISHED, 3)
    assert await heir.check() == []


async def test_sent_item_is_taken_over(ledger: SqlLedger, heir: SqlLedger) -> None:
    """An item that was sent is never taken from the queue again."""
    batch = await opened(ledger, 2)
    item = await leased(ledger, batch)
    await ledger.send(item.id, an_attempt())
    await ledger.close()

    (adopted,) = await heir.adopt()
    await heir.settle(adopted.id, settled(images=(a_picture(adopted),)))

    assert adopted.id == item.id
    assert (await leased(heir, batch)).position == 1
    assert await kinds(heir, batch) == ["started", "done", "started"]
    assert await heir.check() == []


async def test_work_of_many_processes_is_finished_by_the_last(
    address: str, heir: SqlLedger
) -> None:
    """Processes that end at any point lose nothing, and nothing is paid twice."""
    batch = await opened(heir, 12)

    for place in range(4):
        victim = SqlLedger(Database(address))
        await victim.open()
        items = await victim.batches.lease(batch.id, 3)
        await done(victim, items[0])
        if place % 2:
            await victim.send(items[1].id, an_attempt())
        await victim.close()
        for left in await heir.adopt():
            await heir.settle(left.id, settled(images=(a_picture(left),)))
    while items := await heir.batches.lease(batch.id, 3):
        for item in items:
            await done(heir, item)

    ended = await heir.batches.get(batch.id)
    assert ended is not None
    assert (ended.state, ended.done) == (BatchState.FINISHED, 12)
    assert ended.cost_usd == Decimal("0.48")
    assert await heir.check() == []


# -- unknown outcomes ---------------------------------------------------------------


async def test_unknown_outcome_is_looked_up_by_one(
    ledger: SqlLedger, heir: SqlLedger
) -> None:
    """Whoever reopens an operation first has it; it is under way once more."""
    operation = await _unknown(ledger)

    first, second = await heir.reopen(operation.id), await ledger.reopen(operation.id)

    assert first is not None
    assert (first.state, first.finished_at) == (OperationState.SENT, None)
    assert second is None
    with pytest.raises(LeaseLostError):
        await ledger.settle(operation.id, settled())
    await heir.settle(operation.id, settled(images=(a_picture(operation),)))
    assert await heir.check() == []


async def test_look_up_that_is_cut_off_passes_on(
    ledger: SqlLedger, heir: SqlLedger
) -> None:
    """What a process reopened before it ended is taken over like anything begun."""
    operation = await _unknown(ledger)
    await ledger.reopen(operation.id)
    await ledger.close()

    adopted = await heir.adopt()

    assert [one.id for one in adopted] == [operation.id]


async def test_known_outcome_is_not_reopened(ledger: SqlLedger) -> None:
    """An operation that is done, or that nobody knows, cannot be reopened."""
    operation = await _sent(ledger)
    await ledger.settle(operation.id, settled())

    assert await ledger.reopen(operation.id) is None
    assert await ledger.reopen("0" * 32) is None
