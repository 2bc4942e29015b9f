"""Batches over the whole of Gaia: engine, ledger, store, rules."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, cast

import attrs
import pytest

from gaia_core import (
    AuthenticationError,
    CallContext,
    ContentFilteredError,
    Gaia,
    GeneratedImage,
    GenerateRequest,
    ImageResult,
    ProviderInfo,
    RateLimitError,
    StorageError,
    hookimpl,
)
from gaia_core.batches import pacing
from gaia_core.ledger import BatchEvent
from gaia_core.reliability import SingleTry, StandardReliability
from gaia_core.reliability.standard import Standing
from gaia_core.settings import BudgetSettings, Settings
from gaia_core.storage import FileStorage
from gaia_core.testing import FakeProvider, png
from gaia_core.testing.vendors import (
    Fault,
    Faults,
    RecoverableVendorProvider,
    Vendor,
    VendorProvider,
)
from tests.waiting import HeldProvider, sharers, until

OpenGaia = Callable[..., Gaia]
PICTURE = png(16, 16)


@attrs.define(eq=False, kw_only=True)
class Press(FakeProvider):
    """Makes many pictures in one call."""

    max_batch_size: int = 4
    max_concurrent: int | None = None
    wrong: frozenset[str] = frozenset()
    bundles: list[tuple[str, ...]] = attrs.field(factory=list)
    gate: asyncio.Event | None = None
    at_once: int = 0

    @hookimpl
    def gaia_provider_info(self) -> ProviderInfo:
        """Say how much it takes."""
        return attrs.evolve(
            FakeProvider.gaia_provider_info(self),
            max_batch_size=self.max_batch_size,
            max_concurrent=self.max_concurrent,
        )

    @hookimpl
    async def gaia_generate_many(
        self, requests: Sequence[GenerateRequest], contexts: Sequence[CallContext]
    ) -> AsyncIterator[tuple[str, ImageResult | Exception]]:
        """Answer each request, some with an error."""
        self.bundles.append(tuple(request.prompt for request in requests))
        self.charges += [one.task_id for one in contexts]
        for request, context in zip(requests, contexts, strict=True):
            yield context.task_id, self._one(request)

    def _one(self, request: GenerateRequest) -> ImageResult | Exception:
        if request.prompt in self.wrong:
            return ContentFilteredError("No.")
        return ImageResult(
            images=[GeneratedImage(data=PICTURE)],
            provider=self.name,
            model=request.model or "",
            cost_usd=self.price_usd,
        )


@attrs.define(eq=False, kw_only=True)
class Single(HeldProvider):
    """Takes one request at a time, and remembers the order."""

    @hookimpl
    def gaia_provider_info(self) -> ProviderInfo:
        """Say that it takes one at a time."""
        return attrs.evolve(FakeProvider.gaia_provider_info(self), max_concurrent=1)


@pytest.fixture(name="open_gaia")
def _open_gaia(tmp_path: Path) -> OpenGaia:
    """Give a function that opens a whole `Gaia`, again and again over one ledger."""

    def opened(
        *plugins: object,
        storage: Any = None,
        reliability: Any = None,
        **settings: Any,
    ) -> Gaia:
        found = Settings(
            database=f"sqlite:///{tmp_path / 'gaia.db'}",
            image_store=tmp_path / "images",
            **settings,
        )
        return Gaia.open(
            found,
            plugins=plugins,
            storage=storage,
            reliability=reliability,
            discover=False,
        )

    return opened


def _requests(number: int, **fields: Any) -> list[GenerateRequest]:
    return [
        GenerateRequest(prompt=f"scene {index}", width=16, height=16, **fields)
        for index in range(number)
    ]


async def _all(gaia: Gaia, requests: Any, **choices: Any) -> list[BatchEvent]:
    async with asyncio.timeout(60):
        return [event async for event in gaia.batch(requests, **choices)]


def _standing(gaia: Gaia) -> Standing:
    return cast("StandardReliability", gaia.reliability).snapshot("fake")


def _kinds(events: Sequence[BatchEvent]) -> Counter[str]:
    return Counter(event.kind for event in events)


async def test_a_batch_makes_pictures(open_gaia: OpenGaia) -> None:
    """Every request becomes a stored picture, and its event says which."""
    async with open_gaia(FakeProvider(price_usd="0.02")) as gaia:
        events = await _all(gaia, _requests(5))
        done = [event for event in events if event.kind == "done"]
        images = [image["id"] for event in done for image in event.data["images"]]
        stored = [await gaia.storage.read(image_id) for image_id in images]
        batch = (await gaia.batches.latest())[0]

    assert len(stored) == 5
    assert batch.cost_usd == Decimal("0.10")
    assert events[-1].kind == "batch_finished"


async def test_an_equal_batch_is_not_made_again(open_gaia: OpenGaia) -> None:
    """The same key gives the same events, in another process of another day."""
    provider = FakeProvider()
    async with open_gaia(provider) as gaia:
        first = await _all(gaia, _requests(3), idempotency_key="tuesday")
    async with open_gaia(provider) as gaia:
        second = await _all(gaia, _requests(3), idempotency_key="tuesday")

    assert second == first
    assert len(provider.calls) == 3


async def test_equal_items_with_a_seed_are_made_once(open_gaia: OpenGaia) -> None:
    """Items that must come out alike are paid once; all of them are done."""
    provider = FakeProvider(price_usd="0.02")
    request = GenerateRequest(prompt="a keep", width=16, height=16, seed=7)

    async with open_gaia(provider) as gaia:
        events = await _all(gaia, [request] * 6)
        batch = (await gaia.batches.latest())[0]

    assert _kinds(events)["done"] == 6
    assert len(provider.charges) == 1
    assert batch.cost_usd == Decimal("0.02")


async def test_items_that_come_together_go_together(open_gaia: OpenGaia) -> None:
    """A provider that takes many requests in one call gets them so."""
    press = Press(price_usd="0.02")

    async with open_gaia(press) as gaia:
        # However slowly they come: only what is full goes.
        gaia._parts.services.bundles.window = 3_600
        events = await _all(gaia, _requests(8), max_concurrent=8)
        problems = await gaia.ledger.check()

    assert _kinds(events)["done"] == 8
    assert [len(bundle) for bundle in press.bundles] == [4, 4]
    assert len(set(press.charges)) == 8
    assert problems == []


async def test_one_of_many_may_fail(open_gaia: OpenGaia) -> None:
    """An error in a bundle fails its own item and no other."""
    press = Press(price_usd="0.02", wrong=frozenset({"scene 1"}))

    async with open_gaia(press) as gaia:
        events = await _all(gaia, _requests(4))
        batch = (await gaia.batches.latest())[0]
        items = [item async for item in gaia.batches.items(batch.id)]

    assert _kinds(events)["done"] == 3
    assert items[1].error_type == "ContentFilteredError"
    assert batch.cost_usd == Decimal("0.06")


async def test_single_requests_are_not_bundled(open_gaia: OpenGaia) -> None:
    """Only items of batches wait for company."""
    press = Press()

    async with open_gaia(press) as gaia:
        await gaia.generate(_requests(1)[0])

    assert press.bundles == []
    assert len(press.calls) == 1


async def test_people_come_before_batches(open_gaia: OpenGaia) -> None:
    """A person's request passes the items that wait for the same provider."""
    provider = Single()
    person = GenerateRequest(prompt="a person", width=16, height=16)

    async with open_gaia(provider) as gaia:
        running = asyncio.create_task(_all(gaia, _requests(40), max_concurrent=10))
        await until(lambda: _standing(gaia).waiting == 9)
        asking = asyncio.create_task(gaia.generate(person))
        await until(lambda: _standing(gaia).waiting == 10)
        provider.go.set()
        await asking
        await running

    prompts = [getattr(one, "prompt", "") for one in provider.requests]
    assert prompts.index("a person") == 1
    assert len(provider.calls) == 41


