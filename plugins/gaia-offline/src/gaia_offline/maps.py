"""
Understand a prompt that asks for a map.

A prompt chooses the kind of map, its climate and shape, and its name. What it says
beyond that cannot be drawn, and is listed so that the caller can say so.
"""

import re
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import TypeVar

import attrs

from gaia_offline.arrays import Pixels

Knobs = Mapping[str, float | int | bool | str]
"""Settings of a generator, by name."""


class MapKind(Enum):
    """What a map shows."""

    REGION = "region"
    TOWN = "town"
    DUNGEON = "dungeon"


@attrs.frozen(kw_only=True)
class MapSpec:
    """
    What a prompt asks of a map.

    Attributes:
        kind: What the map shows.
        name: Its title; None lets the seed choose one.
        knobs: Settings that differ from the generator's own.
        template: Landform of a region, such as "volcano"; empty for none.
        culture: Style of invented names.
        theme: Colours: "parchment", "night", "blueprint" or "ice".
        is_battlemap: Whether to leave out everything but floor, walls and grid.
        unused: Words of the prompt that the map does not show.
    """

    kind: MapKind
    name: str | None = None
    knobs: Knobs = attrs.field(factory=dict, hash=False)
    template: str = ""
    culture: str = "generic"
    theme: str = "parchment"
    is_battlemap: bool = False
    unused: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Say what the map leaves out, in sentences."""
        said = []
        if self.unused:
            said.append(f"The map does not show: {', '.join(self.unused)}.")
        if self.name and self.is_battlemap and self.kind is MapKind.DUNGEON:
            said.append(f"A battle map bears no title, so not {self.name}.")
        return tuple(said)


def parse(prompt: str) -> MapSpec:
    """
    Read the kind, look and name of a map from a prompt.

    >>> spec = parse('a dungeon map of the "Tomb of the Lich"')
    >>> spec.kind.value, spec.name
    ('dungeon', 'Tomb of the Lich')
    """
    name, rest = _take_name(prompt)
    words = _words(prompt if name is None else f"{rest} {name}")
    kind = _kind(_words(rest), words)
    entries = _ENTRIES[kind]
    used = [entries[word] for word in words if word in entries]
    return MapSpec(
        kind=kind,
        name=name,
        knobs=_merged(used),
        template=_last([entry.template for entry in used], ""),
        culture=_last([_CULTURES.get(word, "") for word in words], "generic"),
        theme=_last([_THEMES.get(word, "") for word in words], "parchment"),
        is_battlemap=bool(_BATTLEMAP.search(prompt)),
        unused=_unused(_words(rest), kind),
    )


def draw_map(spec: MapSpec, seed: int, width: int, height: int) -> Pixels:
    """
    Draw a map.

    Args:
        spec: What to draw; see `parse`.
        seed: The same seed draws the same map.
        width: Width in pixels.
        height: Height in pixels.

    Returns:
        (height, width, 3).
    """
    # The libraries behind it take a quarter of a second to import.
    from gaia_offline.atlas import draw  # noqa: PLC0415

    return draw(spec, seed, width, height)


# -- its name -------------------------------------------------------------------

_BATTLEMAP = re.compile(r"\b(?:battle|encounter|combat)[- ]?maps?\b", re.IGNORECASE)
_QUOTED = re.compile(r"[\"“”«»„]([^\"“”«»„]{1,60})[\"“”«»„]")
_CALLED = re.compile(r"\b(?:called|named|titled)\s+((?:the\s+)?[A-Z][^,.;:]{0,59})")
_OF = re.compile(
    r"\bof\s+((?:[Tt]he\s+)?[A-Z][\w'\u2019-]*(?:\s+(?:of|the|and|[A-Z][\w'\u2019-]*))*)"
)

_UNWRITABLE = re.compile(
    "[^ -~\u00a0-\u00ff\u0131\u0152\u0153\u2013\u2014"
    "\u2018-\u201a\u201c-\u201e\u2022\u2026]"
)
"""What the fonts of the maps hold no letter for."""

_LONGEST = 60
"""Letters of a name; more of them could not be read on the scroll."""


def _take_name(prompt: str) -> tuple[str | None, str]:
    """Return the name a prompt gives, if it can be written, and the prompt without."""
    for pattern in (_QUOTED, _CALLED, _OF):
        match = pattern.search(prompt)
        name = _titled(match[1]) if match else ""
        if match and 0 < len(name) <= _LONGEST and not _UNWRITABLE.search(name):
            rest = prompt[: match.start()] + " " + prompt[match.end() :]
            return name, rest
    return None, prompt


def _titled(name: str) -> str:
    tidy = " ".join(name.split())
    return tidy[:1].upper() + tidy[1:]


# -- its look -------------------------------------------------------------------


@attrs.frozen
class _Entry:
    """What a word says about a map."""

    knobs: Knobs = attrs.field(factory=dict, hash=False)
    template: str = ""


def _entry(template: str = "", **knobs: float | bool | str) -> _Entry:
    return _Entry(knobs, template)


def _spread(table: Mapping[str, _Entry]) -> Mapping[str, _Entry]:
    """Give every one of the words of a key its own entry."""
    return MappingProxyType(
        {word: entry for words, entry in table.items() for word in words.split()}
    )


_Value = TypeVar("_Value")


def _each(words: str, value: _Value) -> dict[str, _Value]:
    """Give each of several words the same value."""
    return dict.fromkeys(words.split(), value)


_REGION = _spread(
    {
        "map maps atlas region regional area overland fantasy campaign": _entry(),
        "kingdom realm country land lands empire continent duchy": _entry(),
        "town towns city cities capital settlement castle castles": _entry(),
        "pangaea supercontinent": _entry(
            sea_level=0.22, continent_spread=0.15, edge_falloff=0.55
        ),
        "archipelago isles islands": _entry(
            continents=7, sea_level=0.55, continent_spread=0.75, mountain_density=0.4
        ),
        "island isle": _entry(sea_level=0.5, continent_spread=0.1, edge_falloff=1.5),
        "world planet continents globe": _entry(
            continents=5, sea_level=0.55, continent_spread=0.85, polar_cold=0.5
        ),
        "mountain mountains mountainous alpine highlands highland peaks": _entry(
            mountain_density=0.95, roughness=0.75, river_density=0.7
        ),
        "plains grassland steppe prairie flat": _entry(
            mountain_density=0.1, land_age=0.9, moisture=-0.1
        ),
        "desert dunes sand sandy wasteland arid": _entry(
            temperature=0.85, moisture=-0.85, river_density=0.12, polar_cold=0.0
        ),
        "arctic frozen snow snowy ice icy frost winter polar tundra": _entry(
            temperature=-0.85, polar_cold=0.9
        ),
        "tropical jungle rainforest": _entry(
            temperature=0.6, moisture=0.85, river_density=0.85, polar_cold=0.1
        ),
        "forest forests woodland woods wooded green": _entry(
            moisture=0.5, temperature=0.1, polar_cold=0.1
        ),
        "swamp swamps marsh marshes bog wetlands": _entry(
            moisture=0.95, temperature=0.25, mountain_density=0.2, lake_density=0.8
        ),
        "lake lakes": _entry(lake_density=0.95),
        "river rivers": _entry(river_density=0.95),
        "coast coastal shore sea ocean": _entry(sea_level=0.42),
        "volcano volcanic": _entry("volcano", mountain_density=0.8),
        "peninsula": _entry("peninsula"),
        "isthmus": _entry("isthmus"),
        "atoll": _entry("atoll", sea_level=0.55),
        "old ancient": _entry(land_age=0.8),
        "young jagged rugged": _entry(land_age=0.1, mountain_density=0.8),
    }
)
_TOWN = _spread(
    {
        "map maps town settlement streets street fantasy": _entry(),
        "hamlet": _entry(population=900, lot_size=6.0, irregularity=0.7),
        "village": _entry(population=1400, irregularity=0.6),
        "city capital": _entry(population=14000, irregularity=0.35),
        "metropolis": _entry(population=26000, wealth=0.92, era=0.9, irregularity=0.18),
        "port harbour harbor coastal seaside": _entry(
            population=7000, coastal=True, irregularity=0.4
        ),
        "walled walls fortified": _entry(walled=True),
        "citadel fortress castle stronghold": _entry(
            population=5000, purpose="fortress", walled=True, irregularity=0.25
        ),
        "temple holy pilgrimage monastery": _entry(purpose="religious"),
        "market trade trading": _entry(purpose="trade"),
        "mining": _entry(purpose="extraction", wealth=0.25, irregularity=0.7),
        "slums shanty shantytown poor": _entry(wealth=0.08, irregularity=0.8),
        "rich wealthy noble": _entry(wealth=0.9),
        "grid planned roman": _entry(layout="grid", era=0.9),
        "large big great": _entry(population=20000),
        "small little tiny": _entry(population=900),
    }
)
_DUNGEON = _spread(
    {
        "map maps battlemap floorplan floor plan battle encounter combat": _entry(),
        "dungeon crypt tomb catacomb catacombs vault temple keep lair": _entry(),
        "cave caves cavern caverns mine mines sewer sewers prison": _entry(),
        "underground underdark ruin ruins room rooms grid fantasy": _entry(),
        "large big huge vast": _entry(tiles=54, extra_corridor_chance=0.015),
        "small little tiny": _entry(tiles=24),
        "maze labyrinth labyrinthine": _entry(
            tiles=52, min_leaf=6, extra_corridor_chance=0.015
        ),
    }
)
_ENTRIES: Mapping[MapKind, Mapping[str, _Entry]] = MappingProxyType(
    {MapKind.REGION: _REGION, MapKind.TOWN: _TOWN, MapKind.DUNGEON: _DUNGEON}
)

_KINDS: Mapping[str, MapKind] = MappingProxyType(
    {
        **_each(
            "battlemap floorplan floor battle encounter combat dungeon crypt tomb "
            "catacomb catacombs vault lair cave caves cavern caverns mine mines sewer "
            "sewers prison underground underdark maze labyrinth",
            MapKind.DUNGEON,
        ),
        **_each(
            "town settlement streets hamlet village city capital metropolis port "
            "harbour harbor citadel shantytown slums",
            MapKind.TOWN,
        ),
        **_each(
            "region regional kingdom realm country empire continent continents world "
            "archipelago island islands isle isles planet overland",
            MapKind.REGION,
        ),
    }
)

_CULTURES: Mapping[str, str] = MappingProxyType(
    {
        **_each("nordic viking norse northern", "nordic"),
        **_each("roman latin imperial", "latin"),
        **_each("elvish elven elf elves fey", "elvish"),
        **_each("dwarvish dwarven dwarf dwarves", "dwarvish"),
        **_each("eastern japanese samurai", "eastern"),
        **_each("arabian desert oasis sultanate", "desert"),
        **_each("dark evil cursed shadow undead vampire", "dark"),
    }
)
_THEMES: Mapping[str, str] = MappingProxyType(
    {
        **_each("parchment antique vintage sepia", "parchment"),
        **_each("dark night evil cursed shadow undead vampire", "night"),
        **_each("blueprint technical schematic", "blueprint"),
        **_each("arctic frozen snow snowy ice icy winter", "ice"),
    }
)

_FILLERS = _each(
    "a an and are as at by draw drawn for from hand hand-drawn has in into is it its "
    "make me my of on or please show showing some style that the their there this to "
    "top top-down view with detailed colour color coloured colored "
    "above across around behind below beneath beside between near over under within",
    None,
)


def _words(text: str) -> tuple[str, ...]:
    """Return the words of a text in lower case."""
    return tuple(re.findall(r"[^\W\d_][\w'\u2019-]*", text.lower()))


def _kind(*sources: tuple[str, ...]) -> MapKind:
    """Take the first word that names a kind; later sources count less."""
    named = (_KINDS[word] for words in sources for word in words if word in _KINDS)
    return next(named, MapKind.REGION)


def _merged(entries: list[_Entry]) -> Knobs:
    knobs: dict[str, float | int | bool | str] = {}
    for entry in entries:
        knobs.update(entry.knobs)
    return knobs


def _last(values: list[str], default: str) -> str:
    """Return the last value that says something."""
    return next((value for value in reversed(values) if value), default)


def _unused(words: tuple[str, ...], kind: MapKind) -> tuple[str, ...]:
    named = {word for word, meant in _KINDS.items() if meant is kind}
    known = {*_FILLERS, *_ENTRIES[kind], *_CULTURES, *_THEMES, *named}
    return tuple(dict.fromkeys(word for word in words if word not in known))
