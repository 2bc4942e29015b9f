"""The helpers that every numeric room needs."""

import tracemalloc

import numpy as np
import pytest

from gaia_offline.arrays import bleed


def _dot(
    height: int, width: int
) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """A green dot in the first corner of a black, clear picture."""
    picture = np.zeros((height, width, 4), np.uint8)
    picture[0, 0] = (0, 200, 0, 255)
    return picture


@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 1), (5, 3), (300, 7), (515, 2)],
    ids=lambda side: f"{side}",
)
def test_colours_spread_over_all_that_is_clear(height: int, width: int) -> None:
    """However odd the size, one visible pixel colours the whole picture."""
    spread = bleed(_dot(height, width))

    assert spread.shape == (height, width, 3)
    assert np.abs(spread.astype(int) - (0, 200, 0)).max() <= 1


def test_an_empty_picture_stays_black() -> None:
    """Where nothing is visible there is no colour to spread."""
    assert not bleed(np.zeros((9, 4, 4), np.uint8)).any()


def test_spreading_needs_little_memory() -> None:
    """A large picture is not turned into numbers of four bytes as a whole."""
    picture = _dot(2048, 2048)

    tracemalloc.start()
    bleed(picture)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 5 * picture.nbytes
