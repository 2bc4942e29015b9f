"""
The way of one operation, from the ledger's first line to its last.

::

    plan > reserve > attempt > result > store > settle > response
"""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, cast

import attrs

from gaia_core.answers import Result
from gaia_core.asking import Asking
from gaia_core.calls import words_of
from gaia_core.choices import Delivery
from gaia_core.context import Progress, ignore_progress
from gaia_core.endings import (
    answer_in,
    failure_of,
    public,
    response_of,
    signed,
    unknown,
    warnings_of,
)
from gaia_core.errors import (
    GaiaError,
    LeaseLostError,
    LedgerError,
    ProviderTimeoutError,
    StorageError,
    TaskRunningError,
)
from gaia_core.ledger import Failure, Operation, OperationState, Settlement
from gaia_core.observability import get_logger
from gaia_core.records import result_key
from gaia_core.reliability import (
    cost_in_all,
    is_model_missing,
    is_put_off,
    lost_attempt,
    may_fall_back,
)
from gaia_core.requests import Request
from gaia_core.responses import Attempt, Response, StoredImage
from gaia_core.results import ImageResult
from gaia_core.selection import Candidate, Plan
from gaia_core.services import Services
from gaia_core.states import revision_of
from gaia_core.tracing import Traced, operation_span


@attrs.define(eq=False, kw_only=True)
class Walk:
    """
    One operation on its way; knows what was tried and what it may have cost.

    Attributes:
        services: What it works with.
        plan: Whom to ask.
        operation: What it is on the ledger.
        seconds: How long anybody waits.
        progress: Who is told how far the work is.
        delivery: Whether something may be paid twice rather than not come.
        result_key: What equal requests find the answer by; None: nobody does.
        is_let_go: Whether it is to put its item back itself, if it comes to that.
    """

    services: Services
    plan: Plan
    operation: Operation
    seconds: float
    progress: Progress = ignore_progress
    delivery: Delivery = Delivery.AT_MOST_ONCE
    result_key: str | None = None
    is_let_go: bool = attrs.field(default=False, init=False)
    _asking: Asking = attrs.field(init=False)
    _is_received: bool = attrs.field(default=False, init=False)

    @_asking.default
    def _own_asking(self) -> Asking:
        return Asking(
            services=self.services,
            request=self.plan.request,
            operation=self.operation,
            seconds=self.seconds,
            progress=self.progress,
            delivery=self.delivery,
            max_cost_usd=self.plan.preferences.max_cost_usd,
        )

    @property
    def attempts(self) -> list[Attempt]:
        """What was tried so far, and what it may have cost."""
        return self._asking.attempts

    @property
    def may_have_cost(self) -> bool:
        """Whether anything tried so far was charged, or may have been."""
        return any(attempt.cost_usd != 0 for attempt in self.attempts)

    @property
    def is_with_others(self) -> bool:
        """Whether a vendor has it together with others, and has not answered."""
        return self.may_have_cost and self._asking.is_with_others

    @property
    def is_left(self) -> bool:
        """Whether nobody waits any more: then nothing new is begun."""
        return self._asking.is_left

    @is_left.setter
    def is_left(self, value: bool) -> None:
        self._asking.is_left = value

    async def run(self) -> Response:
        """Take the operation on, and carry it out; or answer from the book."""
        await self.check_room()
        try:
            standing = await self._accept()
        except (asyncio.CancelledError, LedgerError):
            # It may be on the book all the same: the answer was lost, not the act.
            if await self._may_be_accepted():
                await self._abandon()
            raise
        return await self.carry_out() if standing is None else standing

    async def check_room(self) -> None:
        """
        Refuse what could not be stored, before anything is paid.

        Raises:
            StorageError: If the image store has no room or cannot be written.
        """
        expected = _expected_bytes(self.plan.request)
        await self.services.keeper.storage.check(expected)

    async def carry_out(self) -> Response:
        """Carry out an operation that the ledger has taken on."""
        request = self.plan.request
        with operation_span(self.operation.id, request.capability, request) as span:
            try:
                response = await self._carry_out(span)
            finally:
                span.note(gaia__cost_usd=cost_in_all(self.attempts))
            span.note(
                gen_ai__provider__name=response.provider,
                gen_ai__response__model=response.model,
            )
            return response

    async def _carry_out(self, span: Traced) -> Response:
        try:
            candidate, result = await self._ask_in_turn(span)
            response = await self._finish(candidate, result)
        except asyncio.CancelledError:
            await self._abandon()
            raise
        except Exception as error:
            failure = await self._close(error)
            if failure is error:
                raise
            raise failure from error
        finally:
            self.services.bundles.ended(self.operation.id)
        self._log(OperationState.DONE, response.provider, response.model)
        return response

    def too_late(self) -> GaiaError:
        """Make the error for a caller whose waiting is over."""
        if not self.attempts:
            message = f"Nobody could be asked within {self.seconds:g} s."
            return self._signed(ProviderTimeoutError(message))
        provider = self.attempts[-1].provider
        message = f"{provider} did not answer within {self.seconds:g} s."
        if self.may_have_cost:
            words = f"{message} Its result is kept when it comes."
            return unknown(words, provider, self.operation.id, self.attempts)
        return self._signed(ProviderTimeoutError(message))

    # -- reserve --------------------------------------------------------------------

    async def _accept(self) -> Response | None:
        """Have the ledger take the operation on, unless another stands for it."""
        operation, replays = self.operation, self.services.replays
        tried: str | None = None
        while True:
            standing = await self.services.ledger.accept(operation)
            if standing.id == operation.id:
                return None
            if standing.id == tried or (
                operation.key is not None and standing.key == operation.key
            ):
                return await replays.repeated(standing)
            response = await replays.shared(standing, operation.result_key or "")
            if response is not None and self._takes(response):
                return response
            if response is not None:
                # It fell back to somebody this request may not go to.
                operation = attrs.evolve(operation, result_key=None)
            tried = standing.id

    def _takes(self, response: Response) -> bool:
        """Tell whether this request might have gone to who served another."""
        return any(one.provider == response.provider for one in self.plan.in_turn())

    async def _may_be_accepted(self) -> bool:
        """Tell whether the ledger may have the operation; another may stand for it."""
        try:
            return await self.services.ledger.get(self.operation.id) is not None
        except LedgerError:
            return True

    # -- attempt --------------------------------------------------------------------

    async def _ask_in_turn(self, span: Traced) -> tuple[Candidate, Result]:
        """Ask the candidates one after another, as far as each error allows."""
        error: Exception | None = None
        asked: list[str] = []
        for candidate in self.plan.in_turn():
            if not self._is_next(candidate, asked, error):
                continue
            if error is not None:
                reason = type(error).__name__
                span.event("gaia.fallback", **_named(candidate), error__type=reason)
            asked.append(candidate.provider)
            try:
                return candidate, await self._asking.ask(candidate)
            except Exception as failure:
                error = failure
                if self._asking.is_over() or not self._may_fall_back(
                    failure, candidate
                ):
                    raise
        raise cast("Exception", error)

    def _is_next(
        self, candidate: Candidate, asked: list[str], error: Exception | None
    ) -> bool:
        """Tell whether a candidate may be asked, after those asked before it."""
        if error is None:
            return True
        if candidate.is_substitute and not (
            candidate.provider == asked[-1] and is_model_missing(error)
        ):
            return False
        further = {*asked, candidate.provider} - {asked[0]}
        is_configured = self.plan.request.provider is not None
        is_near = is_configured or len(further) <= self.services.max_fallbacks
        return is_near and self._asking.is_affordable(candidate)

    def _may_fall_back(self, failure: Exception, candidate: Candidate) -> bool:
        """Tell whether another may be asked: never while a charge is in doubt."""
        if self._asking.is_worn_out:
            return False
        may_pay_twice = self._asking.may_pay_twice
        is_free = candidate.price_usd == 0 or may_pay_twice
        is_settled = may_pay_twice or lost_attempt(self.attempts) is None
        return is_settled and may_fall_back(failure, is_free=is_free)

    # -- result > store > settle > response -----------------------------------------

    async def _finish(self, candidate: Candidate, result: Result) -> Response:
        """Store what was made, settle what it cost, and answer."""
        images = await self._keep(candidate, result)
        response = response_of(
            result,
            images,
            operation_id=self.operation.id,
            provider=candidate.provider,
            model=result.model,
            attempts=tuple(self.attempts),
            cost_usd=cost_in_all(self.attempts),
            warnings=warnings_of(self.plan.request, candidate, result, self.attempts),
            duration_ms=(time.monotonic() - self._asking.started) * 1_000,
        )
        await self._settle(candidate, response, images)
        return response

    async def _keep(
        self, candidate: Candidate, result: Result
    ) -> tuple[StoredImage, ...]:
        if not isinstance(result, ImageResult):
            return ()
        try:
            return await self.services.keeper.keep(
                result,
                operation=self.operation,
                provider=candidate.provider,
                request=self.plan.request,
            )
        except (StorageError, asyncio.CancelledError):
            self._is_received = True
            await self._write(
                self.services.ledger.receive(self.operation.id, self.attempts[-1])
            )
            raise

    async def _settle(
        self,
        candidate: Candidate,
        response: Response,
        images: tuple[StoredImage, ...],
    ) -> None:
        claimed, self.result_key = self.result_key, self._served_key(candidate)
        settlement = Settlement(
            provider=response.provider,
            model=response.model,
            cost_usd=response.cost_usd,
            images=images,
            answer=answer_in(response),
            attempt=self.attempts[-1],
            result_key=self.result_key,
        )
        ledger = self.services.ledger
        await self._write(ledger.settle(self.operation.id, settlement), settlement)
        is_claimed = claimed is not None and claimed == self.operation.result_key
        if claimed is not None and is_claimed and claimed != self.result_key:
            await self._write(ledger.forget_result(claimed, self.operation.id))

    def _served_key(self, candidate: Candidate) -> str | None:
        """
        Name the answer by who gave it: a substitute's is not the first choice's.

        Where weights were replaced meanwhile, nobody knows whose it is.
        """
        model, is_first = candidate.model, candidate is self.plan.best
        if self.result_key is None or (is_first and model.live_revision is None):
            return self.result_key
        revision = revision_of(model)
        if revision is None:
            return None
        key = result_key(
            self.operation.request or {},
            provider=candidate.provider,
            model=model.id,
            revision=revision,
            tenant=self.operation.principal,
        )
        return key if not is_first or key == self.result_key else None

    async def _write(
        self, writing: Awaitable[object], later: Settlement | Failure | None = None
    ) -> None:
        """Write an ending down; what cannot be written now is written later."""
        try:
            await writing
        except LeaseLostError:
            get_logger().warning("gaia.lease_lost", operation_id=self.operation.id)
        except LedgerError as error:
            get_logger().warning(
                "gaia.ledger_failed",
                operation_id=self.operation.id,
                error=words_of(error),
            )
            if later is not None:
                self.services.backlog[self.operation.id] = later

    # -- failure --------------------------------------------------------------------

    async def _close(self, error: Exception) -> GaiaError:
        """Write the failure into the ledger and turn it into what a host sees."""
        if self._is_received:
            self._log(OperationState.RECEIVED, error=type(error).__name__)
            return self._signed(cast("GaiaError", error))
        if isinstance(error, TaskRunningError) and self.operation.batch_id is not None:
            # Whoever settles what was left behind asks what becomes of it.
            self.services.left_open.add(self.operation.id)
            self._log(OperationState.SENT, error=type(error).__name__)
            return self._signed(error)
        failure = public(error, self.operation.id, self.attempts)
        is_later = self._is_free_item and is_put_off(error, self._tried)
        if self._is_unsent_item or is_later:
            await self._leave_open()
            return failure
        ending = failure_of(failure, self.attempts)
        await self._fail(ending)
        self._log(ending.state, error=ending.error_type)
        return failure

    @property
    def _is_unsent_item(self) -> bool:
        """Whether it is leased still, and nothing was sent for it this time."""
        return self.operation.batch_id is not None and not self._tried

    @property
    def _is_free_item(self) -> bool:
        """Whether it is an item of a batch for which certainly nothing is owed."""
        return self.operation.batch_id is not None and not self.may_have_cost

    @property
    def _tried(self) -> list[Attempt]:
        """What was tried this time, not before it was put back or taken over."""
        return self.attempts[len(self.operation.attempts) :]

    async def _leave_open(self) -> None:
        """Leave an item to whoever leased it, or put it back where that one is gone."""
        book = self.services.ledger.batches
        if self.is_let_go and book is not None:
            await self._write(book.release(self.operation.id, was_sent=True))

    async def _abandon(self) -> None:
        """Write into the ledger that the operation was cancelled."""
        if self._is_received:
            self._log(OperationState.RECEIVED, error="CancelledError")
            return
        if self._is_free_item:
            await self._leave_open()
            return
        if self.is_with_others:
            # The vendor works on: who comes next asks what became of it.
            self._log(OperationState.SENT, error="CancelledError")
            return
        is_open = self.may_have_cost
        state = OperationState.UNKNOWN if is_open else OperationState.CANCELLED
        words = "cancelled, after it was sent" if is_open else "cancelled"
        await self._fail(
            Failure(
                state=state,
                error_type="CancelledError",
                error=words,
                is_final=is_open,
                cost_usd=cost_in_all(self.attempts),
            )
        )
        self._log(state, error="CancelledError")

    async def _fail(self, ending: Failure) -> None:
        ledger = self.services.ledger
        await self._write(ledger.fail(self.operation.id, ending), ending)

    def _signed(self, error: GaiaError) -> GaiaError:
        return signed(error, self.operation.id, self.attempts)

    def _log(
        self,
        state: OperationState,
        provider: str = "",
        model: str = "",
        **facts: Any,
    ) -> None:
        """Write the one line each operation leaves in the log, and count it."""
        seconds = time.monotonic() - self._asking.started
        capability = str(self.plan.request.capability)
        if self.attempts and not provider:
            provider, model = self.attempts[-1].provider, self.attempts[-1].model
        metrics = self.services.metrics
        metrics.count(
            "gaia_operations_total",
            capability=capability,
            provider=provider,
            model=model,
            state=str(state),
        )
        metrics.observe("gaia_operation_seconds", seconds, capability=capability)
        for one in self.attempts:
            cost = float(one.cost_usd or 0)
            metrics.count("gaia_cost_usd_total", cost, provider=one.provider)
        get_logger().info(
            "gaia.operation_finished",
            operation_id=self.operation.id,
            capability=capability,
            state=str(state),
            attempts=[f"{a.provider}/{a.model}: {a.outcome}" for a in self.attempts],
            duration_ms=round(seconds * 1_000, 1),
            **facts,
        )


def _named(candidate: Candidate) -> dict[str, str]:
    """Name who is asked, as spans do."""
    return {
        "gen_ai__provider__name": candidate.provider,
        "gen_ai__request__model": candidate.model.id,
    }


def _expected_bytes(request: Request) -> int:
    """Guess how much room the pictures of a request take, uncompressed at most."""
    width, height = getattr(request, "width", 0), getattr(request, "height", 0)
    if image := getattr(request, "image", None):
        factor = getattr(request, "upscale_factor", 1)
        width = max(width, image.width * factor)
        height = max(height, image.height * factor)
    return 3 * width * height * getattr(request, "num_images", 1)
