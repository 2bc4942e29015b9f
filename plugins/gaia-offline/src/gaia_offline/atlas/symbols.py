"""The symbols of a region: each function draws one, in SVG, at (x, y)."""

import random

from gaia_offline.atlas.sheets import Sheet


def _mountain(sheet: Sheet, x: float, y: float, chance: random.Random) -> str:
    theme = sheet.theme
    half, height = chance.uniform(12, 20), chance.uniform(20, 38)
    lean = chance.uniform(-3, 3)
    left, right, base, top = x - half, x + half, y + 8, y + 8 - height
    return (
        f'<path d="M{left:.1f},{base:.1f} '
        f"Q{x - half * 0.3:.1f},{top + height * 0.5:.1f} "
        f"{x + lean:.1f},{top:.1f} Q{x + half * 0.4:.1f},{top + height * 0.45:.1f} "
        f'{right:.1f},{base:.1f}" fill="#e6dcc4" stroke="{theme.ink}" '
        f'stroke-width="1.7" stroke-linejoin="round"/>'
        f'<path d="M{x + lean:.1f},{top:.1f} Q{x + half * 0.4:.1f},'
        f"{top + height * 0.45:.1f} {right:.1f},{base:.1f} "
        f"Q{x + half * 0.3:.1f},{base - 3:.1f} {x + 1:.1f},{base - height * 0.25:.1f} "
        f'Q{x + 4:.1f},{top + height * 0.45:.1f} {x + lean:.1f},{top:.1f} Z" '
        f'fill="{theme.ink}" fill-opacity="0.38"/>'
    )


def _hill(sheet: Sheet, x: float, y: float, chance: random.Random) -> str:
    half, height = chance.uniform(8, 12), chance.uniform(7, 10)
    return (
        f'<path d="M{x - half:.1f},{y + 3:.1f} Q{x:.1f},{y - 2 * height + 3:.1f} '
        f'{x + half:.1f},{y + 3:.1f}" fill="#ddd0a4" stroke="{sheet.theme.ink}" '
        f'stroke-width="1.4" stroke-linecap="round" stroke-opacity="0.8"/>'
    )


def _trees(sheet: Sheet, x: float, y: float, chance: random.Random) -> str:
    spots = sorted(
        (y + chance.uniform(-8, 8), x + chance.uniform(-11, 11)) for _ in range(3)
    )
    return "".join(_tree(sheet, at, base, chance) for base, at in spots)


def _tree(sheet: Sheet, x: float, y: float, chance: random.Random) -> str:
    radius = chance.uniform(4.2, 5.8)
    return (
        f'<path d="M{x:.1f},{y:.1f} v5" stroke="{sheet.theme.ink}" stroke-width="1.4"/>'
        f'<ellipse cx="{x:.1f}" cy="{y - radius * 0.6:.1f}" rx="{radius:.1f}" '
        f'ry="{radius * 1.15:.1f}" fill="#7f9263" stroke="{sheet.theme.ink}" '
        f'stroke-width="1.1" stroke-opacity="0.8"/>'
    )


def _reeds(sheet: Sheet, x: float, y: float, chance: random.Random) -> str:
    shift = chance.uniform(-4, 4)
    return (
        f'<path d="M{x - 8 + shift:.1f},{y:.1f} h16 M{x - 3 + shift:.1f},{y - 2:.1f} '
        f"l-2,-7 M{x + shift:.1f},{y - 2:.1f} v-9 M{x + 3 + shift:.1f},{y - 2:.1f} "
        f'l2,-7" stroke="{sheet.theme.faded}" stroke-width="1.4" fill="none"/>'
    )


def _dune(sheet: Sheet, x: float, y: float, chance: random.Random) -> str:
    height = chance.uniform(6, 8)
    return (
        f'<path d="M{x - 10:.1f},{y:.1f} q6,-{height:.1f} 11,0 q4,-4 9,1" fill="none" '
        f'stroke="{sheet.theme.faded}" stroke-width="1.4" stroke-linecap="round"/>'
    )


def castle(sheet: Sheet, x: float, y: float) -> str:
    """Draw a small castle with a flag, its gate at (x, y)."""
    wall = f"M{x - 14:.1f},{y + 9:.1f} v-20 h5 v4 h4 v-12 h10 v12 h4 v-4 h5 v20 Z"
    return (
        f'<path d="{wall}" fill="{sheet.theme.paper}" stroke="{sheet.theme.ink}" '
        f'stroke-width="2.2" stroke-linejoin="round"/>'
        f'<path d="M{x - 3:.1f},{y + 9:.1f} v-7 q3,-5 6,0 v7 Z" '
        f'fill="{sheet.theme.ink}"/>'
        f'<path d="M{x:.1f},{y - 19:.1f} v-9 l9,3 l-9,3" fill="{sheet.theme.accent}" '
        f'stroke="{sheet.theme.accent}" stroke-width="1.5"/>'
    )


SYMBOLS = {
    "MOUNTAIN": _mountain,
    "HILLS": _hill,
    "FOREST": _trees,
    "SWAMP": _reeds,
    "DESERT": _dune,
}
"""Biome to the symbol that stands for it."""
