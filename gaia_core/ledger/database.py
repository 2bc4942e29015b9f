"""
The database of the ledger: transactions in threads of its own.

A transaction is a plain function of a SQLAlchemy connection, run from first to last
in one thread. On SQLite a single thread writes, so that transactions of one process
queue instead of colliding, and those that queue are committed together; measured
against a driver that hops between threads for every statement (aiosqlite), an
operation takes 1.6 ms instead of 4.2 ms.
"""

import asyncio
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import attrs

from gaia_core.errors import LedgerError
from gaia_core.ledger.queueing import WriteQueue

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from gaia_core.ledger.connecting import Engines

T = TypeVar("T")
Transaction = Callable[["Connection"], T]
"""A function of a connection; committed when it returns, undone when it raises."""

POOL_SIZE = 8
"""How many transactions may run at once on PostgreSQL."""


@attrs.define(eq=False)
class Database:
    """
    One process's access to the ledger's database.

    Attributes:
        address: SQLAlchemy address: ``sqlite:///…`` or ``postgresql://…``.
        worker: The identifier of this process in the ledger.
    """

    address: str = attrs.field(repr=False)
    worker: str = attrs.field(factory=lambda: uuid.uuid4().hex, init=False)
    _open: "_Open | None" = attrs.field(default=None, init=False, repr=False)
    _lock: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False, repr=False)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file on this machine."""
        return self.address.startswith("sqlite")

    @property
    def file(self) -> Path | None:
        """The file, where it is one."""
        _, _, path = self.address.partition("?")[0].partition(":///")
        return Path(path) if self.is_sqlite and path else None

    async def write(self, work: Transaction[T], *, is_repeatable: bool = True) -> T:
        """
        Run a transaction that changes something.

        A caller that is cancelled waits for its end all the same. Where PostgreSQL
        undoes it because others were in the way, it is run again.

        Args:
            work: What to do.
            is_repeatable: Whether ``work`` may be called twice; False where it uses
                something up.

        Raises:
            LedgerError: If the database refuses; nothing has changed then.
        """
        opened = self._opened()
        if opened.queue is not None:
            return await _result_of(
                opened.queue.submit(work, is_repeatable=is_repeatable)
            )
        run = partial(opened.engines.write, work, is_repeatable=is_repeatable)
        return await _in_thread(opened.writers, run)

    async def read(self, work: Transaction[T]) -> T:
        """
        Run a transaction that changes nothing, beside those that do.

        Raises:
            LedgerError: If the database refuses.
        """
        opened = self._opened()
        return await _in_thread(opened.readers, partial(opened.engines.read, work))

    async def open(self) -> None:
        """
        Connect, and bring the tables to this version; harmless when repeated.

        Raises:
            LedgerError: If the database cannot be used, or is of a newer version.
        """
        async with self._lock:
            if self._open is None:
                self._open = await self._connect()

    async def close(self) -> None:
        """Let go of it; `open` opens it again."""
        async with self._lock:
            opened, self._open = self._open, None
            if opened is not None:
                await asyncio.to_thread(opened.close)

    async def _connect(self) -> "_Open":
        from gaia_core.ledger.connecting import Engines  # noqa: PLC0415 - slow

        made: list[Engines] = []
        size = 1 if self.is_sqlite else POOL_SIZE
        writers = ThreadPoolExecutor(size, thread_name_prefix="gaia-ledger")
        try:
            await _in_thread(writers, lambda: made.append(Engines.of(self.address)))
        except BaseException:
            # Perhaps it was made, and whoever waited for it was cancelled.
            for engines in made:
                engines.dispose()
            writers.shutdown(wait=False)
            raise
        # PostgreSQL's readers take turns with its writers: they share connections.
        readers = (
            ThreadPoolExecutor(1, thread_name_prefix="gaia-ledger-reader")
            if self.is_sqlite
            else writers
        )
        queue = WriteQueue(engines=made[0], threads=writers) if self.is_sqlite else None
        return _Open(engines=made[0], writers=writers, readers=readers, queue=queue)

    def _opened(self) -> "_Open":
        if self._open is None:
            message = "The ledger is not open. Open it first, or use it before closing."
            raise LedgerError(message)
        return self._open


@attrs.frozen(eq=False, kw_only=True)
class _Open:
    """What there is while a database is open."""

    engines: "Engines"
    writers: ThreadPoolExecutor
    readers: ThreadPoolExecutor
    queue: WriteQueue | None

    def close(self) -> None:
        """Let the transactions under way end, then close every connection."""
        for threads in (self.readers, self.writers):
            threads.shutdown()
        self.engines.dispose()


async def _in_thread(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await _result_of(threads.submit(work))


async def _result_of(running: "Future[T]") -> T:
    """
    Wait for a thread; a cancelled caller waits for its end before it is told.

    The loop is woken by hand: `asyncio.wait` would do the same in twice the time.
    """
    loop = asyncio.get_running_loop()
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        woken: asyncio.Future[None] = loop.create_future()
        running.add_done_callback(partial(_wake, loop, woken))
        try:
            await woken
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return running.result()


def _wake(
    loop: asyncio.AbstractEventLoop, woken: asyncio.Future[None], _running: object
) -> None:
    """Tell a loop, from another thread, that something is over."""
    # The loop may have been closed meanwhile: then nobody waits.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(_end, woken)


def _end(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
