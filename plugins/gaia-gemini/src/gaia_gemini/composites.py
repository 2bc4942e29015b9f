"""
Pictures that are partly old and partly new.

Gemini has no masks: it draws a picture as a whole and may change any of it. Here the
picture it is shown is brought into a shape it draws, and of its answer only the part
that was asked for is laid over the old picture, which stays as it was elsewhere.
"""

from typing import TYPE_CHECKING, TypeAlias

import attrs

from gaia_core import GenerateRequest, Image, ProviderRequestError, write_png
from gaia_core.requests import MAX_INPUT_PIXELS
from gaia_gemini.models import ImageModel
from gaia_gemini.sizes import Fit

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels."""

_ORIENTATION = 0x0112
"""The EXIF tag that says how a picture is to be turned before it is seen."""
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""What Pillow calls each of the turns."""
_FEATHER = 2
"""How softly the new part begins, in pixels; it begins within itself."""
_EMPTY = (127, 127, 127)


@attrs.frozen(kw_only=True)
class Task:
    """
    A picture to be worked over.

    Attributes:
        old: The picture in its final size; what is to be added is grey.
        mask: What is to be new within the picture: white. It is as large as ``old``.
        border: What is to be new around it: white.
        fit: The size that the model draws.
        canvas: The picture as the model is shown it, in the shape of ``fit``.
        canvas_mask: The mask as the model is shown it.
        box: Where the picture lies on the canvas.
    """

    old: "PillowImage"
    mask: "PillowImage"
    border: "PillowImage"
    fit: Fit
    canvas: Image
    canvas_mask: Image
    box: Box


def prepare(request: GenerateRequest, model: ImageModel, size: str | None) -> Task:
    """
    Bring a picture and its mask before a model.

    Args:
        request: An inpainting or an outpainting.
        model: The model that draws.
        size: The image size that the settings ask for, if any.

    Raises:
        InvalidImageError: If a picture is damaged.
        ProviderRequestError: If the result would be too large.
    """
    from PIL import ImageChops  # noqa: PLC0415  25 ms

    old, mask, border = _layers(request)
    taken = model.fit(old.width, old.height, size)
    canvas, box = _laid_out(old.size, taken.pixels)
    new = ImageChops.lighter(mask, border)
    return Task(
        old=old,
        mask=mask,
        border=border,
        fit=taken,
        canvas=_encoded(_shown(old.convert("RGB"), canvas, box, _EMPTY)),
        canvas_mask=_encoded(_shown(new, canvas, box, 0)),
        box=box,
    )


def finish(task: Task, answer: bytes) -> bytes:
    """
    Lay what a model drew over the old picture, within the mask only.

    Args:
        task: What was prepared.
        answer: The picture the model made of it.

    Returns:
        A PNG picture of the old one's size. Where the mask is black, every pixel is
        the old one.

    Raises:
        InvalidImageError: If the answer is damaged.
    """
    from PIL import Image as pillow  # noqa: N813, PLC0415  25 ms
    from PIL import ImageChops, ImageFilter  # noqa: PLC0415  as above

    new = Image.from_bytes(answer).decode().convert(task.old.mode)
    across, down = new.width / task.canvas.width, new.height / task.canvas.height
    left, top, right, bottom = task.box
    box = (left * across, top * down, right * across, bottom * down)
    new = new.resize(task.old.size, pillow.Resampling.LANCZOS, box)
    # Blurred with the border, so that nothing old is left between it and the mask.
    soft = ImageChops.lighter(task.mask, task.border)
    soft = soft.filter(ImageFilter.GaussianBlur(_FEATHER))
    # The darker of both: softness lies within the mask, and nothing outside changes.
    # A border begins at once, for there is nothing of the old picture in it.
    blend = ImageChops.lighter(ImageChops.darker(task.mask, soft), task.border)
    return write_png(pillow.composite(new, task.old, blend))


