"""The ledger of one process."""

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

import attrs

from gaia_core.errors import IdempotencyConflictError
from gaia_core.ledger.operations import (
    Failure,
    IdempotencyKey,
    Operation,
    OperationState,
    Settlement,
    with_ended,
)
from gaia_core.ledger.reports import BudgetState, Problem, UsageRow, groups_of
from gaia_core.responses import Attempt

MAX_OPERATIONS = 10_000
"""How many finished operations are kept; the oldest are forgotten first."""

_NOTHING = Decimal(0)
_SHARED = frozenset(
    {OperationState.ACCEPTED, OperationState.SENT, OperationState.RECEIVED}
)


@attrs.define(eq=False)
class MemoryLedger:
    """
    Keeps the latest operations in memory, until the process ends.

    For tests and for hosts that keep no book: no budgets, no batches.
    """

    keeps_budgets: ClassVar[bool] = False
    batches: ClassVar[None] = None
    gallery: ClassVar[None] = None
    access: ClassVar[None] = None
    _under_way: dict[str, Operation] = attrs.field(factory=dict, init=False)
    _finished: OrderedDict[str, Operation] = attrs.field(
        factory=OrderedDict, init=False
    )
    # Operation and fingerprint: it may be answered by an equal request's operation.
    _keys: dict[IdempotencyKey, tuple[str, str]] = attrs.field(factory=dict, init=False)
    _results: dict[str, str] = attrs.field(factory=dict, init=False)
    # The operation of each attempt that has not ended.
    _tasks: dict[str, str] = attrs.field(factory=dict, init=False)

    async def open(self) -> None:
        """Be ready: there is nothing to prepare."""

    async def accept(self, operation: Operation) -> Operation:
        """Take an operation on, unless one stands for it already."""
        standing = self._standing_for(operation)
        if standing is not None:
            return standing
        self._under_way[operation.id] = operation
        self._point(operation.key, operation.id, operation.fingerprint)
        if operation.result_key is not None:
            self._results[operation.result_key] = operation.id
        return operation

    async def send(self, operation_id: str, attempt: Attempt) -> None:
        """Note an attempt before anything is sent, and hold what it may cost."""
        operation = self._known(operation_id)
        self._tasks[attempt.task_id] = operation_id
        self._change(
            operation_id,
            state=OperationState.SENT,
            attempts=(*operation.attempts, attempt),
            reserved_usd=operation.needs(attempt),
        )

    async def refer(self, references: Mapping[str, str]) -> None:
        """Note what attempts can be looked up by; one that has ended stays as it is."""
        for task_id in references.keys() & self._tasks.keys():
            operation_id = self._tasks[task_id]
            is_open = operation_id in self._under_way
            book = self._under_way if is_open else self._finished
            book[operation_id] = _referring(
                book[operation_id], task_id, references[task_id]
            )

    async def end_attempt(self, operation_id: str, attempt: Attempt) -> None:
        """Note how the latest attempt ended."""
        self._change(operation_id, attempts=self._with_ended(operation_id, attempt))

    async def settle(self, operation_id: str, settlement: Settlement) -> None:
        """Close an operation that succeeded."""
        self._change(
            operation_id,
            state=OperationState.DONE,
            attempts=self._with_ended(operation_id, settlement.attempt),
            provider=settlement.provider,
            model=settlement.model,
            cost_usd=settlement.cost_usd,
            reserved_usd=_NOTHING,
            image_ids=tuple(image.id for image in settlement.images),
            answer=settlement.answer,
            error=None,
            error_type=None,
        )
        if settlement.result_key is not None:
            self._results.setdefault(settlement.result_key, operation_id)

    async def receive(self, operation_id: str, attempt: Attempt) -> None:
        """Note that its pictures wait to be stored."""
        attempts = self._with_ended(operation_id, attempt)
        state = OperationState.RECEIVED
        self._change(operation_id, state=state, attempts=attempts)

    async def fail(self, operation_id: str, failure: Failure) -> None:
        """Close an operation that failed; an unknown outcome keeps its money held."""
        operation = self._known(operation_id)
        changes: dict[str, Any] = {}
        if failure.state is not OperationState.UNKNOWN:
            known = failure.cost_usd
            spent = operation.spent_usd if known is None else known
            changes = {"cost_usd": spent, "reserved_usd": _NOTHING}
            await self.forget_result(operation.result_key or "", operation_id)
        if not failure.is_final:
            self._forgive(operation_id)
        self._change(
            operation_id,
            state=failure.state,
            error_type=failure.error_type,
            error=failure.error,
            **changes,
        )

    async def get(self, operation_id: str) -> Operation | None:
        """Look an operation up."""
        return self._under_way.get(operation_id) or self._finished.get(operation_id)

    async def find(self, key: IdempotencyKey) -> Operation | None:
        """Look up the operation a key stands for."""
        operation_id, _ = self._keys.get(key, ("", ""))
        return await self.get(operation_id)

    async def find_result(self, result_key: str) -> Operation | None:
        """Look up the operation that is done under a result key."""
        operation = await self.get(self._results.get(result_key, ""))
        is_done = operation is not None and operation.state is OperationState.DONE
        return operation if is_done else None

    async def forget_result(self, result_key: str, operation_id: str) -> None:
        """Let the next equal request be made anew, if this operation stands for it."""
        if self._results.get(result_key) == operation_id:
            del self._results[result_key]

    async def adopt(self, limit: int = 100) -> Sequence[Operation]:  # noqa: ARG002  the interface
        """Take over nothing: what was left behind is forgotten."""
        return ()

    async def reopen(self, operation_id: str) -> Operation | None:
        """Take up an operation whose outcome is unknown: it is under way once more."""
        operation = self._finished.get(operation_id)
        if operation is None or operation.state is not OperationState.UNKNOWN:
            return None
        del self._finished[operation_id]
        reopened = attrs.evolve(operation, state=OperationState.SENT, finished_at=None)
        self._under_way[operation_id] = reopened
        return reopened

    async def listed(
        self,
        *,
        state: str | None = None,
        principal: str | None = None,
        limit: int = 100,
    ) -> Sequence[Operation]:
        """List operations, newest first."""
        every = (*self._finished.values(), *self._under_way.values())
        chosen = [
            one
            for one in every
            if state in (None, one.state) and principal in (None, one.principal)
        ]
        newest = sorted(chosen, key=lambda one: one.created_at, reverse=True)
        return newest[: max(0, limit)]

    async def expire_holds(self) -> int:
        """Count nothing as spent: nothing is kept for so long."""
        return 0

    async def usage(
        self,
        by: Sequence[str],
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        principal: str | None = None,
    ) -> Sequence[UsageRow]:
        """Add up what was made and spent."""
        words = groups_of(by)
        groups: dict[tuple[str | None, ...], list[Operation]] = defaultdict(list)
        for one in (*self._finished.values(), *self._under_way.values()):
            if principal not in (None, one.principal):
                continue
            is_early = since is not None and one.created_at < since
            if not is_early and (until is None or one.created_at < until):
                groups[tuple(_value(one, word) for word in words)].append(one)
        return [
            _row(dict(zip(words, values, strict=True)), group)
            for values, group in groups.items()
        ]

    async def budget_states(
        self,
        *,
        user_id: str | None = None,  # noqa: ARG002  the interface
        campaign_id: str | None = None,  # noqa: ARG002  the interface
    ) -> Sequence[BudgetState]:
        """Tell of none: it keeps no budgets."""
        return ()

    async def check(self) -> Sequence[Problem]:
        """Find nothing: the book is what the process says it is."""
        return ()

    async def close(self) -> None:
        """Forget nothing: the book may still be read."""

    def _standing_for(self, operation: Operation) -> Operation | None:
        """Find what an equal idempotency key or result key stands for."""
        key, result = operation.key, operation.result_key
        operation_id, fingerprint = self._keys.get(key, ("", "")) if key else ("", "")
        if key is not None and self._is_known(operation_id):
            if fingerprint != operation.fingerprint:
                message = f"The idempotency key {key.key!r} stands for another request."
                raise IdempotencyConflictError(message)
            return self._known(operation_id)
        operation_id = self._results.get(result or "", "")
        if self._is_known(operation_id):
            standing = self._known(operation_id)
            if standing.state in _SHARED or standing.state is OperationState.DONE:
                self._point(key, standing.id, operation.fingerprint)
                return standing
        return None

    def _with_ended(
        self, operation_id: str, attempt: Attempt | None
    ) -> tuple[Attempt, ...]:
        if attempt is not None:
            self._tasks.pop(attempt.task_id, None)
        return with_ended(self._known(operation_id).attempts, attempt)

    def _is_known(self, operation_id: str) -> bool:
        return operation_id in self._under_way or operation_id in self._finished

    def _known(self, operation_id: str) -> Operation:
        return self._under_way.get(operation_id) or self._finished[operation_id]

    def _change(self, operation_id: str, **changes: Any) -> None:
        operation = attrs.evolve(self._known(operation_id), **changes)
        if not operation.state.is_final:
            self._under_way[operation_id] = operation
            return
        self._under_way.pop(operation_id, None)
        self._finished[operation_id] = attrs.evolve(
            operation, finished_at=datetime.now(UTC)
        )
        while len(self._finished) > MAX_OPERATIONS:
            _, oldest = self._finished.popitem(last=False)
            self._forget(oldest)

    def _point(
        self, key: IdempotencyKey | None, operation_id: str, fingerprint: str
    ) -> None:
        """Let a key stand for an operation."""
        if key is None:
            return
        self._keys[key] = (operation_id, fingerprint)
        while len(self._keys) > MAX_OPERATIONS:
            del self._keys[next(iter(self._keys))]

    def _forgive(self, operation_id: str) -> None:
        """Let the keys of an operation be tried anew."""
        kept = self._keys.items()
        self._keys = {key: own for key, own in kept if own[0] != operation_id}

    def _forget(self, operation: Operation) -> None:
        """Let go of what stands for an operation; other keys end by themselves."""
        for attempt in operation.attempts:
            self._tasks.pop(attempt.task_id, None)
        if operation.key and self._keys.get(operation.key, ("",))[0] == operation.id:
            del self._keys[operation.key]
        result = operation.result_key
        if result and self._results.get(result) == operation.id:
            del self._results[result]


