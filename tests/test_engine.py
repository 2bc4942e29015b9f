"""The doors of Gaia: what comes in, what is asked of providers, what goes out."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import Any

import attrs
import pytest

from gaia_core import (
    Capability,
    Gaia,
    GaiaError,
    GeneratedImage,
    GenerateRequest,
    Health,
    HealthLevel,
    ImageResult,
    InvalidRequestError,
    ModelInfo,
    NoCapableProviderError,
    PluginError,
    Policy,
    Price,
    ProviderInfo,
    Quality,
    RateLimitError,
    Settings,
    SettingsError,
    Speed,
    UpscaleRequest,
    doors,
    engine,
    hookimpl,
    upkeep,
)
from gaia_core.cache import NoCache
from gaia_core.choices import PlanChoices
from gaia_core.ledger import MemoryLedger
from gaia_core.requests import Request
from gaia_core.responses import Response
from gaia_core.settings import BudgetSettings, PluginSettings, ProviderSettings
from gaia_core.testing import FakeProvider, MemoryStorage, capture_events, png
from gaia_core.testing.pytest_plugin import OpenGaia

from .waiting import HeldProvider, let_pass, until

DRAGON = GenerateRequest(prompt="a red dragon", width=64, height=64)


@pytest.fixture(name="open_gaia")
def _open_gaia(open_gaia: OpenGaia) -> OpenGaia:
    """Keep pictures in memory, unless a test says otherwise: the disk is slow."""
    return partial(open_gaia, storage=MemoryStorage())


# -- opening --------------------------------------------------------------------------


async def test_open_reads_the_settings(gaia_home: Any) -> None:
    """Without settings Gaia goes by the file and the environment."""
    (gaia_home / "gaia.toml").write_text('[gaia]\npolicy = "cheapest"\n')

    async with Gaia.open(plugins=[FakeProvider()], discover=False) as gaia:
        response = await gaia.generate(DRAGON)

    assert gaia.settings.policy is Policy.CHEAPEST
    assert response.images[0].path.is_file()


async def test_without_providers_every_request_is_refused(open_gaia: OpenGaia) -> None:
    """An empty Gaia opens, and says that nobody can serve."""
    async with open_gaia() as gaia:
        with pytest.raises(NoCapableProviderError, match="text-to-image"):
            await gaia.generate(DRAGON)


async def test_providers_start_and_stop(open_gaia: OpenGaia) -> None:
    """Providers are started before the first request and stopped at the end."""
    provider = FakeProvider()

    async with open_gaia(provider):
        was_running = provider.is_running

    assert was_running
    assert not provider.is_running


async def test_the_last_to_start_stops_first(open_gaia: OpenGaia) -> None:
    """Providers stop in the reverse of the order they started in."""
    order: list[str] = []

    class Noting(FakeProvider):
        @hookimpl
        async def gaia_start(self) -> None:
            order.append(f"start {self.name}")

        @hookimpl
        async def gaia_stop(self) -> None:
            order.append(f"stop {self.name}")

    async with open_gaia(Noting(name="a", priority=2), Noting(name="b")):
        pass

    assert order == ["start a", "start b", "stop b", "stop a"]


async def test_middleware_starts_and_stops(open_gaia: OpenGaia) -> None:
    """Middleware has the upkeep hooks, too."""
    seen: list[str] = []

    class Counting:
        @hookimpl
        async def gaia_start(self) -> None:
            seen.append("start")

        @hookimpl
        async def gaia_stop(self) -> None:
            seen.append("stop")

    async with open_gaia(FakeProvider(), Counting()):
        pass

    assert seen == ["start", "stop"]


class _Unready:
    """Middleware whose upkeep hooks fail before there is anything to wait for."""

    @hookimpl
    def gaia_start(self) -> None:
        """Fail."""
        message = "not ready"
        raise RuntimeError(message)

    @hookimpl
    def gaia_stop(self) -> None:
        """Fail."""
        message = "not ready"
        raise RuntimeError(message)


async def test_middleware_that_does_not_start_or_stop_harms_nobody(
    open_gaia: OpenGaia,
) -> None:
    """Providers start, work and stop beside middleware that fails at both."""
    provider = FakeProvider()

    with capture_events() as events:
        async with open_gaia(provider, _Unready()) as gaia:
            response = await gaia.generate(DRAGON)

    assert response.provider == "fake"
    assert not provider.is_running
    assert [event["event"] for event in events if "_failed" in event["event"]] == [
        "gaia.start_failed",
        "gaia.stop_failed",
    ]


async def test_opening_that_is_given_up_stops_what_was_started(
    open_gaia: OpenGaia,
) -> None:
    """Whoever gives up while models are listed leaves no provider running."""
    provider = FakeProvider()

    class Slow(FakeProvider):
        @hookimpl
        async def gaia_list_models(self) -> Any:
            await _hang()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), open_gaia(provider, Slow(name="slow")):
            pass

    assert not provider.is_running


async def test_it_works_inside_its_block_only(open_gaia: OpenGaia) -> None:
    """Neither before, nor after, nor twice at once; one after another is fine."""
    gaia = open_gaia(FakeProvider())

    with pytest.raises(RuntimeError, match="inside `async with`"):
        await gaia.generate(DRAGON)
    async with gaia:
        with pytest.raises(RuntimeError, match="open already"):
            await gaia.__aenter__()
        await gaia.generate(DRAGON)
    with pytest.raises(RuntimeError, match="inside `async with`"):
        gaia.plan(DRAGON)
    async with gaia:
        assert (await gaia.generate(DRAGON)).images


async def test_closing_waits_for_work_under_way(open_gaia: OpenGaia) -> None:
    """What somebody still waits for is finished before the providers stop."""
    running: list[bool] = []

    class Watched(HeldProvider):
        @hookimpl
        async def gaia_generate(self, request: Any, context: Any) -> ImageResult:
            result = await FakeProvider.gaia_generate(self, request, context)
            running.append(self.is_running)
            return result

    provider = Watched(price_usd="0.04")

    async with open_gaia(provider) as gaia:
        work = asyncio.ensure_future(gaia.generate(DRAGON))
        await provider.called()
        letting_go = asyncio.create_task(_let_go_at_closing(gaia, provider))
    await letting_go

    assert (await work).images
    assert running == [True]


async def test_closing_begins_nothing_new(open_gaia: OpenGaia) -> None:
    """Work under way at closing is not taken to another provider."""
    first = HeldProvider.failing(RateLimitError("busy"), priority=9)
    second = FakeProvider(name="second")

    async with open_gaia(first, second) as gaia:
        work = asyncio.ensure_future(gaia.generate(DRAGON))
        await first.called()
        letting_go = asyncio.create_task(_let_go_at_closing(gaia, first))
    await letting_go

    with pytest.raises(RateLimitError):
        await work
    assert second.calls == []


async def _let_go_at_closing(gaia: Gaia, provider: HeldProvider) -> None:
    await until(lambda: gaia._door._is_closed)
    provider.go.set()


async def _fail() -> None:
    message = "no device"
    raise OSError(message)


async def _hang() -> None:
    await asyncio.sleep(60)


async def _exit() -> None:
    raise SystemExit


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (_fail, "gaia_start failed: OSError"),
        (_hang, "gaia_start failed: TimeoutError"),
        (_exit, "gaia_start failed: broken gave up"),
    ],
    ids=["raises", "hangs", "exits"],
)
async def test_provider_that_does_not_start_is_passed_over(
    open_gaia: OpenGaia, start: Any, reason: str
) -> None:
    """A provider that cannot start harms nobody, and says why it is not asked."""

    class Broken(FakeProvider):
        @hookimpl
        async def gaia_start(self) -> None:
            await start()

    broken = Broken(name="broken", priority=9)

    with capture_events() as events:
        async with open_gaia(
            broken, FakeProvider(), plugins=PluginSettings(load_timeout=0.05)
        ) as gaia:
            response = await gaia.generate(DRAGON)
            reasons = gaia.plan(DRAGON).reasons
            infos = {info.name: info for info in gaia.providers()}

    assert response.provider == "fake"
    assert reasons["broken"].startswith(reason)
    assert str(infos["broken"].unavailable).startswith(reason)
    assert "gaia.start_failed" in {event["event"] for event in events}


async def test_provider_that_does_not_stop_holds_nobody_up(
    open_gaia: OpenGaia,
) -> None:
    """Closing goes on when a provider hangs at its end."""

    class Clinging(FakeProvider):
        @hookimpl
        async def gaia_stop(self) -> None:
            await _hang()

    other = FakeProvider()

    with capture_events() as events:
        async with open_gaia(
            Clinging(name="clinging"), other, plugins=PluginSettings(load_timeout=0.05)
        ):
            pass

    assert not other.is_running
    assert "gaia.stop_failed" in {event["event"] for event in events}


async def test_closing_ends_what_takes_too_long(
    open_gaia: OpenGaia, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work nobody waits for is given some time, then its outcome is unknown."""
    monkeypatch.setattr(engine, "CLOSING_GRACE", 0.05)
    provider = HeldProvider(price_usd="0.04")

    async with open_gaia(provider) as gaia:
        work = asyncio.create_task(gaia.generate(DRAGON, timeout=30))
        await provider.called()
        let_pass(31)
        with pytest.raises(GaiaError) as caught:
            await work
    operation = await gaia.operation(str(caught.value.operation_id))

    assert operation is not None
    assert operation.state == "unknown"
    assert operation.reserved_usd == Decimal("0.04")


