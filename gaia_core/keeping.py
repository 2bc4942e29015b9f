"""What happens to pictures once they are made: described, stored, or spilled."""

import asyncio
from collections.abc import Sequence
from functools import partial

import attrs

from gaia_core.answers import beside, damaged
from gaia_core.errors import InvalidImageError, StorageError
from gaia_core.images import Image
from gaia_core.ledger import Operation
from gaia_core.metadata import annotate
from gaia_core.observability import get_logger
from gaia_core.requests import Request
from gaia_core.responses import StoredImage
from gaia_core.results import GeneratedImage, ImageResult
from gaia_core.storage import ImageStorage, Spill


@attrs.frozen(kw_only=True)
class Keeper:
    """
    Keeps pictures that are paid for, come what may.

    Attributes:
        storage: Where they belong.
        spill: Where they wait while the store cannot take them.
        keep_prompt: Whether they carry the prompt in their metadata.
    """

    storage: ImageStorage
    spill: Spill
    keep_prompt: bool = True

    async def keep(
        self,
        result: ImageResult,
        *,
        operation: Operation,
        provider: str,
        request: Request | None = None,
        known: Sequence[StoredImage] = (),
    ) -> tuple[StoredImage, ...]:
        """
        Store what an operation made.

        Args:
            result: What was made.
            operation: What it was made for.
            provider: Who made it.
            request: What was asked for; None: pictures encoded here stay without
                metadata.
            known: Pictures of the operation that are stored already.

        Raises:
            StorageError: If they cannot be stored; they wait in the spill then.
            UnusableResultError: If a picture is damaged.
        """
        plain = await self._described(result, request)
        here = {image.sha256: image for image in known}
        try:
            stored = tuple(
                [
                    # Digesting takes a while: for what may be here already only.
                    (here.get(image.image.sha256) if here else None)
                    or await self._put(image, plain.model, provider, operation)
                    for image in plain.images
                ]
            )
        except asyncio.CancelledError as error:
            self._spill(operation, plain, error)
            raise
        except Exception as error:
            await asyncio.to_thread(self._spill, operation, plain, error)
            raise _not_stored(operation, error) from error
        if operation.id in self.spill.waiting:
            self.spill.drop(operation.id)
        return stored

    def _spill(
        self, operation: Operation, result: ImageResult, error: BaseException
    ) -> None:
        """Keep what is paid for until the store takes it."""
        is_safe = self.spill.keep(operation.id, result)
        get_logger().warning(
            "gaia.result_spilled",
            operation_id=operation.id,
            error=type(error).__name__,
            survives_process=is_safe,
        )

    async def _put(
        self, image: GeneratedImage, model: str, provider: str, operation: Operation
    ) -> StoredImage:
        return await self.storage.put(
            image.image,
            operation_id=operation.id,
            provider=provider,
            model=model,
            prompt=(operation.request or {}).get("prompt"),
            seed=image.seed,
            campaign_id=operation.campaign_id,
            user_id=operation.user_id,
        )

    async def _described(
        self, result: ImageResult, request: Request | None
    ) -> ImageResult:
        """Write Gaia's metadata into bytes encoded here; leave all others alone."""
        if not any(image.is_encoded_here for image in result.images):
            return result
        images = [
            await beside(image.image, partial(self._data, image, result, request))
            for image in result.images
        ]
        return attrs.evolve(result, images=images)

    def _data(
        self, image: GeneratedImage, result: ImageResult, request: Request | None
    ) -> GeneratedImage:
        if not image.is_encoded_here or request is None:
            return image
        try:
            data = annotate(
                image,
                request=request,
                model=result.model,
                provider=result.provider,
                keep_prompt=self.keep_prompt,
            )
            Image.from_bytes(data)
        except InvalidImageError as error:
            raise damaged(result.provider, error) from error
        return attrs.evolve(image, data=data, is_encoded_here=False)


def _not_stored(operation: Operation, error: Exception) -> StorageError:
    cause = str(error) if isinstance(error, StorageError) else type(error).__name__
    message = (
        f"The pictures of operation {operation.id} are made and paid, but could not "
        f"be stored: {cause} They are kept, and stored as soon as that works."
    )
    return StorageError(message)
