"""Batches of Gaia on the service's own batches: whole, interrupted, resumed."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from gaia_core import Gaia, GenerateRequest, Settings
from gaia_core.testing.vendors import Fault, Faults
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


async def test_a_batch_is_one_batch_of_the_service(
    make: Make, vendor: OpenAIVendor, tmp_path: Path
) -> None:
    """Every item gets its picture, is charged once, and goes out with the others."""
    kinds: Counter[str] = Counter()

    async with opened(make(), tmp_path) as gaia:
        async for event in gaia.batch(scenes(200)):
            kinds[event.kind] += 1

    assert kinds["done"] == 200
    assert len(vendor.desk.batches) == 1
    assert len(vendor.charges) == 200
    assert vendor.double_charges() == {}


async def test_a_line_that_fails_is_the_item_that_fails(
    make: Make, vendor: OpenAIVendor, tmp_path: Path
) -> None:
    """Items end as their lines do; what was refused for now is ordered once more."""
    vendor.desk.faults = Faults(
        script=[None, Fault.FILTERED, Fault.BUSY, Fault.DROP_AFTER]
    )

    ended = await _ended(make(), tmp_path, scenes(5))

    assert ended == {0: "done", 1: "failed", 2: "done", 3: "unknown", 4: "done"}
    assert vendor.double_charges() == {}
    assert len(vendor.charges) == 4


async def test_a_process_that_is_killed_is_succeeded(
    make: Make, vendor: OpenAIVendor, tmp_path: Path
) -> None:
    """What a killed process had ordered is found, fetched, and not ordered again."""
    vendor.desk.is_holding = True
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _CLIENT),
        env={**os.environ, "GAIA_PLACES": json.dumps(_places(vendor, tmp_path))},
    )
    try:
        await _until(lambda: vendor.desk.calls.get("retrieve", 0) > 2)
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    vendor.desk.is_holding = False
    await vendor.desk.finish()

    kinds: dict[int | None, str] = {}
    async with opened(make(), tmp_path) as gaia:
        (batch,) = await gaia.batches.latest()
        async with asyncio.timeout(120):
            async for event in gaia.batches.run(batch.id):
                kinds[event.position] = event.kind

    assert Counter(kinds.values())["done"] == 20
    assert len(vendor.desk.batches) == vendor.desk.calls["create"] == 1
    assert len(vendor.charges) == 20
    assert vendor.double_charges() == {}


_CLIENT = """
import asyncio, json, os
from gaia_core import Gaia, GenerateRequest, Price, Secret, Settings
from gaia_parasail import ModelSettings, ParasailProvider

places = json.loads(os.environ["GAIA_PLACES"])
price = Price(per_image="0.04")
model = ModelSettings(endpoint="batch-generations", max_images=4, price=price)
provider = ParasailProvider(
    api_key=Secret(places["key"]), base_url=places["url"], poll_interval=0.005,
    models={"batched": model}, vision_model="",
)
settings = Settings(database=places["database"], image_store=places["images"])
requests = [
    GenerateRequest(prompt=f"scene {n}", model="batched", width=32, height=32)
    for n in range(20)
]

async def main():
    async with Gaia.open(settings, plugins=[provider], discover=False) as gaia:
        async for _ in gaia.batch(requests):
            pass

asyncio.run(main())
"""


def _places(vendor: OpenAIVendor, folder: Path) -> dict[str, str]:
    return {
        "key": vendor.api_key,
        "url": vendor.url,
        "database": f"sqlite:///{folder / 'gaia.db'}",
        "images": str(folder / "images"),
    }


async def _ended(
    provider: ParasailProvider, folder: Path, requests: list[GenerateRequest]
) -> dict[int | None, str]:
    """Carry a batch out, and tell how each item ended."""
    kinds: dict[int | None, str] = {}
    async with opened(provider, folder) as gaia:
        async for event in gaia.batch(requests):
            kinds[event.position] = event.kind
    kinds.pop(None, None)
    return kinds


async def _until(is_so: Callable[[], bool]) -> None:
    """Wait for a state, and not for ever."""
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110  the stand-in tells nobody
            await asyncio.sleep(0.01)