async def test_closing_ends_work_that_ignores_its_end(
    open_gaia: OpenGaia, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A free hook that ignores being cancelled does not hold its caller."""
    monkeypatch.setattr(doors, "CANCEL_GRACE", 0.05)

    class Stubborn(HeldProvider):
        @hookimpl
        async def gaia_generate(self, request: Any, context: Any) -> ImageResult:
            work = asyncio.create_task(
                FakeProvider.gaia_generate(self, request, context)
            )
            while not work.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.shield(work)
            return work.result()

    provider = Stubborn()

    async with open_gaia(provider) as gaia:
        work = asyncio.create_task(gaia.generate(DRAGON, timeout=30))
        await provider.called()
        let_pass(31)
        with pytest.raises(GaiaError):
            await work
        has_ended = bool(provider.go.is_set())
        provider.go.set()

    assert not has_ended


# -- choosing -------------------------------------------------------------------------


def _model(name: str, **fields: Any) -> ModelInfo:
    facts = {
        "id": name,
        "name": name,
        "provider": name,
        "capabilities": set(Capability),
    }
    return ModelInfo(**facts | fields)


CHEAP = FakeProvider(
    name="cheap", models=[_model("cheap", price=Price(per_image="0.001"))]
)
QUICK = FakeProvider(
    name="quick",
    priority=5,
    models=[_model("quick", speed=Speed.FAST, price=Price(per_image="0.02"))],
)
FINE = FakeProvider(
    name="fine",
    priority=-5,
    models=[_model("fine", quality=Quality.VERY_HIGH, price=Price(per_image="0.2"))],
)


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({}, "quick"),
        ({"policy": "cheapest"}, "cheap"),
        ({"policy": Policy.FASTEST}, "quick"),
        ({"policy": "best"}, "fine"),
        ({"policy": "best", "max_cost_usd": 0.1}, "quick"),
        ({"max_cost_usd": Decimal("0.01")}, "cheap"),
        ({"allowed_providers": ["fine", "cheap"]}, "cheap"),
        ({"allowed_providers": "fine"}, "fine"),
        ({"policy": None, "max_cost_usd": None, "allowed_providers": None}, "quick"),
    ],
    ids=[
        "none",
        "cheapest",
        "fastest",
        "best",
        "best below a ceiling",
        "ceiling",
        "providers",
        "one provider",
        "nothing said",
    ],
)
async def test_choices_of_a_call(
    open_gaia: OpenGaia, choices: dict[str, Any], expected: str
) -> None:
    """A call may choose policy, ceiling and providers for itself."""
    async with open_gaia(CHEAP, QUICK, FINE) as gaia:
        response = await gaia.generate(DRAGON, **choices)
        plan = gaia.plan(DRAGON, **choices)

    assert response.provider == expected
    assert plan.candidates[0].provider == expected


async def test_lower_ceiling_holds(open_gaia: OpenGaia) -> None:
    """A call cannot raise the ceiling of the settings, only lower it."""
    async with open_gaia(CHEAP, QUICK, FINE, max_cost_usd=Decimal("0.01")) as gaia:
        generous = gaia.plan(DRAGON, max_cost_usd=5)
        mean = gaia.plan(DRAGON, max_cost_usd=0)

    assert [candidate.provider for candidate in generous.candidates] == ["cheap"]
    assert mean.candidates == ()
    assert mean.reasons["quick/quick"] == "costs $0.02, the ceiling is $0"


async def test_unknown_policy_is_refused(open_gaia: OpenGaia) -> None:
    """A policy that does not exist is an error that lists those that do."""
    async with open_gaia(CHEAP) as gaia:
        with pytest.raises(InvalidRequestError, match="priority, cheapest"):
            await gaia.generate(DRAGON, policy="random")


@pytest.mark.parametrize(
    "choices",
    [
        {"max_cost_usd": float("nan")},
        {"max_cost_usd": "cheap"},
        {"max_cost_usd": -1},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"timeout": "3"},
    ],
    ids=str,
)
async def test_choices_that_make_no_sense_are_refused(
    open_gaia: OpenGaia, choices: Any
) -> None:
    """A ceiling or a time that is none is the caller's mistake, and says so."""
    name = next(iter(choices))
    provider = FakeProvider()

    async with open_gaia(provider) as gaia:
        with pytest.raises(InvalidRequestError, match=f"^{name} must be"):
            await gaia.generate(DRAGON, **choices)

    assert provider.calls == []


async def test_named_provider_alone_is_asked(open_gaia: OpenGaia) -> None:
    """A request that names a provider goes there or nowhere."""
    first = FakeProvider.failing(GaiaError("no"), name="first")
    second = FakeProvider(name="second", priority=9)

    async with open_gaia(first, second) as gaia:
        plan = gaia.plan(attrs.evolve(DRAGON, provider="first"))
        with pytest.raises(
            NoCapableProviderError, match="third: no provider of this name"
        ):
            await gaia.generate(attrs.evolve(DRAGON, provider="third"))

    assert [candidate.provider for candidate in plan.candidates] == ["first"]
    assert second.calls == []


async def test_nobody_left_lists_every_reason(open_gaia: OpenGaia) -> None:
    """When nobody can serve, the error says of everybody why not."""
    keyless = FakeProvider(name="keyless", unavailable="KEY is not set")
    upscaler = FakeProvider(name="upscaler", capabilities={Capability.UPSCALING})
    small = FakeProvider(name="small", models=[_model("small", max_width=32)])
    off = FakeProvider(name="off")
    section = ProviderSettings(name="off", enabled=False)

    async with open_gaia(
        keyless, upscaler, small, off, providers={"off": section}
    ) as gaia:
        with pytest.raises(NoCapableProviderError) as caught:
            await gaia.generate(DRAGON)

    assert caught.value.reasons == {
        "keyless": "KEY is not set",
        "off": "switched off: [providers.off] enabled = false",
        "small/small": "makes at most 32x1024, not 64x64",
        "upscaler": "cannot do text-to-image",
    }


async def test_availability_is_asked_for_every_plan(open_gaia: OpenGaia) -> None:
    """A key that turns up, or goes, counts from the next request on."""
    provider = FakeProvider(unavailable="KEY is not set")

    async with open_gaia(provider) as gaia:
        before = gaia.plan(DRAGON).candidates
        provider.unavailable = None
        after = gaia.plan(DRAGON).candidates
        shown = gaia.providers()[0].unavailable

    assert before == ()
    assert len(after) == 1
    assert shown is None


async def test_models_are_listed_anew_on_demand(open_gaia: OpenGaia) -> None:
    """`models` says what was listed at opening, or asks the providers again."""
    provider = FakeProvider(models=[_model("old")])

    async with open_gaia(provider) as gaia:
        provider.models = (_model("new"),)
        before = await gaia.models()
        after = await gaia.models(refresh=True)
        plan = gaia.plan(DRAGON)

    assert [model.id for model in before] == ["old"]
    assert [model.id for model in after] == ["new"]
    assert plan.candidates[0].model.id == "new"


async def test_providers_are_listed_in_order(open_gaia: OpenGaia) -> None:
    """Providers come best rank first, then by name."""
    names = {"b": 0, "a": 0, "c": 5}
    providers = [FakeProvider(name=n, priority=p) for n, p in names.items()]

    async with open_gaia(*providers) as gaia:
        listed = [info.name for info in gaia.providers()]

    assert listed == ["c", "a", "b"]


# -- middleware -----------------------------------------------------------------------


class _HouseStyle:
    """Gives every picture a style."""

    @hookimpl(wrapper=True)
    def gaia_prepare_request(self, request: Request) -> Any:  # noqa: ARG002  the interface
        """Put a style where there is none."""
        prepared = yield
        if isinstance(prepared, GenerateRequest):
            return attrs.evolve(prepared, style=prepared.style or "ink")
        return prepared


class _Marking:
    """Puts a mark on every result."""

    @hookimpl(wrapper=True)
    def gaia_generate(self, request: Any, context: Any) -> Any:  # noqa: ARG002  the interface
        """Change the result once it is there."""
        answer = yield

        async def marked() -> ImageResult:
            result: ImageResult = await answer
            return attrs.evolve(result, warnings=["marked"])

        return marked()


async def test_middleware_changes_requests_and_results(open_gaia: OpenGaia) -> None:
    """A wrapper at the door and one around the work both have their say."""
    provider = FakeProvider()

    async with open_gaia(provider, _HouseStyle(), _Marking()) as gaia:
        plan = gaia.plan(DRAGON)
        response = await gaia.generate(DRAGON)
        await gaia.upscale(UpscaleRequest(image=png()))

    assert plan.request.style == "ink"  # type: ignore[attr-defined]
    assert provider.requests[0].style == "ink"  # type: ignore[attr-defined]
    assert response.warnings == ("marked",)


async def test_request_is_prepared_once(open_gaia: OpenGaia) -> None:
    """The door is passed once per operation, however many providers are asked."""
    seen: list[Request] = []

    class Counting:
        @hookimpl(wrapper=True)
        def gaia_prepare_request(self, request: Request) -> Any:
            seen.append(request)
            return (yield)

    busy = FakeProvider.failing(OSError("reset"), name="busy", priority=5)

    async with open_gaia(busy, FakeProvider(), Counting()) as gaia:
        await gaia.generate(DRAGON)

    assert seen == [DRAGON]


async def test_middleware_that_fails_is_named(open_gaia: OpenGaia) -> None:
    """Foreign errors at the door become Gaia's own, and nothing is sent."""
    provider = FakeProvider()

    class Broken:
        @hookimpl(wrapper=True)
        def gaia_prepare_request(self, request: Request) -> Any:
            yield
            raise KeyError(request.capability)

    async with open_gaia(provider, Broken()) as gaia:
        with pytest.raises(PluginError, match="KeyError") as caught:
            await gaia.generate(DRAGON)

    assert provider.calls == []
    assert "text-to-image" not in str(caught.value)


async def test_middleware_may_refuse(open_gaia: OpenGaia) -> None:
    """A refusal in Gaia's own words reaches the host as it is."""

    class Strict:
        @hookimpl(wrapper=True)
        def gaia_prepare_request(self, request: Request) -> Any:  # noqa: ARG002  the interface
            yield
            message = "no dragons here"
            raise InvalidRequestError(message)

    async with open_gaia(FakeProvider(), Strict()) as gaia:
        with pytest.raises(InvalidRequestError, match="no dragons"):
            await gaia.generate(DRAGON)


# -- the cache ------------------------------------------------------------------------


class _Cache(NoCache):
    """Keeps every answer for ever."""

    def __init__(self) -> None:
        self.kept: dict[str, Response] = {}

    async def find(self, key: str) -> Response | None:
        """Find it."""
        return self.kept.get(key)

    async def keep(self, key: str, response: Response) -> None:
        """Keep it."""
        self.kept[key] = response


async def test_cache_answers_before_anybody_is_asked(open_gaia: OpenGaia) -> None:
    """An equal request is answered from the cache, and its own time is told."""
    provider = FakeProvider()

    seeded = attrs.evolve(DRAGON, seed=7)

    async with open_gaia(provider, cache=_Cache()) as gaia:
        first = await gaia.generate(seeded)
        second = await gaia.generate(seeded)
        await gaia.generate(attrs.evolve(DRAGON, seed=1))

    assert second.images == first.images
    assert second.duration_ms != first.duration_ms
    assert len(provider.calls) == 2


class _BrokenCache:
    """Fails at everything."""

    async def find(self, key: str) -> Response | None:
        """Fail."""
        raise _DiskFullError(key)

    async def keep(self, key: str, response: Response) -> None:
        """Fail."""
        raise _DiskFullError(key, response)


class _DiskFullError(OSError):
    """The disk is full."""


async def test_cache_that_fails_costs_no_picture(open_gaia: OpenGaia) -> None:
    """What was paid for is handed over, whatever becomes of the cache."""
    with capture_events() as events:
        async with open_gaia(
            FakeProvider(price_usd="0.04"), cache=_BrokenCache()
        ) as gaia:
            response = await gaia.generate(attrs.evolve(DRAGON, seed=7))

    assert response.images
    assert [one["event"] for one in events].count("gaia.cache_failed") == 2


# -- health ---------------------------------------------------------------------------


async def _no_answer(_level: HealthLevel) -> Any:
    await asyncio.sleep(60)


async def _wrong_answer(_level: HealthLevel) -> Any:
    return {"status": "ok"}


async def _raise(_level: HealthLevel) -> Any:
    message = "key sk-123"
    raise OSError(message)


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        (_no_answer, "the check failed: TimeoutError"),
        (_wrong_answer, "the check gave dict, not Health"),
        (_raise, "the check failed: OSError"),
    ],
    ids=["hangs", "wrong type", "raises"],
)
async def test_failing_check_is_unhealthy(
    open_gaia: OpenGaia, monkeypatch: pytest.MonkeyPatch, check: Any, reason: str
) -> None:
    """A check that fails says so, and the others are checked all the same."""
    monkeypatch.setattr(upkeep, "CHECK_TIMEOUT", 0.05)

    class Sick(FakeProvider):
        @hookimpl
        async def gaia_check_health(self, level: HealthLevel) -> Health:
            health: Health = await check(level)
            return health

    async with open_gaia(Sick(name="sick"), FakeProvider()) as gaia:
        found = await gaia.check_health(HealthLevel.REACHABLE)

    assert found["fake"].is_healthy
    assert not found["sick"].is_healthy
    assert found["sick"].reason == reason


