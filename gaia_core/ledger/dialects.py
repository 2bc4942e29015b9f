"""The few statements that SQLite and PostgreSQL have in common under other names."""

from functools import cache
from typing import Any

from sqlalchemy import Connection, Table


def insert_or_ignore(connection: Connection, table: Table) -> Any:
    """Insert, unless there is a row with the same key; its row count says which."""
    return _insert_or_ignore(connection.dialect.name, table)


@cache
def _insert_or_ignore(dialect: str, table: Table) -> Any:
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - only there

        return postgresql.insert(table).on_conflict_do_nothing()
    from sqlalchemy.dialects import sqlite  # noqa: PLC0415 - only there

    return sqlite.insert(table).on_conflict_do_nothing()
