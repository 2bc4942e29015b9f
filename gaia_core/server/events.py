"""
What happens in batches, told to whoever watches.

The ledger's rows are what is told. One look at them every now and then is enough for
all readers of a batch; one that is slow, or comes back later, reads the ledger for
itself. So nothing is kept for it, and nothing is lost to it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice

import attrs

from gaia_core.batches import Batches
from gaia_core.calls import words_of
from gaia_core.errors import GaiaError
from gaia_core.ledger import Batch, BatchEvent, BatchState
from gaia_core.observability import get_logger

POLL = 0.25
"""Seconds between two looks at what happened in a batch."""
PING = 15.0
"""Seconds of silence after which a reader is told that the server is still there."""
PAGE = 100
"""How many events are read at once."""
RECENT = 500
"""How many of the latest events are kept for all readers of a batch."""
FINAL = "batch_finished"
"""The kind of the one event behind which nothing is told."""


@attrs.define(eq=False)
class _Feed:
    """
    What all readers of one batch share.

    Attributes:
        last_event: The number of the latest event, as far as is known.
        readers: How many there are.
        recent: The latest events; who is further behind reads the ledger.
        changed: Set, and exchanged for another one, when there is something new.
        looking: What looks at the ledger.
    """

    last_event: int
    readers: int = 0
    recent: deque[BatchEvent] = attrs.field(factory=partial(deque, maxlen=RECENT))
    changed: asyncio.Event = attrs.field(factory=asyncio.Event)
    looking: "asyncio.Task[None] | None" = None

    def tell(self, events: Sequence[BatchEvent]) -> None:
        """Tell the readers what is new."""
        self.recent.extend(events)
        self.last_event = events[-1].sequence
        self.wake()

    def wake(self) -> None:
        """Wake the readers."""
        self.changed.set()
        self.changed = asyncio.Event()

    def behind(self, after: int) -> list[BatchEvent] | None:
        """Give the events behind one, if they are recent enough."""
        if not self.recent or self.recent[0].sequence > after + 1:
            return None
        return list(islice(self.recent, after + 1 - self.recent[0].sequence, None))

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
        batch = await self.batches.get(batch_id)
        if batch is None:
            return
        with self._joined(batch) as feed:
            while not self.is_closing():
                async for event in self._behind(batch_id, feed, after):
                    after = event.sequence
                    yield event
                    if event.kind == FINAL:
                        return
                if batch.state is BatchState.FINISHED:
                    # Its last event was known, and what became clear afterwards.
                    return
                if not await feed.wait(after):
                    yield None

    async def close(self) -> None:
        """Look no more, and let every reader end."""
        looking = [one.looking for one in self._feeds.values() if one.looking]
        for feed in self._feeds.values():
            feed.wake()
        for task in looking:
            task.cancel()
        if looking:
            await asyncio.wait(looking)

    async def _behind(
        self, batch_id: str, feed: _Feed, after: int
    ) -> AsyncGenerator[BatchEvent, None]:
        """Give the events behind one; from the ledger, if it was long ago."""
        while (recent := feed.behind(after)) is None:
            page = await self.batches.events(batch_id, after=after, limit=PAGE)
            for event in page:
                after = event.sequence
                yield event
            if len(page) < PAGE:
                return
        for event in recent:
            yield event

    @contextmanager
    def _joined(self, batch: Batch) -> Iterator[_Feed]:
        """Be one of the readers of a batch."""
        feed = self._feeds.setdefault(batch.id, _Feed(batch.last_event))
        feed.readers += 1
        if feed.looking is None:
            feed.looking = asyncio.create_task(self._look(batch.id, feed))
        try:
            yield feed
        finally:
            feed.readers -= 1
            if not feed.readers:
                feed.looking.cancel()
                del self._feeds[batch.id]

    async def _look(self, batch_id: str, feed: _Feed) -> None:
        """Look for news, for as long as somebody reads."""
        while not self.is_closing():
            await asyncio.sleep(POLL)
            try:
                news = await self.batches.events(
                    batch_id, after=feed.last_event, limit=PAGE
                )
            except GaiaError as error:
                # The book cannot be read for now; nobody has missed anything.
                log = get_logger(batch_id=batch_id)
                log.warning("gaia.events_delayed", error=words_of(error))
            else:
                if news:
                    feed.tell(news)
        feed.wake()
