"""Who is worth waiting for, after everybody has refused for free."""

from collections.abc import Sequence
from decimal import Decimal

import pytest

from gaia_core.errors import (
    AuthenticationError,
    ContentFilteredError,
    InvalidRequestError,
    ModelError,
    OutcomeClass,
    ProviderConnectionError,
    ProviderTimeoutError,
    RateLimitError,
)
from gaia_core.reliability import is_put_off
from gaia_core.responses import Attempt

BUSY, AUTH, FINAL, LOST = (
    OutcomeClass.REJECTED_BUSY,
    OutcomeClass.REJECTED_AUTH,
    OutcomeClass.REJECTED_FINAL,
    OutcomeClass.AMBIGUOUS,
)


def _attempt(outcome: OutcomeClass) -> Attempt:
    return Attempt(
        provider="fake",
        model="fake",
        task_id="1",
        outcome=outcome,
        duration_ms=1.0,
        cost_usd=Decimal(0),
    )


@pytest.mark.parametrize(
    ("error", "outcomes", "expected"),
    [
        pytest.param(RateLimitError("wait"), [BUSY], True, id="busy"),
        pytest.param(ProviderConnectionError("gone"), [BUSY], True, id="gone"),
        pytest.param(RateLimitError("queue"), [], True, id="no-turn"),
        pytest.param(RateLimitError("wait"), [AUTH, BUSY], True, id="busy-at-last"),
        pytest.param(
            AuthenticationError("key"), [BUSY, AUTH], True, id="busy-at-first"
        ),
        pytest.param(AuthenticationError("key"), [AUTH], False, id="key"),
        pytest.param(
            ModelError("none"), [BUSY, FINAL], True, id="another-has-no-model"
        ),
        pytest.param(ModelError("none"), [FINAL], False, id="no-model"),
        pytest.param(ContentFilteredError("no"), [BUSY, FINAL], False, id="filtered"),
        pytest.param(InvalidRequestError("odd"), [BUSY, FINAL], False, id="invalid"),
        pytest.param(ProviderTimeoutError("late"), [BUSY, BUSY], True, id="no-time"),
        pytest.param(ProviderTimeoutError("late"), [BUSY, LOST], False, id="no-answer"),
        pytest.param(ValueError("odd"), [LOST], False, id="foreign"),
    ],
)
def test_what_may_be_served_later(
    error: Exception, outcomes: Sequence[OutcomeClass], expected: bool
) -> None:
    """A request waits for whoever was busy, and for nobody who refused it for good."""
    attempts = [_attempt(outcome) for outcome in outcomes]

    assert is_put_off(error, attempts) is expected
