"""
The vendor's errors in Gaia's words: the one place that decides what they mean.

The vendor's codes are those its documents and the tests of its SDKs name
(https://runware.ai/docs/platform/errors, November 2026); it is renaming them, so
what is not listed goes by the SDK's own twelve kinds. No message of the vendor's is
ever passed on: it may quote a prompt, or the key.
"""

import re
from collections.abc import Mapping
from typing import Any

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
)
from gaia_runware.traffic import Traffic

Failure = type[ProviderError]

BY_CODE: Mapping[str, Failure] = {
    "invalidModel": ModelError,
    "missingModel": ModelError,
    "modelDisabled": ModelError,
    "modelNotFound": ModelError,
    "modelNotReady": ModelError,
    "modelUnavailable": ModelError,
    "unknownModel": ModelError,
    "unsupportedModel": ModelError,
    "mediaNotFound": ProviderRequestError,
    "noAvailableServer": ProviderUnavailableError,
    "serverUnavailable": ProviderUnavailableError,
    "serviceUnavailable": ProviderUnavailableError,
    "timeoutProvider": ProviderTimeoutError,
}
"""What the SDK's kinds do not tell apart, or get wrong."""

BY_KIND: Mapping[str, Failure] = {
    "validation": ProviderRequestError,
    "auth": AuthenticationError,
    "quota": QuotaExceededError,
    "rateLimit": RateLimitError,
    "safety": ContentFilteredError,
    "timeout": ProviderTimeoutError,
    "provider": ProviderError,
    "notFound": ProviderError,
    "serverError": ProviderError,
    "connection": ProviderError,
    "aborted": ProviderError,
    "unknown": ProviderError,
}
"""
The SDK's kinds, of a task that was sent.

What may have been worked on before it went wrong may have been charged: ``provider``,
``serverError``, and everything nobody can place.
"""

BY_STATUS: Mapping[int, Failure] = {
    400: ProviderRequestError,
    401: AuthenticationError,
    402: QuotaExceededError,
    403: AuthenticationError,
    404: ModelError,
    413: ProviderRequestError,
    422: ProviderRequestError,
    429: RateLimitError,
    503: ProviderUnavailableError,
}
"""Statuses over REST, where the answer names no error; all others may be charged."""

_WORDS: Mapping[Failure, str] = {
    AuthenticationError: (
        "Runware refuses the key: check RUNWARE_API_KEY, or make a new key at "
        "my.runware.ai."
    ),
    ContentFilteredError: "Runware refuses this on safety grounds.",
    ModelError: "Runware does not have this model, or it cannot do this.",
    ProviderRequestError: "Runware refuses the request.",
    ProviderTimeoutError: "Runware did not answer in time.",
    ProviderUnavailableError: "Runware cannot work now.",
    QuotaExceededError: (
        "Runware says the account is out of credit: add some at my.runware.ai."
    ),
    RateLimitError: "Runware takes no more requests for now.",
    ProviderError: "Something went wrong at Runware.",
}
_BROKEN_OFF = "Runware broke off before it had answered."
_UNREACHED = "Runware cannot be reached."
_UNNAMED = "Runware reported an error without saying which task it is about."
_AT_ONCE = frozenset({"validation", "auth", "quota", "rateLimit"})
_AT_THE_COUNTER = frozenset({"auth", "quota", "rateLimit"})
_OF_QUESTIONS = frozenset({"taskUUID", "taskType", "apiKey"})
_LOCAL = frozenset({ProviderRequestError, ModelError})
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.\[\]-]{0,63}")


def failure_of(error: BaseException | None, traffic: Traffic) -> ProviderError:
    """
    Choose the error for a task that failed.

    Args:
        error: What the SDK raised, or None: only the vendor's answer counts.
        traffic: What passed about the task.
    """
    if traffic.errors:
        return refusal(traffic.errors[-1], retry_after=traffic.retry_after)
    if not traffic.is_sent:
        return _unsent(error)
    if traffic.is_unnamed:
        return ProviderError(_UNNAMED)
    if traffic.status is not None:
        return _by_status(traffic.status, traffic.retry_after)
    if isinstance(error, TimeoutError) or _kind_of(error) == "timeout":
        return ProviderTimeoutError(_WORDS[ProviderTimeoutError])
    return ProviderError(_BROKEN_OFF)


