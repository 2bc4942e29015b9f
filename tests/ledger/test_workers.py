"""Who is alive: found out at once on one machine, within a minute on many."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete, insert, select, update

from gaia_core.errors import LedgerError
from gaia_core.ledger import SqlLedger, tables, workers
from gaia_core.ledger.database import Database
from gaia_core.ledger.workers import Workers
from gaia_core.testing import capture_events

from .stories import an_operation

CHILD = """
import asyncio, sys
from gaia_core import Capability
from gaia_core.ledger import Operation, SqlLedger
from gaia_core.ledger.database import Database

async def main(address, ids):
    ledger = SqlLedger(Database(address))
    await ledger.open()
    for one in ids:
        await ledger.accept(Operation(id=one, capability=Capability.TEXT_TO_IMAGE))
    print(ledger.database.worker, flush=True)
    await asyncio.sleep(600)

asyncio.run(main(sys.argv[1], sys.argv[2:]))
"""


@contextlib.contextmanager
def _process(address: str, *operations: str) -> Iterator[tuple[int, str]]:
    """Start a process that takes operations on and goes no further."""
    command = [sys.executable, "-c", CHILD, address, *operations]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield child.pid, child.stdout.readline().strip()
        finally:
            child.kill()


def _end(pid: int) -> None:
    """End a process as nothing in it can prevent, and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


async def _listed(database: Database) -> set[str]:
    def read(connection: Connection) -> set[str]:
        return set(connection.scalars(select(tables.workers.c.id)))

    return await database.read(read)


async def _fall_silent(database: Database, worker: str) -> None:
    """Move the last word of a worker a minute into the past."""
    seen = tables.workers.c.seen_at
    silent = update(tables.workers).values(seen_at=seen - 61_000_000)
    own = silent.where(tables.workers.c.id == worker)
    await database.write(lambda connection: connection.execute(own).rowcount)


def _folder(database: Database) -> Path:
    assert database.file is not None
    return database.file.with_name(f"{database.file.name}-workers")


def _files(database: Database) -> set[str]:
    return {path.stem for path in _folder(database).iterdir()}


def _touch(path: Path) -> None:
    path.touch()


# -- on every database --------------------------------------------------------------


async def test_whoever_is_there_is_not_dead(ledger: SqlLedger, address: str) -> None:
    """A process that has something open and is there keeps it."""
    await ledger.accept(an_operation())
    other = SqlLedger(Database(address))
    await other.open()

    assert await Workers(other.database).dead() == frozenset()
    await other.close()


async def test_starting_again_is_harmless(database: Database) -> None:
    """A process that says twice that it is there is on the list once."""
    own = Workers(database)

    await own.start()
    await own.start()

    assert await _listed(database) == {database.worker}
    await own.stop()


async def test_whoever_stops_is_forgotten(database: Database) -> None:
    """A process that ends in order leaves no trace."""
    own = Workers(database)
    await own.start()

    await own.stop()

    assert await _listed(database) == set()
    if database.file is not None:
        assert _files(database) == set()


async def test_what_a_stopped_process_left_is_free(
    ledger: SqlLedger, database: Database
) -> None:
    """A process that ends while something is open counts as gone from then on."""
    await ledger.accept(an_operation())
    gone = {ledger.database.worker}

    await ledger.close()

    assert await Workers(database).dead() == gone
    assert await _listed(database) == gone
    assert ledger.database.worker not in gone


async def test_reopened_ledger_takes_over_what_it_left(ledger: SqlLedger) -> None:
    """What a `Gaia` left open when it closed is settled when it is opened again."""
    operation = await ledger.accept(an_operation())
    await ledger.close()
    await ledger.open()

    adopted = await ledger.adopt()

    assert [one.id for one in adopted] == [operation.id]


async def test_owner_that_is_not_listed_is_dead(
    ledger: SqlLedger, database: Database
) -> None:
    """What belongs to a process nobody knows can be taken over."""
    operation = await ledger.accept(an_operation())
    own = update(tables.operations).where(tables.operations.c.id == operation.id)
    stray = own.values(owner="0" * 32)
    await database.write(lambda connection: connection.execute(stray).rowcount)

    assert await Workers(database).dead() == {"0" * 32}


async def test_nobody_is_dead_to_themselves(database: Database) -> None:
    """A process that was not announced does not take itself for gone."""
    assert await Workers(database).dead() == frozenset()


# -- on one machine -----------------------------------------------------------------


async def test_killed_process_is_dead_at_once(sqlite_address: str) -> None:
    """Whatever way a process ends, the next look finds it gone."""
    ledger = SqlLedger(Database(sqlite_address))
    await ledger.open()
    own = Workers(ledger.database)
    with _process(sqlite_address, "a" * 32) as (pid, worker):
        before = await own.dead()

        _end(pid)

        assert before == frozenset()
        assert await own.dead() == {worker}
        assert [one.id for one in await ledger.adopt()] == ["a" * 32]
        assert await own.dead() == frozenset()
        assert _files(ledger.database) == {ledger.database.worker}
    await ledger.close()