def _laid_out(
    size: tuple[int, int], drawn: tuple[int, int]
) -> tuple[tuple[int, int], Box]:
    """
    Lay a picture into the middle of a canvas of the shape that a model draws.

    The picture is made smaller where the canvas would be larger than what is drawn:
    the model could not show more of it, and a strip a few pixels high would take
    gigabytes.

    >>> _laid_out((600, 200), (1200, 800)), _laid_out((2400, 800), (1200, 800))
    (((600, 400), (0, 100, 600, 300)), ((1200, 800), (0, 200, 1200, 600)))

    Args:
        size: Width and height of the picture.
        drawn: Width and height of what the model draws.

    Returns:
        The size of the canvas, and where the picture lies on it.
    """
    scale = max(size[0] / drawn[0], size[1] / drawn[1])
    shrinking = max(1.0, scale)
    width, height = (max(1, round(side / shrinking)) for side in size)
    canvas = (
        max(width, round(drawn[0] * min(1.0, scale))),
        max(height, round(drawn[1] * min(1.0, scale))),
    )
    left, top = (canvas[0] - width) // 2, (canvas[1] - height) // 2
    return canvas, (left, top, left + width, top + height)


def _layers(
    request: GenerateRequest,
) -> "tuple[PillowImage, PillowImage, PillowImage]":
    """Give the old picture, what is new within it, and what is new around it."""
    from PIL import Image as pillow  # noqa: N813, PLC0415  25 ms

    if request.image is None:
        message = "There is no picture to work over."
        raise ProviderRequestError(message)
    picture = request.image.decode()
    turn = _turn(picture)
    old = _turned(_plain(picture), turn)
    mask = pillow.new("L", old.size, 0)
    if request.mask_image is not None:
        # It is as large as the picture was stored, so it is turned as that is.
        mask = _turned(_plain(request.mask_image.decode()).convert("L"), turn)
    border = pillow.new("L", old.size, 0)
    by = request.outpaint
    if by is None:
        return old, mask, border
    size = (old.width + by.left + by.right, old.height + by.top + by.bottom)
    if size[0] * size[1] > MAX_INPUT_PIXELS:
        message = (
            f"outpaint makes {size[0]}x{size[1]} of image; the limit is "
            f"{MAX_INPUT_PIXELS} pixels: extend it by less, or make it smaller."
        )
        raise ProviderRequestError(message)
    place = (by.left, by.top)
    grey = (*_EMPTY, 255)[: len(old.getbands())]
    return (
        _padded(old, size, place, grey),
        _padded(mask, size, place, 0),
        _padded(border, size, place, 255),
    )


def _turn(picture: "PillowImage") -> str | None:
    """Find out how a picture is to be turned before it is seen, if at all."""
    try:
        return _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001  Pillow does not say what broken data raises
        return None


def _turned(picture: "PillowImage", turn: str | None) -> "PillowImage":
    """Turn a picture the way up it is meant to be seen, and others likewise."""
    from PIL import Image as pillow  # noqa: N813, PLC0415  25 ms

    return picture if turn is None else picture.transpose(pillow.Transpose[turn])


def _plain(picture: "PillowImage") -> "PillowImage":
    """Make a picture one of 8-bit colour, with alpha where there is some."""
    if picture.mode.startswith("I"):
        # 16 bits of grey: Pillow would cut them off instead of scaling them.
        picture = picture.point(lambda value: value / 256).convert("L")
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    return picture.convert(mode)


def _shown(
    picture: "PillowImage",
    canvas: tuple[int, int],
    box: Box,
    colour: tuple[int, ...] | int,
) -> "PillowImage":
    """Lay a picture into its place on a canvas."""
    from PIL import Image as pillow  # noqa: N813, PLC0415  25 ms

    left, top, right, bottom = box
    size = (right - left, bottom - top)
    if picture.size != size:
        picture = picture.resize(size, pillow.Resampling.LANCZOS)
    return _padded(picture, canvas, (left, top), colour)


def _padded(
    picture: "PillowImage",
    size: tuple[int, int],
    place: tuple[int, int],
    colour: tuple[int, ...] | int,
) -> "PillowImage":
    from PIL import Image as pillow  # noqa: N813, PLC0415  25 ms

    canvas = pillow.new(picture.mode, size, colour)
    canvas.paste(picture, place)
    return canvas


def _encoded(picture: "PillowImage") -> Image:
    return Image.from_bytes(write_png(picture))
