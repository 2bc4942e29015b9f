"""
How items of a batch end: counted, told as events, and the batch closed with the last.

Every transaction takes its rows in one order (operations, balances, the batch), so
that on PostgreSQL two of them never wait for each other.
"""

import uuid
from collections.abc import Collection, Mapping
from typing import Any, Final

import attrs
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    exists,
    func,
    insert,
    literal,
    literal_column,
    select,
    update,
)

from gaia_core.ledger import rows, shares
from gaia_core.ledger.batches import BatchState
from gaia_core.ledger.operations import OperationState
from gaia_core.ledger.tables import batches, events, operations

MAX_LEASES = 3
"""How often an item is given to processes that end before they send anything."""

# States are spelt out, not bound: only so SQLite uses the indexes of just these rows.
IS_QUEUED: Final = operations.c.state == literal_column("'queued'")
"""Tells items that wait for a worker."""
_SAYS_UNKNOWN: Final = events.c.kind == literal_column("'unknown'")
_ENDED = batches.c.done + batches.c.failed + batches.c.unknown + batches.c.cancelled
_IS_OVER = and_(batches.c.finished_at.is_(None), batches.c.total == _ENDED)


@attrs.frozen(kw_only=True)
class Ending:
    """
    How items end that were never sent.

    Attributes:
        state: The state they end in.
        error_type: The class of the error.
        error: Why.
    """

    state: OperationState
    error_type: str
    error: str


CALLED_OFF: Final = Ending(
    state=OperationState.CANCELLED,
    error_type="CancelledError",
    error="The batch was cancelled before this item was begun.",
)
POISON: Final = Ending(
    state=OperationState.FAILED,
    error_type="PoisonError",
    error=(
        f"{MAX_LEASES} processes ended while they prepared this item. "
        "Look at its pictures and their size before asking for it again."
    ),
)


def was_unknown() -> ColumnElement[bool]:
    """Tell whether an event says of an operation that its outcome is unknown."""
    return exists().where(events.c.operation_id == operations.c.id, _SAYS_UNKNOWN)


_COUNTED = ("last_event", "cost", "done", "failed", "unknown", "cancelled")
# Built once: building them takes longer than SQLite takes to run them.
_ITEM = select(
    *(operations.c.id, operations.c.batch_id, operations.c.position),
    *(operations.c.cost, was_unknown().label("was_unknown")),
).where(operations.c.id == bindparam("own"))
_EVENT = insert(events)
_ADVANCE = (
    update(batches)
    .where(batches.c.id == bindparam("own"))
    .values(
        {
            name: batches.c[name]
            + bindparam(f"more_{name}", type_=batches.c[name].type)
            for name in _COUNTED
        }
    )
    # Whole columns only: in an expression here, SQLite 3.40 misses a NULL.
    .returning(*(batches.c[name] for name in (*_COUNTED, "total")))
)


# -- one item -----------------------------------------------------------------------


def note_end(
    connection: Connection,
    operation_id: str,
    kind: str,
    data: Mapping[str, Any],
    now: int,
) -> None:
    """
    Count an item that has ended, tell it, and finish the batch with its last one.

    An item whose outcome was unknown, and is known now, is counted anew.

    Args:
        connection: The transaction that ends it; its row is written already.
        operation_id: The item.
        kind: ``done``, ``failed``, ``unknown`` or ``cancelled``.
        data: The details of the event.
        now: The present moment.
    """
    item = connection.execute(_ITEM, {"own": operation_id}).one()
    if item.was_unknown and kind == OperationState.UNKNOWN:
        return
    counts = {kind: 1, "unknown": -1} if item.was_unknown else {kind: 1}
    batch = _advance(connection, item.batch_id, 1, counts, cost=item.cost or 0)
    if item.was_unknown:
        add_up_cost(connection, item.batch_id)
    event = {"operation_id": item.id, "position": item.position}
    _tell(connection, item.batch_id, batch.last_event, kind, now, data=data, **event)
    if batch.done + batch.failed + batch.unknown + batch.cancelled == batch.total:
        finish(connection, item.batch_id, now)


def add_up_cost(connection: Connection, batch_id: str) -> None:
    """Add up what the items of a batch cost, where only the sum is certain."""
    # The batch's row is locked first: what others add comes before or after.
    own = batches.c.id == batch_id
    connection.execute(select(batches.c.id).where(own).with_for_update())
    costs = select(func.coalesce(func.sum(operations.c.cost), 0))
    cost = connection.scalar(costs.where(operations.c.batch_id == batch_id))
    connection.execute(update(batches).where(own).values(cost=int(cost or 0)))


def finish(connection: Connection, batch_id: str, now: int) -> None:
    """Close a batch if its last item has ended; it is told once."""
    last_event = batches.c.last_event + 1
    last = connection.scalar(
        update(batches)
        .where(batches.c.id == batch_id, _IS_OVER)
        .values(state=BatchState.FINISHED, finished_at=now, last_event=last_event)
        .returning(batches.c.last_event)
    )
    if last is not None:
        _tell(connection, batch_id, last, "batch_finished", now)


# -- many items ---------------------------------------------------------------------


