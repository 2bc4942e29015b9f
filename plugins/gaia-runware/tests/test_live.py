"""One call per capability at the vendor itself; it costs some tenths of a cent."""

import os
from collections.abc import AsyncIterator

import pytest

from gaia_core import (
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    HealthLevel,
    Image,
    Outpaint,
    RemoveBackgroundRequest,
    Secret,
    UpscaleRequest,
)
from gaia_core.fetching import GuardedFetcher, Reach
from gaia_core.requests import Request
from gaia_core.testing import context, samples
from gaia_core.testing.bench import Bench
from gaia_runware import RunwareProvider

KEY = os.environ.get("RUNWARE_API_KEY", "")
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not KEY, reason="RUNWARE_API_KEY is not set"),
]

PICTURE = Image.from_bytes(samples.subject(512, 512))
MASK = Image.from_bytes(samples.mask(512, 512))
REQUESTS: dict[str, Request] = {
    "text-to-image": GenerateRequest(
        prompt="a keep", model="runware:100@1", width=512, height=512
    ),
    "image-to-image": GenerateRequest(
        prompt="a ruin", image=PICTURE, width=512, height=512
    ),
    "inpainting": GenerateRequest(
        prompt="a dragon", image=PICTURE, mask_image=MASK, width=512, height=512
    ),
    "outpainting": GenerateRequest(
        prompt="hills",
        image=PICTURE,
        outpaint=Outpaint(left=64, right=64),
        width=640,
        height=512,
    ),
    "upscaling": UpscaleRequest(image=PICTURE, upscale_factor=2),
    "background-removal": RemoveBackgroundRequest(image=PICTURE),
    "prompt-enhancement": EnhancePromptRequest(prompt="a keep"),
    "image-description": DescribeImageRequest(image=PICTURE),
}


@pytest.fixture(name="bench")
async def _bench() -> AsyncIterator[Bench]:
    """Put a provider with the real key on the bench."""
    provider = RunwareProvider(api_key=Secret(KEY))
    reach = Reach.of(None, provider.gaia_provider_info().result_hosts)
    async with GuardedFetcher() as fetcher:

        async def fetch(url: str) -> bytes:
            return await fetcher.fetch(url, reach)

        async with Bench(provider=provider, facts={"fetch": fetch}) as bench:
            yield bench


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_a_capability_works(bench: Bench, request_: Request) -> None:
    """The vendor serves it, and says what it cost."""
    result = await bench.ask(request_)

    assert result.cost_usd is not None


async def test_the_key_is_good(bench: Bench) -> None:
    """Connecting and showing the key costs nothing."""
    health = await bench.loaded.call("gaia_check_health", level=HealthLevel.AUTHORISED)

    assert health.is_healthy, health.reason


async def test_the_catalogue_can_be_searched(bench: Bench) -> None:
    """There are models for a common word."""
    found = await bench.loaded.call("gaia_list_models", refresh=False, search="flux")

    assert found


async def test_a_finished_task_is_found_again(bench: Bench) -> None:
    """It can be looked up by the id that Gaia minted."""
    attempt = context(**bench.facts)
    await bench.ask(REQUESTS["text-to-image"], attempt)

    found = await bench.loaded.call(
        "gaia_recover", task_id=attempt.task_id, context=attempt
    )

    assert found is not None


async def test_a_task_that_never_was_is_not_found(bench: Bench) -> None:
    """It is the one answer that lets Gaia send a task again."""
    attempt = context(**bench.facts)

    found = await bench.loaded.call(
        "gaia_recover", task_id=attempt.task_id, context=attempt
    )

    assert found is None
