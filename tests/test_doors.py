"""What a request passes before it costs anything, and where callers wait."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

from gaia_core import (
    AuthenticationError,
    BudgetExceededError,
    ContentFilteredError,
    Delivery,
    Gaia,
    GaiaError,
    GenerateRequest,
    IdempotencyConflictError,
    InvalidRequestError,
    LedgerError,
    NoCapableProviderError,
    OperationInProgressError,
    OutcomeUnknownError,
    ProviderTimeoutError,
    RateLimitError,
    RequestLimitError,
    Settings,
    StorageError,
    UnusableResultError,
)
from gaia_core.cache import NoCache
from gaia_core.ledger import Ledger, MemoryLedger, Operation
from gaia_core.ledger.database import Database
from gaia_core.ledger.sql import SqlLedger
from gaia_core.reliability import EgressLimits, StandardReliability
from gaia_core.replays import Replays
from gaia_core.responses import Response
from gaia_core.settings import BudgetSettings, CacheSettings, LimitSettings
from gaia_core.testing import FakeProvider, MemoryStorage, capture_events
from gaia_core.testing.pytest_plugin import OpenGaia

from .waiting import HeldProvider, let_pass, sharers, until

DRAGON = GenerateRequest(prompt="a red dragon", width=64, height=64)
SEEDED = attrs.evolve(DRAGON, seed=7)
PAID = Decimal("0.04")

MakeLedger = Callable[[], Ledger]


@pytest.fixture(name="make_ledger", params=["memory", "sqlite"])
def _make_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> MakeLedger:
    """Keep the book in memory, and in a database."""
    if request.param == "memory":
        ledger = MemoryLedger()
        return lambda: ledger
    return lambda: SqlLedger(Database(f"sqlite:///{tmp_path}/gaia.db"))


@pytest.fixture(name="open_gaia")
def _open_gaia(open_gaia: OpenGaia) -> OpenGaia:
    """Keep pictures in memory, unless a test says otherwise: the disk is slow."""
    return partial(open_gaia, storage=MemoryStorage())


# -- idempotency keys -----------------------------------------------------------------


async def test_repeated_key_is_answered_as_the_first_time(
    open_gaia: OpenGaia, make_ledger: MakeLedger
) -> None:
    """The same key gives the same response, its cost included; nothing is made."""
    provider, storage = FakeProvider(price_usd=PAID), MemoryStorage()

    async with open_gaia(provider, ledger=make_ledger(), storage=storage) as gaia:
        first = await gaia.generate(DRAGON, idempotency_key="k")
        second = await gaia.generate(DRAGON, idempotency_key="k")
    async with open_gaia(provider, ledger=make_ledger(), storage=storage) as gaia:
        third = await gaia.generate(DRAGON, idempotency_key="k")

    again = attrs.evolve(first, is_reused=True, is_replayed=True)
    assert second == third == again
    assert len(provider.charges) == 1


async def test_key_answers_although_nobody_can_serve(open_gaia: OpenGaia) -> None:
    """What was paid for is handed out again, even when no provider is left."""
    ledger, storage = MemoryLedger(), MemoryStorage()

    async with open_gaia(FakeProvider(), ledger=ledger, storage=storage) as gaia:
        first = await gaia.generate(DRAGON, idempotency_key="k")
    async with open_gaia(ledger=ledger, storage=storage) as gaia:
        again = await gaia.generate(DRAGON, idempotency_key="k")

    assert again.images == first.images


async def test_key_of_another_request_is_refused(
    open_gaia: OpenGaia, make_ledger: MakeLedger
) -> None:
    """One key cannot stand for two requests."""
    other = attrs.evolve(DRAGON, prompt="a green dragon")

    async with open_gaia(FakeProvider(), ledger=make_ledger()) as gaia:
        await gaia.generate(DRAGON, idempotency_key="k")
        with pytest.raises(IdempotencyConflictError, match="'k'"):
            await gaia.generate(other, idempotency_key="k")


async def test_keys_of_others_are_other_keys(
    open_gaia: OpenGaia, make_ledger: MakeLedger
) -> None:
    """Two principals may use the same words."""
    provider = FakeProvider()

    async with open_gaia(provider, ledger=make_ledger()) as gaia:
        for principal in ("ann", "bob"):
            await gaia.generate(DRAGON, idempotency_key="k", principal=principal)

    assert len(provider.charges) == 2


async def test_key_under_way_says_so(
    open_gaia: OpenGaia, make_ledger: MakeLedger
) -> None:
    """While the first request runs, its repetition is told to come back."""
    provider = HeldProvider(price_usd=PAID)

    async with open_gaia(provider, ledger=make_ledger()) as gaia:
        work = asyncio.create_task(gaia.generate(DRAGON, idempotency_key="k"))
        await provider.called()
        with pytest.raises(OperationInProgressError) as caught:
            await gaia.generate(DRAGON, idempotency_key="k")
        provider.go.set()
        response = await work

    assert caught.value.operation_id == response.operation_id
    assert len(provider.charges) == 1


@pytest.mark.parametrize(
    ("failure", "calls"),
    [
        (ContentFilteredError("no"), 1),
        (UnusableResultError("broken"), 1),
        (ProviderTimeoutError("lost"), 1),
        (RateLimitError("later"), 2),
    ],
    ids=["refused for good", "charged", "unknown", "refused for now"],
)
async def test_failures_are_kept_unless_they_may_pass(
    open_gaia: OpenGaia, make_ledger: MakeLedger, failure: Exception, calls: int
) -> None:
    """A key gives the failure again, but what was only busy is tried anew."""
    provider = FakeProvider(price_usd=PAID, failure=failure)
    seen = []

    async with open_gaia(provider, ledger=make_ledger()) as gaia:
        for _ in range(2):
            with pytest.raises(Exception, match=r"\w") as caught:
                await gaia.generate(DRAGON, idempotency_key="k")
            seen.append(caught.value)

    assert len(provider.calls) == calls
    assert type(seen[0]) is type(seen[1])
    assert str(seen[0]) == str(seen[1]) or calls == 2
    assert (seen[0].operation_id == seen[1].operation_id) is (calls == 1)  # type: ignore[attr-defined]


@pytest.mark.parametrize("key", ["", "x" * 256, "é" * 128], ids=["empty", "long", "é"])
async def test_key_that_is_none_is_refused(open_gaia: OpenGaia, key: str) -> None:
    """A key has 1 to 255 bytes."""
    async with open_gaia(FakeProvider()) as gaia:
        with pytest.raises(InvalidRequestError, match="1 to 255 bytes"):
            await gaia.generate(DRAGON, idempotency_key=key)


async def test_lost_pictures_are_named(open_gaia: OpenGaia) -> None:
    """A repeated key whose pictures are gone says so instead of paying again."""
    ledger, provider = MemoryLedger(), FakeProvider(price_usd=PAID)

    async with open_gaia(provider, ledger=ledger, storage=MemoryStorage()) as gaia:
        await gaia.generate(DRAGON, idempotency_key="k")
    async with open_gaia(provider, ledger=ledger, storage=MemoryStorage()) as gaia:
        with pytest.raises(StorageError, match="are gone"):
            await gaia.generate(DRAGON, idempotency_key="k")

    assert len(provider.charges) == 1


# -- equal requests -------------------------------------------------------------------


@pytest.fixture(name="sharing")
def _sharing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the operations elsewhere that anybody waits for."""
    found: list[str] = []
    shared = Replays.shared

    async def noted(self: Replays, operation: Operation, key: str) -> Response | None:
        found.append(operation.id)
        return await shared(self, operation, key)

    monkeypatch.setattr(Replays, "shared", noted)
    return found


