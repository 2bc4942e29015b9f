"""``gaia batch -o``: what each item made, under the number of its line."""

import asyncio
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import attrs
import click

from gaia_core import Gaia
from gaia_core.cli.tables import clean
from gaia_core.cli.writing import say
from gaia_core.errors import StorageError
from gaia_core.images import SUFFIXES
from gaia_core.ledger import Batch, Operation
from gaia_core.responses import StoredImage

if TYPE_CHECKING:
    from gaia_core.batches.repeats import Origins

_DIGITS = 4
_WORDS = ("prompt", "description")
_MODE = 0o666


def check_folder(output: str | None) -> Path | None:
    """
    Make the folder copies go to.

    Raises:
        UsageError: If nothing can be written there.
    """
    if output is None:
        return None
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"The folder {folder} cannot be made: {error.strerror}."
        raise click.UsageError(message) from None
    if not os.access(folder, os.W_OK):
        message = f"{folder} cannot be written: access is denied."
        raise click.UsageError(message)
    return folder


@attrs.define(eq=False, kw_only=True)
class Copies:
    """
    Writes what items made into a folder, each file whole or not at all.

    Attributes:
        folder: Where to; None: nowhere.
        total: How many items there are: all numbers have as many digits.
        origins: Where items come from that another batch did not make.
        failed: How many items could not be copied.
    """

    folder: Path | None = None
    total: int = 0
    origins: "Origins | None" = None
    failed: int = 0

    @classmethod
    async def of(cls, gaia: Gaia, batch: Batch, folder: Path | None = None) -> Self:
        """Number the items of a batch."""
        origins = await gaia.batches.origins(batch.id)
        return cls(folder=folder, total=origins.total, origins=origins)

    def line(self, item: Operation) -> int:
        """Give the number of the line an item comes from."""
        return 1 + self.origins.place(item) if self.origins else number_of(item)

    async def take(self, gaia: Gaia, operation_id: str) -> None:
        """Copy what an item made; one that cannot be copied is told, and counted."""
        if self.folder is None:
            return
        item = await gaia.operation(operation_id)
        if item is None:
            return
        try:
            await self._copy(gaia, item, self.folder)
        except (StorageError, OSError) as error:
            self.failed += 1
            reason = getattr(error, "strerror", None) or error
            say(clean(f"warning: line {self.line(item)} was not copied: {reason}"))

    def output_of(self, item: Operation, image: StoredImage) -> str | None:
        """Tell where a picture was copied to, if it was."""
        if self.folder is None or image.id not in item.image_ids:
            return None
        path = self._path(item, image, self.folder)
        return str(path) if path.exists() else None

    async def _copy(self, gaia: Gaia, item: Operation, folder: Path) -> None:
        for image_id in item.image_ids:
            data = await gaia.storage.read(image_id)
            stored = await gaia.storage.get(image_id)
            if stored is not None:
                path = self._path(item, stored, folder)
                await asyncio.to_thread(_write, path, data)
        words = words_of(item)
        if words is not None:
            path = folder / f"{self._number(item)}.txt"
            await asyncio.to_thread(_write, path, f"{words}\n".encode())

    def _path(self, item: Operation, image: StoredImage, folder: Path) -> Path:
        place = 1 + item.image_ids.index(image.id)
        further = "" if place == 1 else f"-{place}"
        return folder / f"{self._number(item)}{further}{SUFFIXES[image.media_type]}"

    def _number(self, item: Operation) -> str:
        digits = max(_DIGITS, len(str(self.total)))
        return f"{self.line(item):0{digits}d}"


def number_of(item: Operation) -> int:
    """Give the number of the line an item comes from."""
    return 1 + (item.position or 0)


def words_of(item: Operation) -> str | None:
    """Give the words an item made, if it was asked for words."""
    answer = item.answer or {}
    return next((str(answer[name]) for name in _WORDS if name in answer), None)


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, unless it is there already."""
    if _holds(path, data):
        return
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        # Temporary files are for their owner only; this one is for whoever may
        # read the folder.
        Path(name).chmod(_MODE & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _holds(path: Path, data: bytes) -> bool:
    try:
        if path.stat().st_size != len(data):
            return False
        found = hashlib.sha256(path.read_bytes())
    except OSError:
        return False
    return found.digest() == hashlib.sha256(data).digest()


def _umask() -> int:
    """Read the mask of new files; there is no way to read it without setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
