"""What a walk comes to: a response, or an error with everything a caller needs."""

import copy
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import groupby
from typing import Any

from gaia_core.answers import Result
from gaia_core.calls import words_of
from gaia_core.errors import (
    GaiaError,
    OutcomeClass,
    OutcomeUnknownError,
    ProviderError,
)
from gaia_core.fitting import ignored_fields
from gaia_core.ledger import Failure, OperationState
from gaia_core.observability import mask
from gaia_core.reliability import classify, cost_in_all, lost_attempt
from gaia_core.requests import GenerateRequest, Request
from gaia_core.responses import (
    Attempt,
    DescriptionResponse,
    ImageResponse,
    PromptResponse,
    Response,
    StoredImage,
)
from gaia_core.results import ImageResult, PromptResult
from gaia_core.selection import Candidate

_TRY_ANEW = frozenset({OutcomeClass.REJECTED_BUSY, OutcomeClass.REJECTED_AUTH})


def response_of(
    result: Result, images: Sequence[StoredImage] = (), **facts: Any
) -> Response:
    """Make the response to a result; facts are those every response has."""
    if isinstance(result, ImageResult):
        return ImageResponse(images=tuple(images), **facts)
    if isinstance(result, PromptResult):
        return PromptResponse(prompt=result.prompt, **facts)
    return DescriptionResponse(description=result.description, **facts)


def answer_in(response: Response) -> dict[str, Any]:
    """Give what the ledger keeps of a response beside pictures and money."""
    words = {
        name: getattr(response, name)
        for name in ("prompt", "description")
        if hasattr(response, name)
    }
    return {
        "warnings": list(response.warnings),
        "duration_ms": response.duration_ms,
        **words,
    }


def warnings_of(
    request: Request,
    candidate: Candidate,
    result: Result,
    attempts: Sequence[Attempt],
) -> tuple[str, ...]:
    """Say what was not honoured, what a fallback changed, what may be paid twice."""
    ignored = (
        f"{name} ignored: {candidate.model.id} does not support it"
        for name in ignored_fields(request, candidate.model)
    )
    tries = [(f"{one.provider}/{one.model}", one.error) for one in attempts[:-1]]
    failed = (
        f"{who} failed{_times(len(list(group)))} ({_clause(why)}); "
        f"served by {candidate.name}"
        for (who, why), group in groupby(tries)
    )
    twice = (
        f"{lost.provider} may have been paid twice: "
        f"an answer was lost ({_clause(lost.error)})"
        for lost in [lost_attempt(attempts)]
        if lost is not None
    )
    gone = _stand_ins(request, candidate, attempts)
    short = _shortfalls(request, result)
    return (*failed, *twice, *gone, *ignored, *short, *map(str, result.warnings))


def _clause(sentence: str | None) -> str:
    """Take the full stop off a sentence that stands within another."""
    return (sentence or "").removesuffix(".")


def _times(number: int) -> str:
    return "" if number == 1 else f" {number} times"


def public(
    error: Exception, operation_id: str, attempts: Sequence[Attempt]
) -> GaiaError:
    """Translate what ended a walk; Gaia's own errors stay as they are."""
    lost = lost_attempt(attempts)
    if lost is not None:
        words = (
            f"The answer of {lost.provider} was lost ({_clause(lost.error)}); "
            "the picture may have been made and charged."
        )
        return unknown(words, lost.provider, operation_id, attempts)
    if not isinstance(error, GaiaError):
        who = attempts[-1].provider if attempts else "Gaia"
        error = ProviderError(f"{who} failed with {words_of(error)}.")
    return signed(error, operation_id, attempts)


def unknown(
    words: str, provider: str, operation_id: str, attempts: Sequence[Attempt]
) -> GaiaError:
    """Make the error for an outcome that nobody knows."""
    message = f"{words} {look_up(operation_id)}"
    error = OutcomeUnknownError(message, operation_id=operation_id, provider=provider)
    return signed(error, operation_id, attempts)


def look_up(operation_id: str) -> str:
    """Say how to see what became of an operation."""
    return (
        f"Look operation {operation_id} up before asking again: "
        f"`gaia usage --operation {operation_id}`."
    )


def signed(
    error: GaiaError, operation_id: str, attempts: Sequence[Attempt]
) -> GaiaError:
    """Put the operation and its attempts on an error, and the mask over keys."""
    if error.operation_id is not None and isinstance(error, ProviderError):
        # A provider may raise one object for many operations.
        error = copy.copy(error)
    words = str(error)
    if (masked := mask(words)) != words:
        error.args = (masked, *error.args[1:])
    error.operation_id = operation_id
    error.attempts = tuple(attempts)
    return error


def failure_of(error: GaiaError, attempts: Sequence[Attempt]) -> Failure:
    """Tell the ledger how an operation failed."""
    is_unknown = isinstance(error, OutcomeUnknownError)
    is_free = all(attempt.cost_usd == Decimal(0) for attempt in attempts)
    return Failure(
        state=OperationState.UNKNOWN if is_unknown else OperationState.FAILED,
        error_type=type(error).__name__,
        error=words_of(error),
        is_final=not (is_free and _may_try_anew(error)),
        cost_usd=cost_in_all(attempts),
    )


def _may_try_anew(error: GaiaError) -> bool:
    """Tell whether the same request may succeed later: nobody has refused it."""
    if isinstance(error, ProviderError):
        return classify(error) in _TRY_ANEW
    return not isinstance(error, ValueError)


def _stand_ins(
    request: Request, candidate: Candidate, attempts: Sequence[Attempt]
) -> Iterator[str]:
    """Say that the model asked for is gone, or away, and which one served."""
    if request.model in candidate.model.retired:
        yield f"{request.model} is gone: {candidate.model.id} stands in for it"
    if candidate.is_substitute and not any(
        one.provider == candidate.provider
        for one in attempts
        if one.model != candidate.model.id
    ):
        yield f"{request.model} cannot be asked now; served by {candidate.name}"


def _shortfalls(request: Request, result: Result) -> Iterator[str]:
    """Say where pictures are fewer or of another size than asked for."""
    if not isinstance(request, GenerateRequest) or not isinstance(result, ImageResult):
        return
    if len(result.images) != request.num_images:
        yield f"{len(result.images)} pictures made, {request.num_images} asked for"
    asked = f"{request.width}x{request.height}"
    for made in sorted({f"{one.width}x{one.height}" for one in result.images}):
        if made != asked and not any(made in str(words) for words in result.warnings):
            yield f"made {made}, not {asked}"
