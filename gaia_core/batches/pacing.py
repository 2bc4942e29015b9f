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
_DEFAULT_WAIT = 1.0
_SHORTEST_WAIT = 0.05


def wait_of(error: Exception) -> float | None:
    """
    Give the seconds after which a refusal may be over; None: it is for good.

    Nothing was sent, so that a provider that did not answer in time is one that
    nobody got through to.
    """
    if isinstance(error, NoCapableProviderError | RequestLimitError):
        return error.retry_after
    is_busy = getattr(error, "outcome", None) is OutcomeClass.REJECTED_BUSY
    if isinstance(error, ProviderError) and (
        is_busy or isinstance(error, ProviderTimeoutError)
    ):
        return _DEFAULT_WAIT if error.retry_after is None else error.retry_after
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

    def left(self) -> float:
        """Tell how many seconds are left to wait."""
        return max(0.0, self._until - self.clock())

    def made(self) -> None:
        """Note that something was made: patience is whole again."""
        self._since = None

    def refused(self, error: Exception) -> bool:
        """Note a refusal; tell whether it is worth waiting for its end."""
        wait, now = wait_of(error), self.clock()
        if wait is None:
            return False
        if self._since is None:
            self._since = now
        until = now + max(_SHORTEST_WAIT, wait)
        if until > self._since + self.patience:
            return False
        self._until = max(self._until, until)
        return True
