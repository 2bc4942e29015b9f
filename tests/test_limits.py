"""How many requests are taken at the door."""

import asyncio
import subprocess
import sys

import attrs
import pytest

from gaia_core import RequestLimitError
from gaia_core.limits import RequestLimits
from gaia_core.settings import LimitSettings


@attrs.define
class Clock:
    """Shows the time it is set to."""

    now: float = 1_000.0

    def __call__(self) -> float:
        """Give the time."""
        return self.now


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return Clock()


async def _ask(
    limits: RequestLimits,
    *,
    principal: str = "host",
    user: str | None = None,
    campaign: str | None = None,
) -> bool:
    try:
        await limits.check(principal=principal, user_id=user, campaign_id=campaign)
    except RequestLimitError:
        return False
    return True


async def test_no_limit_refuses_nobody(clock: Clock) -> None:
    """Without a limit any number of requests is taken."""
    limits = RequestLimits(LimitSettings(), clock)

    assert all([await _ask(limits, user="ana") for _ in range(1_000)])


def test_no_limit_loads_nothing() -> None:
    """Without a limit the library that counts is not even imported."""
    program = (
        "import asyncio, sys\n"
        "from gaia_core.limits import RequestLimits\n"
        "from gaia_core.settings import LimitSettings\n"
        "check = RequestLimits(LimitSettings()).check\n"
        "asyncio.run(check(principal='p', user_id='u', campaign_id='c'))\n"
        "print('limits' in sys.modules)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout == "False\n"


async def test_limit_is_exact(clock: Clock) -> None:
    """Of 200 requests at once exactly as many pass as may."""
    limits = RequestLimits(LimitSettings(requests_per_minute=100), clock)

    passed = await asyncio.gather(*(_ask(limits, user="ana") for _ in range(200)))

    assert sum(passed) == 100


async def test_window_moves(clock: Clock) -> None:
    """No minute, wherever it begins, holds more than may pass."""
    limits = RequestLimits(LimitSettings(requests_per_minute=10), clock)
    passed = []

    for _ in range(600):
        clock.now += 0.5
        if await _ask(limits, user="ana"):
            passed.append(clock.now)

    assert len(passed) == 50
    assert all(
        later - earlier >= 60
        for earlier, later in zip(passed, passed[10:], strict=False)
    )


async def test_refusal_says_whose_limit_and_when(clock: Clock) -> None:
    """The error names the user, the setting, and how long to wait."""
    limits = RequestLimits(LimitSettings(requests_per_minute=2), clock)
    await _ask(limits, user="ana")
    clock.now += 20
    await _ask(limits, user="ana")

    with pytest.raises(RequestLimitError) as caught:
        await limits.check(principal="host", user_id="ana", campaign_id=None)

    assert caught.value.retry_after == pytest.approx(40)
    assert str(caught.value) == (
        "The limit of 2 requests a minute for user ana is reached. "
        "Ask again in 40 s, or raise limits.requests_per_minute."
    )


async def test_waiting_as_told_is_enough(clock: Clock) -> None:
    """Who asks again after the wait in the error is served."""
    limits = RequestLimits(LimitSettings(requests_per_minute=1), clock)
    await _ask(limits, user="ana")
    clock.now += 17.3

    with pytest.raises(RequestLimitError) as caught:
        await limits.check(principal="host", user_id="ana", campaign_id=None)
    clock.now += caught.value.retry_after

    assert await _ask(limits, user="ana")


async def test_users_do_not_share(clock: Clock) -> None:
    """One user's requests are not counted against another's."""
    limits = RequestLimits(LimitSettings(requests_per_minute=1), clock)

    passed = [await _ask(limits, user=user) for user in ("ana", "bob", "ana", "bob")]

    assert passed == [True, True, False, False]


async def test_callers_without_a_user_count_by_principal(clock: Clock) -> None:
    """Where no user is named, whoever asks is; a user of that name is another."""
    limits = RequestLimits(LimitSettings(requests_per_minute=1), clock)

    first = await _ask(limits, principal="ana")
    again = await _ask(limits, principal="ana")
    namesake = await _ask(limits, principal="host", user="ana")

    assert (first, again, namesake) == (True, False, True)


@pytest.mark.parametrize(
    ("settings", "whose"),
    [
        (LimitSettings(requests_per_minute=1), "user ana"),
        (LimitSettings(campaign_requests_per_minute=1), "campaign spring"),
        (LimitSettings(total_requests_per_minute=1), "everybody together"),
    ],
    ids=["user", "campaign", "total"],
)
async def test_every_limit_is_kept(
    settings: LimitSettings, whose: str, clock: Clock
) -> None:
    """Users, campaigns and everybody together have a limit each."""
    limits = RequestLimits(settings, clock)
    await limits.check(principal="host", user_id="ana", campaign_id="spring")

    with pytest.raises(RequestLimitError, match=whose):
        await limits.check(principal="host", user_id="ana", campaign_id="spring")


async def test_campaigns_limit_leaves_others_alone(clock: Clock) -> None:
    """A request without a campaign is not counted against any."""
    limits = RequestLimits(LimitSettings(campaign_requests_per_minute=1), clock)

    passed = [await _ask(limits, user="ana") for _ in range(3)]

    assert passed == [True, True, True]


async def test_refused_request_counts_nowhere(clock: Clock) -> None:
    """A request that one limit refuses takes nothing from the others."""
    limits = RequestLimits(
        LimitSettings(requests_per_minute=2, total_requests_per_minute=1), clock
    )
    await _ask(limits, user="ana")
    refused = [await _ask(limits, user="bob") for _ in range(10)]
    clock.now += 60

    passed = await _ask(limits, user="bob")

    assert not any(refused)
    assert passed


async def test_users_of_long_ago_are_forgotten(clock: Clock) -> None:
    """Memory is bounded by the users of a minute, not by those of a year."""
    limits = RequestLimits(LimitSettings(requests_per_minute=1), clock)

    for number in range(10_000):
        clock.now += 1
        await _ask(limits, user=str(number))

    assert len(limits._windows) <= 1_024
