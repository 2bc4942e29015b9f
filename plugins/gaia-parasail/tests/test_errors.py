"""What the service's errors mean."""

import time
from email.utils import formatdate
from typing import Any

import httpx2
import openai
import pytest

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
from gaia_parasail.errors import (
    answered,
    failure_of,
    refused,
    refused_batch,
    refused_line,
)

REQUEST = httpx2.Request("POST", "https://api.parasail.io/v1/images/generations")


def _status(status: int, code: str | None = None, **headers: str) -> Exception:
    """Make what the SDK raises for a status."""
    client = openai.OpenAI(api_key="sk-canary", base_url="https://api.parasail.io/v1")
    body = {"error": {"message": "sk-canary", "code": code}}
    response = httpx2.Response(
        status, json=body, headers=headers or None, request=REQUEST
    )
    error: Exception = client._make_status_error_from_response(response)
    client.close()
    return error


def _unanswered(cause: Exception, kind: type[Exception]) -> Exception:
    """Make what the SDK raises where there was no answer."""
    error: Exception = kind(request=REQUEST)  # type: ignore[call-arg]
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        pytest.param(301, None, ProviderRequestError, id="301"),
        pytest.param(302, None, ProviderError, id="302 in doubt"),
        pytest.param(307, None, ProviderRequestError, id="307"),
        pytest.param(400, None, ProviderRequestError, id="400"),
        pytest.param(401, None, AuthenticationError, id="401"),
        pytest.param(402, None, QuotaExceededError, id="402"),
        pytest.param(403, None, AuthenticationError, id="403"),
        pytest.param(404, None, ModelError, id="404"),
        pytest.param(405, None, ModelError, id="405"),
        pytest.param(408, None, ProviderError, id="408 in doubt"),
        pytest.param(409, None, ProviderError, id="409 in doubt"),
        pytest.param(413, None, ProviderRequestError, id="413"),
        pytest.param(415, None, ProviderRequestError, id="415"),
        pytest.param(422, None, ProviderRequestError, id="422"),
        pytest.param(429, None, RateLimitError, id="429"),
        pytest.param(500, None, ProviderError, id="500 in doubt"),
        pytest.param(502, None, ProviderError, id="502 in doubt"),
        pytest.param(503, None, ProviderUnavailableError, id="503"),
        pytest.param(504, None, ProviderError, id="504 in doubt"),
        pytest.param(520, None, ProviderError, id="520 in doubt"),
        pytest.param(
            400, "content_policy_violation", ContentFilteredError, id="policy"
        ),
        pytest.param(400, "content_filter", ContentFilteredError, id="filter"),
        pytest.param(403, "moderation_blocked", ContentFilteredError, id="moderation"),
        pytest.param(400, "safety_violation", ContentFilteredError, id="safety"),
        pytest.param(500, "content_filter", ProviderError, id="500 whatever it says"),
        pytest.param(400, "model_not_found", ModelError, id="no model"),
        pytest.param(400, "invalid_api_key", AuthenticationError, id="bad key"),
        pytest.param(429, "insufficient_quota", QuotaExceededError, id="no credit"),
        pytest.param(
            400, "billing_hard_limit_reached", QuotaExceededError, id="hard limit"
        ),
        pytest.param(403, "insufficient_balance", QuotaExceededError, id="no balance"),
        pytest.param(429, "rate_limit_exceeded", RateLimitError, id="rate limit"),
    ],
)
def test_statuses(status: int, code: str | None, kind: type[Exception]) -> None:
    """A status, and what the answer calls it, decide about the class."""
    failure = failure_of(_status(status, code))

    assert type(failure) is kind
    assert "sk-canary" not in str(failure)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({"retry-after": "3"}, 3.0, id="seconds"),
        pytest.param({"retry-after": "0.5"}, 0.5, id="half a second"),
        pytest.param({"retry-after-ms": "1500"}, 1.5, id="milliseconds"),
        pytest.param(
            {"retry-after-ms": "1500", "retry-after": "9"}, 1.5, id="both: the finer"
        ),
        pytest.param({"retry-after": "-3"}, 0.0, id="below zero"),
        pytest.param({"retry-after": "inf"}, None, id="for ever"),
        pytest.param({"retry-after": "soon"}, None, id="words"),
        pytest.param({}, None, id="nothing"),
    ],
)
def test_waits(headers: dict[str, str], seconds: float | None) -> None:
    """How long to wait is read in every form it comes in."""
    assert refused(429, None, headers).retry_after == seconds


