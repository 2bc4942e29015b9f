"""The paper of a map: frame, title, compass and scale, and how it becomes pixels."""

import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from xml.sax.saxutils import escape

import attrs
import numpy as np
from PIL import Image

from gaia_offline.arrays import Floats, Pixels, mottle, to_bytes, to_unit

FONTS = Path(__file__).parents[1] / "fonts"
_FAMILY = "Gaia Cartographer"
_SHORT_SIDE = 1000.0
_LONGEST = 2048
_MOST_ASPECT = 3.0
_SMALLEST_FURNISHED = 200

Point = tuple[float, float]


@attrs.frozen(kw_only=True)
class Theme:
    """
    The colours of a map, as SVG writes them.

    Attributes:
        paper: The ground, and the inside of boxes.
        ink: Lines and letters.
        faded: Fine lines.
        accent: What shall be seen first.
        sea: Shallow water.
        deep: Deep water.
        darkening: How strongly everything is dyed towards the ink, 0-1.
    """

    paper: str = "#efe2c1"
    ink: str = "#3b2a1a"
    faded: str = "#8a7454"
    accent: str = "#8c2f23"
    sea: str = "#c3d0c2"
    deep: str = "#8fb0b0"
    darkening: float = 0.0


THEMES: Mapping[str, Theme] = MappingProxyType(
    {
        "parchment": Theme(),
        "ice": Theme(
            paper="#eef3f4",
            ink="#26384a",
            faded="#7e95a8",
            accent="#2f5d8c",
            sea="#cfe0ea",
            deep="#8db1cc",
        ),
        "night": Theme(
            paper="#cfc3ae",
            ink="#1d1520",
            faded="#6b5a63",
            accent="#7a1426",
            sea="#7d8790",
            deep="#4b5563",
            darkening=0.14,
        ),
        "blueprint": Theme(
            paper="#dbe9f5",
            ink="#123a6b",
            faded="#6a91bd",
            accent="#0d4f9e",
            sea="#b9d2ea",
            deep="#86aed6",
        ),
    }
)


@attrs.frozen(kw_only=True)
class Sheet:
    """
    A sheet of paper, measured so that its shorter side is 1000.

    Attributes:
        pixel_width: Width of the picture it fills.
        pixel_height: Height of the picture it fills.
        theme: Its colours.
        seed: Decides stains and random marks.
    """

    pixel_width: int
    pixel_height: int
    theme: Theme
    seed: int

    @property
    def width(self) -> float:
        """Width in units of the sheet; a long strip is cut to three times its side."""
        return _SHORT_SIDE * min(_MOST_ASPECT, max(1.0, self._aspect))

    @property
    def height(self) -> float:
        """Height in units of the sheet."""
        return _SHORT_SIDE * min(_MOST_ASPECT, max(1.0, 1 / self._aspect))

    @property
    def raster(self) -> tuple[int, int]:
        """Width and height at which the map is drawn, before it fills the picture."""
        scale = min(
            self.pixel_width / self.width,
            self.pixel_height / self.height,
            _LONGEST / max(self.width, self.height),
        )
        return max(1, round(self.width * scale)), max(1, round(self.height * scale))

    @property
    def is_furnished(self) -> bool:
        """Whether the picture is large enough for a title, a compass and a scale."""
        return min(self.pixel_width, self.pixel_height) >= _SMALLEST_FURNISHED

    @property
    def _aspect(self) -> float:
        return self.pixel_width / self.pixel_height


def svg(sheet: Sheet, *parts: str) -> str:
    """Wrap parts in an SVG document of the sheet's size."""
    size = f"{sheet.width:.0f} {sheet.height:.0f}"
    width, height = sheet.raster
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" '
        f'width="{width}" height="{height}" preserveAspectRatio="none">'
        f"{''.join(parts)}</svg>"
    )


def rasterise(sheet: Sheet, *parts: str) -> Pixels:
    """Draw SVG parts on nothing: (raster height, raster width, 4)."""
    import resvg_py  # noqa: PLC0415

    width, height = sheet.raster
    data = resvg_py.svg_to_bytes(
        svg_string=svg(sheet, *parts),
        width=width,
        height=height,
        skip_system_fonts=True,
        font_files=[str(path) for path in sorted(FONTS.glob("*.ttf"))],
        font_family=_FAMILY,
        serif_family=_FAMILY,
    )
    with Image.open(io.BytesIO(bytes(data))) as picture:
        drawn = picture.convert("RGBA").resize((width, height))
    return np.asarray(drawn)


def over(ground: Floats, layer: Pixels) -> Floats:
    """Lay a picture with alpha over (height, width, 3) of 0-255."""
    alpha = to_unit(layer[..., 3:])
    result: Floats = ground * (1 - alpha) + layer[..., :3] * alpha
    return result


