"""The acts that change the disk, in one place so that tests can interrupt them."""

import os
from pathlib import Path


class Disk:
    """
    The four acts that change the disk, each complete when it returns.

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
