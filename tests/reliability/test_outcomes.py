"""What an error says about money, and whom to ask again."""

import pytest

from gaia_core import (
    AuthenticationError,
    Capability,
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
    UnusableResultError,
)
from gaia_core.reliability import (
    Asker,
    SingleTry,
    Target,
    classify,
    is_model_missing,
    may_fall_back,
)

TABLE: list[tuple[BaseException, OutcomeClass, bool, bool]] = [
    (AuthenticationError("x"), OutcomeClass.REJECTED_AUTH, True, True),
    (ContentFilteredError("x"), OutcomeClass.REJECTED_FINAL, False, False),
    (ModelError("x"), OutcomeClass.REJECTED_FINAL, True, True),
    (ProviderConnectionError("x"), OutcomeClass.REJECTED_BUSY, True, True),
    (ProviderError("x"), OutcomeClass.AMBIGUOUS, False, True),
    (ProviderRequestError("x"), OutcomeClass.REJECTED_FINAL, False, False),
    (ProviderTimeoutError("x"), OutcomeClass.AMBIGUOUS, False, True),
    (ProviderUnavailableError("x"), OutcomeClass.REJECTED_BUSY, True, True),
    (QuotaExceededError("x"), OutcomeClass.REJECTED_AUTH, True, True),
    (RateLimitError("x"), OutcomeClass.REJECTED_BUSY, True, True),
    (UnusableResultError("x"), OutcomeClass.UNUSABLE, False, False),
    (KeyError("x"), OutcomeClass.AMBIGUOUS, False, True),
    (OSError("x"), OutcomeClass.AMBIGUOUS, False, True),
    (TimeoutError("x"), OutcomeClass.AMBIGUOUS, False, True),
]
"""Error, its class, and whether it falls back when it is paid and when free."""


@pytest.mark.parametrize(
    ("error", "outcome", "when_paid", "when_free"),
    TABLE,
    ids=[type(row[0]).__name__ for row in TABLE],
)
def test_errors_decide_about_money(
    error: BaseException,
    outcome: OutcomeClass,
    *,
    when_paid: bool,
    when_free: bool,
) -> None:
    """Only what was surely not charged, or cannot be, is taken to somebody else."""
    assert classify(error) is outcome
    assert may_fall_back(error, is_free=False) is when_paid
    assert may_fall_back(error, is_free=True) is when_free


def test_only_a_missing_model_lets_another_model_serve() -> None:
    """Another model of the same provider is asked for a missing one alone."""
    assert is_model_missing(ModelError("gone"))
    assert not is_model_missing(RateLimitError("slow down"))


def test_single_try_admits_and_repeats_nothing() -> None:
    """The plainest rules admit everybody and repeat nothing."""
    rules = SingleTry()

    assert rules.admit("p", Capability.UPSCALING) is None
    assert rules.opens_in("p", Capability.UPSCALING) is None
    assert rules.wait_before_repeat(_target("p"), 0, RateLimitError("slow")) is None


async def test_single_try_holds_nothing() -> None:
    """Any number of attempts may be under way by the plainest rules."""
    rules = SingleTry()

    async with (
        rules.attempt(_target("p"), Asker()),
        rules.attempt(_target("p"), Asker()),
    ):
        latency = rules.latency()

    assert latency == {}


def test_latency_follows_successes() -> None:
    """The average moves towards the latest success; failures do not count."""
    rules = SingleTry()

    rules.record(_target("p"), OutcomeClass.OK, 2.0)
    rules.record(_target("p"), OutcomeClass.OK, 4.0)
    rules.record(_target("p"), OutcomeClass.AMBIGUOUS, 60.0)
    rules.record(_target("q"), OutcomeClass.REJECTED_BUSY, 0.1)

    assert rules.latency() == {"p": pytest.approx(2.4)}


def _target(provider: str) -> Target:
    return Target(provider=provider, model="m", capability=Capability.UPSCALING)
