"""
Which aspect ratio and image size come nearest to a width and a height.

The models draw a few fixed sizes. Pixels as in Google's table of output sizes (Gemini
API, image generation, read 2026-11); 1:4, 1:8, 4:1 and 8:1 as they were measured by
users of the service, where the table and the service differ.
"""

import math
from collections.abc import Iterable, Mapping

import attrs

_AT_1K: Mapping[str, tuple[int, int]] = {
    "1:1": (1024, 1024),
    "2:3": (848, 1264),
    "3:2": (1264, 848),
    "3:4": (896, 1200),
    "4:3": (1200, 896),
    "4:5": (928, 1152),
    "5:4": (1152, 928),
    "9:16": (768, 1376),
    "16:9": (1376, 768),
    "21:9": (1584, 672),
    "1:4": (512, 2064),
    "4:1": (2064, 512),
    "1:8": (352, 2928),
    "8:1": (2928, 352),
}
_SCALES: Mapping[str, float] = {"512": 0.5, "1K": 1.0, "2K": 2.0, "4K": 4.0}

RATIOS = tuple(_AT_1K)
"""Every aspect ratio there is."""
COMMON_RATIOS = RATIOS[:10]
"""The aspect ratios that every model draws."""
IMAGE_SIZES = tuple(_SCALES)
"""Every image size there is, the smallest first."""
_ENOUGH = 1 / 1.5
"""The share of the pixels asked for that is near enough; less is too small."""


@attrs.frozen
class Fit:
    """
    What a model is told about the size.

    Attributes:
        ratio: The aspect ratio, such as ``16:9``.
        size: The image size, such as ``2K``.
    """

    ratio: str
    size: str

    @property
    def pixels(self) -> tuple[int, int]:
        """The width and height that come of it."""
        width, height = _AT_1K[self.ratio]
        scale = _SCALES[self.size]
        return int(width * scale), int(height * scale)


def nearest_ratio(width: int, height: int, ratios: Iterable[str] = RATIOS) -> str:
    """
    Find the aspect ratio that is least out of shape.

    >>> nearest_ratio(1920, 1080), nearest_ratio(1000, 1010)
    ('16:9', '1:1')
    """
    shape = math.log(width / height)

    def off(ratio: str) -> float:
        wide, high = _AT_1K[ratio]
        return abs(math.log(wide / high) - shape)

    return min(ratios, key=off)


def fit(
    width: int,
    height: int,
    *,
    ratios: Iterable[str] = RATIOS,
    sizes: Iterable[str] = IMAGE_SIZES,
) -> Fit:
    """
    Find the aspect ratio and the image size for a width and a height in pixels.

    The size is the smallest that lacks no more than a third of the pixels: larger ones
    cost more, much smaller ones are not what was asked for.

    >>> fit(1024, 1024), fit(1920, 1080)
    (Fit(ratio='1:1', size='1K'), Fit(ratio='16:9', size='2K'))

    Args:
        width: Width that was asked for.
        height: Height that was asked for.
        ratios: The aspect ratios the model draws.
        sizes: The image sizes it draws, the smallest first.
    """
    ratio = nearest_ratio(width, height, ratios)
    choices = [Fit(ratio, size) for size in sizes]
    wanted = width * height * _ENOUGH
    enough = (one for one in choices if math.prod(one.pixels) >= wanted)
    return next(enough, choices[-1])


def longest_side(sizes: Iterable[str]) -> int:
    """
    Give the longest side worth asking for: that of 21:9 at the largest size.

    >>> longest_side(["1K"])
    1584
    """
    return max(max(Fit("21:9", size).pixels) for size in sizes)