@pytest.mark.parametrize(
    ("request_", "choices", "charges"),
    [
        (SEEDED, {}, 1),
        (DRAGON, {}, 3),
        (DRAGON, {"reuse": True}, 1),
        (SEEDED, {"reuse": False}, 3),
    ],
    ids=["seed", "no seed", "asked for", "asked against"],
)
async def test_seed_decides_about_sharing(
    open_gaia: OpenGaia,
    make_ledger: MakeLedger,
    request_: GenerateRequest,
    choices: Any,
    charges: int,
) -> None:
    """Equal requests share an answer if they have a seed, or if the caller says so."""
    provider = FakeProvider(price_usd=PAID, delay=0.05)

    async with open_gaia(provider, ledger=make_ledger()) as gaia:
        both = await asyncio.gather(
            *(gaia.generate(request_, **choices) for _ in range(2))
        )
        later = await gaia.generate(request_, **choices)

    assert len(provider.charges) == charges
    assert sum(r.cost_usd or 0 for r in (*both, later)) == charges * PAID
    assert later.is_reused is (charges == 1)


@pytest.mark.parametrize(
    "other",
    [
        {"principal": "bob"},
        {"request": attrs.evolve(SEEDED, user_id="bob")},
        {"request": attrs.evolve(SEEDED, campaign_id="eldmoor")},
        {"request": attrs.evolve(SEEDED, seed=8)},
    ],
    ids=["principal", "user", "campaign", "seed"],
)
async def test_answers_are_not_shared_with_others(
    open_gaia: OpenGaia, other: dict[str, Any]
) -> None:
    """Another tenant, campaign or seed gets a picture of its own."""
    provider = FakeProvider()
    request = other.pop("request", SEEDED)

    async with open_gaia(provider) as gaia:
        await gaia.generate(SEEDED)
        await gaia.generate(request, **other)

    assert len(provider.charges) == 2


