"""
Draw a dungeon: rooms, passages and doors on a grid of squares of five feet.

mapwright digs the rooms; this module draws them as a game master would: hatched rock,
a strong outline, doors, numbers, and for a battle map the grid alone.
"""

import math
import random
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from gaia_offline.arrays import Pixels
from gaia_offline.atlas.sheets import (
    Sheet,
    compass,
    finish,
    frame,
    over,
    paint_paper,
    rasterise,
    scale_bar,
    text,
    title,
)
from gaia_offline.maps import MapSpec

_TILES = 38
_BORDER = 2
_TITLE_ROOM = 140.0
_SCALE_ROOM = 85.0
_FEET_PER_TILE = 5
_HATCHES = 5
_BUNDLES = 4
_DOORS = 0.6
_KINDS = ("Crypt", "Vault", "Halls", "Depths", "Warrens", "Catacombs", "Delve")

Grid = npt.NDArray[np.bool_]


@attrs.frozen(kw_only=True)
class _Cellar:
    """
    A dungeon and where it lies on the sheet.

    Attributes:
        dungeon: The ``mapwright.Dungeon``.
        floor: (rows, columns): which squares are floor, with a border of rock.
        top: Rows of rock above the dungeon.
        unit: Length of a square on the sheet.
    """

    dungeon: Any
    floor: Grid
    top: int
    unit: float

    def edges(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield the sides between floor and rock, in squares, as x, y, dx, dy."""
        for y, x in np.argwhere(self.floor[1:] != self.floor[:-1]).tolist():
            yield x, y + 1, 1, 0
        for y, x in np.argwhere(self.floor[:, 1:] != self.floor[:, :-1]).tolist():
            yield x + 1, y, 0, 1


def draw_dungeon(spec: MapSpec, sheet: Sheet) -> Pixels:
    """Draw a dungeon: (pixel height, pixel width, 3)."""
    cellar = _dig(spec, sheet)
    parts = [
        _hatching(cellar, sheet),
        _floor(cellar, sheet),
        _walls(cellar, sheet),
        _doors(cellar, sheet),
    ]
    if sheet.is_furnished and not spec.is_battlemap:
        parts += [_numbers(cellar, sheet), _compass(cellar, sheet)]
        parts += [scale_bar(sheet, _FEET_PER_TILE / cellar.unit, "feet"), frame(sheet)]
        parts += [title(sheet, spec.name or _invented_name(spec, sheet))]
    return finish(sheet, over(paint_paper(sheet), rasterise(sheet, *parts)))


def _dig(spec: MapSpec, sheet: Sheet) -> _Cellar:
    import mapwright  # noqa: PLC0415

    knobs = dict(spec.knobs)
    tiles = int(knobs.pop("tiles", _TILES))
    unit = min(sheet.width, sheet.height) / tiles
    columns, rows = round(sheet.width / unit), round(sheet.height / unit)
    top, bottom = _margins(spec, sheet, unit)
    config = mapwright.DungeonConfig(**{"extra_corridor_chance": 0.06, **knobs})
    dungeon = mapwright.DungeonGenerator(mapwright.SeededRNG(sheet.seed)).generate(
        columns - 2 * _BORDER, rows - top - bottom, config
    )
    floor = np.pad(dungeon.grid, ((top, bottom), (_BORDER, _BORDER)))
    unit = sheet.width / columns
    return _Cellar(dungeon=dungeon, floor=floor, top=top, unit=unit)


def _margins(spec: MapSpec, sheet: Sheet, unit: float) -> tuple[int, int]:
    """Leave squares above and below for the title and the scale, if there are any."""
    if spec.is_battlemap or not sheet.is_furnished:
        return _BORDER, _BORDER
    return math.ceil(_TITLE_ROOM / unit), math.ceil(_SCALE_ROOM / unit)


def _hatching(cellar: _Cellar, sheet: Sheet) -> str:
    """Hatch the rock along the walls with bundles of short strokes."""
    chance = random.Random(sheet.seed)  # noqa: S311 - a map is no secret
    unit = cellar.unit
    strokes = []
    for x, y, right, down in cellar.edges():
        for _ in range(_BUNDLES):
            along = chance.random()
            middle_x = (x + right * along) * unit + chance.uniform(-0.55, 0.55) * unit
            middle_y = (y + down * along) * unit + chance.uniform(-0.55, 0.55) * unit
            strokes.append(_bundle(unit, middle_x, middle_y, chance))
    return (
        f'<path d="{"".join(strokes)}" fill="none" stroke="{sheet.theme.ink}" '
        f'stroke-width="{unit * 0.05:.2f}" stroke-linecap="round" '
        f'stroke-opacity="0.75"/>'
    )


def _bundle(unit: float, x: float, y: float, chance: random.Random) -> str:
    """Draw a few parallel strokes around a point."""
    turn = chance.uniform(0, np.pi)
    along = (0.3 * unit * np.cos(turn), 0.3 * unit * np.sin(turn))
    beside = (-0.13 * unit * np.sin(turn), 0.13 * unit * np.cos(turn))
    return "".join(
        f"M{x + beside[0] * step - along[0]:.1f},{y + beside[1] * step - along[1]:.1f} "
        f"l{2 * along[0]:.1f},{2 * along[1]:.1f} "
        for step in range(-(_HATCHES // 2), _HATCHES // 2 + 1)
    )


def _floor(cellar: _Cellar, sheet: Sheet) -> str:
    """Lay the floor, and a faint grid on it."""
    unit = cellar.unit
    squares = "".join(
        f"M{x * unit:.1f},{y * unit:.1f} h{unit:.1f} v{unit:.1f} h-{unit:.1f} z"
        for y, x in np.argwhere(cellar.floor).tolist()
    )
    return (
        f'<path d="{squares}" fill="#f7efda" stroke="{sheet.theme.faded}" '
        f'stroke-width="{unit * 0.035:.2f}" stroke-opacity="0.55"/>'
    )


def _walls(cellar: _Cellar, sheet: Sheet) -> str:
    """Draw a strong line around the floor, and its shadow inside."""
    unit = cellar.unit
    lines = "".join(
        f"M{x * unit:.1f},{y * unit:.1f} l{right * unit:.1f},{down * unit:.1f} "
        for x, y, right, down in cellar.edges()
    )
    shade = "".join(
        f"M{x * unit:.1f},{y * unit:.1f} h{unit:.1f} v{unit * 0.22:.1f} h-{unit:.1f} z "
        for y, x in np.argwhere(cellar.floor[1:] & ~cellar.floor[:-1]).tolist()
        for y in [y + 1]
    )
    return (
        f'<path d="{shade}" fill="{sheet.theme.ink}" fill-opacity="0.16"/>'
        f'<path d="{lines}" fill="none" stroke="{sheet.theme.ink}" '
        f'stroke-width="{unit * 0.15:.2f}" stroke-linecap="round"/>'
    )


def _rooms(cellar: _Cellar) -> Iterator[tuple[int, int, int, int]]:
    """Yield the rooms as left, top, right, bottom, in squares of the sheet."""
    for room in cellar.dungeon.rooms:
        x, y = room.x + _BORDER, room.y + cellar.top
        yield x, y, x + room.w, y + room.h


_Opening = tuple[int, int, bool]
"""A gap of one square in a wall: x, y, is it in a side wall."""


def _doors(cellar: _Cellar, sheet: Sheet) -> str:
    """Hang doors where a passage of one square enters a room."""
    chance = random.Random(sheet.seed)  # noqa: S311 - a map is no secret
    found = {door for room in _rooms(cellar) for door in _openings(cellar, room)}
    return "".join(
        _door(cellar.unit, sheet, door)
        for door in sorted(found)
        if chance.random() < _DOORS
    )


def _openings(cellar: _Cellar, room: tuple[int, int, int, int]) -> Iterator[_Opening]:
    """Yield the gaps of one square in a room's walls."""
    left, top, right, bottom = room
    floor = cellar.floor
    for x in range(left, right):
        for y, outside in ((top, top - 1), (bottom, bottom)):
            if floor[outside, x] and not (
                floor[outside, x - 1] or floor[outside, x + 1]
            ):
                yield x, y, False
    for y in range(top, bottom):
        for x, outside in ((left, left - 1), (right, right)):
            if floor[y, outside] and not (
                floor[y - 1, outside] or floor[y + 1, outside]
            ):
                yield x, y, True


def _door(unit: float, sheet: Sheet, opening: _Opening) -> str:
    """Draw a door across a passage."""
    x, y, is_sideways = opening
    thick, wide = 0.3 * unit, 0.74 * unit
    width, height = (thick, wide) if is_sideways else (wide, thick)
    middle = (
        (x * unit, (y + 0.5) * unit) if is_sideways else ((x + 0.5) * unit, y * unit)
    )
    return (
        f'<rect x="{middle[0] - width / 2:.1f}" y="{middle[1] - height / 2:.1f}" '
        f'width="{width:.1f}" height="{height:.1f}" fill="#b98a56" '
        f'stroke="{sheet.theme.ink}" stroke-width="{unit * 0.07:.2f}"/>'
    )


def _numbers(cellar: _Cellar, sheet: Sheet) -> str:
    """Number the rooms from the upper left to the lower right."""
    rooms = sorted(_rooms(cellar), key=lambda room: (room[1] // 6, room[0]))
    unit = cellar.unit
    return "".join(
        text(
            str(number),
            ((left + right) / 2 * unit, (top + bottom) / 2 * unit + 0.4 * unit),
            1.15 * unit,
            fill=sheet.theme.accent,
            halo="#f7efda",
        )
        for number, (left, top, right, bottom) in enumerate(rooms, start=1)
    )


def _compass(cellar: _Cellar, sheet: Sheet) -> str:
    """Draw the compass in a corner that is all rock, if there is one."""
    right, bottom = sheet.width - 95, sheet.height - 85
    for x, y in ((right, bottom), (right, 120), (95, 120), (95, bottom - 70)):
        if not _around(cellar, x, y).any():
            return compass(sheet, (x, y), 42)
    return ""


def _around(cellar: _Cellar, x: float, y: float) -> Grid:
    """Return the squares about a point of the sheet."""
    column, row = int(x / cellar.unit), int(y / cellar.unit)
    return cellar.floor[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]


def _invented_name(spec: MapSpec, sheet: Sheet) -> str:
    import mapwright  # noqa: PLC0415

    root = mapwright.SeededRNG(sheet.seed)
    kind = root.derive("title").choice(_KINDS)
    culture = "dark" if spec.culture == "generic" else spec.culture
    return f"{kind} of {mapwright.NameGenerator(root).place(culture) or 'the Lost'}"
