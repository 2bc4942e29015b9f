"""Small real pictures for tests."""

import io
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Colour: TypeAlias = str | tuple[int, ...]
"""A colour as Pillow takes it: a name, ``#rrggbb`` or a tuple of numbers."""


def png(
    width: int = 64, height: int = 64, colour: Colour = "teal", mode: str = "RGB"
) -> bytes:
    """
    Encode a plain PNG picture.

    >>> png()[1:4]
    b'PNG'

    Args:
        width: Width in pixels.
        height: Height in pixels.
        colour: What it is filled with.
        mode: Pillow's name of the kind of pixel (``RGB``, ``RGBA``, ``L``, …).
    """
    return encoded(_plain(width, height, colour, mode), "PNG")


def jpeg(
    width: int = 64, height: int = 64, colour: Colour = "teal", mode: str = "RGB"
) -> bytes:
    """Encode a plain JPEG picture; arguments as for `png`."""
    return encoded(_plain(width, height, colour, mode), "JPEG")


def encoded(picture: "PillowImage", kind: str = "PNG") -> bytes:
    """Encode a Pillow picture as Pillow does."""
    buffer = io.BytesIO()
    picture.save(buffer, format=kind)
    return buffer.getvalue()


def _plain(width: int, height: int, colour: Colour, mode: str) -> "PillowImage":
    from PIL import Image  # noqa: PLC0415 - 25 ms

    return Image.new(mode, (width, height), colour)
