"""Asking a provider: once, again, and about an answer that was lost."""

import asyncio
import itertools
import math
import time
import uuid
from decimal import Decimal
from functools import partial
from typing import cast

import attrs

from gaia_core.answers import Result, blame, checked
from gaia_core.bundles import ONE
from gaia_core.calls import answer_of, words_of
from gaia_core.capabilities import HOOK_OF
from gaia_core.choices import Delivery
from gaia_core.context import CallContext, Progress, ignore_progress
from gaia_core.errors import (
    BudgetExceededError,
    InvalidImageError,
    LedgerError,
    OutcomeClass,
    ProviderConnectionError,
    ProviderTimeoutError,
    TaskRunningError,
)
from gaia_core.ledger import BatchState, Operation
from gaia_core.lookups import can_look_up, is_definite, reference_of
from gaia_core.observability import get_logger
from gaia_core.plugins import Provider
from gaia_core.progress import brought_home
from gaia_core.reliability import (
    Asker,
    Target,
    charge_of,
    classify,
    cost_in_all,
    cost_of,
)
from gaia_core.requests import GenerateRequest, Request
from gaia_core.responses import Attempt
from gaia_core.selection import Candidate
from gaia_core.services import Services
from gaia_core.tracing import attempt_span, note_event

MAX_ATTEMPTS = 6
"""Most attempts of one operation, over all providers."""
LISTENING = 600.0
"""How long an answer is waited for beyond the deadline, in seconds: it is paid for."""


