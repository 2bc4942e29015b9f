"""In which order waiting attempts have their turn."""

import asyncio
from collections import Counter
from collections.abc import Iterable

import pytest

from gaia_core import Capability
from gaia_core.reliability.queues import FairQueue, Waiter

ANA, BOB = "ana", "bob"


@pytest.fixture(name="queue")
def _queue() -> FairQueue:
    return FairQueue()


def _waiter(tenant: str = "", *, is_batch: bool = False) -> Waiter:
    return Waiter(
        tenant=tenant,
        is_batch=is_batch,
        capability=Capability.UPSCALING,
        turn=asyncio.get_running_loop().create_future(),
    )


def _add(queue: FairQueue, tenant: str, count: int, *, is_batch: bool = False) -> None:
    for _ in range(count):
        queue.add(_waiter(tenant, is_batch=is_batch))


def _order(queue: FairQueue) -> Iterable[Waiter]:
    while queue:
        yield queue.pop()


async def test_one_of_many_goes_next(queue: FairQueue) -> None:
    """Who comes alone does not wait behind a thousand of somebody else."""
    _add(queue, ANA, 1_000)
    _add(queue, BOB, 1)

    turns = [waiter.tenant for waiter in _order(queue)]

    assert turns.index(BOB) <= 1
    assert len(turns) == 1_001


async def test_tenants_take_turns(queue: FairQueue) -> None:
    """Three tenants with different loads get a third each while all wait."""
    for tenant, count in (("a", 500), ("b", 50), ("c", 10)):
        _add(queue, tenant, count)

    turns = [waiter.tenant for waiter in _order(queue)]

    assert Counter(turns[:30]) == {"a": 10, "b": 10, "c": 10}
    assert turns[110:] == ["a"] * 450


async def test_own_attempts_keep_their_order(queue: FairQueue) -> None:
    """Of one tenant's attempts the one that came first goes first."""
    waiters = [_waiter(ANA) for _ in range(5)]
    for waiter in waiters:
        queue.add(waiter)

    assert list(_order(queue)) == waiters


async def test_people_before_batches_but_for_every_fourth(queue: FairQueue) -> None:
    """While both wait, three people go, then one item of a batch."""
    _add(queue, ANA, 100, is_batch=True)
    _add(queue, BOB, 12)

    turns = [waiter.is_batch for waiter in _order(queue)]

    assert turns[:16] == [False, False, False, True] * 4
    assert all(turns[16:])


async def test_batch_that_waited_alone_has_no_credit(queue: FairQueue) -> None:
    """People who went while no batch waited are not held against people."""
    _add(queue, ANA, 10)
    for _ in range(7):
        queue.pop()
    _add(queue, BOB, 1, is_batch=True)

    turns = [waiter.is_batch for waiter in _order(queue)]

    assert turns == [False, False, False, True]


async def test_who_left_is_skipped(queue: FairQueue) -> None:
    """Whoever waits no more is gone, however often that is said."""
    stays, leaves = _waiter(ANA), _waiter(BOB)
    queue.add(leaves)
    queue.add(stays)

    queue.discard(leaves)
    queue.discard(leaves)

    assert len(queue) == 1
    assert list(queue) == [stays]
    assert list(_order(queue)) == [stays]


async def test_empty_queue_remembers_nobody(queue: FairQueue) -> None:
    """Tenants of the past take no memory."""
    for number in range(1_000):
        waiter = _waiter(str(number), is_batch=number % 2 == 0)
        queue.add(waiter)
        if number % 3:
            queue.discard(waiter)
    list(_order(queue))

    assert not queue._people._lines
    assert not queue._batches._lines


@pytest.mark.parametrize("is_batch", [False, True], ids=["person", "batch"])
async def test_estimate_is_near_the_truth(queue: FairQueue, is_batch: bool) -> None:
    """How many go before one more is told to within a few."""
    _add(queue, ANA, 100)
    _add(queue, BOB, 20, is_batch=True)
    _add(queue, BOB, 5)
    last = _waiter(BOB, is_batch=is_batch)

    ahead = queue.ahead_of(BOB, is_batch=is_batch)
    queue.add(last)
    turn = list(_order(queue)).index(last)

    assert abs(ahead - turn) <= 4
