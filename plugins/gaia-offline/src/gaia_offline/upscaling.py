"""
Enlarge pictures two, four or eight times with Real-ESRGAN.

The networks enlarge four times. A picture is cut into overlapping windows, so memory
depends on the window and not on the picture, and neighbouring windows fade into each
other, so no seam shows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, pairwise, product
from operator import mul
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import attrs
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
    smoothly,
    soften,
    to_bytes,
    with_alpha,
)
from gaia_offline.models import WEIGHTS
from gaia_offline.sessions import network

Progress = Callable[[float], None]
"""Called with the finished fraction, 0-1; what it raises ends the work."""

NATIVE = 4
"""How many times the networks enlarge."""

STAGES: Mapping[int, tuple[int, ...]] = MappingProxyType(
    {2: (2,), 4: (4,), 8: (2, 4)},
)
"""
Factor -> the enlargements that make it, one after the other.

Eight is two and then four: five units of work, and the last step draws every pixel.
Four and then four, reduced by half, would be seventeen units for the same size.
"""


_COLOURS = 3
_COLOUR_WORK = 9  # against alpha
_Values = TypeVar("_Values", Pixels, Floats)
_ALPHA_NOISE = 4  # what the networks add to or take from wholly clear and opaque parts


@attrs.frozen(kw_only=True)
class Tiling:
    """
    How a picture is cut into windows along either side.

    Attributes:
        window: Longest window, in pixels of the picture.
        margin: Pixels to throw away at every inner border, where the network lacked
            its surroundings.
        fade: Pixels behind the margin over which two windows fade into each other.
    """

    window: int
    margin: int
    fade: int = 0


@attrs.frozen(kw_only=True)
class Upscaler:
    """
    A network that enlarges four times.

    Attributes:
        body: ONNX file that reads the picture.
        tiling: The windows of the body.
    """

    body: Path
    tiling: Tiling

    @property
    def head(self) -> Path:
        """Where the second half lies, if the network is stored in two."""
        return self.body.with_stem(f"{self.body.stem}-head")


# Measured: the body of the large networks reacts to what lies 30 pixels away, the small
# network to 16, a head to 2 (its receptive field is exactly that).
_FAR = Tiling(window=384, margin=24, fade=24)
_NEAR = Tiling(window=512, margin=18, fade=4)
_HEAD = Tiling(window=132, margin=2)

ANIME = Upscaler(body=WEIGHTS / "realesrgan-x4plus-anime.onnx", tiling=_FAR)
FAST = Upscaler(body=WEIGHTS / "realesr-animevideov3-x4.onnx", tiling=_NEAR)
MODELS: Mapping[str, Upscaler] = MappingProxyType({"anime": ANIME, "fast": FAST})
"""The networks that ship with this distribution."""


def upscale(
    pixels: Pixels,
    factor: int = 4,
    *,
    model: str = "anime",
    photo_model: Path | None = None,
    progress: Progress | None = None,
) -> Pixels:
    """
    Enlarge a picture.

    Args:
        pixels: (height, width, 3 or 4). Alpha is enlarged too, and colours are spread
            under transparent parts first, so edges get no dark halo.
        factor: 2, 4 or 8.
        model: "anime" (best on drawings), "fast" (several times faster, a bit softer)
            or "photo" (needs `photo_model`).
        photo_model: ONNX file of another four-times network, such as
            ``realesrgan-x4plus.onnx`` as ``conversion/make_weights.py --photo`` writes
            it, with its head beside it.
        progress: Called after every window; raise in it to stop.

    Returns:
        (factor height, factor width, the same channels).

    Raises:
        ValueError: The picture, the factor or the model's name does not fit.
        FileNotFoundError: The file of a model is missing.
    """
    check(pixels)
    upscaler = _upscaler(model, photo_model)
    stages = _stages(factor)
    work = tuple(accumulate(stages, mul, initial=1))[:-1]
    parts = portions(progress, [size * size for size in work])
    for stage, part in zip(stages, parts, strict=True):
        pixels = _enlarge(pixels, stage, upscaler, part)
    return pixels


def portions(progress: Progress | None, work: Sequence[float]) -> Iterator[Progress]:
    """
    Split one progress report into consecutive ones.

    Args:
        progress: Receives the whole, or nobody does.
        work: The share of every portion, in any unit.
    """
    ends = tuple(accumulate(work, initial=0.0))
    for start, end in pairwise(ends):
        yield partial(_report, progress or _ignore, start / ends[-1], end / ends[-1])


def _upscaler(model: str, photo_model: Path | None) -> Upscaler:
    if model in MODELS:
        return MODELS[model]
    if model != "photo":
        message = f"There is no upscaling model {model!r}: choose anime, fast or photo."
        raise ValueError(message)
    if photo_model is None:
        message = (
            "The upscaling model 'photo' does not ship with gaia-offline. Make it with "
            "conversion/make_weights.py --photo and set photo_model to its path."
        )
        raise ValueError(message)
    return Upscaler(body=photo_model, tiling=_FAR)


def _stages(factor: int) -> tuple[int, ...]:
    if factor not in STAGES:
        message = f"Pictures can be enlarged 2, 4 or 8 times, not {factor}."
        raise ValueError(message)
    return STAGES[factor]


def _ignore(fraction: float) -> None:
    """Report progress to nobody."""


def _report(progress: Progress, start: float, end: float, fraction: float) -> None:
    progress(start + (end - start) * fraction)


def _enlarge(
    pixels: Pixels, factor: int, upscaler: Upscaler, progress: Progress
) -> Pixels:
    """Enlarge colour and, where there is any transparency, alpha."""
    draw = partial(_draw, upscaler, factor)
    if not has_alpha(pixels):
        return _in_windows(pixels, upscaler.tiling, factor, draw, progress)
    first, second = portions(progress, (1, _COLOUR_WORK))
    alpha = _enlarge_alpha(pixels[..., 3], factor, first)
    colour = _in_windows(bleed(pixels), upscaler.tiling, factor, draw, second)
    return with_alpha(colour, alpha)


def _enlarge_alpha(alpha: Plane, factor: int, progress: Progress) -> Plane:
    """Enlarge alpha by the fast network, which draws outlines as well as the others."""
    grey = alpha[..., None].repeat(_COLOURS, axis=2)
    draw = partial(_draw_alpha, factor)
    return _in_windows(grey, FAST.tiling, factor, draw, progress)[..., 1]


def _draw(upscaler: Upscaler, factor: int, window: Pixels) -> Pixels:
    """Enlarge one window of colour."""
    large = _recolour(_run(upscaler, window), window)
    if factor == NATIVE:
        return large
    size = (window.shape[1] * factor, window.shape[0] * factor)
    return np.asarray(Image.fromarray(large).resize(size, Image.Resampling.LANCZOS))


def _recolour(large: Pixels, window: Pixels) -> Pixels:
    """
    Give the enlarged window the colours of the window, keeping its lines.

    The networks were trained to please and push colours apart: gold becomes orange.
    """
    height, width = window.shape[:2]
    blocks = large.reshape(height, NATIVE, width, NATIVE, _COLOURS)
    mean = blocks.mean(axis=(1, 3), dtype=np.float32)
    drift = soften(np.subtract(window, mean, dtype=np.float32))
    return to_bytes(large + smoothly(drift, large.shape[1], large.shape[0]))


def _draw_alpha(factor: int, window: Pixels) -> Pixels:
    """Enlarge one window of alpha, where wholly clear and wholly opaque stay so."""
    if window.min() == window.max():
        return window.repeat(factor, axis=0).repeat(factor, axis=1)
    large = _draw(FAST, factor, window).astype(np.float32)
    return to_bytes((large - _ALPHA_NOISE) * (OPAQUE / (OPAQUE - 2 * _ALPHA_NOISE)))


def _run(upscaler: Upscaler, window: Pixels) -> Pixels:
    """Enlarge one window four times by the body and, if it is stored so, the head."""
    maps = network(upscaler.body)(_to_maps(window) / np.float32(OPAQUE))
    if maps.shape[1] == _COLOURS:
        return _to_pixels(maps)
    head = network(upscaler.head)
    return _in_windows(
        maps[0].transpose(1, 2, 0),
        _HEAD,
        NATIVE,
        lambda part: _to_pixels(head(_to_maps(part))),
        _ignore,
    )


def _to_maps(values: Pixels | Floats) -> Floats:
    """Turn (height, width, channels) into (1, channels, height, width)."""
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32)


def _to_pixels(maps: Floats) -> Pixels:
    """Turn (1, 3, height, width) of 0-1 into (height, width, 3) of 0-255."""
    return to_bytes(maps[0].transpose(1, 2, 0) * np.float32(OPAQUE))


@attrs.frozen(kw_only=True)
class _Span:
    """
    One window's extent along one side.

    Attributes:
        start: First pixel that is read.
        stop: One past the last pixel that is read.
        first: First pixel that is drawn.
        last: One past the last pixel that is drawn.
        fade: How many pixels from `first` the window before has drawn too.
    """

    start: int
    stop: int
    first: int
    last: int
    fade: int

    def read(self) -> slice:
        return slice(self.start, self.stop)

    def drawn(self, factor: int) -> slice:
        return slice(self.first * factor, self.last * factor)

    def kept(self, factor: int) -> slice:
        """Return where the drawn part lies inside the enlarged window."""
        offset = self.start * factor
        drawn = self.drawn(factor)
        return slice(drawn.start - offset, drawn.stop - offset)

    def weights(self, factor: int) -> Floats:
        """Rise from 0 to 1 over the part that fades, and stay 1."""
        weights = np.ones((self.last - self.first) * factor, np.float32)
        fade = self.fade * factor
        weights[:fade] = (np.arange(fade, dtype=np.float32) + 0.5) / max(fade, 1)
        return weights


def _spans(length: int, tiling: Tiling) -> tuple[_Span, ...]:
    """Cut one side into the fewest windows, all of one size."""
    overlap = 2 * tiling.margin + tiling.fade
    step = tiling.window - overlap
    count = max(1, -(-(length - overlap) // step)) if length > tiling.window else 1
    size = -(-(length + (count - 1) * overlap) // count)
    starts = [index * (length - size) // max(count - 1, 1) for index in range(count)]
    firsts = [0, *(start + tiling.margin for start in starts[1:])]
    lasts = [*(start + size - tiling.margin for start in starts[:-1]), length]
    fades = [0, *(last - first for first, last in zip(firsts[1:], lasts, strict=False))]
    return tuple(
        _Span(start=start, stop=start + size, first=first, last=last, fade=fade)
        for start, first, last, fade in zip(starts, firsts, lasts, fades, strict=True)
    )


def _in_windows(
    source: _Values,
    tiling: Tiling,
    factor: int,
    draw: Callable[[_Values], Pixels],
    progress: Progress,
) -> Pixels:
    """
    Enlarge a picture window by window.

    Args:
        source: (height, width, channels).
        tiling: How to cut it.
        factor: How many times `draw` enlarges.
        draw: Enlarges one window to (factor height, factor width, 3).
        progress: Called after every window.

    Returns:
        (factor height, factor width, 3).
    """
    height, width = source.shape[:2]
    result = np.zeros((height * factor, width * factor, _COLOURS), np.uint8)
    rows, columns = _spans(height, tiling), _spans(width, tiling)
    windows = tuple(product(rows, columns))
    for count, (row, column) in enumerate(windows, start=1):
        window = draw(source[row.read(), column.read()])
        fresh = window[row.kept(factor), column.kept(factor)]
        place = result[row.drawn(factor), column.drawn(factor)]
        weights = np.outer(row.weights(factor), column.weights(factor))[..., None]
        place[...] = to_bytes(place * (1 - weights) + fresh * weights)
        progress(count / len(windows))
    return result