async def test_unavailable_provider_is_not_checked(open_gaia: OpenGaia) -> None:
    """Why a provider cannot work is known without asking it."""
    provider = FakeProvider(unavailable="KEY is not set")

    async with open_gaia(provider) as gaia:
        found = await gaia.check_health(HealthLevel.AUTHORISED)

    assert found["fake"] == Health(
        level=HealthLevel.CONFIGURED, is_healthy=False, reason="KEY is not set"
    )


# -- providers that break the rules ---------------------------------------------------


@attrs.define(eq=False, kw_only=True)
class _Liar:
    """Declares what it has no hook for."""

    name: str = "liar"
    priority: int = 0

    @hookimpl
    def gaia_provider_info(self) -> ProviderInfo:
        """Promise everything."""
        return ProviderInfo(
            name=self.name, capabilities=set(Capability), priority=self.priority
        )


class _Faceless(FakeProvider):
    """Has no card once it is loaded."""

    looks: int = 0

    @hookimpl
    def gaia_provider_info(self) -> Any:
        """Answer while it is loaded, and fail afterwards."""
        _Faceless.looks += 1
        if _Faceless.looks > 2:
            raise KeyError(self.name)
        return FakeProvider.gaia_provider_info(self)


class _Listless(FakeProvider):
    """Fails to list its models."""

    @hookimpl
    async def gaia_list_models(self) -> Any:
        """Fail."""
        message = "key sk-123"
        raise OSError(message)


