"""Background removal finds the subject, at full size and without halo."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from gaia_offline.arrays import Pixels
from gaia_offline.background import matte, remove_background

Mask = np.ndarray[tuple[int, int], np.dtype[np.bool_]]


def _subject(width: int, height: int) -> Image.Image:
    """White on black: a flask in the middle of the picture."""
    mask = Image.new("L", (width, height))
    draw = ImageDraw.Draw(mask)
    left, top, right, bottom = (0.3 * width, 0.35 * height, 0.7 * width, 0.85 * height)
    draw.ellipse((left, top, right, bottom), fill=255)
    draw.rectangle((0.45 * width, 0.15 * height, 0.55 * width, 0.5 * height), fill=255)
    return mask.filter(ImageFilter.GaussianBlur(1))


def _flask(width: int, height: int) -> tuple[Pixels, Mask]:
    """A red flask before a pale blue sky, and where the flask is."""
    mask = _subject(width, height)
    sky = (
        Image.linear_gradient("L").resize((width, height)).point(lambda v: 170 + v / 4)
    )
    picture = Image.merge("RGB", (sky, sky, Image.new("L", (width, height), 250)))
    picture.paste((190, 40, 30), mask=mask)
    return np.asarray(picture), np.asarray(mask) > 127


@pytest.mark.parametrize(
    ("width", "height"),
    [(320, 320), (640, 400), (301, 517), (1100, 900)],
    ids=["as the network", "wide", "tall", "large"],
)
def test_finds_the_subject(width: int, height: int) -> None:
    """The matte covers the subject, and little else, at the picture's own size."""
    picture, is_subject = _flask(width, height)

    found = matte(picture) > 127

    overlap = (found & is_subject).sum() / (found | is_subject).sum()
    assert overlap > 0.96


def test_follows_the_edges_of_the_picture() -> None:
    """The refined edge is as sharp as the picture, not as the small network."""
    picture, is_subject = _flask(1280, 1280)

    alpha = matte(picture)

    row = alpha[760].astype(int)
    soft = (row > 25) & (row < 230)
    assert soft.sum() <= 2 * 10
    assert np.abs(np.flatnonzero(row > 127)[0] - np.flatnonzero(is_subject[760])[0]) < 4


def test_takes_the_background_out_of_edges() -> None:
    """Half-transparent pixels show the subject's colour, not the sky's."""
    picture, _ = _flask(640, 640)

    result = remove_background(picture)

    alpha = result[..., 3]
    edge = result[(alpha > 40) & (alpha < 200)]
    assert len(edge)
    assert np.median(edge[:, 2]) < 100


def test_respects_existing_transparency() -> None:
    """What was transparent stays transparent, whatever the network thinks."""
    picture, is_subject = _flask(320, 320)
    alpha = np.where(np.arange(320) < 160, 255, 0).astype(np.uint8)
    cut = np.dstack((picture, np.broadcast_to(alpha, (320, 320))))

    result = remove_background(cut)

    assert result[:, 160:, 3].max() == 0
    assert result[:, :160, 3][is_subject[:, :160]].mean() > 200


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (1, 40), (64, 3)], ids=["dot", "column", "strip"]
)
def test_accepts_any_size(width: int, height: int) -> None:
    """Even a single pixel is a picture."""
    picture = np.full((height, width, 3), 120, np.uint8)

    result = remove_background(picture)

    assert result.shape == (height, width, 4)


def test_refuses_what_is_no_picture() -> None:
    """A grey plane is refused in words that say what is wanted."""
    with pytest.raises(ValueError, match="height, width"):
        remove_background(np.zeros((8, 8), np.uint8))
