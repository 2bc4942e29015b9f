"""Turn arrays into the pictures Gaia stores, and back."""

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as pillow  # noqa: N813  a module
from PIL import ImageOps

from gaia_core import DigitalSource, GeneratedImage, Image, write_png

if TYPE_CHECKING:
    from gaia_offline.arrays import Pixels

_HIGH_BYTE = 256


def picture(
    pixels: "Pixels",
    *,
    seed: int | None = None,
    source: DigitalSource | None = None,
) -> GeneratedImage:
    """
    Encode an array as a PNG picture.

    Args:
        pixels: Shape (height, width, 3 or 4), 8 bits each.
        seed: The seed that made it, if there was one.
        source: How it came to be; None: as the request suggests.
    """
    data = write_png(pillow.fromarray(np.ascontiguousarray(pixels)))
    return GeneratedImage(
        data=data, seed=seed, is_encoded_here=True, digital_source=source
    )


def pixels_of(image: Image) -> "Pixels":
    """
    Decode a picture into an array, the way up it is meant to be seen.

    Returns:
        Shape (height, width, 4) where the picture has transparency, else 3.
    """
    decoded = ImageOps.exif_transpose(image.decode())
    if decoded.mode.startswith("I"):
        # Pillow would cut 16-bit greys off at 255, which leaves nearly all of it white.
        grey = np.asarray(decoded) // _HIGH_BYTE
        decoded = pillow.fromarray(grey.astype(np.uint8))
    mode = "RGBA" if decoded.has_transparency_data else "RGB"
    return np.asarray(decoded.convert(mode))
