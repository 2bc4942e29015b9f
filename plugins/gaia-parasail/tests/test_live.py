"""One call per capability at Parasail itself; it costs less than a cent at once."""

import os
import time
from collections.abc import AsyncIterator

import pytest

from gaia_core import (
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    HealthLevel,
    Image,
    ImageResult,
    Secret,
)
from gaia_core.testing import context, samples
from gaia_parasail import ParasailProvider

KEY = os.environ.get("PARASAIL_API_KEY", "")
MINUTES = 10
VISION = "parasail-qwen3vl-8b-instruct"
PICTURE = Image.from_bytes(samples.subject(256, 256))

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not KEY, reason="PARASAIL_API_KEY is not set"),
]


@pytest.fixture(name="provider")
async def _provider() -> AsyncIterator[ParasailProvider]:
    """Give a provider with the real key."""
    provider = ParasailProvider(api_key=Secret(KEY))
    yield provider
    await provider.gaia_stop()


async def test_the_key_is_taken(provider: ParasailProvider) -> None:
    """The service lists its models to whoever has the key."""
    health = await provider.gaia_check_health(HealthLevel.AUTHORISED)

    assert health.reason is None


async def test_the_known_models_are_listed(provider: ParasailProvider) -> None:
    """The model that looks at pictures is still there."""
    found = await provider.gaia_list_models(refresh=True, search=VISION)

    assert VISION in {card.id for card in found}


async def test_a_picture_is_described(provider: ParasailProvider) -> None:
    """The answer shows that the picture was seen, and what it cost."""
    request = DescribeImageRequest(
        image=PICTURE, question="Which colour is the round thing?", model=VISION
    )

    result = await provider.gaia_describe_image(request, context())

    assert "red" in result.description.lower()
    assert result.cost_usd


async def test_a_prompt_is_worked_out(provider: ParasailProvider) -> None:
    """The prompt is longer than the words, and no longer than asked for."""
    request = EnhancePromptRequest(prompt="a keep", max_length=300, model=VISION)

    result = await provider.gaia_enhance_prompt(request, context())

    assert len("a keep") < len(result.prompt) <= 300


async def test_a_batch_takes_a_picture(provider: ParasailProvider) -> None:
    """
    OmniGen is taken in batches.

    Nobody outside of Parasail knows: a failure says what the service answered.
    """
    request = GenerateRequest(
        prompt="make the round thing blue", image=PICTURE, model="Shitao/OmniGen-v1"
    )
    attempt = context(deadline=time.monotonic() + MINUTES * 60)

    answers = provider.gaia_generate_many([request], [attempt])
    found = [answer async for _, answer in answers]

    if found and "did not end in time" in str(found[0]):
        pytest.skip(f"it was taken, and is not done after {MINUTES} minutes")
    assert [type(answer) for answer in found] == [ImageResult], found
