"""Batches of Gaia on the service's own batches: whole, interrupted, resumed."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gaia_core import BatchEvent, Gaia, GenerateRequest, Settings
from gaia_core.lookups import Lookup
from gaia_core.testing.vendors import Fault, Faults
from gaia_core.testing.vendors.openai import OpenAIVendor
from gaia_parasail import ParasailProvider

Make = Callable[..., ParasailProvider]


def opened(provider: ParasailProvider, folder: Path) -> Gaia:
    """Open a Gaia whose ledger and pictures outlive it."""
    settings = Settings(
        database=f"sqlite:///{folder / 'gaia.db'}", image_store=folder / "images"
    )
    gaia = Gaia.open(
        settings, plugins=[provider], lookup=Lookup(spacing=0.01), discover=False
    )
    gaia._recovery.running.pause = 0.05
    return gaia


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
    async with _program(vendor, tmp_path):
        await _until(lambda: vendor.desk.calls.get("retrieve", 0) > 2)
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


async def test_a_model_that_answers_at_once_goes_one_by_one(
    make: Make, vendor: OpenAIVendor, tmp_path: Path
) -> None:
    """Its items take a turn each, and no file, whatever goes out beside them."""
    at_once = [
        GenerateRequest(prompt=f"words {n}", model="words", width=32, height=32)
        for n in range(3)
    ]

    ended = await _ended(make(), tmp_path, [*scenes(2), *at_once])

    assert ended == dict.fromkeys(range(5), "done")
    assert [vendor.desk.lines_of(one) for one in vendor.desk.batches] == [2]
    assert len(vendor.charges) == 5


@pytest.mark.parametrize("is_silent", [False, True], ids=["told", "silent"])
async def test_a_batch_is_called_off_at_the_service(
    make: Make, vendor: OpenAIVendor, tmp_path: Path, *, is_silent: bool
) -> None:
    """What was made is kept and paid once; the rest is cancelled and costs nothing."""
    vendor.desk.is_holding, vendor.desk.is_silent = True, is_silent
    vendor.desk.cancels_after = 80

    async with opened(make(), tmp_path) as gaia:
        running = asyncio.create_task(_kinds(gaia.batch(scenes(200))))
        await _until(lambda: vendor.desk.calls.get("retrieve", 0) > 2)
        (batch,) = await gaia.batches.latest()
        await gaia.batches.cancel(batch.id)
        kinds = await running
        found = await gaia.batches.get(batch.id)
        (row,) = await gaia.ledger.usage(())
        problems = await gaia.ledger.check()

    (made,) = vendor.desk.batches.values()
    assert made.status == "cancelled"
    assert (kinds["done"], kinds["cancelled"]) == (80, 120)
    assert found is not None
    assert (found.done, found.ended) == (80, 200)
    assert row.held_usd == 0
    assert len(vendor.charges) == 80
    assert vendor.double_charges() == {}
    assert problems == []


async def test_a_batch_is_called_off_from_elsewhere(
    make: Make, vendor: OpenAIVendor, tmp_path: Path
) -> None:
    """Another process calls it off; the one at work comes to its end with it."""
    vendor.desk.is_holding, vendor.desk.cancels_after = True, 8

    async with _program(vendor, tmp_path) as process:
        await _until(lambda: vendor.desk.calls.get("retrieve", 0) > 2)
        async with opened(make(), tmp_path) as gaia:
            (batch,) = await gaia.batches.latest()
            await gaia.batches.cancel(batch.id)
        async with asyncio.timeout(60):
            status = await process.wait()

    async with opened(make(), tmp_path) as gaia:
        found = await gaia.batches.get(batch.id)
        (row,) = await gaia.ledger.usage(())
    (made,) = vendor.desk.batches.values()
    assert (status, made.status) == (0, "cancelled")
    assert found is not None
    assert (found.done, found.cancelled, found.total) == (8, 12, 20)
    assert row.held_usd == 0
    assert len(vendor.charges) == 8


@pytest.mark.parametrize("is_silent", [False, True], ids=["told", "silent"])
async def test_a_batch_of_a_process_that_is_gone_is_called_off(
    make: Make, vendor: OpenAIVendor, tmp_path: Path, *, is_silent: bool
) -> None:
    """Nobody is at work any more: the ledger knows what to call off, and to fetch."""
    vendor.desk.is_holding, vendor.desk.is_silent = True, is_silent
    vendor.desk.cancels_after = 8
    async with _program(vendor, tmp_path):
        await _until(lambda: vendor.desk.calls.get("retrieve", 0) > 2)

    async with opened(make(), tmp_path) as gaia:
        (batch,) = await gaia.batches.latest()
        await gaia.batches.cancel(batch.id)
        kinds = await _kinds(gaia.batches.run(batch.id))
        (row,) = await gaia.ledger.usage(())
        problems = await gaia.ledger.check()

    (made,) = vendor.desk.batches.values()
    assert made.status == "cancelled"
    assert (kinds["done"], kinds["cancelled"]) == (8, 12)
    assert row.held_usd == 0
    assert len(vendor.charges) == 8
    assert problems == []


async def test_who_stops_calls_nothing_off(
    make: Make, vendor: OpenAIVendor, tmp_path: Path
) -> None:
    """A program that merely ends leaves the service at work."""
    vendor.desk.is_holding = True

    async with opened(make(), tmp_path) as gaia:
        running = asyncio.create_task(_kinds(gaia.batch(scenes(5))))
        await _until(lambda: vendor.desk.calls.get("retrieve", 0) > 2)
        running.cancel()
        await asyncio.wait([running])

    assert "cancel" not in vendor.desk.calls


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


@asynccontextmanager
async def _program(
    vendor: OpenAIVendor, folder: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Have a process work on a batch, and kill it at last if it still does."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _CLIENT),
        env={**os.environ, "GAIA_PLACES": json.dumps(_places(vendor, folder))},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def _kinds(events: AsyncIterator[BatchEvent]) -> Counter[str]:
    """Count what becomes of items, until the batch has ended."""
    async with asyncio.timeout(120):
        return Counter([event.kind async for event in events])


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
