"""What a client is told when something goes wrong."""

import inspect
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import structlog
from fastapi import HTTPException

from gaia_core import errors
from gaia_core.errors import GaiaError, OutcomeClass
from gaia_core.responses import Attempt
from gaia_core.server.dialects import problem_in
from gaia_core.server.problems import (
    TEXTS,
    RefusedError,
    code_of,
    note_fallback,
    problem_of,
)
from gaia_core.server.schemas.answers import ProblemOut
from gaia_core.testing import FakeProvider
from tests.server.conftest import OpenClient

SMALL = {"prompt": "a red dragon", "size": "64x64"}
CANARY = "canary-/srv/secrets-sk-123"


def made(kind: type[GaiaError], **fields: Any) -> GaiaError:
    """Make an error of any class, with words nobody may read."""
    extra: dict[type[GaiaError], dict[str, Any]] = {
        errors.NoCapableProviderError: {"reasons": {"fake": CANARY}},
        errors.OutcomeUnknownError: {"operation_id": "0" * 32, "provider": "fake"},
        errors.BudgetExceededError: {"scope": f"user:{CANARY}"},
        errors.RequestLimitError: {"retry_after": 3.0},
        errors.OperationInProgressError: {"operation_id": "0" * 32},
    }
    return kind(CANARY, **{**extra.get(kind, {}), **fields})


def classes() -> Iterator[type[GaiaError]]:
    """List every class of error the core has."""
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, GaiaError) and kind is not GaiaError:
            yield kind


def attempt(outcome: OutcomeClass, cost_usd: str | None = None) -> Attempt:
    """Make an attempt that ended so."""
    return Attempt(
        provider="fake",
        model="fake",
        task_id="t",
        outcome=outcome,
        duration_ms=1.0,
        cost_usd=None if cost_usd is None else Decimal(cost_usd),
        error=CANARY,
    )


EXPECTED = {
    "authentication": (502, "api_error", "check_settings"),
    "budget_exceeded": (402, "quota_error", "raise_budget"),
    "content_filtered": (422, "content_error", "change_prompt"),
    "idempotency_conflict": (422, "request_error", "use_another_key"),
    "invalid_image": (422, "request_error", "fix_request"),
    "invalid_request": (422, "request_error", "fix_request"),
    "lease_lost": (503, "api_error", "look_up_operation"),
    "ledger": (503, "api_error", "check_ledger"),
    "model": (404, "model_error", "use_fallback"),
    "no_capable_provider": (503, "unavailable_error", "check_providers"),
    "operation_in_progress": (409, "request_error", "retry"),
    "outcome_unknown": (504, "unknown_outcome", "look_up_operation"),
    "plugin": (503, "unavailable_error", "check_plugins"),
    "provider": (502, "api_error", "use_fallback"),
    "provider_connection": (503, "connection_error", "retry"),
    "provider_request": (422, "request_error", "fix_request"),
    "provider_timeout": (504, "connection_error", "look_up_operation"),
    "provider_unavailable": (503, "unavailable_error", "retry"),
    "quota_exceeded": (402, "quota_error", "use_fallback"),
    "rate_limit": (429, "quota_error", "retry"),
    "request_limit": (429, "quota_error", "retry"),
    "settings": (500, "request_error", "check_settings"),
    "storage": (507, "api_error", "check_storage"),
    "task_running": (504, "connection_error", "look_up_operation"),
    "unusable_result": (502, "api_error", "contact_support"),
}
"""Code to status, kind and what to do next, for every class of the core's."""


def test_every_error_of_the_core_has_a_code_and_a_text() -> None:
    """A new class needs a text of its own: a client reads no other."""
    problems = {kind: problem_of(made(kind)) for kind in classes()}

    found = {
        problem.code: (problem.status, problem.error_type, problem.suggested_action)
        for problem in problems.values()
    }
    assert found == EXPECTED
    assert len(problems) == len(EXPECTED)
    for kind, problem in problems.items():
        words = problem.code.replace("_", "") + "error"
        assert kind.__name__.lower() == words
        assert problem.text == TEXTS[problem.code]


def test_no_error_tells_its_own_words() -> None:
    """Whatever an exception says stays on the server."""
    bodies = [problem_of(made(kind)).as_body() for kind in classes()]
    bodies.append(problem_of(RuntimeError(CANARY)).as_body())

    for body in bodies:
        ProblemOut.model_validate(body)
        assert CANARY not in str(body)


def test_a_class_of_a_plugins_own_is_told_as_what_it_is_a_kind_of() -> None:
    """A plugin may raise a class of its own; its base decides what a client reads."""

    class VendorMelancholyError(errors.RateLimitError):
        """Something only one vendor has."""

    assert code_of(VendorMelancholyError) == "rate_limit"


@pytest.mark.parametrize(
    ("attempts", "kind", "billed"),
    [
        pytest.param([], errors.RateLimitError, False, id="nothing sent"),
        pytest.param(
            [attempt(OutcomeClass.REJECTED_BUSY)], errors.RateLimitError, False, id="no"
        ),
        pytest.param(
            [attempt(OutcomeClass.UNUSABLE, "0.04")],
            errors.UnusableResultError,
            True,
            id="answered, and charged",
        ),
        pytest.param(
            [attempt(OutcomeClass.AMBIGUOUS, "0.04")],
            errors.OutcomeUnknownError,
            None,
            id="lost",
        ),
        pytest.param(
            [attempt(OutcomeClass.AMBIGUOUS)],
            errors.ProviderTimeoutError,
            None,
            id="late",
        ),
    ],
)
def test_it_says_whether_it_was_charged(
    attempts: list[Attempt],
    kind: type[GaiaError],
    billed: bool | None,
) -> None:
    """True, false, or null: nobody knows."""
    error = made(kind)
    error.attempts = tuple(attempts)

    assert problem_of(error).billed is billed


