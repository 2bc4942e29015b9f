"""A look at the providers: started, listed and stopped, and nothing else."""

import asyncio
from collections.abc import Sequence

import attrs
import pytest

from gaia_core import ModelInfo, Settings, hookimpl
from gaia_core.assortment import Assortment
from gaia_core.plugins import load_plugins
from gaia_core.showroom import Showroom
from gaia_core.testing import FakeProvider
from gaia_core.upkeep import Upkeep


def _room(provider: object) -> Showroom:
    plugins = load_plugins(Settings(), extra=[provider], entry_points=())
    return Showroom(
        settings=Settings(),
        assortment=Assortment(plugins=plugins),
        upkeep=Upkeep(plugins=plugins, patience=5),
    )


async def test_providers_are_started_and_stopped() -> None:
    """Inside they run and are listed; outside they do not."""
    provider = FakeProvider()

    async with _room(provider) as room:
        was_running = provider.is_running
        models = room.assortment.models()

    assert [model.id for model in models] == ["fake"]
    assert was_running
    assert not provider.is_running


async def test_opening_that_is_cancelled_stops_the_providers() -> None:
    """Whoever gives up while it opens leaves nothing running."""
    listing = asyncio.Event()

    @attrs.define(eq=False, kw_only=True)
    class Slow(FakeProvider):
        @hookimpl
        async def gaia_list_models(self) -> Sequence[ModelInfo]:
            listing.set()
            await asyncio.Event().wait()
            return ()

    provider = Slow()
    opening = asyncio.create_task(_room(provider).__aenter__())
    await listing.wait()
    was_running = provider.is_running

    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening

    assert was_running
    assert not provider.is_running