async def test_a_budget_holds_for_the_whole(open_gaia: OpenGaia) -> None:
    """A batch that costs more than is left is refused before anything is made."""
    provider = FakeProvider(price_usd="0.04")
    budgets = BudgetSettings(total_usd=Decimal("0.10"))

    async with open_gaia(provider, budgets=budgets) as gaia:
        with pytest.raises(Exception, match="total"):
            await _all(gaia, _requests(3))
        events = await _all(gaia, _requests(2))

    assert _kinds(events)["done"] == 2
    assert len(provider.charges) == 2


async def test_a_lost_answer_is_told_and_not_repeated(open_gaia: OpenGaia) -> None:
    """An item that may have been charged ends as unknown; the others are made."""
    async with (
        Vendor(faults=Faults(script=[None, Fault.DROP_AFTER])) as vendor,
        open_gaia(VendorProvider(base_url=vendor.url)) as gaia,
    ):
        events = await _all(gaia, _requests(3), max_concurrent=1)
        batch = (await gaia.batches.latest())[0]

    assert (_kinds(events)["done"], _kinds(events)["unknown"]) == (2, 1)
    assert (batch.done, batch.unknown) == (2, 1)
    assert len(vendor.charges) == vendor.requests == 3


async def test_an_equal_item_holds_no_money_for_another(open_gaia: OpenGaia) -> None:
    """What waited for an equal item whose answer was lost has cost nothing itself."""
    async with (
        Vendor(faults=Faults(script=[Fault.DROP_AFTER])) as vendor,
        open_gaia(VendorProvider(base_url=vendor.url)) as gaia,
    ):
        (request,) = _requests(1, seed=7)
        events = await _all(gaia, [request] * 3, max_concurrent=3)
        operations = await gaia.ledger.listed()
        problems = await gaia.ledger.check()

    held = [one.state for one in operations if one.reserved_usd]
    assert _kinds(events)["unknown"] == len(vendor.charges) == 1
    assert held == ["unknown"]
    assert problems == []


