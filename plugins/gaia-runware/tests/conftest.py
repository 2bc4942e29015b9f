"""A Runware on this machine, and providers that ask it."""

from collections.abc import AsyncIterator, Callable

import pytest

from gaia_core import CallContext, Secret
from gaia_core.fetching import GuardedFetcher, Reach
from gaia_core.testing import context
from gaia_core.testing.vendors.runware import RunwareVendor
from gaia_runware import RunwareProvider

KEY = "canary-8c1f5b"
"""What must show nowhere."""

Made = Callable[..., RunwareProvider]
Attempt = Callable[..., CallContext]


@pytest.fixture(name="vendor")
async def _vendor() -> AsyncIterator[RunwareVendor]:
    """Give an open stand-in that lets in one key, and repeats it in every error."""
    async with RunwareVendor(key=KEY, echo=KEY) as vendor:
        yield vendor


@pytest.fixture(name="made")
async def _made(vendor: RunwareVendor) -> AsyncIterator[Made]:
    """Give a function that makes providers; they are stopped at the end."""
    providers: list[RunwareProvider] = []

    def make(**settings: object) -> RunwareProvider:
        known = {"api_key": Secret(KEY), "base_url": vendor.url}
        providers.append(RunwareProvider(**known | settings))  # type: ignore[arg-type]
        return providers[-1]

    yield make
    for provider in providers:
        await provider.gaia_stop()


@pytest.fixture(name="provider")
def _provider(made: Made) -> RunwareProvider:
    """Give a provider over the WebSocket."""
    return made()


@pytest.fixture(name="attempt")
def _attempt(vendor: RunwareVendor) -> Attempt:
    """Give a function that makes contexts whose `fetch` reaches the stand-in."""
    reach = Reach.of(vendor.url, ())

    async def fetch(url: str) -> bytes:
        async with GuardedFetcher() as fetcher:
            return await fetcher.fetch(url, reach)

    def make(**changes: object) -> CallContext:
        return context(**{"fetch": fetch, **changes})

    return make
