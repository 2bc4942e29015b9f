"""Every error of the service, of its SDK and of three transports has its meaning."""

import json
import traceback
from email.utils import formatdate
from time import time
from typing import Any

import aiohttp
import httpx2
import pytest
from google.auth.exceptions import (
    DefaultCredentialsError,
    RefreshError,
    TransportError,
)
from google.genai.errors import APIError, UnknownApiResponseError

from gaia_core import (
    AuthenticationError,
    GenerateRequest,
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
from gaia_core.testing import context
from gaia_core.testing.vendors.gemini import GeminiVendor, Manner
from gaia_gemini import GeminiProvider
from gaia_gemini.errors import connecting, error_for, retry_after, translated

KEEP = GenerateRequest(prompt="a keep", width=64, height=64)

CANARY = "AIza-canary-of-the-errors"

KEY_INVALID = {"reason": "API_KEY_INVALID", "domain": "googleapis.com"}
PER_DAY = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}]}
PER_MINUTE = {"violations": [{"quotaId": "GenerateRequestsPerMinutePerProject"}]}

TABLE: list[tuple[int, str, list[Any], type[ProviderError], OutcomeClass]] = [
    (
        *(400, "INVALID_ARGUMENT", []),
        *(ProviderRequestError, OutcomeClass.REJECTED_FINAL),
    ),
    (
        *(400, "INVALID_ARGUMENT", [KEY_INVALID]),
        *(AuthenticationError, OutcomeClass.REJECTED_AUTH),
    ),
    (
        *(400, "FAILED_PRECONDITION", []),
        *(QuotaExceededError, OutcomeClass.REJECTED_AUTH),
    ),
    (400, "OUT_OF_RANGE", [], ProviderRequestError, OutcomeClass.REJECTED_FINAL),
    (401, "UNAUTHENTICATED", [], AuthenticationError, OutcomeClass.REJECTED_AUTH),
    (402, "", [], QuotaExceededError, OutcomeClass.REJECTED_AUTH),
    (403, "PERMISSION_DENIED", [], AuthenticationError, OutcomeClass.REJECTED_AUTH),
    (
        *(403, "PERMISSION_DENIED", [{"reason": "BILLING_DISABLED"}]),
        *(QuotaExceededError, OutcomeClass.REJECTED_AUTH),
    ),
    (404, "NOT_FOUND", [], ModelError, OutcomeClass.REJECTED_FINAL),
    (408, "", [], ProviderTimeoutError, OutcomeClass.AMBIGUOUS),
    (409, "ABORTED", [], ProviderError, OutcomeClass.AMBIGUOUS),
    (413, "", [], ProviderRequestError, OutcomeClass.REJECTED_FINAL),
    (415, "", [], ProviderRequestError, OutcomeClass.REJECTED_FINAL),
    (422, "", [], ProviderRequestError, OutcomeClass.REJECTED_FINAL),
    (429, "RESOURCE_EXHAUSTED", [], RateLimitError, OutcomeClass.REJECTED_BUSY),
    (
        *(429, "RESOURCE_EXHAUSTED", [PER_MINUTE]),
        *(RateLimitError, OutcomeClass.REJECTED_BUSY),
    ),
    (
        *(429, "RESOURCE_EXHAUSTED", [PER_DAY]),
        *(QuotaExceededError, OutcomeClass.REJECTED_AUTH),
    ),
    (499, "CANCELLED", [], ProviderError, OutcomeClass.AMBIGUOUS),
    (500, "INTERNAL", [], ProviderError, OutcomeClass.AMBIGUOUS),
    (500, "UNKNOWN", [], ProviderError, OutcomeClass.AMBIGUOUS),
    (501, "UNIMPLEMENTED", [], ProviderError, OutcomeClass.AMBIGUOUS),
    (502, "", [], ProviderError, OutcomeClass.AMBIGUOUS),
    (503, "UNAVAILABLE", [], ProviderUnavailableError, OutcomeClass.REJECTED_BUSY),
    (504, "DEADLINE_EXCEEDED", [], ProviderTimeoutError, OutcomeClass.AMBIGUOUS),
    (524, "", [], ProviderError, OutcomeClass.AMBIGUOUS),
    (307, "", [], ProviderError, OutcomeClass.AMBIGUOUS),
]


