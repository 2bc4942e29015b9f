"""One piece of work for all who want the same at the same time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import attrs

from gaia_core.errors import GaiaError

T = TypeVar("T")
Left = Callable[["asyncio.Task[Any]"], object]
"""Takes the task of work that goes on although its last caller has gone."""


@attrs.define(eq=False)
class Flights:
    """
    Work under way, by what equal requests have in common.

    The work belongs to a task of its own, and callers wait for it: one that gives
    up, or is cancelled, takes nothing from the others. Nothing is kept once it has
    ended.
    """

    _under_way: dict[str, "_Flight"] = attrs.field(factory=dict, init=False)

    def __len__(self) -> int:
        """Count the pieces of work under way."""
        return len(self._under_way)

    def __contains__(self, key: str) -> bool:
        """Tell whether a caller would find work under a key: nothing to look up."""
        flight = self._under_way.get(key)
        return flight is not None and not flight.is_ending

    async def join(
        self,
        key: str,
        start: Callable[[], Awaitable[T]],
        *,
        on_left: Left | None = None,
    ) -> tuple[T, bool]:
        """
        Wait for the work under a key; start it if it is not under way.

        Args:
            key: What equal requests have in common.
            start: Does the work; called only where none is under way.
            on_left: Called with the work's task when the last caller has gone and it
                has not ended. It goes on, unless this cancels it. Only the one of
                the caller that started it counts.

        Returns:
            What the work gave, and whether this caller started it.

        Raises:
            GaiaError: If somebody else called the work off.
            Exception: What the work raised, each caller's a copy of its own.
        """
        flight = self._under_way.get(key)
        is_leader = key not in self
        if flight is None or is_leader:
            flight = self._under_way[key] = _Flight(start, on_left)
            flight.task.add_done_callback(lambda _: self._land(key, flight))
        await flight.end()
        return flight.result(), is_leader

    def _land(self, key: str, flight: "_Flight") -> None:
        if self._under_way.get(key) is flight:
            del self._under_way[key]
        flight.land()


class _Flight:
    """One piece of work, and who waits for it."""

    def __init__(
        self, start: Callable[[], Awaitable[Any]], on_left: Left | None
    ) -> None:
        async def work() -> Any:
            return await start()

        self.task = asyncio.create_task(work())
        self._on_left = on_left
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def is_ending(self) -> bool:
        """Whether it is called off: nobody should wait for it any more."""
        return self.task.cancelling() > 0

    async def end(self) -> None:
        """Wait until it has ended, however it does."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)
            if self._on_left and not self._waiting and not self.task.done():
                self._on_left(self.task)

    def land(self) -> None:
        """Wake everybody."""
        if not self.task.cancelled():
            self.task.exception()  # heard, whoever is left to hear it
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    def result(self) -> Any:
        """Give what came of it; an error as one of the caller's own."""
        if self.task.cancelled():
            message = "The work this request shared with an equal one was called off."
            raise GaiaError(message)
        error = self.task.exception()
        if isinstance(error, Exception):
            raise _own(error)
        return self.task.result()


def _own(error: Exception) -> Exception:
    """Copy an error with all it carries: callers add to theirs, tracebacks too."""
    kind = type(error)
    try:
        # Not copy.copy: it calls the class, which may want other arguments.
        own = kind.__new__(kind, *error.args)
        own.args = error.args
        own.__dict__.update(error.__dict__)
    except Exception:  # noqa: BLE001  a plugin's class may refuse
        return error
    own.__cause__, own.__context__ = error.__cause__, error.__context__
    own.__suppress_context__ = error.__suppress_context__
    return own.with_traceback(error.__traceback__)
