"""What Gaia relies on in every provider."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gaia_core import Capability, Price, Secret
from gaia_core.testing.conformance import ProviderConformance
from gaia_core.testing.vendors.openai import OpenAIVendor
from gaia_parasail import Endpoint, ModelSettings, ParasailProvider

WORDS = "stand-in-image"
EDITS = "stand-in-edit"
VISION = "stand-in-vision"


def made(vendor: OpenAIVendor, secret: str, **settings: Any) -> ParasailProvider:
    """Make a provider with a model for each endpoint that answers at once."""
    models = {
        WORDS: ModelSettings(
            max_images=4, supported_fields=["seed"], price=Price(per_image="0.04")
        ),
        EDITS: ModelSettings(
            endpoint=Endpoint.EDITS,
            capabilities=[Capability.IMAGE_TO_IMAGE, Capability.INPAINTING],
            supported_fields=["seed", "reference_images"],
            price=Price(per_image="0.04"),
        ),
    }
    return ParasailProvider(
        **{
            "api_key": Secret(secret),
            "base_url": vendor.url,
            "models": models,
            "vision_model": VISION,
            **settings,
        }
    )


class TestConformance(ProviderConformance):
    """The provider keeps its side of the contract, on the SDK, over sockets."""

    @pytest.fixture
    async def vendor(self, secret: str) -> AsyncIterator[OpenAIVendor]:
        """Give an open stand-in that knows the planted key."""
        vendor = OpenAIVendor(api_key=secret, models=(WORDS, EDITS, VISION))
        async with vendor:
            yield vendor

    @pytest.fixture
    def provider(self, vendor: OpenAIVendor, secret: str) -> ParasailProvider:
        """Give a provider that asks the stand-in."""
        return made(vendor, secret)

    @pytest.fixture
    def hurried_provider(self, vendor: OpenAIVendor, secret: str) -> ParasailProvider:
        """Give a provider that gives an answer up soon."""
        return made(vendor, secret, timeout=1.0)
