"""
The way of one operation, from the ledger's first line to its last.

::

    plan > reserve > attempt > result > store > settle > response
"""

import asyncio
import copy
import itertools
import threading
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from typing import Any, cast

import attrs

from gaia_core.answers import Result, beside, blame, checked, damaged
from gaia_core.calls import answer_of, words_of
from gaia_core.context import CallContext, Progress
from gaia_core.errors import (
    GaiaError,
    InvalidImageError,
    OutcomeClass,
    OutcomeUnknownError,
    ProviderError,
    ProviderTimeoutError,
)
from gaia_core.fetching import GuardedFetcher
from gaia_core.hookspecs import HOOK_OF
from gaia_core.images import Image
from gaia_core.ledger import Ledger, Operation, OperationState
from gaia_core.metadata import annotate
from gaia_core.observability import get_logger, mask
from gaia_core.plugins import Plugins, Provider
from gaia_core.reliability import (
    Reliability,
    classify,
    cost_in_all,
    cost_of,
    is_model_missing,
    lost_attempt,
    may_fall_back,
)
from gaia_core.requests import GenerateRequest, Request
from gaia_core.responses import (
    Attempt,
    DescriptionResponse,
    ImageResponse,
    PromptResponse,
    Response,
    StoredImage,
)
from gaia_core.results import (
    GeneratedImage,
    ImageResult,
    PromptResult,
)
from gaia_core.selection import Candidate, Plan, ignored_fields
from gaia_core.storage import ImageStorage


@attrs.frozen(kw_only=True)
class Services:
    """
    What a walk works with.

    Attributes:
        plugins: The providers to ask.
        storage: Where pictures are kept.
        ledger: Where operations are kept.
        reliability: What decides about repetition.
        fetcher: What providers fetch results through.
        keep_prompt: Whether pictures carry the prompt in their metadata.
    """

    plugins: Plugins
    storage: ImageStorage
    ledger: Ledger
    reliability: Reliability
    fetcher: GuardedFetcher
    keep_prompt: bool = True


