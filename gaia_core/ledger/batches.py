"""What the ledger keeps of many requests."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol

import attrs

from gaia_core.ledger.operations import IdempotencyKey, Operation


class BatchState(StrEnum):
    """Where a batch stands."""

    RUNNING = "running"
    """Items are left to do."""
    CANCELLED = "cancelled"
    """Called off: nothing new is begun."""
    FINISHED = "finished"
    """Every item has ended, one way or another."""


@attrs.frozen(kw_only=True)
class Batch:
    """
    Many requests under one identifier.

    Attributes:
        id: 128 random bits in hexadecimal.
        name: What a person calls it: the file it came from, for example.
        state: Where it stands.
        principal: Who asked.
        key: The idempotency key it was asked under, if any.
        fingerprint: Digest of all its requests, in order.
        total: How many items.
        done: How many items are made.
        failed: How many failed.
        unknown: How many have an unknown outcome.
        cancelled: How many were called off.
        cost_usd: What they cost so far.
        last_event: The number of its latest event.
        created_at: When it was taken on, in UTC.
        finished_at: When its last item ended, in UTC, or None.
    """

    id: str
    created_at: datetime
    name: str = ""
    state: BatchState = BatchState.RUNNING
    principal: str = ""
    key: IdempotencyKey | None = None
    fingerprint: str = ""
    total: int = 0
    done: int = 0
    failed: int = 0
    unknown: int = 0
    cancelled: int = 0
    cost_usd: Decimal = Decimal(0)
    last_event: int = 0
    finished_at: datetime | None = None

    @property
    def ended(self) -> int:
        """How many items have ended, one way or another."""
        return self.done + self.failed + self.unknown + self.cancelled


@attrs.frozen(kw_only=True)
class BatchEvent:
    """
    Something that happened in a batch.

    Events come in order and at least once; each item has exactly one that ends it,
    and so has the batch.

    Attributes:
        batch_id: The batch.
        sequence: Its number in the batch, from 1, without gaps.
        kind: ``started``, ``done``, ``failed``, ``unknown`` or ``cancelled`` for an
            item; ``batch_cancelled`` or ``batch_finished`` for the whole.
        operation_id: The item's operation, or None.
        position: The item's place in the batch, or None.
        data: Details: ``cost_usd``, ``images`` (a list of ``id`` and ``sha256``),
            ``error_type``, ``error``.
        created_at: When, in UTC.
    """

    batch_id: str
    sequence: int
    kind: str
    created_at: datetime
    operation_id: str | None = None
    position: int | None = None
    data: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class SentItem:
    """
    An attempt at an item of a batch that was sent, and not answered so far.

    Attributes:
        operation_id: The item.
        provider: Who has it.
        task_id: The attempt.
        reference: What its provider asked to remember about it, or None.
    """

    operation_id: str
    provider: str
    task_id: str
    reference: str | None


class BatchBook(Protocol):
    """The part of a ledger that keeps batches."""

    async def open(self, batch: Batch, items: Iterable[Operation]) -> Batch:
        """
        Take a batch on: batch, items, key and reservations in one transaction.

        Args:
            batch: The batch, its ``total`` not known yet.
            items: Its operations, each with ``batch_id``, ``position`` and
                ``reserved_usd``; read once, a few at a time, in another thread.

        Returns:
            The batch, or the one that an equal key stands for already.

        Raises:
            IdempotencyConflictError: If the key stands for another batch.
            BudgetExceededError: If it costs more than a budget has left.
        """

    async def get(self, batch_id: str) -> Batch | None:
        """Look a batch up."""

    async def find(self, key: IdempotencyKey) -> Batch | None:
        """Look up the batch a key stands for."""

    async def latest(
        self, limit: int = 20, *, principal: str | None = None, is_open: bool = False
    ) -> Sequence[Batch]:
        """
        List batches, newest first.

        Args:
            limit: At most so many.
            principal: Only those that this one asked for.
            is_open: Only those with items that have not ended.
        """

    async def lease(self, batch_id: str, limit: int) -> Sequence[Operation]:
        """
        Take queued items for this process, in order; their attempts come along.

        An item taken three times without a result is failed as poison instead.
        """

    async def release(self, operation_id: str, *, was_sent: bool = False) -> bool:
        """
        Put an item back that was taken, its money still held.

        Args:
            operation_id: The item.
            was_sent: Whether it was sent, and certainly nothing came of it.

        Returns:
            Whether it waits again; not where it has ended, has cost something,
            belongs to another process, or was told as unknown and is counted
            already.
        """

    async def release_all(self, operation_ids: Sequence[str]) -> None:
        """Put items back that were taken and not sent, all at once; see `release`."""

    async def cancel(self, batch_id: str) -> Batch | None:
        """Call a batch off: items not begun end as cancelled, their money free."""

    async def events(
        self, batch_id: str, *, after: int = 0, limit: int = 1_000
    ) -> Sequence[BatchEvent]:
        """List events in order, from the one behind ``after``."""

    def items(self, batch_id: str, *, after: int = -1) -> AsyncIterator[Operation]:
        """Go through the items behind a position in order, a few at a time."""

    def sent(self, batch_id: str) -> AsyncIterator[SentItem]:
        """Go through what vendors have of a batch in order, many at a time."""
