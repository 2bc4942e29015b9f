"""
Tasks that vendors are still at work on, after whoever sent them is gone.

A vendor's batch of 50,000 tasks is asked about by one of them: while that one is
under way, so are the others.
"""

import itertools
import time
from collections.abc import Callable, Iterable

import attrs

from gaia_core.ledger import Operation
from gaia_core.lookups import reference_of
from gaia_core.responses import Attempt

PAUSE = 30.0
"""Seconds between two questions about the same batch, or the same task."""

Batch = tuple[str, str]
"""A provider, and what it knows the tasks by that it ends together."""


@attrs.define(eq=False, kw_only=True)
class Running:
    """
    Operations that are asked about again later, by what ends together.

    Attributes:
        pause: Seconds between two questions.
        clock: What time it is, in seconds.
    """

    pause: float = PAUSE
    clock: Callable[[], float] = time.monotonic
    _batches: dict[Batch, dict[str, None]] = attrs.field(factory=dict, init=False)
    _batch_of: dict[str, Batch] = attrs.field(factory=dict, init=False)
    _due: dict[Batch, float] = attrs.field(factory=dict, init=False)

    def __len__(self) -> int:
        """Count the operations."""
        return len(self._batch_of)

    def note(self, operation: Operation, attempt: Attempt) -> None:
        """Note that an attempt is under way still."""
        self.drop((operation.id,))
        reference = reference_of(operation.attempts, attempt.task_id)
        batch = (attempt.provider, reference or attempt.task_id)
        self._batches.setdefault(batch, {})[operation.id] = None
        self._batch_of[operation.id] = batch
        self._due[batch] = self.clock() + self.pause

    def due(self) -> list[Batch]:
        """Name the batches that may be asked about again."""
        now = self.clock()
        return [batch for batch, due in self._due.items() if due <= now]

    def of(self, batch: Batch, most: int) -> list[str]:
        """Name some operations of a batch, the oldest first."""
        return list(itertools.islice(self._batches.get(batch, ()), most))

    def drop(self, operation_ids: Iterable[str]) -> None:
        """Ask about operations no more: somebody does so now."""
        for operation_id in operation_ids:
            batch = self._batch_of.pop(operation_id, None)
            if batch is None:
                continue
            del self._batches[batch][operation_id]
            if not self._batches[batch]:
                del self._batches[batch], self._due[batch]

    def are_waiting(self, operation_ids: Iterable[str]) -> bool:
        """Tell whether any of some operations is asked about later."""
        return any(one in self._batch_of for one in operation_ids)
