"""Widths and heights become the nearest size the models draw."""

import pytest

from gaia_gemini.models import IMAGE_MODELS, image_model
from gaia_gemini.sizes import IMAGE_SIZES, RATIOS, Fit, fit, nearest_ratio


@pytest.mark.parametrize(
    ("size", "ratio"),
    [
        ((1024, 1024), "1:1"),
        ((1920, 1080), "16:9"),
        ((1080, 1920), "9:16"),
        ((800, 600), "4:3"),
        ((600, 800), "3:4"),
        ((1500, 1000), "3:2"),
        ((1000, 1500), "2:3"),
        ((1250, 1000), "5:4"),
        ((1000, 1250), "4:5"),
        ((2520, 1080), "21:9"),
        ((400, 100), "4:1"),
        ((100, 400), "1:4"),
        ((1600, 200), "8:1"),
        ((16, 8192), "1:8"),
    ],
    ids=str,
)
def test_the_nearest_ratio_is_taken(size: tuple[int, int], ratio: str) -> None:
    """Every ratio is the nearest to its own shape, and odd shapes find one."""
    assert nearest_ratio(*size) == ratio


@pytest.mark.parametrize(
    ("size", "image_size"),
    [
        ((16, 16), "512"),
        ((512, 512), "512"),
        ((620, 620), "512"),
        ((768, 768), "1K"),
        ((1024, 1024), "1K"),
        ((1280, 720), "1K"),
        ((1024, 1536), "1K"),
        ((1920, 1080), "2K"),
        ((2048, 2048), "2K"),
        ((4096, 4096), "4K"),
    ],
    ids=str,
)
def test_the_smallest_size_that_is_near_enough_is_taken(
    size: tuple[int, int], image_size: str
) -> None:
    """No picture has less than two thirds of the pixels asked for, where it can."""
    assert fit(*size).size == image_size


def test_what_is_too_large_becomes_the_largest() -> None:
    """A model with one size draws that one."""
    assert fit(4096, 4096, sizes=["1K"]) == Fit("1:1", "1K")


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("size", IMAGE_SIZES)
def test_the_pixels_of_a_size_come_to_that_size(ratio: str, size: str) -> None:
    """Who asks for a size the model draws gets just that."""
    width, height = Fit(ratio, size).pixels

    assert fit(width, height) == Fit(ratio, size)


def test_a_fixed_size_is_taken_where_the_model_draws_it() -> None:
    """The setting decides, unless the model knows no such size."""
    flash, _, pro = IMAGE_MODELS

    assert flash.fit(256, 256, "4K").size == "4K"
    assert pro.fit(256, 256, "512").size == "1K"


def test_a_model_nobody_knows_draws_what_all_draw() -> None:
    """Of a model without a card no rare ratio and no size is asked for."""
    unknown = image_model("gemini-9-image")

    assert unknown.fit(8000, 1000) == Fit("21:9", "1K")
    assert not unknown.has_sizes
