"""
The way of a request from door to response.

::

    request > door checks > plan > reserve > attempt
            > result > store > settle > response

`Gaia` is what a host holds: its doors check, plan, and send each operation on a
[walk][gaia_core.walk.Walk]. No other two files know the whole way.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Self, Unpack, cast

import attrs

from gaia_core.cache import NoCache, ResultCache
from gaia_core.calls import answer_of, contained, words_of
from gaia_core.capabilities import Capability
from gaia_core.catalog import (
    Health,
    HealthLevel,
    ModelInfo,
    ProviderInfo,
)
from gaia_core.choices import (
    Choices,
    PlanChoices,
    check_budgets,
    check_timeout,
    preferences_of,
)
from gaia_core.context import Progress, ignore_progress
from gaia_core.errors import (
    GaiaError,
    NoCapableProviderError,
    PluginError,
)
from gaia_core.fetching import GuardedFetcher
from gaia_core.ledger import Ledger, MemoryLedger, Operation
from gaia_core.observability import get_logger
from gaia_core.offers import gather_offers, refreshed
from gaia_core.plugins import Plugins, load_plugins
from gaia_core.reliability import Reliability, SingleTry
from gaia_core.requests import (
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    RemoveBackgroundRequest,
    Request,
    UpscaleRequest,
)
from gaia_core.responses import (
    DescriptionResponse,
    ImageResponse,
    PromptResponse,
    Response,
)
from gaia_core.selection import Offer, Plan, RankedOffers, select
from gaia_core.settings import Settings, load_settings
from gaia_core.storage import FileStorage, ImageStorage
from gaia_core.walk import Services, Walk

CLOSING_GRACE = 30.0
"""How long closing waits for work that was sent already, in seconds."""
CANCEL_GRACE = 5.0
"""How long a caller waits for cancelled work to end, in seconds."""
CHECK_TIMEOUT = 15.0
"""Longest wait for one provider's health check, in seconds."""


