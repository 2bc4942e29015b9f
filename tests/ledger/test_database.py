"""Transactions in threads, and what goes wrong with them."""

import asyncio
import errno
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
from sqlalchemy import Connection, func, make_url, select, text
from sqlalchemy.exc import DBAPIError

from gaia_core.errors import LedgerError
from gaia_core.ledger import connecting, failures
from gaia_core.ledger.database import Database
from gaia_core.ledger.tables import alerts
from gaia_core.observability import mask


def _note(connection: Connection, scope: str = "s") -> None:
    connection.execute(
        alerts.insert(), {"scope": scope, "period": "p", "share": "1", "created_at": 1}
    )


def _count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(alerts)).scalar_one()


async def test_what_returns_is_committed(database: Database) -> None:
    """A transaction that returns has happened."""
    await database.write(_note)

    assert await database.read(_count) == 1


async def test_what_raises_is_undone(database: Database) -> None:
    """A transaction that raises has left nothing behind."""

    def fail(connection: Connection) -> NoReturn:
        _note(connection)
        raise KeyError

    with pytest.raises(KeyError):
        await database.write(fail)

    assert await database.read(_count) == 0


async def test_errors_of_the_work_stay_as_they_are(database: Database) -> None:
    """What a transaction itself trips over is not taken for the database's fault."""

    def read_a_file(_: Connection) -> NoReturn:
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        await database.write(read_a_file)


async def test_cancelled_caller_waits_for_the_end(database: Database) -> None:
    """A caller that is cancelled, even twice, is told when the transaction is over."""
    is_running, may_end = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        is_running.set()
        assert may_end.wait(10)
        _note(connection)

    caller = asyncio.create_task(database.write(slow))
    await asyncio.to_thread(is_running.wait, 10)
    for _ in range(2):
        caller.cancel()
        await asyncio.sleep(0)
    is_waiting = not caller.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller

    assert is_waiting
    assert await database.read(_count) == 1


async def test_opening_and_closing_may_be_repeated(address: str) -> None:
    """Opening twice is harmless, and a closed database can be opened again."""
    database = Database(address)
    for _ in range(2):
        await asyncio.gather(database.open(), database.open())
        await database.write(lambda connection: _note(connection, database.worker))
        await database.close()
        await database.close()
        database.worker = database.worker[::-1]
    await database.open()

    assert await database.read(_count) == 2

    await database.close()


async def test_cancelled_opening_leaves_nothing_open(address: str) -> None:
    """Whoever is cancelled while opening has opened nothing, and may try again."""
    database = Database(address)

    opening = asyncio.create_task(database.open())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening

    with pytest.raises(LedgerError, match="not open"):
        await database.read(_count)
    await database.open()
    assert await database.read(_count) == 0
    await database.close()


async def test_closed_database_says_so(address: str) -> None:
    """Nothing is read or written before opening."""
    database = Database(address)

    for work in (database.read, database.write):
        with pytest.raises(LedgerError, match="not open"):
            await work(_count)


async def test_sqlite_is_durable(sqlite_address: str) -> None:
    """The file keeps a log and is synced at every commit; its reader only reads."""
    database = Database(sqlite_address)
    await database.open()

    def facts(connection: Connection) -> dict[str, object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "query_only")
        return {
            name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in names
        }

    write, read = await database.write(facts), await database.read(facts)
    await database.close()

    expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    assert write == {**expected, "query_only": 0}
    assert read == {**expected, "query_only": 1}


async def test_readers_do_not_wait_for_the_writer(sqlite_address: str) -> None:
    """What is being written keeps nobody from reading what was."""
    database = Database(sqlite_address)
    await database.open()
    has_written, may_end = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        _note(connection)
        has_written.set()
        assert may_end.wait(30)

    writing = asyncio.create_task(database.write(slow))
    assert await asyncio.to_thread(has_written.wait, 30)
    before = await database.read(_count)
    may_end.set()
    await writing
    after = await database.read(_count)
    await database.close()

    assert (before, after) == (0, 1)


