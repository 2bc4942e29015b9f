"""What is done to single pictures: loading, shadows, colours."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
Picture = NDArray[np.uint8]
_DARK = 24
"""A pixel whose brightest part stays below this is as good as black."""

_FIRM = 230
"""The soft shadows of newer tiles are less opaque than this."""

_SHADOW_LIMIT = 0.9
"""More dark pixels than this share of the coloured ones: a dark thing, no shadow."""

_SHOWN = 128
_BROWN_HUES, _BROWN_VALUE = (8, 40), 0.62
_UNLIT, _VIVID, _MINOR = 0.16, 0.3, 0.3
_WHITE, _GREY = 0.72, 0.33
_HUES = (
    (14, "red"),
    (40, "orange"),
    (66, "yellow"),
    (165, "green"),
    (200, "cyan"),
    (258, "blue"),
    (292, "purple"),
    (340, "pink"),
    (361, "red"),
)


def load(path: Path) -> Picture | None:
    """
    Read a tile onto a 32x32 canvas, standing on its lower edge.

    Returns:
        The RGBA picture, or None where the file is larger than a tile or a sliver.
    """
    image = Image.open(path).convert("RGBA")
    if max(image.size) > SIDE or image.width < SIDE // 2:
        return None
    canvas = Image.new("RGBA", (SIDE, SIDE))
    canvas.paste(image, ((SIDE - image.width) // 2, SIDE - image.height))
    return np.asarray(canvas)


def _around(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Every pixel that is in the mask or touches it, diagonals included."""
    padded = np.pad(mask, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]


def _flood(start: NDArray[np.bool_], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Grow the start through the pixels allowed, until nothing changes."""
    reached = start
    while True:
        grown = reached | (_around(reached) & inside)
        if (grown == reached).all():
            return grown
        reached = grown


def without_shadow(picture: Picture) -> Picture:
    """
    Clear the black drop shadow but keep the one-pixel outline.

    The shadow is every dark pixel that no coloured pixel touches and that the
    empty outside reaches; translucent dark pixels count as shadow as well.
    """
    alpha, brightest = picture[..., 3], picture[..., :3].max(-1)
    dark = (brightest < _DARK) & (alpha > 0)
    faint = (brightest < 3 * _DARK) & (alpha > 0) & (alpha < _FIRM)
    solid = dark & ~faint
    coloured = (alpha > 0) & ~dark & ~faint
    outline = solid & _around(coloured)
    outside = alpha == 0
    shadow = _flood(outside, (solid & ~outline) | faint) & (dark | faint)
    if shadow.sum() > _SHADOW_LIMIT * max(1, coloured.sum()):
        return picture
    result = picture.copy()
    result[shadow] = 0
    return result


def _hsv(picture: Picture) -> tuple[Any, Any, Any]:
    """Hue in degrees, saturation and value of every pixel."""
    rgb = picture[..., :3].astype(np.float32) / 255
    value = rgb.max(-1)
    chroma = value - rgb.min(-1)
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    safe = np.where(chroma > 0, chroma, 1)
    hue = np.select(
        [value == red, value == green],
        [(green - blue) / safe % 6, (blue - red) / safe + 2],
        (red - green) / safe + 4,
    )
    return hue * 60, chroma / np.where(value > 0, value, 1), value


def _name(hue: float, value: float) -> str:
    """The everyday word for a saturated colour."""
    name = next(word for limit, word in _HUES if hue < limit)
    low, high = _BROWN_HUES
    is_brown = low < hue < high and value < _BROWN_VALUE
    return "brown" if is_brown else name


def colours(picture: Picture) -> tuple[str, ...]:
    """Name the one or two colours that a person would say the picture has."""
    hue, saturation, value = _hsv(picture)
    shown = (picture[..., 3] > _SHOWN) & (value > _UNLIT)
    if not shown.any():
        return ("black",)
    vivid = shown & (saturation > _VIVID)
    if vivid.sum() < _MINOR * shown.sum():
        level = float(value[shown].mean())
        return ("white" if level > _WHITE else "grey" if level > _GREY else "black",)
    weights: dict[str, float] = {}
    for degrees, strength, level in zip(
        hue[vivid], saturation[vivid], value[vivid], strict=True
    ):
        word = _name(float(degrees), float(level))
        weights[word] = weights.get(word, 0.0) + float(strength * level)
    ranked = sorted(weights, key=lambda word: -weights[word])
    total = sum(weights.values())
    return tuple(word for word in ranked[:2] if weights[word] > _MINOR * total)


def recoloured(picture: Picture, variant: str) -> Picture:
    """Apply a recolouring: "hue:<degrees>", "grey", "dark" or "light"."""
    kind, _, amount = variant.partition(":")
    result = picture.copy()
    if kind == "hue":
        turn = float(amount) / 360
        for row, column in np.argwhere(picture[..., 3] > 0):
            red, green, blue = (int(part) / 255 for part in picture[row, column, :3])
            hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
            turned = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
            result[row, column, :3] = [round(255 * part) for part in turned]
        return result
    if kind == "light":
        bright = picture[..., :3].max(-1) >= _DARK
        result[bright, :3] = 105 + (picture[bright, :3] * 0.59).astype(np.uint8)
        return result
    level = picture[..., :3].astype(np.float32) @ np.array([0.35, 0.45, 0.2])
    scale = 1.0 if kind == "grey" else 0.6
    mix = 0.9 if kind == "grey" else 0.4
    mixed = mix * level[..., None] + (1 - mix) * picture[..., :3]
    result[..., :3] = np.clip(mixed * scale, 0, 255).astype(np.uint8)
    return result