def finish(sheet: Sheet, ground: Floats) -> Pixels:
    """
    Age the paper and bring it to the size of the picture.

    Args:
        sheet: The sheet.
        ground: (raster height, raster width, 3) of 0-255.

    Returns:
        (pixel height, pixel width, 3).
    """
    map_pixels = Image.fromarray(to_bytes(_aged(sheet, ground)))
    scale = min(
        sheet.pixel_width / map_pixels.width, sheet.pixel_height / map_pixels.height
    )
    size = (round(map_pixels.width * scale), round(map_pixels.height * scale))
    fitted = map_pixels.resize(size, Image.Resampling.BICUBIC)
    if size == (sheet.pixel_width, sheet.pixel_height):
        return np.asarray(fitted)
    paper = Image.new("RGB", (sheet.pixel_width, sheet.pixel_height), sheet.theme.paper)
    corner = ((paper.width - size[0]) // 2, (paper.height - size[1]) // 2)
    paper.paste(fitted, corner)
    return np.asarray(paper)


def _aged(sheet: Sheet, ground: Floats) -> Floats:
    """Mottle the paper and darken its rim."""
    height, width = ground.shape[:2]
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None]
    rim = np.maximum(np.abs(rows), np.abs(columns)) ** 6
    stain = 1 + 0.035 * mottle(width, height, sheet.seed) - 0.14 * rim
    dyed = 1 - sheet.theme.darkening
    aged = ground * (stain * dyed)[..., None]
    return aged.astype(np.float32)


def paint_paper(sheet: Sheet) -> Floats:
    """Return an empty sheet: (raster height, raster width, 3)."""
    width, height = sheet.raster
    return np.full((height, width, 3), rgb(sheet.theme.paper), np.float32)


def rgb(colour: str) -> tuple[float, ...]:
    """Read ``#rrggbb`` as three numbers, 0-255."""
    return tuple(float(int(colour[index : index + 2], 16)) for index in (1, 3, 5))


# -- furniture ------------------------------------------------------------------


def text(  # noqa: PLR0913 - what a letter-setter must know
    words: str,
    at: Point,
    size: float,
    *,
    fill: str,
    halo: str,
    anchor: str = "middle",
    is_italic: bool = False,
    spacing: float = 0.0,
) -> str:
    """Set a line of text with a halo; `at` is the anchor on its base line."""
    style = ' font-style="italic"' if is_italic else ""
    common = (
        f'x="{at[0]:.1f}" y="{at[1]:.1f}" font-family="{_FAMILY}" '
        f'font-size="{size:.1f}" text-anchor="{anchor}" letter-spacing="{spacing:.1f}"'
        f"{style}"
    )
    content = escape(words)
    return (
        f'<text {common} fill="none" stroke="{halo}" stroke-width="{size / 5:.1f}" '
        f'stroke-linejoin="round" stroke-opacity="0.75">{content}</text>'
        f'<text {common} fill="{fill}">{content}</text>'
    )


def frame(sheet: Sheet) -> str:
    """Draw a border of alternating bars between two lines."""
    ink, paper = sheet.theme.ink, sheet.theme.paper
    width, height = sheet.width, sheet.height
    return (
        f'<g fill="none" stroke="{paper}"><rect x="9" y="9" width="{width - 18:.1f}" '
        f'height="{height - 18:.1f}" stroke-width="18"/></g>'
        f'<g fill="none" stroke="{ink}">'
        f'<rect x="6" y="6" width="{width - 12:.1f}" height="{height - 12:.1f}" '
        f'stroke-width="2"/>'
        f'<rect x="12" y="12" width="{width - 24:.1f}" height="{height - 24:.1f}" '
        f'stroke-width="5" stroke-dasharray="40 40"/>'
        f'<rect x="18" y="18" width="{width - 36:.1f}" height="{height - 36:.1f}" '
        f'stroke-width="2.5"/></g>'
    )