@attrs.define(eq=False, kw_only=True)
class Asking:
    """
    Asks providers on behalf of one operation.

    Attributes:
        services: What it works with.
        request: What is asked for.
        operation: For what.
        seconds: How long anybody waits.
        progress: Who is told how far the work is.
        delivery: Whether something may be paid twice rather than not come.
        max_cost_usd: What all attempts together may cost; None: any amount.
        started: When it began, on `time.monotonic`'s clock.
        attempts: What was tried so far, and what it may have cost.
        is_left: Whether nobody waits any more.
        is_with_others: Whether it was sent together with others, and is not answered:
            what becomes of it is known by its vendor.
        is_called_off: Whether its batch was called off.
    """

    services: Services
    request: Request
    operation: Operation
    seconds: float
    progress: Progress = ignore_progress
    delivery: Delivery = Delivery.AT_MOST_ONCE
    max_cost_usd: Decimal | None = None
    started: float = attrs.field(factory=time.monotonic, init=False)
    attempts: list[Attempt] = attrs.field(init=False)
    is_left: bool = attrs.field(default=False, init=False)
    is_with_others: bool = attrs.field(default=False, init=False)
    is_called_off: bool = attrs.field(default=False, init=False)
    # Waiting for others takes no time of those that are waited for.
    _paused: float = attrs.field(default=0.0, init=False)
    _since: float | None = attrs.field(default=None, init=False)

    @attempts.default
    def _attempts_before(self) -> list[Attempt]:
        return list(self.operation.attempts)

    @property
    def is_worn_out(self) -> bool:
        """Whether it was tried often enough; tries before a restart do not count."""
        tried = len(self.attempts) - len(self.operation.attempts)
        return tried >= MAX_ATTEMPTS

    @property
    def may_pay_twice(self) -> bool:
        """Whether a lost answer is no reason to stop."""
        return self.delivery is Delivery.AT_LEAST_ONCE

    def is_over(self, *, after: float = 0.0) -> bool:
        """Tell whether nobody waits any more: then nothing new is begun."""
        if self.is_called_off:
            return True
        now = time.monotonic()
        paused = self._paused + (0.0 if self._since is None else now - self._since)
        return self.is_left or now + after >= self.started + self.seconds + paused

    async def ask(self, candidate: Candidate) -> Result:
        """Ask one candidate, again if the reliability rules say so."""
        for repeats in itertools.count():
            try:
                return await self._traced(candidate, repeats)
            except Exception as error:
                await self._notice(error)
                wait = self._wait_before_repeat(candidate, repeats, error)
                if wait is None or self.is_over(after=wait):
                    raise
            note_event(
                "gaia.retry", gen_ai__provider__name=candidate.provider, wait=wait
            )
            await asyncio.sleep(wait)
        raise AssertionError  # pragma: no cover  count() never ends

    async def _traced(self, candidate: Candidate, repeats: int) -> Result:
        """Ask once, and have it in the trace."""
        model, capability = candidate.model.id, self.request.capability
        with attempt_span(candidate.provider, model, capability, repeats) as span:
            result = await self._attempt(candidate, repeats)
            span.note(
                gen_ai__response__model=result.model,
                gaia__cost_usd=self.attempts[-1].cost_usd,
            )
            return result

    async def _notice(self, error: Exception) -> None:
        """See whether the batch was called off: then nobody else is asked either."""
        book, batch_id = self.services.ledger.batches, self.operation.batch_id
        is_later = isinstance(error, LedgerError | TaskRunningError)
        if book is None or batch_id is None or is_later:
            return
        try:
            batch = await book.get(batch_id)
        except LedgerError:
            return
        self.is_called_off = batch is not None and batch.state is BatchState.CANCELLED

    def _wait_before_repeat(
        self, candidate: Candidate, repeats: int, error: Exception
    ) -> float | None:
        if self.is_worn_out or not self._may_repeat(candidate, error):
            return None
        return self.services.reliability.wait_before_repeat(
            self._target(candidate), repeats, error
        )

    def _may_repeat(self, candidate: Candidate, error: Exception) -> bool:
        """Tell whether asking again can make or charge nothing twice."""
        if isinstance(error, LedgerError | BudgetExceededError | TaskRunningError):
            return False
        outcome = classify(error)
        if outcome is not OutcomeClass.AMBIGUOUS:
            return outcome is OutcomeClass.REJECTED_BUSY
        if candidate.price_usd == 0 or self._is_idempotent(candidate):
            return True
        return self.may_pay_twice and self.is_affordable(candidate)

    def _is_idempotent(self, candidate: Candidate) -> bool:
        """Tell whether sending a task again never makes or charges it twice."""
        provider = self.services.plugins.providers[candidate.provider]
        return provider.info().is_idempotent

    def is_affordable(self, candidate: Candidate) -> bool:
        """Tell whether the ceiling of the operation allows one more task."""
        if self.max_cost_usd is None:
            return True
        spent, price = cost_in_all(self.attempts), candidate.price_usd
        if spent is None or price is None:
            return False
        return spent + price <= self.max_cost_usd

    async def _attempt(self, candidate: Candidate, repeats: int) -> Result:
        """Ask one provider once; the ledger knows before the provider does."""
        attempt = self._new_attempt(candidate)
        if self._is_bundled(candidate):
            # Many of them take one turn together.
            return await self._attempt_with_others(candidate, attempt)
        held = self.services.reliability.attempt(self._target(candidate), self._asker())
        async with held:
            await self._send(attempt)
            start = time.monotonic()
            try:
                result = await self._call(candidate, attempt.task_id)
            except Exception as error:  # noqa: BLE001  a plugin may raise anything
                self._record(candidate, classify(error), start, repeats, error)
                return await self._after_failure(candidate, error, start)
            self._record(candidate, OutcomeClass.OK, start, repeats)
            self._end(OutcomeClass.OK, start, charged=result.cost_usd)
        return result

    def _is_bundled(self, candidate: Candidate) -> bool:
        """Tell whether this goes to the provider together with others."""
        if self.operation.batch_id is None:
            return False
        provider = self.services.plugins.providers[candidate.provider]
        hook = HOOK_OF[self.request.capability]
        return self.services.bundles.takes(provider, candidate.model, hook)

    async def _attempt_with_others(
        self, candidate: Candidate, attempt: Attempt
    ) -> Result:
        """Wait for company, have it sent with that, and wait for the own answer."""
        tried, start = len(self.attempts), time.monotonic()
        # Known to the ledger: nothing that it could be looked up by was given yet.
        attempt = attrs.evolve(attempt, reference="")
        try:
            result = await self._call_with_others(candidate, attempt)
        except Exception as error:
            if len(self.attempts) == tried:
                raise
            outcome = classify(error)
            self._measure(candidate, outcome, start)
            if outcome is OutcomeClass.AMBIGUOUS and self._is_known_there(candidate):
                message = f"{candidate.provider} may still make it: it is asked later."
                raise TaskRunningError(message) from error
            return await self._after_failure(candidate, error, start)
        self._measure(candidate, OutcomeClass.OK, start)
        self._end(OutcomeClass.OK, start, charged=result.cost_usd)
        return result

    def _is_known_there(self, candidate: Candidate) -> bool:
        """Tell whether it is asked for later, a few at a time: it is one of many."""
        provider = self.services.plugins.providers[candidate.provider]
        return candidate.price_usd != 0 and can_look_up(provider)

    async def _call_with_others(self, candidate: Candidate, attempt: Attempt) -> Result:
        provider = self.services.plugins.providers[candidate.provider]
        request = cast("GenerateRequest", self._addressed(candidate, provider))
        bundles, since = self.services.bundles, time.monotonic()
        self._since = since
        try:
            given = await bundles.call(
                provider,
                candidate.model,
                request,
                self._context(candidate, attempt.task_id),
                send=partial(self._send_with_others, attempt),
                place=self.operation.position or 0,
            )
        except InvalidImageError as error:
            self.is_with_others = False
            await blame(error, request, candidate)
            raise
        except Exception:
            self.is_with_others = False
            raise
        finally:
            self._since = None
            self._paused += time.monotonic() - since
        self.is_with_others = False
        try:
            return await checked(given, candidate, ONE)
        except BaseException:
            bundles.ended(self.operation.id)
            raise

    async def _send_with_others(self, attempt: Attempt) -> None:
        """Write down what is about to be sent; from here on it is the vendor's."""
        await self._send(attempt)
        self.is_with_others = True

    def _new_attempt(self, candidate: Candidate) -> Attempt:
        """Mint the task id: the same for every repetition that cannot pay twice."""
        lost = [one for one in self.attempts if one.outcome is OutcomeClass.AMBIGUOUS]
        slot = candidate.name
        if lost and self.may_pay_twice and not self._is_idempotent(candidate):
            slot = f"{candidate.name}#{len(lost)}"
        return Attempt(
            provider=candidate.provider,
            model=candidate.model.id,
            task_id=_task_id(self.operation.id, slot),
            outcome=OutcomeClass.AMBIGUOUS,
            duration_ms=0.0,
            cost_usd=candidate.price_usd,
        )

    async def _send(self, attempt: Attempt) -> None:
        """Write down what is about to be sent, if anybody still waits for it."""
        if self.is_over():
            message = f"Nobody could be asked within {self.seconds:g} s."
            raise ProviderTimeoutError(message)
        # Before the ledger has it: whoever leaves now must not cancel the writing.
        self.attempts.append(attempt)
        try:
            await self.services.ledger.send(self.operation.id, attempt)
        except Exception:
            self.attempts.pop()
            raise

    async def _after_failure(
        self, candidate: Candidate, error: Exception, start: float
    ) -> Result:
        """Find out what became of an attempt that failed, and write that down."""
        outcome = classify(error)
        if outcome is OutcomeClass.AMBIGUOUS and candidate.price_usd != 0:
            try:
                found = await self._look_up(candidate, error)
            except Exception as known:  # noqa: BLE001  as above
                error, outcome = known, classify(known)
            else:
                if found is not None:
                    self._end(OutcomeClass.OK, start, charged=found.cost_usd)
                    return found
        ended = self._end(outcome, start, error=error)
        await self.services.ledger.end_attempt(self.operation.id, ended)
        raise error

    async def _look_up(self, candidate: Candidate, error: Exception) -> Result | None:
        """
        Ask what became of an attempt whose answer was lost.

        Returns:
            What it made, or None: it stays unknown.

        Raises:
            ProviderConnectionError: If the vendor has certainly never seen it.
            Exception: What it ended with, where the vendor can say.
        """
        provider = self.services.plugins.providers[candidate.provider]
        if not can_look_up(provider):
            return None
        # The deadline is the callers'; this is about money.
        task_id = self.attempts[-1].task_id
        context = attrs.evolve(
            self._context(candidate, task_id),
            deadline=math.inf,
            reference=reference_of(self.attempts, task_id),
        )
        try:
            found = await self.services.lookup.find(
                provider, candidate, context, self.request.capability
            )
        except Exception as failure:
            if is_definite(failure):
                raise
            self.services.lookup.note_silence(
                context.logger, candidate.provider, failure
            )
            return None
        if found is None:
            message = f"{candidate.provider} was not reached ({words_of(error)})."
            raise ProviderConnectionError(message)
        return found

    async def _call(self, candidate: Candidate, task_id: str) -> Result:
        provider = self.services.plugins.providers[candidate.provider]
        request = self._addressed(candidate, provider)
        context = self._context(candidate, task_id)
        hook = HOOK_OF[request.capability]
        try:
            async with asyncio.timeout(context.seconds_left + LISTENING):
                result = await answer_of(
                    provider, hook, request=request, context=context
                )
        except InvalidImageError as error:
            await blame(error, request, candidate)
            raise
        return await checked(result, candidate, hook)

    def _context(self, candidate: Candidate, task_id: str) -> CallContext:
        provider = self.services.plugins.providers[candidate.provider]
        return CallContext(
            operation_id=self.operation.id,
            task_id=task_id,
            deadline=self.started + self.seconds + self._paused,
            logger=get_logger(
                operation_id=self.operation.id,
                task_id=task_id,
                provider=candidate.provider,
            ),
            fetch=self.services.fetch_for(provider),
            remember=partial(self._remember, task_id),
            progress=brought_home(self.progress),
        )

    async def _remember(self, task_id: str, reference: str) -> None:
        """Put on record what an attempt can be looked up by."""
        await self.services.references.remember(task_id, reference)
        for place in reversed(range(len(self.attempts))):
            if self.attempts[place].task_id == task_id:
                noted = attrs.evolve(self.attempts[place], reference=reference)
                self.attempts[place] = noted
                return

    def _addressed(self, candidate: Candidate, provider: Provider) -> Request:
        """Name the model; leave in only its own options, under the plugin's name."""
        request = self.request
        own = request.options_for(provider.name) or request.options_for(provider.plugin)
        return attrs.evolve(
            request,
            model=candidate.model.id,
            provider_options={provider.plugin: own} if own else {},
        )

    def _target(self, candidate: Candidate) -> Target:
        return Target(
            provider=candidate.provider,
            model=candidate.model.id,
            capability=self.request.capability,
        )

    def _asker(self) -> Asker:
        one = self.operation
        return Asker(
            tenant=one.user_id or one.principal or one.campaign_id or "",
            is_batch=one.batch_id is not None,
            deadline=self.started + self.seconds + self._paused,
        )

    def _record(
        self,
        candidate: Candidate,
        outcome: OutcomeClass,
        start: float,
        repeats: int,
        error: Exception | None = None,
    ) -> None:
        seconds = time.monotonic() - start
        self.services.reliability.record(
            self._target(candidate), outcome, seconds, error=error, repeats=repeats
        )
        self._measure(candidate, outcome, start)

    def _measure(
        self, candidate: Candidate, outcome: OutcomeClass, start: float
    ) -> None:
        """Tell whoever counts how an attempt ended."""
        seconds = time.monotonic() - start
        metrics, provider = self.services.metrics, candidate.provider
        metrics.count("gaia_attempts_total", provider=provider, outcome=str(outcome))
        metrics.observe(
            "gaia_attempt_seconds", seconds, provider=provider, outcome=str(outcome)
        )

    def _end(
        self,
        outcome: OutcomeClass,
        start: float,
        *,
        charged: Decimal | None = None,
        error: Exception | None = None,
    ) -> Attempt:
        """Put how it ended in the place of the latest attempt."""
        attempt = self.attempts[-1]
        charged = charge_of(error) if charged is None else charged
        self.attempts[-1] = attrs.evolve(
            attempt,
            outcome=outcome,
            duration_ms=(time.monotonic() - start) * 1_000,
            cost_usd=cost_of(outcome, attempt.cost_usd, charged),
            error=None if error is None else words_of(error),
        )
        return self.attempts[-1]


def _task_id(operation_id: str, slot: str) -> str:
    """
    Give the identifier of a slot of an operation; the same slot has the same.

    It is marked as a UUID of version 4: some vendors take no others.
    """
    digest = uuid.uuid5(uuid.UUID(operation_id), slot)
    return str(uuid.UUID(bytes=digest.bytes, version=4))
