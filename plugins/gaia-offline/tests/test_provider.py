"""The embedded default, from request to picture."""

import asyncio
import re
from collections.abc import AsyncIterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gaia_core import (
    Gaia,
    GenerateRequest,
    Image,
    NoCapableProviderError,
    ProviderRequestError,
    RemoveBackgroundRequest,
    UpscaleRequest,
)
from gaia_core.png import read_text
from gaia_core.requests import MAX_SEED
from gaia_core.testing.conformance import ProviderConformance
from gaia_core.testing.pytest_plugin import OpenGaia
from gaia_offline import OfflineProvider
from gaia_offline.prompts import wants_map
from gaia_offline.tiles import vocabulary


@pytest.fixture(name="gaia")
async def _gaia(open_gaia: OpenGaia) -> AsyncIterator[Gaia]:
    """Give an open `Gaia` that has this provider only."""
    async with open_gaia(OfflineProvider()) as gaia:
        yield gaia


class TestConformance(ProviderConformance):
    """The embedded default keeps the contract."""

    @pytest.fixture
    def provider(self) -> OfflineProvider:
        """Give the provider under test."""
        return OfflineProvider()


def _decoded(stored: PathLike[str]) -> Any:
    return np.asarray(Image.open(stored).decode())


@pytest.mark.parametrize(
    ("prompt", "model"),
    [
        pytest.param("a red dragon", "offline:tiles", id="a thing"),
        pytest.param("a map of the Amber Coast", "offline:maps", id="a map"),
        pytest.param("a wizard with a map", "offline:tiles", id="a map in it"),
        pytest.param("floor plan of a crypt", "offline:maps", id="two words"),
    ],
)
async def test_prompt_chooses_the_model(gaia: Gaia, prompt: str, model: str) -> None:
    """A prompt that asks for a map gets one; every other gets a drawn thing."""
    plan = gaia.plan(GenerateRequest(prompt=prompt, provider="offline"))

    assert plan.candidates[0].model.id == model


@pytest.mark.parametrize("prompt", ["an orc", "a town map"])
async def test_same_seed_gives_the_same_bytes(gaia: Gaia, prompt: str) -> None:
    """The same prompt and seed give the same file, and another seed another."""
    request: dict[str, Any] = {
        "prompt": prompt,
        "width": 128,
        "height": 128,
        "provider": "offline",
    }

    first = await gaia.generate(GenerateRequest(**request, seed=7))
    second = await gaia.generate(GenerateRequest(**request, seed=7))
    other = await gaia.generate(GenerateRequest(**request, seed=8))

    assert first.images[0].sha256 == second.images[0].sha256
    assert first.images[0].sha256 != other.images[0].sha256


async def test_unknown_words_are_named(gaia: Gaia) -> None:
    """Words that mean nothing to the tile model are named in the warnings."""
    response = await gaia.generate(
        GenerateRequest(prompt="a zyqqwx sword", width=64, height=64)
    )

    assert any("zyqqwx" in warning for warning in response.warnings)


async def test_seed_counts_up(gaia: Gaia) -> None:
    """Several pictures carry the seeds that make each of them alone."""
    several = await gaia.generate(
        GenerateRequest(prompt="a ring", width=64, height=64, seed=3, num_images=2)
    )
    alone = await gaia.generate(
        GenerateRequest(prompt="a ring", width=64, height=64, seed=4)
    )

    assert [image.seed for image in several.images] == [3, 4]
    assert (_decoded(several.images[1]) == _decoded(alone.images[0])).all()


async def test_seeds_start_again_after_the_largest(gaia: Gaia) -> None:
    """Every picture carries a seed that can be asked for."""
    response = await gaia.generate(
        GenerateRequest(
            prompt="a ring", width=64, height=64, seed=MAX_SEED, num_images=2
        )
    )

    assert [image.seed for image in response.images] == [MAX_SEED, 0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"prompt": "!?"}, "knows no word", id="no word"),
        pytest.param(
            {"prompt": "a ring", "negative_prompt": "red vignette"},
            "steer away from these words: vignette",
            id="negative prompt",
        ),
        pytest.param(
            {"prompt": "a map", "provider_options": {"offline": {"finish": "painted"}}},
            "offline:maps has no finish",
            id="option of a map",
        ),
    ],
)
async def test_what_is_not_honoured_is_said(
    gaia: Gaia, changes: dict[str, Any], said: str
) -> None:
    """Nothing that was asked for is dropped silently."""
    response = await gaia.generate(GenerateRequest(**changes, width=64, height=64))

    assert any(said in warning for warning in response.warnings)