async def test_killed_process_that_left_nothing_is_forgotten(
    sqlite_address: str,
) -> None:
    """A process that had nothing open is struck off as soon as it is gone."""
    ledger = SqlLedger(Database(sqlite_address))
    await ledger.open()
    with _process(sqlite_address) as (pid, worker):
        listed = await _listed(ledger.database)

        _end(pid)
        dead = await Workers(ledger.database).dead()

        assert listed == {ledger.database.worker, worker}
        assert dead == frozenset()
        assert await _listed(ledger.database) == {ledger.database.worker}
        assert _files(ledger.database) == {ledger.database.worker}
    await ledger.close()


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no process can be stopped")
async def test_frozen_process_is_alive(sqlite_address: str) -> None:
    """A process that stands still, however long, is not given up on one machine."""
    ledger = SqlLedger(Database(sqlite_address))
    await ledger.open()
    with _process(sqlite_address, "a" * 32) as (pid, worker):
        os.kill(pid, signal.SIGSTOP)
        await _fall_silent(ledger.database, worker)

        assert await Workers(ledger.database).dead() == frozenset()
        assert await ledger.adopt() == []
    await ledger.close()


async def test_lost_lock_files_are_swept(sqlite_address: str) -> None:
    """The file of a process that ended before it was on the list is removed."""
    ledger = SqlLedger(Database(sqlite_address))
    await ledger.open()
    _touch(_folder(ledger.database) / f"{'0' * 32}.lock")

    await ledger.adopt()

    assert _files(ledger.database) == {ledger.database.worker}
    await ledger.close()


async def test_ledger_without_a_place_for_locks_is_refused(
    sqlite_address: str,
) -> None:
    """Where no lock can be taken, the ledger says so instead of going on."""
    database = Database(sqlite_address)
    await database.open()
    _touch(_folder(database))

    with pytest.raises(LedgerError, match="cannot lock"):
        await Workers(database).start()

    await database.close()


# -- on many machines ---------------------------------------------------------------


async def test_silent_process_is_dead(postgres_address: str) -> None:
    """A process that said nothing for a minute is gone; a younger silence is none."""
    ledger, other = (SqlLedger(Database(postgres_address)) for _ in range(2))
    await ledger.open()
    await other.open()
    own = Workers(other.database)
    await ledger.accept(an_operation())
    before = await own.dead()

    await _fall_silent(other.database, ledger.database.worker)

    assert before == frozenset()
    assert await own.dead() == {ledger.database.worker}
    await ledger.close()
    await other.close()


async def test_silent_process_that_left_nothing_is_forgotten(
    postgres_address: str,
) -> None:
    """A silent process with nothing open is struck off."""
    database = Database(postgres_address)
    await database.open()
    values = {"id": "0" * 32, "name": "n", "started_at": 1, "seen_at": 1}
    stale = insert(tables.workers).values(values)
    await database.write(lambda connection: connection.execute(stale).rowcount)

    dead = await Workers(database).dead()

    assert (dead, await _listed(database)) == (frozenset(), set())
    await database.close()


async def test_process_says_that_it_is_there(
    postgres_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process renews its word, and comes back if it was struck off."""
    monkeypatch.setattr(workers, "RENEWAL", 0.01)
    database = Database(postgres_address)
    await database.open()
    own = Workers(database)
    await own.start()
    everybody = delete(tables.workers)

    await database.write(lambda connection: connection.execute(everybody).rowcount)

    await _until_listed(database)
    await own.stop()
    assert await _listed(database) == set()
    await database.close()


async def test_renewal_outlives_a_failure(
    postgres_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renewal that fails is logged, and the next one may do."""
    monkeypatch.setattr(workers, "RENEWAL", 0.01)
    database = Database(postgres_address)
    own = Workers(database)
    await database.open()
    await own.start()
    await database.write(
        lambda connection: connection.execute(delete(tables.workers)).rowcount
    )
    await database.close()

    with capture_events() as logs:
        async with asyncio.timeout(30):
            while not logs:  # noqa: ASYNC110  the log tells nobody
                await asyncio.sleep(0.01)
    await database.open()

    assert logs[0]["event"] == "gaia.worker_renewal_failed"
    await _until_listed(database)
    await own.stop()
    await database.close()


async def _until_listed(database: Database) -> None:
    async with asyncio.timeout(30):
        while await _listed(database) != {database.worker}:  # noqa: ASYNC110  as above
            await asyncio.sleep(0.01)
