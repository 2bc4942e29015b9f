"""Errors of databases and drivers, said so that a person can act on them."""

import errno
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gaia_core.errors import LedgerError

_UNDONE = "gaia_undone"
_IN_THE_WAY = frozenset({"40001", "40P01"})  # serialization failure, deadlock

_FULL = ("the disk is full", "Make room on the disk")
_REACH = "Check that it runs and can be reached"
_LITTLE = 1 << 20
"""So few bytes left on a disk that SQLite cannot work there."""

_SQLITE = {
    sqlite3.SQLITE_BUSY: (
        "another process keeps it locked",
        "Try again, or end the process that holds it",
    ),
    sqlite3.SQLITE_LOCKED: ("it is locked", "Try again"),
    sqlite3.SQLITE_FULL: _FULL,
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


_NO_CODE = {
    r"password authentication failed|no password supplied": _SQLSTATES["28"],
    r"role .* does not exist|no pg_hba.conf entry": _SQLSTATES["28"],
    r"database .* does not exist": _SQLSTATES["3D"],
    r"too many clients|remaining connection slots": _SQLSTATES["53"],
    r"starting up|shutting down": _SQLSTATES["57"],
    r"invalid (connection|URI query) (option|parameter)": (
        "an option behind its question mark is not known",
        "Check the address",
    ),
}
"""What connecting fails with, which bears no code: words of the server and of libpq."""
_ERRNOS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: ("the disk quota is used up", "Make room on the disk"),
    errno.ENOTDIR: (
        "a part of its path is a file, not a folder",
        "Name a file in a folder as database",
    ),
    errno.EROFS: ("the disk is read-only", "Name a file on another disk"),
}
_ERRNOS[errno.EEXIST] = _ERRNOS[errno.ENOTDIR]

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
        cause, advice = _reason(error, url)
        message = f"The ledger at {_place(url)} cannot be used: {cause}. {advice}."
        raise LedgerError(message) from error


def mark_undone(error: DBAPIError) -> None:
    """Note on an error that it came before the transaction was committed."""
    setattr(error, _UNDONE, True)


def is_before_commit(error: DBAPIError) -> bool:
    """Tell whether an error came before the transaction was committed."""
    return getattr(error, _UNDONE, False)


def is_undone(error: DBAPIError) -> bool:
    """
    Tell whether a transaction left nothing behind, and may succeed if run again.

    That is so where the server chose it to give way to others, and where an idle
    connection turned out to be dead before the commit.
    """
    if getattr(error.orig, "sqlstate", None) in _IN_THE_WAY:
        return True
    return error.connection_invalidated and is_before_commit(error)


def _place(url: URL) -> str:
    """Name the file, or the server without the password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    host = url.host or url.query.get("host") or "localhost"
    return f"{host}/{url.database or url.username or ''}"


def _reason(error: Exception, url: URL) -> tuple[str, str]:
    original = error.orig if isinstance(error, DBAPIError) else error
    if original is None:
        original = error
    if known := _of_code(original, url) or _of_system(original) or _of_words(original):
        return known
    words = str(original).strip().partition("\n")[0].rstrip(".")
    is_file = url.get_backend_name() == "sqlite"
    advice = "Name another file as database" if is_file else _REACH
    return words or type(original).__name__, advice


def _of_code(error: BaseException, url: URL) -> tuple[str, str] | None:
    """Go by the code of SQLite, or of the server."""
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_CANTOPEN and Path(str(url.database)).is_dir():
        return "it is a folder", "Name a file in it as database"
    if code is not None and (known := _SQLITE.get(code & 0xFF)):
        return _FULL if _is_for_want_of_room(code & 0xFF, url) else known
    state = getattr(error, "sqlstate", None) or ""
    return _SQLSTATES.get(state) or _SQLSTATES.get(state[:2])


def _of_system(error: BaseException) -> tuple[str, str] | None:
    if isinstance(error, ModuleNotFoundError) and error.name == "psycopg":
        advice = "Install it with `pip install 'gaia-core[postgres]'`"
        return "psycopg is not installed", advice
    if isinstance(error, PermissionError):
        return "access is denied", "Check the folder's permissions"
    return _ERRNOS.get(error.errno or 0) if isinstance(error, OSError) else None


def _of_words(error: BaseException) -> tuple[str, str] | None:
    found = (known for words, known in _NO_CODE.items() if re.search(words, str(error)))
    return next(found, None)


def _is_for_want_of_room(code: int, url: URL) -> bool:
    """Tell a full disk from a broken one, which SQLite does not always."""
    if code != sqlite3.SQLITE_IOERR:
        return False
    try:
        disk = shutil.disk_usage(Path(str(url.database)).parent)
    except OSError:
        return False
    return disk.free < _LITTLE and disk.total > 0
