"""What an image store does."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from gaia_core.images import Image
from gaia_core.responses import StoredImage


class ImageStorage(Protocol):
    """Where Gaia keeps pictures; implement it to keep them elsewhere."""

    # One argument for each thing on record.
    async def put(  # noqa: PLR0913
        self,
        image: Image,
        *,
        operation_id: str,
        provider: str,
        model: str,
        prompt: str | None = None,
        seed: int | None = None,
        campaign_id: str | None = None,
        user_id: str | None = None,
    ) -> StoredImage:
        """
        Keep a picture and say where it lies.

        Args:
            image: The picture; its bytes are kept untouched.
            operation_id: The operation that made it.
            provider: The provider that made it.
            model: The model that made it.
            prompt: The prompt it was made from.
            seed: The seed that made it.
            campaign_id: The campaign it belongs to.
            user_id: The user it belongs to.

        Raises:
            StorageError: If it cannot be written.
        """
        ...

    async def get(self, image_id: str) -> StoredImage | None:
        """Look a picture up by its id; None if there is none."""
        ...

    async def list(
        self,
        *,
        campaign_id: str | None = None,
        operation_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[StoredImage]:
        """
        List pictures, newest first.

        Args:
            campaign_id: Only those of this campaign.
            operation_id: Only those of this operation.
            since: Only those stored at this moment or later.
            until: Only those stored before this moment.
            limit: At most so many.
        """
        ...

    async def read(self, image_id: str) -> bytes:
        """
        Read a picture and check it against its digest.

        Raises:
            StorageError: If there is none, or its file is missing or damaged.
        """
        ...

    async def check(self, expected_bytes: int = 0) -> None:
        """
        Refuse now what could not be kept later; called before anything is paid.

        Args:
            expected_bytes: How much is to be kept, at a guess.

        Raises:
            StorageError: If so much cannot be written.
        """
        ...

    async def put_input(self, image: Image) -> None:
        """
        Keep a picture that a waiting request brings along.

        Raises:
            StorageError: If it cannot be written.
        """
        ...

    async def read_input(self, sha256: str) -> Image:
        """
        Read a picture that a request brought along, by its digest.

        Raises:
            StorageError: If it is missing or damaged.
        """
        ...

    async def recover(self, operation_id: str) -> Sequence[StoredImage]:
        """Finish what a crash left half stored, and list what there is."""
        ...

    async def sweep(self, older_than: timedelta = timedelta(hours=24)) -> int:
        """Remove what a crash left behind longer ago; say how many files."""
        ...
