"""What the vendor's errors mean: for people, for money, and for repetition."""

import pytest
import runware
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from gaia_core import (
    AuthenticationError,
    ContentFilteredError,
    ModelError,
    OutcomeClass,
    ProviderConnectionError,
    ProviderError,
    ProviderRequestError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitError,
)
from gaia_runware.errors import (
    BY_KIND,
    connecting_failed,
    failure_of,
    in_doubt,
    is_about_all,
    is_about_asking,
    is_about_polling,
    refusal,
)
from gaia_runware.traffic import Traffic

TASK = "6fa459ea-ee8a-4ca4-894e-db77e160355e"

CODES = {
    "invalidApiKey": AuthenticationError,
    "missingApiKey": AuthenticationError,
    "unauthorized": AuthenticationError,
    "forbidden": AuthenticationError,
    "accountSuspended": AuthenticationError,
    "insufficientCredits": QuotaExceededError,
    "providerInsufficientCredits": QuotaExceededError,
    "quotaExceeded": QuotaExceededError,
    "paymentRequired": QuotaExceededError,
    "rateLimitExceeded": RateLimitError,
    "inferenceRateLimitExceeded": RateLimitError,
    "providerRateLimitExceeded": RateLimitError,
    "invalidModel": ModelError,
    "modelNotFound": ModelError,
    "modelUnavailable": ModelError,
    "modelNotReady": ModelError,
    "modelDisabled": ModelError,
    "contentPolicyViolation": ContentFilteredError,
    "providerContentPolicyViolation": ContentFilteredError,
    "nsfwContentDetected": ContentFilteredError,
    "sensitiveContentDetected": ContentFilteredError,
    "unsafeContentDetected": ContentFilteredError,
    "moderationFailed": ContentFilteredError,
    "invalidProviderContent": ContentFilteredError,
    "promptBlocked": ContentFilteredError,
    "imageBlocked": ContentFilteredError,
    "noAvailableServer": ProviderUnavailableError,
    "serviceUnavailable": ProviderUnavailableError,
    "serverUnavailable": ProviderUnavailableError,
    "invalidPositivePrompt": ProviderRequestError,
    "missingPositivePrompt": ProviderRequestError,
    "invalidTaskUUID": ProviderRequestError,
    "unsupportedParameter": ProviderRequestError,
    "unsupportedDimensions": ProviderRequestError,
    "unknownParameter": ProviderRequestError,
    "valueTooLarge": ProviderRequestError,
    "maxLycorisModelsExceeded": ProviderRequestError,
    "mediaNotFound": ProviderRequestError,
    "timeoutProvider": ProviderTimeoutError,
    "providerTimeout": ProviderTimeoutError,
    "timeout": ProviderTimeoutError,
    "providerError": ProviderError,
    "inferenceError": ProviderError,
    "processingFailed": ProviderError,
    "taskFailed": ProviderError,
    "taskFailedOrNotFound": ProviderError,
    "taskExpired": ProviderError,
    "taskCancelled": ProviderError,
    "internalServerError": ProviderError,
    "unknownError": ProviderError,
    "somethingNeverSeenBefore": ProviderError,
    "": ProviderError,
}
"""Every code of the vendor's that a document or a test of it names."""

STATUSES = {
    400: ProviderRequestError,
    401: AuthenticationError,
    402: QuotaExceededError,
    403: AuthenticationError,
    404: ModelError,
    408: ProviderError,
    413: ProviderRequestError,
    422: ProviderRequestError,
    429: RateLimitError,
    500: ProviderError,
    502: ProviderError,
    503: ProviderUnavailableError,
    504: ProviderError,
    520: ProviderError,
}
"""Every status that the vendor documents, and those of proxies."""

