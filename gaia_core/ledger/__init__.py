"""
The book of operations: what was asked, tried, made and paid.

`Ledger` is the interface the engine writes to; `SqlLedger` keeps it in a database,
`MemoryLedger` for the life of one process.
"""

from gaia_core.ledger.batches import Batch, BatchBook, BatchEvent, BatchState
from gaia_core.ledger.contract import Ledger
from gaia_core.ledger.memory import MemoryLedger
from gaia_core.ledger.operations import (
    Failure,
    IdempotencyKey,
    Operation,
    OperationState,
    Settlement,
)
from gaia_core.ledger.reports import Problem, UsageRow

__all__ = [
    "Batch",
    "BatchBook",
    "BatchEvent",
    "BatchState",
    "Failure",
    "IdempotencyKey",
    "Ledger",
    "MemoryLedger",
    "Operation",
    "OperationState",
    "Problem",
    "Settlement",
    "UsageRow",
]
