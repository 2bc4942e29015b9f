"""
Draw a town: wards, houses, streets, walls, and the country around it.

mapwright lays the town out and draws it; this module adds roads, fields and trees
outside, names and a legend, and the sheet.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import attrs
from PIL import Image, ImageDraw

from gaia_offline.arrays import Pixels
from gaia_offline.atlas.sheets import (
    Point,
    Sheet,
    compass,
    finish,
    frame,
    legend,
    over,
    paint_paper,
    rasterise,
    text,
    title,
)
from gaia_offline.maps import MapSpec

_NATIVE_SCALE = 8.0
_POPULATION = 3000
_FILLING = 0.35
_LARGEST_RADIUS = 40.0
_MOST_NAMES = 12

_WARDS = {
    "market": "#e0b96a", "residential": "#d9c39a", "craftsmen": "#c9a877",
    "noble": "#e9dcb8", "slums": "#b8a17c", "temple": "#e6e0d2",
    "garrison": "#b58d74", "docks": "#a9b7ad", "citadel": "#c28f7c",
    "mine": "#a39a8c", "plaza": "#e4cf9a",
}  # fmt: skip


@attrs.frozen(kw_only=True)
class _Plan:
    """
    A town and where it lies on the sheet.

    Attributes:
        town: The ``mapwright.Settlement``.
        unit: Length of one of its tiles on the sheet.
    """

    town: Any
    unit: float

    def at(self, point: Point) -> Point:
        """Return where a point of the town lies on the sheet."""
        return point[0] * self.unit, point[1] * self.unit


def draw_town(spec: MapSpec, sheet: Sheet) -> Pixels:
    """Draw a town: (pixel height, pixel width, 3)."""
    plan = _invent(spec, sheet)
    parts = [_houses(plan, sheet), _country(plan, sheet)]
    if sheet.is_furnished:
        parts += [_names(plan, sheet), _legend(plan, sheet)]
        corner = (sheet.width - 112, sheet.height - 105)
        parts += [compass(sheet, corner), frame(sheet)]
        parts += [title(sheet, spec.name or plan.town.name)]
    return finish(sheet, over(paint_paper(sheet), rasterise(sheet, *parts)))


def _invent(spec: MapSpec, sheet: Sheet) -> _Plan:
    import mapwright  # noqa: PLC0415

    knobs = {"population": _POPULATION, **spec.knobs}
    config = mapwright.SettlementConfig.from_dict(knobs)
    radius = min(_LARGEST_RADIUS, max(6.0, 0.45 * math.sqrt(config.population)))
    unit = min(sheet.width, sheet.height) / (radius / _FILLING)
    town = mapwright.SettlementGenerator(mapwright.SeededRNG(sheet.seed)).generate(
        round(sheet.width / unit),
        round(sheet.height / unit),
        config,
        culture=spec.culture,
    )
    return _Plan(town=town, unit=sheet.width / town.width)


def _houses(plan: _Plan, sheet: Sheet) -> str:
    """Let mapwright draw the town, and set its drawing into the sheet."""
    import mapwright  # noqa: PLC0415

    renderer = mapwright.SettlementSVGRenderer(_NATIVE_SCALE, _theme(sheet))
    drawing = renderer.render(plan.town, show_labels=False, show_title=False)
    inner = drawing[drawing.index(">") + 1 : drawing.rindex("</svg>")]
    return f'<g transform="scale({plan.unit / _NATIVE_SCALE:.4f})">{inner}</g>'


def _theme(sheet: Sheet) -> Any:
    import mapwright  # noqa: PLC0415
    from mapwright.themes import SettlementPalette  # noqa: PLC0415

    theme = sheet.theme
    palette = SettlementPalette(
        countryside="#d7d0a3",
        footprint="#e2d3ab",
        water=theme.deep,
        ward_default=_WARDS["residential"],
        ward_stroke=theme.faded,
        building="#8f6b4e",
        building_stroke=theme.ink,
        road=theme.paper,
        road_casing=theme.faded,
        wall="#5a5148",
        tower_edge=theme.ink,
        label=theme.ink,
        label_halo=theme.paper,
        wards=_WARDS,
    )
    return replace(mapwright.get_theme("parchment"), settlement=palette)


# -- the country ----------------------------------------------------------------


def _country(plan: _Plan, sheet: Sheet) -> str:
    """Lead roads away from the gates and set trees and fields beside them."""
    chance = random.Random(sheet.seed)  # noqa: S311 - a map is no secret
    roads = list(_roads(plan, sheet))
    taken = _taken(plan, sheet, roads)
    fields = "".join(_fields(sheet, taken, chance))
    trees = "".join(_trees(sheet, taken, chance))
    return fields + "".join(_road(sheet, road) for road in roads) + trees


def _roads(plan: _Plan, sheet: Sheet) -> Iterator[tuple[Point, Point]]:
    """Yield roads from the gates straight outward, except into the sea."""
    middle = _middle([plan.at(point) for point in plan.town.footprint])
    reach = sheet.width + sheet.height
    for gate in plan.town.gates:
        start = plan.at(gate)
        way = _direction(middle, start)
        end = (start[0] + reach * way[0], start[1] + reach * way[1])
        if plan.town.water_edge is None or not _is_seaward(plan, start, way):
            yield start, end


def _is_seaward(plan: _Plan, start: Point, way: Point) -> bool:
    """Say whether a way ends up beyond the coast before it leaves the sheet."""
    coast, sea = _coast(plan)
    reach = 30 * plan.unit
    here = (start[0] + reach * way[0] - coast[0], start[1] + reach * way[1] - coast[1])
    return here[0] * sea[0] + here[1] * sea[1] > 0


def _coast(plan: _Plan) -> tuple[Point, Point]:
    """Return a point of the coast, and the direction from there to the sea."""
    start, end = (plan.at(point) for point in plan.town.water_edge)
    along = _direction(start, end)
    sea = (along[1], -along[0])
    inland = _middle([plan.at(point) for point in plan.town.footprint])
    if sea[0] * (inland[0] - start[0]) + sea[1] * (inland[1] - start[1]) > 0:
        sea = (-sea[0], -sea[1])
    return start, sea


def _direction(start: Point, end: Point) -> Point:
    """Return the way between two points, one unit long."""
    length = math.hypot(end[0] - start[0], end[1] - start[1]) or 1.0
    return (end[0] - start[0]) / length, (end[1] - start[1]) / length


def _road(sheet: Sheet, road: tuple[Point, Point]) -> str:
    (x, y), (right, bottom) = road
    path = f"M{x:.1f},{y:.1f} L{right:.1f},{bottom:.1f}"
    return (
        f'<path d="{path}" stroke="{sheet.theme.faded}" stroke-width="15"/>'
        f'<path d="{path}" stroke="{sheet.theme.paper}" stroke-width="11"/>'
    )


def _taken(plan: _Plan, sheet: Sheet, roads: list[tuple[Point, Point]]) -> Image.Image:
    """Mark where nothing may be set: the town, its roads, the sea and the borders."""
    mask = Image.new("L", (round(sheet.width), round(sheet.height)))
    pen = ImageDraw.Draw(mask)
    width, height = mask.size
    pen.rectangle((0, 0, width, height), outline=255, width=28)
    if sheet.is_furnished:
        pen.rectangle((width - 190, height - 200, width, height), fill=255)
        pen.rectangle((width // 2 - 300, 0, width // 2 + 300, 150), fill=255)
    for road in roads:
        pen.line(road, fill=255, width=46)
    pen.polygon([plan.at(point) for point in plan.town.footprint], fill=255)
    outline = [plan.at(point) for point in plan.town.footprint]
    pen.line([*outline, outline[0]], fill=255, width=52)
    if plan.town.water_edge is not None:
        pen.polygon(_sea(plan, sheet), fill=255)
    return mask


def _sea(plan: _Plan, sheet: Sheet) -> list[Point]:
    """Return a large box on the far side of the coast."""
    (x, y), sea = _coast(plan)
    far = 3 * (sheet.width + sheet.height)
    along = (-sea[1], sea[0])
    corners = ((-1, 0), (1, 0), (1, 1), (-1, 1))
    return [
        (
            x + far * (side * along[0] + out * sea[0]),
            y + far * (side * along[1] + out * sea[1]),
        )
        for side, out in corners
    ]


def _middle(points: list[Point]) -> Point:
    count = len(points)
    return sum(x for x, _ in points) / count, sum(y for _, y in points) / count


def _fields(sheet: Sheet, taken: Image.Image, chance: random.Random) -> Iterator[str]:
    """Plough some of the free country."""
    for _ in range(60):
        width, height = chance.uniform(60, 110), chance.uniform(45, 80)
        x = chance.uniform(30, sheet.width - 30 - width)
        y = chance.uniform(30, sheet.height - 30 - height)
        left, top = round(x) - 6, round(y) - 6
        box = (left, top, left + round(width) + 12, top + round(height) + 12)
        if taken.crop(box).getbbox() is None:
            ImageDraw.Draw(taken).rectangle(box, fill=255)
            yield _field(sheet, (x, y), (width, height), chance)


def _field(sheet: Sheet, at: Point, size: Point, chance: random.Random) -> str:
    (x, y), (width, height) = at, size
    fill = chance.choice(("#cfc98d", "#d9cb8f", "#bfc488", "#dccf9f"))
    furrows = "".join(
        f"M{x:.1f},{y + step:.1f} h{width:.1f} " for step in range(7, int(height), 8)
    )
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill="{fill}" stroke="{sheet.theme.faded}" stroke-width="1.6" '
        f'stroke-dasharray="5 3"/>'
        f'<path d="{furrows}" stroke="{sheet.theme.faded}" stroke-width="0.9" '
        f'stroke-opacity="0.5"/>'
    )


def _trees(sheet: Sheet, taken: Image.Image, chance: random.Random) -> Iterator[str]:
    """Set trees in loose groves, from north to south."""
    groves = [
        (chance.uniform(0, sheet.width), chance.uniform(0, sheet.height))
        for _ in range(round(sheet.width * sheet.height / 50_000))
    ]
    spots = sorted(
        (y + chance.gauss(0, 45), x + chance.gauss(0, 45))
        for x, y in groves
        for _ in range(12)
    )
    for y, x in spots:
        is_inside = 0 < x < sheet.width - 1 and 0 < y < sheet.height - 1
        if is_inside and not taken.getpixel((int(x), int(y))):
            yield _tree(sheet, x, y, chance.uniform(7, 11))


def _tree(sheet: Sheet, x: float, y: float, radius: float) -> str:
    return (
        f'<ellipse cx="{x + 2:.1f}" cy="{y + 3:.1f}" rx="{radius:.1f}" '
        f'ry="{radius:.1f}" fill="{sheet.theme.ink}" fill-opacity="0.25"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="#8a9a62" '
        f'stroke="#4d5a37" stroke-width="1.4"/>'
        f'<circle cx="{x - radius * 0.25:.1f}" cy="{y - radius * 0.3:.1f}" '
        f'r="{radius * 0.45:.1f}" fill="#a3b177"/>'
    )


# -- names ----------------------------------------------------------------------


def _names(plan: _Plan, sheet: Sheet) -> str:
    """Write the names of the larger wards, where they do not meet."""
    import mapwright  # noqa: PLC0415

    wards = sorted(
        plan.town.wards, key=lambda ward: (ward.kind != "residential", -ward.id)
    )
    named = {ward.name: ward for ward in wards if ward.name}
    requests = [
        mapwright.LabelRequest(name, plan.at(ward.center), "area", font_size=20.0)
        for name, ward in list(named.items())[-_MOST_NAMES:]
    ]
    placer = mapwright.LabelPlacer(
        sheet.seed & 0x7FFFFFFF, bounds=(sheet.width - 30, sheet.height - 30)
    )
    return "".join(
        text(
            label.text,
            (label.x, label.y),
            label.font_size,
            fill=sheet.theme.ink,
            halo=sheet.theme.paper,
            anchor=label.anchor,
            is_italic=True,
        )
        for label in placer.place(requests)
    )


def _legend(plan: _Plan, sheet: Sheet) -> str:
    """Explain the colours of the wards."""
    kinds = {ward.kind for ward in plan.town.wards}
    entries = [(_WARDS[kind], kind.title()) for kind in _WARDS if kind in kinds]
    return legend(sheet, entries)
