"""A Runware on this machine, and providers that ask it."""

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from gaia_core import Secret
from gaia_core.testing.vendors.runware import RunwareVendor
from gaia_runware import RunwareProvider

KEY = "canary-8c1f5b"
"""What must show nowhere."""

Made = Callable[..., RunwareProvider]


@pytest_asyncio.fixture(name="vendor")
async def _vendor() -> AsyncIterator[RunwareVendor]:
    """Give an open stand-in that lets in one key, and repeats it in every error."""
    async with RunwareVendor(key=KEY, echo=KEY) as vendor:
        yield vendor


@pytest_asyncio.fixture(name="made")
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
