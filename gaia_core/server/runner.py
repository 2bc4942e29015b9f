"""What works on the batches that came over HTTP."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing, suppress
from contextvars import Context
from types import TracebackType
from typing import Self

import attrs

from gaia_core.calls import words_of
from gaia_core.engine import Gaia
from gaia_core.errors import InvalidRequestError
from gaia_core.ledger import Batch
from gaia_core.observability import get_logger
from gaia_core.server.events import Feeds

ROUTE = "/api/images/batch"
"""What the idempotency keys of batches are for that came over HTTP."""
AT_ONCE = 8
"""How many batches are worked on at a time; the others wait for their turn."""
MAX_CONCURRENT = 3
"""How many items of a batch are under way at a time, unless its client said."""
PAUSE, LONGEST_PAUSE = 2.0, 60.0
"""The pauses before a batch that had to stop is gone on with, in seconds."""
GRACE = 2.0
"""
How long closing waits here for what was sent, in seconds.

The `Gaia` that is closed next waits longer, for all of it at once.
"""
_MOST_LISTED = 100_000


@attrs.frozen(kw_only=True)
class _Turn:
    """
    A batch that waits for its turn.

    Attributes:
        batch_id: The batch.
        principal: Whose it is.
        max_concurrent: Most items under way at a time.
        after: The number of the event it has come to.
    """

    batch_id: str
    principal: str
    max_concurrent: int
    after: int = 0


@attrs.define(eq=False, kw_only=True)
class BatchRunner:
    """
    Runs batches in the background, also those a stopped server left behind.

    Attributes:
        gaia: What serves them.
        is_closing: Tells whether the server is about to stop.
        feeds: What tells of them.
    """

    gaia: Gaia
    is_closing: Callable[[], bool] = attrs.field(default=lambda: False)
    feeds: Feeds = attrs.field(init=False)
    _waiting: dict[str, _Turn] = attrs.field(factory=dict, init=False)
    _running: dict[str, _Turn] = attrs.field(factory=dict, init=False)
    _tasks: set[asyncio.Task[None]] = attrs.field(factory=set, init=False)
    _is_open: bool = attrs.field(default=False, init=False)

    @feeds.default
    def _own_feeds(self) -> Feeds:
        return Feeds(batches=self.gaia.batches, is_closing=self.is_closing)

    async def __aenter__(self) -> Self:
        """Go on with what was left."""
        self._is_open = True
        self._keep(asyncio.create_task(self._go_on()))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put down what can be gone on with later."""
        self._is_open = False
        self._waiting.clear()
        await self.feeds.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=GRACE)

    @property
    def running(self) -> int:
        """How many batches are being worked on."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many batches wait for their turn."""
        return len(self._waiting)

    def start(
        self,
        batch_id: str,
        *,
        max_concurrent: int = MAX_CONCURRENT,
        principal: str = "",
        after: int = 0,
    ) -> None:
        """
        Begin to work on a batch, unless it is being worked on here.

        Args:
            batch_id: The batch.
            max_concurrent: Most items under way at a time.
            principal: Whose it is; those with fewer at work come first.
            after: The number of the event it has come to.
        """
        if not self._is_open or batch_id in self._waiting or batch_id in self._running:
            return
        self._waiting[batch_id] = _Turn(
            batch_id=batch_id,
            principal=principal,
            max_concurrent=max_concurrent,
            after=after,
        )
        self._begin()

    def _begin(self) -> None:
        """Give free places to those who wait: first to whose fewest are at work."""
        while self._is_open and self._waiting and len(self._running) < AT_ONCE:
            at_work = Counter(one.principal for one in self._running.values())
            turn = min(self._waiting.values(), key=lambda one: at_work[one.principal])
            self._running[turn.batch_id] = self._waiting.pop(turn.batch_id)
            # It belongs to no request: not to its trace, nor to what its log carries.
            work = asyncio.create_task(self._work(turn), context=Context())
            self._keep(work)

    def _keep(self, task: "asyncio.Task[None]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            get_logger().warning("gaia.batch_put_down", error=type(error).__name__)

    # -- one batch ----------------------------------------------------------------

    async def _work(self, turn: _Turn) -> None:
        try:
            await self._run_to_the_end(turn)
        finally:
            del self._running[turn.batch_id]
            self._begin()

    async def _run_to_the_end(self, turn: _Turn) -> None:
        """Run a batch; whatever stops it, it is gone on with after a pause."""
        pause, after = PAUSE, turn.after
        while self._is_open:
            run = self.gaia.batches.run(
                turn.batch_id, max_concurrent=turn.max_concurrent, after=after
            )
            try:
                async with aclosing(run) as events:
                    async for event in events:
                        pause, after = PAUSE, event.sequence
            except InvalidRequestError:
                # It is gone from the book.
                return
            except Exception as error:  # noqa: BLE001  no batch is given up
                log = get_logger(batch_id=turn.batch_id)
                log.warning("gaia.batch_paused", seconds=pause, error=words_of(error))
            else:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    # -- what was left ------------------------------------------------------------

    async def _go_on(self) -> None:
        """Begin what a server was stopped at, the oldest first."""
        pause = PAUSE
        while True:
            try:
                for batch in reversed(await self._left()):
                    self.start(
                        batch.id, principal=batch.principal, after=batch.last_event
                    )
            except Exception as error:  # noqa: BLE001  it is tried again
                get_logger().warning(
                    "gaia.batch_paused", seconds=pause, error=words_of(error)
                )
            else:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _left(self) -> list[Batch]:
        """List what has not ended and came over HTTP, newest first."""
        found = await self.gaia.batches.latest(_MOST_LISTED, is_open=True)
        return [batch for batch in found if await self._is_ours(batch)]

    async def _is_ours(self, batch: Batch) -> bool:
        """Tell whether a batch came over HTTP: then its key is for that route."""
        if batch.key is None:
            return False
        with suppress(InvalidRequestError):
            known = await self.gaia.batches.find(attrs.evolve(batch.key, route=ROUTE))
            return known is not None and known.id == batch.id
        return False