def title(sheet: Sheet, words: str) -> str:
    """Draw the name of the map on a scroll at the top."""
    theme = sheet.theme
    size = min(50.0, 0.62 * sheet.width / (0.5 * max(len(words), 6)))
    half = 0.25 * size * max(len(words), 6) + 34
    middle, top, bottom = sheet.width / 2, 40.0, 40 + 1.7 * size
    left, right, centre = middle - half, middle + half, (top + bottom) / 2
    tails = "".join(
        f'<path d="M{edge:.1f},{top + 9:.1f} L{edge + way * 44:.1f},{top + 9:.1f} '
        f"L{edge + way * 28:.1f},{centre + 9:.1f} "
        f'L{edge + way * 44:.1f},{bottom + 9:.1f} L{edge:.1f},{bottom + 9:.1f} Z" '
        f'fill="{theme.faded}" stroke="{theme.ink}" stroke-width="2"/>'
        for edge, way in ((left + 12, -1), (right - 12, 1))
    )
    box = (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{2 * half:.1f}" '
        f'height="{bottom - top:.1f}" rx="5" fill="{theme.paper}" '
        f'stroke="{theme.ink}" stroke-width="2.5"/>'
        f'<rect x="{left + 6:.1f}" y="{top + 6:.1f}" width="{2 * half - 12:.1f}" '
        f'height="{bottom - top - 12:.1f}" rx="3" fill="none" '
        f'stroke="{theme.faded}" stroke-width="1.2"/>'
    )
    line = text(
        words, (middle, centre + 0.33 * size), size, fill=theme.ink, halo=theme.paper
    )
    return tails + box + line


def compass(sheet: Sheet, at: Point, radius: float = 52.0) -> str:
    """Draw a compass rose of eight points."""
    theme = sheet.theme
    x, y = at
    parts = [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}" fill="{theme.paper}" '
        f'fill-opacity="0.5" stroke="{theme.ink}" stroke-width="1.3"/>'
        for size in (radius, 0.62 * radius)
    ]
    for step in (1, 3, 5, 7, 0, 2, 4, 6):
        length = radius * (0.62 if step % 2 else 1.12)
        parts.append(_needle(theme, at, step * math.pi / 4, length))
    north = (x, y - radius * 1.22)
    parts.append(text("N", north, 26, fill=theme.ink, halo=theme.paper))
    return "".join(parts)


def _needle(theme: Theme, at: Point, angle: float, length: float) -> str:
    """Draw one point of the rose, dark on one side and light on the other."""
    tip = _polar(at, angle, length)
    sides = [_polar(at, angle + turn * math.pi / 4, length * 0.2) for turn in (-1, 1)]
    return "".join(
        f'<path d="M{at[0]:.1f},{at[1]:.1f} L{side[0]:.1f},{side[1]:.1f} '
        f'L{tip[0]:.1f},{tip[1]:.1f} Z" fill="{fill}" stroke="{theme.ink}" '
        f'stroke-width="1"/>'
        for side, fill in zip(sides, (theme.paper, theme.ink), strict=True)
    )


def _polar(at: Point, angle: float, length: float) -> Point:
    """Go from a point; the angle runs clockwise from north."""
    return at[0] + length * math.sin(angle), at[1] - length * math.cos(angle)


def scale_bar(sheet: Sheet, per_unit: float, unit: str) -> str:
    """Draw a scale of four bars at the lower left; `per_unit` is the length of one."""
    theme = sheet.theme
    length = _round_number(0.2 * sheet.width * per_unit)
    bar = length / per_unit / 4
    left, top = 52.0, sheet.height - 52
    bars = "".join(
        f'<rect x="{left + index * bar:.1f}" y="{top:.1f}" width="{bar:.1f}" '
        f'height="8" fill="{theme.paper if index % 2 else theme.ink}" '
        f'stroke="{theme.ink}" stroke-width="1.4"/>'
        for index in range(4)
    )
    marks = ((0, "0"), (2, f"{length / 2:g}"), (4, f"{length:g} {unit}"))
    return bars + "".join(
        text(
            label,
            (left + index * bar, top - 8),
            20,
            fill=theme.ink,
            halo=theme.paper,
        )
        for index, label in marks
    )


def _round_number(value: float) -> float:
    """Return the nearest of 1, 2, 5, 10, 20, … that is not larger."""
    power = 10 ** math.floor(math.log10(value))
    return float(max(step * power for step in (1, 2, 5) if step * power <= value))


def legend(sheet: Sheet, entries: Iterable[tuple[str, str]]) -> str:
    """List colours and what they mean, at the lower left."""
    theme = sheet.theme
    rows = list(entries)
    if not rows:
        return ""
    height, width = 26.0 * len(rows) + 22, 62 + 10.5 * max(len(row[1]) for row in rows)
    left, top = 40.0, sheet.height - height - 40
    box = (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'rx="4" fill="{theme.paper}" fill-opacity="0.9" stroke="{theme.ink}" '
        f'stroke-width="2"/>'
    )
    return box + "".join(
        f'<rect x="{left + 14:.1f}" y="{top + 15 + 26 * index:.1f}" width="20" '
        f'height="15" fill="{colour}" stroke="{theme.ink}" stroke-width="1.2"/>'
        + text(
            label,
            (left + 44, top + 29 + 26 * index),
            21,
            fill=theme.ink,
            halo=theme.paper,
            anchor="start",
        )
        for index, (colour, label) in enumerate(rows)
    )
