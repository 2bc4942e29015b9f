"""The book of batches in the database."""

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import attrs
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    desc,
    exists,
    insert,
    or_,
    select,
    update,
)

from gaia_core.errors import LedgerError, OutcomeClass
from gaia_core.ledger import keys, rows, shares
from gaia_core.ledger.batches import Batch, BatchEvent, BatchState, SentItem
from gaia_core.ledger.database import Database
from gaia_core.ledger.endings import (
    IS_QUEUED,
    call_off,
    finish,
    note_end,
    note_starts,
    was_unknown,
)
from gaia_core.ledger.operations import IdempotencyKey, Operation, OperationState
from gaia_core.ledger.reports import BudgetAlert
from gaia_core.ledger.tables import attempts, batches, events, operations
from gaia_core.settings import BudgetSettings

__all__ = ["ROUTE", "SqlBatchBook", "note_end"]

T = TypeVar("T")

ROUTE = "batch"
"""What the idempotency keys of batches are for."""
CHUNK = 500
"""How many items are in memory at once."""
SENT_CHUNK = 5_000
"""How many attempts under way are read at once: little is known of each."""


@attrs.define(eq=False)
class SqlBatchBook:
    """
    Keeps batches in the ledger's database.

    Attributes:
        database: The database; its ``worker`` is who takes items.
        budgets: What may be spent.
        on_alert: Told of each share of a budget that a batch reaches.
        on_lease: Told of the items this process has just taken.
    """

    database: Database
    budgets: BudgetSettings = attrs.field(factory=BudgetSettings)
    on_alert: Callable[[BudgetAlert], None] | None = None
    on_lease: Callable[[Sequence[str]], None] | None = None

    async def open(self, batch: Batch, items: Iterable[Operation]) -> Batch:
        """Take a batch on, as a whole or not at all; see `BatchBook.open`."""
        opening = _Opening(batch=batch, items=items, budgets=self.budgets)
        is_repeatable = iter(items) is not items
        try:
            opened = await self.database.write(opening.run, is_repeatable=is_repeatable)
        except _StandsAlreadyError as found:
            return await self.database.read(partial(_known, batch_id=found.batch_id))
        if self.on_alert is not None:
            for alert in opening.alerts:
                self.on_alert(alert)
        return opened

    async def get(self, batch_id: str) -> Batch | None:
        """Look a batch up."""
        return await self.database.read(partial(_get, batch_id=batch_id))

    async def find(self, key: IdempotencyKey) -> Batch | None:
        """Look up the batch a key stands for."""

        def find(connection: Connection) -> Batch | None:
            row = keys.find(connection, key)
            if row is None or row.batch_id is None:
                return None
            return _get(connection, batch_id=row.batch_id)

        return await self.database.read(find)

    async def latest(
        self, limit: int = 20, *, principal: str | None = None, is_open: bool = False
    ) -> Sequence[Batch]:
        """List batches, newest first; see `BatchBook.latest`."""
        newest = select(batches).order_by(desc(batches.c.created_at), batches.c.id)
        if principal is not None:
            newest = newest.where(batches.c.principal == principal)
        if is_open:
            newest = newest.where(batches.c.state != BatchState.FINISHED.value)
        return await self.database.read(
            lambda connection: [
                _batch(row) for row in connection.execute(newest.limit(limit))
            ]
        )

    async def lease(self, batch_id: str, limit: int) -> Sequence[Operation]:
        """Take queued items for this process, in order; see `BatchBook.lease`."""
        work = partial(
            _lease, batch_id=batch_id, limit=limit, worker=self.database.worker
        )
        items = await self.database.write(work)
        if self.on_lease is not None:
            self.on_lease([item.id for item in items])
        return items

    async def release(self, operation_id: str, *, was_sent: bool = False) -> bool:
        """Put an item back that was taken; see `BatchBook.release`."""
        work = partial(
            _release,
            operation_id=operation_id,
            worker=self.database.worker,
            was_sent=was_sent,
        )
        batch = await self.database.write(work)
        if batch is not None and batch.state == BatchState.CANCELLED:
            await self.cancel(batch.id)
        return batch is not None

    async def release_all(self, operation_ids: Sequence[str]) -> None:
        """Put items back that were taken and not sent; see `BatchBook.release_all`."""
        work = partial(_release_all, ids=operation_ids, worker=self.database.worker)
        for batch_id in await self.database.write(work):
            await self.cancel(batch_id)

    async def cancel(self, batch_id: str) -> Batch | None:
        """Call a batch off: items not begun end as cancelled, their money free."""

        def cancel(connection: Connection) -> Batch | None:
            call_off(connection, batch_id, rows.now())
            return _get(connection, batch_id=batch_id)

        return await self.database.write(cancel)

    async def events(
        self, batch_id: str, *, after: int = 0, limit: int = 1_000
    ) -> Sequence[BatchEvent]:
        """List events in order, from the one behind ``after``."""
        query = select(events).where(
            events.c.batch_id == batch_id, events.c.sequence > after
        )
        following = query.order_by(events.c.sequence).limit(limit)
        return await self.database.read(
            lambda connection: [_event(row) for row in connection.execute(following)]
        )

    async def items(
        self, batch_id: str, *, after: int = -1
    ) -> AsyncIterator[Operation]:
        """Go through the items behind a position in order, a few at a time."""
        position = after
        while True:
            chunk = await self.database.read(
                partial(_items, batch_id=batch_id, after=position)
            )
            for item in chunk:
                yield item
            if len(chunk) < CHUNK:
                return
            position += CHUNK

    async def sent(self, batch_id: str) -> AsyncIterator[SentItem]:
        """Go through what vendors have of a batch; see `BatchBook.sent`."""
        place = (-1, 0)
        while True:
            read = partial(_sent, batch_id=batch_id, after=place)
            chunk = await self.database.read(read)
            for row in chunk:
                yield SentItem(
                    operation_id=row.operation_id,
                    provider=row.provider,
                    task_id=row.task_id,
                    reference=row.reference,
                )
            if len(chunk) < SENT_CHUNK:
                return
            place = (chunk[-1].position, chunk[-1].number)


