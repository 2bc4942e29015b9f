"""
The door: what a request passes before it costs anything, and where callers wait.

::

    limits > idempotency key > plan > kept answer > equal work under way > walk
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, Protocol, Unpack, cast

import attrs

from gaia_core.bookings import key_of, operation_of, settled_as, timed
from gaia_core.cache import ResultCache
from gaia_core.calls import words_of
from gaia_core.capabilities import HOOK_OF
from gaia_core.choices import (
    Choices,
    Delivery,
    PlanChoices,
    check_budgets,
    check_timeout,
    delivery_of,
)
from gaia_core.context import Progress, ignore_progress
from gaia_core.errors import (
    BudgetExceededError,
    GaiaError,
    LeaseLostError,
    LedgerError,
    NoCapableProviderError,
    OutcomeUnknownError,
    ProviderTimeoutError,
    RequestLimitError,
)
from gaia_core.flights import Flights
from gaia_core.ledger import IdempotencyKey, Operation
from gaia_core.limits import RequestLimits
from gaia_core.observability import get_logger
from gaia_core.records import fingerprint, result_key, to_record
from gaia_core.reliability.gates import NoTurnError
from gaia_core.replays import reused
from gaia_core.requests import Request
from gaia_core.responses import Response
from gaia_core.selection import Candidate, Plan
from gaia_core.services import Services
from gaia_core.settings import Settings
from gaia_core.states import revision_of
from gaia_core.walk import Walk

CANCEL_GRACE = 5.0
"""How long a caller waits for cancelled work to end, in seconds."""


Start = Callable[[Walk], Awaitable[Response]]
"""Starts a walk, and gives what it comes to."""


@attrs.frozen(kw_only=True)
class _Flight:
    """
    One piece of work that callers may share.

    Attributes:
        name: What those who may share it have in common.
        plan: Whom this caller would ask.
        begin: Makes the walk, where there is none to share.
        start: Starts it.
        result_key: What its answer is kept under; None: it is not kept.
    """

    name: str
    plan: Plan
    begin: Callable[[], Walk]
    start: Start
    result_key: str | None

    def takes(self, response: Response) -> bool:
        """Tell whether this caller would have asked who served another."""
        return any(one.provider == response.provider for one in self.plan.in_turn())


class Planner(Protocol):
    """Plans a request that middleware has prepared."""

    def __call__(self, request: Request, **choices: Unpack[PlanChoices]) -> Plan:
        """Say who would be asked, in which order, at which price, and why."""


@attrs.define(eq=False, kw_only=True)
class Door:
    """
    Takes requests in, and gives responses out.

    Attributes:
        settings: What to go by.
        services: What walks work with.
        cache: Where answers to equal requests are found.
        limits: How many requests are taken.
        ready: Gets the ledger ready; called before each use.
        plan: Who can serve a request.
        earliest: When somebody may serve a request that nobody can serve now, in
            seconds from now, or None.
    """

    settings: Settings
    services: Services
    cache: ResultCache
    limits: RequestLimits
    ready: Callable[[], Awaitable[None]]
    plan: Planner
    earliest: Callable[[Request], float | None]
    _flights: Flights = attrs.field(factory=Flights, init=False)
    _walks: dict[asyncio.Task[Any], Walk] = attrs.field(factory=dict, init=False)
    _leading: dict[str, Walk] = attrs.field(factory=dict, init=False)
    # Operation to the walks that carry it out: one, but for a moment.
    _carried_out: dict[str, dict[Walk, asyncio.Task[Any]]] = attrs.field(
        factory=dict, init=False
    )
    _is_closed: bool = attrs.field(default=False, init=False)

    async def serve(self, request: Request, **choices: Unpack[Choices]) -> Response:
        """Serve a request that middleware has prepared; see `Gaia.generate`."""
        metrics, capability = self.services.metrics, str(request.capability)
        metrics.count("gaia_requests_total", capability=capability)
        outcome = "failed"
        try:
            response = await self._serve(request, **choices)
            outcome = "reused" if response.is_reused else "made"
        except OutcomeUnknownError:
            outcome = "unknown"
            raise
        except (BudgetExceededError, RequestLimitError) as error:
            outcome = "refused"
            self._count_refusal(error)
            raise
        finally:
            metrics.count(
                "gaia_responses_total", capability=capability, outcome=outcome
            )
        return response

    async def serve_item(self, operation: Operation, request: Request) -> Response:
        """
        Serve an item of a batch that this process has leased.

        Raises:
            GaiaError: If it fails; the ledger knows by then, unless nothing was
                sent for this item: it may be served later.
        """
        plan, best = self._planned(request, is_batch=True)
        key = self._result_key(
            to_record(request), best, operation.principal, reuse=None
        )
        seconds = self.settings.deadline
        is_bundled = self._may_be_bundled(plan)

        def begin() -> Walk:
            return Walk(
                services=self.services,
                plan=plan,
                operation=operation,
                seconds=seconds,
                result_key=key,
            )

        flight = _Flight(
            name=key or operation.id,
            plan=plan,
            begin=begin,
            start=_carry_out,
            result_key=key,
        )
        places = self.services.bundles.places
        if is_bundled and flight.name in self._flights:
            # Whoever waits for the same one has left its place as well.
            places.leave(operation.id)
        try:
            # A vendor's batch takes a day: then it is the walk that knows the time.
            limit = None if is_bundled else seconds
            found, is_leader = await self._wait_for(flight, limit)
        except LeaseLostError as error:
            if error.operation_id in (None, operation.id):
                raise
            # The lease of an equal item was lost, not this one's.
            raise LedgerError(str(error)) from error
        finally:
            places.take(operation.id)
        if is_leader and not found.is_reused:
            return found
        settlement = settled_as(found)
        await self.services.ledger.settle(operation.id, settlement)
        return reused(found)

    def let_go(self, operation_id: str) -> bool:
        """Leave an item of a batch to its walk; False: it is not on its way here."""
        own = self._carried_out.get(operation_id, ())
        for walk in own:
            walk.is_let_go = True
        return bool(own)

    def open(self) -> None:
        """Take requests in, also after closing."""
        self._is_closed = False

    async def close(self, patience: float) -> None:
        """
        Begin nothing new, wait for what was sent, and cancel what takes longer.

        What a vendor has in a batch of its own is left to it at once: whoever comes
        next asks for it.
        """
        self._is_closed = True
        for task, walk in self._walks.items():
            walk.is_left = True
            if walk.is_with_others:
                task.cancel()
        waiting = set(self._walks)
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=patience)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=CANCEL_GRACE)
        await self.services.bundles.close(CANCEL_GRACE)

    # -- before it costs anything -----------------------------------------------------

    async def _serve(  # noqa: PLR0913  what a caller may choose
        self,
        request: Request,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  bounds waiting, not the work
        progress: Progress = ignore_progress,
        idempotency_key: str | None = None,
        principal: str = "",
        reuse: bool | None = None,
        delivery: Delivery | str = Delivery.AT_MOST_ONCE,
        **choices: Unpack[PlanChoices],
    ) -> Response:
        start = time.monotonic()
        check_timeout(timeout)
        delivery = delivery_of(delivery)
        ledger = self.services.ledger
        check_budgets(self.settings.budgets, are_kept=ledger.keeps_budgets)
        await self.limits.check(
            principal=principal,
            user_id=request.user_id,
            campaign_id=request.campaign_id,
        )
        deadline = self.settings.deadline
        seconds = deadline if timeout is None else min(timeout, deadline)
        record = to_record(request)
        named = key_of(idempotency_key, principal, record)
        if named is not None and (known := await self._known(named, record, seconds)):
            return known
        choices["is_batch"] = False
        plan, best = self._planned(request, **choices)
        key = self._result_key(record, best, principal, reuse=reuse)

        def begin() -> Walk:
            operation = operation_of(
                request,
                record,
                principal=principal,
                key=named,
                result_key=key,
                reserved_usd=best.price_usd or Decimal(0),
            )
            return Walk(
                services=self.services,
                plan=plan,
                operation=operation,
                seconds=seconds,
                progress=progress,
                delivery=delivery,
                result_key=key,
            )

        # Under a key of one's own nothing is shared: the ledger must know that key.
        shared = key if named is None else None
        flight = _Flight(
            name=shared or uuid.uuid4().hex,
            plan=plan,
            begin=begin,
            start=Walk.run,
            result_key=shared,
        )
        response, is_leader = await self._wait_for(flight, seconds)
        if shared is not None:
            role = "leader" if is_leader else "follower"
            self.services.metrics.count("gaia_flights_total", role=role)
        if is_leader and not response.is_reused:
            return response
        return timed(reused(response), start)

    async def _known(
        self, key: IdempotencyKey, record: Mapping[str, Any], seconds: float
    ) -> Response | None:
        """Answer what was asked before under the same idempotency key."""
        try:
            async with asyncio.timeout(seconds):
                await self.ready()
                standing = await self.services.ledger.find(key)
        except TimeoutError:
            raise _nobody_asked(seconds) from None
        if standing is None or standing.key != key:
            # An equal request, asked for in other words, may stand for it.
            return None
        if standing.fingerprint != fingerprint(record):
            # It may be old enough to be used again: the ledger decides about that.
            return None
        self.services.metrics.count("gaia_idempotent_replays_total")
        return await self.services.replays.repeated(standing)

    def _may_be_bundled(self, plan: Plan) -> bool:
        """Tell whether anybody who may be asked takes many requests at once."""
        bundles, providers = self.services.bundles, self.services.plugins.providers
        hook = HOOK_OF[plan.request.capability]
        # All of them: what is half worked out takes memory while an item waits.
        ways = {
            (one.provider, one.model.max_batch_size): one for one in plan.candidates
        }
        return any(
            bundles.takes(providers[one.provider], one.model, hook)
            for one in ways.values()
        )

    def _planned(
        self, request: Request, **choices: Unpack[PlanChoices]
    ) -> tuple[Plan, Candidate]:
        plan = self.plan(request, **choices)
        best = plan.best
        if best is None:
            message = f"Nobody can serve this {request.capability} request."
            wait = self.earliest(request)
            raise NoCapableProviderError(message, plan.reasons, retry_after=wait)
        return plan, best

    def _result_key(
        self,
        record: Mapping[str, Any],
        best: Candidate,
        principal: str,
        *,
        reuse: bool | None,
    ) -> str | None:
        """Name what equal requests share; without a seed nothing is, unless asked."""
        if reuse is None:
            reuse = "seed" in record and self.settings.cache.enabled
        revision = revision_of(best.model) if reuse else None
        if revision is None:
            return None
        return result_key(
            record,
            provider=best.provider,
            model=best.model.id,
            revision=revision,
            tenant=principal,
        )

    # -- kept answers -----------------------------------------------------------------

    async def _kept(self, key: str) -> Response | None:
        """Ask the cache; one that fails has nothing."""
        try:
            await self.ready()
            return await self.cache.find(key)
        except Exception as error:  # noqa: BLE001  a host's cache may raise anything
            get_logger().warning("gaia.cache_failed", error=words_of(error))
            return None

    async def _keep(self, key: str, response: Response) -> None:
        """Tell the cache; whatever it does, what was paid for is handed over."""
        try:
            await self.cache.keep(key, response)
        except Exception as error:  # noqa: BLE001  as above
            get_logger().warning("gaia.cache_failed", error=words_of(error))

    # -- waiting ----------------------------------------------------------------------

    async def _wait_for(
        self, flight: _Flight, seconds: float | None
    ) -> tuple[Response, bool]:
        """
        Wait for a flight; what was sent goes on when nobody waits any more.

        Returns:
            The response, and whether this caller began the flight.
        """
        name = flight.name
        try:
            async with asyncio.timeout(seconds):
                while (served := await self._joined(flight)) is None:
                    pass
                return served
        except asyncio.CancelledError:
            await self._called_off(name)
            raise
        except TimeoutError:
            walk = self._leading.get(name)
            await self._called_off(name)
            if walk is None:
                raise _nobody_asked(seconds or 0.0) from None
            raise walk.too_late() from None

    async def _joined(self, flight: _Flight) -> tuple[Response, bool] | None:
        """Join a flight, or start it; None: it went elsewhere than this caller."""
        is_follower = flight.name in self._flights
        run = partial(self._run, flight)
        try:
            served = await self._flights.join(flight.name, run, on_left=self._leave)
        except (ProviderTimeoutError, NoTurnError) as error:
            # Whoever began it had less time; nobody was asked.
            if is_follower and not error.attempts:
                return None
            raise
        response, is_leader = served
        return served if is_leader or flight.takes(response) else None

    async def _run(self, flight: _Flight) -> Response:
        """Be the task of a flight: find the answer, or walk for it."""
        self._check_open()
        key = flight.result_key
        found = None if key is None else await self._kept(key)
        if found is not None:
            return reused(found)
        self._check_open()
        await self.ready()
        return await self._walk(flight)

    def _check_open(self) -> None:
        if self._is_closed:
            # As the ledger says it a moment later: an item of a batch is put back.
            message = "This Gaia is closed, and begins nothing new: open another one."
            raise LedgerError(message)

    async def _walk(self, flight: _Flight) -> Response:
        """Walk, known to those who may leave or close the door meanwhile."""
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        walk = self._walks[task] = self._leading[flight.name] = flight.begin()
        own = self._carried_out.setdefault(walk.operation.id, {})
        own[walk] = task
        try:
            response = await flight.start(walk)
            if flight.result_key is not None and walk.result_key is not None:
                await self._keep(walk.result_key, response)
        except Exception as error:
            if walk.is_left:
                kind = type(error).__name__
                get_logger().warning("gaia.detached_failed", error=kind)
            raise
        finally:
            if self._leading.get(flight.name) is walk:
                del self._leading[flight.name]
            del self._walks[task], own[walk]
            if not own:
                self._carried_out.pop(walk.operation.id, None)
        return response

    def _leave(self, task: asyncio.Task[Any]) -> None:
        """Let a walk that may have cost go on, and end any other."""
        walk = self._walks.get(task)
        if walk is not None:
            walk.is_left = True
        if walk is None or not walk.may_have_cost:
            task.cancel()

    async def _called_off(self, key: str) -> None:
        """Wait until a walk that was cancelled is off the book."""
        walk = self._leading.get(key)
        if walk is None:
            return
        task = self._carried_out.get(walk.operation.id, {}).get(walk)
        if task is not None and task.cancelling():
            await asyncio.wait([task], timeout=CANCEL_GRACE)

    def _count_refusal(self, error: GaiaError) -> None:
        metrics = self.services.metrics
        if isinstance(error, BudgetExceededError):
            scope = error.scope.partition(":")[0]
            metrics.count("gaia_budget_refusals_total", scope=scope)
        else:
            metrics.count("gaia_limit_refusals_total")


def _nobody_asked(seconds: float) -> ProviderTimeoutError:
    return ProviderTimeoutError(f"Nobody could be asked within {seconds:g} s.")


async def _carry_out(walk: Walk) -> Response:
    """Carry out an operation that is accepted already, if there is room for it."""
    await walk.check_room()
    return await walk.carry_out()
