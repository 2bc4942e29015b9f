"""What repeating may cost, how fast work may leave, and how long repeats wait."""

from random import Random

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia_core.reliability.backoff import full_jitter, wait_for
from gaia_core.reliability.buckets import (
    CAPACITY,
    REPEAT_COST,
    PaceBucket,
    RetryBucket,
)


@attrs.define
class Clock:
    """Shows the time it is set to."""

    now: float = 1_000.0

    def __call__(self) -> float:
        """Give the time."""
        return self.now


def test_bucket_pays_for_a_hundred_repeats() -> None:
    """A full bucket of 500 tokens pays for 100 repeats of 5, and no more."""
    bucket = RetryBucket()

    paid = [bucket.take(REPEAT_COST) for _ in range(101)]

    assert paid == [True] * 100 + [False]


def test_bucket_does_not_overflow() -> None:
    """Tokens come back up to the brim."""
    bucket = RetryBucket()
    bucket.take(10)

    bucket.give(1)
    partly = bucket.tokens
    bucket.give(50)

    assert (partly, bucket.tokens) == (CAPACITY - 9, CAPACITY)


def test_no_limit_is_no_wait() -> None:
    """Without a limit any number may leave."""
    pace = PaceBucket()

    pace.take()

    assert pace.delay(1_000) == 0


@settings(deadline=None)
@given(
    per_minute=st.integers(1, 200),
    gaps=st.lists(st.floats(0, 20), min_size=1, max_size=300),
)
def test_no_minute_holds_more_than_may_leave(
    per_minute: int, gaps: list[float]
) -> None:
    """In every minute, wherever it begins, at most the limit leaves."""
    clock = Clock()
    pace = PaceBucket(per_minute=per_minute, clock=clock)
    left = []

    for gap in gaps:
        clock.now += max(gap, pace.delay())
        pace.take()
        left.append(clock.now)

    first_and_beyond = zip(left, left[per_minute:], strict=False)
    assert all(beyond - first >= 60 - 1e-6 for first, beyond in first_and_beyond)


@pytest.mark.parametrize("per_minute", [1, 9, 10, 60, 600], ids=str)
def test_almost_all_that_may_leave_does(per_minute: int) -> None:
    """Who always has work gets at least nine tenths of the limit."""
    clock = Clock()
    pace = PaceBucket(per_minute=per_minute, clock=clock)
    left = 0

    while clock.now <= 1_000 + 600:
        clock.now += pace.delay()
        pace.take()
        left += 1

    assert left >= 9 * per_minute


def test_waits_of_repeats_are_drawn_and_bounded() -> None:
    """The n-th wait lies between nothing and half a second doubled n times."""
    dice = _dice()

    waits = [[full_jitter(n, random=dice) for _ in range(500)] for n in range(8)]

    for n, drawn in enumerate(waits):
        top = min(20, 0.5 * 2**n)
        assert 0 <= min(drawn) < 0.1 * top
        assert 0.9 * top < max(drawn) <= top


def test_any_number_of_repeats_has_a_wait() -> None:
    """However often something was repeated, the wait can be reckoned."""
    assert full_jitter(10_000, random=_dice()) <= 20


def test_a_wait_that_somebody_chose_is_about_that_long() -> None:
    """It lies between half of it and the whole, doubled with every repeat."""
    dice = _dice()

    waits = [
        [wait_for(n, retry_after=None, random=dice, delay=3.0) or 0 for _ in range(500)]
        for n in range(5)
    ]

    for n, drawn in enumerate(waits):
        top = min(20, 3 * 2**n)
        assert 0.5 * top <= min(drawn) < 0.6 * top
        assert 0.9 * top < max(drawn) <= top


@pytest.mark.parametrize(
    ("delay", "least", "most"),
    [(0.0, 0, 0), (60.0, 30, 60)],
    ids=["none", "long"],
)
def test_a_chosen_wait_may_be_none_or_long(
    delay: float, least: float, most: float
) -> None:
    """Nothing stays nothing, and one above the usual limit does not grow."""
    waits = [wait_for(n, retry_after=None, random=_dice(), delay=delay) for n in (0, 3)]

    assert all(wait is not None and least <= wait <= most for wait in waits)


def test_provider_is_not_asked_before_it_said() -> None:
    """The wait a provider asks for is kept, and at most exceeded by a tenth."""
    dice = _dice()

    waits = [wait_for(0, retry_after=30.0, random=dice) or 0 for _ in range(500)]

    assert min(waits) >= 30
    assert max(waits) <= 33


def test_provider_that_asks_for_too_much_is_given_up() -> None:
    """Nobody waits an hour: it is said at once."""
    dice = _dice()

    assert wait_for(0, retry_after=3_600.0, random=dice) is None
    assert wait_for(0, retry_after=float("inf"), random=dice) is None
    assert wait_for(0, retry_after=60.0, random=dice) is not None


@pytest.mark.parametrize(
    "asked", [None, 0.0, -5.0, float("nan")], ids=["none", "zero", "past", "nan"]
)
def test_senseless_wait_is_ignored(asked: float | None) -> None:
    """A wait that is no time at all does not change the one that is drawn."""
    wait = wait_for(0, retry_after=asked, random=_dice())

    assert wait == full_jitter(0, random=_dice())


def _dice() -> Random:
    return Random(7)  # noqa: S311  a test repeats what it drew
