"""The vendor's errors in Gaia's words: the one place that decides what they mean."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

from gaia_core.errors import (
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

_BY_CODE: dict[str, type[ProviderError]] = {
    "content_filtered": ContentFilteredError,
    "no_such_model": ModelError,
}

_BY_STATUS: dict[int, type[ProviderError]] = {
    400: ProviderRequestError,
    401: AuthenticationError,
    402: QuotaExceededError,
    403: AuthenticationError,
    404: ModelError,
    413: ProviderRequestError,
    415: ProviderRequestError,
    422: ProviderRequestError,
    429: RateLimitError,
    503: ProviderUnavailableError,
}
"""Whatever is not here may have been charged: 408, 500, 502, 504, 52x, …"""


def refused(
    name: str, status: int, code: str, headers: Mapping[str, str]
) -> ProviderError:
    """
    Choose the error for an answer that is no 200.

    >>> type(refused("vendor", 429, "", {})).__name__
    'RateLimitError'
    """
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, ProviderError)
    message = f"{name} answered with status {status}."
    return kind(message, retry_after=_retry_after(headers))


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turn what the client raises into Gaia's errors."""
    import aiohttp  # noqa: PLC0415  slow

    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        message = f"{name} cannot be reached."
        raise ProviderConnectionError(message) from error
    except TimeoutError as error:
        message = f"{name} did not answer in time."
        raise ProviderTimeoutError(message) from error
    except (aiohttp.ClientError, OSError) as error:
        message = f"{name} broke off before it had answered."
        raise ProviderError(message) from error


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After: seconds, or a date."""
    value = headers.get("Retry-After", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
