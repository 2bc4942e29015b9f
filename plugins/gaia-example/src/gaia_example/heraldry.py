"""Draws coats of arms: the same one for the same words and seed."""

import math
import random

from PIL import Image, ImageDraw, ImageFilter

from gaia_core import write_png

Outline = list[tuple[float, float]]

COLOURS = {
    "red": "#a01c28",
    "blue": "#1d4b8c",
    "green": "#24663f",
    "black": "#2b2833",
    "purple": "#5d3670",
}
METALS = ["#e3ae38", "#f1ecdf"]
PARCHMENT, INK = "#efe3c8", "#1b1611"


def star(points: int, depth: float) -> Outline:
    """Give the outline of a star round 0, 0; a depth of 1 makes it round."""
    angles = [math.pi * (step / points - 0.5) for step in range(2 * points)]
    radii = [1.0, depth] * points
    return [
        (radius * math.cos(angle), radius * math.sin(angle))
        for radius, angle in zip(radii, angles, strict=True)
    ]


CHARGES = [star(5, 0.42), star(2, 0.6), star(8, 0.6), star(24, 1), star(4, 0.35)]
"""What lies on the shield."""
DIVISIONS: list[tuple[Outline, Outline]] = [
    ([], [(0.3, 0.26), (0.7, 0.26), (0.5, 0.66)]),
    (
        [(0.34, 0), (0.66, 0), (0.66, 1), (0.34, 1)],
        [(0.5, 0.2), (0.5, 0.48), (0.5, 0.76)],
    ),
    (
        [(0, 0.32), (1, 0.32), (1, 0.62), (0, 0.62)],
        [(0.24, 0.47), (0.5, 0.47), (0.76, 0.47)],
    ),
    (
        [(0, 0), (0.24, 0), (1, 0.72), (1, 1.04), (0, 0.26)],
        [(0.7, 0.24), (0.34, 0.68)],
    ),
    (
        [(0, 0.72), (0.5, 0.38), (1, 0.72), (1, 0.98), (0.5, 0.62), (0, 0.98)],
        [(0.27, 0.27), (0.73, 0.27), (0.5, 0.78)],
    ),
    (
        [(0, 0), (0.5, 0), (0.5, 1), (1, 1), (1, 0.46), (0, 0.46)],
        [(0.29, 0.25), (0.71, 0.25), (0.33, 0.64), (0.67, 0.64)],
    ),
]
"""How the shield is parted: the part in metal, and the places of the charges."""
SIDE = [(0.46 - 0.46 * (step / 24) ** 2.2, 0.4 + step / 40) for step in range(25)]
SHIELD: Outline = [
    (0.06, 0.02),
    (0.94, 0.02),
    *[(0.5 + x, y * 0.98) for x, y in SIDE],
    *[(0.5 - x, y * 0.98) for x, y in reversed(SIDE)],
    (0.06, 0.02),
    (0.5, 0.02),  # goes on over the corner, so that the border closes
]


def draw(words: str, seed: int, size: tuple[int, int], border: int) -> bytes:
    """
    Draw a coat of arms on parchment and encode it.

    Args:
        words: The first colour among them is the shield's.
        seed: Another one makes another shield.
        size: Width and height in pixels.
        border: Width of the border, in hundredths of the shield's width.
    """
    side = round(min(size) * 0.8)
    shield, mask = (layer.reduce(2) for layer in arms(words, seed, 2 * side, border))
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    sheet = shaded(Image.new("RGB", size, PARCHMENT), 70)
    shadow = Image.new("L", size)
    shadow.paste(mask, (left + side // 60, top + side // 35))
    sheet.paste(INK, mask=shadow.filter(ImageFilter.GaussianBlur(side / 40)))
    sheet.paste(shield, (left, top), mask)
    return write_png(sheet)


def arms(
    words: str, seed: int, side: int, border: int
) -> tuple[Image.Image, Image.Image]:
    """Paint a shield on a square; give it and the mask of its outline."""
    chance = random.Random(f"{seed} {words}")  # noqa: S311 - nothing is at stake
    named = [COLOURS[word] for word in words.lower().split() if word in COLOURS]
    field = chance.choice(named[:1] or list(COLOURS.values()))
    metal = chance.choice(METALS)
    picture = painted(chance, field, metal, side)
    edge = scaled(SHIELD, side)
    pen = ImageDraw.Draw(picture)
    for paint, part in [(INK, 40), (metal, 50)] if border else []:
        pen.line(edge, fill=paint, width=side * border // part, joint="curve")
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).polygon(edge, fill=255)
    return shaded(picture, 120), mask


def painted(chance: random.Random, field: str, metal: str, side: int) -> Image.Image:
    """Part a square and lay charges on it: metal on colour, colour on metal."""
    picture = Image.new("RGB", (side, side), field)
    pen = ImageDraw.Draw(picture)
    line = max(1, side // 250)
    part, places = chance.choice(DIVISIONS)
    if part:
        pen.polygon(scaled(part, side), fill=metal, outline=INK, width=line)
    charge = chance.choice(CHARGES)
    ground = Image.new("RGB", (1, 1), field).getpixel((0, 0))
    for x, y in places:
        here = picture.getpixel((round(x * side), round(y * side)))
        paint = metal if here == ground else field
        shape = scaled(charge, side, (x, y), 0.11)
        pen.polygon(shape, fill=paint, outline=INK, width=line)
    return picture


def scaled(
    outline: Outline, side: int, middle: tuple[float, float] = (0, 0), size: float = 1
) -> Outline:
    """Move an outline to its place on a square."""
    x, y = middle
    return [((x + size * dx) * side, (y + size * dy) * side) for dx, dy in outline]


def shaded(picture: Image.Image, strength: int) -> Image.Image:
    """Darken a picture towards its corners."""
    ring = Image.radial_gradient("L").resize(picture.size)
    shade = ring.point(lambda value: value * value * strength // 65_025)
    return Image.composite(Image.new("RGB", picture.size, INK), picture, shade)
