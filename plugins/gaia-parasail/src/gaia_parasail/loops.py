"""What belongs to one event loop, and is made there when first needed."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

import attrs

T = TypeVar("T")


@attrs.define(eq=False)
class PerLoop(Generic[T]):
    """
    Holds one thing for each event loop.

    Attributes:
        make: Makes it.
    """

    make: Callable[[], T]
    _things: dict[asyncio.AbstractEventLoop, T] = attrs.field(factory=dict, init=False)

    def here(self) -> T:
        """Give what belongs to the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._things:
            self._forget_closed()
            self._things[loop] = self.make()
        return self._things[loop]

    def leave(self) -> T | None:
        """Give back what belongs to the running loop, if anything does, for good."""
        self._forget_closed()
        return self._things.pop(asyncio.get_running_loop(), None)

    def _forget_closed(self) -> None:
        """Drop what belongs to loops that are closed: nothing can be awaited there."""
        for loop in [loop for loop in self._things if loop.is_closed()]:
            del self._things[loop]