def _referring(operation: Operation, task_id: str, reference: str) -> Operation:
    """Note what the latest attempt of a task can be looked up by."""
    latest = [one for one in operation.attempts if one.task_id == task_id][-1]
    noted = attrs.evolve(latest, reference=reference)
    return attrs.evolve(operation, attempts=with_ended(operation.attempts, noted))


def _value(operation: Operation, word: str) -> str | None:
    """Give what an operation is grouped by."""
    latest = operation.attempts[-1] if operation.attempts else None
    values = {
        "day": f"{operation.created_at.astimezone(UTC):%Y-%m-%d}",
        "provider": operation.provider or (latest.provider if latest else None),
        "model": operation.model or (latest.model if latest else None),
        "campaign": operation.campaign_id,
        "user": operation.user_id,
    }
    return values[word]


def _row(group: dict[str, str | None], operations: Iterable[Operation]) -> UsageRow:
    every = list(operations)
    states = Counter(one.state for one in every)
    return UsageRow(
        group=group,
        operations=len(every),
        done=states[OperationState.DONE],
        failed=states[OperationState.FAILED],
        unknown=states[OperationState.UNKNOWN],
        cancelled=states[OperationState.CANCELLED],
        images=sum(len(one.image_ids) for one in every),
        cost_usd=sum((one.cost_usd or _NOTHING for one in every), _NOTHING),
        held_usd=sum((one.reserved_usd for one in every), _NOTHING),
    )