async def _reused(open_gaia: OpenGaia, revisions: Iterable[str]) -> list[bool]:
    """Ask three times for the same of a model that tells its revision each time."""
    told = iter(revisions)
    plain = FakeProvider()
    (card,) = await plain.gaia_list_models()
    model = attrs.evolve(card, live_revision=lambda: next(told))
    async with open_gaia(FakeProvider(models=[model])) as gaia:
        return [(await gaia.generate(SEEDED)).is_reused for _ in range(3)]


@pytest.mark.parametrize(
    ("revisions", "reused"),
    [
        pytest.param("aaaa", [False, True, True], id="unchanged"),
        pytest.param("aabbb", [False, False, True], id="changed"),
        pytest.param("abbbb", [False, False, True], id="changed while it drew"),
        pytest.param("", [False, False, False], id="not told"),
    ],
)
async def test_answers_of_another_revision_are_not_used(
    open_gaia: OpenGaia, revisions: str, reused: list[bool]
) -> None:
    """A model whose weights were replaced in a running host draws anew."""
    assert await _reused(open_gaia, revisions) == reused


async def test_kept_answers_can_be_switched_off(gaia_home: Path) -> None:
    """Without a cache every request is made anew."""
    provider = FakeProvider()
    settings = Settings(
        image_store=gaia_home / "images", cache=CacheSettings(enabled=False)
    )
    gaia = Gaia.open(
        settings, plugins=[provider], ledger=MemoryLedger(), discover=False
    )

    async with gaia:
        for _ in range(2):
            await gaia.generate(SEEDED)

    assert len(provider.charges) == 2


async def test_failures_are_not_shared_for_long(open_gaia: OpenGaia) -> None:
    """All who wait hear of a failure; who asks later is served."""
    provider = FakeProvider(delay=0.05, outcomes=[RateLimitError("later")])

    async with open_gaia(provider) as gaia:
        failures = await asyncio.gather(
            *(gaia.generate(SEEDED) for _ in range(3)), return_exceptions=True
        )
        response = await gaia.generate(SEEDED)

    assert [type(one) for one in failures] == [RateLimitError] * 3
    assert len({id(one) for one in failures}) == 3
    assert response.images


async def test_leader_that_leaves_takes_nothing_from_others(
    open_gaia: OpenGaia,
) -> None:
    """Who started the work may give up; the others get the picture."""
    provider = HeldProvider(price_usd=0)

    async with open_gaia(provider) as gaia:
        leader = asyncio.create_task(gaia.generate(SEEDED))
        await provider.called()
        follower = asyncio.create_task(gaia.generate(SEEDED))
        await until(lambda: sharers(gaia) == 2)
        leader.cancel()
        await asyncio.wait([leader])
        provider.go.set()
        response = await follower

    assert response.is_reused
    assert len(provider.charges) == 1


