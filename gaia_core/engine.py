"""
The way of a request from door to response.

::

    request > door checks > plan > reserve > attempt
            > result > store > settle > response

`Gaia` is what a host holds: its [door][gaia_core.doors.Door] checks and plans, and
sends each operation on a [walk][gaia_core.walk.Walk]. No other files know the way.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Self, Unpack, cast

import attrs

from gaia_core.assortment import Assortment, ModelList
from gaia_core.batches.service import Batches, Requests
from gaia_core.cache import ResultCache
from gaia_core.capabilities import Capability
from gaia_core.catalog import Health, HealthLevel, ProviderInfo
from gaia_core.choices import Choices, PlanChoices, preferences_of
from gaia_core.doors import Door
from gaia_core.fetching import GuardedFetcher
from gaia_core.ledger import BatchEvent, IdempotencyKey, Ledger, Operation, UsageRow
from gaia_core.ledger.reports import BudgetState
from gaia_core.limits import RequestLimits
from gaia_core.lookups import Lookup
from gaia_core.metrics import MemoryMetrics, Metrics, Statistics
from gaia_core.parts import Parts, parts_of
from gaia_core.plugins import Plugins, load_plugins
from gaia_core.recovery import Recovery
from gaia_core.reliability import Reliability
from gaia_core.requests import (
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    RemoveBackgroundRequest,
    Request,
    UpscaleRequest,
)
from gaia_core.responses import DescriptionResponse, ImageResponse, PromptResponse
from gaia_core.selection import Offer, Plan, select
from gaia_core.settings import Settings, load_settings
from gaia_core.storage import ImageStorage
from gaia_core.upkeep import Upkeep
from gaia_core.withdrawals import Withdrawals

CLOSING_GRACE = 30.0
"""How long closing waits for work that was sent already, in seconds."""


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
    _parts: Parts
    is_open: bool = attrs.field(default=False, init=False)
    """Whether it is inside ``async with``."""
    closing_grace: float | None = attrs.field(default=None, init=False)
    """How long closing waits for what was sent, in seconds; None: `CLOSING_GRACE`."""
    _assortment: Assortment = attrs.field(init=False)
    _upkeep: Upkeep = attrs.field(init=False)
    _door: Door = attrs.field(init=False)
    _recovery: Recovery = attrs.field(init=False)
    _watch: "asyncio.Task[None] | None" = attrs.field(default=None, init=False)
    batches: Batches = attrs.field(init=False)
    """Batches of requests: open, run, look up, cancel."""

    @_assortment.default
    def _own_assortment(self) -> Assortment:
        return Assortment(plugins=self.plugins)

    @_upkeep.default
    def _own_upkeep(self) -> Upkeep:
        patience = self.settings.plugins.load_timeout
        return Upkeep(plugins=self.plugins, patience=patience)

    @_door.default
    def _own_door(self) -> Door:
        return Door(
            settings=self.settings,
            services=self._parts.services,
            cache=self._parts.cache,
            limits=RequestLimits(self.settings.limits),
            ready=self.ready,
            plan=self._plan,
            earliest=self._earliest,
        )

    @_recovery.default
    def _own_recovery(self) -> Recovery:
        return Recovery(services=self._parts.services)

    @batches.default
    def _own_batches(self) -> Batches:
        return Batches(
            ledger=self.ledger,
            storage=self.storage,
            estimate=self._estimate,
            carry_out=self._door.serve_item,
            let_go=self._door.let_go,
            prepare=self.plugins.prepare,
            adopt=self._recovery.run_once,
            ready=self.ready,
            withdraw=Withdrawals(services=self._parts.services).withdraw,
            bundles=self._parts.services.bundles,
            metrics=self.metrics,
        )

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
        metrics: Metrics | None = None,
        lookup: Lookup | None = None,
        discover: bool = True,
    ) -> Self:
        """
        Load settings and plugins.

        Args:
            settings: What to go by; None reads file and environment.
            plugins: Providers and middleware beside those installed.
            storage: Where pictures are kept; by default in files.
            ledger: Where operations are kept; by default in the database that the
                settings name.
            reliability: What decides about repetition and admission.
            cache: Where answers are kept for equal requests.
            fetcher: What providers fetch results through.
            metrics: What is told of everything that can be counted.
            lookup: How providers are asked about lost answers.
            discover: Whether installed plugins are loaded, too.

        Raises:
            SettingsError: If the settings cannot be used.
        """
        settings = settings or load_settings()
        found = None if discover else ()
        loaded = load_plugins(settings, extra=plugins, entry_points=found)
        parts = parts_of(
            settings,
            loaded,
            storage=storage,
            ledger=ledger,
            reliability=reliability,
            cache=cache,
            fetcher=fetcher,
            metrics=metrics,
            lookup=lookup,
        )
        return cls(settings=settings, parts=parts)

    @property
    def plugins(self) -> Plugins:
        """What is installed, and what failed to load."""
        return self._parts.services.plugins

    @property
    def storage(self) -> ImageStorage:
        """Where pictures are kept."""
        return self._parts.storage

    @property
    def ledger(self) -> Ledger:
        """Where operations are kept; ready after `open` or the first request."""
        return self._parts.services.ledger

    @property
    def fetcher(self) -> GuardedFetcher:
        """What reads addresses that somebody else chose."""
        return self._parts.services.fetcher

    @property
    def metrics(self) -> Metrics:
        """What is told of everything that can be counted."""
        return self._parts.services.metrics

    @property
    def reliability(self) -> Reliability:
        """What decides about repetition and admission."""
        return self._parts.services.reliability

    async def __aenter__(self) -> Self:
        """Start the providers and ask what they offer."""
        if self.is_open:
            message = "This Gaia is open already: open another one."
            raise RuntimeError(message)
        self.is_open = True
        self._door.open()
        try:
            await self._assortment.open(await self._upkeep.start())
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

    async def batch(
        self,
        requests: Requests,
        *,
        max_concurrent: int = 8,
        name: str = "",
        idempotency_key: str | None = None,
        principal: str = "",
    ) -> AsyncGenerator[BatchEvent, None]:
        """
        Serve many requests, and tell what happens to them as it happens.

        ::

            async for event in gaia.batch(requests, max_concurrent=8):
                print(event.position, event.kind)

        What is accepted is not lost: after an interruption, go on with
        ``gaia.batches.run(batch_id)``, or ask again under the same key.

        Args:
            requests: What to serve; read one at a time, and all before the first
                is served.
            max_concurrent: Most requests under way at a time.
            name: What a person calls it.
            idempotency_key: Names the batch, so that it is made only once.
            principal: Who asks, as the host knows them.

        Raises:
            InvalidRequestError: If there is no request.
            BudgetExceededError: If it costs more than a budget has left.
        """
        key = None
        if idempotency_key is not None:
            key = IdempotencyKey(
                key=idempotency_key, principal=principal, route="batch"
            )
        batch = await self.batches.open(
            requests, name=name, key=key, principal=principal
        )
        run = self.batches.run(batch.id, max_concurrent=max_concurrent)
        async with aclosing(run) as events:
            async for event in events:
                yield event

    # -- questions ----------------------------------------------------------------

    def plan(self, request: Request, **choices: Unpack[PlanChoices]) -> Plan:
        """
        Say who would be asked, in which order, at which price, and why.

        Args:
            request: What is to be served; middleware prepares it first.
            **choices: What to choose for this call: see `PlanChoices`.
        """
        return self._plan(self.plugins.prepare(request), **choices)

    async def models(
        self,
        *,
        refresh: bool = False,
        search: str | None = None,
        provider: str | None = None,
    ) -> ModelList:
        """
        List the models of all providers, or look for some in the vendors' catalogues.

        Args:
            refresh: Whether the vendors are asked what they have today; one that
                cannot be asked keeps its list of before.
            search: Words to look for; a request may name what is found, from now on.
            provider: The only provider whose models are listed or looked for.

        Returns:
            The cards, and as its ``problems`` whose vendor could not be asked.

        Raises:
            InvalidRequestError: If there is nothing to look for, or no such provider.
        """
        if search is not None:
            return await self._assortment.search(search, provider, is_fresh=refresh)
        if refresh:
            return await self._assortment.refresh(provider)
        return self._assortment.models(provider)

    def providers(self) -> tuple[ProviderInfo, ...]:
        """List the providers, best rank first; ``unavailable`` says why one is not."""
        return self._assortment.cards()

    async def operation(self, operation_id: str) -> Operation | None:
        """Look an operation up."""
        await self.ready()
        return await self.ledger.get(operation_id)

    async def recover(self) -> int:
        """
        Settle now what a crash or a lost answer left open; say how many came to an end.

        It happens by itself as well: when the ledger is first used, and every minute.
        """
        await self.ready()
        return await self._recovery.run_once()

    async def usage(
        self,
        by: Sequence[str] = (),
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        principal: str | None = None,
    ) -> Sequence[UsageRow]:
        """
        Add up what was made and spent.

        Args:
            by: What to group by: any of ``day``, ``provider``, ``model``,
                ``campaign``, ``user``.
            since: Only operations taken on at this moment or later.
            until: Only those taken on before this moment.
            principal: Only those of somebody; None: of everybody.
        """
        await self.ready()
        return await self.ledger.usage(
            by, since=since, until=until, principal=principal
        )

    async def budgets(
        self, *, user_id: str | None = None, campaign_id: str | None = None
    ) -> Sequence[BudgetState]:
        """Tell what the budgets a request would count in have left, as they are set."""
        await self.ready()
        return await self.ledger.budget_states(user_id=user_id, campaign_id=campaign_id)

    def statistics(self) -> Statistics:
        """
        Sum up what this process did.

        Raises:
            RuntimeError: If a host's own metrics are in use: ask those.
        """
        if isinstance(self.metrics, MemoryMetrics):
            return self.metrics.statistics()
        message = f"{type(self.metrics).__name__} keeps no statistics: ask it itself."
        raise RuntimeError(message)

    async def check_health(
        self, level: HealthLevel = HealthLevel.CONFIGURED, provider: str | None = None
    ) -> dict[str, Health]:
        """Check every provider, or only one; spends no money."""
        return await self._upkeep.check_health(level, provider)

    async def ready(self) -> None:
        """Open the ledger now, and begin to settle what was left open in it."""
        if self._watch is not None:
            return
        # A caller who gives up leaves it to open for others, and its error unheard.
        opening = asyncio.ensure_future(self.ledger.open())
        opening.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(opening)
        if self._watch is None and self.is_open:
            self._watch = asyncio.create_task(self._recovery.watch())

    # -- inside -------------------------------------------------------------------

    async def _close(self) -> None:
        """Let go of everything; no step hangs on the success of another."""
        self.is_open = False
        grace = CLOSING_GRACE if self.closing_grace is None else self.closing_grace
        async with AsyncExitStack() as last_to_first:
            last_to_first.push_async_callback(self.ledger.close)
            last_to_first.push_async_callback(self._parts.alerts.close)
            last_to_first.push_async_callback(self._recovery.flush)
            last_to_first.push_async_callback(self._parts.services.fetcher.close)
            last_to_first.push_async_callback(self._upkeep.stop)
            last_to_first.push_async_callback(self._door.close, grace)
            last_to_first.push_async_callback(self._stop_watching)
            last_to_first.push_async_callback(self.batches.close, grace)

    async def _stop_watching(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.wait({watch})

    async def _serve(self, request: Request, **choices: Unpack[Choices]) -> object:
        return await self._door.serve(self.plugins.prepare(request), **choices)

    def _plan(self, request: Request, **choices: Unpack[PlanChoices]) -> Plan:
        """Plan a request that middleware has prepared."""
        if not self.is_open:
            message = "Use it inside `async with`: only then it knows any model."
            raise RuntimeError(message)
        preferences = preferences_of(choices, self.settings, self.reliability.latency())
        offers = self._assortment.offers_for(request)
        addressed = self.plugins.addressed(request)
        return select(addressed, offers, preferences, self._admit)

    def _estimate(self, request: Request) -> Decimal:
        """Tell what to hold for an item of a batch."""
        best = self._plan(request, is_batch=True).best
        return (best and best.price_usd) or Decimal(0)

    def _earliest(self, request: Request) -> float | None:
        """Tell when somebody who cannot serve a request now may serve it."""
        waits = (
            self.reliability.opens_in(offer.name, request.capability)
            for offer in self._assortment.offers
            if request.provider in (None, offer.name)
        )
        return min((wait for wait in waits if wait is not None), default=None)

    def _admit(self, offer: Offer, capability: Capability) -> str | None:
        """Give the reason not to ask a provider at this moment, or None."""
        info = self.plugins.providers[offer.name].info()
        return info.unavailable or self.reliability.admit(offer.name, capability)
