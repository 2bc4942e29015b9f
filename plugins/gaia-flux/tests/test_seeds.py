"""The same seed gives the same bytes, whatever was drawn before or beside it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from .residents import TinyResident, ignore, job, resident_of
from .squares import digest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch

from gaia_flux.drawing import draw
from gaia_flux.prompts import PromptCache

_FAMILIES = ["flux1-schnell", "flux1-dev", "flux2-klein", "sdxl", "sd15"]


def picture(resident: TinyResident, seed: int) -> str:
    """Draw one picture, and name its pixels."""
    wanted = job(resident.family.name, seeds=(seed,))
    (drawn,) = draw(resident, [wanted], ignore)[0].pictures
    return digest(drawn.pixels)


@pytest.mark.parametrize("family", _FAMILIES)
def test_each_picture_depends_on_its_own_seed(
    tiny_models: Mapping[str, Path], family: str
) -> None:
    """The pictures of one request are those of requests for each seed."""
    resident = resident_of(family, tiny_models[family])

    drawn = draw(resident, [job(family, seeds=(5, 6))], ignore)[0].pictures

    first, second = (digest(one.pixels) for one in drawn)
    assert first != second
    assert (first, second) == (picture(resident, 5), picture(resident, 6))


@pytest.mark.parametrize("family", _FAMILIES)
def test_the_process_generator_is_neither_used_nor_moved(
    tiny_models: Mapping[str, Path], family: str
) -> None:
    """What else draws random numbers does not matter, and is not disturbed."""
    resident = resident_of(family, tiny_models[family])
    torch.manual_seed(1)
    expected = picture(resident, 5)
    torch.manual_seed(2)
    state = torch.get_rng_state()

    again = picture(resident, 5)

    assert again == expected
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_switch_changes_nothing(tiny_models: Mapping[str, Path]) -> None:
    """A model loaded again draws what it drew before another one had its turn."""
    prompts = PromptCache()
    wanted = job("flux1-dev")
    resident = resident_of("flux1-dev", tiny_models["flux1-dev"])
    expected = draw(resident, [wanted], ignore, prompts=prompts)[0].pictures
    other = resident_of("sdxl", tiny_models["sdxl"])
    draw(other, [job("sdxl")], ignore, prompts=prompts)

    again = resident_of("flux1-dev", tiny_models["flux1-dev"])

    drawn = draw(again, [wanted], ignore, prompts=prompts)[0].pictures
    assert [digest(one.pixels) for one in drawn] == [
        digest(one.pixels) for one in expected
    ]


def test_max_sequence_length_changes_the_picture(
    tiny_models: Mapping[str, Path],
) -> None:
    """Which is why it is part of the cache key."""
    resident = resident_of("flux1-dev", tiny_models["flux1-dev"])

    pictures = {
        draw(resident, [job("flux1-dev", max_sequence_length=length)], ignore)[0]
        .pictures[0]
        .pixels
        for length in (64, 512)
    }

    assert len(pictures) == 2
