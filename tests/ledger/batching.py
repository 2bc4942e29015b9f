"""What the tests of batches put into the book."""

import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from gaia_core.ledger import Batch, IdempotencyKey, Operation, SqlLedger

from .stories import DAY, a_picture, an_attempt, an_operation, settled

KEY = IdempotencyKey(key="k", principal="anna", route="batch")


def a_batch(**fields: Any) -> Batch:
    """Make a batch that was asked for under a key."""
    defaults: dict[str, Any] = {
        "key": KEY,
        "principal": "anna",
        "name": "scenes",
        "created_at": DAY,
    }
    return Batch(id=uuid.uuid4().hex, **{**defaults, **fields})


def some_items(number: int, **fields: Any) -> Iterator[Operation]:
    """Make items, each of another request."""
    for position in range(number):
        same = {"position": position, "fingerprint": f"{position:064}"}
        yield an_operation(**{**same, **fields})


async def opened(ledger: SqlLedger, number: int, **fields: Any) -> Batch:
    """Take a batch of some items on."""
    return await ledger.batches.open(a_batch(key=None), some_items(number, **fields))


async def leased(ledger: SqlLedger, batch: Batch) -> Operation:
    """Take the next item."""
    (item,) = await ledger.batches.lease(batch.id, 1)
    return item


async def done(ledger: SqlLedger, item: Operation, cost: str = "0.04") -> None:
    """Send an item and settle it."""
    await ledger.send(item.id, an_attempt(task_id=item.id))
    pictures = (a_picture(item),)
    await ledger.settle(item.id, settled(cost_usd=Decimal(cost), images=pictures))


async def kinds(ledger: SqlLedger, batch: Batch) -> list[str]:
    """List the kinds of a batch's events."""
    return [event.kind for event in await ledger.batches.events(batch.id)]
