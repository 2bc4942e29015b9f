"""Gemini's errors in Gaia's words: the one place that decides what they mean."""

import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gaia_core import (
    AuthenticationError,
    ModelError,
    OutcomeClass,
    ProviderConnectionError,
    ProviderError,
    ProviderRequestError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitError,
    Secret,
    UnusableResultError,
)
from gaia_core.secrets import scrub

_LONGEST = 300
_DURATION = re.compile(r"\s*(\d{1,9}(?:\.\d+)?)s\s*")

_BY_CODE: Mapping[int, type[ProviderError]] = {
    400: ProviderRequestError,
    401: AuthenticationError,
    402: QuotaExceededError,
    403: AuthenticationError,
    404: ModelError,
    408: ProviderTimeoutError,
    413: ProviderRequestError,
    415: ProviderRequestError,
    422: ProviderRequestError,
    429: RateLimitError,
    503: ProviderUnavailableError,
    504: ProviderTimeoutError,
}
"""Whatever is not here may have been charged: 409, 499, 500, 502, 52x, …"""

_BY_STATUS: Mapping[tuple[int, str], type[ProviderError]] = {
    # No billing account, or a country where the free tier is not to be had.
    (400, "FAILED_PRECONDITION"): QuotaExceededError,
}
_BY_REASON: Mapping[str, type[ProviderError]] = {
    "API_KEY_INVALID": AuthenticationError,
    "API_KEY_EXPIRED": AuthenticationError,
    "BILLING_DISABLED": QuotaExceededError,
}
_PER_DAY = "PerDay"
"""Part of the name of every limit that waiting a minute does not lift."""

_SAYS: Mapping[type[ProviderError], str] = {
    ProviderRequestError: "Gemini refuses the request",
    AuthenticationError: (
        "Gemini refuses the key: set GEMINI_API_KEY to one from aistudio.google.com, "
        "or see to the account on Vertex AI"
    ),
    QuotaExceededError: "The account at Gemini may spend no more: look at its billing",
    ModelError: "Gemini does not have this model",
    RateLimitError: "Gemini takes no more requests for now",
    ProviderUnavailableError: "Gemini is overloaded or down",
    ProviderTimeoutError: "Gemini gave up in the middle of it",
    ProviderError: "Gemini failed",
}

_NOT_SENT = frozenset(
    {
        *("httpx2.ConnectError", "httpx2.ConnectTimeout", "httpx2.PoolTimeout"),
        *("httpx2.ProxyError", "httpx2.UnsupportedProtocol", "httpx2.InvalidURL"),
        *("httpx.ConnectError", "httpx.ConnectTimeout", "httpx.PoolTimeout"),
        *("httpx.ProxyError", "httpx.UnsupportedProtocol", "httpx.InvalidURL"),
        *("aiohttp.ClientConnectorError", "aiohttp.ConnectionTimeoutError"),
        *("aiohttp.InvalidURL", "google.TransportError"),
    }
)
"""What proves that nothing was sent, whichever transport raises it."""
_TOO_LATE = frozenset(
    {"httpx2.TimeoutException", "httpx.TimeoutException", "builtins.TimeoutError"}
)
_IN_DOUBT = frozenset({OutcomeClass.AMBIGUOUS, OutcomeClass.UNUSABLE})
_NO_CREDENTIALS = frozenset({"google.DefaultCredentialsError", "google.RefreshError"})
_UNREADABLE = frozenset(
    {
        "gaia_gemini.OversizeError",
        "google.UnknownApiResponseError",
        "json.JSONDecodeError",
        "pydantic_core.ValidationError",
    }
)


@contextmanager
def translated(*secrets: Secret) -> Iterator[None]:
    """
    Turn whatever a call raises into one of Gaia's errors.

    Args:
        secrets: What no message may repeat, though the vendor does.

    Raises:
        ProviderError: One of its subclasses, or itself where nobody knows whether
            anything was charged.
    """
    try:
        yield
    except ProviderError:
        raise
    except Exception as error:  # noqa: BLE001  nothing unknown may escape
        # A vendor's own words may hold the key: then they are no cause to be shown.
        is_clean = all(scrub(words, secrets) == words for words in _told_by(error))
        raise error_for(error, secrets) from (error if is_clean else None)


