"""What Gaia relies on in every provider: both of Gemini's services keep it."""

from collections.abc import AsyncIterator

import pytest

from gaia_core import Secret
from gaia_core.testing.conformance import ProviderConformance
from gaia_core.testing.conformance.card import CardTests
from gaia_core.testing.conformance.work import WorkTests
from gaia_core.testing.vendors.gemini import GeminiVendor
from gaia_gemini import GeminiProvider


class TestConformance(ProviderConformance):
    """The provider keeps its side of the contract with the Gemini API."""

    @pytest.fixture
    async def vendor(self, secret: str) -> AsyncIterator[GeminiVendor]:
        """Give a service that accepts one key."""
        async with GeminiVendor(api_key=secret) as vendor:
            yield vendor

    @pytest.fixture
    def provider(self, vendor: GeminiVendor) -> GeminiProvider:
        """Give a provider whose service is there."""
        return _provider(vendor)

    @pytest.fixture
    def hurried_provider(self, vendor: GeminiVendor) -> GeminiProvider:
        """Give a provider that does not wait for long."""
        return _provider(vendor, timeout=1.0)


class TestConformanceOnVertex(CardTests, WorkTests):
    """What differs on Vertex AI, and what is made there, is as it should be."""

    @pytest.fixture
    async def vendor(self) -> AsyncIterator[GeminiVendor]:
        """Give a service that accepts one key."""
        async with GeminiVendor() as vendor:
            yield vendor

    @pytest.fixture
    def provider(self, vendor: GeminiVendor) -> GeminiProvider:
        """Give a provider whose service is there."""
        return _provider(vendor, vertexai=True)


def _provider(
    vendor: GeminiVendor, *, vertexai: bool = False, timeout: float = 60.0
) -> GeminiProvider:
    return GeminiProvider(
        api_key=Secret(vendor.api_key),
        base_url=vendor.url,
        vertex_base_url=vendor.url,
        vertexai=vertexai,
        timeout=timeout,
    )
