"""Errors of databases and drivers, said so that a person can act on them."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gaia_core.errors import LedgerError

_UNDONE = "gaia_undone"
_IN_THE_WAY = frozenset({"40001", "40P01"})  # serialization failure, deadlock

_SQLITE = {
    sqlite3.SQLITE_BUSY: (
        "another process keeps it locked",
        "Try again, or end the process that holds it",
    ),
    sqlite3.SQLITE_LOCKED: ("it is locked", "Try again"),
    sqlite3.SQLITE_FULL: ("the disk is full", "Make room on the disk"),
    sqlite3.SQLITE_READONLY: (
        "it is read-only",
        "Give this user the right to write the file and its folder",
    ),
    sqlite3.SQLITE_PERM: ("access is denied", "Check the file's permissions"),
    sqlite3.SQLITE_CANTOPEN: (
        "it cannot be opened",
        "Check that the folder exists and that this user may write in it",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "the file is damaged",
        "Restore it from a backup, or name another file as database",
    ),
    sqlite3.SQLITE_NOTADB: (
        "the file is no SQLite database",
        "Name another file as database",
    ),
    sqlite3.SQLITE_IOERR: (
        "the disk cannot be read or written",
        "Check the disk",
    ),
}
_SQLSTATES = {
    "28": ("the user or password is refused", "Check the user and password"),
    "3D": ("there is no such database", "Create it with `createdb`"),
    "42501": ("the user may not do this", "Grant the user rights on the tables"),
    "53100": ("the server's disk is full", "Make room on the server's disk"),
    "53": ("the server has no room for more", "Try again, or raise its limits"),
    "55P03": ("others keep it locked", "Try again"),
    "25006": ("it is read-only", "Name the primary server as database"),
    "57": ("the server is going down", "Try again when it is back"),
    "08": ("the connection broke", "Check that the server runs, and try again"),
}


OF_TRANSACTIONS = (SQLAlchemyError, sqlite3.Error)
"""What goes wrong with a database; whatever else a transaction raises is its own."""
OF_OPENING = (*OF_TRANSACTIONS, OSError, ImportError)
"""What goes wrong before there is one."""


@contextmanager
def explained(
    url: URL, errors: tuple[type[Exception], ...] = OF_TRANSACTIONS
) -> Iterator[None]:
    """
    Turn errors of the database into words: what, why, and what to do.

    Args:
        url: The database.
        errors: Which errors are its own.

    Raises:
        LedgerError: For each of them.
    """
    try:
        yield
    except errors as error:
        cause, advice = _reason(error)
        message = f"The ledger at {_place(url)} cannot be used: {cause}. {advice}."
        raise LedgerError(message) from error


def mark_undone(error: DBAPIError) -> None:
    """Note on an error that it came before the transaction was committed."""
    setattr(error, _UNDONE, True)


def is_undone(error: DBAPIError) -> bool:
    """
    Tell whether a transaction left nothing behind, and may succeed if run again.

    That is so where the server chose it to give way to others, and where an idle
    connection turned out to be dead before the commit.
    """
    if getattr(error.orig, "sqlstate", None) in _IN_THE_WAY:
        return True
    return error.connection_invalidated and getattr(error, _UNDONE, False)


def _place(url: URL) -> str:
    """Name the file, or the server without the password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    host = url.host or url.query.get("host") or "localhost"
    return f"{host}/{url.database or url.username or ''}"


def _reason(error: Exception) -> tuple[str, str]:
    original = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(original, "sqlite_errorcode", None)
    if code is not None and (known := _SQLITE.get(code & 0xFF)):
        return known
    state = getattr(original, "sqlstate", None) or ""
    for part in (state, state[:2]):
        if known := _SQLSTATES.get(part):
            return known
    if isinstance(original, ModuleNotFoundError) and original.name == "psycopg":
        advice = "Install it with `pip install 'gaia-core[postgres]'`"
        return "psycopg is not installed", advice
    if isinstance(original, PermissionError):
        return "access is denied", "Check the folder's permissions"
    words = str(original).strip().partition("\n")[0].rstrip(".")
    return words or type(original).__name__, "Check that it runs and can be reached"
