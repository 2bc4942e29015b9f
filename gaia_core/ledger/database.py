"""
The database of the ledger: transactions in threads of its own.

A transaction is a plain function of a SQLAlchemy connection, run from first to last
in one thread. On SQLite a single thread writes, so that transactions of one process
queue instead of colliding; measured against a driver that hops between threads for
every statement (aiosqlite), an operation takes 1.6 ms instead of 4.2 ms.
"""

import asyncio
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import attrs

from gaia_core.errors import LedgerError

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
    _engines: "Engines | None" = attrs.field(default=None, init=False, repr=False)
    _writers: ThreadPoolExecutor | None = attrs.field(
        default=None, init=False, repr=False
    )
    _readers: ThreadPoolExecutor | None = attrs.field(
        default=None, init=False, repr=False
    )
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
        engines = self._opened()
        run = partial(engines.write, work, is_repeatable=is_repeatable)
        return await _in_thread(self._writers, run)

    async def read(self, work: Transaction[T]) -> T:
        """
        Run a transaction that changes nothing, beside those that do.

        Raises:
            LedgerError: If the database refuses.
        """
        engines = self._opened()
        return await _in_thread(self._readers, partial(engines.read, work))

    async def open(self) -> None:
        """
        Connect, and bring the tables to this version; harmless when repeated.

        Raises:
            LedgerError: If the database cannot be used, or is of a newer version.
        """
        async with self._lock:
            if self._engines is None:
                await self._connect()

    async def close(self) -> None:
        """Let go of it; `open` opens it again."""
        async with self._lock:
            engines, self._engines = self._engines, None
            pools = {self._writers, self._readers}
            self._writers = self._readers = None
            for pool in filter(None, pools):
                await asyncio.to_thread(pool.shutdown)
            if engines is not None:
                await asyncio.to_thread(engines.dispose)

    async def _connect(self) -> None:
        from gaia_core.ledger.connecting import Engines  # noqa: PLC0415 - slow

        size = 1 if self.is_sqlite else POOL_SIZE
        writers = ThreadPoolExecutor(size, thread_name_prefix="gaia-ledger")
        try:
            engines = await _in_thread(writers, partial(Engines.of, self.address))
        except BaseException:
            writers.shutdown(wait=False)
            raise
        self._engines, self._writers = engines, writers
        # PostgreSQL's readers take turns with its writers: they share connections.
        self._readers = (
            ThreadPoolExecutor(1, thread_name_prefix="gaia-ledger-reader")
            if self.is_sqlite
            else writers
        )

    def _opened(self) -> "Engines":
        if self._engines is None:
            message = "The ledger is not open. Open it first, or use it before closing."
            raise LedgerError(message)
        return self._engines


async def _in_thread(threads: ThreadPoolExecutor | None, work: Callable[[], T]) -> T:
    """Run in a thread; a cancelled caller waits for its end before it is told."""
    running = asyncio.get_running_loop().run_in_executor(threads, work)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        # Whatever it came to was seen by nobody: say so to the future as well.
        running.exception()
        raise cancelled
    return running.result()
