"""What belongs to one event loop, and is made there when first needed."""

import asyncio
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

import attrs

T = TypeVar("T")
Close = Callable[[T], Coroutine[Any, Any, None]]

# A loop that ends just now never answers.
_CLOSING_SECONDS = 5.0


@attrs.define(eq=False)
class PerLoop(Generic[T]):
    """
    Holds one thing for each event loop; loops may run in different threads.

    Attributes:
        make: Makes it.
    """

    make: Callable[[], T]
    _things: dict[AbstractEventLoop, T] = attrs.field(factory=dict, init=False)
    _guard: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def here(self) -> T:
        """Give what belongs to the running loop."""
        loop = asyncio.get_running_loop()
        with self._guard:
            if loop not in self._things:
                self._forget_closed()
                self._things[loop] = self.make()
            return self._things[loop]

    async def close(self, close: Close[T]) -> None:
        """
        Close what belongs to loops that run, each in its own.

        Args:
            close: Closes one.
        """
        here = asyncio.get_running_loop()
        with self._guard:
            self._forget_closed()
            # What belongs to a loop that rests is closed by whoever stops it there.
            running = [loop for loop in self._things if loop.is_running()]
            things = [(loop, self._things.pop(loop)) for loop in running]
        for loop, thing in things:
            if loop is not here:
                await _close_in(loop, close(thing))
        for loop, thing in things:
            if loop is here:
                await close(thing)

    def _forget_closed(self) -> None:
        """Drop what belongs to loops that are closed: nothing can be awaited there."""
        for loop in list(self._things):
            if loop.is_closed():
                self._things.pop(loop, None)


async def _close_in(
    loop: AbstractEventLoop, closing: Coroutine[Any, Any, None]
) -> None:
    """Close something in another loop; one that ends meanwhile has closed it."""
    try:
        future = asyncio.run_coroutine_threadsafe(closing, loop)
    except RuntimeError:
        closing.close()
        return
    # Not awaited itself: its loop may cancel it, and that is no cancellation here.
    await asyncio.wait([asyncio.wrap_future(future)], timeout=_CLOSING_SECONDS)
