"""
The real service, one call for each capability; it costs a few cents.

``pytest -m live plugins/gaia-gemini`` with GEMINI_API_KEY set, and for upscaling with
GOOGLE_GENAI_USE_VERTEXAI, GOOGLE_CLOUD_PROJECT and GOOGLE_CLOUD_LOCATION.
"""

import os
from collections.abc import AsyncIterator

import pytest

from gaia_core import (
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    HealthLevel,
    Image,
    ImageResult,
    Outpaint,
    Secret,
    UpscaleRequest,
)
from gaia_core.testing import context, samples
from gaia_gemini import GeminiProvider

KEY = os.environ.get("GEMINI_API_KEY") or os.environ.get("GOOGLE_API_KEY")
PROJECT = os.environ.get("GOOGLE_CLOUD_PROJECT")
SUBJECT = Image.from_bytes(samples.subject(512, 512))
LITE = "gemini-3.1-flash-lite-image"

pytestmark = pytest.mark.live


@pytest.fixture(name="live")
async def _live() -> AsyncIterator[GeminiProvider]:
    if not KEY:
        pytest.skip("GEMINI_API_KEY is not set")
    provider = GeminiProvider(api_key=Secret(KEY))
    yield provider
    await provider.gaia_stop()


def _assert_made(result: ImageResult) -> None:
    (image,) = result.images
    image.image.decode()
    assert result.cost_usd is None or 0 < result.cost_usd < 1


async def test_the_key_is_accepted(live: GeminiProvider) -> None:
    """The service accepts the key, and lists models that draw."""
    health = await live.gaia_check_health(HealthLevel.AUTHORISED)
    listed = await live.gaia_list_models(refresh=True, search=None)

    assert health.is_healthy, health.reason
    assert LITE in {card.id for card in listed}


async def test_words_become_a_picture(live: GeminiProvider) -> None:
    """Text-to-image."""
    request = GenerateRequest(prompt="a red dragon over a ruined keep", model=LITE)

    result = await live.gaia_generate(request, context())

    _assert_made(result)
    assert (result.images[0].width, result.images[0].height) == (1024, 1024)


async def test_a_picture_becomes_another(live: GeminiProvider) -> None:
    """Image-to-image."""
    request = GenerateRequest(prompt="make it blue", image=SUBJECT, model=LITE)

    _assert_made(await live.gaia_generate(request, context()))


async def test_a_region_is_repainted(live: GeminiProvider) -> None:
    """Inpainting; outside the mask nothing changes."""
    request = GenerateRequest(
        prompt="a golden coin",
        image=SUBJECT,
        mask_image=samples.mask(512, 512),
        model=LITE,
    )

    result = await live.gaia_generate(request, context())

    _assert_made(result)
    new = result.images[0].image.decode()
    assert new.getpixel((500, 500)) == SUBJECT.decode().getpixel((500, 500))


async def test_a_picture_is_extended(live: GeminiProvider) -> None:
    """Outpainting."""
    request = GenerateRequest(
        prompt="a red disc on a white wall",
        image=SUBJECT,
        outpaint=Outpaint(left=128, right=128),
        model=LITE,
    )

    result = await live.gaia_generate(request, context())

    _assert_made(result)
    assert result.images[0].width == 768


async def test_a_prompt_is_worked_out(live: GeminiProvider) -> None:
    """Prompt enhancement."""
    request = EnhancePromptRequest(prompt="a keep", max_length=300)

    result = await live.gaia_enhance_prompt(request, context())

    assert 0 < len(result.prompt) <= 300


async def test_a_picture_is_described(live: GeminiProvider) -> None:
    """Image description."""
    request = DescribeImageRequest(image=SUBJECT, question="Which colour is the disc?")

    result = await live.gaia_describe_image(request, context())

    assert "red" in result.description.lower()


async def test_a_picture_is_enlarged() -> None:
    """Upscaling, on Vertex AI."""
    if not (PROJECT and os.environ.get("GOOGLE_GENAI_USE_VERTEXAI")):
        pytest.skip("GOOGLE_GENAI_USE_VERTEXAI and GOOGLE_CLOUD_PROJECT are not set")
    location = os.environ.get("GOOGLE_CLOUD_LOCATION", "us-central1")
    provider = GeminiProvider(vertexai=True, project=PROJECT, location=location)

    result = await provider.gaia_upscale(
        UpscaleRequest(image=SUBJECT, upscale_factor=2), context()
    )
    await provider.gaia_stop()

    _assert_made(result)
    assert result.images[0].width == 1024
