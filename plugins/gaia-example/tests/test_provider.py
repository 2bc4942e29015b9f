"""Shields: their colours, their seeds and their border."""

import pytest

from gaia_core import GeneratedImage, GenerateRequest
from gaia_core.testing import context
from gaia_example import ExampleProvider


async def _drawn(
    prompt: str, *, seed: int | None = None, num_images: int = 1, border: int = 4
) -> tuple[GeneratedImage, ...]:
    request = GenerateRequest(
        prompt=prompt, seed=seed, num_images=num_images, width=256, height=256
    )
    result = await ExampleProvider(border=border).gaia_generate(request, context())
    return result.images


@pytest.mark.parametrize(
    ("colour", "strongest"), [("red", 0), ("green", 1), ("blue", 2)]
)
async def test_a_colour_in_the_prompt_is_the_shields(
    colour: str, strongest: int
) -> None:
    """The first colour that the prompt names fills the shield."""
    (image,) = await _drawn(f"a {colour} keep before black hills")

    in_the_corner = image.image.decode().getpixel((197, 46))

    assert isinstance(in_the_corner, tuple)
    assert in_the_corner.index(max(in_the_corner)) == strongest


async def test_every_picture_has_its_own_seed() -> None:
    """Several pictures differ, and each can be had again by its seed."""
    first, second = await _drawn("a keep", seed=5, num_images=2)

    (again,) = await _drawn("a keep", seed=6)

    assert first.data != second.data
    assert second.data == again.data


async def test_without_a_seed_the_prompt_decides() -> None:
    """The same prompt gives the same shield."""
    assert (await _drawn("a keep"))[0].data == (await _drawn("a keep"))[0].data


async def test_the_border_can_be_left_out() -> None:
    """The setting `border` changes the picture; 0 draws none."""
    (with_border,) = await _drawn("a red keep", seed=1)
    (without,) = await _drawn("a red keep", seed=1, border=0)

    assert with_border.data != without.data


@pytest.mark.parametrize("border", [-1, 11])
def test_a_border_out_of_range_is_refused(border: int) -> None:
    """A border is between nothing and a tenth of the shield."""
    with pytest.raises(ValueError, match="border"):
        ExampleProvider(border=border)