@attrs.define(eq=False, kw_only=True)
class Gaia:
    """
    What a host holds: every verb, over every installed provider.

    ::

        async with Gaia.open() as gaia:
            response = await gaia.generate(GenerateRequest(prompt="a red dragon"))
            print(response.images[0].path, response.provider, response.cost_usd)

    Make one with `Gaia.open`; it is ready inside ``async with``.
    """

    settings: Settings
    cache: ResultCache
    _services: Services
    _offers: RankedOffers = attrs.field(factory=RankedOffers, init=False)
    _is_open: bool = attrs.field(default=False, init=False)
    _not_started: Mapping[str, str] = attrs.field(factory=dict, init=False)
    _walks: dict[asyncio.Task[Response], Walk] = attrs.field(factory=dict, init=False)

    @classmethod
    def open(  # noqa: PLR0913  every part can be exchanged
        cls,
        settings: Settings | None = None,
        *,
        plugins: Iterable[object] = (),
        storage: ImageStorage | None = None,
        ledger: Ledger | None = None,
        reliability: Reliability | None = None,
        cache: ResultCache | None = None,
        fetcher: GuardedFetcher | None = None,
        discover: bool = True,
    ) -> Self:
        """
        Load settings and plugins.

        Args:
            settings: What to go by; None reads file and environment.
            plugins: Providers and middleware beside those installed.
            storage: Where pictures are kept; by default in files.
            ledger: Where operations are kept.
            reliability: What decides about repetition and admission.
            cache: Where answers are kept for equal requests.
            fetcher: What providers fetch results through.
            discover: Whether installed plugins are loaded, too.

        Raises:
            SettingsError: If the settings cannot be used.
        """
        settings = settings or load_settings()
        services = Services(
            plugins=load_plugins(
                settings, extra=plugins, entry_points=None if discover else ()
            ),
            storage=storage or FileStorage(settings.image_store),
            ledger=ledger or MemoryLedger(),
            reliability=reliability or SingleTry(),
            fetcher=fetcher or GuardedFetcher(),
            keep_prompt=settings.keep_prompt,
        )
        return cls(settings=settings, cache=cache or NoCache(), services=services)

    @property
    def plugins(self) -> Plugins:
        """What is installed, and what failed to load."""
        return self._services.plugins

    @property
    def storage(self) -> ImageStorage:
        """Where pictures are kept."""
        return self._services.storage

    async def __aenter__(self) -> Self:
        """Start the providers and ask what they offer."""
        if self._is_open:
            message = "This Gaia is open already: open another one."
            raise RuntimeError(message)
        self._is_open = True
        try:
            self._not_started = await self._tell_all("gaia_start")
            await self._tell_middleware("gaia_start")
            self._offers = await gather_offers(self.plugins, self._not_started)
        except BaseException:
            # Nobody else does: Python calls no `__aexit__` then.
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for work that was sent, then stop the providers."""
        for walk in self._walks.values():
            walk.is_left = True
        await self._close()

    # -- verbs --------------------------------------------------------------------

    async def generate(
        self, request: GenerateRequest, **choices: Unpack[Choices]
    ) -> ImageResponse:
        """
        Make pictures from words, and from a picture where one is given.

        Args:
            request: What to make.
            **choices: What to choose for this call: see `Choices`.

        Raises:
            NoCapableProviderError: If nobody can serve it here and now.
            ProviderError: If the last provider asked failed.
            OutcomeUnknownError: If an answer was lost after it may have cost.
            StorageError: If the pictures could not be kept.
        """
        return cast("ImageResponse", await self._serve(request, **choices))

    async def upscale(
        self, request: UpscaleRequest, **choices: Unpack[Choices]
    ) -> ImageResponse:
        """Enlarge a picture; choices and errors as in `generate`."""
        return cast("ImageResponse", await self._serve(request, **choices))

    async def remove_background(
        self, request: RemoveBackgroundRequest, **choices: Unpack[Choices]
    ) -> ImageResponse:
        """Cut out the subject of a picture; the rest as in `generate`."""
        return cast("ImageResponse", await self._serve(request, **choices))

    async def enhance_prompt(
        self, request: EnhancePromptRequest, **choices: Unpack[Choices]
    ) -> PromptResponse:
        """Work a few words out into a prompt; the rest as in `generate`."""
        return cast("PromptResponse", await self._serve(request, **choices))

    async def describe_image(
        self, request: DescribeImageRequest, **choices: Unpack[Choices]
    ) -> DescriptionResponse:
        """Say in words what a picture shows; the rest as in `generate`."""
        return cast("DescriptionResponse", await self._serve(request, **choices))

    # -- questions ----------------------------------------------------------------

    def plan(self, request: Request, **choices: Unpack[PlanChoices]) -> Plan:
        """
        Say who would be asked, in which order, at which price, and why.

        Args:
            request: What is to be served; middleware prepares it first.
            **choices: What to choose for this call: see `PlanChoices`.
        """
        return self._plan(self._prepared(request), **choices)

    async def models(self, *, refresh: bool = False) -> tuple[ModelInfo, ...]:
        """
        List the models of all providers.

        Args:
            refresh: Whether to ask the providers anew; they were asked when this
                `Gaia` was opened.
        """
        if refresh:
            self._offers = await gather_offers(self.plugins, self._not_started)
        return tuple(model for offer in self._offers for model in offer.models)

    def providers(self) -> tuple[ProviderInfo, ...]:
        """List the providers, best rank first; ``unavailable`` says why one is not."""
        infos = [
            attrs.evolve(
                offer.info, unavailable=offer.info.unavailable or offer.problem
            )
            if offer.problem
            else offer.info
            for offer in self._current()
        ]
        return tuple(sorted(infos, key=lambda info: (-info.priority, info.name)))

    async def operation(self, operation_id: str) -> Operation | None:
        """Look an operation up."""
        return await self._services.ledger.get(operation_id)

    async def check_health(
        self, level: HealthLevel = HealthLevel.CONFIGURED
    ) -> dict[str, Health]:
        """Check every provider; spends no money."""
        names = list(self.plugins.providers)
        found = await asyncio.gather(*(self._health_of(name, level) for name in names))
        return dict(zip(names, found, strict=True))

    # -- inside -------------------------------------------------------------------

    async def _close(self) -> None:
        """Let go of everything; no step hangs on the success of another."""
        self._is_open = False
        async with AsyncExitStack() as last_to_first:
            last_to_first.push_async_callback(self._services.ledger.close)
            last_to_first.push_async_callback(self._services.fetcher.close)
            last_to_first.push_async_callback(self._tell_all, "gaia_stop")
            last_to_first.push_async_callback(self._tell_middleware, "gaia_stop")
            await _finished(self._walks, patience=CLOSING_GRACE)

    async def _serve(
        self,
        request: Request,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  bounds waiting, not the work
        progress: Progress = ignore_progress,
        **choices: Unpack[PlanChoices],
    ) -> Response:
        check_timeout(timeout)
        are_kept = self._services.ledger.keeps_budgets
        check_budgets(self.settings.budgets, are_kept=are_kept)
        request = self._prepared(request)
        found = await self._kept(request)
        if found is not None:
            return found
        plan = self._plan(request, **choices)
        if plan.best is None:
            message = f"Nobody can serve this {request.capability} request."
            raise NoCapableProviderError(message, plan.reasons)
        deadline = self.settings.deadline
        seconds = deadline if timeout is None else min(timeout, deadline)
        walk = Walk(
            services=self._services, plan=plan, seconds=seconds, progress=progress
        )
        response = await self._wait_for(walk)
        await self._keep(request, response)
        return response

    async def _kept(self, request: Request) -> Response | None:
        """Ask the cache; one that fails has nothing."""
        try:
            return await self.cache.find(request)
        except Exception as error:  # noqa: BLE001  a host's cache may raise anything
            get_logger().warning("gaia.cache_failed", error=words_of(error))
            return None

    async def _keep(self, request: Request, response: Response) -> None:
        """Tell the cache; whatever it does, what was paid for is handed over."""
        try:
            await self.cache.keep(request, response)
        except Exception as error:  # noqa: BLE001  as above
            get_logger().warning("gaia.cache_failed", error=words_of(error))

    def _prepared(self, request: Request) -> Request:
        """Let middleware change a request; its own errors are named as such."""
        try:
            return self.plugins.prepare(request)
        except GaiaError:
            raise
        except Exception as error:
            message = f"Middleware failed at the door: {type(error).__name__}."
            raise PluginError(message) from error

    def _plan(self, request: Request, **choices: Unpack[PlanChoices]) -> Plan:
        """Plan a request that middleware has prepared."""
        if not self._is_open:
            message = "Use it inside `async with`: only then it knows any model."
            raise RuntimeError(message)
        preferences = attrs.evolve(
            preferences_of(choices, self.settings),
            latency=self._services.reliability.latency(),
        )
        return select(request, self._offers, preferences, self._admit)

    async def _wait_for(self, walk: "Walk") -> Response:
        """Wait for a walk; what was sent goes on when nobody waits any more."""
        task = asyncio.create_task(walk.run())
        self._walks[task] = walk
        task.add_done_callback(self._forget)
        try:
            async with asyncio.timeout(walk.seconds):
                return await asyncio.shield(task)
        except asyncio.CancelledError:
            await self._leave(walk, task)
            raise
        except TimeoutError:
            await self._leave(walk, task)
            raise walk.too_late() from None

    async def _leave(self, walk: "Walk", task: asyncio.Task[Response]) -> None:
        """Let a walk that may have cost go on, and end any other."""
        walk.is_left = True
        if not walk.may_have_cost:
            task.cancel()
            await asyncio.wait([task], timeout=CANCEL_GRACE)

    def _forget(self, task: asyncio.Task[Response]) -> None:
        walk = self._walks.pop(task)
        if walk.is_left and not task.cancelled() and task.exception() is not None:
            get_logger().warning(
                "gaia.detached_failed", error=type(task.exception()).__name__
            )

    def _admit(self, offer: Offer, capability: Capability) -> str | None:
        """Give the reason not to ask a provider at this moment, or None."""
        info = self.plugins.providers[offer.name].info()
        refused = self._services.reliability.admit(offer.name, capability)
        return info.unavailable or refused

    def _current(self) -> tuple[Offer, ...]:
        """Put the providers' cards of this moment into what they offered."""
        providers = self.plugins.providers
        return tuple(
            refreshed(offer, providers[offer.name])
            if offer.name in providers
            else offer
            for offer in self._offers
        )

    async def _health_of(self, name: str, level: HealthLevel) -> Health:
        provider = self.plugins.providers[name]
        reason = provider.info().unavailable
        if reason is not None or not provider.implements("gaia_check_health"):
            return Health(
                level=HealthLevel.CONFIGURED, is_healthy=reason is None, reason=reason
            )
        try:
            health = await answer_of(
                provider, "gaia_check_health", patience=CHECK_TIMEOUT, level=level
            )
        except Exception as error:  # noqa: BLE001  a plugin may raise anything
            reason = f"the check failed: {words_of(error)}"
            return Health(level=level, is_healthy=False, reason=reason)
        if isinstance(health, Health):
            return health
        reason = f"the check gave {type(health).__name__}, not Health"
        return Health(level=level, is_healthy=False, reason=reason)

    async def _tell_all(self, hook: str) -> dict[str, str]:
        """
        Call an upkeep hook of every provider, the last to start the first to stop.

        Returns:
            Provider to the reason, for those that failed.
        """
        providers = [p for p in self.plugins.providers.values() if p.implements(hook)]
        failed = {}
        for provider in reversed(providers) if hook == "gaia_stop" else providers:
            reason = await self._tell(partial(provider.call, hook), provider.name, hook)
            if reason is not None:
                failed[provider.name] = reason
        return failed

    async def _tell_middleware(self, hook: str) -> None:
        answers: list[Awaitable[None]] = []

        async def call() -> None:
            answers.extend(self.plugins.call_middleware(hook))

        await self._tell(call, "middleware", hook)
        for answer in answers:
            await self._tell(partial(_same, answer), "middleware", hook)

    async def _tell(
        self, call: Callable[[], Awaitable[None]], name: str, hook: str
    ) -> str | None:
        """Call an upkeep hook; give the reason if it fails, which harms nobody."""
        try:
            await contained(call, name, patience=self.settings.plugins.load_timeout)
        except Exception as error:  # noqa: BLE001  a plugin may raise anything
            reason = words_of(error)
            event = f"{hook.replace('_', '.', 1)}_failed"
            get_logger().warning(event, provider=name, error=reason)
            return f"{hook} failed: {reason}"
        return None


async def _finished(
    tasks: Iterable[asyncio.Task[Response]], *, patience: float
) -> None:
    """Wait for tasks, and cancel what takes longer."""
    waiting = set(tasks)
    if not waiting:
        return
    _, late = await asyncio.wait(waiting, timeout=patience)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=CANCEL_GRACE)


def _same(answer: Awaitable[None]) -> Awaitable[None]:
    return answer
