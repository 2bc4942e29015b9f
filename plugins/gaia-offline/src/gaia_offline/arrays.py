"""Array types and the few helpers that every numeric room of this provider needs."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
"""A picture: (height, width, 3 or 4), RGB or straight-alpha RGBA, 0-255."""

Plane = npt.NDArray[np.uint8]
"""One channel of a picture: (height, width), 0-255."""

Floats = npt.NDArray[np.float32]
"""Numbers between pictures; the shape and range stand where it is used."""

OPAQUE = 255
_RGB, _RGBA = 3, 4
_DIMENSIONS = 3
_BINOMIAL = tuple(np.float32(weight / 16) for weight in (1, 4, 6, 4, 1))
_OCTAVES = ((3, 0.5), (7, 0.3), (17, 0.2), (45, 0.15))
_FINEST = 45
_SEED_BITS = 2**64 - 1  # a generator takes no negative seeds
_TINY = np.float32(1e-12)  # below the share of one pixel in the largest picture
_STRIP = 256  # rows; even, so that blocks of two by two stay whole


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
    colour, is_visible = pixels[..., :_RGB], pixels[..., 3:] > threshold
    if is_visible.all():
        return colour
    height, width = is_visible.shape[:2]
    # Only half the size is held as numbers: sixteen bytes a pixel are a lot of memory.
    strips = [
        (_halve(colour[rows] * is_visible[rows]), _halve(is_visible[rows]))
        for rows in (slice(top, top + _STRIP) for top in range(0, height, _STRIP))
    ]
    colours, weights = (np.concatenate(halves) for halves in zip(*strips, strict=True))
    coarse = to_bytes(_fill(colours, weights))
    enlarged = coarse.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return np.where(is_visible, colour, enlarged)


def _fill(colour: Floats, weight: Floats) -> Floats:
    """Fill where `weight` is 0 from a picture of half the size, and so on."""
    known = np.divide(colour, np.maximum(weight, _TINY), dtype=np.float32)
    height, width = weight.shape[:2]
    if weight.min() > 0 or height == width == 1:
        return known
    coarse = _fill(_halve(colour), _halve(weight))
    enlarged = coarse.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return np.where(weight > 0, known, enlarged)


def _halve(values: npt.NDArray[Any]) -> Floats:
    """Average blocks of two by two; an odd last row or column counts as zero."""
    height, width, channels = values.shape
    padded = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
    blocks = padded.reshape(-(-height // 2), 2, -(-width // 2), 2, channels)
    average: Floats = blocks.mean(axis=(1, 3), dtype=np.float32)
    return average


def soften(values: Floats) -> Floats:
    """Blur (height, width, channels) by about one pixel, along both sides."""
    for axis in (0, 1):
        length = values.shape[axis]
        edges = [(2, 2) if side == axis else (0, 0) for side in range(3)]
        padded = np.pad(values, edges, mode="edge")
        taps = (padded.take(range(i, i + length), axis) for i in range(len(_BINOMIAL)))
        values = sum(
            (tap * weight for tap, weight in zip(taps, _BINOMIAL, strict=True)),
            start=np.zeros_like(values),
        )
    return values


def smoothly(values: Floats, width: int, height: int) -> Floats:
    """Enlarge (height, width, channels) numbers of any range without steps."""
    planes = (Image.fromarray(values[..., index]) for index in range(values.shape[2]))
    cubic = Image.Resampling.BICUBIC
    return np.dstack(
        [np.asarray(plane.resize((width, height), cubic)) for plane in planes]
    )


def mottle(width: int, height: int, seed: int, finest: int = 45) -> Floats:
    """
    Add up noise from coarse to fine.

    Args:
        width: Width in pixels.
        height: Height in pixels.
        seed: The same seed gives the same noise.
        finest: How many grains of the finest noise fit along the longer side.

    Returns:
        (height, width), about -1 to 1, alike on either side.
    """
    random = np.random.default_rng(seed & _SEED_BITS)
    longest = max(width, height)
    total = np.zeros((height, width), np.float32)
    for share, strength in _OCTAVES:
        cells = finest * share // _FINEST
        shape = (
            max(2, cells * height // longest),
            max(2, cells * width // longest),
        )
        noise = random.uniform(-1, 1, shape).astype(np.float32)
        plane = Image.fromarray(noise)
        total += strength * np.asarray(
            plane.resize((width, height), Image.Resampling.BICUBIC)
        )
    return total
