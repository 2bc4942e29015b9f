"""
The book of operations: what was asked, tried, made and paid.

`Ledger` is the interface the engine writes to; `SqlLedger` keeps it in a database,
`MemoryLedger` for the life of one process.
"""

from typing import TYPE_CHECKING

from gaia_core.ledger.batches import (
    Batch,
    BatchBook,
    BatchEvent,
    BatchState,
    SentItem,
)
from gaia_core.ledger.contract import Ledger
from gaia_core.ledger.memory import MemoryLedger
from gaia_core.ledger.operations import (
    Failure,
    IdempotencyKey,
    Operation,
    OperationState,
    Settlement,
)
from gaia_core.ledger.reports import BudgetAlert, BudgetState, Problem, UsageRow

if TYPE_CHECKING:
    from gaia_core.ledger.sql import SqlLedger

__all__ = [
    "Batch",
    "BatchBook",
    "BatchEvent",
    "BatchState",
    "BudgetAlert",
    "BudgetState",
    "Failure",
    "IdempotencyKey",
    "Ledger",
    "MemoryLedger",
    "Operation",
    "OperationState",
    "Problem",
    "SentItem",
    "Settlement",
    "SqlLedger",
    "UsageRow",
]


def __getattr__(name: str) -> object:
    """Import the ledger in a database when it is asked for: SQLAlchemy is slow."""
    if name == "SqlLedger":
        from gaia_core.ledger.sql import SqlLedger  # noqa: PLC0415

        return SqlLedger
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
