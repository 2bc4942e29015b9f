"""Items of a batch that a vendor has in a batch of its own, for as long as it takes."""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gaia_core import (
    Capability,
    Gaia,
    GenerateRequest,
    ModelInfo,
    NoCapableProviderError,
    OperationState,
    Price,
    ProviderTimeoutError,
    RateLimitError,
)
from gaia_core import recovery as recovering
from gaia_core.batches import runs
from gaia_core.ledger import Operation
from gaia_core.lookups import Lookup
from gaia_core.settings import ProviderSettings
from tests.batches import mill as program
from tests.batches.mill import Mill, requests_of, settings_in
from tests.waiting import until


@pytest.fixture(autouse=True)
def _without_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait for the next look at what was left behind."""
    monkeypatch.setattr(runs, "ADOPTING", 0.05)
    monkeypatch.setattr(recovering, "SHORT_PAUSE", 0.05)


@asynccontextmanager
async def _opened(folder: Path, mill: Mill, **fields: Any) -> AsyncIterator[Gaia]:
    gaia = Gaia.open(
        settings_in(folder, **fields),
        plugins=[mill],
        lookup=Lookup(spacing=0.01),
        discover=False,
    )
    gaia._recovery.running.pause = 0.05
    async with gaia:
        yield gaia


async def _kinds(events: Any) -> Counter[str]:
    async with asyncio.timeout(60):
        return Counter([event.kind async for event in events])


async def _items(gaia: Gaia, batch_id: str) -> list[Operation]:
    return [item async for item in gaia.batches.items(batch_id)]


async def _all_are(gaia: Gaia, batch_id: str, state: OperationState) -> None:
    async with asyncio.timeout(60):
        while {one.state for one in await _items(gaia, batch_id)} != {state}:  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.02)


async def _ended(process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(120):
        await process.wait()


async def _program(folder: Path, *words: str) -> asyncio.subprocess.Process:
    """Start a program that works on a batch."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(program.__file__), str(folder), *words),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )


def _mill(folder: Path, **fields: Any) -> Mill:
    return Mill(folder=folder, price_usd="0.04", **fields)


async def test_a_file_is_one_batch_of_the_vendors(tmp_path: Path) -> None:
    """However few items are under way at a time, all of them go together."""
    mill = _mill(tmp_path)
    mill.make_ready()

    async with _opened(tmp_path, mill) as gaia:
        kinds = await _kinds(gaia.batch(requests_of(60), max_concurrent=2))
        problems = await gaia.ledger.check()
        (batch,) = await gaia.batches.latest()

    assert [len(bundle) for bundle in mill.bundles] == [60]
    assert kinds["done"] == 60
    assert len(set(mill.charged)) == len(mill.charged) == 60
    assert batch.cost_usd == Decimal("2.40")
    assert problems == []


async def test_limits_count_a_batch_once(tmp_path: Path) -> None:
    """What a provider takes at a time, and a minute, is bundles, not items."""
    mill = _mill(tmp_path)
    mill.make_ready()
    own = ProviderSettings(name="mill", max_concurrent=1, requests_per_minute=1)

    async with _opened(tmp_path, mill, providers={"mill": own}) as gaia:
        kinds = await _kinds(gaia.batch(requests_of(20)))

    assert kinds["done"] == 20
    assert len(mill.bundles) == 1


async def test_no_deadline_cuts_a_vendors_batch_off(tmp_path: Path) -> None:
    """Items wait as long as the vendor may take, whatever single requests may."""
    mill = _mill(tmp_path)

    async with _opened(tmp_path, mill, deadline=0.2) as gaia:
        running = asyncio.create_task(_kinds(gaia.batch(requests_of(5))))
        await until(lambda: mill.charged)
        await asyncio.sleep(0.5)
        (batch,) = await gaia.batches.latest()
        meanwhile = await _items(gaia, batch.id)
        mill.make_ready()
        kinds = await running

    assert {one.state for one in meanwhile} == {OperationState.SENT}
    (reference,) = {one.attempts[0].reference for one in meanwhile}
    assert (tmp_path / str(reference)).exists()
    assert kinds["done"] == 5


