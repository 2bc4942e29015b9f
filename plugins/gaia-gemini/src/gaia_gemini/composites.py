"""
Pictures that are partly old and partly new.

Gemini has no masks: it draws a picture as a whole and may change any of it. Here the
picture it is shown is brought into a shape it draws, and of its answer only the part
that was asked for is laid over the old picture, which stays as it was elsewhere.
"""

from typing import TYPE_CHECKING

import attrs

from gaia_core import GenerateRequest, Image, ProviderRequestError, write_png
from gaia_gemini.models import ImageModel
from gaia_gemini.sizes import Fit

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_FEATHER = 2
"""How softly the new part begins, in pixels; it begins within itself."""
_EMPTY = (127, 127, 127)


@attrs.frozen(kw_only=True)
class Task:
    """
    A picture to be worked over.

    Attributes:
        old: The picture in its final size; what is to be added is grey.
        mask: What is to be new within the picture: white.
        border: What is to be new around it: white.
        fit: The size that the model draws.
        canvas: The picture as the model is shown it, in the shape of ``fit``.
        canvas_mask: The mask as the model is shown it.
        box: Where the picture lies on the canvas: left, top, right and bottom.
    """

    old: "PillowImage"
    mask: "PillowImage"
    border: "PillowImage"
    fit: Fit
    canvas: Image
    canvas_mask: Image
    box: tuple[int, int, int, int]


def prepare(request: GenerateRequest, model: ImageModel, size: str | None) -> Task:
    """
    Bring a picture and its mask before a model.

    Args:
        request: An inpainting or an outpainting.
        model: The model that draws.
        size: The image size that the settings ask for, if any.

    Raises:
        InvalidImageError: If a picture is damaged.
    """
    from PIL import ImageChops  # noqa: PLC0415  25 ms

    old, mask, border = _layers(request)
    taken = model.fit(old.width, old.height, size)
    width, height = taken.pixels
    # As large as the picture in one direction, and with room in the other.
    scale = max(old.width / width, old.height / height)
    canvas = (
        max(old.width, round(width * scale)),
        max(old.height, round(height * scale)),
    )
    left, top = (canvas[0] - old.width) // 2, (canvas[1] - old.height) // 2
    return Task(
        old=old,
        mask=mask,
        border=border,
        fit=taken,
        canvas=_encoded(_padded(old.convert("RGB"), canvas, (left, top), _EMPTY)),
        canvas_mask=_encoded(
            _padded(ImageChops.lighter(mask, border), canvas, (left, top), 0)
        ),
        box=(left, top, left + old.width, top + old.height),
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
    size = (task.canvas.width, task.canvas.height)
    new = new.resize(size, pillow.Resampling.LANCZOS).crop(task.box)
    soft = task.mask.filter(ImageFilter.GaussianBlur(_FEATHER))
    # The darker of both: softness lies within the mask, and nothing outside changes.
    # A border begins at once, for there is nothing of the old picture in it.
    blend = ImageChops.lighter(ImageChops.darker(task.mask, soft), task.border)
    return write_png(pillow.composite(new, task.old, blend))


def _layers(
    request: GenerateRequest,
) -> "tuple[PillowImage, PillowImage, PillowImage]":
    """Give the old picture, what is new within it, and what is new around it."""
    from PIL import Image as pillow  # noqa: N813, PLC0415  25 ms

    if request.image is None:
        message = "There is no picture to work over."
        raise ProviderRequestError(message)
    old = _plain(request.image)
    mask = pillow.new("L", old.size, 0)
    if request.mask_image is not None:
        mask = request.mask_image.decode().convert("L")
    border = pillow.new("L", old.size, 0)
    by = request.outpaint
    if by is None:
        return old, mask, border
    size = (old.width + by.left + by.right, old.height + by.top + by.bottom)
    place = (by.left, by.top)
    grey = (*_EMPTY, 255)[: len(old.getbands())]
    return (
        _padded(old, size, place, grey),
        _padded(mask, size, place, 0),
        _padded(border, size, place, 255),
    )


def _plain(image: Image) -> "PillowImage":
    """Decode a picture into 8-bit colour, with alpha where there is some."""
    picture = image.decode()
    if picture.mode.startswith("I"):
        # 16 bits of grey: Pillow would cut them off instead of scaling them.
        picture = picture.point(lambda value: value / 256).convert("L")
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    return picture.convert(mode)


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
