"""
Files below the folders that a server's settings name, and no others.

A path is never compared with a folder as text. It is walked from the folder on, part
by part, each opened relative to the one before and without following links, so that
nothing can be exchanged between a check and its use.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

import attrs

# Where one of these is missing, nothing is below any folder.
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_STAY = getattr(os, "O_NOFOLLOW", 0)
# Whoever opens a pipe without a writer, or a terminal, is not held up by it.
_FILE = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
)
_CAN_WALK = os.open in os.supports_dir_fd and bool(_STAY)


def read_below(
    roots: Iterable[Path], path: str, *, max_bytes: int, closed: Path | None = None
) -> bytes | None:
    """
    Read a file below one of the folders.

    Args:
        roots: The folders; those may be links themselves.
        path: An absolute path, or one relative to a folder, which is the first one
            that has such a file.
        max_bytes: The largest file that is read.
        closed: A folder that nobody gets into, though it may be below one of them.

    Returns:
        What the file holds, or None if there is no such file, it is none to read, or
        too large: nobody learns which.
    """
    if not _CAN_WALK or not _is_plain(path):
        return None
    for root in map(Path.expanduser, roots):
        parts = _parts_below(root.absolute(), path)
        with suppress(OSError):
            if not parts or (
                closed and root.resolve().is_relative_to(closed.resolve())
            ):
                continue
            walk = _Walk(max_bytes=max_bytes, closed=_identity(closed))
            if data := walk.read(root, parts):
                return data
    return None


def _identity(folder: Path | None) -> tuple[int, int] | None:
    """Tell a folder from all others, by whatever name; None: there is none."""
    if folder is None or not folder.is_dir():
        return None
    found = folder.stat()
    return found.st_dev, found.st_ino


def _is_plain(path: str) -> bool:
    """Tell whether a path is spelt the one way that needs no thought."""
    names = path.removeprefix("/").split("/")
    return path.isprintable() and all(
        name not in {"", ".", ".."} and "\\" not in name for name in names
    )


def _parts_below(root: Path, path: str) -> Sequence[str]:
    """Split what is below a folder; nothing if it is not below, by whole names."""
    pure = PurePosixPath(path)
    if not pure.is_absolute():
        return pure.parts
    own = root.parts
    return pure.parts[len(own) :] if pure.parts[: len(own)] == own else ()


@attrs.frozen(kw_only=True)
class _Walk:
    max_bytes: int
    closed: tuple[int, int] | None

    def read(self, root: Path, parts: Sequence[str]) -> bytes | None:
        """Go from folder to folder, and read the file in the last one."""
        folder = os.open(root, _FOLDER)
        try:
            for name in parts[:-1]:
                below = os.open(name, _FOLDER | _STAY, dir_fd=folder)
                os.close(folder)
                folder = below
                found = os.fstat(folder)
                if (found.st_dev, found.st_ino) == self.closed:
                    return None
            return self._read_file(parts[-1], folder)
        finally:
            os.close(folder)

    def _read_file(self, name: str, folder: int) -> bytes | None:
        """Read a regular file; merely to open a device may set something going."""
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            return None
        with os.fdopen(os.open(name, _FILE | _STAY, dir_fd=folder), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > self.max_bytes:
                return None
            # It may be growing; and those of /proc say that they are empty.
            data = file.read(self.max_bytes + 1) if found.st_size else b""
        return data if 0 < len(data) <= self.max_bytes else None