@contextmanager
def connecting(*secrets: Secret) -> Iterator[None]:
    """
    Turn what raises before there is a connection into one of Gaia's errors.

    Args:
        secrets: As for `translated`.

    Raises:
        ProviderError: One that is not charged: nothing was sent.
    """
    try:
        with translated(*secrets):
            yield
    except ProviderError as error:
        if error.outcome not in _IN_DOUBT:
            raise
        cause = error.__cause__
        words = f"{type(cause).__name__}: {cause}" if cause else str(error)
        message = (
            f"Gemini's SDK cannot be set up, and nothing was sent ({words[:_LONGEST]})."
        )
        raise ProviderConnectionError(message) from cause


def _told_by(error: BaseException | None) -> Iterator[str]:
    """Give the words of an error and of all that led to it, as it is shown anywhere."""
    while error is not None:
        yield str(error)
        yield repr(error)  # aiohttp shows the headers of the request
        error = error.__cause__ or error.__context__


def error_for(error: Exception, secrets: tuple[Secret, ...] = ()) -> ProviderError:
    """Choose the error for what the SDK or its transport raised."""
    names = set(_names(error))
    if "google.APIError" in names:
        return _refusal(error, secrets)
    if names & _NOT_SENT:
        return ProviderConnectionError("Gemini cannot be reached; nothing was sent.")
    if names & _NO_CREDENTIALS:
        message = (
            "Vertex AI has no credentials: set GOOGLE_APPLICATION_CREDENTIALS, or run "
            "`gcloud auth application-default login`."
        )
        return AuthenticationError(message)
    if names & _TOO_LATE:
        return ProviderTimeoutError("Gemini did not answer in time.")
    if names & _UNREADABLE:
        return UnusableResultError("Gemini answered what nobody can read.")
    kind = type(error).__name__
    return ProviderError(f"Gemini broke off before it had answered ({kind}).")


def retry_after(details: Any, headers: Mapping[str, str]) -> float | None:
    """
    Read how many seconds the vendor asks to wait; None: it does not say.

    >>> retry_after({"error": {"details": [{"retryDelay": "1.5s"}]}}, {})
    1.5
    """
    for detail in _details(details):
        if found := _DURATION.fullmatch(str(detail.get("retryDelay", ""))):
            return float(found[1])
    # 5 ms, and few answers ask to wait.
    from email.utils import parsedate_to_datetime  # noqa: PLC0415

    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _refusal(error: Any, secrets: tuple[Secret, ...]) -> ProviderError:
    """Choose the error for an answer that is no 200."""
    code, status = error.code, error.status or ""
    details = _details(error.details)
    reasons = {str(detail.get("reason", "")) for detail in details}
    by_reason = next((_BY_REASON[one] for one in reasons if one in _BY_REASON), None)
    kind = (
        by_reason
        or (QuotaExceededError if code == 429 and _is_daily(details) else None)  # noqa: PLR2004  too many requests
        or _BY_STATUS.get((code, status))
        or _BY_CODE.get(code, ProviderError)
    )
    words = " ".join(scrub(str(error.message or ""), secrets).split())
    if words.startswith("<"):  # a page of a proxy on the way
        words = ""
    facts = ": ".join(filter(None, [f"{code} {status}".strip(), words[:_LONGEST]]))
    headers = getattr(error.response, "headers", None) or {}
    return kind(
        f"{_SAYS[kind]} ({facts}).", retry_after=retry_after(error.details, headers)
    )


def _is_daily(details: list[Mapping[str, Any]]) -> bool:
    """Tell whether a limit of a whole day is used up."""
    violations = [
        violation
        for detail in details
        for violation in detail.get("violations") or ()
        if isinstance(violation, Mapping)
    ]
    return any(_PER_DAY in str(one.get("quotaId", "")) for one in violations)


def _details(body: Any) -> list[Mapping[str, Any]]:
    """Find the details of an error; a body may be anything."""
    error = body.get("error", body) if isinstance(body, Mapping) else None
    details = error.get("details") if isinstance(error, Mapping) else None
    found = details if isinstance(details, list) else []
    return [detail for detail in found if isinstance(detail, Mapping)]


def _names(error: Exception) -> Iterator[str]:
    """Name the classes of an error by package, so that no transport is imported."""
    for kind in type(error).__mro__:
        yield f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
