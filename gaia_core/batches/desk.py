"""What batches are worked on with, and what becomes of one item."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import attrs

from gaia_core.batches.pacing import Pace
from gaia_core.batches.reading import request_of
from gaia_core.calls import words_of
from gaia_core.errors import (
    GaiaError,
    LeaseLostError,
    LedgerError,
    OutcomeClass,
    StorageError,
    TaskRunningError,
)
from gaia_core.ledger import (
    BatchBook,
    BatchState,
    Failure,
    Ledger,
    Operation,
    OperationState,
)
from gaia_core.metrics import Metrics
from gaia_core.observability import get_logger
from gaia_core.reliability import cost_in_all
from gaia_core.requests import Request
from gaia_core.responses import Response
from gaia_core.storage import ImageStorage


class Halt(Exception):  # noqa: N818  no failure of the item's: it is put back
    """The whole batch has to stop here; ``__cause__`` says why."""


@attrs.define(eq=False, kw_only=True)
class Desk:
    """
    Carries out one item after another; each ends in the ledger or is put back.

    Attributes:
        ledger: Where operations are kept.
        book: Where batches are kept.
        storage: Where the pictures that requests bring along are kept.
        carry_out: What serves an item.
        let_go: Leaves an item to itself where it is still carried out, though nobody
            waits; tells whether it is.
        metrics: What is told of items that ended.
        pace: When to wait.
    """

    ledger: Ledger
    book: BatchBook
    storage: ImageStorage
    carry_out: Callable[[Operation, Request], Awaitable[Response]]
    let_go: Callable[[str], bool]
    metrics: Metrics
    pace: Pace
    # What somebody else puts back, all of it together.
    _put_aside: set[str] = attrs.field(factory=set, init=False)

    async def do(self, item: Operation) -> None:
        """
        Carry an item out.

        Raises:
            Halt: If no other item could be carried out either.
            CancelledError: If it is to be left; what was sent goes on by itself.
        """
        try:
            await self._do(item)
        except asyncio.CancelledError:
            if item.id not in self._put_aside:
                await self.put_back(item)
            raise

    def put_aside(self, operation_ids: Iterable[str]) -> None:
        """Take over from `do` to put items back that are cancelled now."""
        self._put_aside.update(operation_ids)

    async def put_all_back(self, operation_ids: Iterable[str]) -> None:
        """Put back what was put aside, as far as nothing is on its way for it."""
        left = [one for one in operation_ids if not self.let_go(one)]
        if left:
            await self.book.release_all(left)
        self._put_aside.difference_update(operation_ids)

    async def is_unsent(self, operation_id: str) -> bool:
        """Tell whether an item was taken, and nothing is on its way for it."""
        found = await self.ledger.get(operation_id)
        if found is None or found.state is OperationState.LEASED:
            return found is not None
        return _is_free(found) and not _is_waiting(found)

    async def put_back(self, item: Operation) -> None:
        """Put an item back for which nothing was sent, or nothing came of it."""
        if self.let_go(item.id):
            return
        found = await self.ledger.get(item.id)
        if found is None or not _is_open(found):
            return
        # What is sent at this moment after all must not be put back.
        was_sent = found.state is not OperationState.LEASED
        await self.book.release(item.id, was_sent=was_sent)
        batch = await self.book.get(item.batch_id or "")
        if batch is not None and batch.state is BatchState.CANCELLED:
            # It came back after the others were called off.
            await self.book.cancel(batch.id)

    async def _do(self, item: Operation) -> None:
        try:
            request = await request_of(item, self.storage)
        except LedgerError as error:
            raise Halt from error
        except GaiaError as error:
            await self._fail(item, error)
            return
        try:
            await self.carry_out(item, request)
        except LeaseLostError:
            get_logger().warning("gaia.lease_lost", operation_id=item.id)
        except Exception as error:  # noqa: BLE001  no item may stop another
            await self._refused(item, error)
        else:
            self.pace.made()
            self._count(OperationState.DONE)

    async def _refused(self, item: Operation, error: Exception) -> None:
        """Find out what became of an item, and do what is left to do about it."""
        if self.let_go(item.id):
            # What was sent goes on by itself, whatever the time is.
            return
        found = await self.ledger.get(item.id)
        state = None if found is None else found.state
        is_fault = isinstance(error, StorageError | LedgerError)
        if found is None or found.state.is_final:
            self._count(state)
        elif found.state is OperationState.LEASED:
            await self._unsent(item, error)
        elif is_fault:
            # Paid, and not to be kept or written down: the next would end alike.
            raise Halt from error
        elif _is_free(found) and _is_waiting(found):
            await self._fail(item, error)
        elif _is_free(found):
            await self._unsent(item, error, is_put_off=True)

    async def _unsent(
        self, item: Operation, error: Exception, *, is_put_off: bool = False
    ) -> None:
        """Put an item back that may be done later, or fail it."""
        if isinstance(error, StorageError | LedgerError):
            # No room for pictures, or no book: that is no fault of the item's.
            await self.put_back(item)
            raise Halt from error
        if isinstance(error, TaskRunningError):
            # An equal item waits for its vendor: this one has its own turn later.
            is_put_off = True
        if self.pace.refused(error, is_put_off=is_put_off):
            await self.put_back(item)
        else:
            await self._fail(item, error)

    async def _fail(self, item: Operation, error: Exception) -> None:
        failure = Failure(
            state=OperationState.FAILED,
            error_type=type(error).__name__,
            error=words_of(error),
            is_final=False,
        )
        await self.ledger.fail(item.id, failure)
        self._count(OperationState.FAILED)

    def _count(self, state: OperationState | None) -> None:
        if state is not None:
            self.metrics.count("gaia_batch_items_total", state=str(state))


def _is_open(item: Operation) -> bool:
    """Tell whether an item may be put back, if nothing is on its way for it."""
    return item.state is OperationState.LEASED or _is_free(item)


def _is_free(item: Operation) -> bool:
    """Tell whether an item was sent, and nothing is owed for it."""
    is_sent = item.state is OperationState.SENT
    return is_sent and cost_in_all(item.attempts) == 0


def _is_waiting(item: Operation) -> bool:
    """Tell whether the latest attempt of an item has not been answered."""
    return item.attempts[-1].outcome is OutcomeClass.AMBIGUOUS
