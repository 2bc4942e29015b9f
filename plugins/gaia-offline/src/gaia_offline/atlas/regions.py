"""
Draw a region: coasts, relief, rivers, roads, towns and names.

mapwright invents the land as some 1,600 cells with height, climate and drainage. They
are too coarse to look at, so the heights are smoothed, roughened with noise and cut at
the level of the sea, which gives coasts; mountains and trees are set as symbols.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from gaia_offline.arrays import (
    Floats,
    Pixels,
    mottle,
    smoothly,
    soften,
    to_unit,
)
from gaia_offline.atlas.sheets import (
    Point,
    Sheet,
    compass,
    finish,
    frame,
    over,
    rasterise,
    rgb,
    scale_bar,
    text,
    title,
)
from gaia_offline.atlas.symbols import SYMBOLS, castle
from gaia_offline.maps import MapSpec

_TILES = 60
_CELLS = 1600
_MILES_PER_TILE = 6
_KNOBS = {"polar_cold": 0.12}  # a region is too small for ice at both ends
_RELIEF = 9.0
_GRAIN = np.float32(0.045)
_FRAYING = np.float32(0.75)

_TINTS = {
    "OCEAN": "#d9cfa8", "COAST": "#d9cfa8", "BEACH": "#ecdcae", "DESERT": "#e9cf94",
    "PLAINS": "#d8d3a0", "FOREST": "#b3bf8c", "SWAMP": "#b0b08a", "HILLS": "#d3c090",
    "MOUNTAIN": "#bfae90", "TUNDRA": "#d5d6c2", "SNOW": "#f3f3ee", "RIVER": "#cbcf9c",
    "LAKE": "#cbcf9c",
}  # fmt: skip

_CITIES = 2
_TOWN_GAP = 120.0
_SYMBOL_GAP = 30.0
_PEAK = 0.42  # high snow is drawn as mountains
_SHORTEST_RIVER = 3
_BARE = {"MOUNTAIN": 0.25, "DESERT": 0.45}  # share of cells without their symbol

_SIZES = {"ocean": 40.0, "lake": 19.0, "island": 24.0, "range": 24.0, "forest": 22.0}
_SMALLEST_LETTERS = 17.0
_MOST = {"ocean": 2, "lake": 2, "island": 3, "range": 3, "forest": 2}


@attrs.frozen(kw_only=True)
class _Land:
    """
    A land and where it lies on the sheet.

    Attributes:
        terrain: The ``mapwright.TerrainResult``.
        unit: Length of a tile on the sheet.
    """

    terrain: Any
    unit: float

    def at(self, cell: Any) -> Point:
        """Return where a cell lies on the sheet."""
        return cell.cx * self.unit, cell.cy * self.unit

    def dry(self) -> Iterator[Any]:
        """Yield the cells above the water, from north to south."""
        cells = sorted(self.terrain.cells, key=lambda cell: (cell.cy, cell.id))
        return (cell for cell in cells if not (cell.is_water or cell.is_lake))


@attrs.frozen(kw_only=True)
class _Town:
    """A place on the map: its name, its cell and whether it is a great one."""

    name: str
    cell: Any
    is_city: bool


def draw_region(spec: MapSpec, sheet: Sheet) -> Pixels:
    """Draw a region: (pixel height, pixel width, 3)."""
    import mapwright  # noqa: PLC0415

    root = mapwright.SeededRNG(sheet.seed)
    names = mapwright.NameGenerator(root)
    land = _invent(spec, sheet)
    towns = _settle(land, sheet, names, spec.culture)
    ground, is_land = _paint(land, sheet)
    water_ways = rasterise(sheet, _rivers(land))
    water_ways = np.dstack((water_ways[..., :3], water_ways[..., 3] * is_land))
    ground = over(ground, water_ways)
    parts = [_roads(land, sheet, towns), _symbols(land, sheet, towns)]
    parts += [_places(land, sheet, towns)]
    if sheet.is_furnished:
        parts += [_names(land, sheet, towns, spec.culture)]
        parts += [_furniture(sheet, spec.name or names.region(spec.culture), land.unit)]
    return finish(sheet, over(ground, rasterise(sheet, *parts)))


def _invent(spec: MapSpec, sheet: Sheet) -> _Land:
    import mapwright  # noqa: PLC0415

    unit = min(sheet.width, sheet.height) / _TILES
    columns, rows = round(sheet.width / unit), round(sheet.height / unit)
    terrain = mapwright.RegionalTerrainGenerator(
        mapwright.SeededRNG(sheet.seed)
    ).generate(
        columns,
        rows,
        mapwright.WorldMapConfig.from_dict({**_KNOBS, **spec.knobs}),
        cell_area=columns * rows / _CELLS,
        template=spec.template,
    )
    return _Land(terrain=terrain, unit=unit)


# -- the ground -----------------------------------------------------------------


def _paint(land: _Land, sheet: Sheet) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Paint land and sea, and say which pixels are land."""
    is_land = _coast(land, sheet)
    shore = _blurred(is_land, sheet, 5)
    ground = np.where(
        is_land[..., None],
        _painted_land(land, sheet),
        _painted_sea(sheet, shore, _blurred(is_land, sheet, 40)),
    )
    edge = _blurred(is_land, sheet, 1.1)
    coast = np.clip(4.6 * edge * (1 - edge), 0, 0.9)[..., None]
    ink = np.array(rgb(sheet.theme.ink), np.float32)
    inked: Floats = ground * (1 - coast) + ink * coast
    return inked, is_land


