"""Which answers equal requests have in common: the index of the result cache."""

from collections.abc import Mapping

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    delete,
    func,
    select,
    update,
)

from gaia_core.ledger import rows
from gaia_core.ledger.dialects import insert_or_ignore
from gaia_core.ledger.operations import Operation, OperationState
from gaia_core.ledger.tables import operations, results

_OVER = frozenset(
    {OperationState.FAILED, OperationState.CANCELLED, OperationState.UNKNOWN}
)
_WITHOUT_RESULT = sorted(map(str, _OVER))


def claim(connection: Connection, key: str, operation_id: str, now: int) -> str | None:
    """
    Let a result key stand for an operation, unless it stands for one already.

    Returns:
        The operation it stands for: one that is done or under way. None: it was
        claimed.
    """
    values = {"key": key, "operation_id": operation_id, "used_at": now}
    if connection.execute(insert_or_ignore(connection, results), values).rowcount:
        return None
    row = connection.execute(
        select(results).where(results.c.key == key).with_for_update()
    ).one()
    if _has_result(connection, row.operation_id):
        return str(row.operation_id)
    connection.execute(update(results).where(results.c.key == key).values(values))
    return None


def find(connection: Connection, key: str) -> Operation | None:
    """Read the operation that is done under a result key."""
    own = select(results.c.operation_id).where(results.c.key == key)
    is_own: ColumnElement[bool] = operations.c.id == own.scalar_subquery()
    is_done = operations.c.state == str(OperationState.DONE)
    return next(iter(rows.read(connection, is_own, is_done)), None)


def forget(connection: Connection, key: str, operation_id: str) -> None:
    """Let the next equal request be made anew, if the key stands for this one."""
    is_own = results.c.operation_id == operation_id
    connection.execute(delete(results).where(results.c.key == key, is_own))


def note_uses(connection: Connection, uses: Mapping[str, int]) -> None:
    """Note when answers were given again."""
    if uses:
        connection.execute(
            update(results)
            .where(results.c.key == bindparam("own"))
            .values(used_at=bindparam("at")),
            [{"own": key, "at": at} for key, at in sorted(uses.items())],
        )


def trim(connection: Connection, most: int) -> int:
    """Forget the answers unused longest, down to so many; say how many."""
    count = connection.execute(select(func.count()).select_from(results)).scalar_one()
    if count <= most:
        return 0
    oldest = select(results.c.key).order_by(results.c.used_at).limit(count - most)
    statement = delete(results).where(results.c.key.in_(oldest.scalar_subquery()))
    return int(connection.execute(statement).rowcount)


def _has_result(connection: Connection, operation_id: str) -> bool:
    query = select(operations.c.id).where(
        operations.c.id == operation_id, operations.c.state.not_in(_WITHOUT_RESULT)
    )
    return connection.execute(query).first() is not None
