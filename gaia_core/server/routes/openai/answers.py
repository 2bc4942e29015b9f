"""What OpenAI's clients are answered with: their fields, and ours beside them."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import attrs
import orjson

from gaia_core.catalog import Quality
from gaia_core.errors import InvalidImageError
from gaia_core.images import Image
from gaia_core.responses import ImageResponse, StoredImage
from gaia_core.server.answers import Writer, ours_of, quoted_base64
from gaia_core.server.conversion import converted, format_of, is_opaque
from gaia_core.server.routes.openai.work import Job, is_edit

_QUALITIES: Mapping[Quality, str] = {
    Quality.DRAFT: "low",
    Quality.STANDARD: "medium",
    Quality.HIGH: "high",
    Quality.VERY_HIGH: "xhigh",
}
_NO_TOKENS: Mapping[str, Any] = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "total_tokens": 0,
}
"""Gaia counts dollars: see ``gaia.cost_usd``."""


@attrs.frozen(kw_only=True)
class Answers:
    """
    Writes what came of one job.

    Attributes:
        job: The job.
        writer: What writes addresses for the caller.
    """

    job: Job
    writer: Writer

    async def whole(self, response: ImageResponse) -> dict[str, Any]:
        """Write the pictures at once."""
        pictures = [await self._picture(image) for image in response.images]
        formats = {kind for _, kind in pictures}
        return {
            "created": int(time.time()),
            "data": [fields for fields, _ in pictures],
            "output_format": formats.pop() if len(formats) == 1 else None,
            "quality": self._quality(response),
            "size": size_of(response.images[0]),
            "background": self._background,
            "usage": _NO_TOKENS,
            "gaia": self._ours(response),
        }

    async def events(self, response: ImageResponse) -> list[dict[str, Any]]:
        """Write the pictures as the last events of a stream, one each."""
        return [await self._completed(image, response) for image in response.images]

    def partial(self, preview: Image, index: int) -> dict[str, Any]:
        """Write what a picture looks like so far."""
        return {
            "type": f"{self._kind}.partial_image",
            "b64_json": quoted_base64(preview.data),
            "partial_image_index": index,
            "created_at": int(time.time()),
            "output_format": format_of(preview.media_type),
            "size": f"{self.job.request.width}x{self.job.request.height}",
            "quality": self.job.body.quality,
            "background": self.job.body.background,
        }

    async def _completed(
        self, image: StoredImage, response: ImageResponse
    ) -> dict[str, Any]:
        fields, kind = await self._picture(image)
        return {
            "type": f"{self._kind}.completed",
            **fields,
            "created_at": int(time.time()),
            "output_format": kind,
            "size": size_of(image),
            "quality": self._quality(response),
            "background": self.job.body.background,
            "usage": _NO_TOKENS,
            "gaia": self._ours(response),
        }

    async def _picture(self, image: StoredImage) -> tuple[dict[str, Any], str]:
        """Write one picture, and say in which format it is."""
        ours = {"id": image.id, "seed": image.seed}
        if self.job.body.response_format == "url":
            kind = format_of(image.media_type)
            return {"url": self.writer.url(image.id), **ours}, kind
        kind = self.job.body.output_format or format_of(image.media_type)
        if self._is_as_made(image, kind):
            return {"b64_json": await self.writer.encoded(image), **ours}, kind
        data = await self.writer.site.gaia.storage.read(image.id)
        try:
            encoded = await asyncio.to_thread(self._encoded, data, kind)
        except (InvalidImageError, OSError, ValueError):
            # It is paid for: better as it was made than not at all.
            encoded, kind = quoted_base64(data), format_of(image.media_type)
        return {"b64_json": encoded, **ours}, kind

    def _is_as_made(self, image: StoredImage, kind: str) -> bool:
        """Tell whether it is what was asked for already: then it stays untouched."""
        body = self.job.body
        is_any = body.output_compression is None and body.background != "opaque"
        return is_any and kind == format_of(image.media_type)

    def _encoded(self, data: bytes, kind: str) -> orjson.Fragment:
        body = self.job.body
        if is_opaque(data, kind) and body.output_compression is None:
            return quoted_base64(data)
        data = converted(
            data,
            kind,
            capability=self.job.request.capability,
            quality=body.output_compression,
            is_opaque=body.background == "opaque",
        )
        return quoted_base64(data)

    def _quality(self, response: ImageResponse) -> str | None:
        card = self.job.names.card(response.provider, response.model)
        return None if card is None else _QUALITIES[card.quality]

    def _ours(self, response: ImageResponse) -> dict[str, Any]:
        """Write what OpenAI has no fields for."""
        return ours_of(response, self.job.warnings)

    @property
    def _kind(self) -> str:
        return "image_edit" if is_edit(self.job.body) else "image_generation"

    @property
    def _background(self) -> str | None:
        asked = self.job.body.background
        return asked if asked == "opaque" else None


def size_of(image: StoredImage) -> str:
    """Write how large a picture is."""
    return f"{image.width}x{image.height}"
