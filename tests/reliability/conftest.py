"""Time that passes only when everybody waits."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class _Impatient(selectors.DefaultSelector):
    """Moves a clock on instead of waiting for it."""

    now = 1_000.0

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        """Give what is ready; if nothing is, let the time pass at once."""
        ready = super().select(None if timeout is None else 0)
        if not ready:
            self.now += timeout or 0.0
        return ready


class _QuickLoop(asyncio.SelectorEventLoop):
    """An event loop on which an hour takes no time."""

    def __init__(self) -> None:
        self._clock = _Impatient()
        super().__init__(self._clock)

    def time(self) -> float:
        """Give the time of the clock that is moved on."""
        return self._clock.now


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=_QuickLoop) as runner:
        return runner.run(work)


@pytest.fixture(name="run", scope="session")
def _run_at_once() -> Run:
    """Run a coroutine on a loop whose waits take no time."""
    return _run