KINDS = {
    "validation": OutcomeClass.REJECTED_FINAL,
    "auth": OutcomeClass.REJECTED_AUTH,
    "quota": OutcomeClass.REJECTED_AUTH,
    "rateLimit": OutcomeClass.REJECTED_BUSY,
    "safety": OutcomeClass.REJECTED_FINAL,
    "provider": OutcomeClass.AMBIGUOUS,
    "timeout": OutcomeClass.AMBIGUOUS,
    "notFound": OutcomeClass.AMBIGUOUS,
    "serverError": OutcomeClass.AMBIGUOUS,
    "connection": OutcomeClass.AMBIGUOUS,
    "aborted": OutcomeClass.AMBIGUOUS,
    "unknown": OutcomeClass.AMBIGUOUS,
}
"""Every kind of error the SDK knows."""


def _traffic(**facts: object) -> Traffic:
    known: dict[str, object] = {"task_id": TASK, "is_sent": True}
    return Traffic(**known | facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(("code", "expected"), CODES.items(), ids=CODES.keys())
def test_every_code_has_its_class(code: str, expected: type[ProviderError]) -> None:
    """A code of the vendor's becomes the error that says what to do about it."""
    failure = refusal({"code": code, "taskUUID": TASK})

    assert type(failure) is expected


@pytest.mark.parametrize(("status", "expected"), STATUSES.items())
def test_every_status_has_its_class(status: int, expected: type[ProviderError]) -> None:
    """A status over REST whose body says nothing decides by itself."""
    failure = failure_of(None, _traffic(status=status, retry_after=3.0))

    assert type(failure) is expected
    assert failure.retry_after == 3.0


@pytest.mark.parametrize(("kind", "expected"), KINDS.items(), ids=KINDS.keys())
def test_every_kind_of_the_sdk_has_its_outcome(
    kind: str, expected: OutcomeClass
) -> None:
    """What may have been worked on before it went wrong may have been charged."""
    assert BY_KIND[kind].outcome is expected


def test_no_kind_of_the_sdk_is_left_out() -> None:
    """A new version of the SDK with another kind is noticed."""
    kinds = set(runware.ErrorCode.__args__)  # type: ignore[attr-defined]

    assert set(BY_KIND) == set(KINDS) == kinds


def test_what_the_vendor_says_is_not_passed_on() -> None:
    """Messages may quote prompts and keys; codes and fields are plain words."""
    error = {
        "code": "invalidWidth",
        "parameter": "width",
        "message": "canary in a message",
    }

    told = str(refusal(error))
    odd = str(refusal({"code": "canary in a code!", "parameter": ["canary, too"]}))

    assert told.endswith("(invalidWidth, width)")
    assert "canary" not in told + odd


def test_the_wait_that_was_asked_for_is_kept() -> None:
    """Retry-After goes along with the error."""
    traffic = _traffic(status=429, retry_after=7.0)
    traffic.take_error({"code": "rateLimitExceeded"})

    assert failure_of(None, traffic).retry_after == 7.0


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (runware.create_runware_error("connectionLost", ""), ProviderError),
        (runware.create_runware_error("timeout", ""), ProviderTimeoutError),
        (TimeoutError(), ProviderTimeoutError),
        (ConnectionResetError(), ProviderError),
        (KeyError("surprise"), ProviderError),
    ],
    ids=["lost", "timeout of the SDK", "timeout", "reset", "anything"],
)
def test_what_was_sent_may_be_charged(
    error: Exception, expected: type[ProviderError]
) -> None:
    """Without a word of the vendor's nobody knows."""
    failure = failure_of(error, _traffic())

    assert type(failure) is expected
    assert failure.outcome is OutcomeClass.AMBIGUOUS


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (runware.create_runware_error("connectionLost", ""), ProviderConnectionError),
        (runware.create_runware_error("notConnected", ""), ProviderConnectionError),
        (runware.create_runware_error("invalidConfig", ""), ProviderRequestError),
        (TimeoutError(), ProviderConnectionError),
        (OSError(), ProviderConnectionError),
        (AuthenticationError("no"), AuthenticationError),
    ],
    ids=["lost", "not connected", "refused here", "timeout", "network", "key"],
)
def test_what_was_not_sent_is_free(
    error: Exception, expected: type[ProviderError]
) -> None:
    """A task that never left this machine was not charged."""
    failure = failure_of(error, _traffic(is_sent=False))

    assert type(failure) is expected
    assert failure.outcome is not OutcomeClass.AMBIGUOUS