def _coast(land: _Land, sheet: Sheet) -> npt.NDArray[np.bool_]:
    """Say which pixels are land: the cells' own outline, smoothed and frayed."""
    wet = [cell.is_water or cell.is_lake for cell in land.terrain.cells]
    smooth = _spread(land, sheet, [-1.0 if is_wet else 1.0 for is_wet in wet])
    width, height = sheet.raster
    rough = mottle(width, height, sheet.seed + 1)
    fine = mottle(width, height, sheet.seed + 2, finest=150)
    return smooth + _FRAYING * (0.6 * rough + fine) > 0


def _spread(land: _Land, sheet: Sheet, values: Sequence[float]) -> Floats:
    """Turn one number a cell into a smooth plane of the raster's size."""
    return _spread_all(land, sheet, np.array(values, np.float32)[:, None])[..., 0]


def _spread_all(land: _Land, sheet: Sheet, values: Floats) -> Floats:
    """Turn (cells, channels) into (raster height, raster width, channels)."""
    grid = soften(values[np.asarray(land.terrain.cell_of)])
    return smoothly(grid, *sheet.raster)


def _painted_land(land: _Land, sheet: Sheet) -> Floats:
    """Tint the land by its plants and shade it by its slopes, lit from north-west."""
    tints = [rgb(_TINTS[cell.biome.name]) for cell in land.terrain.cells]
    colour = _spread_all(land, sheet, np.array(tints, np.float32))
    paper = np.array(rgb(sheet.theme.paper), np.float32)
    heights = _spread(land, sheet, [cell.height for cell in land.terrain.cells])
    grain = mottle(*sheet.raster, sheet.seed + 2, finest=150)
    down, right = np.gradient(heights + _GRAIN * grain)
    tile = land.unit * sheet.raster[0] / sheet.width
    shade = np.clip(1 + _RELIEF * tile * (down + right) / 12, 0.8, 1.12)
    mixed: Floats = (0.72 * colour + 0.28 * paper) * shade[..., None]
    return mixed


def _painted_sea(sheet: Sheet, shore: Floats, near: Floats) -> Floats:
    """Deepen the sea away from the coast, and draw ripples along it."""
    shallow, deep = (
        np.array(rgb(colour), np.float32)
        for colour in (sheet.theme.sea, sheet.theme.deep)
    )
    depth = np.clip(1 - 2.2 * near, 0, 1)[..., None]
    sea: Floats = shallow * (1 - depth) + deep * depth
    ripples = np.zeros_like(shore)
    for level in (0.3, 0.1, 0.025):
        ripples += np.exp(-(((shore - level) / (level / 3.5)) ** 2))
    painted: Floats = sea * (1 - 0.16 * np.clip(ripples, 0, 1)[..., None])
    return painted


def _blurred(is_land: npt.NDArray[np.bool_], sheet: Sheet, radius: float) -> Floats:
    """Return how much land is around each pixel, 0-1; radius in units of the sheet."""
    plane = Image.fromarray(is_land.astype(np.uint8) * 255)
    scaled = max(0.6, radius * sheet.raster[0] / sheet.width)
    return to_unit(np.asarray(plane.filter(ImageFilter.GaussianBlur(scaled))))


# -- what lies on it ------------------------------------------------------------


def _rivers(land: _Land) -> str:
    cells = land.terrain.cells
    return "".join(
        f'<path d="{_curve([land.at(cells[index]) for index in river.cells])}" '
        f'fill="none" stroke="#6f95a3" stroke-width="{_river_width(river.width):.1f}" '
        f'stroke-linecap="round"/>'
        for river in land.terrain.rivers
        if len(river.cells) >= _SHORTEST_RIVER
    )


def _river_width(width: float) -> float:
    return max(1.6, min(5.0, 0.7 * width))


