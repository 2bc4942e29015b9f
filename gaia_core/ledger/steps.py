"""The life of an operation, one transaction a step."""

from collections.abc import Iterable
from typing import Any, cast

import attrs
from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from gaia_core.capabilities import Capability
from gaia_core.errors import LeaseLostError, LedgerError
from gaia_core.ledger import balances, batch_book, keys, results_index, rows
from gaia_core.ledger.operations import (
    Failure,
    Operation,
    OperationState,
    Settlement,
)
from gaia_core.ledger.reports import BudgetAlert
from gaia_core.ledger.tables import attempts, images, operations
from gaia_core.responses import Attempt, StoredImage
from gaia_core.settings import BudgetSettings

Alerts = tuple[BudgetAlert, ...]

_CLOSED = frozenset(
    {OperationState.DONE, OperationState.FAILED, OperationState.CANCELLED}
)
# Statements are built once: building takes longer than SQLite takes to run them.
_TAKE_ON = insert(operations)
_TRY = insert(attempts)
_SHOW = insert(images)
_LATEST = (
    select(func.max(attempts.c.number))
    .where(
        attempts.c.operation_id == bindparam("own"),
        attempts.c.task_id == bindparam("task"),
    )
    .scalar_subquery()
)
_REPLACE = update(attempts).where(
    attempts.c.operation_id == bindparam("own"), attempts.c.number == _LATEST
)
_CHANGE = update(operations).where(
    operations.c.id == bindparam("own"),
    operations.c.owner == bindparam("by"),
    operations.c.fence == bindparam("under"),
)
# What a step needs of an operation: not what was asked for, nor the answer.
_STAND = (
    select(
        *(operations.c.id, operations.c.capability, operations.c.state),
        *(operations.c.user_id, operations.c.campaign_id, operations.c.day),
        *(operations.c.reserved, operations.c.cost, operations.c.result_key),
        *(operations.c.batch_id, operations.c.owner, operations.c.fence),
        operations.c.finished_at,
    )
    .where(operations.c.id == bindparam("own"))
    .with_for_update()
)


@attrs.frozen(kw_only=True)
class Hand:
    """
    Who writes: a process, and the number of the lease it believes it has.

    Attributes:
        worker: The process.
        budgets: What may be spent.
        fence: The number of the lease; None: the one on record, if it is ours.
    """

    worker: str
    budgets: BudgetSettings
    fence: int | None = None


# -- beginning ----------------------------------------------------------------------


def accept(
    connection: Connection, hand: Hand, operation: Operation
) -> tuple[Operation, Alerts]:
    """Take an operation on, unless one stands for it already."""
    now = rows.now()
    values = {**rows.values_of(operation, now), "owner": hand.worker}
    standing = _standing_for(connection, operation, now)
    if standing is not None:
        return _read(connection, standing), ()
    connection.execute(_TAKE_ON, values)
    alerts = balances.reserve(
        connection,
        hand.budgets,
        operation_id=operation.id,
        user_id=operation.user_id,
        campaign_id=operation.campaign_id,
        day=values["day"],
        amount=values["reserved"],
    )
    return operation, alerts


def send(
    connection: Connection, hand: Hand, operation_id: str, attempt: Attempt
) -> Alerts:
    """Note an attempt, and hold what it may cost."""
    row = owned(connection, hand, operation_id)
    if row.state in _CLOSED:
        message = f"Operation {operation_id} has ended ({row.state}): nothing is sent."
        raise LeaseLostError(message)
    so_far = _so_far(connection, row)
    more = max(0, rows.micros(so_far.needs(attempt)) - row.reserved)
    alerts = balances.reserve(connection, hand.budgets, **_payer(row), amount=more)
    connection.execute(
        _TRY,
        {
            **_named(attempt),
            "operation_id": operation_id,
            **rows.values_of_attempt(attempt),
            "number": len(so_far.attempts) + 1,
            "price": rows.micros(attempt.cost_usd),
            "cost": None,
            "sent_at": rows.now(),
            "reference": attempt.reference and rows.clean(attempt.reference),
        },
    )
    _update(
        connection, row, state=str(OperationState.SENT), reserved=row.reserved + more
    )
    return alerts


