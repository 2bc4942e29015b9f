"""Pictures that waiting requests bring along, named by their content."""

import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import attrs

from gaia_core.errors import InvalidImageError, StorageError
from gaia_core.images import SUFFIXES, Image
from gaia_core.storage.disk import Disk, translated

KEPT_SECONDS = 30 * 24 * 3_600.0
"""How long they are kept after they were last needed, in seconds."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@attrs.frozen
class InputPictures:
    """
    The folder ``inputs`` of an image store.

    Attributes:
        root: The folder of the store.
    """

    root: Path
    _disk: Disk = attrs.field(repr=False)

    def put(self, image: Image) -> None:
        """Keep a picture, unless it is there already."""
        sha256 = image.sha256
        with translated(self.root, "keep a picture for later"):
            path = self._folder(sha256) / (sha256 + SUFFIXES[image.media_type])
            if path.exists() and path.stat().st_size == len(image.data):
                os.utime(path)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{sha256}-{secrets.token_hex(8)}")
            self._disk.write(draft, image.data)
            self._disk.replace(draft, path)
            self._disk.sync_folder(path.parent)

    def read(self, sha256: str) -> Image:
        """
        Read a picture and check it against its digest.

        Raises:
            StorageError: If it is missing or damaged.
        """
        with translated(self.root, "read a picture kept for later"):
            found = self._found(sha256)
        if found is None or found.sha256 != sha256:
            state = "missing" if found is None else "damaged"
            message = f"The picture {sha256} of a waiting request is {state}."
            raise StorageError(message)
        return found

    def older_than(self, newest: float) -> Iterator[Path]:
        """Name what was not needed for long before a moment (seconds since 1970)."""
        for path in self.root.glob("inputs/*/*"):
            if path.stat().st_mtime < newest - KEPT_SECONDS:
                yield path

    def _folder(self, sha256: str) -> Path:
        return self.root / "inputs" / sha256[:2]

    def _found(self, sha256: str) -> Image | None:
        if not _SHA256.fullmatch(sha256):
            return None
        for path in self._folder(sha256).glob(f"{sha256}.*"):
            try:
                return Image.from_bytes(path.read_bytes())
            except InvalidImageError:
                return None
        return None
