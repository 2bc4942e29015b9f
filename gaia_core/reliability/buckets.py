"""Two buckets of tokens: what repeating may cost, and how fast work may leave."""

import math
import time
from collections.abc import Callable

import attrs

CAPACITY = 500.0
REPEAT_COST = 5.0
TIMEOUT_COST = 10.0
"""What a repeat after a timeout costs: those waste the most time."""
REWARD = 1.0
"""What an attempt that succeeds at once brings."""

_MINUTE = 60.0
_BURST = 0.1
"""The part of a minute's attempts that may leave at once."""
_SLACK = 1e-9
"""What rounding may take from a token."""


@attrs.define(eq=False)
class RetryBucket:
    """
    Bounds how much is repeated at one provider, whatever fails.

    >>> bucket = RetryBucket()
    >>> bucket.take(REPEAT_COST), bucket.tokens
    (True, 495.0)
    """

    tokens: float = CAPACITY

    def take(self, cost: float) -> bool:
        """Pay for a repeat, or say that there is too little left."""
        if self.tokens < cost:
            return False
        self.tokens -= cost
        return True

    def give(self, amount: float) -> None:
        """Put tokens in, up to the brim."""
        self.tokens = min(CAPACITY, self.tokens + amount)


@attrs.define(eq=False, kw_only=True)
class PaceBucket:
    """
    Lets so many attempts leave within any minute, a few of them at once.

    Attributes:
        per_minute: How many; None: as many as come.
        clock: The seconds of a clock that only goes forward.
    """

    per_minute: int | None = None
    clock: Callable[[], float] = time.monotonic
    _tokens: float = attrs.field(default=1.0, init=False)
    _filled_at: float = attrs.field(default=-math.inf, init=False)

    def delay(self, turn: int = 1) -> float:
        """Give the seconds until so many more may have left."""
        if self.per_minute is None:
            return 0.0
        missing = turn - self._fill()
        return 0.0 if missing <= _SLACK else missing / self._rate

    def take(self) -> None:
        """Let one leave."""
        if self.per_minute is not None:
            self._tokens = max(0.0, self._fill() - 1)

    @property
    def _burst(self) -> int:
        return max(1, int((self.per_minute or 0) * _BURST))

    @property
    def _rate(self) -> float:
        # Burst and refill of any minute together stay below one more than allowed.
        return ((self.per_minute or 0) + 1 - self._burst) / _MINUTE

    def _fill(self) -> float:
        now = self.clock()
        self._tokens = min(
            float(self._burst), self._tokens + (now - self._filled_at) * self._rate
        )
        self._filled_at = now
        return self._tokens
