"""Transactions that queue are committed together, and are still apart."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import NoReturn

import pytest
from sqlalchemy import Connection, event, select, text
from sqlalchemy.exc import IntegrityError

from gaia_core.errors import LedgerError
from gaia_core.ledger.database import Database
from gaia_core.ledger.queueing import MOST_TOGETHER
from gaia_core.ledger.tables import alerts

Work = Callable[[Connection], str]


def _note(connection: Connection, scope: str) -> str:
    connection.execute(
        alerts.insert(), {"scope": scope, "period": "p", "share": "1", "created_at": 1}
    )
    return scope


def _scopes(connection: Connection) -> list[str]:
    return list(connection.scalars(select(alerts.c.scope).order_by("scope")))


@asynccontextmanager
async def _opened(address: str) -> AsyncIterator[Database]:
    database = Database(address)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


def _commits(database: Database) -> list[Connection]:
    """Note each commit of the writer from now on."""
    found: list[Connection] = []

    @event.listens_for(database._opened().engines.writer, "commit")
    def note(connection: Connection) -> None:
        found.append(connection)

    return found


async def _while_busy(
    database: Database, queue: Callable[[], "Sequence[asyncio.Task[str]]"]
) -> list[str | BaseException]:
    """Let transactions queue behind one that holds the only writer."""
    is_busy, may_end = threading.Event(), threading.Event()

    def hold(_: Connection) -> None:
        is_busy.set()
        may_end.wait(10)

    holder = asyncio.create_task(database.write(hold))
    assert await asyncio.to_thread(is_busy.wait, 10)
    waiting = queue()
    # Each task runs until it waits for its turn.
    await asyncio.sleep(0)
    may_end.set()
    await holder
    return await asyncio.gather(*waiting, return_exceptions=True)


def _queued(database: Database, *works: Work) -> "list[asyncio.Task[str]]":
    return [asyncio.create_task(database.write(work)) for work in works]


async def test_those_that_queue_share_a_commit(sqlite_address: str) -> None:
    """Twenty transactions that wait for the writer wait for the disk once."""
    names = [f"s{number:02}" for number in range(20)]
    works = [partial(_note, scope=name) for name in names]
    async with _opened(sqlite_address) as database:
        commits = _commits(database)
        told = await _while_busy(database, lambda: _queued(database, *works))
        kept = await database.read(_scopes)

    assert (told, kept) == (names, names)
    # What held the writer changed nothing: there was nothing of its own to commit.
    assert len(commits) == 1


async def test_more_than_fit_take_turns(sqlite_address: str) -> None:
    """However many queue, each is run once."""
    names = [f"s{number:03}" for number in range(MOST_TOGETHER * 2 + 1)]
    works = [partial(_note, scope=name) for name in names]
    async with _opened(sqlite_address) as database:
        commits = _commits(database)
        await _while_busy(database, lambda: _queued(database, *works))
        kept = await database.read(_scopes)

    assert kept == names
    assert len(commits) == 3


async def test_one_that_raises_undoes_itself_alone(sqlite_address: str) -> None:
    """Who is refused finds nothing of theirs, and the others all of theirs."""

    def refuse(connection: Connection) -> NoReturn:
        _note(connection, "refused")
        message = "no"
        raise KeyError(message)

    works: list[Work] = [partial(_note, scope="a"), refuse, partial(_note, scope="b")]
    async with _opened(sqlite_address) as database:
        first, refused, last = await _while_busy(
            database, lambda: _queued(database, *works)
        )
        kept = await database.read(_scopes)

    assert (first, last, kept) == ("a", "b", ["a", "b"])
    assert isinstance(refused, KeyError)


async def test_one_the_database_refuses_harms_no_other(sqlite_address: str) -> None:
    """An error of the database ends the transaction it came from, and no other."""

    def repeat(connection: Connection) -> str:
        _note(connection, "twice")
        return _note(connection, "twice")

    works: list[Work] = [partial(_note, scope="a"), repeat, partial(_note, scope="b")]
    async with _opened(sqlite_address) as database:
        first, refused, last = await _while_busy(
            database, lambda: _queued(database, *works)
        )
        kept = await database.read(_scopes)

    assert (first, last, kept) == ("a", "b", ["a", "b"])
    assert isinstance(refused, LedgerError)
    assert isinstance(refused.__cause__, IntegrityError)


def _spoil_commit(connection: Connection) -> str:
    for statement in (
        "CREATE TABLE one (id INTEGER PRIMARY KEY)",
        "CREATE TABLE other (id REFERENCES one DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO other VALUES (1)",
    ):
        connection.execute(text(statement))
    return ""


async def test_commit_that_fails_ends_its_transaction_only(sqlite_address: str) -> None:
    """The next transaction finds a connection on which it can begin."""
    async with _opened(sqlite_address) as database:
        with pytest.raises(LedgerError):
            await database.write(_spoil_commit)

        assert await database.write(partial(_note, scope="after")) == "after"


async def test_commit_that_fails_is_told_to_all(sqlite_address: str) -> None:
    """Where nobody knows whether it was committed, nothing is run a second time."""
    runs: list[str] = []

    def note(connection: Connection, scope: str) -> str:
        runs.append(scope)
        return _note(connection, scope)

    def dangle(connection: Connection) -> str:
        _spoil_commit(connection)
        return note(connection, "dangling")

    works: list[Work] = [partial(note, scope="a"), dangle, partial(note, scope="b")]
    async with _opened(sqlite_address) as database:
        told = await _while_busy(database, lambda: _queued(database, *works))
        kept = await database.read(_scopes)
        await database.write(partial(_note, scope="after"))
        later = await database.read(_scopes)

    assert all(isinstance(one, LedgerError) for one in told)
    assert runs == ["a", "dangling", "b"]
    assert (kept, later) == ([], ["after"])


async def test_what_uses_something_up_runs_alone(sqlite_address: str) -> None:
    """A transaction that must not run twice shares no commit, and keeps its place."""
    order: list[str] = []

    def noted(connection: Connection, scope: str) -> str:
        order.append(scope)
        return _note(connection, scope)

    async with _opened(sqlite_address) as database:

        def queue() -> "list[asyncio.Task[str]]":
            write = database.write
            alone = write(partial(noted, scope="b"), is_repeatable=False)
            return [
                asyncio.create_task(write(partial(noted, scope="a"))),
                asyncio.create_task(alone),
                asyncio.create_task(write(partial(noted, scope="c"))),
            ]

        commits = _commits(database)
        await _while_busy(database, queue)

    assert order == ["a", "b", "c"]
    assert len(commits) == 3


async def test_cancelled_caller_leaves_the_others_alone(sqlite_address: str) -> None:
    """Who gives up in the queue is told after the end; what they asked is done."""
    names = ["a", "b", "c"]
    works = [partial(_note, scope=name) for name in names]
    async with _opened(sqlite_address) as database:

        def queue() -> "list[asyncio.Task[str]]":
            tasks = _queued(database, *works)
            asyncio.get_running_loop().call_soon(tasks[1].cancel)
            return tasks

        first, second, third = await _while_busy(database, queue)
        kept = await database.read(_scopes)

    assert (first, third, kept) == ("a", "c", names)
    assert isinstance(second, asyncio.CancelledError)


async def test_closing_waits_for_the_queue(sqlite_address: str) -> None:
    """Whatever was queued before is kept; afterwards the database is closed."""
    async with _opened(sqlite_address) as database:
        tasks = _queued(database, *[partial(_note, scope=name) for name in "abc"])
        await asyncio.sleep(0)
        await database.close()

        assert await asyncio.gather(*tasks) == ["a", "b", "c"]
        with pytest.raises(LedgerError):
            await database.write(partial(_note, scope="late"))
