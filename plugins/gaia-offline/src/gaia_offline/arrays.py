"""Array types and the few helpers that every numeric room of this provider needs."""

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""A picture: (height, width, 3 or 4), RGB or straight-alpha RGBA, 0-255."""

Plane = npt.NDArray[np.uint8]
"""One channel of a picture: (height, width), 0-255."""

Floats = npt.NDArray[np.float32]
"""Numbers between pictures; the shape and range stand where it is used."""

OPAQUE = 255
_RGB, _RGBA = 3, 4
_DIMENSIONS = 3
_TINY = np.float32(1e-6)


def check(pixels: Pixels) -> None:
    """
    Refuse an array that is not a picture.

    Raises:
        ValueError: It is empty, has another shape, or does not hold bytes.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != _DIMENSIONS or not pixels.size:
        message = (
            f"A picture is a (height, width, 3 or 4) array of uint8, not "
            f"{pixels.shape} of {pixels.dtype}. Decode it to RGB or RGBA first."
        )
        raise ValueError(message)
    if pixels.shape[2] not in {_RGB, _RGBA}:
        message = (
            f"A picture has 3 (RGB) or 4 (RGBA) channels, not {pixels.shape[2]}. "
            "Convert it first."
        )
        raise ValueError(message)


def has_alpha(pixels: Pixels) -> bool:
    """Say whether a picture has an alpha channel."""
    return int(pixels.shape[2]) == _RGBA


def with_alpha(colour: Pixels, alpha: Plane) -> Pixels:
    """Join (height, width, 3) colour and (height, width) alpha."""
    return np.dstack((colour[..., :_RGB], alpha))


def to_bytes(values: Floats) -> Pixels:
    """Round values on the scale 0-255 to bytes."""
    return np.clip(np.rint(values), 0, OPAQUE).astype(np.uint8)


def to_unit(values: Pixels | Plane) -> Floats:
    """Return bytes on the scale 0-1."""
    return np.divide(values, OPAQUE, dtype=np.float32)


def bleed(pixels: Pixels, threshold: int = 0) -> Pixels:
    """
    Spread the visible colours into the transparent parts of a picture.

    Whatever blends neighbouring pixels afterwards then finds the subject's own colour
    behind its edge instead of black, and draws no dark halo.

    Args:
        pixels: (height, width, 4).
        threshold: A pixel is visible if its alpha is higher.

    Returns:
        (height, width, 3): unchanged where a pixel is visible, and elsewhere the
        average colour of the nearest visible surroundings.
    """
    colour = pixels[..., :_RGB].astype(np.float32)
    weight = (pixels[..., 3:] > threshold).astype(np.float32)
    return to_bytes(_fill(colour * weight, weight))


def _fill(colour: Floats, weight: Floats) -> Floats:
    """Fill where `weight` is 0 from a picture of half the size, and so on."""
    known = np.divide(colour, np.maximum(weight, _TINY), dtype=np.float32)
    height, width = weight.shape[:2]
    if weight.min() > 0 or height == width == 1:
        return known
    coarse = _fill(_halve(colour), _halve(weight))
    enlarged = coarse.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return np.where(weight > 0, known, enlarged)


def _halve(values: Floats) -> Floats:
    """Average blocks of two by two; an odd last row or column counts as zero."""
    height, width, channels = values.shape
    padded = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
    blocks = padded.reshape(-(-height // 2), 2, -(-width // 2), 2, channels)
    average: Floats = blocks.mean(axis=(1, 3), dtype=np.float32)
    return average
