"""
Connections to the ledger's database, and what goes wrong with them.

Imported only when a database is opened, because SQLAlchemy is slow to import.
"""

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar

import attrs
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from gaia_core.errors import LedgerError
from gaia_core.ledger import failures, schema
from gaia_core.ledger.database import POOL_SIZE

T = TypeVar("T")

LOCK_TIMEOUT = 10.0
"""How long a transaction waits for others in its way, in seconds."""
CONNECT_TIMEOUT = 10
"""How long connecting to PostgreSQL may take, in seconds."""
MAX_RUNS = 10
"""How often a transaction is run that PostgreSQL undoes because of others."""

READING = "BEGIN"
WRITING = "BEGIN IMMEDIATE"
"""How transactions begin on SQLite: a writer takes its turn before it reads."""

_POSTGRESQL = frozenset({"postgres", "postgresql"})


@attrs.frozen(eq=False)
class Engines:
    """
    What transactions run on.

    Attributes:
        url: The address, its driver named.
        writer: Where something is changed.
        reader: Where nothing is.
    """

    url: URL
    writer: Engine
    reader: Engine

    @classmethod
    def of(cls, address: str) -> Self:
        """
        Connect to a database, and bring its tables to this version.

        Raises:
            LedgerError: If it cannot be used.
        """
        url = url_of(address)
        with failures.explained(url, failures.OF_OPENING):
            engines = (
                _sqlite(url) if url.get_backend_name() == "sqlite" else _server(url)
            )
            opened = cls(url, *engines)
            try:
                if not opened.read(schema.is_current):
                    opened.write(schema.bring_forward)
            except BaseException:
                opened.dispose()
                raise
        return opened

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run a transaction that changes nothing."""
        return self._run(self.reader, work, begin=READING, is_repeatable=True)

    def write(
        self, work: Callable[[Connection], T], *, is_repeatable: bool = True
    ) -> T:
        """Run a transaction; again if others were in its way."""
        return self._run(self.writer, work, begin=WRITING, is_repeatable=is_repeatable)

    def write_together(
        self, works: Sequence[Callable[[Connection], Any]]
    ) -> list[Callable[[], Any]] | None:
        """
        Run several transactions of SQLite in one: the disk is waited for once.

        One that raises undoes itself and none of the others.

        Returns:
            What gives each one's result, or raises what it raised; None if the
            database refused one of them, and nothing has changed: each is to be run
            by itself.

        Raises:
            LedgerError: If they could not begin, or not be committed.
        """
        with failures.explained(self.url):
            try:
                return _once(self.writer, partial(_each, works), WRITING)
            except DBAPIError as error:
                if failures.is_before_commit(error):
                    return None
                raise

    def dispose(self) -> None:
        """Close every connection."""
        self.writer.dispose()
        self.reader.dispose()

    def _run(
        self,
        engine: Engine,
        work: Callable[[Connection], T],
        *,
        begin: str,
        is_repeatable: bool,
    ) -> T:
        with failures.explained(self.url):
            for run in range(1, MAX_RUNS + 1):
                try:
                    return _once(engine, work, begin)
                except DBAPIError as error:
                    is_last = not is_repeatable or run == MAX_RUNS
                    if is_last or not failures.is_undone(error):
                        raise
        raise AssertionError  # pragma: no cover  the last run returns or raises


def _once(engine: Engine, work: Callable[[Connection], T], begin: str) -> T:
    with engine.connect() as connection:
        try:
            if engine.dialect.name == "sqlite":
                _begin(connection, begin)
            result = work(connection)
        except DBAPIError as error:
            # Nothing was committed: what broke, broke before.
            failures.mark_undone(error)
            raise
        try:
            connection.commit()
        except DBAPIError:
            # SQLite may keep it open, and SQLAlchemy believes that it has ended.
            _undo(connection)
            raise
        return result


def _undo(connection: Connection) -> None:
    if connection.dialect.name != "sqlite":
        return
    with suppress(*failures.OF_TRANSACTIONS):
        connection.connection.rollback()


def _each(
    works: Sequence[Callable[[Connection], Any]], connection: Connection
) -> list[Callable[[], Any]]:
    return [_beside_others(work, connection) for work in works]


def _beside_others(
    work: Callable[[Connection], Any], connection: Connection
) -> Callable[[], Any]:
    """Run one transaction within another."""
    _begin(connection, "SAVEPOINT one")
    try:
        result = work(connection)
    except failures.OF_TRANSACTIONS:
        # SQLite may have undone the others as well.
        raise
    except BaseException as error:  # noqa: BLE001  whoever waits for it gets it
        _begin(connection, "ROLLBACK TO one")
        _begin(connection, "RELEASE one")
        return partial(_raise, error)
    _begin(connection, "RELEASE one")
    return lambda: result


def _raise(error: BaseException) -> NoReturn:
    raise error


def url_of(address: str) -> URL:
    """
    Read an address, and name the driver.

    Raises:
        LedgerError: If it is no address, or of another kind of database.
    """
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        message = (
            "The ledger's address cannot be read. Set database to "
            "sqlite:///FOLDER/gaia.db or postgresql://HOST/NAME."
        )
        raise LedgerError(message) from None
    kind = url.drivername.partition("+")[0]
    if kind in _POSTGRESQL:
        return url.set(drivername="postgresql+psycopg")
    if kind != "sqlite":
        message = (
            f"The ledger works on SQLite and PostgreSQL, not on {kind}. "
            "Set database to sqlite:///… or postgresql://…."
        )
        raise LedgerError(message)
    if url.database in {None, "", ":memory:"}:
        message = (
            "The ledger must be a file: in memory it would be lost with the process. "
            "Set database to sqlite:///FOLDER/gaia.db."
        )
        raise LedgerError(message)
    if url.query:
        options = ", ".join(sorted(url.query))
        message = (
            f"The ledger's address has options that Gaia does not know: {options}. "
            "Leave out everything from the question mark on."
        )
        raise LedgerError(message)
    return url.set(drivername="sqlite+pysqlite")


# -- SQLite -------------------------------------------------------------------------


def _sqlite(url: URL) -> tuple[Engine, Engine]:
    file = Path(str(url.database))
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file, timeout=LOCK_TIMEOUT)) as connection:
        _keep_a_log(connection)
    return (
        _sqlite_engine(url),
        _sqlite_engine(url, query_only=True),
    )


def _keep_a_log(connection: sqlite3.Connection) -> None:
    """
    Switch to write-ahead logging: readers and the writer do not wait for each other.

    The file remembers it. SQLite does not wait for others while it switches, so
    that is done here.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _begin(connection: Connection, statement: str) -> None:
    """
    Begin where we say so, not where the driver guesses.

    SQLAlchemy's event for it would make every statement slower.
    """
    opened: sqlite3.Connection = connection.connection.dbapi_connection  # type: ignore[assignment]
    opened.execute(statement)


def _sqlite_engine(url: URL, *, query_only: bool = False) -> Engine:
    engine = create_engine(
        url,
        pool_size=1,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"timeout": LOCK_TIMEOUT, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA query_only={query_only:d}")

    return engine


# -- PostgreSQL ---------------------------------------------------------------------


def _server(url: URL) -> tuple[Engine, Engine]:
    engine = create_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=0,
        hide_parameters=True,
        isolation_level="READ COMMITTED",
        connect_args={"connect_timeout": CONNECT_TIMEOUT, "application_name": "gaia"},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {LOCK_TIMEOUT * 1_000:.0f}")
        connection.commit()

    return engine, engine
