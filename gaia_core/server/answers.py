"""What a client is answered with: the owner's fields, and ours beside them."""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import attrs
import orjson
import pybase64
from fastapi import Request

from gaia_core.responses import (
    Attempt,
    DescriptionResponse,
    ImageResponse,
    PromptResponse,
    Response,
    StoredImage,
)
from gaia_core.server.access import Principal
from gaia_core.server.serving import bytes_of, stored_images
from gaia_core.server.site import Site

_CAUSE = re.compile(
    r"(failed(?: [0-9]+ times)?) \(.*\)(?=; served by )"
    r"|(an answer was lost) \(.*\)\Z",
    re.DOTALL,
)
"""The words of an error in what the core says of a fallback; they stay here."""


def base_url_of(request: Request, site: Site) -> str:
    """
    Say where clients reach the server, for the addresses it gives out.

    That is the settings' ``public_url``, or what the client called the server with
    the prefix under which a host has included the router.
    """
    if (public := site.settings.public_url) is not None:
        return public.rstrip("/")
    prefix = quote(_prefix_of(request))
    return f"{request.url.scheme}://{request.url.netloc}{prefix}"


def _prefix_of(request: Request) -> str:
    """Find what comes before the route's own path: a host's prefix, a mount."""
    fixed = getattr(request.scope.get("route"), "path", "").partition("{")[0]
    path: str = request.scope["path"]
    return path[: max(0, path.rfind(fixed))] if fixed else ""


@attrs.frozen(kw_only=True)
class Writer:
    """
    Writes responses for one caller.

    Attributes:
        site: The server.
        principal: The caller.
        base_url: Where clients reach the server, without a slash at its end; empty:
            addresses are given without a host.
    """

    site: Site
    principal: Principal
    base_url: str = ""

    @classmethod
    def to(cls, request: Request, site: Site, principal: Principal) -> "Writer":
        """Write for whoever sent a request."""
        base_url = base_url_of(request, site)
        return cls(site=site, principal=principal, base_url=base_url)

    def url(self, image_id: str) -> str:
        """Give the address of a picture; whoever has it can open it for a while."""
        return (
            f"{self.base_url}/api/images/{image_id}?s={self.site.links.sign(image_id)}"
        )

    def service(self, provider: str) -> str:
        """Give a provider's name as people read it."""
        loaded = self.site.gaia.plugins.providers.get(provider)
        return (loaded.info().display_name if loaded else "") or provider

    async def answer(
        self, response: Response, *, with_bytes: bool = False
    ) -> dict[str, Any]:
        """Write any response; arguments as for `images`."""
        if isinstance(response, ImageResponse):
            return await self.images(response, with_bytes=with_bytes)
        whole = {"success": True, **self.common(response)}
        if isinstance(response, PromptResponse):
            whole["prompt"] = response.prompt
        if isinstance(response, DescriptionResponse):
            whole["description"] = response.description
        return whole

    async def images(
        self, response: ImageResponse, *, with_bytes: bool = False
    ) -> dict[str, Any]:
        """
        Write a response with pictures.

        Args:
            response: The response.
            with_bytes: Whether the pictures themselves go along, in base64.
        """
        images = [
            await self._image(image, with_bytes=with_bytes) for image in response.images
        ]
        first = images[0] if images else {}
        return {
            "success": True,
            "image_url": first.get("url"),
            "image_path": first.get("path"),
            "images": images,
            **self.common(response),
        }

    def common(self, response: Response) -> dict[str, Any]:
        """Write what every response has."""
        return {
            "service": self.service(response.provider),
            "provider": response.provider,
            "model": response.model,
            "generation_time": round(response.duration_ms / 1000, 3),
            "error": None,
            "operation_id": response.operation_id,
            "cost_usd": number(response.cost_usd),
            "attempts": [attempt(one) for one in response.attempts],
            "warnings": warnings_in(response.warnings),
            "is_reused": response.is_reused,
        }

    def stored(self, image: StoredImage) -> dict[str, Any]:
        """Write one stored picture."""
        return {
            "id": image.id,
            "url": self.url(image.id),
            "path": relative_path(image),
            "media_type": image.media_type,
            "width": image.width,
            "height": image.height,
            "sha256": image.sha256,
            "seed": image.seed,
            "prompt": image.prompt,
            "provider": image.provider,
            "model": image.model,
            "campaign_id": image.campaign_id,
            "operation_id": image.operation_id,
            "created_at": image.created_at.isoformat(),
        }

    async def all_stored(self, ids: Iterable[str]) -> list[dict[str, Any]]:
        """Look stored pictures up and write them, but for those that are gone."""
        found = await stored_images(ids, self.site)
        return [self.stored(image) for image in found if image is not None]

    async def _image(self, image: StoredImage, *, with_bytes: bool) -> dict[str, Any]:
        written = self.stored(image)
        if with_bytes:
            written["b64_json"] = await self.encoded(image)
        return written

    async def encoded(self, image: StoredImage) -> orjson.Fragment:
        """Read a picture, and write it as a JSON text in base64."""
        return quoted_base64(await bytes_of(image, self.site))


def quoted_base64(data: bytes) -> orjson.Fragment:
    """Write bytes as a JSON text in base64; nothing in it needs to be escaped."""
    return orjson.Fragment(b'"' + pybase64.b64encode(data) + b'"')


def relative_path(image: StoredImage) -> str:
    """Give where a picture lies below the store's folder."""
    return "/".join(image.path.parts[-3:])


def ours_of(response: Response, ignored: Iterable[str] = ()) -> dict[str, Any]:
    """
    Write what other programs' answers have no fields for.

    Args:
        response: The response.
        ignored: What of the request was not heeded, in sentences.
    """
    return {
        "operation_id": response.operation_id,
        "provider": response.provider,
        "model": response.model,
        "cost_usd": number(response.cost_usd),
        "attempts": [attempt(one) for one in response.attempts],
        "warnings": [*warnings_in(response.warnings), *ignored],
        "is_reused": response.is_reused,
    }


def attempt(one: Attempt) -> dict[str, Any]:
    """Write one attempt; an error's own words stay here."""
    return {
        "provider": one.provider,
        "model": one.model,
        "outcome": str(one.outcome),
        "duration_ms": round(one.duration_ms, 1),
        "cost_usd": number(one.cost_usd),
    }


def warnings_in(warnings: Iterable[str]) -> list[str]:
    """
    Write warnings without the words of the errors that led to them.

    >>> warnings_in(["rw/flux failed 2 times (401 (key k-1)); served by tiles"])
    ['rw/flux failed 2 times; served by tiles']
    >>> warnings_in(["rw may have been paid twice: an answer was lost (no route)"])
    ['rw may have been paid twice: an answer was lost']
    """
    return [_CAUSE.sub(r"\1\2", one) for one in warnings]


def reason(text: str) -> str:
    """
    Write why somebody cannot work, without the words of an exception.

    >>> reason("listing its models failed: no answer from 10.0.0.7")
    'listing its models failed'
    """
    said, has_failed, _ = text.partition(" failed: ")
    return f"{said} failed" if has_failed else text


def number(amount: Decimal | None) -> float | None:
    """Write an amount as a JSON number."""
    return None if amount is None else float(amount)


def headers_of(response: Response) -> dict[str, str]:
    """Give the headers that tell of a repeated request."""
    return {"Idempotency-Replayed": "true"} if response.is_replayed else {}
