"""
The tables from version to version.

A database that is new gets its tables at once; an older one is brought forward by
the migrations, in one transaction; a newer one is refused. One that is up to date is
recognised with a single query, without alembic, which is slow to import.
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from gaia_core.errors import LedgerError
from gaia_core.ledger.tables import metadata

REVISIONS = ("0001", "0002", "0003", "0004")
"""Every version of the tables, oldest first."""
MIGRATIONS = Path(__file__).parent / "migrations"
"""Where the steps between them lie."""

_ONE_AT_A_TIME = 0x6761_6961  # any number that nobody else locks


def is_current(connection: Connection) -> bool:
    """Tell whether the tables are of this version."""
    try:
        return _version(connection) == REVISIONS[-1]
    except (OperationalError, ProgrammingError):
        return False


def bring_forward(connection: Connection) -> None:
    """
    Make the tables, or bring them to this version; others wait meanwhile.

    Raises:
        LedgerError: If they are of a newer version, or are not Gaia's.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(
            text("SELECT pg_advisory_xact_lock(:number)"), {"number": _ONE_AT_A_TIME}
        )
    names = set(inspect(connection).get_table_names())
    version = _version(connection) if "alembic_version" in names else None
    if version is None:
        _make(connection, names)
    elif version not in REVISIONS:
        message = (
            f"The ledger is of version {version}, this Gaia knows versions up to "
            f"{REVISIONS[-1]}: a newer Gaia wrote it. Update gaia-core."
        )
        raise LedgerError(message)
    elif version != REVISIONS[-1]:
        migrate(connection, version)


def migrate(
    connection: Connection, version: str | None, target: str = REVISIONS[-1]
) -> None:
    """Take the steps from one version to another."""
    # Only an older database needs it.
    from alembic.operations import Operations  # noqa: PLC0415
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    steps = ScriptDirectory(str(MIGRATIONS))
    context = MigrationContext.configure(connection)
    with Operations.context(context):
        for step in reversed(list(steps.iterate_revisions(target, version))):
            step.module.upgrade()
    context.stamp(steps, target)


def _version(connection: Connection) -> str | None:
    row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return None if row is None else str(row[0])


def _make(connection: Connection, names: set[str]) -> None:
    if taken := names & set(metadata.tables):
        message = (
            f"The database has a table {min(taken)!r} that is not Gaia's. "
            "Give the ledger a database of its own."
        )
        raise LedgerError(message)
    metadata.create_all(connection)
    # The table alembic keeps its version in, as it would make it itself.
    connection.execute(
        text(
            "CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) "
            "NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
    )
    connection.execute(
        text("INSERT INTO alembic_version (version_num) VALUES (:version)"),
        {"version": REVISIONS[-1]},
    )
