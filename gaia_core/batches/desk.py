"""What batches are worked on with, and what becomes of one item."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs

from gaia_core.batches.pacing import Pace
from gaia_core.calls import words_of
from gaia_core.errors import (
    GaiaError,
    InvalidRequestError,
    LeaseLostError,
    LedgerError,
    StorageError,
)
from gaia_core.images import Image
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
from gaia_core.records import from_record
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
        metrics: What is told of items that ended.
        pace: When to wait.
    """

    ledger: Ledger
    book: BatchBook
    storage: ImageStorage
    carry_out: Callable[[Operation, Request], Awaitable[Response]]
    metrics: Metrics
    pace: Pace

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
            await self.put_back(item)
            raise

    async def is_unsent(self, operation_id: str) -> bool:
        """Tell whether an item was taken, and nothing was sent for it yet."""
        found = await self.ledger.get(operation_id)
        return found is not None and found.state is OperationState.LEASED

    async def put_back(self, item: Operation) -> None:
        """Put an item back for which nothing was sent."""
        if not await self.is_unsent(item.id):
            return
        await self.book.release(item.id)
        batch = await self.book.get(item.batch_id or "")
        if batch is not None and batch.state is BatchState.CANCELLED:
            # It came back after the others were called off.
            await self.book.cancel(batch.id)

    async def _do(self, item: Operation) -> None:
        try:
            request = await self._request_of(item)
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
        found = await self.ledger.get(item.id)
        state = None if found is None else found.state
        if state is OperationState.LEASED:
            await self._unsent(item, error)
        elif state is None or state.is_final:
            self._count(state)
        elif isinstance(error, StorageError | LedgerError):
            # Paid, and not to be kept or written down: the next would end alike.
            raise Halt from error
        # What was sent goes on by itself, whatever the time is.

    async def _unsent(self, item: Operation, error: Exception) -> None:
        """Put an item back that may be done later, or fail it."""
        if isinstance(error, StorageError | LedgerError):
            # No room for pictures, or no book: that is no fault of the item's.
            await self.put_back(item)
            raise Halt from error
        if self.pace.refused(error):
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

    async def _request_of(self, item: Operation) -> Request:
        """
        Read what was asked for, as it was written down.

        Raises:
            StorageError: If a picture it brought along is missing or damaged.
            InvalidRequestError: If it cannot be read.
        """
        if item.request is None:
            message = "The ledger does not say what was asked for."
            raise InvalidRequestError(message)
        pictures = {
            digest: await self.storage.read_input(digest)
            for digest in sorted(_digests(item.request))
        }
        return from_record(item.request, _reader(pictures))


def _reader(pictures: Mapping[str, Image]) -> Callable[[str], Image]:
    def read(digest: str) -> Image:
        if digest not in pictures:
            message = f"The picture {digest} is not where a picture belongs."
            raise InvalidRequestError(message)
        return pictures[digest]

    return read


def _digests(record: Mapping[str, Any]) -> set[str]:
    """Name the pictures a record refers to."""
    names = ("image", "mask_image")
    given = [record.get(name) for name in names]
    given += record.get("reference_images", ())
    return {one["sha256"] for one in given if isinstance(one, Mapping)}
