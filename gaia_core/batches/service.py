"""Opening, running and looking up batches."""

import asyncio
import uuid
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Sequence,
)
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs

from gaia_core.bundles import Bundles
from gaia_core.errors import InvalidRequestError, LedgerError, SettingsError
from gaia_core.ledger import (
    Batch,
    BatchBook,
    BatchEvent,
    IdempotencyKey,
    Ledger,
    Operation,
    OperationState,
)
from gaia_core.metrics import Metrics, NoMetrics
from gaia_core.requests import Request
from gaia_core.responses import Response
from gaia_core.storage import ImageStorage

if TYPE_CHECKING:
    from gaia_core.batches.desk import Desk
    from gaia_core.batches.repeats import Origins, Repeats
    from gaia_core.batches.runs import Run
    from gaia_core.batches.spool import Spool

MAX_CONCURRENT = 8
"""How many items are under way at a time, unless said."""
NOT_DONE = frozenset(
    {OperationState.FAILED, OperationState.CANCELLED, OperationState.UNKNOWN}
)
"""What an item may end as that can be made again."""
AGAIN = NOT_DONE - {OperationState.UNKNOWN}
"""What is made again, unless said: of these nothing was made, or paid for nothing."""
_BREATH = 100
"""How many requests are written down before others get their turn."""

Requests = Iterable[Request] | AsyncIterable[Request]
"""What a batch is made of; gone through once."""
CarryOut = Callable[[Operation, Request], Awaitable[Response]]
"""Serves an operation that is leased, and writes into the ledger how it ended."""


async def nothing() -> None:
    """Do nothing: there is nobody to take care of it."""


async def nobody(_batch_id: str) -> None:
    """Tell nobody: there is no vendor who could stop."""


def nowhere(_operation_id: str) -> bool:
    """Say that nothing goes on once `CarryOut` has come back."""
    return False


