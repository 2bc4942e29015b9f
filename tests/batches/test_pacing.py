import pytest

from gaia_core.batches.pacing import Pace, wait_of
from gaia_core.errors import (
    AuthenticationError,
    BudgetExceededError,
    NoCapableProviderError,
    ProviderConnectionError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    RateLimitError,
    RequestLimitError,
)


class Clock:
    """Says what time it is, as the test likes."""

    now = 1_000.0

    def __call__(self) -> float:
        """Give the time."""
        return self.now


def _busy(wait: float) -> RateLimitError:
    return RateLimitError("too many", retry_after=wait)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(_busy(7.0), 7.0, id="busy"),
        pytest.param(RateLimitError("too many"), 0.0, id="busy-without-a-time"),
        pytest.param(ProviderUnavailableError("down"), 0.0, id="down"),
        pytest.param(ProviderConnectionError("refused"), 0.0, id="refused"),
        pytest.param(ProviderTimeoutError("queue"), 0.0, id="nobody-got-through"),
        pytest.param(RequestLimitError("door", retry_after=3.0), 3.0, id="door"),
        pytest.param(
            NoCapableProviderError("later", {}, retry_after=9.0), 9.0, id="later"
        ),
        pytest.param(NoCapableProviderError("never", {}), None, id="never"),
        pytest.param(AuthenticationError("key"), None, id="key"),
        pytest.param(
            BudgetExceededError("spent", scope="total", retry_after=60.0),
            None,
            id="budget",
        ),
        pytest.param(ValueError("odd"), None, id="foreign"),
    ],
)
def test_what_may_be_over_soon(error: Exception, expected: float | None) -> None:
    """A refusal says after how long it is worth asking again, if ever."""
    assert wait_of(error) == expected


def test_a_pause_is_as_long_as_asked_for() -> None:
    """Nothing is asked until the longest wait is over."""
    clock = Clock()
    pace = Pace(clock=clock)

    assert pace.left() == 0
    assert pace.refused(_busy(7.0))
    assert pace.refused(_busy(3.0))
    assert pace.left() == 7.0
    clock.now += 7.0
    assert pace.left() == 0


def test_patience_is_an_hour_in_all() -> None:
    """Waits add up; once they pass an hour, a refusal is for good."""
    clock = Clock()
    pace = Pace(clock=clock)

    for _ in range(6):
        assert pace.refused(_busy(600.0))
        clock.now += 600.0

    assert not pace.refused(_busy(1.0))


def test_success_makes_patience_whole_again() -> None:
    """Whoever serves now and then is waited for as long as it takes."""
    clock = Clock()
    pace = Pace(clock=clock)

    for _ in range(20):
        assert pace.refused(_busy(600.0))
        clock.now += 600.0
        pace.made()


def test_a_wait_that_is_too_long_is_not_begun() -> None:
    """Asked to come back tomorrow, a batch does not wait."""
    pace = Pace(clock=Clock())

    assert not pace.refused(_busy(86_400.0))
    assert pace.left() == 0


def test_pauses_grow_where_nobody_says_how_long() -> None:
    """Each pause is twice the one before, up to a minute; a success ends that."""
    clock = Clock()
    pace = Pace(clock=clock)
    pauses = []

    for _ in range(8):
        assert pace.refused(RateLimitError("too many"))
        assert pace.refused(RateLimitError("too many"))
        pauses.append(pace.left())
        clock.now += pace.left()
    pace.made()
    assert pace.refused(_busy(0.0))

    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert pace.left() == 1.0


def test_what_is_put_off_is_waited_for() -> None:
    """Somebody else's refusal for good does not end what another may serve later."""
    pace = Pace(clock=Clock())

    assert not pace.refused(AuthenticationError("key"))
    assert pace.refused(AuthenticationError("key"), is_put_off=True)
    assert pace.left() > 0