def end_attempt(
    connection: Connection, hand: Hand, operation_id: str, attempt: Attempt
) -> None:
    """Note how the latest attempt ended."""
    row = owned(connection, hand, operation_id)
    _replace_latest(connection, row.id, attempt)


def receive(
    connection: Connection, hand: Hand, operation_id: str, attempt: Attempt
) -> None:
    """Note that it is made and paid, and that its pictures wait to be stored."""
    row = owned(connection, hand, operation_id)
    _replace_latest(connection, row.id, attempt)
    if row.state not in _CLOSED:
        _update(connection, row, state=str(OperationState.RECEIVED))


# -- end ----------------------------------------------------------------------------


def settle(
    connection: Connection, hand: Hand, operation_id: str, settlement: Settlement
) -> Alerts:
    """Close an operation that succeeded; one that is done stays as it is."""
    row = owned(connection, hand, operation_id)
    if row.state == OperationState.DONE:
        return ()
    if settlement.attempt is not None:
        _replace_latest(connection, row.id, settlement.attempt)
    _keep_images(connection, row.id, settlement.images)
    already = row.cost or 0
    cost = rows.micros(settlement.cost_usd)
    spent = already + row.reserved if cost is None else cost
    alerts = _pay(connection, hand, row, kind="settle", spent=spent - already)
    _close(
        connection,
        row,
        state=str(OperationState.DONE),
        cost=cost if cost is not None else spent or None,
        images=len(settlement.images),
        provider=settlement.provider,
        model=rows.clean(settlement.model),
        answer=rows.dump(settlement.answer),
    )
    if settlement.result_key not in {None, row.result_key}:
        results_index.claim(connection, settlement.result_key, row.id, rows.now())
    _note_end(connection, row, OperationState.DONE, _made(settlement, spent))
    return alerts


def fail(
    connection: Connection, hand: Hand, operation_id: str, failure: Failure
) -> Alerts:
    """Close an operation that failed; one that has closed stays as it is."""
    row = owned(connection, hand, operation_id)
    if row.state in _CLOSED:
        return ()
    words = {
        "error_type": rows.clean(failure.error_type),
        "error": rows.clean(failure.error),
    }
    if failure.state is OperationState.UNKNOWN:
        _close(
            connection, row, state=str(failure.state), reserved=row.reserved, **words
        )
        _note_end(connection, row, failure.state, words)
        return ()
    known = failure.cost_usd
    cost_usd = _so_far(connection, row).spent_usd if known is None else known
    spent = rows.micros(cost_usd)
    kind = "settle" if spent else "release"
    alerts = _pay(connection, hand, row, kind=kind, spent=spent - (row.cost or 0))
    _close(connection, row, state=str(failure.state), cost=spent, **words)
    if row.result_key is not None:
        results_index.forget(connection, row.result_key, row.id)
    if not failure.is_final:
        keys.forgive(connection, row.id)
    cost = {"cost_usd": str(rows.dollars(spent))}
    _note_end(connection, row, failure.state, {**words, **cost})
    return alerts


# -- whose it is --------------------------------------------------------------------


def owned(connection: Connection, hand: Hand, operation_id: str) -> Row[Any]:
    """
    Read an operation that this process holds, and keep others from changing it.

    Raises:
        LeaseLostError: If another process has taken it over.
        LedgerError: If there is none.
    """
    row = connection.execute(_STAND, {"own": operation_id}).one_or_none()
    if row is None:
        message = f"The ledger knows no operation {operation_id}."
        raise LedgerError(message)
    if row.owner != hand.worker or hand.fence not in {None, row.fence}:
        message = (
            f"Operation {operation_id} was taken over by another process: "
            "this one writes nothing more. Look it up by its id."
        )
        raise LeaseLostError(message)
    return cast("Row[Any]", row)


