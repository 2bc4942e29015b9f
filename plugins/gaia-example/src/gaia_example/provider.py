"""The provider: what it is, what it lists, and what it does when asked."""

import asyncio
import zlib
from collections.abc import Sequence

import attrs

from gaia_core import (
    FREE,
    CallContext,
    Capability,
    DigitalSource,
    GeneratedImage,
    GenerateRequest,
    ImageResult,
    ModelInfo,
    ProviderInfo,
    Quality,
    Speed,
    hookimpl,
    setting,
)

DRAWS = {Capability.TEXT_TO_IMAGE}


@attrs.define(eq=False, kw_only=True)
class ExampleProvider:
    """
    Draws coats of arms.

    Attributes:
        border: Width of the border, in hundredths of the shield's width.
    """

    border: int = setting(
        default=4,
        help="Width of the border, in hundredths of the shield's width.",
        validator=attrs.validators.and_(
            attrs.validators.ge(0), attrs.validators.le(10)
        ),
    )

    @hookimpl
    def gaia_provider_info(self) -> ProviderInfo:
        """Say who this is; it ranks below the embedded default."""
        return ProviderInfo(
            name="example",
            display_name="Example (coats of arms)",
            capabilities=DRAWS,
            priority=-10,
        )

    @hookimpl
    async def gaia_list_models(self) -> Sequence[ModelInfo]:
        """List the one model."""
        return [
            ModelInfo(
                id="example:arms",
                name="Coats of arms",
                provider="example",
                capabilities=DRAWS,
                max_width=2048,
                max_height=2048,
                max_images=8,
                supported_fields={"seed"},
                price=FREE,
                quality=Quality.DRAFT,
                speed=Speed.FAST,
            )
        ]

    @hookimpl
    async def gaia_generate(
        self, request: GenerateRequest, context: CallContext
    ) -> ImageResult:
        """Draw as many shields as asked for, each from a seed of its own."""
        words = request.styled_prompt
        first = zlib.crc32(words.encode()) if request.seed is None else request.seed
        images = []
        for number in range(request.num_images):
            images.append(await self._drawn(words, first + number, request))
            context.progress(len(images) / request.num_images)
        return ImageResult(images=images, provider="example", model="example:arms")

    async def _drawn(
        self, words: str, seed: int, request: GenerateRequest
    ) -> GeneratedImage:
        # Pillow takes 25 ms to import, and `gaia models` draws nothing.
        from gaia_example.heraldry import draw  # noqa: PLC0415

        size = (request.width, request.height)
        return GeneratedImage(
            data=await asyncio.to_thread(draw, words, seed, size, self.border),
            seed=seed,
            is_encoded_here=True,
            digital_source=DigitalSource.ALGORITHMIC,
        )
