"""Vendors hear that a batch was called off, and that changes nothing in the book."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from gaia_core import (
    CallContext,
    Gaia,
    GenerateRequest,
    ImageResult,
    ProviderUnavailableError,
    hookimpl,
)
from gaia_core.batches import runs
from gaia_core.ledger import batch_book
from gaia_core.lookups import Lookup
from gaia_core.testing import FakeProvider
from gaia_core.testing.contexts import capture_events
from gaia_core.withdrawals import Withdrawals
from tests.batches.mill import Mill, requests_of, settings_in
from tests.waiting import until


@attrs.define(eq=False, kw_only=True)
class StoppingMill(Mill):
    """
    Stops when it is told to, unless it is deaf.

    Attributes:
        cancelled: The contexts of each call of the hook.
        problem: What the hook raises.
        is_deaf: Whether nothing stops.
        made: How many items of a batch are made before it stops.
    """

    cancelled: list[tuple[CallContext, ...]] = attrs.field(factory=list)
    problem: Exception | None = None
    is_deaf: bool = False
    made: int = 0

    @hookimpl
    async def gaia_generate_many(
        self, requests: Sequence[GenerateRequest], contexts: Sequence[CallContext]
    ) -> AsyncIterator[tuple[str, ImageResult | Exception]]:
        """Make some, and none after it was told to stop."""
        self.bundles.append(tuple(one.prompt for one in requests))
        await asyncio.gather(*(one.remember("batch-7") for one in contexts))
        (self.folder / "begun").touch()
        while not self.is_ready and (self.is_deaf or not self.cancelled):  # noqa: ASYNC110  another process may say so
            await asyncio.sleep(0.01)
        for place, one in enumerate(contexts):
            is_made = self.is_ready or place < self.made
            stopped = ProviderUnavailableError("It was stopped.")
            yield one.task_id, self._answer_to("mill") if is_made else stopped

    @hookimpl
    async def gaia_cancel(self, contexts: Sequence[CallContext]) -> None:
        """Note who is given up."""
        self.cancelled.append(tuple(contexts))
        if self.problem is not None:
            raise self.problem


@attrs.define(eq=False, kw_only=True)
class HangingMill(StoppingMill):
    """Never comes back from the hook."""

    @hookimpl
    async def gaia_cancel(self, contexts: Sequence[CallContext]) -> None:
        """Note who is given up, and stay."""
        await StoppingMill.gaia_cancel(self, contexts)
        await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often."""
    monkeypatch.setattr(runs, "ADOPTING", 0.05)
    monkeypatch.setattr(batch_book, "SENT_CHUNK", 3)


@asynccontextmanager
async def _opened(folder: Path, *plugins: object) -> AsyncIterator[Gaia]:
    gaia = Gaia.open(
        settings_in(folder),
        plugins=plugins,
        lookup=Lookup(spacing=0.01),
        discover=False,
    )
    async with gaia:
        yield gaia


async def _kinds(events: Any) -> Counter[str]:
    async with asyncio.timeout(60):
        return Counter([event.kind async for event in events])


async def _called_off(gaia: Gaia, mill: Mill, number: int) -> Counter[str]:
    """Begin a batch, call it off once the vendor has it, and wait for its end."""
    running = asyncio.create_task(_kinds(gaia.batch(requests_of(number))))
    await until((mill.folder / "begun").exists)
    (batch,) = await gaia.batches.latest()
    await gaia.batches.cancel(batch.id)
    return await running


async def test_the_vendor_hears_of_every_item_it_has(tmp_path: Path) -> None:
    """Each context has the attempt's task id, and what that one asked to remember."""
    mill = StoppingMill(folder=tmp_path, price_usd="0.04", made=2)

    async with _opened(tmp_path, mill) as gaia:
        kinds = await _called_off(gaia, mill, 10)
        (batch,) = await gaia.batches.latest()
        items = [item async for item in gaia.batches.items(batch.id)]
        (row,) = await gaia.ledger.usage(())
        problems = await gaia.ledger.check()

    told = mill.cancelled[0]
    assert [one.task_id for one in told] == [one.attempts[0].task_id for one in items]
    assert {one.reference for one in told} == {"batch-7"}
    assert (kinds["done"], kinds["cancelled"], kinds["unknown"]) == (2, 8, 0)
    assert row.held_usd == 0
    assert len(mill.bundles) == 1
    assert problems == []


async def test_what_was_called_off_goes_to_nobody_else(tmp_path: Path) -> None:
    """A vendor that stops is no reason to ask another one."""
    mill = StoppingMill(folder=tmp_path, price_usd="0.04", priority=9)
    other = FakeProvider(name="other", price_usd="0.04")

    async with _opened(tmp_path, mill, other) as gaia:
        kinds = await _called_off(gaia, mill, 5)

    assert kinds["cancelled"] == 5
    assert len(mill.bundles) == 1
    assert other.calls == []


@pytest.mark.parametrize("problem", [OSError("down"), ValueError("odd")], ids=repr)
async def test_a_vendor_that_fails_is_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    """Calling off succeeds all the same, and what is made is kept."""
    monkeypatch.setattr(runs, "RARELY", 0.05)
    mill = StoppingMill(
        folder=tmp_path, price_usd="0.04", problem=problem, is_deaf=True
    )

    with capture_events() as events:
        async with _opened(tmp_path, mill) as gaia:
            running = asyncio.create_task(_called_off(gaia, mill, 5))
            await until(lambda: len(mill.cancelled) > 2)
            mill.make_ready()
            kinds = await running

    failures = [one for one in events if one["event"] == "gaia.cancel_failed"]
    assert failures[0]["error"] == type(problem).__name__
    assert kinds["done"] == 5


async def test_a_vendor_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    """The hook has its time, and no more; closing waits for it no longer."""
    mill = HangingMill(folder=tmp_path, price_usd="0.04")

    async with _opened(tmp_path, mill) as gaia:
        services = gaia._parts.services
        gaia.batches.withdraw = Withdrawals(services=services, patience=0.05).withdraw
        kinds = await _called_off(gaia, mill, 5)

    assert kinds["cancelled"] == 5


async def test_who_stops_calls_nothing_off(tmp_path: Path) -> None:
    """A program that merely ends leaves the vendor at work."""
    mill = StoppingMill(folder=tmp_path, price_usd="0.04")

    async with _opened(tmp_path, mill) as gaia:
        running = asyncio.create_task(_kinds(gaia.batch(requests_of(5))))
        await until((tmp_path / "begun").exists)
        running.cancel()
        await asyncio.wait([running])

    assert mill.cancelled == []


async def test_who_cannot_stop_is_not_asked(tmp_path: Path) -> None:
    """Without the hook, what was sent comes to its end."""
    mill = Mill(folder=tmp_path, price_usd="0.04")

    async with _opened(tmp_path, mill) as gaia:
        running = asyncio.create_task(_kinds(gaia.batch(requests_of(5))))
        await until(lambda: mill.charged)
        (batch,) = await gaia.batches.latest()
        await gaia.batches.cancel(batch.id)
        mill.make_ready()
        kinds = await running

    assert kinds["done"] == 5
