"""Idempotency keys: who asked for what by which words."""

from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, select, update

from gaia_core.errors import IdempotencyConflictError
from gaia_core.ledger.dialects import insert_or_ignore
from gaia_core.ledger.operations import IdempotencyKey
from gaia_core.ledger.rows import identifier
from gaia_core.ledger.tables import batches, keys, operations

KEPT = timedelta(hours=48) // timedelta(microseconds=1)
"""How long a key stands for its request at least, in microseconds."""


def claim(  # noqa: PLR0913  every one is a keyword
    connection: Connection,
    key: IdempotencyKey,
    fingerprint: str,
    *,
    operation_id: str | None = None,
    batch_id: str | None = None,
    now: int,
) -> Row[Any] | None:
    """
    Let a key stand for an operation or a batch, unless it stands for one already.

    A key whose operation failed without a charge stands for nothing. One that is
    older than 48 h and whose operation has ended may be used for another request;
    for an equal request it still stands.

    Returns:
        The key's row (``operation_id``, ``batch_id``) where it stands for an equal
        request already, else None: it was claimed.

    Raises:
        IdempotencyConflictError: If it stands for another request.
    """
    values = {
        **_named(key),
        "operation_id": operation_id,
        "batch_id": batch_id,
        "fingerprint": fingerprint,
        "is_final": True,
        "created_at": now,
    }
    if connection.execute(insert_or_ignore(connection, keys), values).rowcount:
        return None
    row = connection.execute(_select(key).with_for_update()).one()
    if row.is_final and row.fingerprint == fingerprint:
        return row
    if row.is_final and not _is_over(connection, row, now):
        message = (
            f"The idempotency key {key.key!r} stands for another request. "
            "Use a new key for a new request."
        )
        raise IdempotencyConflictError(message)
    connection.execute(update(keys).where(*_is(key)).values(values))
    return None


def find(connection: Connection, key: IdempotencyKey) -> Row[Any] | None:
    """Look up what a key stands for; None: nothing, it may be tried anew."""
    return connection.execute(_select(key).where(keys.c.is_final)).one_or_none()


def point(connection: Connection, key: IdempotencyKey, operation_id: str) -> None:
    """Let a key stand for another operation."""
    connection.execute(update(keys).where(*_is(key)).values(operation_id=operation_id))


def forgive(connection: Connection, operation_id: str) -> None:
    """Let the keys of an operation be tried anew: nothing was charged."""
    connection.execute(
        update(keys).where(keys.c.operation_id == operation_id).values(is_final=False)
    )


def _is_over(connection: Connection, row: Row[Any], now: int) -> bool:
    """Tell whether a key is old enough, and what it stood for has ended."""
    if row.created_at > now - KEPT:
        return False
    table, own = (
        (batches, row.batch_id) if row.batch_id else (operations, row.operation_id)
    )
    ended = select(table.c.id).where(table.c.id == own, table.c.finished_at.is_(None))
    return connection.execute(ended).first() is None


def _select(key: IdempotencyKey) -> Select[Any]:
    return select(keys).where(*_is(key))


def _is(key: IdempotencyKey) -> tuple[ColumnElement[bool], ...]:
    return tuple(keys.c[name] == value for name, value in _named(key).items())


def _named(key: IdempotencyKey) -> dict[str, str]:
    return {
        name: identifier(value, name=f"The idempotency key's {name}")
        for name, value in (
            ("principal", key.principal),
            ("route", key.route),
            ("key", key.key),
        )
    }