def test_waiting_is_told_in_whole_seconds_and_never_too_few() -> None:
    """`Retry-After` has whole seconds; the body has what is known."""
    soon = problem_of(made(errors.RateLimitError, retry_after=0.2))
    later = problem_of(made(errors.RateLimitError, retry_after=2.1))
    none = problem_of(made(errors.RateLimitError))

    assert soon.all_headers["Retry-After"] == "1"
    assert later.all_headers["Retry-After"] == "3"
    assert later.as_body()["retry_after"] == 2.1
    assert "Retry-After" not in none.all_headers


def test_a_fallback_is_told_where_one_was_found() -> None:
    """Whether somebody else could serve is known only where it was looked for."""
    error = made(errors.RateLimitError)
    assert problem_of(error).fallback_available is False

    note_fallback(error, is_available=True)

    assert problem_of(error).fallback_available is True


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *((400, "request"), (401, "unauthorised"), (404, "not_found")),
        *((418, "request"), (500, "internal"), (502, "internal")),
    ],
)
def test_the_frameworks_own_refusals_are_told_alike(status: int, code: str) -> None:
    """Whatever refuses, the body has one shape and a fixed text."""
    problem = problem_of(HTTPException(status, CANARY, headers={"X-Kept": "yes"}))

    assert (problem.status, problem.code) == (status, code)
    assert problem.text == TEXTS[code]
    assert problem.all_headers == {"X-Kept": "yes"}


@pytest.mark.parametrize(
    ("status", "kind", "action"),
    [
        (403, "request_error", "fix_request"),
        (502, "api_error", "contact_support"),
        (503, "unavailable_error", "retry"),
    ],
)
def test_a_hosts_own_failure_is_not_blamed_on_the_request(
    status: int, kind: str, action: str
) -> None:
    """Where a host's login is down, nobody is told to mend their request."""
    problem = problem_of(HTTPException(status, CANARY))

    assert (problem.error_type, problem.suggested_action) == (kind, action)
    assert CANARY not in str(problem.as_body())


def test_a_hosts_own_failure_is_in_the_log() -> None:
    """Its status says enough for the log; its words may be anybody's."""
    with structlog.testing.capture_logs() as logs:
        problem_in(HTTPException(502, CANARY), "/api/images")
        problem_in(HTTPException(404, CANARY), "/api/images")
        problem_in(RefusedError(503, "busy"), "/api/images")

    assert [(one["event"], one["error"]) for one in logs] == [
        ("gaia.server_failed", "HTTPException 502")
    ]


def test_every_code_of_the_servers_own_has_a_text() -> None:
    """A refusal is made with a code that can be read."""
    problem = problem_of(RefusedError(429, "busy", retry_after=2))

    assert problem.text == TEXTS["busy"]
    assert problem.error_type == "unavailable_error"


# -- over HTTP ------------------------------------------------------------------------


async def test_a_provider_that_fails_is_told(open_client: OpenClient) -> None:
    """Status, kind, operation and next step arrive, without the vendor's words."""
    fake = FakeProvider.failing(errors.QuotaExceededError(CANARY), price_usd="0.01")
    async with open_client(fake) as client:
        answer = await client.post("/api/images/generate", json=SMALL)
        operation = await client.get(f"/api/operations/{answer.json()['operation_id']}")

    problem = ProblemOut.model_validate(answer.json())
    assert answer.status_code == 402
    assert problem.error_code == "quota_exceeded"
    assert (problem.billed, problem.fallback_available) == (False, False)
    assert operation.json()["failure"]["error_code"] == "quota_exceeded"
    assert CANARY not in answer.text + operation.text


async def test_a_fallback_the_caller_ruled_out_is_offered(
    open_client: OpenClient,
) -> None:
    """Whoever named a provider is told that another could have served."""
    down = FakeProvider.failing(errors.AuthenticationError(CANARY), name="down")
    async with open_client(down, FakeProvider(name="up")) as client:
        named = await client.post(
            "/api/images/generate", json={**SMALL, "provider": "down"}
        )
        nobody = await client.post(
            "/api/images/generate", json={**SMALL, "provider": "nobody"}
        )

    assert (named.status_code, nobody.status_code) == (502, 503)
    assert named.json()["fallback_available"] is True
    assert nobody.json()["fallback_available"] is True


async def test_a_safety_refusal_is_offered_to_nobody_else(
    open_client: OpenClient,
) -> None:
    """What one provider refuses on safety grounds is not taken to another."""
    strict = FakeProvider.failing(
        errors.ContentFilteredError(CANARY), name="strict", priority=9
    )
    lax = FakeProvider(name="lax")
    async with open_client(strict, lax) as client:
        answer = await client.post("/api/images/generate", json=SMALL)

    assert answer.status_code == 422
    assert answer.json()["error_type"] == "content_error"
    assert answer.json()["fallback_available"] is False
    assert not lax.calls


async def test_what_fails_in_the_server_itself_is_told_and_logged(
    open_client: OpenClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug is 500 with a fixed text; the log names the route and the kind."""

    def broken() -> str:
        raise ZeroDivisionError(CANARY)

    async with open_client(auth=broken) as client:
        answer = await client.post("/api/images/generate", json=SMALL)

    assert answer.status_code == 500
    assert answer.json()["error_code"] == "internal"
    assert CANARY not in answer.text
    assert "gaia.server_failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text
