"""Pictures that waiting requests bring along, named by their content."""

import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from gaia_core.errors import InvalidImageError, StorageError
from gaia_core.images import SUFFIXES, Image
from gaia_core.storage.disk import Disk, translated

KEPT_SECONDS = 30 * 24 * 3_600.0
"""How long they are kept after they were last needed, in seconds."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


class KeptImage(Image):
    """
    A picture whose bytes stay in a file until somebody asks for them.

    Fifty thousand requests may wait for a vendor's batch, each with a picture.
    """

    __slots__ = ("_read", "_sha256")
    _read: Callable[[], bytes]
    _sha256: str

    def __init__(  # each is what a picture has, or what it takes to read it
        self,
        *,
        media_type: str,
        width: int,
        height: int,
        sha256: str,
        read: Callable[[], bytes],
    ) -> None:
        """Take what is known of it, and how its bytes are read."""
        facts = {"media_type": media_type, "width": width, "height": height}
        for name, value in {**facts, "_sha256": sha256, "_read": read}.items():
            object.__setattr__(self, name, value)

    @property
    def data(self) -> bytes:
        """
        The encoded bytes, read from the file.

        Raises:
            StorageError: If the file is gone, or damaged.
        """
        return self._read()

    @property
    def sha256(self) -> str:
        """Digest of the bytes, in hexadecimal."""
        return self._sha256

    def __eq__(self, other: object) -> bool:
        """Tell whether another picture has the same bytes."""
        return isinstance(other, Image) and self._sha256 == other.sha256

    def __hash__(self) -> int:
        """Hash it as what it is equal to."""
        size = {"width": self.width, "height": self.height}
        return hash(Image(data=self.data, media_type=self.media_type, **size))

    def __repr__(self) -> str:
        """Tell its digest: nothing is read for that."""
        size = f"{self.width}x{self.height}"
        return f"KeptImage({self.media_type}, {size}, sha256={self._sha256})"


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

        Returns:
            The picture; its bytes stay in the file, and are read each time.

        Raises:
            StorageError: If it is missing or damaged.
        """
        found = self._checked(sha256)
        return KeptImage(
            media_type=found.media_type,
            width=found.width,
            height=found.height,
            sha256=sha256,
            read=lambda: self._checked(sha256).data,
        )

    def _checked(self, sha256: str) -> Image:
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