def end_unsent(
    connection: Connection,
    batch_id: str,
    ending: Ending,
    *conditions: ColumnElement[bool],
    now: int,
) -> None:
    """
    End items that were never sent, and free what is held for them.

    Args:
        connection: The transaction.
        batch_id: Their batch.
        ending: How they end.
        conditions: Which ones, as conditions on ``operations``.
        now: The present moment.
    """
    ended = _end(connection, batch_id, ending, *conditions, now=now)
    _tell_ended(connection, ended, ending, now)
    finish(connection, batch_id, now)


def call_off(connection: Connection, batch_id: str, now: int) -> None:
    """End the items of a batch that wait, and let none begin; may be repeated."""
    ended = _end(connection, batch_id, CALLED_OFF, IS_QUEUED, now=now)
    last = connection.scalar(
        update(batches)
        .where(batches.c.id == batch_id, batches.c.state == BatchState.RUNNING)
        .values(state=BatchState.CANCELLED, last_event=batches.c.last_event + 1)
        .returning(batches.c.last_event)
    )
    if last is not None:
        _tell(connection, batch_id, last, "batch_cancelled", now)
    _tell_ended(connection, ended, CALLED_OFF, now)
    finish(connection, batch_id, now)


def note_starts(
    connection: Connection, batch_id: str, ids: Collection[str], now: int
) -> None:
    """Tell of items that were just taken, in order of their positions."""
    chosen = operations.c.id.in_(ids)
    before = _advance(connection, batch_id, len(ids), {}).last_event - len(ids)
    _tell_each(connection, chosen, before, kind="started", data={}, now=now)


@attrs.frozen(kw_only=True)
class _Ended:
    """
    Items that one statement has ended.

    Attributes:
        batch_id: Their batch.
        mark: What tells them from others, in place of an owner.
        number: How many.
    """

    batch_id: str
    mark: str
    number: int

    @property
    def chosen(self) -> ColumnElement[bool]:
        """Tell them from others."""
        own = operations.c.batch_id == self.batch_id
        return and_(own, operations.c.owner == self.mark)


def _end(
    connection: Connection,
    batch_id: str,
    ending: Ending,
    *conditions: ColumnElement[bool],
    now: int,
) -> _Ended:
    """End items and free their money; they bear a mark until that is told."""
    mark = uuid.uuid4().hex
    is_open = operations.c.finished_at.is_(None)
    statement = (
        update(operations)
        .where(operations.c.batch_id == batch_id, is_open, *conditions)
        .values(
            **attrs.asdict(ending),
            owner=mark,
            fence=operations.c.fence + 1,
            cost=0,
            updated_at=now,
            finished_at=now,
        )
    )
    number = connection.execute(statement).rowcount
    ended = _Ended(batch_id=batch_id, mark=mark, number=number)
    if number:
        shares.free(connection, batch_id, ended.chosen, now)
    return ended


def _tell_ended(
    connection: Connection, ended: _Ended, ending: Ending, now: int
) -> None:
    """Count items that one statement has ended, tell of each, and take the mark off."""
    if not ended.number:
        return
    data = {"error_type": ending.error_type, "error": ending.error}
    kind = ending.state.value
    batch = _advance(connection, ended.batch_id, ended.number, {kind: ended.number})
    before = batch.last_event - ended.number
    _tell_each(connection, ended.chosen, before, kind=kind, data=data, now=now)
    values = {"owner": None, "reserved": 0}
    connection.execute(update(operations).where(ended.chosen).values(values))


# -- events -------------------------------------------------------------------------


def _advance(
    connection: Connection,
    batch_id: str,
    number: int,
    counts: Mapping[str, int],
    *,
    cost: int = 0,
) -> Row[Any]:
    """Take the next numbers for events of a batch, count, and give its new row."""
    more = {**dict.fromkeys(_COUNTED, 0), **counts, "last_event": number, "cost": cost}
    values = {f"more_{name}": change for name, change in more.items()}
    return connection.execute(_ADVANCE, {**values, "own": batch_id}).one()


def _tell(  # noqa: PLR0913  every one is a fact of the event
    connection: Connection,
    batch_id: str,
    sequence: int,
    kind: str,
    now: int,
    *,
    data: Mapping[str, Any] | None = None,
    operation_id: str | None = None,
    position: int | None = None,
) -> None:
    connection.execute(
        _EVENT,
        {
            "batch_id": batch_id,
            "sequence": sequence,
            "kind": kind,
            "operation_id": operation_id,
            "position": position,
            "data": rows.dump(data or {}),
            "created_at": now,
        },
    )


def _tell_each(  # noqa: PLR0913  every one is a fact of the events
    connection: Connection,
    chosen: ColumnElement[bool],
    before: int,
    *,
    kind: str,
    data: Mapping[str, Any],
    now: int,
) -> None:
    """Write one event for each of some items, in order of their positions."""
    item = operations.c
    place = func.row_number().over(order_by=item.position)
    values = {
        "batch_id": item.batch_id,
        "sequence": literal(before) + place,
        "kind": literal(kind),
        "operation_id": item.id,
        "position": item.position,
        "data": literal(rows.dump(data)),
        "created_at": literal(now, BigInteger),
    }
    query = select(*values.values()).where(chosen)
    connection.execute(insert(events).from_select(list(values), query))
