"""Operations whose process is gone pass to another."""

from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, exists, select, update

from gaia_core.ledger.batches import BatchState
from gaia_core.ledger.endings import (
    IS_QUEUED,
    MAX_LEASES,
    POISON,
    call_off,
    end_unsent,
)
from gaia_core.ledger.operations import OperationState
from gaia_core.ledger.tables import batches, operations

_BEGUN = (OperationState.ACCEPTED, OperationState.SENT, OperationState.RECEIVED)
_IS_LEASED = operations.c.state == OperationState.LEASED


def adopt(
    connection: Connection,
    *,
    worker: str,
    dead: Collection[str],
    limit: int,
    now: int,
) -> list[str]:
    """
    Take over what was left behind.

    Items that were taken and not sent wait again for whoever comes next; those that
    were taken too often fail instead, and those of a batch that was called off end.
    Everything that had begun passes to this worker, under a new number of the lease.

    Args:
        connection: The transaction.
        worker: Who takes over.
        dead: The workers that are gone.
        limit: At most how many to take over.
        now: The present moment.

    Returns:
        The operations taken over, oldest first.
    """
    is_left = operations.c.finished_at.is_(None) & operations.c.owner.in_(sorted(dead))
    if dead:
        _queue_again(connection, is_left, now)
        _end_poison(connection, is_left, now)
    _end_called_off(connection, now)
    return _take_over(connection, is_left, worker, max(0, limit), now) if dead else []


def reopen(connection: Connection, *, worker: str, operation_id: str, now: int) -> bool:
    """
    Take over an operation whose outcome is unknown: it is under way once more.

    Returns:
        False where its outcome is known, or somebody else looks it up already.
    """
    reopened = connection.execute(
        update(operations)
        .where(
            operations.c.id == operation_id,
            operations.c.state == OperationState.UNKNOWN,
        )
        .values(
            state=OperationState.SENT,
            owner=worker,
            fence=operations.c.fence + 1,
            updated_at=now,
            finished_at=None,
        )
    )
    return bool(reopened.rowcount)


def _queue_again(
    connection: Connection, is_left: ColumnElement[bool], now: int
) -> None:
    connection.execute(
        update(operations)
        .where(is_left, _IS_LEASED, operations.c.leases < MAX_LEASES)
        .values(
            state=OperationState.QUEUED,
            owner=None,
            fence=operations.c.fence + 1,
            updated_at=now,
        )
    )


def _end_poison(connection: Connection, is_left: ColumnElement[bool], now: int) -> None:
    """Fail what was taken too often: it may be what ends the processes."""
    concerned = select(operations.c.batch_id).where(is_left, _IS_LEASED).distinct()
    for batch_id in connection.scalars(concerned).all():
        end_unsent(connection, batch_id, POISON, is_left, _IS_LEASED, now=now)


def _end_called_off(connection: Connection, now: int) -> None:
    """End items that were put back while their batch was called off."""
    is_item = operations.c.batch_id == batches.c.id
    is_waiting = exists().where(is_item, IS_QUEUED)
    is_off = batches.c.state == BatchState.CANCELLED
    concerned = select(batches.c.id).where(is_off, is_waiting)
    for batch_id in connection.scalars(concerned).all():
        call_off(connection, batch_id, now)


def _take_over(
    connection: Connection,
    is_left: ColumnElement[bool],
    worker: str,
    limit: int,
    now: int,
) -> list[str]:
    item = operations.c
    left = select(item.id).where(is_left, item.state.in_(_BEGUN))
    # Not by the index of that column, which holds everything that ever was.
    age = (item.created_at + 0, item.position, item.id)
    left = left.order_by(*age).limit(limit)
    # What another process is taking over at this moment is not waited for.
    ids = list(connection.scalars(left.with_for_update(skip_locked=True)))
    connection.execute(
        update(operations)
        .where(item.id.in_(ids))
        .values(owner=worker, fence=item.fence + 1, updated_at=now)
    )
    return ids