def _curve(points: Sequence[Point]) -> str:
    """Draw a smooth line through the middles of a polyline."""
    path = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
    for here, there in pairwise(points[1:]):
        middle = ((here[0] + there[0]) / 2, (here[1] + there[1]) / 2)
        path += f" Q{here[0]:.1f},{here[1]:.1f} {middle[0]:.1f},{middle[1]:.1f}"
    return path + f" L{points[-1][0]:.1f},{points[-1][1]:.1f}"


def _settle(land: _Land, sheet: Sheet, names: Any, culture: str) -> list[_Town]:
    """Choose places for towns: by rivers and coasts, not on peaks, well apart."""
    chance = random.Random(sheet.seed)  # noqa: S311 - a map is no secret
    cells = land.terrain.cells
    scored = []
    for cell in land.dry():
        if _is_inside(sheet, land.at(cell)) and _symbol(land, cell) != "MOUNTAIN":
            is_coast = any(cells[other].is_water for other in cell.neighbors)
            score = chance.random() + 0.5 * cell.is_river + 0.4 * is_coast
            scored.append((score, cell.id))
    wanted = max(2, min(12, len(scored) // 45))
    chosen = _apart(land, (cells[index] for _, index in sorted(scored)[::-1]), wanted)
    invented = (names.settlement(culture) for _ in range(10 * wanted))
    fresh = dict.fromkeys(name for name in invented if name)
    return [
        _Town(name=name, cell=cell, is_city=index < _CITIES)
        for index, (name, cell) in enumerate(zip(fresh, chosen, strict=False))
    ]


def _is_inside(sheet: Sheet, at: Point) -> bool:
    """Say whether a town would be clear of the frame, the title and the compass."""
    (x, y), margin = at, 90
    return (
        margin < x < sheet.width - 1.7 * margin
        and 1.7 * margin < y < sheet.height - margin
    )


def _apart(land: _Land, cells: Iterable[Any], wanted: int) -> list[Any]:
    """Take the first cells that keep their distance from each other."""
    chosen: list[Any] = []
    for cell in cells:
        if len(chosen) == wanted:
            break
        if all(
            _distance(land.at(cell), land.at(other)) > _TOWN_GAP for other in chosen
        ):
            chosen.append(cell)
    return chosen


def _distance(here: Point, there: Point) -> float:
    return float(np.hypot(here[0] - there[0], here[1] - there[1]))


def _roads(land: _Land, sheet: Sheet, towns: Sequence[_Town]) -> str:
    """Connect towns that can be reached without a ship."""
    import mapwright  # noqa: PLC0415

    cells = land.terrain.cells
    sites = [(town.cell.cx, town.cell.cy) for town in towns]
    roads = mapwright.RegionalRoadGenerator().generate(land.terrain, sites)
    dry = (
        road
        for road in roads
        if len(road.cells) > 1
        and not any(cells[index].is_water for index in road.cells)
    )
    return "".join(
        f'<path d="{_curve([land.at(cells[index]) for index in road.cells])}" '
        f'fill="none" stroke="{sheet.theme.accent}" stroke-width="2.4" '
        f'stroke-dasharray="9 6" stroke-opacity="0.75"/>'
        for road in dry
    )


def _symbols(land: _Land, sheet: Sheet, towns: Sequence[_Town]) -> str:
    """Set mountains, hills, trees and the like, from north to south."""
    chance = random.Random(sheet.seed)  # noqa: S311 - a map is no secret
    places = [land.at(town.cell) for town in towns]
    parts = []
    for cell in land.dry():
        x, y = land.at(cell)
        symbol = _symbol(land, cell)
        is_free = all(_distance((x, y), place) > _SYMBOL_GAP for place in places)
        if symbol in SYMBOLS and is_free and chance.random() >= _BARE.get(symbol, 0):
            x += chance.uniform(-3, 3)
            y += chance.uniform(-3, 3)
            parts.append(SYMBOLS[symbol](sheet, x, y, chance))
    return "".join(parts)


def _symbol(land: _Land, cell: Any) -> str:
    """Name the symbol of a cell; high snow is a mountain too."""
    name = str(cell.biome.name)
    if name == "SNOW":
        return "MOUNTAIN" if land.terrain.elevation_at(cell) > _PEAK else ""
    return name


def _places(land: _Land, sheet: Sheet, towns: Sequence[_Town]) -> str:
    """Mark a city by a small castle and a town by a ring."""
    theme = sheet.theme
    parts = []
    for town in towns:
        x, y = land.at(town.cell)
        if town.is_city:
            parts.append(castle(sheet, x, y))
        else:
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6.5" fill="{theme.paper}" '
                f'stroke="{theme.ink}" stroke-width="2.2"/>'
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{theme.accent}"/>'
            )
    return "".join(parts)


# -- names ----------------------------------------------------------------------


def _names(land: _Land, sheet: Sheet, towns: Sequence[_Town], culture: str) -> str:
    """Write the names of towns and of what nature made, each in a free place."""
    import mapwright  # noqa: PLC0415

    features = [
        (label, feature.kind)
        for feature in _notable(land, sheet, culture)
        for label in _feature_labels(land, sheet, feature)
    ]
    requests = [_town_label(land, town) for town in towns]
    requests += [label for label, _ in features]
    placer = mapwright.LabelPlacer(
        sheet.seed & 0x7FFFFFFF,
        avoid_points=[land.at(town.cell) for town in towns] + _furnished(sheet),
        bounds=(sheet.width - 30, sheet.height - 30),
    )
    kinds = ["town"] * len(towns) + [kind for _, kind in features]
    return "".join(
        _written(sheet, label, kind)
        for label, kind in zip(placer.place(requests), kinds, strict=True)
    )


def _town_label(land: _Land, town: _Town) -> Any:
    import mapwright  # noqa: PLC0415

    size, radius = (29.0, 18.0) if town.is_city else (22.0, 8.0)
    return mapwright.LabelRequest(
        town.name,
        land.at(town.cell),
        "marker",
        font_size=size,
        marker_radius=radius,
    )


def _feature_labels(land: _Land, sheet: Sheet, feature: Any) -> Iterator[Any]:
    """Yield the label of a feature, if it is wide enough to be written on."""
    import mapwright  # noqa: PLC0415

    heart, depth = _heart(land, sheet, feature)
    size = _SIZES[feature.kind]
    if feature.kind == "ocean":
        size = min(size, 3.4 * depth / len(feature.name))
    if depth > 0 and size >= _SMALLEST_LETTERS:
        at = land.at(heart)
        yield mapwright.LabelRequest(feature.name, at, "area", font_size=size)


def _notable(land: _Land, sheet: Sheet, culture: str) -> list[Any]:
    """Choose the largest few features of every kind; one island is the mainland."""
    import mapwright  # noqa: PLC0415

    generator = mapwright.FeatureGenerator(mapwright.SeededRNG(sheet.seed))
    found = sorted(
        generator.generate(land.terrain, culture=culture, min_range=10, min_forest=12),
        key=lambda feature: (-feature.area, feature.id),
    )
    chosen = []
    for kind, most in _MOST.items():
        alike = [feature for feature in found if feature.kind == kind]
        chosen += alike[1 : most + 1] if kind == "island" else alike[:most]
    return chosen


def _heart(land: _Land, sheet: Sheet, feature: Any) -> tuple[Any, float]:
    """Return the cell that lies deepest inside a feature, and how deep."""
    cells = land.terrain.cells
    members = set(feature.cells)
    rim = [
        land.at(cells[index])
        for index in feature.cells
        if not members.issuperset(cells[index].neighbors)
    ]
    points = np.array(rim or [(-sheet.width, -sheet.height)])

    def depth(index: int) -> float:
        x, y = land.at(cells[index])
        inside = float(np.hypot(points[:, 0] - x, points[:, 1] - y).min())
        sides = (x - 30, sheet.width - 30 - x)
        ends = (2 * (y - 140), 2 * (sheet.height - 90 - y))
        across, along = (x - sheet.width + 112) / 2.4, y - sheet.height + 105
        rose = float(np.hypot(across, along)) - 60
        return min(inside, rose, *sides, *ends)

    heart = max(feature.cells, key=lambda index: (depth(index), -index))
    return cells[heart], depth(heart)


def _written(sheet: Sheet, label: Any, kind: str) -> str:
    is_water = kind in {"ocean", "lake"}
    return text(
        label.text,
        (label.x, label.y),
        label.font_size,
        fill="#2c5566" if is_water else sheet.theme.ink,
        halo=sheet.theme.sea if is_water else sheet.theme.paper,
        anchor=label.anchor,
        is_italic=kind != "town",
        spacing=4.0 if kind == "ocean" else 0.0,
    )


def _furnished(sheet: Sheet) -> list[Point]:
    """Return points all over the title, the compass and the scale."""
    middle, right, bottom = sheet.width / 2, sheet.width - 112, sheet.height - 105
    title_points = [(middle + 40 * step, 85.0) for step in range(-8, 9)]
    rose = [
        (right + 22 * x, bottom + 22 * y) for x in range(-3, 4) for y in range(-4, 4)
    ]
    scale = [(50.0 + 20 * step, sheet.height - 55) for step in range(14)]
    return title_points + rose + scale


def _furniture(sheet: Sheet, name: str, unit: float) -> str:
    corner = (sheet.width - 112, sheet.height - 105)
    return (
        compass(sheet, corner)
        + scale_bar(sheet, _MILES_PER_TILE / unit, "miles")
        + frame(sheet)
        + title(sheet, name)
    )