async def test_two_processes_share_one_piece_of_work(
    open_gaia: OpenGaia, tmp_path: Path, sharing: list[str]
) -> None:
    """Equal work under way elsewhere is waited for, through the ledger."""
    first, second = HeldProvider(price_usd=PAID), FakeProvider(price_usd=PAID)
    storage = MemoryStorage()
    one = open_gaia(first, ledger=_in_file(tmp_path), storage=storage)
    two = open_gaia(second, ledger=_in_file(tmp_path), storage=storage)

    async with one, two:
        work = asyncio.create_task(one.generate(SEEDED))
        await first.called()
        waiting = asyncio.create_task(two.generate(SEEDED))
        await until(lambda: sharing)
        first.go.set()
        shared, made = await waiting, await work

    assert shared.operation_id == made.operation_id
    assert (shared.cost_usd, made.cost_usd) == (Decimal(0), PAID)
    assert len(first.charges) + len(second.charges) == 1


# -- sharing, and what must not be shared ---------------------------------------------


@pytest.fixture(name="one_at_a_time")
def _one_at_a_time() -> StandardReliability:
    return StandardReliability(limits=lambda _: EgressLimits(max_concurrent=1))


def _in_file(folder: Path) -> Ledger:
    return SqlLedger(Database(f"sqlite:///{folder}/gaia.db"))


async def test_caller_who_waited_for_an_equal_leaves_nothing_behind(
    open_gaia: OpenGaia, make_ledger: MakeLedger, sharing: list[str]
) -> None:
    """Giving up waiting for somebody else's work is no end to be written down."""
    provider = HeldProvider(price_usd=PAID)

    async with open_gaia(provider, ledger=make_ledger()) as gaia:
        first = asyncio.create_task(gaia.generate(SEEDED, idempotency_key="one"))
        await provider.called()
        second = asyncio.create_task(
            gaia.generate(SEEDED, idempotency_key="two", timeout=30)
        )
        await until(lambda: sharing)
        let_pass(31)
        with pytest.raises(ProviderTimeoutError):
            await second
        provider.go.set()
        await first
        operations = await gaia.ledger.listed()
        with capture_events() as events:
            await gaia.recover()

    assert len(operations) == 1
    assert [one["event"] for one in events] == []


async def test_called_off_elsewhere_is_made_anew(
    open_gaia: OpenGaia,
    make_ledger: MakeLedger,
    one_at_a_time: StandardReliability,
    sharing: list[str],
) -> None:
    """Who shares another's work gets a picture although the other has gone."""
    provider = HeldProvider(price_usd=PAID)

    async with open_gaia(
        provider, ledger=make_ledger(), reliability=one_at_a_time
    ) as gaia:
        busy = asyncio.create_task(gaia.generate(DRAGON))
        await provider.called()
        first = asyncio.create_task(gaia.generate(SEEDED, idempotency_key="one"))
        await until(lambda: one_at_a_time.snapshot("fake").waiting)
        second = asyncio.create_task(gaia.generate(SEEDED, idempotency_key="two"))
        await until(lambda: sharing)
        first.cancel()
        await asyncio.wait([first])
        provider.go.set()
        await busy
        response = await second

    assert response.images
    assert len(provider.charges) == 2


async def test_follower_has_its_own_time(
    open_gaia: OpenGaia, one_at_a_time: StandardReliability
) -> None:
    """Whoever began the work may have less time than those who joined it."""
    provider = HeldProvider(price_usd=PAID)

    async with open_gaia(provider, reliability=one_at_a_time) as gaia:
        busy = asyncio.create_task(gaia.generate(DRAGON))
        await provider.called()
        hasty = asyncio.create_task(gaia.generate(SEEDED, timeout=30))
        await until(lambda: one_at_a_time.snapshot("fake").waiting)
        patient = asyncio.create_task(gaia.generate(SEEDED, timeout=60))
        await until(lambda: sharers(gaia) == 3)
        let_pass(31)
        with pytest.raises(GaiaError):
            await hasty
        provider.go.set()
        await busy
        response = await patient

    assert response.images


