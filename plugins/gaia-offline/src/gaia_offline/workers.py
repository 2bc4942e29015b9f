"""Run blocking work beside the event loop, and stop it when nobody waits."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import attrs

T = TypeVar("T")
Report = Callable[[float], None]
"""Takes a fraction from 0 to 1."""


class _StoppedError(Exception):
    """Nobody waits for the work any more."""


@attrs.define(eq=False)
class Workers:
    """
    A few threads for the networks.

    Attributes:
        count: How many pieces of work run at once; further ones wait.
    """

    count: int
    _pool: ThreadPoolExecutor | None = attrs.field(default=None, init=False)

    async def run(self, work: Callable[[Report], T], report: Report) -> T:
        """
        Do some work in a thread.

        When the caller is cancelled, the work stops at its next report.

        Args:
            work: Called with a function to report the fraction done to.
            report: Where those reports go.
        """
        stop = threading.Event()

        def watched(fraction: float) -> None:
            if stop.is_set():
                raise _StoppedError
            report(fraction)

        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads(), work, watched)
        finally:
            stop.set()

    async def close(self) -> None:
        """Let the threads go; the next piece of work starts new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            # Work without reports ends in its own time: others need not stand still.
            await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.count, "gaia-offline")
        return self._pool