def _name(value: Any) -> str:
    if isinstance(value, list):
        return str(*value) if value else "plain"
    return getattr(value, "__name__", None) or str(value)


@pytest.mark.parametrize(
    ("status", "name", "details", "kind", "outcome"), TABLE, ids=_name
)
async def test_every_status_has_its_meaning(
    vendor: GeminiVendor,
    provider: GeminiProvider,
    status: int,
    name: str,
    details: list[Any],
    kind: type[ProviderError],
    outcome: OutcomeClass,
) -> None:
    """What the service answers is translated, over a real socket."""
    error = {"code": status, "message": "the reason", "status": name}
    body = json.dumps({"error": error | {"details": details}})
    vendor.manner = Manner(
        status=status, body=body, headers={"Content-Type": "application/json"}
    )

    with pytest.raises(ProviderError) as caught:
        await provider.gaia_generate(KEEP, context())

    assert type(caught.value) is kind
    assert caught.value.outcome is outcome
    assert str(status) in str(caught.value)
    assert "the reason" in str(caught.value)
    assert vendor.requests == 1


@pytest.mark.parametrize("status", [400, 404, 429, 502, 503])
async def test_pages_of_proxies_are_not_quoted(
    vendor: GeminiVendor, provider: GeminiProvider, status: int
) -> None:
    """A page in HTML says nothing to anybody; its status decides all the same."""
    vendor.manner = Manner(status=status, body="<html><h1>Error</h1></html>")

    with pytest.raises(ProviderError) as caught:
        await provider.gaia_generate(KEEP, context())

    assert "<" not in str(caught.value)
    assert str(status) in str(caught.value)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx2.ConnectError("refused"), ProviderConnectionError),
        (httpx2.ConnectTimeout("slow"), ProviderConnectionError),
        (httpx2.PoolTimeout("full"), ProviderConnectionError),
        (httpx2.ProxyError("407"), ProviderConnectionError),
        (httpx2.UnsupportedProtocol("ftp"), ProviderConnectionError),
        (httpx2.InvalidURL("no"), ProviderConnectionError),
        (httpx2.ReadTimeout("slow"), ProviderTimeoutError),
        (httpx2.WriteTimeout("slow"), ProviderTimeoutError),
        (httpx2.ReadError("cut"), ProviderError),
        (httpx2.WriteError("cut"), ProviderError),
        (httpx2.CloseError("cut"), ProviderError),
        (httpx2.RemoteProtocolError("cut"), ProviderError),
        (httpx2.LocalProtocolError("odd"), ProviderError),
        (httpx2.DecodingError("odd"), ProviderError),
        (aiohttp.ConnectionTimeoutError("slow"), ProviderConnectionError),
        (aiohttp.ServerTimeoutError("slow"), ProviderTimeoutError),
        (aiohttp.SocketTimeoutError("slow"), ProviderTimeoutError),
        (aiohttp.ServerDisconnectedError("cut"), ProviderError),
        (aiohttp.ClientOSError("cut"), ProviderError),
        (aiohttp.ClientPayloadError("cut"), ProviderError),
        (TimeoutError(), ProviderTimeoutError),
        (ConnectionResetError(), ProviderError),
        (OSError("odd"), ProviderError),
        (DefaultCredentialsError("none"), AuthenticationError),  # type: ignore[no-untyped-call]  # google-auth has no types
        (RefreshError("revoked"), AuthenticationError),  # type: ignore[no-untyped-call]  # google-auth has no types
        (TransportError("no token server"), ProviderConnectionError),  # type: ignore[no-untyped-call]  # google-auth has no types
        (UnknownApiResponseError("<html>"), UnusableResultError),
        (ValueError("odd"), ProviderError),
        (KeyError("odd"), ProviderError),
        (RuntimeError("odd"), ProviderError),
    ],
    ids=lambda value: f"{type(value).__module__}.{type(value).__name__}",
)
def test_every_exception_has_its_meaning(
    error: Exception, kind: type[ProviderError]
) -> None:
    """What either transport raises is translated; what nobody knows is ambiguous."""
    with pytest.raises(ProviderError) as caught, translated():
        raise error

    assert type(caught.value) is kind
    assert caught.value.__cause__ is error