async def test_key_stands_for_what_was_shared(
    open_gaia: OpenGaia, tmp_path: Path, sharing: list[str]
) -> None:
    """A key asked under while equal work ran answers again, and is taken."""
    provider = HeldProvider(price_usd=PAID)
    in_other_words = attrs.evolve(SEEDED, provider="fake")
    other = attrs.evolve(SEEDED, prompt="a green dragon")

    async with open_gaia(provider, ledger=_in_file(tmp_path)) as gaia:
        first = asyncio.create_task(gaia.generate(in_other_words, idempotency_key="1"))
        await provider.called()
        second = asyncio.create_task(gaia.generate(SEEDED, idempotency_key="2"))
        await until(lambda: sharing)
        provider.go.set()
        made, shared = await first, await second
        again = await gaia.generate(SEEDED, idempotency_key="2")
        with pytest.raises(IdempotencyConflictError, match="'2'"):
            await gaia.generate(other, idempotency_key="2")

    assert again.images == shared.images == made.images
    assert len(provider.charges) == 1


async def test_key_answered_from_the_store_is_taken(
    open_gaia: OpenGaia, tmp_path: Path
) -> None:
    """A key stands for its request also where the answer was there before."""
    provider = FakeProvider(price_usd=PAID)
    other = attrs.evolve(SEEDED, prompt="a green dragon")

    async with open_gaia(provider, ledger=_in_file(tmp_path)) as gaia:
        made = await gaia.generate(SEEDED)
        kept = await gaia.generate(SEEDED, idempotency_key="k")
        with pytest.raises(IdempotencyConflictError):
            await gaia.generate(other, idempotency_key="k")

    assert kept.images == made.images
    assert len(provider.charges) == 1


async def test_key_of_lost_pictures_is_not_asked_for_ever(
    open_gaia: OpenGaia, tmp_path: Path
) -> None:
    """Where pictures are gone and a key stands for them, that is the answer."""
    provider, storage = FakeProvider(price_usd=PAID), MemoryStorage()

    async with open_gaia(
        provider, ledger=_in_file(tmp_path), storage=storage, cache=NoCache()
    ) as gaia:
        await gaia.generate(SEEDED, reuse=True)
        storage.images.clear()
        with pytest.raises(StorageError, match="gone"):
            await gaia.generate(SEEDED, reuse=True, idempotency_key="k", timeout=30)


async def test_answer_of_a_substitute_is_kept_as_such(open_gaia: OpenGaia) -> None:
    """What a fallback made is no answer for who asks for the first choice alone."""
    refusal = AuthenticationError("no such key")
    first = FakeProvider(name="first", priority=9, price_usd=PAID, outcomes=[refusal])
    second = FakeProvider(name="second", price_usd=PAID)

    async with open_gaia(first, second) as gaia:
        fallen_back = await gaia.generate(SEEDED)
        named = await gaia.generate(attrs.evolve(SEEDED, provider="first"))
        allowed = await gaia.generate(SEEDED, allowed_providers=["first"])
        again = await gaia.generate(attrs.evolve(SEEDED, provider="second"))

    assert fallen_back.provider == again.provider == "second"
    assert named.provider == allowed.provider == "first"
    assert again.is_reused
    assert (len(first.charges), len(second.charges)) == (1, 1)


async def test_follower_does_not_take_what_it_would_not_ask(
    open_gaia: OpenGaia,
) -> None:
    """Nor is it an answer for who joined the work meanwhile."""
    refusal = AuthenticationError("no such key")
    first = HeldProvider(name="first", priority=9, price_usd=PAID, outcomes=[refusal])
    second = FakeProvider(name="second", price_usd=PAID)
    only_first = attrs.evolve(SEEDED, provider="first")

    async with open_gaia(first, second) as gaia:
        leader = asyncio.create_task(gaia.generate(SEEDED))
        await first.called()
        follower = asyncio.create_task(gaia.generate(only_first))
        await until(lambda: sharers(gaia) == 2)
        first.go.set()
        fallen_back, named = await leader, await follower

    assert (fallen_back.provider, named.provider) == ("second", "first")


@attrs.frozen
class SlowCache:
    """Looks for answers until it is told to stop."""

    is_asked: asyncio.Event = attrs.field(factory=asyncio.Event)
    stop: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def find(self, key: str) -> Response | None:  # noqa: ARG002  the interface
        """Find nothing, late."""
        self.is_asked.set()
        await self.stop.wait()
        return None

    async def keep(self, key: str, response: Response) -> None:
        """Keep nothing."""


