"""
The way of one operation, from the ledger's first line to its last.

::

    plan > reserve > attempt > result > store > settle > response
"""

import asyncio
import itertools
import time
import uuid
from decimal import Decimal
from typing import Any, cast

import attrs

from gaia_core.context import CallContext, Progress
from gaia_core.errors import (
    GaiaError,
    InvalidImageError,
    OutcomeClass,
    OutcomeUnknownError,
    ProviderError,
    ProviderTimeoutError,
    UnusableResultError,
)
from gaia_core.fetching import GuardedFetcher
from gaia_core.hookspecs import HOOK_OF
from gaia_core.images import Image
from gaia_core.ledger import Ledger, Operation, OperationState
from gaia_core.metadata import annotate
from gaia_core.observability import get_logger
from gaia_core.plugins import Plugins
from gaia_core.reliability import (
    Reliability,
    classify,
    is_model_missing,
    may_fall_back,
)
from gaia_core.responses import (
    Attempt,
    DescriptionResponse,
    ImageResponse,
    PromptResponse,
    Response,
    StoredImage,
)
from gaia_core.results import (
    DescriptionResult,
    GeneratedImage,
    ImageResult,
    PromptResult,
)
from gaia_core.selection import Candidate, Plan, ignored_fields
from gaia_core.storage import ImageStorage

Result = ImageResult | PromptResult | DescriptionResult

_SMALL = 16_384
"""Pixels a picture may have to be decoded faster than a thread starts."""

_RESULT_OF: dict[str, type] = {
    "gaia_enhance_prompt": PromptResult,
    "gaia_describe_image": DescriptionResult,
}


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
    may_have_cost: bool = attrs.field(default=False, init=False)

    async def run(self) -> Response:
        """Take the operation from the ledger's first line to its last."""
        await self.services.ledger.accept(self._operation())
        try:
            candidate, result = await self._ask_in_turn()
            response = await self._finish(candidate, result)
        except Exception as error:
            raise await self._close(error) from error
        self._log(OperationState.DONE)
        return response

    def too_late(self) -> GaiaError:
        """Make the error for a caller whose waiting is over."""
        provider = self.attempts[-1].provider if self.attempts else "no provider"
        message = f"{provider} did not answer within {self.seconds:g} s."
        if self.may_have_cost:
            return self._unknown(f"{message} Its result is kept when it comes.")
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
                if not may_fall_back(failure, is_free=candidate.price_usd == 0):
                    raise
        raise cast("Exception", error)

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
                if wait is None:
                    raise
            await asyncio.sleep(wait)
        raise AssertionError  # pragma: no cover  count() never ends

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
        await self.services.ledger.send(self.operation_id, attempt)
        self.may_have_cost = candidate.price_usd != 0
        self.attempts.append(attempt)
        start = time.monotonic()
        try:
            result = await self._call(candidate, task_id)
        except Exception as error:
            await self._end(attempt, classify(error), start, error=error)
            raise
        cost = candidate.price_usd if result.cost_usd is None else result.cost_usd
        await self._end(attempt, OutcomeClass.OK, start, cost=cost)
        return result

    async def _call(self, candidate: Candidate, task_id: str) -> Result:
        request = attrs.evolve(self.plan.request, model=candidate.model.id)
        provider = self.services.plugins.providers[candidate.provider]
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
            progress=self.progress,
        )
        hook = HOOK_OF[request.capability]
        result = await provider.call(hook, request=request, context=context)
        return await _checked(result, candidate, hook)

    async def _end(
        self,
        attempt: Attempt,
        outcome: OutcomeClass,
        start: float,
        *,
        cost: Decimal | None = None,
        error: Exception | None = None,
    ) -> None:
        seconds = time.monotonic() - start
        ended = attrs.evolve(
            attempt,
            outcome=outcome,
            duration_ms=seconds * 1_000,
            cost_usd=attempt.cost_usd if outcome is OutcomeClass.AMBIGUOUS else cost,
            error=None if error is None else _words_of(error),
        )
        self.attempts[-1] = ended
        self.may_have_cost = outcome in (OutcomeClass.OK, OutcomeClass.UNUSABLE)
        self.services.reliability.record(attempt.provider, outcome, seconds)
        await self.services.ledger.end_attempt(self.operation_id, ended)

    # -- result > store > settle > response ---------------------------------------

    async def _finish(self, candidate: Candidate, result: Result) -> Response:
        """Store what was made, settle what it cost, and answer."""
        images = await self._store(candidate, result)
        cost = self.attempts[-1].cost_usd
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
        return await self.services.storage.put(
            self._annotated(result, image),
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
        data = annotate(
            image,
            request=self.plan.request,
            model=result.model,
            provider=result.provider,
            keep_prompt=self.services.keep_prompt,
        )
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
        return (*failed, *ignored, *result.warnings)

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
        is_unknown = isinstance(failure, OutcomeUnknownError) or self.may_have_cost
        state = OperationState.UNKNOWN if is_unknown else OperationState.FAILED
        await self.services.ledger.fail(self.operation_id, state, _words_of(failure))
        self._log(state, error=type(failure).__name__)
        return failure

    def _public(self, error: Exception) -> GaiaError:
        """Translate what escaped a hook; Gaia's own errors stay as they are."""
        attempt = self.attempts[-1] if self.attempts else None
        is_open = attempt is not None and attempt.outcome is OutcomeClass.AMBIGUOUS
        if attempt is not None and is_open and attempt.cost_usd != 0:
            return self._unknown(
                f"The answer of {attempt.provider} was lost ({_words_of(error)}); "
                "the picture may have been made and charged."
            )
        if isinstance(error, GaiaError):
            return error
        who = attempt.provider if attempt is not None else "Gaia"
        return ProviderError(f"{who} failed with {_words_of(error)}.")

    def _unknown(self, message: str) -> GaiaError:
        advice = f"Look operation {self.operation_id} up before asking again."
        provider = self.attempts[-1].provider
        return self._signed(
            OutcomeUnknownError(
                f"{message} {advice}",
                operation_id=self.operation_id,
                provider=provider,
            )
        )

    def _signed(self, error: GaiaError) -> GaiaError:
        """Put the operation and its attempts on an error."""
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


async def _checked(result: object, candidate: Candidate, hook: str) -> Result:
    """
    Refuse an answer that cannot be used.

    Raises:
        UnusableResultError: If it has the wrong type, holds no picture, or a
            picture that cannot be decoded.
    """
    expected = _RESULT_OF.get(hook, ImageResult)
    if not isinstance(result, expected):
        message = (
            f"{candidate.provider} answered {type(result).__name__}, "
            f"not {expected.__name__}."
        )
        raise UnusableResultError(message)
    if isinstance(result, ImageResult):
        await _check_pictures(result, candidate)
    return cast("Result", result)


async def _check_pictures(result: ImageResult, candidate: Candidate) -> None:
    if not result.images:
        message = f"{candidate.provider} answered without a picture."
        raise UnusableResultError(message)
    try:
        for picture in result.images:
            if not picture.is_encoded_here:
                await _decode(picture.image)
    except InvalidImageError as error:
        message = f"{candidate.provider} answered a damaged picture: {error}"
        raise UnusableResultError(message) from error


async def _decode(image: Image) -> None:
    """Decode a picture, a large one beside the event loop."""
    if image.width * image.height <= _SMALL:
        image.decode()
    else:
        await asyncio.to_thread(image.decode)


def _words_of(error: BaseException) -> str:
    """
    Say what went wrong.

    Foreign errors are named by their type only: their words may hold a key.
    """
    return str(error) if isinstance(error, GaiaError) else type(error).__name__
