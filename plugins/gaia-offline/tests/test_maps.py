"""Prompts become maps of the right kind, name and size, the same ones every time."""

import os
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest
from PIL import ImageFont

from gaia_offline.atlas import sheets
from gaia_offline.maps import MapKind, MapSpec, draw_map, parse


@pytest.mark.parametrize(
    ("prompt", "kind", "name"),
    [
        ("a map", MapKind.REGION, None),
        ("map of the Sword Coast", MapKind.REGION, "The Sword Coast"),
        ('city map "port royal"', MapKind.TOWN, "Port royal"),
        (
            "map of a village called Little Whinging, snow",
            MapKind.TOWN,
            "Little Whinging",
        ),
        ("dungeon map of the Tomb of Horrors", MapKind.DUNGEON, "The Tomb of Horrors"),
        ("map of a kingdom with a port city", MapKind.REGION, None),
        ("battlemap of a cave", MapKind.DUNGEON, None),
        ("map of Castle Ravenloft", MapKind.REGION, "Castle Ravenloft"),
    ],
)
def test_a_prompt_gives_kind_and_name(
    prompt: str, kind: MapKind, name: str | None
) -> None:
    """The first word that names a kind decides, and a capitalised name is a title."""
    spec = parse(prompt)

    assert (spec.kind, spec.name) == (kind, name)


def test_words_combine() -> None:
    """Climate and shape come from different words."""
    spec = parse("map of a frozen archipelago")

    assert spec.knobs["continents"] == 7
    assert spec.knobs["temperature"] == pytest.approx(-0.85)
    assert spec.theme == "ice"


@pytest.mark.parametrize(
    ("prompt", "warnings"),
    [
        ("a map of the forest kingdom", ()),
        (
            "treasure map with a kraken",
            ("The map does not show: treasure, kraken.",),
        ),
        ("map of a village with a dungeon", ("The map does not show: dungeon.",)),
        ('map of "東京"', ("The map does not show: 東京.",)),
        (
            "battlemap of the Old Mill",
            ("A battle map bears no title, so not The Old Mill.",),
        ),
    ],
    ids=["all shown", "some left out", "other kind", "other script", "battle map"],
)
def test_unused_words_are_named(prompt: str, warnings: tuple[str, ...]) -> None:
    """What the map cannot show is said, and nothing else."""
    assert parse(prompt).warnings == warnings


@pytest.mark.parametrize("kind", list(MapKind))
@pytest.mark.parametrize(
    ("width", "height"),
    [(64, 64), (333, 210), (120, 900)],
    ids=["tiny", "wide", "strip"],
)
def test_maps_have_exactly_the_size(kind: MapKind, width: int, height: int) -> None:
    """Any size is met to the pixel, and something is drawn on it."""
    picture = draw_map(MapSpec(kind=kind), 3, width, height)

    assert picture.shape == (height, width, 3)
    assert picture.std() > 5


def test_large_maps_have_exactly_the_size() -> None:
    """A map larger than it is drawn fills the picture."""
    picture = draw_map(MapSpec(kind=MapKind.DUNGEON), 3, 2500, 2100)

    assert picture.shape == (2100, 2500, 3)


@pytest.mark.parametrize("kind", list(MapKind))
def test_the_seed_decides(kind: MapKind) -> None:
    """Another seed draws another map."""
    spec = MapSpec(kind=kind)

    first, second = draw_map(spec, 1, 64, 64), draw_map(spec, 2, 64, 64)

    assert not np.array_equal(first, second)


@pytest.mark.parametrize("seed", [-1, 0, 2**63], ids=["negative", "zero", "huge"])
def test_any_integer_is_a_seed(seed: int) -> None:
    """No integer is refused as a seed."""
    picture = draw_map(MapSpec(kind=MapKind.REGION), seed, 64, 64)

    assert picture.shape == (64, 64, 3)


_SCRIPT = """
import hashlib
from gaia_offline.maps import draw_map, parse
for prompt in ("world map", "city map", "dungeon map"):
    pixels = draw_map(parse(prompt), 11, 240, 220)
    print(hashlib.sha256(pixels.tobytes()).hexdigest())
"""


def test_other_processes_draw_the_same_maps() -> None:
    """Maps do not depend on the order of sets, which differs between processes."""
    printed = [_run_with_hash_seed(hash_seed) for hash_seed in ("1", "2")]

    here = [
        sha256(draw_map(parse(prompt), 11, 240, 220).tobytes()).hexdigest()
        for prompt in ("world map", "city map", "dungeon map")
    ]
    assert printed == [here, here]


def _run_with_hash_seed(hash_seed: str) -> list[str]:
    environment = os.environ | {
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-c", _SCRIPT]
    output = subprocess.check_output(command, env=environment, text=True)
    return output.split()


def test_names_are_written_with_the_own_font() -> None:
    """Letters do not depend on the fonts of the machine."""
    sheet = sheets.Sheet(
        pixel_width=300, pixel_height=300, theme=sheets.Theme(), seed=0
    )

    drawn = sheets.rasterise(sheet, sheets.title(sheet, "Blåland & Çelik"))

    line = drawn[10:50, 100:200, :3].astype(int).sum(axis=2)
    assert line.min() < 200
    assert "&amp;" in sheets.title(sheet, "Blåland & Çelik")


def test_hostile_names_stay_text() -> None:
    """A name cannot add anything to the drawing."""
    spec = parse('map of "<script>&\'x"')

    picture = draw_map(spec, 1, 256, 256)

    assert picture.shape == (256, 256, 3)


@pytest.mark.parametrize(
    "name",
    ["   ", "a\x00b", "a\ufffe", "\ud800", "Łódź", "مدينة"],
    ids=["blank", "null", "no character", "half a character", "Polish", "Arabic"],
)
def test_names_that_cannot_be_written_are_left_out(name: str) -> None:
    """A name the letters of the maps cannot write gives way to an invented one."""
    spec = parse(f'dungeon map of "{name}"')

    picture = draw_map(spec, 1, 256, 256)

    assert spec.name is None
    assert picture.shape == (256, 256, 3)


def test_a_name_that_goes_on_for_ever_is_no_name() -> None:
    """A title is short enough to be read."""
    spec = parse("map of " + "Far and " * 900 + "Away")

    assert spec.name is None
    assert spec.unused == ("far", "away")


def test_every_letter_of_a_name_is_drawn() -> None:
    """What counts as writable has a letter of its own in both fonts."""
    letters = [chr(code) for code in range(33, 0x2100) if chr(code).isalpha()]
    names = [parse(f'map "A{letter}"').name for letter in letters]
    written = set("".join(name for name in names if name))

    for path in sheets.FONTS.glob("*.ttf"):
        font = ImageFont.truetype(path, 40)
        absent = bytes(font.getmask("\u0531"))
        assert [c for c in written if bytes(font.getmask(c)) == absent] == []

    assert len(written) > 100