async def test_what_can_be_looked_up_is_made_out(open_gaia: OpenGaia) -> None:
    """With a look-up the lost answer is found, and paid once."""
    async with (
        Vendor(faults=Faults(script=[Fault.DROP_AFTER])) as vendor,
        open_gaia(RecoverableVendorProvider(base_url=vendor.url)) as gaia,
    ):
        events = await _all(gaia, _requests(3), max_concurrent=1)

    assert _kinds(events)["done"] == 3
    assert len(vendor.charges) == vendor.requests == 3


async def test_a_provider_that_is_busy_is_tried_again(open_gaia: OpenGaia) -> None:
    """Refusals that cost nothing are repeated; no item fails."""
    provider = FakeProvider(
        outcomes=[RateLimitError("slow down", retry_after=0.05), None, None]
    )

    async with open_gaia(provider) as gaia:
        events = await _all(gaia, _requests(2), max_concurrent=1)

    assert _kinds(events)["done"] == 2


async def _tried(gaia: Gaia) -> None:
    """Wait until something was tried, and waits to be tried again."""
    await gaia.batches.latest()
    async with asyncio.timeout(30):
        while True:
            queued = await gaia.ledger.listed(state="queued")
            if any(item.attempts for item in queued):
                return
            await asyncio.sleep(0.01)


async def test_a_short_outage_fails_no_item(open_gaia: OpenGaia) -> None:
    """A vendor that is gone for seconds, tried in vain or not, costs only time."""
    async with (
        Vendor(delay=0.01) as vendor,
        open_gaia(
            RecoverableVendorProvider(base_url=vendor.url), reliability=SingleTry()
        ) as gaia,
    ):
        async with vendor.closed():
            running = asyncio.create_task(_all(gaia, _requests(12), max_concurrent=4))
            await _tried(gaia)
        events = await running
        batch = (await gaia.batches.latest())[0]
        items = [item async for item in gaia.batches.items(batch.id)]
        problems = await gaia.ledger.check()

    assert _kinds(events)["done"] == 12
    assert any(len(item.attempts) > 1 for item in items)
    assert len(vendor.charges) == 12
    assert vendor.double_charges() == {}
    assert batch.cost_usd == 12 * vendor.price_usd
    assert problems == []


@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.UNAVAILABLE])
async def test_a_busy_vendor_fails_no_item(open_gaia: OpenGaia, fault: Fault) -> None:
    """Refused again and again for free, an item waits and is made in the end."""
    async with (
        Vendor(faults=Faults(script=[fault] * 12)) as vendor,
        open_gaia(VendorProvider(base_url=vendor.url), reliability=SingleTry()) as gaia,
    ):
        events = await _all(gaia, _requests(6), max_concurrent=4)
        problems = await gaia.ledger.check()

    assert _kinds(events)["done"] == 6
    assert vendor.double_charges() == {}
    assert len(vendor.charges) == 6
    assert problems == []


