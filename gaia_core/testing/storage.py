"""An image store for tests: quick, and gone with the test."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs

from gaia_core.errors import StorageError
from gaia_core.images import SUFFIXES, Image
from gaia_core.responses import StoredImage


@attrs.define(eq=False)
class MemoryStorage:
    """
    Keeps pictures in memory: their bytes by `read`, their ``path`` for show only.

    Attributes:
        failure: What `put` raises; None: it keeps what it is given.
        images: Every picture kept so far, oldest first.
    """

    failure: Exception | None = attrs.field(default=None, kw_only=True)
    images: list[StoredImage] = attrs.field(factory=list, init=False)
    _data: dict[str, bytes] = attrs.field(factory=dict, init=False, repr=False)
    _inputs: dict[str, Image] = attrs.field(factory=dict, init=False, repr=False)

    async def put(self, image: Image, **facts: Any) -> StoredImage:
        """Keep a picture; facts as for `ImageStorage.put`."""
        if self.failure is not None:
            raise self.failure
        sha256 = hashlib.sha256(image.data).hexdigest()
        stored = StoredImage(
            id=secrets.token_hex(16),
            path=Path("memory", sha256 + SUFFIXES[image.media_type]),
            media_type=image.media_type,
            width=image.width,
            height=image.height,
            sha256=sha256,
            created_at=datetime.now(UTC),
            **facts,
        )
        self.images.append(stored)
        self._data[stored.id] = image.data
        return stored

    async def get(self, image_id: str) -> StoredImage | None:
        """Look a picture up by its id."""
        return next((image for image in self.images if image.id == image_id), None)

    async def list(
        self,
        *,
        campaign_id: str | None = None,
        operation_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[StoredImage]:
        """List pictures, newest first; filters as for `ImageStorage.list`."""
        return [
            image
            for image in reversed(self.images)
            if campaign_id in (None, image.campaign_id)
            and operation_id in (None, image.operation_id)
            and (since is None or image.created_at >= since)
            and (until is None or image.created_at < until)
        ][: max(0, limit)]

    async def read(self, image_id: str) -> bytes:
        """Read a picture."""
        if image_id not in self._data:
            message = f"There is no picture {image_id!r} in the image store."
            raise StorageError(message)
        return self._data[image_id]

    async def check(self, expected_bytes: int = 0) -> None:
        """Have room for everything."""

    async def put_input(self, image: Image) -> None:
        """Keep a picture that a request brings along."""
        self._inputs[image.sha256] = image

    async def read_input(self, sha256: str) -> Image:
        """Read a picture that a request brought along."""
        if sha256 not in self._inputs:
            message = f"The picture {sha256} of a waiting request is missing."
            raise StorageError(message)
        return self._inputs[sha256]

    async def recover(self, operation_id: str) -> Sequence[StoredImage]:
        """List what an operation made: nothing is ever half stored."""
        return await self.list(operation_id=operation_id)

    async def sweep(self, older_than: timedelta = timedelta(hours=24)) -> int:  # noqa: ARG002  the interface
        """Remove nothing: nothing is ever left behind."""
        return 0
