"""How many requests a minute are taken at the door."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import attrs

from gaia_core.errors import RequestLimitError
from gaia_core.settings import LimitSettings

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.aio.strategies import MovingWindowRateLimiter

_FEW_KEYS = 1_024
"""So many windows are kept before empty ones are looked for."""


@attrs.frozen(kw_only=True)
class _Limit:
    """
    One limit that holds for a request.

    Attributes:
        item: How many, and in which time.
        whose: Whose it is: a kind and a name.
        setting: The setting that raises it.
    """

    item: "RateLimitItem"
    whose: tuple[str, str]
    setting: str


@attrs.define(eq=False)
class _Windows:
    """Moments of requests by key, on a clock that does not jump."""

    clock: Callable[[], float]
    _moments: dict[str, deque[float]] = attrs.field(factory=dict, init=False)
    _next_sweep: int = attrs.field(default=_FEW_KEYS, init=False)

    def __len__(self) -> int:
        """Tell how many keys are remembered."""
        return len(self._moments)

    def recent(self, key: str, seconds: float) -> deque[float]:
        """Give the moments of the last seconds, oldest first."""
        moments = self._moments.get(key, deque())
        while moments and moments[0] <= self.clock() - seconds:
            moments.popleft()
        return moments

    def add(self, key: str, amount: int, seconds: float) -> None:
        """Note some requests; forget keys unused for long when there are many."""
        moments = self._moments.setdefault(key, deque())
        moments.extend([self.clock()] * amount)
        if len(self._moments) < self._next_sweep:
            return
        for name in list(self._moments):
            if not self.recent(name, seconds):
                del self._moments[name]
        self._next_sweep = max(_FEW_KEYS, 2 * len(self._moments))


@attrs.define(eq=False)
class RequestLimits:
    """
    Counts requests in moving windows of a minute, in this process.

    Without a limit there is nothing to count, and nothing is loaded.

    Attributes:
        settings: How much is taken.
        clock: The seconds of a clock that only goes forward.
    """

    settings: LimitSettings
    clock: Callable[[], float] = time.monotonic
    _windows: _Windows = attrs.field(init=False)
    _limiter: "MovingWindowRateLimiter | None" = attrs.field(default=None, init=False)

    @_windows.default
    def _no_windows(self) -> _Windows:
        return _Windows(self.clock)

    async def check(
        self, *, principal: str, user_id: str | None, campaign_id: str | None
    ) -> None:
        """
        Count a request, or refuse it and count nothing.

        Args:
            principal: Who asks: the name a key or a token stands for.
            user_id: For whom, if that was said.
            campaign_id: Which campaign it is for, if any.

        Raises:
            RequestLimitError: If there were too many within the last minute.
        """
        if not self._is_set():
            return
        limiter = self._limiter = self._limiter or _moving_window(self._windows)
        limits = tuple(self._limits_of(principal, user_id, campaign_id))
        # Nothing here waits for anything, so nobody comes between look and count.
        for limit in limits:
            if not await limiter.test(limit.item, *limit.whose):
                raise await self._refusal(limiter, limit)
        for limit in limits:
            await limiter.hit(limit.item, *limit.whose)

    def _is_set(self) -> bool:
        settings = self.settings
        return bool(
            settings.requests_per_minute
            or settings.campaign_requests_per_minute
            or settings.total_requests_per_minute
        )

    def _limits_of(
        self, principal: str, user_id: str | None, campaign_id: str | None
    ) -> Iterator[_Limit]:
        from limits import RateLimitItemPerMinute  # noqa: PLC0415 - 80 ms

        person = ("user", user_id) if user_id else ("caller", principal)
        campaign = ("campaign", campaign_id) if campaign_id else None
        for setting, whose in (
            ("requests_per_minute", person),
            ("campaign_requests_per_minute", campaign),
            ("total_requests_per_minute", ("everybody", "together")),
        ):
            amount = getattr(self.settings, setting)
            if amount and whose:
                item = RateLimitItemPerMinute(amount)
                yield _Limit(item=item, whose=whose, setting=setting)

    async def _refusal(
        self, limiter: "MovingWindowRateLimiter", limit: _Limit
    ) -> RequestLimitError:
        reset, _ = await limiter.get_window_stats(limit.item, *limit.whose)
        after = max(0.001, reset - self.clock())
        who = " ".join(limit.whose).rstrip()
        return RequestLimitError(
            f"The limit of {limit.item.amount} requests a minute for {who} is "
            f"reached. Ask again in {after:.0f} s, or raise limits.{limit.setting}.",
            retry_after=after,
        )


def _moving_window(windows: _Windows) -> "MovingWindowRateLimiter":
    """
    Make a limiter over windows in memory.

    The library's own storage goes by the time of day, which may jump, and looks
    through all its windows, in threads, after every request: 40 ms for a thousand
    users.
    """
    from limits.aio.storage import MemoryStorage  # noqa: PLC0415
    from limits.aio.strategies import MovingWindowRateLimiter  # noqa: PLC0415

    class Storage(MemoryStorage):
        async def acquire_entry(
            self, key: str, limit: int, expiry: int, amount: int = 1
        ) -> bool:
            has_room = len(windows.recent(key, expiry)) + amount <= limit
            if has_room:
                windows.add(key, amount, expiry)
            return has_room

        async def get_moving_window(
            self,
            key: str,
            limit: int,  # noqa: ARG002  the interface
            expiry: int,
        ) -> tuple[float, int]:
            moments = windows.recent(key, expiry)
            return (moments[0] if moments else windows.clock()), len(moments)

    return MovingWindowRateLimiter(Storage())