async def test_a_busy_vendor_beside_a_wrong_key_fails_no_item(
    open_gaia: OpenGaia,
) -> None:
    """Somebody who may serve it later counts, whoever else refused it for good."""
    busy = FakeProvider(
        name="busy",
        priority=2,
        outcomes=[RateLimitError("wait"), RateLimitError("wait")],
    )
    wrong = FakeProvider(name="wrong", outcomes=[AuthenticationError("no key")] * 9)

    async with open_gaia(busy, wrong, reliability=SingleTry()) as gaia:
        events = await _all(gaia, _requests(2), max_concurrent=1)

    assert _kinds(events)["done"] == 2


async def test_a_refusal_for_good_is_not_waited_for(open_gaia: OpenGaia) -> None:
    """What was refused for good after it was refused for now has failed."""
    provider = FakeProvider(
        outcomes=[RateLimitError("wait", retry_after=0.01), ContentFilteredError("No.")]
    )

    async with open_gaia(provider) as gaia:
        events = await _all(gaia, _requests(1))

    assert _kinds(events)["failed"] == 1
    assert len(provider.calls) == 2


async def test_patience_with_what_was_sent_ends(
    open_gaia: OpenGaia, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After as long without any success, items that were put back have failed."""
    impatient = partial(pacing.Pace, patience=0.5)
    monkeypatch.setattr(pacing, "Pace", impatient)
    provider = FakeProvider(outcomes=[RateLimitError("wait", retry_after=0.2)] * 99)

    async with open_gaia(provider, reliability=SingleTry()) as gaia:
        events = await _all(gaia, _requests(2))
        batch = (await gaia.batches.latest())[0]
        items = [item async for item in gaia.batches.items(batch.id)]

    assert _kinds(events)["failed"] == 2
    assert {item.error_type for item in items} == {"RateLimitError"}
    assert not any(item.reserved_usd for item in items)


async def test_who_leaves_in_an_outage_waits_for_nothing(open_gaia: OpenGaia) -> None:
    """An item between two attempts is put back at once, and made by the next run."""
    provider = FakeProvider(
        price_usd="0.04", outcomes=[RateLimitError("wait", retry_after=20.0)] * 2
    )

    async with open_gaia(provider) as gaia:
        batch = await gaia.batches.open(_requests(2))
        running = asyncio.create_task(_follow(gaia, batch.id))
        await until(lambda: _standing(gaia).closed_for)
        start = asyncio.get_running_loop().time()
        running.cancel()
        await asyncio.wait([running])
        seconds = asyncio.get_running_loop().time() - start
        items = [item async for item in gaia.batches.items(batch.id)]
    provider.outcomes.clear()
    async with open_gaia(provider) as gaia:
        await _follow(gaia, batch.id)
        found = await gaia.batches.get(batch.id)

    assert seconds < 5
    assert [item.state for item in items] == ["queued", "queued"]
    assert found is not None
    assert found.done == 2


async def test_who_leaves_before_a_refusal_waits_for_nothing(
    open_gaia: OpenGaia,
) -> None:
    """An item that is refused after its run was left is not tried again by it."""
    busy = RateLimitError("wait", retry_after=20.0)
    provider = HeldProvider(price_usd="0.04", outcomes=[busy])

    async with open_gaia(provider) as gaia:
        batch = await gaia.batches.open(_requests(1))
        running = asyncio.create_task(_follow(gaia, batch.id))
        await provider.called()
        (run,) = gaia.batches._runs
        running.cancel()
        await until(lambda: run._is_stopping)
        provider.go.set()
        _, waiting = await asyncio.wait([running], timeout=10)
        items = [item async for item in gaia.batches.items(batch.id)]

    assert waiting == set()
    assert [item.state for item in items] == ["queued"]
    assert len(provider.calls) == 1


async def test_who_is_refused_late_waits_too(open_gaia: OpenGaia) -> None:
    """A refusal that comes when nobody waits for it any more fails no item."""

    @attrs.define(eq=False, kw_only=True)
    class Sluggish(FakeProvider):
        """Takes long to say that it is busy."""

        refusals: int = 3

        @hookimpl
        async def gaia_generate(
            self, request: GenerateRequest, context: CallContext
        ) -> ImageResult:
            """Refuse, a few times."""
            if self.refusals:
                self.refusals -= 1
                await asyncio.sleep(0.8)
                message = "wait"
                raise RateLimitError(message)
            return await FakeProvider.gaia_generate(self, request, context)

    provider = Sluggish(price_usd="0.04")

    async with open_gaia(provider, reliability=SingleTry(), deadline=0.4) as gaia:
        events = await _all(gaia, _requests(2))
        problems = await gaia.ledger.check()

    assert _kinds(events)["done"] == 2
    assert len(provider.charges) == 2
    assert problems == []


async def test_what_takes_too_long_for_free_has_failed(open_gaia: OpenGaia) -> None:
    """A local model that never comes to an end is not tried for an hour."""
    provider = FakeProvider(delay=30)

    async with open_gaia(provider, deadline=0.3) as gaia:
        events = await _all(gaia, _requests(1))
        item = await anext(aiter(gaia.batches.items(events[0].batch_id)))

    assert _kinds(events)["failed"] == 1
    assert item.error_type == "ProviderTimeoutError"


async def test_who_leaves_work_to_others_finds_it_again(open_gaia: OpenGaia) -> None:
    """An item that only an equal request waited for is put back when that fails."""
    (request,) = _requests(1, seed=7)
    busy = RateLimitError("wait", retry_after=0.4)
    provider = FakeProvider(price_usd="0.04", outcomes=[busy] * 4)

    async with open_gaia(provider) as gaia:
        batch = await gaia.batches.open([request])
        following = asyncio.create_task(_follow(gaia, batch.id))
        await until(lambda: provider.calls)
        person = asyncio.create_task(gaia.generate(request))
        await until(lambda: sharers(gaia) == 2)
        following.cancel()
        await asyncio.wait([following])
        with pytest.raises(RateLimitError):
            await person
        items = [item async for item in gaia.batches.items(batch.id)]
        await _follow(gaia, batch.id)
        found = await gaia.batches.get(batch.id)

    assert [item.state for item in items] == ["queued"]
    assert found is not None
    assert found.done == len(provider.charges) == 1


async def test_a_full_disk_ends_no_item(open_gaia: OpenGaia, tmp_path: Path) -> None:
    """Without room nothing is paid; the batch goes on once there is some."""

    class Full(FileStorage):
        """Has no room until it is told so."""

        is_full = True

        async def check(self, expected_bytes: int = 0) -> None:
            """Refuse."""
            if self.is_full:
                message = "No room."
                raise StorageError(message)
            await super().check(expected_bytes)

    provider, storage = FakeProvider(price_usd="0.04"), Full(tmp_path / "images")

    async with open_gaia(provider, storage=storage) as gaia:
        with pytest.raises(StorageError, match="No room"):
            await _all(gaia, _requests(4), idempotency_key="k")
        charged = len(provider.charges)
        storage.is_full = False
        events = await _all(gaia, _requests(4), idempotency_key="k")

    assert charged == 0
    assert _kinds(events)["done"] == 4
    assert _kinds(events)["failed"] == 0


async def test_closing_in_the_middle_loses_nothing(open_gaia: OpenGaia) -> None:
    """A `Gaia` that is closed while a batch runs keeps what was sent."""
    provider = Single(delay=0.05, price_usd="0.04")
    provider.go.set()

    async with open_gaia(provider) as gaia:
        batch = await gaia.batches.open(_requests(10))
        running = asyncio.create_task(_follow(gaia, batch.id))
        await until(lambda: len(provider.calls) >= 2)
    await running
    async with open_gaia(provider) as gaia:
        left = await gaia.batches.get(batch.id)
        await _follow(gaia, batch.id)
        found = await gaia.batches.get(batch.id)
        problems = await gaia.ledger.check()

    assert left is not None
    assert 0 < left.done < 10
    assert (left.failed, left.unknown, left.cancelled) == (0, 0, 0)
    assert found is not None
    assert found.done == 10
    assert len(provider.charges) == len(set(provider.charges)) == 10
    assert problems == []


async def _follow(gaia: Gaia, batch_id: str) -> None:
    async with aclosing(gaia.batches.run(batch_id)) as events:
        async for _ in events:
            pass
