"""Upscaling enlarges without seams, halos or surprises."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import attrs
import numpy as np
import pytest
from PIL import Image

from gaia_offline import sessions, upscaling
from gaia_offline.arrays import Pixels
from gaia_offline.upscaling import Tiling, Upscaler, upscale


def _ignore(fraction: float) -> None:
    """Report progress to nobody."""


@pytest.fixture(name="painting")
def _painting() -> Pixels:
    """Soft colours with a few hard shapes: 72 by 88, RGB."""
    noise = np.random.default_rng(7).integers(60, 200, (6, 7, 3), np.uint8)
    soft = Image.fromarray(noise).resize((88, 72), Image.Resampling.BICUBIC)
    picture = np.array(soft)
    picture[20:50, 30:34] = (20, 20, 30)
    picture[40:44, 10:80] = (250, 240, 180)
    return picture


@pytest.fixture(name="coin")
def _coin() -> Pixels:
    """A red disc whose transparent surroundings are black: 24 by 24, RGBA."""
    rows, columns = np.mgrid[:24, :24]
    is_inside = (rows - 11.5) ** 2 + (columns - 11.5) ** 2 < 64
    picture = np.zeros((24, 24, 4), np.uint8)
    picture[is_inside] = (220, 40, 30, 255)
    return picture


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("channels", [3, 4])
def test_enlarges_by_the_factor(factor: int, channels: int) -> None:
    """The result has the factor's size and the picture's channels."""
    picture = np.full((5, 9, channels), 90, np.uint8)

    large = upscale(picture, factor, model="fast")

    assert large.shape == (5 * factor, 9 * factor, channels)


@pytest.mark.parametrize("model", ["anime", "fast"])
@pytest.mark.parametrize("factor", [2, 4])
def test_keeps_the_picture(painting: Pixels, model: str, factor: int) -> None:
    """Reduced to the old size again, the result is the old picture, nearly."""
    large = upscale(painting, factor, model=model)

    again = np.asarray(Image.fromarray(large).reduce(factor))
    difference = np.abs(again.astype(int) - painting)
    assert difference.mean() < 3


@pytest.mark.parametrize(
    ("upscaler", "tiling", "largest"),
    [
        (upscaling.FAST, Tiling(window=56, margin=18, fade=4), 1),
        (upscaling.ANIME, Tiling(window=80, margin=24, fade=24), 5),
    ],
    ids=["fast", "anime"],
)
def test_windows_leave_no_seam(
    painting: Pixels, upscaler: Upscaler, tiling: Tiling, largest: int
) -> None:
    """A picture drawn in windows equals the same picture drawn at once."""
    whole = upscaling._enlarge(painting, 4, upscaler, _ignore)
    cut = attrs.evolve(upscaler, tiling=tiling)

    tiled = upscaling._enlarge(painting, 4, cut, _ignore)

    difference = np.abs(tiled.astype(int) - whole)
    assert len(upscaling._spans(88, tiling)) > 1
    assert difference.max() <= largest
    assert difference.mean() < 0.1


@pytest.mark.parametrize("length", [1, 383, 384, 385, 500, 1024, 1333])
def test_spans_cover_a_side(length: int) -> None:
    """Windows start at the first pixel, end at the last and overlap as asked."""
    tiling = Tiling(window=384, margin=24, fade=24)

    spans = upscaling._spans(length, tiling)

    assert (spans[0].first, spans[-1].last) == (0, length)
    assert all(span.stop - span.start <= tiling.window for span in spans)
    assert all(
        left.last - right.first == right.fade >= tiling.fade
        for left, right in pairwise(spans)
    )


def test_alpha_gets_no_dark_halo(coin: Pixels) -> None:
    """Half-transparent pixels at the edge carry the subject's colour."""
    large = upscale(coin, 4)

    alpha = large[..., 3]
    edge = large[(alpha > 20) & (alpha < 235)]
    assert len(edge)
    assert edge[:, 0].min() > 150


def test_alpha_keeps_clear_and_opaque_parts(coin: Pixels) -> None:
    """What was wholly clear or opaque stays so, away from the outline."""
    alpha = upscale(coin, 4)[..., 3]

    assert alpha[:8].max() == 0
    assert alpha[40:56, 40:56].min() == 255


def test_progress_rises_to_one(coin: Pixels) -> None:
    """Progress never falls and ends at one."""
    fractions: list[float] = []

    upscale(coin, 8, model="fast", progress=fractions.append)

    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)


def test_progress_can_stop_the_work(coin: Pixels) -> None:
    """What progress raises ends the work between two windows."""
    fractions: list[float] = []

    def stop(fraction: float) -> None:
        fractions.append(fraction)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        upscale(coin, 4, progress=stop)

    assert len(fractions) == 1


@pytest.mark.parametrize(
    ("shape", "factor", "model", "words"),
    [
        ((4, 4), 4, "fast", "height, width"),
        ((4, 4, 2), 4, "fast", "channels"),
        ((0, 4, 3), 4, "fast", "height, width"),
        ((4, 4, 3), 3, "fast", "2, 4 or 8"),
        ((4, 4, 3), 4, "slow", "anime, fast or photo"),
        ((4, 4, 3), 4, "photo", "make_weights.py --photo"),
    ],
)
def test_refuses_what_it_cannot_do(
    shape: tuple[int, ...], factor: int, model: str, words: str
) -> None:
    """A wrong picture, factor or model is refused in words that help."""
    picture = np.zeros(shape, np.uint8)

    with pytest.raises(ValueError, match=words):
        upscale(picture, factor, model=model)


def test_names_a_missing_photo_model(tmp_path: Path) -> None:
    """A path that holds no model is named."""
    picture = np.zeros((4, 4, 3), np.uint8)

    with pytest.raises(FileNotFoundError, match=r"absent\.onnx"):
        upscale(picture, model="photo", photo_model=tmp_path / "absent.onnx")


def test_threads_share_one_network(tmp_path: Path) -> None:
    """However many threads ask at once, weights are loaded once."""
    weights = tmp_path / "fresh.onnx"
    weights.write_bytes(upscaling.FAST.body.read_bytes())

    with ThreadPoolExecutor(4) as pool:
        networks = tuple(pool.map(sessions.network, [weights] * 8))

    assert len(set(networks)) == 1
