"""
Masks of other programs, as Gaia has them: white = repaint, black = keep.

All of it decodes and encodes pixels: call it in a thread.
"""

from typing import TYPE_CHECKING

from gaia_core.errors import InvalidImageError
from gaia_core.images import Image
from gaia_core.png import write_png

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_MIDDLE = 127


def from_transparency(mask: Image) -> Image:
    """
    Take a mask of OpenAI's, in which what is transparent is repainted.

    Raises:
        InvalidImageError: If nothing in it is transparent.
    """
    from PIL import ImageOps  # noqa: PLC0415 - 25 ms

    alpha = _alpha(mask.decode())
    if alpha is None:
        message = (
            "has no transparent pixel: make transparent what is to be repainted, "
            "and send it as PNG"
        )
        raise InvalidImageError(message)
    return _encoded(ImageOps.invert(alpha))


def from_brightness(
    mask: Image, size: tuple[int, int], *, is_inverted: bool = False
) -> Image:
    """
    Take a mask of AUTOMATIC1111's, in which what is light is repainted.

    As there, a mask that is transparent somewhere says it by what is opaque, and
    a mask of another size is stretched over the picture.

    Args:
        mask: The mask.
        size: Width and height of the picture.
        is_inverted: Whether the dark is repainted instead.
    """
    picture = mask.decode()
    light = _alpha(picture) or picture.convert("L")
    if light.size != size:
        light = light.resize(size)
    low, high = (255, 0) if is_inverted else (0, 255)
    return _encoded(light.point(lambda value: high if value > _MIDDLE else low))


def of_subject(cut_out: Image) -> Image:
    """Make the mask of a subject that was cut out: white where it is."""
    alpha = _alpha(cut_out.decode())
    if alpha is None:
        from PIL import Image as pillow  # noqa: N813, PLC0415 - 25 ms

        alpha = pillow.new("L", (cut_out.width, cut_out.height), 255)
    return _encoded(alpha)


def _alpha(picture: "PillowImage") -> "PillowImage | None":
    """Give how opaque every pixel is; None where all of them wholly are."""
    if not picture.has_transparency_data:
        return None
    alpha = picture.convert("RGBA").getchannel("A")
    low, _ = alpha.getextrema()
    return None if low == 255 else alpha  # noqa: PLR2004  wholly opaque


def _encoded(picture: "PillowImage") -> Image:
    return Image.from_bytes(write_png(picture))