# -- what goes wrong ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("nonsense", "cannot be read"),
        ("mysql://h/n", "not on mysql"),
        ("sqlite://", "must be a file"),
        ("sqlite:///:memory:", "must be a file"),
        ("sqlite:///gaia.db?mode=ro", "does not know: mode"),
    ],
    ids=["no-address", "other-kind", "nowhere", "memory", "options"],
)
async def test_wrong_address_is_explained(address: str, words: str) -> None:
    """An address that cannot be used is refused with the ones that can."""
    with pytest.raises(LedgerError, match=words) as caught:
        await Database(address).open()

    assert mask(str(caught.value)) == str(caught.value)


async def test_unreachable_server_is_named_without_password(tmp_path: Path) -> None:
    """A server that does not answer is named; its password is not."""
    pytest.importorskip("psycopg")
    address = f"postgresql://user:sesame@/gaia?host={tmp_path}"

    with pytest.raises(LedgerError) as caught:
        await Database(address).open()

    assert str(tmp_path) in str(caught.value)
    assert "sesame" not in str(caught.value)
    assert "sesame" not in repr(Database(address))


async def test_missing_database_is_named(postgres_server: str) -> None:
    """A database that does not exist on the server is a step away."""
    address = postgres_server.replace("/postgres?", "/nowhere?")
    if address == postgres_server:
        pytest.skip("the server given is another one")

    with pytest.raises(LedgerError, match="nowhere") as caught:
        await Database(address).open()

    assert "there is no such database. Create it with `createdb`" in str(caught.value)


async def test_unknown_user_is_named(postgres_server: str) -> None:
    """A user the server does not know is no server that cannot be reached."""
    address = postgres_server.replace("postgres@", "stranger@")
    if address == postgres_server:
        pytest.skip("the server given is another one")

    with pytest.raises(LedgerError, match="user or password is refused"):
        await Database(address).open()


async def test_unknown_option_of_a_server_is_explained() -> None:
    """An option that libpq does not know is said to be wrong."""
    pytest.importorskip("psycopg")

    with pytest.raises(LedgerError, match="an option behind its question mark"):
        await Database("postgresql://localhost/gaia?colour=red").open()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(
            'FATAL:  password authentication failed for user "gaia"',
            "Check the user and password",
            id="password",
        ),
        pytest.param(
            "fe_sendauth: no password supplied",
            "Check the user and password",
            id="no-password",
        ),
        pytest.param(
            "FATAL:  sorry, too many clients already", "Try again", id="crowded"
        ),
        pytest.param(
            "FATAL:  the database system is starting up", "when it is back", id="young"
        ),
    ],
)
def test_refused_connections_are_explained(error: str, words: str) -> None:
    """What a server says before there is a connection bears no code."""
    psycopg = pytest.importorskip("psycopg")
    url = make_url("postgresql://gaia@db/gaia")

    with (
        pytest.raises(LedgerError, match=words),
        failures.explained(url, failures.OF_OPENING),
    ):
        raise DBAPIError(None, None, psycopg.OperationalError(error))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        pytest.param(errno.ENOSPC, "the disk is full", id="full"),
        pytest.param(errno.EDQUOT, "quota is used up", id="quota"),
        pytest.param(errno.EROFS, "the disk is read-only", id="read-only"),
    ],
)
def test_disks_that_cannot_be_written_are_explained(number: int, words: str) -> None:
    """What the system says of a disk is put into words, with a step that fits."""
    url = make_url("sqlite:////data/gaia.db")

    with (
        pytest.raises(LedgerError, match=words) as caught,
        failures.explained(url, failures.OF_OPENING),
    ):
        raise OSError(number, "no")

    assert "reached" not in str(caught.value)


def test_sqlite_without_room_says_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite calls it an error of the disk where its shared memory cannot grow."""
    url = make_url(f"sqlite:///{tmp_path / 'gaia.db'}")
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE

    with pytest.raises(LedgerError, match="cannot be read"), failures.explained(url):
        raise error

    everything = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(failures, "_LITTLE", everything.total + 1)
    with pytest.raises(LedgerError, match="disk is full"), failures.explained(url):
        raise error


async def test_missing_driver_is_a_command_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without psycopg the error says how to install it."""
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(LedgerError, match=r"pip install 'gaia-core\[postgres\]'"):
        await Database("postgresql://localhost/gaia").open()


