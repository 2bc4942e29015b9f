"""
What happens in batches, told to whoever watches.

The ledger's rows are what is told, and each reader reads them for itself, as fast as
it can: nothing is kept for a slow one, and nothing is lost to it. One look at the
ledger every now and then is enough for all readers of a batch.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress

import attrs

from gaia_core.batches import Batches
from gaia_core.calls import words_of
from gaia_core.errors import GaiaError
from gaia_core.ledger import BatchEvent, BatchState
from gaia_core.observability import get_logger

POLL = 0.25
"""Seconds between two looks at what happened in a batch."""
PING = 15.0
"""Seconds of silence after which a reader is told that the server is still there."""
PAGE = 100
"""How many events are read at once."""
FINAL = "batch_finished"
"""The kind of the one event behind which nothing is told."""


@attrs.define(eq=False)
class _Feed:
    """
    What all readers of one batch share.

    Attributes:
        last_event: The number of the latest event, as far as is known.
        readers: How many there are.
        changed: Set, and exchanged for another one, when there is something new.
        looking: What looks at the ledger.
    """

    last_event: int = 0
    readers: int = 0
    changed: asyncio.Event = attrs.field(factory=asyncio.Event)
    looking: "asyncio.Task[None] | None" = None

    def tell(self, last_event: int) -> None:
        """Wake the readers, if there is something new."""
        if last_event > self.last_event:
            self.last_event = last_event
            self.wake()

    def wake(self) -> None:
        """Wake the readers."""
        self.changed.set()
        self.changed = asyncio.Event()

    async def wait(self, after: int) -> bool:
        """Wait until there is something behind an event; False: it took too long."""
        changed = self.changed
        if self.last_event > after:
            return True
        try:
            async with asyncio.timeout(PING):
                await changed.wait()
        except TimeoutError:
            return False
        return True


@attrs.define(eq=False, kw_only=True)
class Feeds:
    """
    Tells readers what happens in batches, by whomever they are worked on.

    Attributes:
        batches: Where it is read.
        is_closing: Tells whether the server is about to stop.
    """

    batches: Batches
    is_closing: Callable[[], bool] = attrs.field(default=lambda: False)
    _feeds: dict[str, _Feed] = attrs.field(factory=dict, init=False)

    async def events(
        self, batch_id: str, after: int
    ) -> AsyncGenerator[BatchEvent | None, None]:
        """
        Tell what happens in a batch, until it has ended.

        Whoever breaks off goes on behind the last event they know.

        Args:
            batch_id: The batch.
            after: The number of the event to begin behind.

        Yields:
            The events, each once and in order, the one that ends the batch as the
            last; None from time to time where nothing happens.
        """
        with self._joined(batch_id) as feed:
            while not self.is_closing():
                batch = await self.batches.get(batch_id)
                async for event in self._since(batch_id, after):
                    after = event.sequence
                    yield event
                    if event.kind == FINAL:
                        return
                if batch is None or batch.state is BatchState.FINISHED:
                    return
                if not await feed.wait(after):
                    yield None

    async def _since(
        self, batch_id: str, after: int
    ) -> AsyncGenerator[BatchEvent, None]:
        while True:
            page = await self.batches.events(batch_id, after=after, limit=PAGE)
            for event in page:
                yield event
            if len(page) < PAGE:
                return
            after = page[-1].sequence

    @contextmanager
    def _joined(self, batch_id: str) -> Iterator[_Feed]:
        """Be one of the readers of a batch."""
        feed = self._feeds.setdefault(batch_id, _Feed())
        feed.readers += 1
        if feed.looking is None:
            feed.looking = asyncio.create_task(self._look(batch_id, feed))
        try:
            yield feed
        finally:
            feed.readers -= 1
            if not feed.readers:
                feed.looking.cancel()
                del self._feeds[batch_id]

    async def _look(self, batch_id: str, feed: _Feed) -> None:
        """Look for news, for as long as somebody reads."""
        while True:
            await asyncio.sleep(POLL)
            if self.is_closing():
                feed.wake()
                return
            try:
                batch = await self.batches.get(batch_id)
            except GaiaError as error:
                # The book cannot be read for now; nobody has missed anything.
                log = get_logger(batch_id=batch_id)
                log.warning("gaia.events_delayed", error=words_of(error))
                continue
            feed.tell(0 if batch is None else batch.last_event)

    async def close(self) -> None:
        """Look no more, and let every reader end."""
        looking = [one.looking for one in self._feeds.values() if one.looking]
        for feed in self._feeds.values():
            feed.wake()
        for task in looking:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
