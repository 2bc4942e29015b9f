"""Batches of Gaia on the service's own batches: whole, interrupted, resumed."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from gaia_core import Gaia, GenerateRequest, Settings
from gaia_core.testing.vendors.openai import OpenAIVendor
from gaia_parasail import ParasailProvider

Make = Callable[..., ParasailProvider]


def opened(provider: ParasailProvider, folder: Path) -> Gaia:
    """Open a Gaia whose ledger and pictures outlive it."""
    settings = Settings(
        database=f"sqlite:///{folder / 'gaia.db'}", image_store=folder / "images"
    )
    return Gaia.open(settings, plugins=[provider], discover=False)


def scenes(count: int) -> list[GenerateRequest]:
    """Make requests that differ."""
    return [
        GenerateRequest(prompt=f"scene {n}", model="batched", width=32, height=32)
        for n in range(count)
    ]


async def test_a_thousand_lines_are_one_batch_of_the_service(
    make: Make, vendor: OpenAIVendor, tmp_path: Path
) -> None:
    """Every item gets its picture, is charged once, and goes out with the others."""
    kinds: Counter[str] = Counter()

    async with opened(make(), tmp_path) as gaia:
        async for event in gaia.batch(scenes(1_000)):
            kinds[event.kind] += 1

    assert kinds["done"] == 1_000
    assert len(vendor.desk.batches) == 1
    assert len(vendor.charges) == 1_000
    assert vendor.double_charges() == {}
