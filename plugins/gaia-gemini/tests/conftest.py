"""What the tests of Gemini have in common: a stand-in and a provider that asks it."""

from collections.abc import AsyncIterator

import pytest

from gaia_core import Secret
from gaia_core.testing.vendors.gemini import GeminiVendor
from gaia_gemini import GeminiProvider


@pytest.fixture(name="vendor")
async def _vendor() -> AsyncIterator[GeminiVendor]:
    async with GeminiVendor() as vendor:
        yield vendor


@pytest.fixture(name="provider")
async def _provider(vendor: GeminiVendor) -> AsyncIterator[GeminiProvider]:
    provider = GeminiProvider(api_key=Secret(vendor.api_key), base_url=vendor.url)
    yield provider
    await provider.gaia_stop()


@pytest.fixture(name="on_vertex")
async def _on_vertex(vendor: GeminiVendor) -> AsyncIterator[GeminiProvider]:
    provider = GeminiProvider(
        api_key=Secret(vendor.api_key), vertexai=True, vertex_base_url=vendor.url
    )
    yield provider
    await provider.gaia_stop()
