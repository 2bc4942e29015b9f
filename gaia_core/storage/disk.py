"""The acts that change the disk, in one place so that tests can interrupt them."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gaia_core.errors import StorageError

MARGIN = 1_048_576
"""How much must stay free beside the pictures expected, in bytes."""

_CAUSES = {
    errno.ENOSPC: ("the disk is full", "Free some space"),
    errno.EDQUOT: ("the disk quota is used up", "Free some space"),
    errno.EROFS: ("the file system is read-only", "Make it writable"),
    errno.EACCES: ("access is denied", "Allow access to it"),
    errno.EPERM: ("access is denied", "Allow access to it"),
}


class Disk:
    """
    The four acts that change the disk, each complete when it returns, and the room.

    Tests hand `FileStorage` one that fails at a chosen act.
    """

    def write(self, path: Path, data: bytes) -> None:
        """Write a new file and wait until the disk has it."""
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def replace(self, source: Path, target: Path) -> None:
        """Give a file its final name, in one step."""
        source.replace(target)

    def touch(self, path: Path) -> None:
        """Make an empty file."""
        path.touch()

    def sync_folder(self, path: Path) -> None:
        """Wait until the disk has the names in a folder."""
        if os.name == "nt":  # Windows cannot, and needs not.
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free(self, folder: Path) -> int:
        """Tell how many bytes there is room for."""
        return shutil.disk_usage(folder).free


@contextmanager
def translated(root: Path, act: str) -> Iterator[None]:
    """Turn what the system says about the image store into a sentence to act on."""
    try:
        yield
    except OSError as error:
        unknown = (error.strerror or "the disk failed", "Check the disk")
        cause, step = _CAUSES.get(error.errno or 0, unknown)
        message = (
            f"The image store {root} cannot {act}: {cause}. "
            f"{step}, or choose another folder with the setting image_store."
        )
        raise StorageError(message) from error
