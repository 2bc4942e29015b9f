"""Pictures in: canvases, masks, margins."""

import numpy as np
import pytest
from PIL import Image

from .residents import encoded, mask, png

pytest.importorskip("numpy")

from gaia_flux import inputs
from gaia_flux.inputs import Canvas, PictureError


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((64, 64), (64, 64)), ((65, 64), (80, 64)), ((1, 31), (16, 32))],
    ids=["even", "wider", "tiny"],
)
def test_a_canvas_is_the_next_multiple(
    size: tuple[int, int], drawn: tuple[int, int]
) -> None:
    """Padding a picture and cropping the canvas gives the picture back."""
    canvas = Canvas(width=size[0], height=size[1], multiple=16)
    picture = inputs.decoded(png(*size))

    padded = canvas.padded(picture)

    assert padded.size == drawn
    assert canvas.cropped(padded).tobytes() == picture.tobytes()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "CMYK"])
def test_every_kind_of_picture_becomes_rgb(mode: str) -> None:
    """Whatever a file holds, a model sees three bands of 8 bits."""
    picture = Image.new("RGB", (8, 8), "red").convert(mode)
    content = encoded(picture) if mode != "CMYK" else _tiff(picture)

    assert inputs.decoded(content).mode == "RGB"


@pytest.mark.parametrize(
    ("level", "grey"), [(0, 0), (300, 1), (0x8080, 128), (0xFFFF, 255)], ids=str
)
def test_greys_of_16_bits_are_scaled(level: int, grey: int) -> None:
    """A mask or a photograph of 16 bits is not white where it is hardly grey."""
    content = encoded(Image.fromarray(np.full((8, 8), level, np.uint16)))

    assert inputs.decoded_mask(content).getpixel((0, 0)) == grey
    assert inputs.decoded(content).getpixel((0, 0)) == (grey, grey, grey)


def test_greys_of_32_bits_are_refused() -> None:
    """Nobody knows where their white is."""
    content = _tiff(Image.new("F", (8, 8), 0.5))

    with pytest.raises(PictureError, match="32 bits a channel"):
        inputs.decoded(content)


def _tiff(picture: Image.Image) -> bytes:
    from io import BytesIO

    file = BytesIO()
    picture.save(file, "TIFF")
    return file.getvalue()


def test_a_rotated_photograph_is_set_upright() -> None:
    """The orientation that a camera noted is heeded."""
    from io import BytesIO

    picture = Image.new("RGB", (8, 4))
    exif = picture.getexif()
    exif[0x0112] = 6
    file = BytesIO()
    picture.save(file, "JPEG", exif=exif)

    assert inputs.decoded(file.getvalue()).size == (4, 8)


def test_what_is_transparent_in_a_mask_stays() -> None:
    """A transparent mask repaints nothing, whatever colour lies under it."""
    clear = Image.new("RGBA", (4, 4), (255, 255, 255, 0))

    assert inputs.decoded_mask(encoded(clear)).getextrema() == (0, 0)


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", png()[:60]], ids=["empty", "a stub", "cut"]
)
def test_what_cannot_be_read_is_refused(content: bytes) -> None:
    """A damaged file is an error that names what it was for."""
    with pytest.raises(PictureError, match="the mask cannot be read"):
        inputs.decoded_mask(content)


def test_a_picture_of_another_shape_covers_the_result() -> None:
    """A wide picture loses its sides evenly, and is not squeezed."""
    picture = Image.new("RGB", (100, 20))
    picture.paste("red", (40, 0, 60, 20))

    fitted = inputs.fitted(picture, 20, 20)

    assert fitted.getpixel((10, 10)) == (255, 0, 0)
    assert fitted.size == (20, 20)


def test_margins_mirror_the_picture() -> None:
    """The canvas holds the original in its place, and its mirror around it."""
    original = np.asarray(inputs.decoded(png(16, 16)))

    wider = inputs.extended(png(16, 16), (4, 20, 0, 2), 40, 18)

    pixels = np.asarray(wider.picture)
    assert np.array_equal(pixels[:16, 4:20], original)
    assert np.array_equal(pixels[:16, :4], original[:, 3::-1])
    assert wider.picture.size == (40, 18)


def test_the_mask_of_margins_is_soft_inside_and_exact_for_putting_back() -> None:
    """The model repaints a border of the original, of which nothing is kept."""
    wider = inputs.extended(png(32, 32), (16, 0, 0, 0), 48, 32)

    painted, kept = np.asarray(wider.painted)[5], np.asarray(wider.kept)[5]
    assert set(painted[:16]) == set(kept[:16]) == {255}
    assert list(painted[16:24]) == sorted(painted[16:24], reverse=True)
    assert 0 < painted[16] < 255
    assert set(painted[25:]) == set(kept[16:]) == {0}


@pytest.mark.parametrize(
    "margins", [(40, 24, 0, 0), (-1, 0, 0, 0)], ids=["all", "less"]
)
def test_margins_leave_room_for_the_picture(margins: tuple[int, int, int, int]) -> None:
    """Margins that fill the result, or are less than nothing, are refused."""
    with pytest.raises(PictureError, match="leave no room"):
        inputs.extended(png(), margins, 64, 64)


def test_grey_blends_what_was_drawn_with_the_original() -> None:
    """White takes what was drawn, black the original, grey something between."""
    drawn, original = Image.new("RGB", (3, 1), "white"), Image.new("RGB", (3, 1))
    shades = Image.frombytes("L", (3, 1), bytes((0, 128, 255)))

    pixels = np.asarray(inputs.repainted(drawn, original, shades))[0, :, 0]

    assert list(pixels) == [0, 128, 255]


def test_a_mask_is_read_as_grey() -> None:
    """A mask has one band."""
    assert inputs.decoded_mask(mask()).mode == "L"
