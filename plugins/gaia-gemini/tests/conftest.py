"""What the tests of Gemini have in common: a stand-in and a provider that asks it."""

from collections.abc import AsyncIterator, Callable
from typing import Any

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


@pytest.fixture(name="make")
async def _make() -> AsyncIterator[Callable[..., GeminiProvider]]:
    """Give a function that makes a provider for a vendor, with further settings."""
    made: list[GeminiProvider] = []

    def make(vendor: GeminiVendor, **settings: Any) -> GeminiProvider:
        facts: dict[str, Any] = {
            "api_key": Secret(vendor.api_key),
            "base_url": vendor.url,
        }
        made.append(GeminiProvider(**facts | settings))
        return made[-1]

    yield make
    for provider in made:
        await provider.gaia_stop()


@pytest.fixture(name="on_vertex")
async def _on_vertex(vendor: GeminiVendor) -> AsyncIterator[GeminiProvider]:
    provider = GeminiProvider(
        api_key=Secret(vendor.api_key), vertexai=True, vertex_base_url=vendor.url
    )
    yield provider
    await provider.gaia_stop()
