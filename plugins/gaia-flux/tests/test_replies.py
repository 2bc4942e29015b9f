"""Pixels become pictures, with seeds, warnings and costs."""

from decimal import Decimal

import pytest

from gaia_core import Image
from gaia_flux.jobs import Drawn, Picture, Preview
from gaia_flux.replies import cost_of, preview_of, result_of

_SIDE = 16


def _picture(mode: str = "RGB", seed: int | None = 7) -> Picture:
    colour = bytes([200, 10, 20, 128])[: len(mode)]
    return Picture(
        pixels=colour * _SIDE**2,
        width=_SIDE,
        height=_SIDE,
        mode="RGBA" if mode == "RGBA" else "RGB",
        seed=seed,
    )


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_pixels_are_encoded_without_loss(mode: str) -> None:
    """A picture holds the very pixels that were drawn, transparency included."""
    picture = _picture(mode)

    (image,) = result_of(
        Drawn(pictures=[picture]), provider="flux", model="mine"
    ).images

    assert image.media_type == "image/png"
    assert (image.width, image.height) == (_SIDE, _SIDE)
    assert image.image.decode().convert(mode).tobytes() == picture.pixels
    assert image.is_encoded_here


def test_result_says_what_it_is() -> None:
    """Provider, model, seeds and each warning once: a result has them all."""
    drawn = Drawn(
        pictures=[_picture(seed=3), _picture(seed=4)], warnings=["less", "tiled"]
    )

    result = result_of(drawn, provider="flux", model="mine", warnings=["tiled"])

    assert (result.provider, result.model) == ("flux", "mine")
    assert [image.seed for image in result.images] == [3, 4]
    assert result.warnings == ("tiled", "less")
    assert result.cost_usd == 0


@pytest.mark.parametrize(
    ("seconds", "rate", "cost"),
    [
        pytest.param(2.5, "0", "0", id="free"),
        pytest.param(2.5, "0.0008", "0.002", id="exact"),
        pytest.param(0.0001, "0.0008", "0.000001", id="rounded up"),
    ],
)
def test_seconds_have_a_price(seconds: float, rate: str, cost: str) -> None:
    """The measured seconds are booked, rounded up to the micro-dollar."""
    drawn = Drawn(pictures=[_picture()], seconds=seconds)

    result = result_of(
        drawn, provider="flux", model="mine", usd_per_second=Decimal(rate)
    )

    assert result.cost_usd == cost_of(seconds, Decimal(rate)) == Decimal(cost)


def test_preview_is_a_picture() -> None:
    """A preview is encoded as it is."""
    image = preview_of(Preview(pixels=bytes(range(12)), width=2, height=2))

    assert isinstance(image, Image)
    assert image.decode().tobytes() == bytes(range(12))
