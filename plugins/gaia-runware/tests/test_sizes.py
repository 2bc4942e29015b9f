"""The sizes that are made in place of those that a model does not make."""

from itertools import product

import pytest

from gaia_runware.facts import Facts, Sizes, entries
from gaia_runware.models import facts_of

SIDES = (16, 100, 512, 1000, 1024, 1920, 4096)


def _sized() -> list[Facts]:
    return [
        facts_of(model_id) for model_id, entry in entries().items() if "size" in entry
    ]


@pytest.mark.parametrize("known", _sized(), ids=lambda known: known.id)
def test_every_size_that_is_made_is_one_the_model_makes(known: Facts) -> None:
    """Whatever is asked for, sides, multiples and pixels are within the limits."""
    sizes = known.sizes

    made = {sizes.fit(*asked) for asked in product(SIDES, SIDES)}

    if sizes.fixed:
        assert made <= set(sizes.fixed)
        return
    for width, height in made:
        assert sizes.smallest <= width <= sizes.largest
        assert sizes.smallest <= height <= sizes.largest
        assert width % sizes.multiple == height % sizes.multiple == 0
        assert sizes.min_pixels <= width * height <= sizes.max_pixels


@pytest.mark.parametrize("known", _sized(), ids=lambda known: known.id)
def test_a_size_the_model_makes_stays_as_it_is(known: Facts) -> None:
    """Fitting twice changes nothing more."""
    for asked in product(SIDES, SIDES):
        made = known.sizes.fit(*asked)

        assert known.sizes.fit(*made) == made


@pytest.mark.parametrize(
    ("model_id", "asked", "made"),
    [
        ("runware:101@1", (1024, 1024), (1024, 1024)),
        ("runware:101@1", (1000, 600), (1024, 576)),
        ("runware:400@1", (256, 256), (512, 512)),
        ("openai:1@1", (1920, 1080), (1536, 1024)),
        ("openai:1@1", (512, 512), (1024, 1024)),
        ("google:4@2", (1920, 1080), (1376, 768)),
        ("google:4@2", (2560, 1440), (2752, 1536)),
        ("bytedance:seedream@4.5", (1024, 1024), (1920, 1920)),
        ("bfl:2@1", (2048, 1152), (1440, 800)),
    ],
)
def test_the_nearest_size_keeps_the_shape(
    model_id: str, asked: tuple[int, int], made: tuple[int, int]
) -> None:
    """The shape counts more than the number of pixels."""
    assert facts_of(model_id).sizes.fit(*asked) == made


def test_the_fewest_pixels_are_reached_where_rounding_would_miss_them() -> None:
    """Rounding goes up where rounding to the nearest falls short."""
    sizes = Sizes(smallest=16, largest=4096, multiple=16, min_pixels=655_360)

    width, height = sizes.fit(700, 700)

    assert width * height >= 655_360
