"""Pictures as values: encoded bytes with a media type and a size."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeAlias

import attrs

from gaia_core.errors import InvalidImageError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

MAX_PIXELS = 67_108_864
"""Largest picture Gaia opens, in pixels (8192 x 8192)."""
MAX_BYTES = 67_108_864
"""Largest encoded picture Gaia reads, in bytes (64 MiB)."""

_FORMATS = ("PNG", "JPEG", "WEBP")
# What some phones write is JPEG, with further pictures behind the first.
_MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "WEBP": "image/webp",
}
_QUIET = threading.Lock()
SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
"""File suffix of each media type Gaia accepts."""


def _length(data: bytes) -> str:
    return f"<{len(data)} bytes>"


@attrs.frozen(kw_only=True)
class Image:
    """
    One encoded picture: PNG, JPEG or WebP.

    Make one with `Image.from_bytes` or `Image.open`; both read the size from
    the header and decode no pixel.

    Attributes:
        data: The encoded bytes.
        media_type: ``image/png``, ``image/jpeg`` or ``image/webp``.
        width: Width in pixels.
        height: Height in pixels.
    """

    data: bytes = attrs.field(repr=_length)
    media_type: str
    width: int
    height: int

    @property
    def sha256(self) -> str:
        """Digest of the bytes, in hexadecimal."""
        import hashlib  # noqa: PLC0415 - 2 ms, and nobody digests who only lists

        return hashlib.sha256(self.data).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """
        Read media type and size from the header of an encoded picture.

        Args:
            data: An encoded PNG, JPEG or WebP picture.

        Raises:
            InvalidImageError: If it is none of these, or too large to be safe.
        """
        if len(data) > MAX_BYTES:
            message = f"The picture has {len(data)} bytes; the limit is {MAX_BYTES}."
            raise InvalidImageError(message)
        with _opened(data) as picture:
            media_type = _MEDIA_TYPES[picture.format or ""]
            width, height = picture.size
        return cls(data=data, media_type=media_type, width=width, height=height)

    @classmethod
    def open(cls, path: PathLike[str]) -> Self:
        """
        Read a picture file.

        Raises:
            InvalidImageError: If the file cannot be read or holds no picture.
        """
        try:
            with Path(path).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            message = f"The picture {fspath(path)} cannot be read: {reason}."
            raise InvalidImageError(message) from error
        return cls.from_bytes(data)

    def decode(self) -> "PillowImage":
        """
        Decode every pixel into a Pillow picture.

        Raises:
            InvalidImageError: If the bytes are damaged.
        """
        with _opened(self.data) as picture:
            picture.load()
            return picture


ImageSource: TypeAlias = Image | bytes | PathLike[str]
"""What a request takes where it wants a picture."""


def to_image(source: ImageSource) -> Image:
    """
    Turn whatever a caller has into an `Image`.

    A string is refused on purpose: a prompt or an address from outside must
    never be opened as a file. Wrap a path you trust in `pathlib.Path`.

    Args:
        source: An `Image`, encoded bytes, or a path object; a stored image of
            an earlier response is a path object too.

    Raises:
        InvalidImageError: If it is none of these or holds no picture.
    """
    if isinstance(source, Image):
        return source
    if isinstance(source, bytes):
        return Image.from_bytes(source)
    if isinstance(source, PathLike):
        return Image.open(source)
    kind = type(source).__name__
    message = f"A picture must be an Image, bytes or a pathlib.Path, not {kind}."
    raise InvalidImageError(message)


@contextmanager
def _opened(data: bytes) -> Iterator["PillowImage"]:
    """Open a picture with every guard up, in one place for size and pixels."""
    try:
        yield _open(data)
    except InvalidImageError:
        raise
    except Exception as error:
        # Pillow does not say what it raises over damaged bytes, and its own words
        # may carry an address of this process: leave them out.
        message = "The picture is no readable PNG, JPEG or WebP file."
        raise InvalidImageError(message) from error


def _open(data: bytes) -> "PillowImage":
    # Pillow costs 25 ms to import, and most commands never touch a picture.
    from PIL import Image as pillow  # noqa: N813, PLC0415

    # Filters of warnings are shared by all threads. Pillow warns of what is
    # refused here anyway, or does not matter to us.
    with _QUIET, warnings.catch_warnings(action="ignore"):
        try:
            picture = pillow.open(io.BytesIO(data), formats=_FORMATS)
        except pillow.DecompressionBombError as error:
            message = f"The picture is too large; the limit is {MAX_PIXELS} pixels."
            raise InvalidImageError(message) from error
    _check_pixels(*picture.size)
    if picture.format != "MPO" and getattr(picture, "is_animated", False):
        message = "The picture is animated: send one frame of it."
        raise InvalidImageError(message)
    return picture


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        message = f"The picture is {width}x{height}; the limit is {MAX_PIXELS} pixels."
        raise InvalidImageError(message)
