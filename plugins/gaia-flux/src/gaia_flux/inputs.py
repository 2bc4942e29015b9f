"""
Pictures in: decoded, made to fit the result, masked, extended; and put back after.

A result of any size is drawn on a canvas of the next multiple its model draws, and is
cut out of the middle. What the caller gave goes through the same canvas: a pixel
of the result is the pixel of the input at the same place.
"""

from io import BytesIO
from typing import Any, Final

import attrs
import numpy as np
from PIL import Image, ImageOps

from gaia_flux.jobs import Picture

_FEATHER: Final = 8
_BACKGROUND: Final = (255, 255, 255)


class PictureError(ValueError):
    """An input picture that cannot be read or does not fit."""


@attrs.frozen(kw_only=True)
class Canvas:
    """The size of a result, and the size that is drawn for it."""

    width: int
    height: int
    multiple: int

    @property
    def drawn_width(self) -> int:
        """The next multiple."""
        return _next(self.width, self.multiple)

    @property
    def drawn_height(self) -> int:
        """The next multiple."""
        return _next(self.height, self.multiple)

    def padded(self, picture: Image.Image) -> Image.Image:
        """Put a picture of the result's size in the middle, its edges drawn out."""
        left, top = self._corner()
        if self._is_exact():
            return picture
        right = self.drawn_width - self.width - left
        bottom = self.drawn_height - self.height - top
        return _extended(picture, (left, right, top, bottom), mode="edge")

    def cropped(self, picture: Image.Image) -> Image.Image:
        """Cut the result out of what was drawn."""
        if self._is_exact():
            return picture
        left, top = self._corner()
        return picture.crop((left, top, left + self.width, top + self.height))

    def _corner(self) -> tuple[int, int]:
        return (
            (self.drawn_width - self.width) // 2,
            (self.drawn_height - self.height) // 2,
        )

    def _is_exact(self) -> bool:
        return self.width == self.drawn_width and self.height == self.drawn_height


def _next(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def decoded(content: bytes, what: str = "the image") -> Image.Image:
    """
    Read an encoded picture as RGB, upright, what is transparent being white.

    Raises:
        PictureError: It cannot be read.

    """
    picture = _opened(content, what)
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    return _flattened(picture, _BACKGROUND)


def decoded_mask(content: bytes) -> Image.Image:
    """
    Read a mask as grey: white is repainted, black and what is transparent stay.

    Raises:
        PictureError: It cannot be read.

    """
    picture = _opened(content, "the mask")
    if not picture.has_transparency_data:
        return picture.convert("L")
    return _flattened(picture, (0, 0, 0)).convert("L")


def _opened(content: bytes, what: str) -> Image.Image:
    try:
        with Image.open(BytesIO(content)) as opened:
            opened.load()
            return ImageOps.exif_transpose(_in_8_bits(opened, what))
    except PictureError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        message = f"{what} cannot be read: {error}; give a PNG, JPEG or WebP file"
        raise PictureError(message) from error


def _in_8_bits(picture: Image.Image, what: str) -> Image.Image:
    """Scale what Pillow would cut off: all greys of 16 bits above 255."""
    if picture.mode.startswith("I;16"):
        levels = np.rint(np.asarray(picture) / 257).astype(np.uint8)
        return Image.fromarray(levels)
    if picture.mode in {"I", "F"}:
        message = f"{what} has 32 bits a channel: give it 8 or 16"
        raise PictureError(message)
    return picture


def _flattened(picture: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    layers = picture.convert("RGBA")
    ground = Image.new("RGBA", layers.size, (*background, 255))
    return Image.alpha_composite(ground, layers).convert("RGB")


def transparency(content: bytes) -> Image.Image | None:
    """
    Give what is opaque in an encoded picture; None where all of it is.

    Raises:
        PictureError: It cannot be read.

    """
    picture = _opened(content, "the image")
    if not picture.has_transparency_data:
        return None
    return picture.convert("RGBA").getchannel("A")


def picture_of(image: Image.Image, seed: int | None) -> Picture:
    """Give the rows of a picture."""
    return Picture(
        pixels=image.tobytes(),
        width=image.width,
        height=image.height,
        mode="RGBA" if image.mode == "RGBA" else "RGB",
        seed=seed,
    )


def fitted(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Scale a picture to cover a size, and cut off evenly what stands out."""
    if picture.size == (width, height):
        return picture
    return ImageOps.fit(picture, (width, height), method=Image.Resampling.LANCZOS)


def repainted(
    drawn: Image.Image, original: Image.Image, mask: Image.Image
) -> Image.Image:
    """
    Take what was drawn where the mask is white, and the original where it is black.

    A model gives even untouched pixels back changed, since they went through its
    autoencoder; whoever masks a face must get the rest of the photograph back bit for
    bit. Grey blends the two.
    """
    return Image.composite(drawn, original, mask)


@attrs.frozen(kw_only=True)
class Extended:
    """A picture on the larger canvas of an outpainting."""

    picture: Image.Image
    """The original in its place, its surroundings mirrored outwards."""
    painted: Image.Image
    """The mask for the model, whose border reaches softly into the original."""
    kept: Image.Image
    """The mask for putting back: black exactly where the original is."""


def extended(
    content: bytes, margins: tuple[int, int, int, int], width: int, height: int
) -> Extended:
    """
    Lay a picture on a canvas with margins (left, right, top, bottom).

    The margins hold the mirrored picture: its colours lead the model on where it
    looks at them, and a model that does not is not disturbed.

    Raises:
        PictureError: The margins leave no room for the picture, or it cannot be read.

    """
    left, right, top, bottom = margins
    inner = (width - left - right, height - top - bottom)
    if min(*inner, *margins) < 0 or 0 in inner:
        message = f"margins {margins} leave no room for a picture in {width}x{height}"
        raise PictureError(message)
    picture = _extended(fitted(decoded(content), *inner), margins, mode="symmetric")
    kept = _outside(margins, width, height, feather=0)
    painted = _outside(margins, width, height, feather=min(_FEATHER, *inner))
    return Extended(picture=picture, painted=painted, kept=kept)


def _extended(
    picture: Image.Image, margins: tuple[int, int, int, int], *, mode: str
) -> Image.Image:
    left, right, top, bottom = margins
    pixels = np.asarray(picture)
    widths = [(top, bottom), (left, right), (0, 0)][: pixels.ndim]
    if mode == "edge":
        return Image.fromarray(np.pad(pixels, widths, mode="edge"))
    return Image.fromarray(np.pad(pixels, widths, mode="symmetric"))


def _outside(
    margins: tuple[int, int, int, int], width: int, height: int, *, feather: int
) -> Image.Image:
    """Give white for the margins, falling to black over some pixels inside."""
    left, right, top, bottom = margins
    across = _ramp(width, left, right, feather)
    down = _ramp(height, top, bottom, feather)
    return Image.fromarray(np.maximum(across[None, :], down[:, None]))


def _ramp(length: int, before: int, after: int, feather: int) -> Any:
    places = np.arange(length)
    white = np.zeros(length)
    if before:
        white = np.maximum(white, _falling(places - before, feather))
    if after:
        white = np.maximum(white, _falling(length - after - 1 - places, feather))
    return np.rint(white * 255).astype(np.uint8)


def _falling(depth: Any, feather: int) -> Any:
    """Give 1 outside (negative depth), and 0 from `feather` pixels inside on."""
    if not feather:
        return depth < 0
    return np.clip(1 - (depth + 1) / (feather + 1), 0, 1)