def test_a_refused_connection_of_aiohttp_was_not_used() -> None:
    """The error that aiohttp has for it needs a socket's address."""
    key: Any = type("Key", (), {"ssl": None, "host": "x", "port": 1, "is_ssl": False})
    error = aiohttp.ClientConnectorError(key, OSError("refused"))

    assert type(error_for(error)) is ProviderConnectionError


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ImportError("socksio"), ProviderConnectionError),
        (ValueError("odd"), ProviderConnectionError),
        (DefaultCredentialsError("none"), AuthenticationError),  # type: ignore[no-untyped-call]  # google-auth has no types
    ],
    ids=["no package", "odd", "no credentials"],
)
def test_what_fails_before_there_is_a_client_sent_nothing(
    error: Exception, kind: type[ProviderError]
) -> None:
    """Nothing is in doubt about a client that could not be made."""
    with pytest.raises(ProviderError) as caught, connecting():
        raise error

    assert type(caught.value) is kind


def test_gaias_own_errors_go_through() -> None:
    """What is translated already stays as it is."""
    error = UnusableResultError("none")

    with pytest.raises(UnusableResultError) as caught, translated():
        raise error

    assert caught.value is error


@pytest.mark.parametrize(
    ("details", "headers", "seconds"),
    [
        ({"error": {"details": [{"retryDelay": "12s"}]}}, {}, 12.0),
        ({"error": {"details": [{"retryDelay": "1.5s"}]}}, {"retry-after": "9"}, 1.5),
        ({"error": {"details": ["x", {"retryDelay": "soon"}]}}, {}, None),
        ({"error": {"details": [{"retryDelay": f"{'9' * 400}s"}]}}, {}, None),
        ({"error": {}}, {"retry-after": "inf"}, None),
        ({"error": {}}, {"retry-after": "nan"}, None),
        ({"error": {}}, {"retry-after": "7"}, 7.0),
        ({"error": {}}, {"retry-after": "-7"}, 0.0),
        ({"error": {}}, {"retry-after": "soon"}, None),
        ({"error": {}}, {"retry-after": "Sat, 01 Jan 2000 00:00:00 GMT"}, 0.0),
        ([], {}, None),
        (None, {}, None),
    ],
    ids=str,
)
def test_waits_are_read(
    details: Any, headers: dict[str, str], seconds: float | None
) -> None:
    """Google's own word for a wait counts before the header."""
    assert retry_after(details, headers) == seconds


def test_a_date_is_a_wait() -> None:
    """Retry-After may be a date."""
    wait = retry_after(None, {"retry-after": formatdate(time() + 3_600, usegmt=True)})

    assert wait is not None
    assert 3_000 < wait <= 3_600


@pytest.mark.parametrize("how", ["details", "header"])
async def test_a_wait_arrives(
    vendor: GeminiVendor, provider: GeminiProvider, how: str
) -> None:
    """What the service asks to wait reaches whoever repeats."""
    detail = [{"retryDelay": "3s"}] if how == "details" else []
    error = {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": detail}
    vendor.manner = Manner(
        status=429,
        body=json.dumps({"error": error}),
        headers={"Retry-After": "3"} if how == "header" else {},
    )

    with pytest.raises(RateLimitError) as caught:
        await provider.gaia_generate(KEEP, context())

    assert caught.value.retry_after == 3.0


@pytest.mark.parametrize("status", [400, 403, 429, 500])
def test_a_key_that_is_repeated_is_not_shown(status: int) -> None:
    """A vendor that repeats the key shows it neither in the error nor in its cause."""
    error = APIError(status, {"error": {"message": f"bad key {CANARY}"}})

    with pytest.raises(ProviderError) as caught, translated(Secret(CANARY)):
        raise error

    assert CANARY not in "".join(traceback.format_exception(caught.value))
