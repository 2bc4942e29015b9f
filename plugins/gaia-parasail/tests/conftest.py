"""A stand-in for the service, and a provider that asks it."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gaia_core import Capability, Price, Secret
from gaia_core.testing.vendors.openai import OpenAIVendor
from gaia_parasail import Endpoint, ModelSettings, ParasailProvider

KEY = "sk-canary-of-the-right-service"
MODELS = {
    "words": ModelSettings(
        max_images=4, supported_fields=["seed"], price=Price(per_image="0.04")
    ),
    "edits": ModelSettings(
        endpoint=Endpoint.EDITS,
        capabilities=[Capability.IMAGE_TO_IMAGE, Capability.INPAINTING],
        supported_fields=["seed", "reference_images"],
        max_images=4,
        price=Price(per_image="0.04"),
    ),
    "batched": ModelSettings(
        endpoint=Endpoint.BATCH_GENERATIONS,
        max_images=4,
        supported_fields=["seed"],
        price=Price(per_image="0.04"),
    ),
    "omni": ModelSettings(
        endpoint=Endpoint.BATCH_EDITS,
        supported_fields=["reference_images"],
        image_mark="<img><|image_{}|></img>",
        price=Price(per_image="0.04"),
    ),
}


@pytest.fixture
async def vendor() -> AsyncIterator[OpenAIVendor]:
    """Give an open stand-in."""
    async with OpenAIVendor(api_key=KEY, models=(*MODELS, "vision")) as vendor:
        yield vendor


@pytest.fixture
def make(vendor: OpenAIVendor) -> Callable[..., ParasailProvider]:
    """Give what makes a provider that asks the stand-in, and looks at it often."""

    def made(**settings: Any) -> ParasailProvider:
        usual: dict[str, Any] = {
            "api_key": Secret(KEY),
            "base_url": vendor.url,
            "models": MODELS,
            "vision_model": "vision",
            "poll_interval": 0.005,
        }
        return ParasailProvider(**usual | settings)

    return made


@pytest.fixture
async def provider(
    make: Callable[..., ParasailProvider],
) -> AsyncIterator[ParasailProvider]:
    """Give a provider that asks the stand-in, and close it."""
    provider = make()
    yield provider
    await provider.gaia_stop()
