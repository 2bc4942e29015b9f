"""What attempts can be looked up by, beside their task ids."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from gaia_core.errors import LeaseLostError
from gaia_core.ledger import rows
from gaia_core.ledger.tables import attempts, operations

AT_ONCE = 500
"""How many are looked for in one statement: databases take so many values."""

_UNDER_WAY = (
    select(
        *(attempts.c.task_id, attempts.c.operation_id, attempts.c.number),
        *(operations.c.owner, operations.c.fence),
    )
    .join(operations, operations.c.id == attempts.c.operation_id)
    .where(
        attempts.c.task_id.in_(bindparam("tasks", expanding=True)),
        attempts.c.ended_at.is_(None),
    )
    .order_by(operations.c.id)
    .with_for_update(of=operations)
)
_NOTE = update(attempts).where(
    attempts.c.operation_id == bindparam("own"),
    attempts.c.number == bindparam("place"),
)


def refer(
    connection: Connection,
    references: Mapping[str, str],
    *,
    worker: str,
    fence_of: Callable[[str], int | None],
) -> None:
    """
    Note what attempts can be looked up by; one that has ended stays as it is.

    Args:
        connection: The transaction.
        references: Task id to reference.
        worker: Who writes.
        fence_of: Gives the number of the lease that the worker believes it has on
            an operation; None: the one on record, if it is the worker's.

    Raises:
        LeaseLostError: If another process has taken one of them over.
    """
    for tasks in _portions(references):
        found = connection.execute(_UNDER_WAY, {"tasks": tasks}).all()
        for row in found:
            _check(row, worker, fence_of(row.operation_id))
        if found:
            connection.execute(_NOTE, [_values(row, references) for row in found])


def _portions(tasks: Iterable[str]) -> Iterator[Sequence[str]]:
    # Two writers that note the same ones never wait for each other.
    left = iter(sorted(tasks))
    while portion := list(itertools.islice(left, AT_ONCE)):
        yield portion


def _check(row: Any, worker: str, fence: int | None) -> None:
    if row.owner != worker or fence not in {None, row.fence}:
        message = (
            f"Operation {row.operation_id} was taken over by another process: "
            "this one writes nothing more. Look it up by its id."
        )
        raise LeaseLostError(message)


def _values(row: Any, references: Mapping[str, str]) -> dict[str, Any]:
    return {
        "own": row.operation_id,
        "place": row.number,
        "reference": rows.clean(references[row.task_id]),
    }
