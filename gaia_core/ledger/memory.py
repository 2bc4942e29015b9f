"""The ledger of one process."""

from collections import OrderedDict
from decimal import Decimal
from typing import Any, ClassVar

import attrs

from gaia_core.ledger.operations import Operation, OperationState
from gaia_core.responses import Attempt

MAX_OPERATIONS = 10_000
"""How many finished operations are kept; the oldest are forgotten first."""

_NOTHING = Decimal(0)
_OPEN = frozenset({OperationState.ACCEPTED, OperationState.SENT})


@attrs.define(eq=False)
class MemoryLedger:
    """Keeps the latest operations in memory, until the process ends."""

    keeps_budgets: ClassVar[bool] = False
    _under_way: dict[str, Operation] = attrs.field(factory=dict, init=False)
    _finished: OrderedDict[str, Operation] = attrs.field(
        factory=OrderedDict, init=False
    )

    async def accept(self, operation: Operation) -> None:
        """Take an operation on."""
        self._under_way[operation.id] = operation

    async def send(self, operation_id: str, attempt: Attempt) -> None:
        """Note an attempt before anything is sent, and hold what it may cost."""
        operation = self._known(operation_id)
        self._change(
            operation_id,
            state=OperationState.SENT,
            attempts=(*operation.attempts, attempt),
            reserved_usd=max(operation.reserved_usd, attempt.cost_usd or _NOTHING),
        )

    async def end_attempt(self, operation_id: str, attempt: Attempt) -> None:
        """Note how the latest attempt ended."""
        tried = (*self._known(operation_id).attempts[:-1], attempt)
        self._change(operation_id, attempts=tried)

    async def settle(
        self, operation_id: str, cost_usd: Decimal | None, image_ids: tuple[str, ...]
    ) -> None:
        """Close an operation that succeeded."""
        self._change(
            operation_id,
            state=OperationState.DONE,
            cost_usd=cost_usd,
            reserved_usd=_NOTHING,
            image_ids=image_ids,
        )

    async def fail(self, operation_id: str, state: OperationState, error: str) -> None:
        """Close an operation that failed; an unknown outcome keeps its money held."""
        changes: dict[str, Any] = {"state": state, "error": error}
        if state is not OperationState.UNKNOWN:
            attempts = self._known(operation_id).attempts
            costs = (attempt.cost_usd or _NOTHING for attempt in attempts)
            changes["cost_usd"] = sum(costs, _NOTHING)
            changes["reserved_usd"] = _NOTHING
        self._change(operation_id, **changes)

    async def get(self, operation_id: str) -> Operation | None:
        """Look an operation up."""
        return self._under_way.get(operation_id) or self._finished.get(operation_id)

    async def close(self) -> None:
        """Forget nothing: the book may still be read."""

    def _known(self, operation_id: str) -> Operation:
        return self._under_way.get(operation_id) or self._finished[operation_id]

    def _change(self, operation_id: str, **changes: Any) -> None:
        operation = attrs.evolve(self._known(operation_id), **changes)
        if operation.state in _OPEN:
            self._under_way[operation_id] = operation
            return
        self._under_way.pop(operation_id, None)
        self._finished[operation_id] = operation
        while len(self._finished) > MAX_OPERATIONS:
            self._finished.popitem(last=False)