async def test_nothing_begins_after_closing(
    open_gaia: OpenGaia, tmp_path: Path
) -> None:
    """A request that is still looking for an answer while Gaia closes sends nothing."""
    provider, cache = FakeProvider(price_usd=PAID), SlowCache()
    ledger = SqlLedger(Database(f"sqlite:///{tmp_path}/gaia.db"))

    async with open_gaia(provider, ledger=ledger, cache=cache) as gaia:
        late = asyncio.create_task(gaia.generate(SEEDED))
        await cache.is_asked.wait()
    cache.stop.set()

    with pytest.raises(LedgerError, match="closed"):
        await late
    with pytest.raises(LedgerError, match="not open"):
        await ledger.listed()
    assert provider.calls == []


# -- limits, budgets, choices ---------------------------------------------------------


async def test_too_many_requests_are_refused_at_the_door(open_gaia: OpenGaia) -> None:
    """Beyond the limit nothing is planned, written or sent."""
    provider = FakeProvider()
    limits = LimitSettings(requests_per_minute=2)

    async with open_gaia(provider, limits=limits) as gaia:
        for _ in range(2):
            await gaia.generate(attrs.evolve(DRAGON, user_id="ann"))
        with pytest.raises(RequestLimitError) as caught:
            await gaia.generate(attrs.evolve(DRAGON, user_id="ann"))
        await gaia.generate(attrs.evolve(DRAGON, user_id="bob"))
        statistics = gaia.statistics()

    assert 0 < caught.value.retry_after <= 60
    assert len(provider.calls) == 3
    assert (statistics.total_requests, statistics.successful_requests) == (4, 3)


async def test_budget_is_held_before_anything_is_sent(
    open_gaia: OpenGaia, tmp_path: Path
) -> None:
    """The request that would pass the budget is refused unsent."""
    provider = FakeProvider(price_usd=PAID)
    budgets = BudgetSettings(campaign_usd=Decimal("0.10"))
    ledger = SqlLedger(Database(f"sqlite:///{tmp_path}/gaia.db"), budgets=budgets)
    request = attrs.evolve(DRAGON, campaign_id="eldmoor")

    async with open_gaia(provider, ledger=ledger, budgets=budgets) as gaia:
        for _ in range(2):
            await gaia.generate(request)
        with pytest.raises(BudgetExceededError, match="eldmoor"):
            await gaia.generate(request)

    assert len(provider.calls) == 2


async def test_model_of_unknown_price_is_passed_over_under_a_budget(
    open_gaia: OpenGaia, tmp_path: Path
) -> None:
    """What cannot be held in a budget is not bought."""
    budgets = BudgetSettings(total_usd=Decimal(1))
    ledger = SqlLedger(Database(f"sqlite:///{tmp_path}/gaia.db"), budgets=budgets)
    provider = FakeProvider(price_usd=None)

    async with open_gaia(provider, ledger=ledger, budgets=budgets) as gaia:
        with pytest.raises(NoCapableProviderError, match="price is unknown"):
            await gaia.generate(DRAGON)


async def test_answer_that_must_come_may_be_paid_twice(
    open_gaia: OpenGaia, make_ledger: MakeLedger
) -> None:
    """Who asks for it at least once gets it, and hears what it may have cost."""
    provider = FakeProvider(
        price_usd=PAID,
        is_charging_failures=True,
        outcomes=[ProviderTimeoutError("lost")],
    )
    reliability = StandardReliability()

    async with open_gaia(
        provider, ledger=make_ledger(), reliability=reliability
    ) as gaia:
        response = await gaia.generate(DRAGON, delivery=Delivery.AT_LEAST_ONCE)
        operation = await gaia.operation(response.operation_id)

    assert len(provider.charges) == len(set(provider.charges)) == 2
    assert response.cost_usd == 2 * PAID
    assert "may have been paid twice" in " ".join(response.warnings)
    assert operation is not None
    assert operation.cost_usd == 2 * PAID


