"""Draw maps of regions, towns and dungeons, each in its own module."""

from gaia_offline.arrays import Pixels
from gaia_offline.atlas.dungeons import draw_dungeon
from gaia_offline.atlas.regions import draw_region
from gaia_offline.atlas.sheets import THEMES, Sheet
from gaia_offline.atlas.towns import draw_town
from gaia_offline.maps import MapKind, MapSpec

__all__ = ["draw"]

_ARTISTS = {
    MapKind.REGION: draw_region,
    MapKind.TOWN: draw_town,
    MapKind.DUNGEON: draw_dungeon,
}


def draw(spec: MapSpec, seed: int, width: int, height: int) -> Pixels:
    """Draw a map: (height, width, 3). See `gaia_offline.maps.draw_map`."""
    sheet = Sheet(
        pixel_width=width, pixel_height=height, theme=THEMES[spec.theme], seed=seed
    )
    return _ARTISTS[spec.kind](spec, sheet)