class _Leaving(FakeProvider):
    """Tries to end the process."""

    @hookimpl
    async def gaia_list_models(self) -> Any:
        """Exit."""
        raise SystemExit


class _Careless(FakeProvider):
    """Lists something else than models."""

    @hookimpl
    async def gaia_list_models(self) -> Any:
        """Give names instead of cards."""
        return ["sdxl", "flux"]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (_Liar, "declares background-removal but implements no"),
        (_Listless, "listing its models failed: OSError"),
        (_Leaving, "listing its models failed: broken gave up"),
        (_Careless, "gaia_list_models must give ModelInfo, not str"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
async def test_broken_provider_harms_nobody(
    open_gaia: OpenGaia, broken: Callable[..., object], reason: str
) -> None:
    """A provider that breaks the contract is passed over with the reason."""
    async with open_gaia(broken(name="broken", priority=9), FakeProvider()) as gaia:
        response = await gaia.generate(DRAGON)
        reasons = gaia.plan(DRAGON).reasons

    assert response.provider == "fake"
    assert reason in reasons["broken"]
    assert "sk-123" not in reasons["broken"]


async def test_provider_without_a_card_harms_nobody(open_gaia: OpenGaia) -> None:
    """A card that can no longer be read makes its provider unavailable."""
    async with open_gaia(_Faceless(name="broken", priority=9), FakeProvider()) as gaia:
        response = await gaia.generate(DRAGON)

    assert response.provider == "fake"


async def test_what_a_provider_lacks_outranks_what_fails_without_it(
    open_gaia: OpenGaia,
) -> None:
    """A missing key is the reason, not the list that could not be had without it."""

    class Keyless(FakeProvider):
        @hookimpl
        async def gaia_list_models(self) -> Any:
            message = "no key"
            raise OSError(message)

    keyless = Keyless(name="keyless", unavailable="KEYLESS_API_KEY is not set")

    async with open_gaia(keyless) as gaia:
        reasons = gaia.plan(DRAGON).reasons
        (info,) = gaia.providers()

    assert reasons == {"keyless": "KEYLESS_API_KEY is not set"}
    assert info.unavailable == "KEYLESS_API_KEY is not set"


async def test_slow_list_of_models_is_left_behind(
    open_gaia: OpenGaia, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that takes too long to list its models offers nothing."""
    monkeypatch.setattr("gaia_core.offers.LIST_TIMEOUT", 0.05)

    class Slow(FakeProvider):
        @hookimpl
        async def gaia_list_models(self) -> Any:
            await asyncio.sleep(60)

    async with open_gaia(Slow(name="slow"), FakeProvider()) as gaia:
        reasons = gaia.plan(DRAGON).reasons

    assert reasons["slow"] == "listing its models took longer than 0.05 s"


# -- many at once ---------------------------------------------------------------------


async def test_many_requests_at_once(open_gaia: OpenGaia) -> None:
    """Requests at once share nothing: each has its operation and its picture."""
    provider = FakeProvider(delay=0.02)
    requests = [attrs.evolve(DRAGON, seed=seed) for seed in range(50)]

    async with open_gaia(provider) as gaia:
        responses = await asyncio.gather(*map(gaia.generate, requests))

    assert [response.images[0].seed for response in responses] == list(range(50))
    assert len({response.operation_id for response in responses}) == 50
    assert len(set(provider.charges)) == 50


def test_settings_and_choices_agree() -> None:
    """Everything a call may choose about the plan is a setting, but for two."""
    choices: Mapping[str, Any] = PlanChoices.__annotations__
    of_one_call = {"allowed_providers", "is_batch"}

    assert set(choices) - of_one_call <= set(attrs.fields_dict(Settings))


def test_generated_image_is_named_in_its_repr() -> None:
    """Bytes never fill the log: pictures show their length."""
    assert "bytes>" in repr(GeneratedImage(data=png()))


async def test_budgets_need_a_ledger_that_keeps_them(open_gaia: OpenGaia) -> None:
    """Under a budget nobody keeps nothing is sent; with a ledger that does it is."""

    class Keeper(MemoryLedger):
        """Says that it keeps budgets."""

        keeps_budgets = True

    budgets = BudgetSettings(total_usd=Decimal(1))
    provider = FakeProvider()

    async with open_gaia(provider, budgets=budgets) as gaia:
        with pytest.raises(SettingsError, match="keeps no budgets"):
            await gaia.generate(DRAGON)
    refused = len(provider.calls)
    async with open_gaia(provider, budgets=budgets, ledger=Keeper()) as gaia:
        await gaia.generate(DRAGON)

    assert (refused, len(provider.calls)) == (0, 1)
