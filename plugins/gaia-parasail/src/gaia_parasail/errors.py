"""
What the service's errors mean in Gaia's words: the one place that decides.

A request that may have left the socket may have been charged, so whatever is not
certain stays in doubt. The service's own words are never repeated: careless ones
print the key they refuse. For the same reason no error is chained to the SDK's.
"""

import json
import math
import time
from collections.abc import Awaitable, Iterable, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, TypeVar

from gaia_core import (
    AuthenticationError,
    ContentFilteredError,
    ModelError,
    ProviderConnectionError,
    ProviderError,
    ProviderRequestError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitError,
    UnusableResultError,
)
from gaia_parasail.models import NAME

T = TypeVar("T")

_BY_CODE: Mapping[str, type[ProviderError]] = {
    "content_filter": ContentFilteredError,
    "content_filtered": ContentFilteredError,
    "content_policy_violation": ContentFilteredError,
    "moderation_blocked": ContentFilteredError,
    "safety_violation": ContentFilteredError,
    "billing_hard_limit_reached": QuotaExceededError,
    "insufficient_balance": QuotaExceededError,
    "insufficient_quota": QuotaExceededError,
    "invalid_api_key": AuthenticationError,
    "model_not_found": ModelError,
}
"""What a code says that the status alone does not; codes of 4xx answers only."""

_BY_STATUS: Mapping[int, type[ProviderError]] = {
    301: ProviderRequestError,
    307: ProviderRequestError,
    308: ProviderRequestError,
    400: ProviderRequestError,
    401: AuthenticationError,
    402: QuotaExceededError,
    403: AuthenticationError,
    404: ModelError,
    405: ModelError,
    413: ProviderRequestError,
    415: ProviderRequestError,
    422: ProviderRequestError,
    429: RateLimitError,
    503: ProviderUnavailableError,
}
"""Whatever is not here may have been charged: 408, 409, 500, 502, 504, 52x, …"""

_ADVICE: Mapping[type[ProviderError], str] = {
    AuthenticationError: "check api_key, and what the key may do",
    ModelError: "see `gaia models`, and whether the service offers this endpoint",
    QuotaExceededError: "the account is out of credit",
}
_STOPPED = {"batch_expired": "expired", "batch_cancelled": "cancelled"}
_UNSENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError"})
"""What httpx2 raises before the first byte of a request has left."""


class OversizeError(Exception):
    """An answer is longer than any that could be of use, or packed."""


async def answered(call: Awaitable[T], *, name: str = NAME) -> T:
    """
    Wait for an answer of the SDK, and raise Gaia's errors in place of its own.

    Raises:
        ProviderError: Whatever went wrong, without a trace of the SDK's error: that
            one holds the request, and the request the key.
    """
    try:
        return await call
    except Exception as error:  # noqa: BLE001  the SDK lets through what it did not expect
        failure = failure_of(error, name)
    # Outside of the handler, so that the SDK's error is not the context of ours.
    raise failure


def failure_of(error: Exception, name: str = NAME) -> Exception:
    """
    Choose the error for what the SDK raised.

    >>> type(failure_of(TimeoutError())).__name__
    'ProviderTimeoutError'
    """
    import openai  # noqa: PLC0415 - half a second

    match error:
        case ProviderError():
            return error
        case openai.APIStatusError():
            code = error.code or error.type
            return refused(
                error.status_code, code, dict(error.response.headers), name=name
            )
        case openai.APIConnectionError() | OversizeError():
            return _unanswered(error, name)
        case TimeoutError():
            return ProviderTimeoutError(f"{name} did not answer in time.")
        case json.JSONDecodeError() | openai.APIResponseValidationError():
            return UnusableResultError(f"{name} answered what nobody can read.")
        case _:
            kind = type(error).__name__
            return ProviderError(f"The call to {name} failed with {kind}.")