def test_an_error_about_nobody_may_be_about_anybody() -> None:
    """It is no refusal, whatever its code."""
    assert failure_of(None, _traffic(is_unnamed=True)).outcome is OutcomeClass.AMBIGUOUS


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"code": "invalidApiKey"}, AuthenticationError),
        ({"code": "rateLimitExceeded"}, RateLimitError),
        ({"code": "serviceUnavailable"}, ProviderUnavailableError),
        ({"code": "internalServerError"}, ProviderUnavailableError),
        ({"code": "timeoutProvider"}, ProviderUnavailableError),
    ],
    ids=["key", "too many", "closed", "broken", "slow"],
)
def test_who_is_not_let_in_has_sent_nothing(
    error: dict[str, str], expected: type[ProviderError]
) -> None:
    """Whatever is said to the key, no task was sent."""
    failure = connecting_failed(OSError(), error)

    assert type(failure) is expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, AuthenticationError),
        (403, AuthenticationError),
        (402, QuotaExceededError),
        (429, RateLimitError),
        (503, ProviderUnavailableError),
        (404, ProviderConnectionError),
        (502, ProviderConnectionError),
    ],
)
def test_a_handshake_may_be_refused(status: int, expected: type[ProviderError]) -> None:
    """With a status that says why, or with one of somebody on the way."""
    error = runware.create_runware_error("connectionFailed", "")
    error.__cause__ = InvalidStatus(Response(status, "", Headers()))

    assert type(connecting_failed(error, None)) is expected


def test_a_doubt_keeps_the_words() -> None:
    """The same is said, but it decides nothing about money."""
    doubtful = in_doubt(AuthenticationError("the key is refused"))

    assert str(doubtful) == "the key is refused"
    assert doubtful.outcome is OutcomeClass.AMBIGUOUS


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("insufficientCredits", True),
        ("invalidPositivePrompt", True),
        ("inferenceError", False),
        ("nsfwContentDetected", False),
    ],
)
def test_some_errors_are_about_the_whole_task(code: str, *, expected: bool) -> None:
    """What is refused before any work has no pictures that come later."""
    assert is_about_all({"code": code}) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"code": "invalidApiKey", "parameter": "apiKey"}, True),
        ({"code": "rateLimitExceeded", "taskUUID": TASK}, True),
        ({"code": "invalidTaskUUID", "parameter": "taskUUID"}, True),
        ({"code": "contentPolicyViolation", "taskUUID": TASK}, False),
    ],
    ids=["key", "too many", "question", "task"],
)
def test_a_question_may_fail_by_itself(
    error: dict[str, str], *, expected: bool
) -> None:
    """That the look-up was refused says nothing about the task."""
    traffic = _traffic()
    traffic.take_error(error)

    assert is_about_asking(traffic) is expected


@pytest.mark.parametrize(
    ("error", "is_polled", "expected"),
    [
        ({"code": "rateLimitExceeded", "taskType": "getResponse"}, False, True),
        ({"code": "rateLimitExceeded"}, True, True),
        ({"code": "rateLimitExceeded"}, False, False),
        ({"code": "contentPolicyViolation"}, True, False),
    ],
    ids=["named", "while polling", "at once", "of the task"],
)
def test_a_question_about_a_task_is_told_from_the_task(
    error: dict[str, str], *, is_polled: bool, expected: bool
) -> None:
    """The money of a task that was taken is not given back for a question."""
    traffic = _traffic(is_polled=is_polled, errors=[error])

    assert is_about_polling(traffic) is expected
