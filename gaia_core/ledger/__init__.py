"""
The book of operations: what was asked, tried, made and paid.

`Ledger` is the interface the engine writes to; `MemoryLedger` keeps the book of
one process.
"""

from gaia_core.ledger.memory import MemoryLedger
from gaia_core.ledger.operations import Ledger, Operation, OperationState

__all__ = ["Ledger", "MemoryLedger", "Operation", "OperationState"]
