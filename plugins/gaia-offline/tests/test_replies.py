"""Whatever a picture file holds becomes eight bits a channel, the right way up."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow  # noqa: N813  a module
from PIL import ImageOps

from gaia_core import Image
from gaia_offline.replies import pixels_of

GREY = pillow.linear_gradient("L").resize((40, 24))


def _encoded(picture: pillow.Image, kind: str = "PNG", **options: Any) -> Image:
    """Write a picture into a file and read the file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return Image.from_bytes(file.getvalue())


@pytest.mark.parametrize(
    ("picture", "channels"),
    [
        (_encoded(GREY), 3),
        (_encoded(pillow.fromarray(np.asarray(GREY).astype(np.uint16) * 257)), 3),
        (_encoded(GREY.convert("P")), 3),
        (_encoded(GREY.convert("P"), transparency=0), 4),
        (_encoded(pillow.merge("LA", (GREY, GREY))), 4),
        (_encoded(GREY.convert("CMYK"), "JPEG", quality=100), 3),
    ],
    ids=["grey", "16 bits", "palette", "clear palette", "grey and alpha", "CMYK"],
)
def test_every_kind_of_file_keeps_its_greys(picture: Image, channels: int) -> None:
    """The greys of a file are the greys of the array."""
    pixels = pixels_of(picture)

    assert pixels.shape == (24, 40, channels)
    assert np.abs(pixels[..., 0].astype(int) - np.asarray(GREY)).max() <= 2


def test_a_turned_photograph_is_set_upright() -> None:
    """The result carries no note about its orientation, so its pixels are turned."""
    exif = pillow.Exif()
    exif[0x0112] = 6  # turn right by a quarter to see it upright

    pixels = pixels_of(_encoded(GREY.convert("RGB"), "JPEG", exif=exif))

    assert pixels.shape == (40, 24, 3)
    assert pixels[20, 0, 0] > pixels[20, -1, 0] + 200


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_turn_is_undone(turn: int) -> None:
    """Mirrored or lying: it comes out as any viewer shows it."""
    exif = pillow.Exif()
    exif[0x0112] = turn
    corner = pillow.new("RGB", (3, 2))
    corner.putpixel((0, 0), (255, 255, 255))
    turned = _encoded(corner, exif=exif)

    pixels = pixels_of(turned)

    assert np.array_equal(pixels, np.asarray(ImageOps.exif_transpose(turned.decode())))


def test_a_damaged_note_about_its_orientation_turns_nothing() -> None:
    """What cannot be read says nothing, and the picture itself is sound."""
    pixels = pixels_of(_encoded(GREY, exif=b"Exif\0\0garbage"))

    assert pixels.shape == (24, 40, 3)
