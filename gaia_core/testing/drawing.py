"""What the fake provider draws: plain, quick and always the same."""

import hashlib
from typing import TYPE_CHECKING

from gaia_core.requests import (
    GenerateRequest,
    Outpaint,
    RemoveBackgroundRequest,
    UpscaleRequest,
)
from gaia_core.testing.pictures import encoded

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_STRENGTH = 0.75


def seed_of(prompt: str) -> int:
    """Take a seed from a prompt, for a request that names none."""
    return int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4])


def generated(request: GenerateRequest, seed: int) -> bytes:
    """Draw what a request asks for, in the one colour of its prompt and seed."""
    picture = _blank(request, seed)
    if request.image is not None:
        picture = _edited(request, picture).resize(picture.size)
    return encoded(picture)


def enlarged(request: UpscaleRequest) -> bytes:
    """Enlarge a picture, pixel by pixel."""
    picture = request.image.decode()
    factor = request.upscale_factor
    size = (picture.width * factor, picture.height * factor)
    return encoded(picture.convert("RGBA").resize(size, resample=0))


def cut_out(request: RemoveBackgroundRequest) -> bytes:
    """Make everything transparent that has the colour of the top left corner."""
    from PIL import ImageChops  # noqa: PLC0415 - 25 ms

    picture = request.image.decode().convert("RGB")
    corner = picture.getpixel((0, 0))
    backdrop = picture.copy()
    backdrop.paste(corner, (0, 0, *picture.size))  # type: ignore[arg-type]
    difference = ImageChops.difference(picture, backdrop).convert("L")
    picture.putalpha(difference.point(lambda value: 255 if value else 0))
    return encoded(picture)


def _blank(request: GenerateRequest, seed: int) -> "PillowImage":
    from PIL import Image  # noqa: PLC0415 - 25 ms

    words = f"{request.styled_prompt}\n{seed}"
    red, green, blue, *_ = hashlib.sha256(words.encode()).digest()
    return Image.new("RGB", (request.width, request.height), (red, green, blue))


def _edited(request: GenerateRequest, colour: "PillowImage") -> "PillowImage":
    """Put the new colour over the old picture: all over, in the mask or around."""
    from PIL import Image  # noqa: PLC0415 - 25 ms

    old = request.image.decode().convert("RGB") if request.image else colour
    new = colour.resize(old.size)
    if request.outpaint is not None:
        return _extended(old, request.outpaint, colour)
    if request.mask_image is not None:
        return Image.composite(new, old, request.mask_image.decode().convert("L"))
    strength = _STRENGTH if request.strength is None else request.strength
    return Image.blend(old, new, strength)


def _extended(old: "PillowImage", by: Outpaint, colour: "PillowImage") -> "PillowImage":
    size = (old.width + by.left + by.right, old.height + by.top + by.bottom)
    canvas = colour.resize(size)
    canvas.paste(old, (by.left, by.top))
    return canvas
