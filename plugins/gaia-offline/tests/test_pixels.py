"""Sprites reach any size, as crisp squares or painted."""

import numpy as np
import pytest

from gaia_offline.arrays import Pixels
from gaia_offline.pixels import BACKDROPS, paint


@pytest.fixture(name="sprite")
def _sprite() -> Pixels:
    """A blue block with a gold rim, off the middle of 32 by 32 clear pixels."""
    sprite = np.zeros((32, 32, 4), np.uint8)
    sprite[6:26, 4:20] = (230, 180, 40, 255)
    sprite[8:24, 6:18] = (40, 70, 200, 255)
    return sprite


SIZES = pytest.mark.parametrize(
    ("width", "height"),
    [(64, 64), (512, 256), (100, 317), (31, 90)],
    ids=["small", "wide", "tall", "narrower than the sprite"],
)


@SIZES
@pytest.mark.parametrize(("backdrop", "channels"), [("parchment", 3), ("none", 4)])
def test_painted_sprites_have_the_size(
    sprite: Pixels, width: int, height: int, backdrop: str, channels: int
) -> None:
    """A painting has exactly the size, and is transparent only when asked to be."""
    picture = paint(sprite, width, height, backdrop=backdrop)

    assert picture.shape == (height, width, channels)


def test_the_subject_stands_in_the_middle(sprite: Pixels) -> None:
    """The visible part, not the sprite's frame, is centred and fills the picture."""
    alpha = paint(sprite, 300, 200, backdrop="none")[..., 3]

    rows = np.flatnonzero((alpha > 127).any(axis=1))
    columns = np.flatnonzero((alpha > 127).any(axis=0))
    assert (rows[0] + rows[-1]) / 2 == pytest.approx(100, abs=3)
    assert (columns[0] + columns[-1]) / 2 == pytest.approx(150, abs=3)
    assert np.ptp(rows) == pytest.approx(160, abs=10)


@SIZES
def test_crisp_sprites_have_the_size(sprite: Pixels, width: int, height: int) -> None:
    """A crisp picture has exactly the size, with the subject before the backdrop."""
    picture = paint(sprite, width, height, is_crisp=True)

    assert picture.shape == (height, width, 3)


def test_crisp_sprites_keep_their_squares(sprite: Pixels) -> None:
    """Crisp, every pixel of the subject becomes a square of its own colour."""
    picture = paint(sprite, 200, 200, is_crisp=True, backdrop="none")

    shown = picture[picture[..., 3] > 0]
    assert set(map(tuple, shown.tolist())) == {
        (230, 180, 40, 255),
        (40, 70, 200, 255),
    }


def test_painting_keeps_the_colours(sprite: Pixels) -> None:
    """What was blue is blue in the painting."""
    picture = paint(sprite, 128, 128)

    assert np.abs(picture[64, 64].astype(int) - (40, 70, 200)).max() < 25


@pytest.mark.parametrize("backdrop", sorted(BACKDROPS))
def test_every_backdrop_is_lighter_in_the_middle(backdrop: str) -> None:
    """A backdrop leads the eye to the subject."""
    nothing = np.zeros((4, 4, 4), np.uint8)

    picture = paint(nothing, 96, 64, backdrop=backdrop).astype(int)

    assert picture[24:40, 40:56].mean() > picture[:4, :8].mean() + 20


def test_the_seed_decides_the_backdrop(sprite: Pixels) -> None:
    """The same seed gives the same painting, another seed another one."""
    first = paint(sprite, 64, 64, seed=1)

    assert np.array_equal(first, paint(sprite, 64, 64, seed=1))
    assert not np.array_equal(first, paint(sprite, 64, 64, seed=2))


def test_progress_rises_to_one(sprite: Pixels) -> None:
    """Progress never falls and ends at one."""
    fractions: list[float] = []

    paint(sprite, 64, 64, progress=fractions.append)

    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)


def test_an_unknown_backdrop_is_refused(sprite: Pixels) -> None:
    """The error lists what can be chosen."""
    with pytest.raises(ValueError, match=r"parchment.*none"):
        paint(sprite, 64, 64, backdrop="beach")
