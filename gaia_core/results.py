"""What a provider gives back."""

from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum

import attrs

from gaia_core.errors import InvalidImageError, UnusableResultError
from gaia_core.images import Image


def _length(data: bytes) -> str:
    return f"<{len(data)} bytes>"


class DigitalSource(StrEnum):
    """
    How a picture came to be, in IPTC's words.

    >>> DigitalSource.TRAINED.uri
    'http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia'
    """

    TRAINED = "trainedAlgorithmicMedia"
    """Made by a trained model from words."""
    COMPOSITE = "compositeWithTrainedAlgorithmicMedia"
    """Somebody's picture, worked over by a trained model."""
    ALGORITHMIC = "algorithmicMedia"
    """Drawn by an algorithm that was not trained, a map for example."""

    @property
    def uri(self) -> str:
        """The address that names it in metadata."""
        return f"http://cv.iptc.org/newscodes/digitalsourcetype/{self.value}"


def _whole(value: int | None) -> int | None:
    """Take a seed from wherever it comes: numpy's integers are none of Python's."""
    return value if value is None else int(value)


@attrs.frozen(kw_only=True)
class GeneratedImage:
    """
    One picture a provider made, as it came.

    Media type, width and height are read from the bytes when left out, so most
    providers write ``GeneratedImage(data=reply, seed=seed)``.

    Attributes:
        data: The encoded bytes; Gaia stores them untouched.
        media_type: ``image/png``, ``image/jpeg`` or ``image/webp``.
        seed: The seed that made it, if the provider says so.
        width: Width in pixels.
        height: Height in pixels.
        is_encoded_here: True when the provider encoded raw pixels in this
            process: only then may Gaia write its metadata into the bytes.
        digital_source: How it came to be; None: as the request suggests.

    Raises:
        UnusableResultError: If the bytes are no PNG, JPEG or WebP picture.
    """

    data: bytes = attrs.field(repr=_length)
    media_type: str | None = None
    seed: int | None = attrs.field(default=None, converter=_whole)
    width: int | None = None
    height: int | None = None
    is_encoded_here: bool = False
    digital_source: DigitalSource | None = None
    image: Image = attrs.field(init=False, repr=False, eq=False)
    """The picture as a checked value; its size is the one in the bytes."""

    @image.default
    def _read(self) -> Image:
        try:
            return Image.from_bytes(self.data)
        except InvalidImageError as error:
            message = f"The provider answered with bytes that are no picture: {error}"
            raise UnusableResultError(message) from error

    def __attrs_post_init__(self) -> None:
        """Take from the bytes what was left out."""
        for name in ("media_type", "width", "height"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(self.image, name))


def _strings(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


def _images(values: Iterable[GeneratedImage]) -> tuple[GeneratedImage, ...]:
    return tuple(values)


def _amount(value: Decimal | float | str | None) -> Decimal | None:
    """Take an amount by its digits: 0.1 is ten cents, not a little more."""
    return value if value is None else Decimal(str(value))


@attrs.frozen(kw_only=True)
class ImageResult:
    """
    What a provider answers to one attempt.

    Attributes:
        images: The pictures, at least one.
        provider: The provider's name.
        model: The model that made them.
        cost_usd: What the provider charged; None: it does not say, and Gaia
            settles at the catalogue's price.
        warnings: What was not honoured, in plain words (``"seed ignored"``).
    """

    images: tuple[GeneratedImage, ...] = attrs.field(converter=_images)
    provider: str
    model: str
    cost_usd: Decimal | None = attrs.field(default=None, converter=_amount)
    warnings: tuple[str, ...] = attrs.field(default=(), converter=_strings)


@attrs.frozen(kw_only=True)
class PromptResult:
    """
    A prompt a provider worked out.

    Attributes:
        prompt: The worked-out prompt.
        provider: The provider's name.
        model: The model that wrote it.
        cost_usd: What the provider charged, if it says so.
        warnings: What was not honoured.
    """

    prompt: str
    provider: str
    model: str
    cost_usd: Decimal | None = attrs.field(default=None, converter=_amount)
    warnings: tuple[str, ...] = attrs.field(default=(), converter=_strings)


@attrs.frozen(kw_only=True)
class DescriptionResult:
    """
    What a provider sees in a picture.

    Attributes:
        description: The description, or the answer to the question.
        provider: The provider's name.
        model: The model that looked.
        cost_usd: What the provider charged, if it says so.
        warnings: What was not honoured.
    """

    description: str
    provider: str
    model: str
    cost_usd: Decimal | None = attrs.field(default=None, converter=_amount)
    warnings: tuple[str, ...] = attrs.field(default=(), converter=_strings)
