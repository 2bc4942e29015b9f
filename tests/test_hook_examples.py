"""The example of a vendor's batch in the specifications of hooks does what it says."""

import asyncio
import inspect
import re
import textwrap
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

import gaia_core
from gaia_core import (
    Gaia,
    GeneratedImage,
    ImageResult,
    ProviderInfo,
    ProviderUnavailableError,
    hookimpl,
    hookspecs,
)
from gaia_core.lookups import Lookup
from gaia_core.testing import FakeProvider, png
from tests.batches.mill import requests_of, settings_in
from tests.waiting import until

HOOKS = ("gaia_generate_many", "gaia_cancel")


@attrs.define(eq=False)
class Vendor:
    """
    Takes a file of requests, and makes them when it is let go.

    Attributes:
        files: What was handed in: file to its keys.
        orders: The files that were ordered, one batch each.
        cancelled: Those that were called off.
        go: Lets it go.
    """

    files: dict[str, list[str]] = attrs.field(factory=dict)
    orders: list[str] = attrs.field(factory=list)
    cancelled: list[str] = attrs.field(factory=list)
    go: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def upload(self, keys: list[str], prompts: Sequence[str]) -> str:
        """Take a file, which is free."""
        assert len(keys) == len(prompts)
        name = f"file-{len(self.files)}"
        self.files[name] = keys
        return name

    async def submit(self, file: str) -> Any:
        """Take an order: from here on it costs money."""
        self.orders.append(file)
        return await self.batch_of(file)

    async def batch_of(self, file: str) -> Any:
        """Find the batch of a file."""
        ordered = file in self.orders
        lines = len(self.files[file])
        return SimpleNamespace(file=file, lines=lines) if ordered else None

    async def cancel(self, batch: Any) -> None:
        """Stop."""
        self.cancelled.append(batch.file)
        self.go.set()

    async def replies(self, batch: Any) -> AsyncIterator[tuple[str, bool]]:
        """Tell what was made, when it is over."""
        await self.go.wait()
        for key in self.files[batch.file]:
            yield key, batch.file not in self.cancelled


def _image_or_error(reply: object) -> ImageResult | Exception:
    picture = GeneratedImage(data=png(16, 16))
    result = ImageResult(images=[picture], provider="hello", model="hello")
    return result if reply else ProviderUnavailableError("It was stopped.")


def _methods(names: Iterable[str]) -> dict[str, Any]:
    """Make the examples of some hooks, as their docstrings have them."""
    scope: dict[str, Any] = {
        **{name: getattr(gaia_core, name) for name in gaia_core.__all__},
        "asyncio": asyncio,
        "AsyncIterator": AsyncIterator,
        "Sequence": Sequence,
        "Counter": Counter,
        "hookimpl": hookimpl,
        "replies": SimpleNamespace(image_or_error=_image_or_error),
    }
    for name in names:
        words = inspect.cleandoc(getattr(hookspecs, name).__doc__)
        (block,) = re.findall(r"::\n\n((?: {4,}.*\n|\n)+)", words)
        exec(textwrap.dedent(block), scope)  # noqa: S102  they are our own words
    return {name: scope[name] for name in names}


def _provider(vendor: Vendor) -> FakeProvider:
    """Make a provider of the examples."""

    class Example(FakeProvider):
        @hookimpl
        def gaia_provider_info(self) -> ProviderInfo:
            own = FakeProvider.gaia_provider_info(self)
            return attrs.evolve(own, max_batch_size=50)

    members = {**_methods(HOOKS), "client": lambda _: vendor}
    kind: Any = type("Hello", (Example,), members)
    provider: FakeProvider = kind(name="hello", price_usd="0.04")
    return provider


@pytest.fixture(name="vendor")
def _vendor() -> Vendor:
    return Vendor()


def _opened(folder: Path, provider: FakeProvider) -> Gaia:
    lookup = Lookup(spacing=0.01)
    settings = settings_in(folder)
    return Gaia.open(settings, plugins=[provider], lookup=lookup, discover=False)


async def _kinds(events: Any) -> Counter[str]:
    async with asyncio.timeout(60):
        return Counter([event.kind async for event in events])


async def test_the_example_remembers_before_it_pays(
    vendor: Vendor, tmp_path: Path
) -> None:
    """The file is on the ledger for every item when the batch is ordered."""
    async with _opened(tmp_path, _provider(vendor)) as gaia:
        running = asyncio.create_task(_kinds(gaia.batch(requests_of(20))))
        await until(lambda: vendor.orders)
        (batch,) = await gaia.batches.latest()
        items = [item async for item in gaia.batches.items(batch.id)]
        vendor.go.set()
        kinds = await running

    assert {one.attempts[0].reference for one in items} == {"file-0"}
    assert kinds["done"] == 20
    assert vendor.orders == ["file-0"]


async def test_the_example_stops_what_nobody_wants(
    vendor: Vendor, tmp_path: Path
) -> None:
    """All of a batch is given up, so the vendor's is called off."""
    async with _opened(tmp_path, _provider(vendor)) as gaia:
        running = asyncio.create_task(_kinds(gaia.batch(requests_of(20))))
        await until(lambda: vendor.orders)
        (batch,) = await gaia.batches.latest()
        await gaia.batches.cancel(batch.id)
        kinds = await running

    assert set(vendor.cancelled) == {"file-0"}
    assert kinds["cancelled"] == 20