@pytest.mark.parametrize(
    ("choices", "budgets", "charges"),
    [
        ({"max_cost_usd": PAID}, BudgetSettings(), 1),
        ({"max_cost_usd": 2 * PAID}, BudgetSettings(), 2),
        ({}, BudgetSettings(total_usd=PAID), 1),
    ],
    ids=["ceiling", "higher ceiling", "budget"],
)
async def test_paying_twice_has_its_limits(
    open_gaia: OpenGaia,
    tmp_path: Path,
    choices: dict[str, Any],
    budgets: BudgetSettings,
    charges: int,
) -> None:
    """Neither ceiling nor budget is passed over for a picture that must come."""
    lost = [ProviderTimeoutError("lost")] * 3
    provider = FakeProvider(price_usd=PAID, is_charging_failures=True, outcomes=lost)
    ledger = SqlLedger(Database(f"sqlite:///{tmp_path}/gaia.db"), budgets=budgets)

    async with open_gaia(
        provider, ledger=ledger, reliability=StandardReliability()
    ) as gaia:
        with pytest.raises(OutcomeUnknownError):
            await gaia.generate(DRAGON, delivery=Delivery.AT_LEAST_ONCE, **choices)

    assert len(provider.charges) == charges


async def test_delivery_has_two_words(open_gaia: OpenGaia) -> None:
    """Any other word is refused."""
    async with open_gaia(FakeProvider()) as gaia:
        with pytest.raises(InvalidRequestError, match="at_most_once"):
            await gaia.generate(DRAGON, delivery="twice")


async def test_closed_breaker_says_when_it_opens(open_gaia: OpenGaia) -> None:
    """When nobody can serve for now, the caller learns when to come back."""
    provider = FakeProvider(
        price_usd=PAID, failure=ProviderTimeoutError("no answer"), is_looking_up=False
    )

    async with open_gaia(provider, reliability=StandardReliability()) as gaia:
        for _ in range(5):
            with pytest.raises(OutcomeUnknownError):
                await gaia.generate(DRAGON)
        with pytest.raises(NoCapableProviderError) as caught:
            await gaia.generate(DRAGON)

    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 12
    assert len(provider.calls) == 5


async def test_full_disk_is_found_before_paying(
    open_gaia: OpenGaia, tmp_path: Path
) -> None:
    """A store that cannot be written refuses while nothing is paid yet."""
    locked = tmp_path / "locked"
    locked.write_text("no folder")
    provider = FakeProvider(price_usd=PAID)

    async with open_gaia(provider, storage=None, image_store=locked / "in") as gaia:
        with pytest.raises(StorageError):
            await gaia.generate(DRAGON)

    assert provider.calls == []


def test_settings_have_a_cache_section() -> None:
    """The cache is on unless a person switches it off."""
    assert Settings().cache == CacheSettings(enabled=True, max_entries=100_000)


async def test_work_elsewhere_is_not_taken_from_whom_it_may_not_come(
    open_gaia: OpenGaia, tmp_path: Path, sharing: list[str]
) -> None:
    """Another process's fallback is no answer for who insists on a provider."""
    storage = MemoryStorage()
    busy = HeldProvider(name="a", priority=9, outcomes=[RateLimitError("later")])
    other = FakeProvider(name="b")
    well = FakeProvider(name="a")
    one = open_gaia(busy, other, ledger=_in_file(tmp_path), storage=storage)
    two = open_gaia(well, ledger=_in_file(tmp_path), storage=storage)

    async with one, two:
        work = asyncio.create_task(one.generate(SEEDED))
        await busy.called()
        asking = asyncio.create_task(two.generate(SEEDED, allowed_providers=["a"]))
        await until(lambda: sharing)
        busy.go.set()
        made, mine = await work, await asking

    assert (made.provider, mine.provider) == ("b", "a")
    assert not mine.is_reused


async def test_locked_ledger_holds_nobody_beyond_the_deadline(
    open_gaia: OpenGaia, tmp_path: Path
) -> None:
    """While another program keeps the database locked, waiting ends in time."""
    file = tmp_path / "gaia.db"
    ledger = SqlLedger(Database(f"sqlite:///{file}"))
    loop = asyncio.get_running_loop()

    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        gaia = open_gaia(FakeProvider(price_usd=PAID), ledger=ledger)
        async with gaia:
            start = loop.time()
            with pytest.raises(ProviderTimeoutError):
                await gaia.generate(DRAGON, timeout=0.2, idempotency_key="k")
            waited = loop.time() - start
            other.execute("ROLLBACK")

    assert waited < 5
