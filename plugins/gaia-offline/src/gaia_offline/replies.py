"""Turn arrays into the pictures Gaia stores, and back."""

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as pillow  # noqa: N813  a module

from gaia_core import DigitalSource, GeneratedImage, Image, write_png

if TYPE_CHECKING:
    from gaia_offline.arrays import Pixels

_HIGH_BYTE = 256
_ORIENTATION = 0x0112
"""The EXIF tag that says how a picture is to be turned before it is seen."""
_TURNS = {
    2: pillow.Transpose.FLIP_LEFT_RIGHT,
    3: pillow.Transpose.ROTATE_180,
    4: pillow.Transpose.FLIP_TOP_BOTTOM,
    5: pillow.Transpose.TRANSPOSE,
    6: pillow.Transpose.ROTATE_270,
    7: pillow.Transpose.TRANSVERSE,
    8: pillow.Transpose.ROTATE_90,
}
"""What Pillow calls each of the turns."""


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
    decoded = _upright(image.decode())
    if decoded.mode.startswith("I"):
        # Pillow would cut 16-bit greys off at 255, which leaves nearly all of it white.
        grey = np.asarray(decoded) // _HIGH_BYTE
        decoded = pillow.fromarray(grey.astype(np.uint8))
    mode = "RGBA" if decoded.has_transparency_data else "RGB"
    return np.asarray(decoded.convert(mode))


def _upright(stored: pillow.Image) -> pillow.Image:
    """Turn a picture the way up it is meant to be seen, as far as it says so."""
    try:
        turn = _TURNS.get(stored.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001  Pillow does not say what broken data raises
        return stored
    return stored if turn is None else stored.transpose(turn)
