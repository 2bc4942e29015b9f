"""When a batch waits for a provider, and when it gives up waiting."""

import time
from collections.abc import Callable

import attrs

from gaia_core.errors import (
    NoCapableProviderError,
    OutcomeClass,
    ProviderError,
    ProviderTimeoutError,
    RequestLimitError,
)

PATIENCE = 3_600.0
"""How long a batch waits in all for somebody to serve it, in seconds."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""The pauses where nobody says how long: each twice as long as the one before."""
_SHORTEST_WAIT = 0.05


def wait_of(error: Exception) -> float | None:
    """
    Give the seconds after which a refusal may be over; None: it is for good.

    Nothing came of it, so that a provider that did not answer in time is one that
    nobody got through to. Where nobody says how long, it is 0.
    """
    if isinstance(error, NoCapableProviderError | RequestLimitError):
        return error.retry_after
    is_busy = getattr(error, "outcome", None) is OutcomeClass.REJECTED_BUSY
    if isinstance(error, ProviderError) and (
        is_busy or isinstance(error, ProviderTimeoutError)
    ):
        return 0.0 if error.retry_after is None else error.retry_after
    return None


@attrs.define(eq=False)
class Pace:
    """
    Waits as long as everybody is busy, but not for ever.

    Attributes:
        patience: The seconds after which it gives up, counted from the first
            refusal since anything was made.
        clock: What time it is, in seconds.
    """

    patience: float = PATIENCE
    clock: Callable[[], float] = time.monotonic
    _until: float = attrs.field(default=0.0, init=False)
    _since: float | None = attrs.field(default=None, init=False)
    _pause: float = attrs.field(default=FIRST_WAIT, init=False)
    _next: float = attrs.field(default=FIRST_WAIT, init=False)

    def left(self) -> float:
        """Tell how many seconds are left to wait."""
        return max(0.0, self._until - self.clock())

    def made(self) -> None:
        """Note that something was made: patience is whole again."""
        self._since, self._pause, self._next = None, FIRST_WAIT, FIRST_WAIT

    def refused(self, error: Exception, *, is_put_off: bool = False) -> bool:
        """
        Note a refusal; tell whether it is worth waiting for its end.

        Args:
            error: What ended the item's turn.
            is_put_off: Whether somebody may serve it later, whatever the error says.
        """
        wait, now = wait_of(error), self.clock()
        if wait is None and not is_put_off:
            return False
        if self._since is None:
            self._since = now
        until = now + self._length(wait)
        if until > self._since + self.patience:
            return False
        self._until = max(self._until, until)
        return True

    def _length(self, wait: float | None) -> float:
        """Tell how long to wait: as long as was said, or longer each time."""
        if wait:
            return max(_SHORTEST_WAIT, wait)
        if not self.left():
            self._pause, self._next = self._next, min(2 * self._next, LONGEST_WAIT)
        return self._pause