@attrs.define(eq=False, kw_only=True)
class Batches:
    """
    Batches of requests: opened whole, worked on by whoever runs them.

    ::

        batch = await gaia.batches.open(requests, name="scenes")
        async for event in gaia.batches.run(batch.id):
            print(event.position, event.kind)

    Whatever happens to the process, `run` goes on where it was left, here or in
    another process.

    Attributes:
        ledger: Where operations and batches are kept.
        storage: Where the pictures that requests bring along are kept.
        estimate: What to hold for a request.
        carry_out: What serves an item that is leased.
        prepare: What middleware makes of a request.
        let_go: Leaves an item to itself where it is still carried out, though nobody
            waits; tells whether it is.
        adopt: Takes care of items whose process is gone.
        ready: Gets the ledger ready; called before each use.
        withdraw: Has vendors stop what they can of a batch that was called off.
        bundles: What items wait in for company.
        metrics: What is told of items that ended.
    """

    ledger: Ledger
    storage: ImageStorage
    estimate: Callable[[Request], Decimal]
    carry_out: CarryOut
    prepare: Callable[[Request], Request]
    let_go: Callable[[str], bool] = nowhere
    adopt: Callable[[], Awaitable[object]] = nothing
    ready: Callable[[], Awaitable[object]] = nothing
    withdraw: Callable[[str], Awaitable[object]] = nobody
    bundles: Bundles = attrs.field(factory=Bundles)
    metrics: Metrics = attrs.field(factory=NoMetrics)
    _runs: "set[Run]" = attrs.field(factory=set, init=False)

    async def open(
        self,
        requests: Requests,
        *,
        name: str = "",
        key: IdempotencyKey | None = None,
        principal: str = "",
    ) -> Batch:
        """
        Take a batch on: from here on nothing of it is lost.

        Args:
            requests: What is to be done; read one at a time, and all of them.
            name: What a person calls it.
            key: What recognises a repetition: the batch it stands for is given
                back then, and nothing is added to it.
            principal: Who asks.

        Raises:
            InvalidRequestError: If there is no request.
            IdempotencyConflictError: If the key stands for other requests.
            BudgetExceededError: If it costs more than a budget has left.
            StorageError: If a picture cannot be kept until its turn.
        """
        batch = _new(name=name, key=key, principal=principal)
        spool = self._spool(batch)
        try:
            await _fill(spool, requests)
            book = await self._ready_book()
            return await book.open(batch, spool)
        finally:
            spool.close()

    async def again(
        self,
        batch_id: str,
        *,
        states: Collection[OperationState | str] = AGAIN,
    ) -> Batch:
        """
        Take a batch on that makes again what another one did not make.

        What was made again before is not made once more; where that is still under
        way, the batch it is under way in is given back.

        Args:
            batch_id: The batch whose items are to be made again.
            states: Which of them, by how they ended: ``failed``, ``cancelled``, or
                ``unknown``, which may be paid twice.

        Returns:
            The batch; run it. One that has ended already, where nothing is left.

        Raises:
            InvalidRequestError: If there is no such batch, or nothing of it to make.
            BudgetExceededError: If it costs more than a budget has left.
        """
        from gaia_core.batches.repeats import (  # noqa: PLC0415 - most repeat none
            again_id,
            check_states,
            key_of,
            name_of,
        )

        wanted, source = check_states(states), await self._known(batch_id)
        batch = _new(name=name_of(source), key=None, principal=source.principal)
        spool, latest_batch, first = self._spool(batch), None, None
        try:
            async for latest in self._latest(batch_id):
                if latest.batch_id != batch_id:
                    latest_batch = latest.batch_id
                    if not latest.state.is_final:
                        return await self._known(str(latest_batch))
                if latest.state in wanted:
                    await spool.repeat(latest, again_id(latest.id))
                    first = first or again_id(latest.id)
            if first is None and latest_batch is not None:
                return await self._known(latest_batch)
            if first is None:
                names = " or ".join(sorted(wanted))
                message = f"No item of batch {batch_id} is {names}: none to make again."
                raise InvalidRequestError(message)
            return await self._open_once(batch, key_of(source, first), spool)
        finally:
            spool.close()

    async def origins(self, batch_id: str) -> "Origins":
        """
        Tell where the items of a batch come from, for one that `again` opened.

        Raises:
            InvalidRequestError: If there is no such batch.
        """
        return await self._repeats().origins(await self._known(batch_id))

    async def run(
        self, batch_id: str, *, max_concurrent: int = MAX_CONCURRENT, after: int = 0
    ) -> AsyncGenerator[BatchEvent, None]:
        """
        Work on a batch until it has ended, and tell what happens in it.

        Several may run the same batch, here and in other processes: each item is
        done once. Who closes the generator stops working: what was sent comes to its
        end in the ledger, what was not is put back, and the next `run` goes on.

        Args:
            batch_id: The batch.
            max_concurrent: Most items under way at a time.
            after: The number of the event to begin behind; 0 tells of everything,
                also of what happened before.

        Raises:
            InvalidRequestError: If there is no such batch.
            LedgerError: If the ledger cannot be written; run it again later.
            StorageError: If pictures cannot be kept; run it again later.
        """
        from gaia_core.batches.runs import Run  # noqa: PLC0415 - most run none

        if max_concurrent < 1:
            message = f"max_concurrent must be 1 or more, not {max_concurrent}."
            raise InvalidRequestError(message)
        await self._known(batch_id)
        run = Run(
            batch_id=batch_id,
            max_concurrent=max_concurrent,
            desk=self._desk(),
            adopt=self.adopt,
            withdraw=self.withdraw,
            bundles=self.bundles,
        )
        self._runs.add(run)
        events = run.events(after)
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()
            self._runs.discard(run)

    async def get(self, batch_id: str) -> Batch | None:
        """Look a batch up."""
        book = await self._ready_book()
        return await book.get(batch_id)

    async def find(self, key: IdempotencyKey) -> Batch | None:
        """Look up the batch a key stands for."""
        book = await self._ready_book()
        return await book.find(key)

    async def latest(
        self, limit: int = 20, *, principal: str | None = None, is_open: bool = False
    ) -> Sequence[Batch]:
        """
        List batches, newest first.

        Args:
            limit: At most so many.
            principal: Only those that this one asked for.
            is_open: Only those with items that have not ended.
        """
        book = await self._ready_book()
        return await book.latest(limit, principal=principal, is_open=is_open)

    async def events(
        self, batch_id: str, *, after: int = 0, limit: int = 1_000
    ) -> Sequence[BatchEvent]:
        """List what happened in a batch, from the event behind ``after``."""
        book = await self._ready_book()
        return await book.events(batch_id, after=after, limit=limit)

    async def cancel(self, batch_id: str) -> Batch:
        """
        Call a batch off; what was sent comes to its end.

        Vendors that can stop are asked to, for a minute at most. What they made all
        the same is kept and paid; what they say was never made ends as cancelled once
        somebody runs the batch.

        Raises:
            InvalidRequestError: If there is no such batch.
        """
        await self._known(batch_id)
        await self._book.cancel(batch_id)
        await self.withdraw(batch_id)
        return await self._known(batch_id)

    async def items(
        self, batch_id: str, *, after: int = -1
    ) -> AsyncIterator[Operation]:
        """Go through the items of a batch in order, behind a position."""
        book = await self._ready_book()
        async for item in book.items(batch_id, after=after):
            yield item

    async def close(self, patience: float | None = None) -> None:
        """
        Stop all that runs; called before the ledger is closed.

        Args:
            patience: Longest wait for what was sent, in seconds.
        """
        stopping = [asyncio.create_task(run.stop()) for run in self._runs]
        if stopping:
            await asyncio.wait(stopping, timeout=patience)

    @property
    def _book(self) -> BatchBook:
        book = self.ledger.batches
        if book is None:
            message = (
                "This ledger keeps no batches: open Gaia without `ledger`, or with "
                "SqlLedger."
            )
            raise SettingsError(message)
        return book

    async def _ready_book(self) -> BatchBook:
        await self.ready()
        return self._book

    async def _open_once(
        self, batch: Batch, key: IdempotencyKey, spool: "Spool"
    ) -> Batch:
        """Open a batch, or find the one that another process opened meanwhile."""
        try:
            return await self._book.open(attrs.evolve(batch, key=key), spool)
        except LedgerError:
            # Of two at the same moment, the later one meets items that are there.
            found = await self._book.find(key)
            if found is None:
                raise
            return found

    def _spool(self, batch: Batch) -> "Spool":
        from gaia_core.batches.spool import Spool  # noqa: PLC0415 - most open none

        return Spool(
            batch_id=batch.id,
            principal=batch.principal,
            storage=self.storage,
            prepare=self.prepare,
            estimate=self.estimate,
        )

    def _repeats(self) -> "Repeats":
        from gaia_core.batches.repeats import Repeats  # noqa: PLC0415 - as above

        return Repeats(ledger=self.ledger, book=self._book)

    async def _latest(self, batch_id: str) -> AsyncIterator[Operation]:
        """Go through what is not done, as it was made again the last time."""
        repeats = self._repeats()
        async for item in self._book.items(batch_id):
            if item.state in NOT_DONE:
                yield await repeats.latest(item)

    def _desk(self) -> "Desk":
        from gaia_core.batches.desk import Desk  # noqa: PLC0415 - only to run one
        from gaia_core.batches.pacing import Pace  # noqa: PLC0415 - as above

        return Desk(
            ledger=self.ledger,
            book=self._book,
            storage=self.storage,
            carry_out=self.carry_out,
            let_go=self.let_go,
            metrics=self.metrics,
            pace=Pace(),
        )

    async def _known(self, batch_id: str) -> Batch:
        book = await self._ready_book()
        batch = await book.get(batch_id)
        if batch is None:
            message = f"There is no batch {batch_id!r}."
            raise InvalidRequestError(message)
        return batch


def _new(*, name: str, key: IdempotencyKey | None, principal: str) -> Batch:
    return Batch(
        id=uuid.uuid4().hex,
        created_at=datetime.now(UTC),
        name=name,
        principal=principal,
        key=key,
    )


async def _fill(spool: "Spool", requests: Requests) -> None:
    count = 0
    async for request in _one_by_one(requests):
        try:
            await spool.add(_checked(request))
        except InvalidRequestError as error:
            message = f"Request {count + 1} of the batch: {error}"
            raise type(error)(message) from error
        count += 1
        if count % _BREATH == 0:
            await asyncio.sleep(0)
    if not count:
        message = "The batch is empty: it needs one request at least."
        raise InvalidRequestError(message)


def _checked(request: object) -> Request:
    if not isinstance(request, Request):
        names = ", ".join(kind.__name__ for kind in Request.__subclasses__())
        message = f"It is {type(request).__name__}, not one of {names}."
        raise InvalidRequestError(message)
    return request


async def _one_by_one(requests: Requests) -> AsyncIterator[Request]:
    if not isinstance(requests, Iterable | AsyncIterable):
        given = type(requests).__name__
        message = f"A batch takes a list or another iterable of requests, not {given}."
        raise InvalidRequestError(message)
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request
