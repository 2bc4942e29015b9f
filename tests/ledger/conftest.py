"""Databases to keep a book in: a file, and a PostgreSQL server of our own."""

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gaia_core.ledger import SqlLedger
from gaia_core.ledger.database import Database

GIVEN = os.environ.get("GAIA_TEST_POSTGRES")
"""The address of a server to use; read before tests clear the environment."""
SERVANTS = ("postgres", "nobody")
"""Who may run the server, which refuses to run as root."""


@pytest.fixture(name="postgres_server", scope="session")
def _postgres_server() -> Iterator[str]:
    """Start a PostgreSQL server that nobody else can reach, and throw it away."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    if GIVEN:
        yield GIVEN
        return
    with _folder() as folder, _running(folder):
        yield f"postgresql://postgres@/postgres?host={folder}"


@pytest.fixture(name="postgres_address")
def _postgres_address(postgres_server: str) -> Iterator[str]:
    """Give an empty database on the server."""
    name = f"gaia_{uuid.uuid4().hex}"
    server = sa.make_url(postgres_server).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        url = server.set(drivername="postgresql", database=name)
        yield url.render_as_string(hide_password=False)
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        engine.dispose()


@pytest.fixture(name="sqlite_address")
def _sqlite_address(tmp_path: Path) -> str:
    """Give a file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'ledger' / 'gaia.db'}"


@pytest.fixture(name="address", params=["sqlite", "postgresql"])
def _address(request: pytest.FixtureRequest) -> str:
    """Give an empty database of each kind."""
    kind = {"sqlite": "sqlite_address", "postgresql": "postgres_address"}
    address: str = request.getfixturevalue(kind[request.param])
    return address


@pytest.fixture(name="database")
async def _database(address: str) -> AsyncIterator[Database]:
    """Give an open database of each kind."""
    database = Database(address)
    await database.open()
    yield database
    await database.close()


@pytest.fixture(name="ledger")
async def _ledger(address: str) -> AsyncIterator[SqlLedger]:
    """Give an open ledger in a database of each kind."""
    ledger = SqlLedger(Database(address))
    await ledger.open()
    yield ledger
    await ledger.close()


def _program(name: str) -> str:
    """Find a program of the server, which Debian keeps off the path."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which(name) or shutil.which(
        name, path=os.pathsep.join(map(str, folders))
    )
    if found is None:
        pytest.skip(f"no PostgreSQL server is installed: {name} not found")
    return found


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder whose name is short enough for a socket in it."""
    folder = Path(tempfile.mkdtemp(prefix="gaia-pg-"))
    try:
        if (servant := _servant()) is not None:
            os.chown(folder, servant.pw_uid, servant.pw_gid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(folder: Path) -> Iterator[None]:
    data = folder / "data"
    _call(
        "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"
    )
    # No port, so that two runs never meet; no fsync, as nothing is to be kept.
    options = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=200"
    start = ("-w", "-t", "60", "-o", options, "-l", folder / "log", "start")
    _call("pg_ctl", "-D", data, *start)
    try:
        yield
    finally:
        _call("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")


def _call(name: str, *arguments: str | Path) -> None:
    servant = _servant()
    account: dict[str, Any] = {}
    if servant is not None:
        account = {"user": servant.pw_uid, "group": servant.pw_gid, "extra_groups": ()}
    done = subprocess.run(
        [_program(name), *map(str, arguments)],
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        text=True,
        **account,
    )
    if done.returncode:
        pytest.skip(f"no PostgreSQL server can be started: {name}: {done.stderr}")


def _servant() -> pwd.struct_passwd | None:
    """Find somebody to run the server where we are root; None: we run it."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in SERVANTS:
        if name in known:
            return known[name]
    pytest.skip("PostgreSQL does not run as root, and there is nobody else")