@pytest.mark.parametrize("finish", ["pixels", "painted"])
async def test_progress_ends_at_one(gaia: Gaia, finish: str) -> None:
    """However a picture is finished, its progress ends with all of it."""
    heard: list[float] = []

    await gaia.generate(
        GenerateRequest(
            prompt="a ring",
            width=64,
            height=64,
            provider_options={"offline": {"finish": finish}},
        ),
        progress=lambda fraction, _: heard.append(fraction),
    )

    assert heard[-1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({"finish": "oil"}, "pixels, painted", id="value"),
        pytest.param({"colour": "red"}, "finish, backdrop", id="name"),
    ],
)
async def test_wrong_option_is_refused(
    gaia: Gaia, options: dict[str, str], said: str
) -> None:
    """An option that does not exist is refused with the ones that do."""
    request = GenerateRequest(
        prompt="a ring", provider="offline", provider_options={"offline": options}
    )

    with pytest.raises(ProviderRequestError, match=said):
        await gaia.generate(request)


async def test_transparent_backdrop(gaia: Gaia) -> None:
    """Without a backdrop the thing stands alone, on transparency."""
    response = await gaia.generate(
        GenerateRequest(
            prompt="a sword",
            width=128,
            height=128,
            seed=1,
            provider_options={"offline": {"backdrop": "none"}},
        )
    )

    pixels = _decoded(response.images[0])
    assert pixels.shape == (128, 128, 4)
    assert pixels[0, 0, 3] == 0
    assert pixels[..., 3].max() == 255


async def test_drawn_then_enlarged_then_cut_out(gaia: Gaia) -> None:
    """A drawn picture can be enlarged, and its subject cut out."""
    drawn = await gaia.generate(
        GenerateRequest(prompt="a potion", width=96, height=64, seed=2)
    )
    large = await gaia.upscale(UpscaleRequest(image=drawn.images[0], upscale_factor=2))
    cut = await gaia.remove_background(RemoveBackgroundRequest(image=large.images[0]))

    assert (large.images[0].width, large.images[0].height) == (192, 128)
    assert _decoded(cut.images[0]).shape == (128, 192, 4)
    assert cut.cost_usd == 0


@pytest.mark.parametrize(
    ("prompt", "source"),
    [("a shield", "trainedAlgorithmicMedia"), ("a dungeon map", "/algorithmicMedia")],
)
async def test_picture_says_how_it_came_to_be(
    gaia: Gaia, prompt: str, source: str
) -> None:
    """A file says who made it, and whether a trained model did."""
    response = await gaia.generate(
        GenerateRequest(prompt=prompt, width=64, height=64, seed=5)
    )

    text = read_text(response.images[0].read_bytes())
    assert prompt in text["parameters"]
    assert source in text["XML:com.adobe.xmp"]


async def test_cancelled_work_stops(gaia: Gaia) -> None:
    """A cancelled upscale frees the worker for the next request."""
    drawn = await gaia.generate(
        GenerateRequest(prompt="a map", width=640, height=640, seed=1)
    )
    has_begun = asyncio.Event()
    task = asyncio.create_task(
        gaia.upscale(
            UpscaleRequest(image=drawn.images[0], model="offline:upscale-fast"),
            progress=lambda *_: has_begun.set(),
        )
    )
    await has_begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    after = await asyncio.wait_for(
        gaia.generate(GenerateRequest(prompt="a ring", width=64, height=64)), 60
    )

    assert after.provider == "offline"


async def test_photographic_upscaler_needs_its_weights(gaia: Gaia) -> None:
    """Without its weights the photographic upscaler is not on offer."""
    drawn = await gaia.generate(GenerateRequest(prompt="a ring", width=64, height=64))
    request = UpscaleRequest(image=drawn.images[0], model="offline:upscale-photo")

    with pytest.raises(NoCapableProviderError, match="offline:upscale-photo"):
        await gaia.upscale(request)


def test_prompts_of_the_readme_are_understood() -> None:
    """Whoever copies a first command from the README is not met by a warning."""
    page = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    prompts = re.findall(r'gaia generate "([^"]+)"', page)

    readings = {prompt: vocabulary().understand(prompt).unknown for prompt in prompts}

    missed = {p: words for p, words in readings.items() if words and not wants_map(p)}
    assert prompts
    assert missed == {}