def refusal(
    error: Mapping[str, Any], *, retry_after: float | None = None
) -> ProviderError:
    """
    Choose the error for what the vendor says went wrong with a task.

    >>> refusal({"code": "rateLimitExceeded"})
    RateLimitError('Runware takes no more requests for now. (rateLimitExceeded)')
    """
    code = str(error.get("code", ""))
    failure = BY_CODE.get(code) or BY_KIND.get(kind_of(code), ProviderError)
    return failure(_said(failure, error), retry_after=retry_after)


def in_doubt(failure: ProviderError) -> ProviderError:
    """Say the same of a task whose outcome nobody knows: it may be charged."""
    return ProviderError(str(failure))


def is_about_all(error: Mapping[str, Any]) -> bool:
    """
    Tell a refusal of the whole task from an error about one of its pictures.

    These kinds come before there are any results (README of runware-sdk 1.8.0).
    """
    return kind_of(str(error.get("code", ""))) in _AT_ONCE


def is_about_asking(traffic: Traffic) -> bool:
    """
    Tell that a question failed from what it was asked about having failed.

    Where the key is refused, or the question itself, nothing is known of the task.
    """
    errors = traffic.errors
    return not errors or any(
        error.get("parameter") in _OF_QUESTIONS
        or kind_of(str(error.get("code", ""))) in _AT_THE_COUNTER
        for error in errors
    )


def is_about_polling(traffic: Traffic) -> bool:
    """
    Tell that a question about a task in hand went wrong, and not the task.

    Not every answer says which of the two it is about; who is asked to pay, or to
    wait, when he asks how far a task is, has been let in with the task.
    """
    if any(error.get("taskType") == "getResponse" for error in traffic.errors):
        return True
    return traffic.is_polled and bool(traffic.errors) and is_about_asking(traffic)


def connecting_failed(
    error: BaseException, login_error: Mapping[str, Any] | None
) -> ProviderError:
    """
    Choose the error for a connection that did not come about: nothing was sent.

    Args:
        error: What the SDK raised.
        login_error: What the vendor said to the key, if it said anything.
    """
    if login_error is not None:
        known = refusal(login_error)
        if known.outcome.startswith("rejected"):
            return known
        return ProviderUnavailableError(_said(ProviderUnavailableError, login_error))
    status = _handshake_status(error)
    if status is not None and BY_STATUS.get(status) in _AT_THE_DOOR:
        return _by_status(status, None)
    return ProviderConnectionError(_UNREACHED)


_AT_THE_DOOR = frozenset(
    {AuthenticationError, QuotaExceededError, RateLimitError, ProviderUnavailableError}
)


def kind_of(code: str) -> str:
    """Ask the SDK which of its kinds a code of the vendor's is of."""
    from runware import create_runware_error  # noqa: PLC0415  slow

    return create_runware_error(code, "").code


def _kind_of(error: BaseException | None) -> str:
    return str(getattr(error, "code", ""))


def _unsent(error: BaseException | None) -> ProviderError:
    """Nothing left this machine: the SDK refused it, or there was no connection."""
    if isinstance(error, ProviderError):
        return type(error)(str(error), retry_after=error.retry_after)
    failure = BY_KIND.get(_kind_of(error))
    if failure in _LOCAL:
        return ProviderRequestError(_WORDS[ProviderRequestError])
    return ProviderConnectionError(_UNREACHED)


def _by_status(status: int, retry_after: float | None) -> ProviderError:
    failure = BY_STATUS.get(status, ProviderError)
    message = f"{_WORDS[failure]} (status {status})"
    return failure(message, retry_after=retry_after)


def _said(failure: Failure, error: Mapping[str, Any]) -> str:
    """Add the vendor's code and field, where they are plain words."""
    parts = (error.get("code"), error.get("parameter"))
    if isinstance(parts[1], list):
        parts = (parts[0], next(iter(parts[1]), None))
    plain = [one for one in parts if isinstance(one, str) and _PLAIN.fullmatch(one)]
    return f"{_WORDS[failure]} ({', '.join(plain)})" if plain else _WORDS[failure]


def _handshake_status(error: BaseException) -> int | None:
    """Find the HTTP status that a handshake was refused with."""
    seen: BaseException | None = error
    while seen is not None:
        status = getattr(getattr(seen, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        seen = seen.__cause__
    return None
