"""
Cut the subject out of a picture with u2netp.

The network says roughly where the subject is, on 320 by 320 pixels. A guided filter
then pulls that answer onto the picture's own edges, at the picture's own size.
"""

import numpy as np
from PIL import Image

from gaia_offline.arrays import (
    OPAQUE,
    Floats,
    Pixels,
    Plane,
    bleed,
    check,
    has_alpha,
    to_bytes,
    to_unit,
    with_alpha,
)
from gaia_offline.models import WEIGHTS
from gaia_offline.sessions import network

_WEIGHTS = WEIGHTS / "u2netp.onnx"
_SIDE = 320
_MEAN = np.array((0.485, 0.456, 0.406), np.float32)
_DEVIATION = np.array((0.229, 0.224, 0.225), np.float32)

_GUIDE_SIDE = 640
_RADIUS = 6
_SMOOTHNESS = np.float32(4e-4)
_CLEAR, _SOLID = 0.12, 0.9
_SURE = 240
_GREY = 128
_EVEN = 0.5
"""A matte that never gets surer than this found nothing; stretching it finds noise."""


def remove_background(pixels: Pixels) -> Pixels:
    """
    Cut out the subject.

    Works best on one clear subject that does not fill the frame.

    Args:
        pixels: (height, width, 3 or 4).

    Returns:
        (height, width, 4): transparent around the subject. What was transparent before
        stays so. At soft edges the background's colour is taken out of the subject's.

    Raises:
        ValueError: The array is not a picture.
    """
    check(pixels)
    alpha = matte(pixels)
    if has_alpha(pixels):
        alpha = to_bytes(alpha * to_unit(pixels[..., 3]))
    return with_alpha(_decontaminate(pixels[..., :3], alpha), alpha)


def matte(pixels: Pixels) -> Plane:
    """
    Say how much each pixel belongs to the subject.

    Args:
        pixels: (height, width, 3 or 4).

    Returns:
        (height, width): 0 for background to 255 for subject.
    """
    colour = _flatten(pixels)
    refined = _refine(_look(colour), colour)
    steep = (refined - _CLEAR) / (_SOLID - _CLEAR)
    return to_bytes(steep * OPAQUE)


def _flatten(pixels: Pixels) -> Pixels:
    """Return (height, width, 3), with grey in place of transparency."""
    if not has_alpha(pixels):
        return pixels
    alpha = to_unit(pixels[..., 3:])
    return to_bytes(pixels[..., :3] * alpha + _GREY * (1 - alpha))


def _look(colour: Pixels) -> Floats:
    """Ask the network: (320, 320) of 0-1."""
    small = Image.fromarray(colour).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    values = np.asarray(small, np.float32)
    values = (values / max(float(values.max()), 1) - _MEAN) / _DEVIATION
    answer: Floats = network(_WEIGHTS)(values.transpose(2, 0, 1)[None])[0, 0]
    low, high = answer.min(), answer.max()
    if high < _EVEN:
        return answer
    stretched: Floats = (answer - low) / (high - low)
    return stretched


def _refine(answer: Floats, colour: Pixels) -> Floats:
    """
    Pull a coarse answer onto the edges of the picture.

    The guided filter (He, Sun and Tang, 2010) explains the answer around every pixel as
    a linear function of the colour there. It is solved on a reduced picture and applied
    at full size, which is as good and far cheaper ("Fast Guided Filter", 2015).

    Args:
        answer: (side, side) of 0-1, covering the same picture.
        colour: (height, width, 3).

    Returns:
        (height, width), about 0-1.
    """
    height, width = colour.shape[:2]
    scale = min(1.0, _GUIDE_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    guide = Image.fromarray(colour).resize(size, Image.Resampling.BOX)
    slopes, offset = _fit(to_unit(np.asarray(guide)), _resize(answer, *size))
    result = _resize(offset, width, height)
    for channel in range(3):
        slope = _resize(slopes[..., channel], width, height)
        result += slope * to_unit(colour[..., channel])
    return result


def _fit(guide: Floats, answer: Floats) -> tuple[Floats, Floats]:
    """Solve answer = slopes · colour + offset around every pixel, and average."""
    mean_colour, mean_answer = _box(guide), _box(answer)
    products = guide[..., :, None] * guide[..., None, :]
    spread = _box(products) - mean_colour[..., :, None] * mean_colour[..., None, :]
    spread += _SMOOTHNESS * np.eye(3, dtype=np.float32)
    together = _box(guide * answer[..., None]) - mean_colour * mean_answer[..., None]
    slopes = np.linalg.solve(spread, together[..., None])[..., 0].astype(np.float32)
    offset = mean_answer - (slopes * mean_colour).sum(axis=-1, dtype=np.float32)
    return _box(slopes), _box(offset)


def _box(values: Floats) -> Floats:
    """Average (height, width, …) over squares, cut off at the borders."""
    for axis in (0, 1):
        values = _box_along(values, axis)
    return values


def _box_along(values: Floats, axis: int) -> Floats:
    length = values.shape[axis]
    sums = np.cumsum(values, axis=axis, dtype=np.float64)
    sums = np.concatenate((np.zeros_like(sums.take([0], axis)), sums), axis)
    first = np.clip(np.arange(length) - _RADIUS, 0, length)
    last = np.clip(np.arange(length) + _RADIUS + 1, 0, length)
    counts = np.expand_dims(last - first, tuple(set(range(values.ndim)) - {axis}))
    totals = sums.take(last, axis) - sums.take(first, axis)
    return (totals / counts).astype(np.float32)


def _resize(values: Floats, width: int, height: int) -> Floats:
    """Resize (height, width) numbers of any range without steps."""
    plane = Image.fromarray(np.ascontiguousarray(values, np.float32))
    resized = plane.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(resized, np.float32)


def _decontaminate(colour: Pixels, alpha: Plane) -> Pixels:
    """
    Take the colours of soft edges from the solid parts of the subject beside them.

    Args:
        colour: (height, width, 3).
        alpha: (height, width).

    Returns:
        (height, width, 3), in which nothing of the background is left to see.
    """
    result = _inner_colours(colour, alpha)
    is_solid = alpha >= _SURE
    result[is_solid] = colour[is_solid]
    is_soft = (alpha > 0) & ~is_solid
    share = np.divide(alpha[is_soft, None], _SURE, dtype=np.float32)
    mixed: Floats = colour[is_soft] * share + result[is_soft] * (1 - share)
    result[is_soft] = to_bytes(mixed)
    return result


def _inner_colours(colour: Pixels, alpha: Plane) -> Pixels:
    """Spread the solid colours over the picture; a reduced picture is fine enough."""
    height, width = alpha.shape
    picture = Image.fromarray(with_alpha(colour, alpha))
    picture.thumbnail((_GUIDE_SIDE, _GUIDE_SIDE), Image.Resampling.BOX)
    inner = Image.fromarray(bleed(np.asarray(picture), _SURE - 1))
    return np.array(inner.resize((width, height), Image.Resampling.BILINEAR))