def held(connection: Connection, ids: Iterable[str]) -> list[tuple[Operation, int]]:
    """Read operations and the number of the lease on each, in the order of the ids."""
    ids = list(ids)
    found = {one.id: one for one in rows.read(connection, operations.c.id.in_(ids))}
    query = select(operations.c.id, operations.c.fence)
    leases = connection.execute(query.where(operations.c.id.in_(ids)))
    fences = {row.id: row.fence for row in leases}
    return [(found[one], fences[one]) for one in ids]


def _update(connection: Connection, row: Row[Any], **values: Any) -> None:
    """Change an operation, if it is still held under the same lease."""
    lease = {"own": row.id, "by": row.owner, "under": row.fence}
    connection.execute(_CHANGE, {**lease, **values, "updated_at": rows.now()})


def _close(connection: Connection, row: Row[Any], **values: Any) -> None:
    settled = {"reserved": 0, "error_type": None, "error": None, **values}
    _update(connection, row, finished_at=rows.now(), **settled)


# -- parts --------------------------------------------------------------------------


def _standing_for(connection: Connection, operation: Operation, now: int) -> str | None:
    """Claim an operation's keys; give the operation that stands for it already."""
    key, standing = operation.key, None
    if key is not None:
        row = keys.claim(
            connection, key, operation.fingerprint, operation_id=operation.id, now=now
        )
        if row is not None:
            return str(row.operation_id)
    if operation.result_key is not None:
        standing = results_index.claim(
            connection, operation.result_key, operation.id, now
        )
    if key is not None and standing is not None:
        keys.point(connection, key, standing)
    return standing


def _read(connection: Connection, operation_id: str) -> Operation:
    (operation,) = rows.read(connection, operations.c.id == operation_id)
    return operation


def _so_far(connection: Connection, row: Row[Any]) -> Operation:
    """Give what money is decided by: what is held, and what was tried."""
    is_fresh = row.state == OperationState.ACCEPTED
    tried = () if is_fresh else rows.attempts_of(connection, [row.id])[row.id]
    return Operation(
        id=row.id,
        capability=Capability(row.capability),
        reserved_usd=rows.dollars(row.reserved),
        attempts=tuple(tried),
    )


def _pay(
    connection: Connection, hand: Hand, row: Row[Any], *, kind: str, spent: int
) -> Alerts:
    """Let go of what is held, and count what is spent."""
    return balances.change(
        connection,
        **_payer(row),
        kind=kind,
        reserved=-row.reserved,
        spent=spent,
        budgets=hand.budgets,
    )


def _payer(row: Row[Any]) -> dict[str, Any]:
    return {
        "operation_id": row.id,
        "user_id": row.user_id,
        "campaign_id": row.campaign_id,
        "day": row.day,
    }


def _replace_latest(
    connection: Connection, operation_id: str, attempt: Attempt
) -> None:
    connection.execute(
        _REPLACE,
        {
            "own": operation_id,
            "task": attempt.task_id,
            **_named(attempt),
            **rows.values_of_attempt(attempt),
            "ended_at": rows.now(),
        },
    )


def _named(attempt: Attempt) -> dict[str, Any]:
    return {
        "provider": attempt.provider,
        "model": rows.clean(attempt.model),
        "task_id": attempt.task_id,
    }


def _keep_images(
    connection: Connection, operation_id: str, stored: tuple[StoredImage, ...]
) -> None:
    if stored:
        connection.execute(
            _SHOW,
            [
                rows.values_of_image(operation_id, place, image)
                for place, image in enumerate(stored)
            ],
        )


def _made(settlement: Settlement, spent: int) -> dict[str, Any]:
    return {
        "cost_usd": str(rows.dollars(spent)),
        "images": [
            {"id": image.id, "sha256": image.sha256} for image in settlement.images
        ],
    }


def _note_end(
    connection: Connection, row: Row[Any], state: OperationState, data: dict[str, Any]
) -> None:
    """Tell the batch it is an item of."""
    if row.batch_id is not None:
        batch_book.note_end(connection, row.id, str(state), data, rows.now())
