"""One process's work on one batch."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from functools import partial

import attrs

from gaia_core.batches.desk import Desk, Halt
from gaia_core.bundles import Bundles
from gaia_core.calls import words_of
from gaia_core.errors import GaiaError, LedgerError
from gaia_core.ledger import BatchEvent, BatchState, Operation
from gaia_core.observability import get_logger

POLL = 0.5
"""Seconds after which a run looks what other processes have done."""
ADOPTING = 5.0
"""Seconds between two looks for items whose process is gone."""
TELLING, RARELY = 1.0, 30.0
"""The pauses between two words to vendors that a batch was called off."""
PAGE = 500
"""How many events are read at once."""


@attrs.define(eq=False, kw_only=True)
class Run:
    """
    Leases items in order, a few at a time, until none is left.

    Attributes:
        batch_id: The batch.
        max_concurrent: Most items at a time; none is leased before there is room.
        desk: What carries an item out.
        adopt: Takes care of items whose process is gone.
        withdraw: Has vendors stop what they can, if the batch was called off.
        bundles: What items wait in for company; those take nobody's place.
    """

    batch_id: str
    max_concurrent: int
    desk: Desk
    adopt: Callable[[], Awaitable[object]]
    withdraw: Callable[[str], Awaitable[object]]
    bundles: Bundles = attrs.field(factory=Bundles)
    _under_way: dict[str, asyncio.Task[None]] = attrs.field(factory=dict, init=False)
    _waiting: set[str] = attrs.field(factory=set, init=False)
    _is_stopping: bool = attrs.field(default=False, init=False)
    _reason: BaseException | None = attrs.field(default=None, init=False)
    _room: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _news: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _looked: float = attrs.field(default=0.0, init=False)
    _adopted: float = attrs.field(default=0.0, init=False)
    _adopting: asyncio.Task[None] | None = attrs.field(default=None, init=False)
    _telling: asyncio.Task[None] | None = attrs.field(default=None, init=False)
    _tell_at: float = attrs.field(default=0.0, init=False)
    _tell_pause: float = attrs.field(default=TELLING, init=False)

    async def events(self, after: int) -> AsyncGenerator[BatchEvent, None]:
        """
        Work, and tell what happens in the batch, by whomever.

        Raises:
            GaiaError: What made it impossible to go on; nothing is lost then.
        """
        work = asyncio.create_task(self._work())
        try:
            while True:
                is_over = work.done()
                async for event in self._since(after):
                    after = event.sequence
                    yield event
                if is_over:
                    break
                await self._hear()
            await work
        finally:
            await self.stop()
            await asyncio.wait([work])
            if not work.cancelled():
                work.exception()

    async def stop(self) -> None:
        """
        Lease nothing more, put back what was not sent, wait for what was.

        What a vendor works on for hours is not waited for: it is left to itself.
        """
        self._is_stopping = True
        self._room.set()
        self.bundles.expect(self, more=False)
        beside = {one for one in (self._adopting, self._telling) if one is not None}
        for task in beside:
            task.cancel()
        while True:
            # What was sent may be refused meanwhile, and wait to be sent again.
            await self._leave_waiting(self._waiting)
            await self._leave_unsent()
            beside = {task for task in beside if not task.done()}
            if not (waiting := {*self._under_way.values(), *beside}):
                return
            await asyncio.wait(waiting, timeout=POLL)

    # -- events -------------------------------------------------------------------

    async def _since(self, after: int) -> AsyncGenerator[BatchEvent, None]:
        """Read the events from the one behind ``after``."""
        book = self.desk.book
        while True:
            events = await book.events(self.batch_id, after=after, limit=PAGE)
            for event in events:
                yield event
            if len(events) < PAGE:
                return
            after = events[-1].sequence

    async def _hear(self) -> None:
        """Wait until something may have happened."""
        await _wait(self._news, POLL)
        self._news.clear()

    # -- items --------------------------------------------------------------------

    async def _work(self) -> None:
        try:
            while not await self._is_over():
                await self._notice()
                await self._wait_for_room()
        finally:
            await self.stop()
            self._news.set()
        if self._reason is not None:
            raise self._reason

    async def _is_over(self) -> bool:
        """Lease what there is room for; tell whether nothing is left to wait for."""
        has_ended = self._is_stopping or not await self._lease()
        return has_ended and not self._under_way

    async def _lease(self) -> bool:
        """Lease items; tell whether the batch goes on."""
        free = self.max_concurrent - len(self._under_way) + len(self._waiting)
        if free <= 0 or self.desk.pace.left() > 0:
            self.bundles.expect(self, more=False)
            return True
        items = await self.desk.book.lease(self.batch_id, free)
        self.bundles.expect(self, more=bool(items) and not self._is_stopping)
        for item in items:
            await self._begin(item)
        if items or self._under_way:
            return True
        batch = await self.desk.book.get(self.batch_id)
        return batch is not None and batch.ended < batch.total

    async def _begin(self, item: Operation) -> None:
        if item.id in self._under_way:
            # Others took this process for gone, and put it back: it is ours again.
            return
        if self._is_stopping:
            await self.desk.put_back(item)
            return
        self.bundles.places.watch(item.id, partial(self._moved, item.id))
        task = asyncio.create_task(self.desk.do(item))
        self._under_way[item.id] = task
        task.add_done_callback(partial(self._finished, item.id))

    def _moved(self, operation_id: str, has_left: bool) -> None:  # noqa: FBT001  as it is told
        """Hear that an item needs no place for now, or one again."""
        if has_left:
            self._waiting.add(operation_id)
            self._room.set()
        else:
            self._waiting.discard(operation_id)

    def _finished(self, operation_id: str, task: asyncio.Task[None]) -> None:
        self.bundles.places.unwatch(operation_id)
        self._waiting.discard(operation_id)
        del self._under_way[operation_id]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._is_stopping = True
            self._reason = self._reason or _reason_of(error)
        self._room.set()
        self._news.set()

    async def _wait_for_room(self) -> None:
        """Wait until an item ends, a pause is over, or it is time to look again."""
        pause = self.desk.pace.left()
        await _wait(self._room, min(pause, POLL) if pause else POLL)
        self._room.clear()

    async def _notice(self) -> None:
        """See whether the batch was called off, and whether somebody is gone."""
        now = asyncio.get_running_loop().time()
        if self._looked and now < self._looked + POLL:
            return
        self._looked = now
        batch = await self.desk.book.get(self.batch_id)
        is_cancelled = batch is not None and batch.state is BatchState.CANCELLED
        if is_cancelled:
            await self._leave_unsent()
            self._tell_vendors(now)
        is_idle = not self._under_way and self._adopting is None
        if is_idle and now >= self._adopted + ADOPTING:
            self._adopted = now
            self._adopting = asyncio.create_task(self._adopt(is_cancelled=is_cancelled))

    async def _adopt(self, *, is_cancelled: bool) -> None:
        """Take care of what was left behind; that may take a provider's time."""
        try:
            await self.adopt()
            if is_cancelled:
                # What was adopted may have been queued again.
                await self.desk.book.cancel(self.batch_id)
        except Exception as error:  # noqa: BLE001  it is tried again soon
            log = get_logger(batch_id=self.batch_id)
            log.warning("gaia.recovery_failed", error=words_of(error))
        finally:
            self._adopting = None
            self._room.set()

    def _tell_vendors(self, now: float) -> None:
        """Have vendors stop; again, because some was on its way to them before."""
        if self._is_stopping or self._telling is not None or now < self._tell_at:
            return
        self._tell_at = now + self._tell_pause
        self._tell_pause = min(2 * self._tell_pause, RARELY)
        self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        try:
            await self.withdraw(self.batch_id)
        except Exception as error:  # noqa: BLE001  as above
            log = get_logger(batch_id=self.batch_id)
            log.warning("gaia.cancel_failed", error=words_of(error))
        finally:
            self._telling = None

    async def _leave_unsent(self) -> None:
        """Take the hands off what was leased and not sent."""
        places = self.bundles.places
        await self._leave_waiting(
            one for one in self._waiting if not places.is_sent(one)
        )
        for operation_id, task in list(self._under_way.items()):
            # Who is putting an item back must not be disturbed at it.
            is_free = operation_id not in self._waiting and not task.cancelling()
            if is_free and await self._is_unsent(operation_id):
                task.cancel()

    async def _leave_waiting(self, operation_ids: Iterable[str]) -> None:
        """Take the hands off what waits for company, or has its vendor at work."""
        under_way = {one: self._under_way[one] for one in operation_ids}
        if not under_way:
            return
        self.desk.put_aside(under_way)
        for task in under_way.values():
            task.cancel()
        await asyncio.wait(under_way.values())
        try:
            await self.desk.put_all_back(under_way)
        except LedgerError as error:
            # Whoever comes next finds them, when this process is gone.
            log = get_logger(batch_id=self.batch_id)
            log.warning("gaia.ledger_failed", error=words_of(error))

    async def _is_unsent(self, operation_id: str) -> bool:
        try:
            return await self.desk.is_unsent(operation_id)
        except LedgerError:
            # Nobody can tell: it comes to its own end.
            return False


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def _reason_of(error: BaseException) -> BaseException:
    """Give what made an item, and with it the batch, stop."""
    cause = error.__cause__
    return cause if isinstance(error, Halt) and isinstance(cause, GaiaError) else error
