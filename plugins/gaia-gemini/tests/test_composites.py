"""Pictures that are partly new: old where the mask is black, to the pixel."""

import io
from typing import TYPE_CHECKING, Any

import pytest

from gaia_core import (
    GenerateRequest,
    Image,
    InvalidImageError,
    Outpaint,
    ProviderRequestError,
)
from gaia_core.testing import jpeg, png, samples
from gaia_gemini import composites
from gaia_gemini.models import image_model

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

FLASH = image_model("gemini-3.1-flash-image")
RED = (255, 0, 0)


def _mask(width: int, height: int) -> Image:
    return Image.from_bytes(samples.mask(width, height))


def _request(image: bytes, **fields: Any) -> GenerateRequest:
    return GenerateRequest(prompt="a keep", image=image, **fields)


def _finished(request: GenerateRequest, colour: Any = RED) -> "PillowImage":
    """Prepare, let a model paint everything in one colour, and finish."""
    task = composites.prepare(request, FLASH, None)
    drawn = png(*task.fit.pixels, colour=colour)
    return Image.from_bytes(composites.finish(task, drawn)).decode()


def _colours(picture: "PillowImage") -> set[Any]:
    return {colour for _, colour in picture.getcolors() or ()}


@pytest.mark.parametrize(
    "size", [(256, 256), (300, 200), (64, 640), (1001, 333)], ids=str
)
def test_outside_the_mask_every_pixel_is_the_old_one(size: tuple[int, int]) -> None:
    """However the model changes the rest, nothing of that shows."""
    from PIL import ImageChops

    old = Image.from_bytes(samples.subject(*size))
    mask = _mask(*size)

    new = _finished(_request(old.data, mask_image=mask))

    changed = ImageChops.difference(new, old.decode()).convert("L")
    outside = mask.decode().convert("L").point(lambda value: 255 - value)
    assert new.size == size
    assert ImageChops.multiply(changed, outside).getbbox() is None


def test_within_the_mask_it_is_new() -> None:
    """The middle of the masked region is what the model drew."""
    old = png(256, 256, colour="white")

    new = _finished(_request(old, mask_image=_mask(256, 256)))

    assert new.getpixel((96, 96)) == RED


def test_the_edge_is_soft_within_the_mask() -> None:
    """New and old mix for a few pixels, so that no hard edge shows."""
    new = _finished(_request(png(256, 256, colour="white"), mask_image=_mask(256, 256)))

    greens = [new.getpixel((x, 96))[1] for x in range(60, 76)]  # type: ignore[index]

    assert greens[:4] == [255] * 4
    assert sorted(greens, reverse=True) == greens
    assert any(0 < green < 255 for green in greens)
    assert greens[-1] == 0


def test_outpainting_adds_and_keeps() -> None:
    """The old picture stays as it is; around it all is new, and none of it is grey."""
    old = png(100, 60, colour="blue")
    margins = Outpaint(left=30, right=20, top=10, bottom=40)

    new = _finished(_request(old, outpaint=margins))

    assert new.size == (150, 110)
    inside = new.crop((30, 10, 130, 70))
    assert _colours(inside) == {(0, 0, 255)}
    assert new.getpixel((29, 40)) == new.getpixel((130, 40)) == RED
    assert new.getpixel((75, 9)) == new.getpixel((75, 70)) == RED
    assert _colours(new) == {(0, 0, 255), RED}


def test_the_model_sees_a_shape_it_draws() -> None:
    """Picture and mask are brought into the nearest shape, one upon the other."""
    old = Image.from_bytes(samples.subject(300, 200))

    task = composites.prepare(
        _request(old.data, mask_image=_mask(300, 200)), FLASH, None
    )

    width, height = task.fit.pixels
    canvas = task.canvas
    assert abs(canvas.width / canvas.height - width / height) < 0.01
    assert (canvas.width, canvas.height) == (
        task.canvas_mask.width,
        task.canvas_mask.height,
    )
    left, top, right, bottom = task.box
    shown = canvas.decode().crop((left, top, right, bottom))
    assert shown.tobytes() == old.decode().tobytes()


def test_the_canvas_is_never_larger_than_what_is_drawn() -> None:
    """A large picture is shown as finely as the model draws, and stays as it was."""
    old = png(2_400, 1_200, colour="white")
    request = _request(old, mask_image=_mask(2_400, 1_200))

    task = composites.prepare(request, FLASH, "512")
    new = Image.from_bytes(composites.finish(task, png(*task.fit.pixels, colour=RED)))

    assert (task.canvas.width, task.canvas.height) == task.fit.pixels
    assert (new.width, new.height) == (2_400, 1_200)
    assert new.decode().getpixel((900, 450)) == RED
    assert new.decode().getpixel((2_300, 1_100)) == (255, 255, 255)


def test_a_strip_takes_no_gigabytes() -> None:
    """Four pixels by a million come into a shape the model draws, and back."""
    old = png(1_000_000, 4, colour="white")
    mask = Image.from_bytes(png(1_000_000, 4, mode="L", colour="white"))

    task = composites.prepare(_request(old, mask_image=mask), FLASH, None)

    assert task.canvas.width * task.canvas.height <= 4096 * 4096


