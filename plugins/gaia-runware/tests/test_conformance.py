"""What Gaia relies on in every provider, over the real SDK and a stand-in."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from gaia_core import Secret
from gaia_core.fetching import GuardedFetcher, Reach
from gaia_core.testing.conformance import ProviderConformance
from gaia_core.testing.vendors.runware import RunwareVendor
from gaia_runware import RunwareProvider


class Suite(ProviderConformance):
    """The suite, with a provider for the stand-in and a fetcher for its results."""

    @pytest_asyncio.fixture
    async def context_facts(
        self, vendor: RunwareVendor
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Let results be fetched, from where the card says."""
        async with GuardedFetcher() as fetcher:
            reach = Reach.of(vendor.url, ())

            async def fetch(url: str) -> bytes:
                return await fetcher.fetch(url, reach)

            yield {"fetch": fetch}


class TestOverTheWebSocket(Suite):
    """Everything over the WebSocket."""

    @pytest.fixture
    def provider(self, vendor: RunwareVendor) -> RunwareProvider:
        """Give a provider for the stand-in."""
        return RunwareProvider(api_key=Secret(vendor.key or ""), base_url=vendor.url)


class TestOverRest(Suite):
    """Everything over REST."""

    @pytest.fixture
    def provider(self, vendor: RunwareVendor) -> RunwareProvider:
        """Give a provider for the stand-in."""
        return RunwareProvider(
            api_key=Secret(vendor.key or ""), base_url=vendor.http_url
        )