def refused(
    status: int, code: object, headers: Mapping[str, str], *, name: str = NAME
) -> ProviderError:
    """
    Choose the error for an answer that is no 200.

    >>> type(refused(429, None, {})).__name__
    'RateLimitError'

    Args:
        status: The status of the answer.
        code: What the answer calls the error, if it says so.
        headers: Its headers, in lower case.
        name: Who answered.
    """
    kind = _BY_STATUS.get(status, ProviderError)
    known = code if isinstance(code, str) and code in _BY_CODE else ""
    if known and HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = _BY_CODE[known]
    shown = f"{status}, {known}" if known else f"{status}"
    advice = f": {_ADVICE[kind]}" if kind in _ADVICE else ""
    return kind(
        f"{name} answered with status {shown}{advice}.", retry_after=_wait(headers)
    )


def refused_line(
    error: Mapping[str, Any] | None, response: Mapping[str, Any] | None
) -> ProviderError:
    """
    Choose the error for a line of a batch that has no result.

    Args:
        error: Its ``error``: what kept it from being carried out.
        response: Its ``response``: what an interactive call would have been answered.
    """
    if response is not None:
        status = response.get("status_code")
        body = response.get("body")
        inner = body.get("error") if isinstance(body, dict) else None
        code = inner.get("code") if isinstance(inner, dict) else None
        return refused(status if isinstance(status, int) else 500, code, {})
    code = (error or {}).get("code")
    if isinstance(code, str) and code in _STOPPED:
        return untouched(_STOPPED[code])
    return ProviderError(f"{NAME} did not carry this request of the batch out.")


def untouched(status: str) -> ProviderError:
    """
    Make the error for a request that a batch ended before.

    Args:
        status: How the batch ended: ``expired`` or ``cancelled``.
    """
    words = "expired" if status == "expired" else "was cancelled"
    return ProviderUnavailableError(
        f"{NAME}'s batch {words} before this request was carried out."
    )


def refused_batch(errors: Iterable[object]) -> ProviderError:
    """
    Choose the error for a batch that was refused as a whole, before any work.

    Args:
        errors: What the batch says about it, one object for each reason.
    """
    said = " ".join(
        str(one.get(key) or "").lower()
        for one in errors
        if isinstance(one, dict)
        for key in ("code", "message")
    )
    if "url" in said or "endpoint" in said:
        return ModelError(
            f"{NAME} takes no pictures in batches at this endpoint: see which "
            "endpoints the service documents for batches."
        )
    if "model" in said:
        return ModelError(f"{NAME} has no such model in batches: see `gaia models`.")
    if "quota" in said or "token_limit" in said:
        return RateLimitError(f"{NAME} takes no further batch for now: quota.")
    return ProviderRequestError(f"{NAME} refused the file of the batch.")


def undecided(error: ProviderError) -> ProviderError:
    """
    Take from an error what it would say about the work.

    That a batch could not be looked at, for whatever reason, says nothing about what
    it makes and costs.
    """
    return ProviderError(str(error), retry_after=error.retry_after)


def _unanswered(error: Exception, name: str) -> ProviderError:
    """Tell whether anything was sent before the connection failed."""
    cause = error if isinstance(error, OversizeError) else error.__cause__
    if isinstance(cause, OversizeError):
        return _useless(cause, name)
    kinds = {kind.__name__ for kind in type(cause).__mro__} if cause else set()
    if kinds & _UNSENT:
        return ProviderConnectionError(f"{name} cannot be reached.")
    if "TimeoutException" in kinds:
        return ProviderTimeoutError(f"{name} did not answer in time.")
    return ProviderError(f"{name} broke off before it had answered.")


def _useless(error: OversizeError, name: str) -> ProviderError:
    """Say why an answer was not read: it came, so it may be charged."""
    return UnusableResultError(f"{name} gave an answer that {error}: it was not read.")


def _wait(headers: Mapping[str, str]) -> float | None:
    """Read how long to wait: milliseconds, seconds, or until a date."""
    for header, unit in (("retry-after-ms", 1_000.0), ("retry-after", 1.0)):
        try:
            wait = float(headers[header]) / unit
        except (KeyError, ValueError):
            continue
        return max(0.0, wait) if math.isfinite(wait) else None
    try:
        until = parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return max(0.0, until.timestamp() - time.time())