async def test_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    """A file of another kind is refused, and stays as it is."""
    file = tmp_path / "gaia.db"
    file.write_text("a diary " * 1_000)

    with pytest.raises(LedgerError, match="no SQLite database"):
        await Database(f"sqlite:///{file}").open()

    assert file.read_text() == "a diary " * 1_000


async def test_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    """Where the folder cannot be made, the file is named."""
    (tmp_path / "taken").write_bytes(b"")
    file = tmp_path / "taken" / "gaia.db"

    with pytest.raises(LedgerError) as caught:
        await Database(f"sqlite:///{file}").open()

    assert str(file) in str(caught.value)
    assert "is a file, not a folder" in str(caught.value)


async def test_folder_is_no_file(tmp_path: Path) -> None:
    """Where the address names a folder, a file in it is a step away."""
    with pytest.raises(LedgerError, match="it is a folder"):
        await Database(f"sqlite:///{tmp_path}").open()


async def test_locked_file_is_explained(
    sqlite_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that another process keeps locked is waited for, then named."""
    monkeypatch.setattr(connecting, "LOCK_TIMEOUT", 0.1)
    database = Database(sqlite_address)
    await database.open()
    assert database.file is not None
    with closing(sqlite3.connect(database.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(LedgerError, match="locked") as caught:
            await database.write(_note)

    assert str(database.file) in str(caught.value)
    await database.write(_note)
    await database.close()


async def test_full_disk_is_explained(sqlite_address: str) -> None:
    """A disk that is full is said to be, and nothing has changed."""
    database = Database(sqlite_address)
    await database.open()

    def fill(connection: Connection) -> None:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        connection.execute(text(f"PRAGMA max_page_count={pages}"))
        for number in range(1_000):
            _note(connection, f"{number}" * 100)

    with pytest.raises(LedgerError, match="disk is full"):
        await database.write(fill)

    assert await database.read(_count) == 0
    await database.close()


# -- many at once -------------------------------------------------------------------

OPENING = """
import asyncio, sys
from gaia_core.ledger.database import Database

async def main():
    database = Database(sys.argv[1])
    await database.open()
    await database.close()

asyncio.run(main())
"""


@pytest.mark.slow
def test_processes_may_open_a_fresh_database_at_once(address: str) -> None:
    """Of several processes one makes the tables, and none fails."""
    programs = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", OPENING, address],
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]

    errors = [program.communicate(timeout=120)[1] for program in programs]

    assert errors == [""] * 6


async def test_deadlocks_are_run_again(postgres_address: str) -> None:
    """Two transactions in each other's way both come to their end."""
    database = Database(postgres_address)
    await database.open()
    for scope in ("a", "b"):
        await database.write(partial(_note, scope=scope))
    together = threading.Barrier(2)
    runs: list[str] = []

    def both(connection: Connection, first: str, second: str) -> None:
        runs.append(first)
        _touch(connection, first)
        if len(runs) <= 2:
            together.wait(10)
        _touch(connection, second)

    await asyncio.gather(
        database.write(lambda connection: both(connection, "a", "b")),
        database.write(lambda connection: both(connection, "b", "a")),
    )
    touched = await database.read(
        lambda connection: (
            connection.execute(select(alerts.c.created_at)).scalars().all()
        )
    )
    await database.close()

    assert list(touched) == [3, 3]
    # Run again, one may meet the other once more: the server decides who waits.
    assert len(runs) >= 3


async def test_dead_connections_are_replaced(postgres_address: str) -> None:
    """A server that was restarted meanwhile is no reason to fail."""
    database = Database(postgres_address)
    await database.open()
    await database.write(_note)
    other = Database(postgres_address)
    await other.open()

    await other.write(
        lambda connection: connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    )

    assert await database.read(_count) == 1
    await database.close()
    await other.close()


def _touch(connection: Connection, scope: str) -> None:
    connection.execute(
        alerts.update()
        .where(alerts.c.scope == scope)
        .values(created_at=alerts.c.created_at + 1)
    )