def test_a_wait_until_a_date() -> None:
    """A date is turned into the seconds until then."""
    until = formatdate(time.time() + 100, usegmt=True)

    failure = failure_of(_status(429, None, **{"Retry-After": until}))

    assert isinstance(failure, RateLimitError)
    assert failure.retry_after == pytest.approx(100, abs=20)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        pytest.param(
            _unanswered(httpx2.ConnectError(""), openai.APIConnectionError),
            ProviderConnectionError,
            id="refused connection",
        ),
        pytest.param(
            _unanswered(httpx2.ConnectTimeout(""), openai.APITimeoutError),
            ProviderConnectionError,
            id="slow connection",
        ),
        pytest.param(
            _unanswered(httpx2.PoolTimeout(""), openai.APITimeoutError),
            ProviderConnectionError,
            id="no connection free",
        ),
        pytest.param(
            _unanswered(httpx2.ProxyError(""), openai.APIConnectionError),
            ProviderConnectionError,
            id="proxy",
        ),
        pytest.param(
            _unanswered(httpx2.ReadTimeout(""), openai.APITimeoutError),
            ProviderTimeoutError,
            id="slow answer",
        ),
        pytest.param(
            _unanswered(httpx2.WriteTimeout(""), openai.APITimeoutError),
            ProviderTimeoutError,
            id="slow to take it",
        ),
        pytest.param(
            _unanswered(httpx2.ReadError(""), openai.APIConnectionError),
            ProviderError,
            id="broken off while reading",
        ),
        pytest.param(
            _unanswered(httpx2.WriteError(""), openai.APIConnectionError),
            ProviderError,
            id="broken off while writing",
        ),
        pytest.param(
            _unanswered(httpx2.RemoteProtocolError(""), openai.APIConnectionError),
            ProviderError,
            id="no answer",
        ),
        pytest.param(TimeoutError(), ProviderTimeoutError, id="no time left"),
        pytest.param(KeyError("x"), ProviderError, id="anything else"),
    ],
)
def test_no_answer(error: Exception, kind: type[Exception]) -> None:
    """What is certain not to have been sent is told from what may have been."""
    assert type(failure_of(error)) is kind


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        pytest.param({"error": {"code": "batch_expired"}}, ProviderUnavailableError),
        pytest.param({"error": {"code": "batch_cancelled"}}, ProviderUnavailableError),
        pytest.param({"error": {"code": "server_error"}}, ProviderError),
        pytest.param({}, ProviderError),
        pytest.param({"response": {"status_code": 429}}, RateLimitError),
        pytest.param({"response": {"status_code": 500}}, ProviderError),
        pytest.param({"response": {"status_code": "?"}}, ProviderError),
        pytest.param({"response": {"body": []}}, ProviderError),
        pytest.param(
            {
                "response": {
                    "status_code": 400,
                    "body": {"error": {"code": "content_filter"}},
                }
            },
            ContentFilteredError,
        ),
    ],
    ids=str,
)
def test_lines_of_batches(line: dict[str, Any], kind: type[Exception]) -> None:
    """A line without pictures means what an interactive answer would."""
    failure = refused_line(line.get("error"), line.get("response"))

    assert type(failure) is kind


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        pytest.param("Unsupported url", ModelError, id="endpoint"),
        pytest.param("Model x is not available", ModelError, id="model"),
        pytest.param("Enqueued token_limit reached", RateLimitError, id="limit"),
        pytest.param("Exceeds the GPU quota", RateLimitError, id="quota"),
        pytest.param("Duplicate custom_id", ProviderRequestError, id="lines"),
        pytest.param(None, ProviderRequestError, id="nothing said"),
    ],
)
def test_batches_refused_as_a_whole(message: str | None, kind: type[Exception]) -> None:
    """What the validation of a file complains of decides about every line."""
    assert type(refused_batch([{"message": message, "code": None}, None])) is kind


async def test_no_trace_of_the_sdks_error_is_left() -> None:
    """The SDK's error holds the request, and that holds the key."""

    async def fail() -> None:
        raise _status(401)

    with pytest.raises(AuthenticationError) as caught:
        await answered(fail())

    assert caught.value.__cause__ is caught.value.__context__ is None


async def test_gaias_own_errors_pass() -> None:
    """What was decided before is not decided again."""

    async def fail() -> None:
        message = "no picture"
        raise UnusableResultError(message)

    with pytest.raises(UnusableResultError, match="no picture"):
        await answered(fail())
