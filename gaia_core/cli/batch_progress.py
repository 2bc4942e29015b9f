"""The progress bar of a batch: on standard error, where a person sees it."""

import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from gaia_core.cli.operation import show_dollars
from gaia_core.cli.tables import clean
from gaia_core.ledger import Batch, BatchEvent

REFRESH = 0.2
"""Seconds between two looks at the figures."""

Figures = Callable[[], Awaitable[Batch | None]]
"""Reads a batch as it stands."""


@attrs.define(eq=False)
class BatchBar:
    """Shows how far a batch is; without a terminal it shows nothing."""

    _batch: Batch
    _bar: Any = None
    _task: Any = None
    _shown: float = 0.0
    _begun: set[str] = attrs.field(factory=set, init=False)

    async def refresh(self, event: BatchEvent, figures: Figures) -> None:
        """Show how things stand after an event; the figures may be a moment old."""
        if self._bar is None:
            return
        self._note(event)
        now = time.monotonic()
        if now >= self._shown + REFRESH:
            self._shown = now
            self._batch = await figures() or self._batch
        words = tally(self._batch, begun=len(self._begun))
        self._bar.update(self._task, completed=self._batch.ended, words=words)

    def _note(self, event: BatchEvent) -> None:
        if event.operation_id is None:
            return
        if event.kind == "started":
            self._begun.add(event.operation_id)
        else:
            self._begun.discard(event.operation_id)


@contextmanager
def batch_bar(batch: Batch) -> Iterator[BatchBar]:
    """Draw a bar while the block runs."""
    if not sys.stderr.isatty():
        yield BatchBar(batch)
        return
    from rich.console import Console  # noqa: PLC0415 - 60 ms
    from rich.progress import (  # noqa: PLC0415 - 60 ms
        BarColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[words]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(
            clean(batch.name or batch.id),
            total=batch.total,
            completed=batch.ended,
            words=tally(batch),
        )
        yield BatchBar(batch, bar, task)


def tally(batch: Batch, *, begun: int = 0) -> str:
    """
    Say in a few words how a batch stands.

    Args:
        batch: The batch.
        begun: How many of its items were begun and have not ended, if known.

    >>> from datetime import UTC, datetime
    >>> moment = datetime(2026, 11, 22, tzinfo=UTC)
    >>> tally(Batch(id="1", created_at=moment, total=9, done=5, failed=1))
    '5 of 9 done, 1 failed, free'
    >>> tally(Batch(id="1", created_at=moment, total=9), begun=4)
    '0 of 9 done, 4 begun, free'
    """
    counts = {
        "begun": begun,
        "failed": batch.failed,
        "unknown": batch.unknown,
        "cancelled": batch.cancelled,
    }
    others = (f"{count} {word}" for word, count in counts.items() if count)
    done = f"{batch.done} of {batch.total} done"
    cost = show_dollars(batch.cost_usd) if batch.cost_usd else "free"
    return ", ".join([done, *others, cost])