async def test_who_is_killed_gets_everything_back(tmp_path: Path) -> None:
    """After a crash the vendor's batch is waited for, and nothing is made twice."""
    process, mill = await _program(tmp_path, "12"), _mill(tmp_path)
    await until(lambda: len(mill.charged) == 12, patience=120)
    process.send_signal(signal.SIGKILL)
    await _ended(process)

    async with _opened(tmp_path, mill) as gaia:
        (batch,) = await gaia.batches.latest()
        running = asyncio.create_task(_kinds(gaia.batches.run(batch.id)))
        await until(lambda: len(mill.asked) > 12)
        meanwhile = await _items(gaia, batch.id)
        is_running = not running.done()
        mill.make_ready()
        kinds = await running
        items = await _items(gaia, batch.id)
        problems = await gaia.ledger.check()

    assert is_running
    assert {one.state for one in meanwhile} == {OperationState.SENT}
    assert (kinds["started"], kinds["done"]) == (12, 12)
    assert all(one.image_ids for one in items)
    assert mill.bundles == []
    assert len(set(mill.charged)) == len(mill.charged) == 12
    assert problems == []


async def test_what_the_vendor_never_heard_of_is_sent_again(tmp_path: Path) -> None:
    """A crash between the ledger and the vendor leaves no question open."""
    process, mill = await _program(tmp_path, "12", "early"), _mill(tmp_path)
    await _ended(process)
    mill.make_ready()

    async with _opened(tmp_path, mill) as gaia:
        (batch,) = await gaia.batches.latest()
        left = await _items(gaia, batch.id)
        kinds = await _kinds(gaia.batches.run(batch.id))
        problems = await gaia.ledger.check()

    assert process.returncode == -signal.SIGKILL
    assert {one.state for one in left} == {OperationState.SENT}
    assert {one.attempts[0].reference for one in left} == {""}
    assert (kinds["done"], kinds["unknown"]) == (12, 0)
    assert len(set(mill.charged)) == len(mill.charged) == 12
    assert problems == []


async def test_what_waits_for_company_is_called_off(tmp_path: Path) -> None:
    """Of a batch that is called off while it fills up, nothing is sent."""
    mill = _mill(tmp_path)

    async with _opened(tmp_path, mill) as gaia:
        gaia._parts.services.bundles.window = 3_600
        running = asyncio.create_task(_kinds(gaia.batch(requests_of(30))))
        await until(lambda: len(gaia._parts.services.bundles.places._left) == 30)
        (batch,) = await gaia.batches.latest()
        await gaia.batches.cancel(batch.id)
        kinds = await running

    assert kinds["cancelled"] == 30
    assert mill.bundles == []


async def test_who_closes_waits_for_no_vendor(tmp_path: Path) -> None:
    """What a vendor works on is left to it, and found again by whoever comes next."""
    mill, second = _mill(tmp_path), _mill(tmp_path)

    async with _opened(tmp_path, mill) as gaia:
        running = asyncio.create_task(_kinds(gaia.batch(requests_of(6))))
        await until(lambda: mill.charged)
        running.cancel()
        await asyncio.wait([running], timeout=20)
        is_left = running.done()
        closing = asyncio.get_running_loop().time()
    took = asyncio.get_running_loop().time() - closing
    async with _opened(tmp_path, second) as gaia:
        (batch,) = await gaia.batches.latest()
        left = await _items(gaia, batch.id)
        second.make_ready()
        kinds = await _kinds(gaia.batches.run(batch.id))

    assert is_left
    assert took < 20
    assert {one.state for one in left} == {OperationState.SENT}
    assert kinds["done"] == 6
    assert len(set(mill.charged)) == len(mill.charged) == 6
    assert second.bundles == []


async def test_who_stops_listening_gets_what_comes(tmp_path: Path) -> None:
    """A run that is left leaves its items to the vendor; what comes is stored."""
    mill = _mill(tmp_path)

    async with _opened(tmp_path, mill) as gaia:
        running = asyncio.create_task(_kinds(gaia.batch(requests_of(6))))
        await until(lambda: mill.charged)
        running.cancel()
        await asyncio.wait([running], timeout=20)
        (batch,) = await gaia.batches.latest()
        mill.make_ready()
        await _all_are(gaia, batch.id, OperationState.DONE)

    assert len(mill.charged) == 6