# -- taking on ----------------------------------------------------------------------


class _StandsAlreadyError(Exception):
    """The key stands for an equal batch: what was written is undone."""

    def __init__(self, batch_id: str) -> None:
        super().__init__(batch_id)
        self.batch_id = batch_id


@attrs.define(eq=False, kw_only=True)
class _Opening:
    """A batch on its way into the book."""

    batch: Batch
    items: Iterable[Operation]
    budgets: BudgetSettings
    alerts: tuple[BudgetAlert, ...] = ()
    _digest: Any = attrs.field(init=False)
    _total: int = attrs.field(init=False)
    _amounts: Counter[shares.Group] = attrs.field(init=False)

    def run(self, connection: Connection) -> Batch:
        """Write items, key, batch and reservations."""
        now = rows.now()
        self._digest, self._total, self._amounts = hashlib.sha256(), 0, Counter()
        is_new = not self._stands(connection, now)
        for chunk in _chunks(self.items):
            values = [self._values_of(item, now) for item in chunk]
            if is_new:
                connection.execute(insert(operations), values)
        self._claim(connection, is_new=is_new, now=now)
        connection.execute(insert(batches), self._values())
        self.alerts = shares.hold(
            connection, self.budgets, self.batch.id, self._amounts, now
        )
        finish(connection, self.batch.id, now)
        return _known(connection, batch_id=self.batch.id)

    def _stands(self, connection: Connection, now: int) -> bool:
        """Tell whether its key is taken: then requests are compared, not written."""
        key = self.batch.key
        row = None if key is None else keys.find(connection, key)
        return row is not None and row.created_at > now - keys.KEPT

    def _values_of(self, item: Operation, now: int) -> dict[str, Any]:
        """Give an item's column values, and add it to the sums."""
        values = rows.values_of(item, now)
        payer = shares.Group(values["user_id"], values["campaign_id"], values["day"])
        self._amounts[payer] += values["reserved"]
        self._digest.update(f"{item.fingerprint}\n".encode())
        place = {"batch_id": self.batch.id, "position": self._total}
        self._total += 1
        return {**values, **place, "state": OperationState.QUEUED.value}

    def _claim(self, connection: Connection, *, is_new: bool, now: int) -> None:
        """Let the key stand for this batch, or find the one it stands for."""
        key = self.batch.key
        if key is None:
            return
        digest = self._digest.hexdigest()
        row = keys.claim(connection, key, digest, batch_id=self.batch.id, now=now)
        if row is not None:
            raise _StandsAlreadyError(row.batch_id)
        if not is_new:
            message = f"The key {key.key!r} was given up meanwhile. Open it again."
            raise LedgerError(message)

    def _values(self) -> dict[str, Any]:
        """Give the batch's column values."""
        batch = self.batch
        return {
            "id": batch.id,
            "name": rows.clean(batch.name),
            "state": batch.state.value,
            "principal": rows.identifier(batch.principal, name="principal"),
            "key": batch.key and batch.key.key,
            "fingerprint": self._digest.hexdigest(),
            "total": self._total,
            "created_at": rows.moment(batch.created_at),
        }


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    following = iter(items)
    while chunk := list(islice(following, CHUNK)):
        yield chunk


# -- working off --------------------------------------------------------------------


