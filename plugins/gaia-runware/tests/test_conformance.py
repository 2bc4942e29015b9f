"""What Gaia relies on in every provider, over the real SDK and a stand-in."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from gaia_core import Secret
from gaia_core.fetching import GuardedFetcher, Reach
from gaia_core.testing.conformance import ProviderConformance
from gaia_core.testing.vendors.runware import RunwareVendor
from gaia_runware import RunwareProvider


class TestOverTheWebSocket(ProviderConformance):
    """The provider keeps its side of the contract over the WebSocket."""

    @pytest.fixture
    async def vendor(self, secret: str) -> AsyncIterator[RunwareVendor]:
        """Give a stand-in that lets in one key."""
        async with RunwareVendor(key=secret) as vendor:
            yield vendor

    @pytest.fixture
    def context_facts(self, vendor: RunwareVendor) -> Mapping[str, Any]:
        """Let results be fetched from where the vendor is, on any event loop."""
        reach = Reach.of(vendor.url, ())

        async def fetch(url: str) -> bytes:
            async with GuardedFetcher() as fetcher:
                return await fetcher.fetch(url, reach)

        return {"fetch": fetch}

    @pytest.fixture
    def provider(self, vendor: RunwareVendor) -> RunwareProvider:
        """Give a provider for the stand-in."""
        return _provider(vendor, vendor.url)

    @pytest.fixture
    def hurried_provider(self, vendor: RunwareVendor) -> RunwareProvider:
        """Give a provider that does not wait for long."""
        return _provider(vendor, vendor.url, timeout=1.0)


class TestOverRest(TestOverTheWebSocket):
    """The provider keeps its side of the contract over REST."""

    @pytest.fixture
    def provider(self, vendor: RunwareVendor) -> RunwareProvider:
        """Give a provider for the stand-in."""
        return _provider(vendor, vendor.http_url)

    @pytest.fixture
    def hurried_provider(self, vendor: RunwareVendor) -> RunwareProvider:
        """Give a provider that does not wait for long."""
        return _provider(vendor, vendor.http_url, timeout=1.0)


def _provider(
    vendor: RunwareVendor, url: str, timeout: float = 60.0
) -> RunwareProvider:
    key = Secret(vendor.key or "")
    return RunwareProvider(api_key=key, base_url=url, timeout=timeout)