@attrs.define(eq=False, kw_only=True)
class Walk:
    """One operation on its way; knows what was tried and what it may have cost."""

    services: Services
    plan: Plan
    seconds: float
    progress: Progress
    operation_id: str = attrs.field(factory=lambda: uuid.uuid4().hex, init=False)
    started: float = attrs.field(factory=time.monotonic, init=False)
    attempts: list[Attempt] = attrs.field(factory=list, init=False)
    is_left: bool = attrs.field(default=False, init=False)

    @property
    def may_have_cost(self) -> bool:
        """Whether anything tried so far was charged, or may have been."""
        return any(attempt.cost_usd != 0 for attempt in self.attempts)

    async def run(self) -> Response:
        """Take the operation from the ledger's first line to its last."""
        await self.services.ledger.accept(self._operation())
        try:
            candidate, result = await self._ask_in_turn()
            response = await self._finish(candidate, result)
        except asyncio.CancelledError:
            await self._abandon()
            raise
        except Exception as error:
            failure = await self._close(error)
            if failure is error:
                raise
            raise failure from error
        self._log(OperationState.DONE)
        return response

    def too_late(self) -> GaiaError:
        """Make the error for a caller whose waiting is over."""
        if not self.attempts:
            message = f"Nobody could be asked within {self.seconds:g} s."
            return self._signed(ProviderTimeoutError(message))
        provider = self.attempts[-1].provider
        message = f"{provider} did not answer within {self.seconds:g} s."
        if self.may_have_cost:
            return self._unknown(
                f"{message} Its result is kept when it comes.", provider
            )
        return self._signed(ProviderTimeoutError(message))

    # -- plan > attempt -----------------------------------------------------------

    async def _ask_in_turn(self) -> tuple[Candidate, Result]:
        """Ask the candidates one after another, as far as each error allows."""
        error: Exception | None = None
        previous = ""
        for candidate in self.plan.in_turn():
            if candidate.is_substitute and not (
                candidate.provider == previous and error and is_model_missing(error)
            ):
                continue
            previous = candidate.provider
            try:
                return candidate, await self._ask(candidate)
            except Exception as failure:
                error = failure
                if self._is_over() or not self._may_fall_back(failure, candidate):
                    raise
        raise cast("Exception", error)

    def _may_fall_back(self, failure: Exception, candidate: Candidate) -> bool:
        """Tell whether another may be asked: never while a charge is in doubt."""
        is_free = candidate.price_usd == 0
        return lost_attempt(self.attempts) is None and may_fall_back(
            failure, is_free=is_free
        )

    async def _ask(self, candidate: Candidate) -> Result:
        """Ask one candidate, again if the reliability rules say so."""
        slot = str(uuid.uuid5(uuid.UUID(self.operation_id), candidate.name))
        for repeats in itertools.count():
            try:
                return await self._attempt(candidate, task_id=slot)
            except Exception as error:
                wait = self.services.reliability.wait_before_repeat(
                    candidate.provider, repeats, error
                )
                if wait is None or self._is_over(after=wait):
                    raise
            await asyncio.sleep(wait)
        raise AssertionError  # pragma: no cover  count() never ends

    def _is_over(self, *, after: float = 0.0) -> bool:
        """Tell whether nobody waits any more: then nothing new is begun."""
        return self.is_left or time.monotonic() + after >= self.started + self.seconds

    async def _attempt(self, candidate: Candidate, *, task_id: str) -> Result:
        """Ask one provider once; the ledger knows before the provider does."""
        attempt = Attempt(
            provider=candidate.provider,
            model=candidate.model.id,
            task_id=task_id,
            outcome=OutcomeClass.AMBIGUOUS,
            duration_ms=0.0,
            cost_usd=candidate.price_usd,
        )
        held = self.services.reliability.attempt(
            candidate.provider, candidate.model.id, self.plan.request.capability
        )
        async with held:
            await self.services.ledger.send(self.operation_id, attempt)
            self.attempts.append(attempt)
            start = time.monotonic()
            try:
                result = await self._call(candidate, task_id)
            except Exception as error:
                await self._end(attempt, classify(error), start, error=error)
                raise
            await self._end(attempt, OutcomeClass.OK, start, charged=result.cost_usd)
        return result

    async def _call(self, candidate: Candidate, task_id: str) -> Result:
        provider = self.services.plugins.providers[candidate.provider]
        request = self._addressed(candidate, provider)
        context = CallContext(
            operation_id=self.operation_id,
            task_id=task_id,
            deadline=self.started + self.seconds,
            logger=get_logger(
                operation_id=self.operation_id,
                task_id=task_id,
                provider=candidate.provider,
            ),
            fetch=self.services.fetcher.fetch,
            progress=self._reporter(),
        )
        hook = HOOK_OF[request.capability]
        try:
            result = await answer_of(provider, hook, request=request, context=context)
        except InvalidImageError as error:
            await blame(error, request, candidate)
            raise
        return await checked(result, candidate, hook)

    def _addressed(self, candidate: Candidate, provider: Provider) -> Request:
        """Name the model; leave in only its own options, under the plugin's name."""
        request = self.plan.request
        own = request.options_for(provider.name) or request.options_for(provider.plugin)
        return attrs.evolve(
            request,
            model=candidate.model.id,
            provider_options={provider.plugin: own} if own else {},
        )

    def _reporter(self) -> Progress:
        """Bring progress to the thread of the loop, where the host listens."""
        loop, home = asyncio.get_running_loop(), threading.get_ident()

        def report(fraction: float, preview: Image | None) -> None:
            if threading.get_ident() == home:
                self._report(fraction, preview)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(self._report, fraction, preview)

        return report

    def _report(self, fraction: float, preview: Image | None) -> None:
        """Tell the host how far the work is; a host that fails ends no work."""
        try:
            self.progress(fraction, preview)
        except Exception as error:  # noqa: BLE001  the host's own business
            get_logger().warning("gaia.progress_failed", error=type(error).__name__)

    async def _end(
        self,
        attempt: Attempt,
        outcome: OutcomeClass,
        start: float,
        *,
        charged: Decimal | None = None,
        error: Exception | None = None,
    ) -> None:
        seconds = time.monotonic() - start
        ended = attrs.evolve(
            attempt,
            outcome=outcome,
            duration_ms=seconds * 1_000,
            cost_usd=cost_of(outcome, attempt.cost_usd, charged),
            error=None if error is None else words_of(error),
        )
        self.attempts[-1] = ended
        self.services.reliability.record(attempt.provider, outcome, seconds)
        await self.services.ledger.end_attempt(self.operation_id, ended)

    # -- result > store > settle > response ---------------------------------------

    async def _finish(self, candidate: Candidate, result: Result) -> Response:
        """Store what was made, settle what it cost, and answer."""
        images = await self._store(candidate, result)
        cost = cost_in_all(self.attempts)
        ids = tuple(image.id for image in images)
        await self.services.ledger.settle(self.operation_id, cost, ids)
        facts: dict[str, Any] = {
            "operation_id": self.operation_id,
            "provider": candidate.provider,
            "model": result.model,
            "attempts": tuple(self.attempts),
            "cost_usd": cost,
            "warnings": self._warnings(candidate, result),
            "duration_ms": (time.monotonic() - self.started) * 1_000,
        }
        if isinstance(result, ImageResult):
            return ImageResponse(images=images, **facts)
        if isinstance(result, PromptResult):
            return PromptResponse(prompt=result.prompt, **facts)
        return DescriptionResponse(description=result.description, **facts)

    async def _store(
        self, candidate: Candidate, result: Result
    ) -> tuple[StoredImage, ...]:
        if not isinstance(result, ImageResult):
            return ()
        return tuple(
            [await self._store_one(candidate, result, image) for image in result.images]
        )

    async def _store_one(
        self, candidate: Candidate, result: ImageResult, image: GeneratedImage
    ) -> StoredImage:
        request = self.plan.request
        annotated = await beside(image.image, partial(self._annotated, result, image))
        return await self.services.storage.put(
            annotated,
            operation_id=self.operation_id,
            provider=candidate.provider,
            model=result.model,
            prompt=getattr(request, "prompt", None),
            seed=image.seed,
            campaign_id=request.campaign_id,
            user_id=request.user_id,
        )

    def _annotated(self, result: ImageResult, image: GeneratedImage) -> Image:
        """Write Gaia's metadata into bytes encoded here; leave all others alone."""
        if not image.is_encoded_here:
            return image.image
        try:
            data = annotate(
                image,
                request=self.plan.request,
                model=result.model,
                provider=result.provider,
                keep_prompt=self.services.keep_prompt,
            )
        except InvalidImageError as error:
            raise damaged(result.provider, error) from error
        return Image.from_bytes(data)

    def _warnings(self, candidate: Candidate, result: Result) -> tuple[str, ...]:
        """Say what was not honoured, and what a fallback changed."""
        ignored = (
            f"{name} ignored: {candidate.model.id} does not support it"
            for name in ignored_fields(self.plan.request, candidate.model)
        )
        failed = (
            f"{attempt.provider}/{attempt.model} failed ({attempt.error}); "
            f"served by {candidate.name}"
            for attempt in self.attempts[:-1]
        )
        short = _shortfalls(self.plan.request, result)
        return (*failed, *ignored, *short, *result.warnings)

    # -- failure ------------------------------------------------------------------

    def _operation(self) -> Operation:
        request = self.plan.request
        best = self.plan.best
        return Operation(
            id=self.operation_id,
            capability=request.capability,
            campaign_id=request.campaign_id,
            user_id=request.user_id,
            reserved_usd=(best and best.price_usd) or Decimal(0),
        )

    async def _close(self, error: Exception) -> GaiaError:
        """Write the failure into the ledger and turn it into what a host sees."""
        failure = self._signed(self._public(error))
        is_unknown = isinstance(failure, OutcomeUnknownError)
        state = OperationState.UNKNOWN if is_unknown else OperationState.FAILED
        await self.services.ledger.fail(self.operation_id, state, words_of(failure))
        self._log(state, error=type(failure).__name__)
        return failure

    async def _abandon(self) -> None:
        """Write into the ledger that the operation was cancelled."""
        state = OperationState.UNKNOWN if self.may_have_cost else OperationState.FAILED
        await self.services.ledger.fail(self.operation_id, state, "cancelled")
        self._log(state, error="CancelledError")

    def _public(self, error: Exception) -> GaiaError:
        """Translate what escaped a hook; Gaia's own errors stay as they are."""
        lost = lost_attempt(self.attempts)
        if lost is not None:
            return self._unknown(
                f"The answer of {lost.provider} was lost ({lost.error}); "
                "the picture may have been made and charged.",
                lost.provider,
            )
        if isinstance(error, GaiaError):
            return error
        who = self.attempts[-1].provider if self.attempts else "Gaia"
        return ProviderError(f"{who} failed with {words_of(error)}.")

    def _unknown(self, message: str, provider: str) -> GaiaError:
        advice = f"Look operation {self.operation_id} up before asking again."
        return self._signed(
            OutcomeUnknownError(
                f"{message} {advice}",
                operation_id=self.operation_id,
                provider=provider,
            )
        )

    def _signed(self, error: GaiaError) -> GaiaError:
        """Put the operation and its attempts on an error, and the mask over keys."""
        if error.operation_id is not None and isinstance(error, ProviderError):
            # A provider may raise one object for many operations.
            error = copy.copy(error)
        words = str(error)
        if (masked := mask(words)) != words:
            error.args = (masked, *error.args[1:])
        error.operation_id = self.operation_id
        error.attempts = tuple(self.attempts)
        return error

    def _log(self, state: OperationState, **facts: Any) -> None:
        """Write the one line each operation leaves in the log."""
        get_logger().info(
            "gaia.operation_finished",
            operation_id=self.operation_id,
            capability=str(self.plan.request.capability),
            state=str(state),
            attempts=[f"{a.provider}/{a.model}: {a.outcome}" for a in self.attempts],
            duration_ms=round((time.monotonic() - self.started) * 1_000, 1),
            **facts,
        )


def _shortfalls(request: Request, result: Result) -> Iterator[str]:
    """Say where pictures are fewer or of another size than asked for."""
    if not isinstance(request, GenerateRequest) or not isinstance(result, ImageResult):
        return
    if len(result.images) != request.num_images:
        yield f"{len(result.images)} pictures made, {request.num_images} asked for"
    asked = f"{request.width}x{request.height}"
    for made in sorted({f"{one.width}x{one.height}" for one in result.images}):
        if made != asked and not any(made in words for words in result.warnings):
            yield f"made {made}, not {asked}"