def _lease(
    connection: Connection, *, batch_id: str, limit: int, worker: str
) -> list[Operation]:
    """Take items for a worker; those of a batch that was called off end instead."""
    batch, now = _get(connection, batch_id=batch_id), rows.now()
    if batch is not None and batch.state is BatchState.CANCELLED:
        call_off(connection, batch_id, now)
    if batch is None or batch.state is not BatchState.RUNNING:
        return []
    item = operations.c
    waiting = select(item.id).where(item.batch_id == batch_id, IS_QUEUED)
    waiting = waiting.order_by(item.position).limit(max(0, limit))
    ids = list(connection.scalars(waiting.with_for_update(skip_locked=True)))
    if not ids:
        return []
    taken = {"state": OperationState.LEASED.value, "owner": worker, "updated_at": now}
    connection.execute(
        update(operations)
        .where(item.id.in_(ids))
        .values(**taken, fence=item.fence + 1, leases=item.leases + 1)
    )
    note_starts(connection, batch_id, ids, now)
    return rows.read(connection, item.id.in_(ids), order_by=item.position)


def _release(
    connection: Connection, *, operation_id: str, worker: str, was_sent: bool
) -> Row[Any] | None:
    """Put an item back; give the row of its batch, or None: it stays as it is."""
    item = operations.c
    is_own = (item.id == operation_id, item.owner == worker)
    is_ready: ColumnElement[bool] = item.state == OperationState.LEASED
    if was_sent:
        # One that was told as unknown is counted already; one that has cost
        # something is never paid for again.
        is_paid = exists().where(
            attempts.c.operation_id == item.id, attempts.c.cost > 0
        )
        is_sent = item.state == OperationState.SENT
        is_ready = or_(is_ready, and_(is_sent, ~was_unknown(), ~is_paid))
    batch_id = connection.scalar(
        update(operations)
        .where(*is_own, is_ready)
        .values(
            state=OperationState.QUEUED.value,
            owner=None,
            leases=item.leases - 1,
            updated_at=rows.now(),
        )
        .returning(item.batch_id)
    )
    # Locked, so that whoever calls it off at this moment finds the item waiting.
    query = select(batches).where(batches.c.id == batch_id)
    return connection.execute(query.with_for_update()).one_or_none()


def _release_all(
    connection: Connection, *, ids: Sequence[str], worker: str
) -> list[str]:
    """Put items back; give their batches, as far as those were called off."""
    item, concerned = operations.c, set[str]()
    for chunk in _chunks(ids):
        given = connection.scalars(
            update(operations)
            .where(
                item.id.in_(chunk),
                item.owner == worker,
                item.state == OperationState.LEASED,
            )
            .values(
                state=OperationState.QUEUED.value,
                owner=None,
                leases=item.leases - 1,
                updated_at=rows.now(),
            )
            .returning(item.batch_id)
        )
        concerned.update(given)
    # Locked, so that whoever calls it off at this moment finds the items waiting.
    query = select(batches).where(batches.c.id.in_(sorted(concerned)))
    found = connection.execute(query.order_by(batches.c.id).with_for_update())
    return [row.id for row in found if row.state == BatchState.CANCELLED]


# -- reading ------------------------------------------------------------------------


def _get(connection: Connection, *, batch_id: str) -> Batch | None:
    query = select(batches).where(batches.c.id == batch_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else _batch(row)


def _known(connection: Connection, *, batch_id: str) -> Batch:
    query = select(batches).where(batches.c.id == batch_id)
    return _batch(connection.execute(query).one())


def _items(connection: Connection, *, batch_id: str, after: int) -> list[Operation]:
    item = operations.c
    following = (item.batch_id == batch_id, item.position > after)
    return rows.read(connection, *following, order_by=item.position, limit=CHUNK)


def _sent(
    connection: Connection, *, batch_id: str, after: tuple[int, int]
) -> Sequence[Any]:
    item, attempt = operations.c, attempts.c
    position, number = after
    query = (
        select(
            *(item.position, attempt.number, attempt.operation_id),
            *(attempt.provider, attempt.task_id, attempt.reference),
        )
        .join(attempts, attempt.operation_id == item.id)
        .where(
            item.batch_id == batch_id,
            item.state == OperationState.SENT,
            attempt.outcome == OutcomeClass.AMBIGUOUS,
            or_(
                item.position > position,
                and_(item.position == position, attempt.number > number),
            ),
        )
        .order_by(item.position, attempt.number)
        .limit(SENT_CHUNK)
    )
    return connection.execute(query).all()


def _batch(row: Row[Any]) -> Batch:
    key = row.key and IdempotencyKey(key=row.key, principal=row.principal, route=ROUTE)
    return Batch(
        id=row.id,
        created_at=rows.instant(row.created_at),
        name=row.name,
        state=BatchState(row.state),
        principal=row.principal,
        key=key,
        fingerprint=row.fingerprint,
        total=row.total,
        done=row.done,
        failed=row.failed,
        unknown=row.unknown,
        cancelled=row.cancelled,
        cost_usd=rows.dollars(row.cost),
        last_event=row.last_event,
        finished_at=rows.instant(row.finished_at),
    )


def _event(row: Row[Any]) -> BatchEvent:
    return BatchEvent(
        batch_id=row.batch_id,
        sequence=row.sequence,
        kind=row.kind,
        created_at=rows.instant(row.created_at),
        operation_id=row.operation_id,
        position=row.position,
        data=rows.load(row.data) or {},
    )
