"""
Which processes are alive, and whose operations may be taken over.

On SQLite a process holds a lock on a file beside the database. The system takes the
lock away at the moment the process ends, however it ends, and a process that only
stands still keeps it. On PostgreSQL, where the processes may be on many machines,
each one says every few seconds by the database's clock that it is there.
"""

import asyncio
import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    cast,
    delete,
    extract,
    func,
    insert,
    literal,
    select,
    update,
)

from gaia_core.errors import LedgerError
from gaia_core.ledger import rows
from gaia_core.ledger.database import Database
from gaia_core.ledger.tables import operations, workers
from gaia_core.observability import get_logger

if TYPE_CHECKING:
    from filelock import BaseFileLock

RENEWAL = 15.0
"""How often a process says that it is there, in seconds."""
SILENCE = 60.0
"""After how many seconds of silence it is taken for gone."""
PATIENCE = 10.0
"""How long a process waits for the lock of its own file, in seconds."""

_MICRO = 1_000_000


@attrs.define(eq=False)
class Workers:
    """
    The processes that write to one database.

    Attributes:
        database: The database; its ``worker`` is this process.
    """

    database: Database
    _lock: "BaseFileLock | None" = attrs.field(default=None, init=False, repr=False)
    _renewing: "asyncio.Task[None] | None" = attrs.field(
        default=None, init=False, repr=False
    )

    async def start(self) -> None:
        """
        Say that this process is there; harmless when repeated.

        Raises:
            LedgerError: If it cannot be said.
        """
        if self._folder is not None:
            # First the lock: a row without one is the row of a process that is gone.
            await asyncio.to_thread(self._hold, self._folder)
        await self.database.write(self._register)
        if not self.database.is_sqlite and self._renewing is None:
            self._renewing = asyncio.create_task(self._renew(), name="gaia-worker")

    async def stop(self) -> None:
        """Say that this process is gone; others may take over what it left open."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
            self._renewing = None
        try:
            is_idle = await self.database.write(self._leave)
        finally:
            if self._lock is not None:
                await asyncio.to_thread(self._lock.release)
                self._lock = None
        if is_idle and self._folder is not None:
            await asyncio.to_thread(_remove, self._folder, [self.database.worker])

    async def dead(self) -> frozenset[str]:
        """
        Find the processes that are gone and left something open.

        The others that are gone are forgotten here.
        """
        known, busy, silent = await self.database.read(self._known)
        if self._folder is None:
            gone = silent
        else:
            gone = await asyncio.to_thread(_gone, self._folder, known)
            gone -= {self.database.worker}
        idle = gone - busy
        if idle:
            await self._forget(idle)
        return frozenset(gone & busy)

    @property
    def _folder(self) -> Path | None:
        """Where the locks lie; None: this database needs none."""
        file = self.database.file
        return file and Path(f"{file}-workers")

    def _hold(self, folder: Path) -> None:
        """Take the lock that is this process's sign of life."""
        from filelock import FileLock  # noqa: PLC0415

        if self._lock is not None:
            return
        path = _file(folder, self.database.worker)
        # It is taken in one thread and given back in another.
        lock = FileLock(path, thread_local=False)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=PATIENCE)
        except OSError as error:  # a timeout is one, too
            message = (
                f"The ledger cannot lock {path}: {error.strerror or error}. "
                "Let Gaia write to the folder of its database."
            )
            raise LedgerError(message) from error
        self._lock = lock

    def _register(self, connection: Connection) -> None:
        own = workers.c.id == self.database.worker
        seen = self._clock(connection)
        renewed = connection.execute(update(workers).where(own).values(seen_at=seen))
        if renewed.rowcount:
            return
        name = f"{socket.gethostname()}:{os.getpid()}"
        values = {"id": self.database.worker, "name": name}
        connection.execute(
            insert(workers).values(**values, started_at=seen, seen_at=seen)
        )

    async def _renew(self) -> None:
        """Say again and again that this process is there."""
        while True:
            await asyncio.sleep(RENEWAL)
            try:
                await self.database.write(self._register)
            except LedgerError as error:
                # The next time may do: nobody takes over before a minute is over.
                get_logger().warning("gaia.worker_renewal_failed", error=str(error))

    def _leave(self, connection: Connection) -> bool:
        """Strike this process off, or leave its row for what it left open."""
        own = self.database.worker
        if _forget(connection, [own], ()) == [own]:
            return True
        connection.execute(update(workers).where(workers.c.id == own).values(seen_at=0))
        return False

    def _known(
        self, connection: Connection
    ) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
        """Find all others on the book, those that left something, and the silent."""
        own = self.database.worker
        is_silent = self._is_silent(connection)
        others = select(workers.c.id, is_silent).where(workers.c.id != own)
        busy = frozenset(connection.scalars(_owners().where(operations.c.owner != own)))
        listed: dict[str, bool] = {row.id: row[1] for row in connection.execute(others)}
        silent = frozenset(one for one, is_over in listed.items() if is_over)
        return busy.union(listed), busy, silent | busy.difference(listed)

    async def _forget(self, idle: frozenset[str]) -> None:
        """Strike off those that are gone and left nothing open."""

        def forget(connection: Connection) -> list[str]:
            # It may have come back meanwhile; on SQLite nobody does.
            is_silent = () if self._folder else (self._is_silent(connection),)
            return _forget(connection, idle, is_silent)

        await self.database.write(forget)
        if self._folder is not None:
            await asyncio.to_thread(_remove, self._folder, idle)

    def _clock(self, connection: Connection) -> ColumnElement[int]:
        """Give the present moment by the one clock that all processes share."""
        if connection.dialect.name == "sqlite":
            return literal(rows.now(), BigInteger)
        seconds = extract("epoch", func.clock_timestamp())
        return cast(seconds * _MICRO, BigInteger)

    def _is_silent(self, connection: Connection) -> ColumnElement[bool]:
        patience = int(SILENCE * _MICRO)
        return workers.c.seen_at < self._clock(connection) - patience


def _owners() -> Select[Any]:
    """Select who owns operations that have not ended."""
    query = select(operations.c.owner).distinct()
    return query.where(
        operations.c.finished_at.is_(None), operations.c.owner.is_not(None)
    )


def _forget(
    connection: Connection, ids: Iterable[str], conditions: Iterable[Any]
) -> list[str]:
    """Strike workers off that left nothing open; give those."""
    query = delete(workers).where(
        workers.c.id.in_(list(ids)), workers.c.id.not_in(_owners()), *conditions
    )
    return list(connection.scalars(query.returning(workers.c.id)))


def _file(folder: Path, worker: str) -> Path:
    return folder / f"{worker}.lock"


def _gone(folder: Path, known: Iterable[str]) -> frozenset[str]:
    """Find those whose lock can be taken: the system took it away from them."""
    left = {path.stem for path in folder.glob("*.lock")}
    return frozenset(one for one in left.union(known) if _is_free(_file(folder, one)))


def _is_free(path: Path) -> bool:
    from filelock import FileLock  # noqa: PLC0415

    if not path.exists():
        return True
    try:
        with FileLock(path, timeout=0):
            return True
    except OSError:  # it is held, or belongs to another user: perhaps it is alive
        return False


def _remove(folder: Path, ids: Iterable[str]) -> None:
    """Remove the files of those that are gone; whoever cannot leaves them."""
    from filelock import FileLock  # noqa: PLC0415

    for path in (_file(folder, one) for one in ids):
        # A process that starts just now notices that its file was taken away.
        with suppress(OSError), FileLock(path, timeout=0):
            path.unlink(missing_ok=True)
