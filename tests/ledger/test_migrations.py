"""The tables from version to version."""

import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from gaia_core.errors import LedgerError
from gaia_core.ledger import SqlLedger, schema
from gaia_core.ledger.connecting import Engines
from gaia_core.ledger.database import Database
from gaia_core.ledger.tables import metadata

from .stories import an_operation

OLD = {
    "id": "f" * 32,
    "capability": "text-to-image",
    "state": "accepted",
    "principal": "",
    "day": "2026-11-22",
    "fingerprint": "",
    "reserved": 40_000,
    "images": 0,
    "owner": "0" * 32,
    "fence": 0,
    "leases": 0,
    "created_at": 1,
    "updated_at": 1,
}
"""An operation as the first version kept it."""
HELD = {
    "operation_id": "f" * 32,
    "kind": "reserve",
    "reserved": 40_000,
    "spent": 0,
    "day": "2026-11-22",
    "created_at": 1,
}
"""Its money."""
TRIED = {
    "operation_id": "f" * 32,
    "number": 1,
    "provider": "p",
    "model": "m",
    "task_id": "t",
    "outcome": "ambiguous",
    "price": 40_000,
    "duration_ms": 0.0,
    "sent_at": 1,
}
"""What was sent for it."""
WHERE = ("sqlite_where", "postgresql_where")
"""What the conditions of indexes are called."""


def _insert(connection: Connection, table: str, values: dict[str, Any]) -> None:
    names = ", ".join(values)
    places = ", ".join(f":{name}" for name in values)
    statement = f"INSERT INTO {table} ({names}) VALUES ({places})"  # noqa: S608  our own names
    connection.execute(text(statement), values)


def _old(address: str, version: str = "0001") -> None:
    """Make a database as an older version left it."""
    engines = _bare(address)

    def make(connection: Connection) -> None:
        schema.migrate(connection, None, version)
        _insert(connection, "operations", OLD)
        _insert(connection, "entries", HELD)
        _insert(connection, "attempts", TRIED)

    engines.write(make)
    engines.dispose()


