"""The few statements that SQLite and PostgreSQL have in common under other names."""

from functools import cache
from typing import Any

from sqlalchemy import Connection, Table


def insert_or_ignore(connection: Connection, table: Table) -> Any:
    """Insert, unless there is a row with the same key; its row count says which."""
    return _insert_or_ignore(connection.dialect.name, table)


@cache
def _insert_or_ignore(dialect: str, table: Table) -> Any:
    from sqlalchemy.dialects import postgresql, sqlite  # noqa: PLC0415 - slow

    kind = postgresql if dialect == "postgresql" else sqlite
    statement = kind.insert(table).on_conflict_do_nothing()
    # Without it psycopg's count is not kept for an INSERT.
    return statement.execution_options(preserve_rowcount=True)
