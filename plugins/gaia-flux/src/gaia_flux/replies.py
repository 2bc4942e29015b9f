"""
Turn what was drawn into the pictures Gaia stores.

Pillow is imported with the first picture, beside the event loop: it takes its time.
"""

from collections.abc import Iterable
from decimal import ROUND_CEILING, Decimal

from gaia_core import GeneratedImage, Image, ImageResult, write_png
from gaia_flux.jobs import Drawn, Picture, Preview

_MICRO_DOLLAR = Decimal("0.000001")


def result_of(
    drawn: Drawn,
    *,
    provider: str,
    model: str,
    usd_per_second: Decimal = Decimal(0),
    warnings: Iterable[str] = (),
) -> ImageResult:
    """
    Encode pictures; call it beside the event loop, for that takes its time.

    Args:
        drawn: What the worker gave back.
        provider: The provider's name.
        model: The model's identifier.
        usd_per_second: What a second of the device costs.
        warnings: What is to be said besides the worker's own warnings.
    """
    return ImageResult(
        images=[_image(picture) for picture in drawn.pictures],
        provider=provider,
        model=model,
        cost_usd=cost_of(drawn.seconds, usd_per_second),
        warnings=tuple(dict.fromkeys((*warnings, *drawn.warnings))),
    )


def cost_of(seconds: float, usd_per_second: Decimal) -> Decimal:
    """
    Price some seconds of the device, rounded up to the micro-dollar.

    >>> cost_of(2.5, Decimal("0.0008"))
    Decimal('0.002000')
    """
    cost = Decimal(str(seconds)) * usd_per_second
    return cost.quantize(_MICRO_DOLLAR, rounding=ROUND_CEILING)


def preview_of(preview: Preview) -> Image:
    """Encode a preview: it is small, so that takes a fraction of a millisecond."""
    return Image.from_bytes(_png(preview, "RGB"))


def _image(picture: Picture) -> GeneratedImage:
    # How it came to be follows from the request: from words, or over a picture.
    return GeneratedImage(
        data=_png(picture, picture.mode), seed=picture.seed, is_encoded_here=True
    )


def _png(rows: Picture | Preview, mode: str) -> bytes:
    from PIL import Image as pillow  # noqa: N813, PLC0415  a module; see above

    return write_png(pillow.frombytes(mode, (rows.width, rows.height), rows.pixels))
