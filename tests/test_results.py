"""What a provider gives back."""

from decimal import Decimal
from typing import cast

import attrs
import pytest

from gaia_core.errors import UnusableResultError
from gaia_core.images import Image
from gaia_core.results import (
    DescriptionResult,
    DigitalSource,
    GeneratedImage,
    ImageResult,
    PromptResult,
)
from gaia_core.testing import jpeg, png
from gaia_core.testing.pictures import encoded


@pytest.mark.parametrize(
    ("data", "media_type"),
    [(png(30, 20), "image/png"), (jpeg(30, 20), "image/jpeg")],
    ids=["png", "jpeg"],
)
def test_a_picture_says_what_it_is(data: bytes, media_type: str) -> None:
    """A provider names only what the bytes do not show."""
    image = GeneratedImage(data=data)

    assert (image.media_type, image.width, image.height) == (media_type, 30, 20)
    assert image.image == Image.from_bytes(data)


def test_what_a_provider_says_is_kept() -> None:
    """Fields that are given are not read from the bytes."""
    image = GeneratedImage(data=png(30, 20), width=31, seed=5)

    assert (image.width, image.height, image.seed) == (31, 20, 5)
    assert image.image.width == 30


@pytest.mark.parametrize(
    "data", [b"", b"<html>", b"GIF89a", png()[:20]], ids=["none", "html", "gif", "cut"]
)
def test_bytes_without_a_picture_are_unusable(data: bytes) -> None:
    """A provider that charged for no picture is told so at once."""
    with pytest.raises(UnusableResultError, match="bytes that are no picture"):
        GeneratedImage(data=data)


def test_a_picture_does_not_print_its_bytes() -> None:
    """Logs show how long the bytes are, not the bytes."""
    assert "IHDR" not in repr(GeneratedImage(data=png()))


def test_pictures_can_be_changed_into_new_ones() -> None:
    """`attrs.evolve` reads the new bytes."""
    image = GeneratedImage(data=png(), digital_source=DigitalSource.ALGORITHMIC)

    changed = attrs.evolve(image, data=jpeg(30, 20), width=None)

    assert changed.width == 30
    assert changed.digital_source is DigitalSource.ALGORITHMIC


@pytest.mark.parametrize(
    ("cost", "expected"),
    [(None, None), (0.0038, "0.0038"), ("0.1", "0.1"), (1, "1"), (Decimal(2), "2")],
    ids=repr,
)
def test_costs_are_exact(cost: float | str | Decimal | None, expected: str) -> None:
    """A float counts by its digits, not by its bits."""
    result = ImageResult(
        images=[GeneratedImage(data=png())], provider="p", model="m", cost_usd=cost
    )

    assert result.cost_usd == (None if expected is None else Decimal(expected))


def test_seeds_come_from_anywhere() -> None:
    """An integer of another library is a plain one in every record."""

    class Foreign:
        """What numpy's integers are to Python."""

        def __int__(self) -> int:
            return 7

    image = GeneratedImage(data=png(), seed=cast("int", Foreign()))

    assert type(image.seed) is int
    assert image.seed == 7


def test_lists_become_tuples() -> None:
    """A result cannot be changed behind its back."""
    image = GeneratedImage(data=encoded(Image.from_bytes(png()).decode(), "WEBP"))

    result = ImageResult(
        images=[image], provider="p", model="m", warnings=["seed ignored"]
    )

    assert result.images == (image,)
    assert result.warnings == ("seed ignored",)


def test_words_are_results_too() -> None:
    """A prompt and a description cost and warn like pictures."""
    prompt = PromptResult(prompt="a keep", provider="p", model="m", cost_usd=0.001)
    words = DescriptionResult(description="a keep", provider="p", model="m")

    assert prompt.cost_usd == Decimal("0.001")
    assert (words.cost_usd, words.warnings) == (None, ())