async def test_who_stops_before_the_vendor_is_asked_puts_all_back(
    tmp_path: Path,
) -> None:
    """Items that only wait for company are queued again, all at once."""
    mill = _mill(tmp_path)

    async with _opened(tmp_path, mill) as gaia:
        gaia._parts.services.bundles.window = 3_600
        running = asyncio.create_task(_kinds(gaia.batch(requests_of(30))))
        await until(lambda: len(gaia._parts.services.bundles.places._left) == 30)
        running.cancel()
        await asyncio.wait([running], timeout=20)
        (batch,) = await gaia.batches.latest()
        states = {one.state for one in await _items(gaia, batch.id)}
        gaia._parts.services.bundles.window = 0.05
        mill.make_ready()
        kinds = await _kinds(gaia.batches.run(batch.id))

    assert states == {OperationState.QUEUED}
    assert kinds["done"] == 30
    assert len(mill.charged) == 30


@pytest.mark.parametrize(
    "breaks", [None, ProviderTimeoutError("lost")], ids=["unanswered", "broken-off"]
)
async def test_what_is_not_answered_is_looked_up(
    tmp_path: Path, breaks: Exception | None
) -> None:
    """Answers that were lost on the way are asked for, and cost nothing more."""
    unanswered = frozenset(f"scene {index}" for index in range(3, 9))
    mill = _mill(tmp_path, unanswered=unanswered, breaks=breaks)
    mill.make_ready()

    async with _opened(tmp_path, mill) as gaia:
        kinds = await _kinds(gaia.batch(requests_of(9)))
        problems = await gaia.ledger.check()

    assert (kinds["done"], kinds["unknown"]) == (9, 0)
    assert len(set(mill.asked)) == 6
    assert len(set(mill.charged)) == len(mill.charged) == 9
    assert problems == []


async def test_a_vendor_that_is_busy_gets_all_of_it_later(tmp_path: Path) -> None:
    """A batch that is refused for now fails no item, and is sent again."""
    refusals = [RateLimitError("Too many batches.", retry_after=0.1)]

    def refuse() -> None:
        if refusals:
            raise refusals.pop()

    mill = _mill(tmp_path, before=refuse)
    mill.make_ready()

    async with _opened(tmp_path, mill) as gaia:
        kinds = await _kinds(gaia.batch(requests_of(150)))
        problems = await gaia.ledger.check()

    assert kinds["done"] == 150
    assert len(mill.bundles[0]) == 150
    assert len(set(mill.charged)) == len(mill.charged) == 150
    assert problems == []


# -- models that answer in batches only ---------------------------------------------


def _batch_only() -> ModelInfo:
    return ModelInfo(
        id="slow",
        name="Slow",
        provider="mill",
        capabilities={Capability.TEXT_TO_IMAGE},
        price=Price(per_image=Decimal("0.04")),
        is_batch_only=True,
    )


async def test_a_model_for_batches_serves_batches_alone(tmp_path: Path) -> None:
    """A single request is told where to go; an item of a batch is served."""
    mill = _mill(tmp_path, models=[_batch_only()])
    mill.make_ready()
    request = GenerateRequest(prompt="a keep", width=16, height=16)

    async with _opened(tmp_path, mill) as gaia:
        alone, item = gaia.plan(request), gaia.plan(request, is_batch=True)
        with pytest.raises(NoCapableProviderError, match="gaia batch"):
            await gaia.generate(request)
        with pytest.raises(NoCapableProviderError, match="in batches only"):
            await gaia.generate(request, is_batch=True)
        kinds = await _kinds(gaia.batch([request]))
        (batch,) = await gaia.batches.latest()

    assert alone.best is None
    assert item.best is not None
    assert kinds["done"] == 1
    assert batch.cost_usd == Decimal("0.04")