def _bare(address: str) -> Engines:
    """Connect to a database, and make nothing in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "is_current", lambda _connection: True)
        return Engines.of(address)


def _shape(engine: Engine) -> dict[str, Any]:
    """Say of every table what it consists of, in no order."""
    looking = inspect(engine)
    return {
        name: {
            "columns": {
                (one["name"], str(one["type"]), one["nullable"], one["default"])
                for one in looking.get_columns(name)
            },
            "primary": looking.get_pk_constraint(name)["constrained_columns"],
            "indexes": {
                (
                    one["name"],
                    tuple(one["column_names"]),
                    one["unique"],
                    *(str(one.get("dialect_options", {}).get(word)) for word in WHERE),
                )
                for one in looking.get_indexes(name)
            },
        }
        for name in looking.get_table_names()
    }


@pytest.mark.parametrize("version", schema.REVISIONS[:-1])
async def test_older_database_is_brought_forward(address: str, version: str) -> None:
    """A database of an older version opens, and what it holds is still there."""
    _old(address, version)
    ledger = SqlLedger(Database(address))

    await ledger.open()
    operation = await ledger.get("f" * 32)
    problems = await ledger.check()
    await ledger.accept(an_operation())
    await ledger.close()

    assert operation is not None
    assert (operation.batch_id, str(operation.reserved_usd)) == (None, "0.04")
    assert [one.reference for one in operation.attempts] == [None]
    assert problems == []


async def test_prompts_are_copied_out_of_requests(address: str) -> None:
    """People find by its prompt what was made before prompts had a column."""
    requests = {
        "a": '{"prompt": "a red dragon"}',
        "b": '{"prompt": "\\u0000 and \\ud800"}',
        "c": '{"image": {}}',
        "d": '{"prompt": 7}',
        "e": '{"prompt": "Église"}',
        "f": None,
    }
    _old(address, "0003")
    engines = _bare(address)

    def fill(connection: Connection) -> None:
        for letter, request in requests.items():
            row = {**OLD, "id": letter * 31, "request": request, "state": "done"}
            _insert(connection, "operations", row)
        for number in range(1_001):
            row = {**OLD, "id": f"{number:032}", "request": '{"prompt": "a keep"}'}
            _insert(connection, "operations", row)

    engines.write(fill)
    engines.dispose()
    database = Database(address)
    await database.open()
    found = await database.read(
        lambda connection: connection.execute(
            text("SELECT id, prompt FROM operations WHERE prompt IS NOT NULL")
        ).all()
    )
    await database.close()

    assert len(found) == 1_001 + 3
    assert {row.id[0]: row.prompt for row in found} == {
        "0": "a keep",
        "a": "a red dragon",
        "b": "? and ?",
        "e": "Église",
    }


def test_two_ways_lead_to_the_same_tables(address: str) -> None:
    """Tables made at once and tables made step by step are the same."""
    engines = Engines.of(address)
    at_once = _shape(engines.writer)
    with engines.writer.begin() as connection:
        metadata.drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
        schema.migrate(connection, None)
    step_by_step = _shape(engines.writer)
    with engines.writer.connect() as connection:
        left = compare_metadata(MigrationContext.configure(connection), metadata)
    engines.dispose()

    assert step_by_step == at_once
    assert left == []


def test_versions_are_those_of_the_steps() -> None:
    """The list of versions names every step, in order."""
    steps = ScriptDirectory(str(schema.MIGRATIONS)).walk_revisions()

    assert tuple(reversed([step.revision for step in steps])) == schema.REVISIONS


async def test_newer_database_is_refused(address: str) -> None:
    """A database that a newer Gaia wrote is left alone, and the error says so."""
    database = Database(address)
    await database.open()
    await database.write(
        lambda connection: connection.execute(
            text("UPDATE alembic_version SET version_num = '9999'")
        )
    )
    await database.close()

    with pytest.raises(LedgerError, match=r"9999.*newer Gaia.*Update gaia-core"):
        await database.open()


async def test_tables_of_others_are_left_alone(address: str) -> None:
    """A database in which somebody else has tables of the same name is refused."""
    engines = _bare(address)
    engines.write(
        lambda connection: connection.execute(text("CREATE TABLE keys (x int)"))
    )
    engines.dispose()

    with pytest.raises(LedgerError, match="'keys' that is not Gaia's"):
        await Database(address).open()


async def test_failed_step_leaves_the_old_version(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration that fails half-way changes nothing, and can be tried again."""
    _old(address)

    def fail(*_: object) -> None:
        message = "full"
        raise OSError(message)

    with monkeypatch.context() as patch:
        patch.setattr(MigrationContext, "stamp", fail)
        with pytest.raises(LedgerError, match="full"):
            await Database(address).open()
    engines = _bare(address)
    names = inspect(engines.reader).get_table_names()
    engines.dispose()
    database = Database(address)
    await database.open()
    is_current = await database.read(schema.is_current)
    await database.close()

    assert "batches" not in names
    assert is_current


QUIET = """
import asyncio, logging, sys
from gaia_core.ledger.database import Database

async def main():
    database = Database(sys.argv[1])
    await database.open()
    await database.close()

asyncio.run(main())
print("alembic" in sys.modules, logging.getLogger().handlers)
"""


@pytest.mark.parametrize(
    ("prepare", "is_needed"),
    [(lambda _address: None, False), (_old, True)],
    ids=["current", "older"],
)
def test_alembic_is_loaded_only_when_needed(
    sqlite_address: str, prepare: Callable[[str], None], *, is_needed: bool
) -> None:
    """A database that is up to date or new opens without it, and nobody logs."""
    prepare(sqlite_address)

    said = subprocess.run(
        [sys.executable, "-W", "error", "-c", QUIET, sqlite_address],
        capture_output=True,
        check=True,
        text=True,
    )

    assert said.stdout == f"{is_needed} []\n"
    assert said.stderr == ""


def test_hosts_logging_is_left_alone(sqlite_address: str) -> None:
    """Bringing a database forward changes nothing about the host's logging."""
    _old(sqlite_address)
    root = logging.getLogger()
    before = (root.level, list(root.handlers), logging.getLogger("alembic").disabled)

    Engines.of(sqlite_address).dispose()

    after = (root.level, list(root.handlers), logging.getLogger("alembic").disabled)
    assert after == before


def test_sqlalchemy_knows_no_other_tables() -> None:
    """The tables of the ledger are the ones the steps make."""
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        schema.migrate(connection, None)
        names = set(inspect(connection).get_table_names())
    engine.dispose()

    assert names == {*metadata.tables, "alembic_version"}