def test_an_extension_beyond_all_bounds_is_refused() -> None:
    """What would be too large is told before anything is sent."""
    request = _request(png(4_000, 4_000), outpaint=Outpaint(left=8_000, right=8_000))

    with pytest.raises(ProviderRequestError, match="20000x4000"):
        composites.prepare(request, FLASH, None)


def test_transparency_is_kept() -> None:
    """What was transparent outside the mask still is."""
    old = png(128, 128, mode="RGBA", colour=(0, 255, 0, 40))

    new = _finished(_request(old, mask_image=_mask(128, 128)))

    assert new.mode == "RGBA"
    assert new.getpixel((2, 2)) == (0, 255, 0, 40)
    assert new.getpixel((48, 48)) == (*RED, 255)


@pytest.mark.parametrize("kind", samples.ODD_PICTURES)
def test_odd_pictures_are_worked_over(kind: str) -> None:
    """Grey, 16 bits, palettes, CMYK, a line of four pixels: all come out in colour."""
    old = Image.from_bytes(samples.ODD_PICTURES[kind]())
    mask = Image.from_bytes(png(old.width, old.height, mode="L", colour="white"))

    new = _finished(_request(old.data, mask_image=mask))

    assert new.size == (old.width, old.height)
    assert new.getpixel((old.width // 2, old.height // 2))[:3] == RED  # type: ignore[index]


def test_grey_of_16_bits_is_scaled() -> None:
    """A middle grey stays one, and does not become white."""
    old = png(64, 64, mode="I;16", colour=(32_768,))
    black = Image.from_bytes(png(64, 64, mode="L", colour="black"))

    new = _finished(_request(old, mask_image=black))

    assert new.getpixel((32, 32)) == (128, 128, 128)


def test_a_mask_of_16_bits_is_scaled() -> None:
    """What is nearly black in a mask of 16 bits is kept, not painted over."""
    mask = Image.from_bytes(png(64, 64, mode="I;16", colour=(255,)))

    new = _finished(_request(png(64, 64, colour="white"), mask_image=mask))

    assert _colours(new) == {(255, 255, 255)}


def test_nothing_old_is_left_between_a_mask_and_a_border() -> None:
    """Where both meet, new runs into new."""
    mask = Image.from_bytes(png(64, 64, mode="L", colour="white"))
    request = _request(
        png(64, 64, colour="white"), mask_image=mask, outpaint=Outpaint(right=32)
    )

    new = _finished(request)

    assert _colours(new.crop((40, 0, 96, 64))) == {RED}


def _lying(turn: int, kind: str = "PNG") -> bytes:
    """Store a picture, red above and green below, so that it must be turned."""
    from PIL import Image as pillow  # noqa: N813  as everywhere
    from PIL import ImageOps

    seen = pillow.new("RGB", (80, 40), "green")
    seen.paste("red", (0, 0, 80, 20))
    exif = pillow.Exif()
    exif[0x0112] = turn
    # The turn that undoes the turn: only quarters differ from their own undoing.
    back = pillow.Exif()
    back[0x0112] = {6: 8, 8: 6}.get(turn, turn)
    file = io.BytesIO()
    seen.save(file, "PNG", exif=back)
    stored = ImageOps.exif_transpose(pillow.open(file))
    file = io.BytesIO()
    stored.save(file, kind, exif=exif, lossless=True)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_that_lies_on_its_side_is_stood_up(turn: int, kind: str) -> None:
    """Result and mask come the way up the picture is meant to be seen."""
    old = Image.from_bytes(_lying(turn, kind))
    request = _request(old.data, mask_image=old)

    task = composites.prepare(request, FLASH, None)
    new = _finished(request, colour="blue")

    assert new.size == task.old.size == (80, 40)
    assert task.canvas.decode().crop(task.box).getpixel((40, 4)) == RED
    # As grey, red is lighter than this green: more of blue is laid over it.
    above, below = new.getpixel((40, 4)), new.getpixel((40, 36))
    assert (above[2], below[2]) == (76, 75)  # type: ignore[index]


def test_broken_notes_in_a_picture_turn_nothing() -> None:
    """A picture with damaged EXIF data is taken as it lies."""
    from PIL import Image as pillow  # noqa: N813  as everywhere

    file = io.BytesIO()
    pillow.new("RGB", (64, 32)).save(file, "PNG", exif=b"Exif\0\0garbage")
    request = _request(file.getvalue(), outpaint=Outpaint(left=8))

    assert _finished(request).size == (72, 32)


def test_an_answer_of_another_size_is_fitted() -> None:
    """Whatever size the model answers with, the result has the old one's."""
    request = _request(jpeg(200, 100), mask_image=_mask(200, 100))
    task = composites.prepare(request, FLASH, None)

    new = composites.finish(task, png(77, 33))

    assert Image.from_bytes(new).decode().size == (200, 100)


def test_a_damaged_answer_is_told() -> None:
    """A picture that ends too early is not laid over anything."""
    task = composites.prepare(
        _request(png(64, 64), mask_image=_mask(64, 64)), FLASH, None
    )

    with pytest.raises(InvalidImageError):
        composites.finish(task, samples.subject(256, 256)[:400])
