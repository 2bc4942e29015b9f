"""
What AUTOMATIC1111's web UI keeps for its one user, kept here for each caller.

Its clients first choose a model and then send requests; and they ask for whatever
is under way to be stopped, without saying which.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import attrs
from cachetools import LRUCache

from gaia_core.server.model_names import AUTO
from gaia_core.server.problems import RefusedError

T = TypeVar("T")

MOST_CALLERS = 10_000
"""How many callers' choices are remembered; whoever asked longest ago goes first."""


@attrs.define(eq=False)
class WebUi:
    """Keeps each caller's model, and what they have under way."""

    _chosen: "LRUCache[str, str]" = attrs.field(
        factory=lambda: LRUCache(MOST_CALLERS), init=False, repr=False
    )
    _under_way: dict[str, set["asyncio.Future[Any]"]] = attrs.field(
        factory=dict, init=False, repr=False
    )

    def checkpoint(self, principal: str) -> str:
        """Give the model somebody chose, by its name."""
        return self._chosen.get(principal, AUTO)

    def choose(self, principal: str, name: str) -> None:
        """Remember the model somebody chose."""
        self._chosen[principal] = name

    async def interruptible(self, principal: str, work: Coroutine[Any, Any, T]) -> T:
        """
        Wait for work that its caller may interrupt.

        Raises:
            RefusedError: If they did.
        """
        working = asyncio.ensure_future(work)
        own = self._under_way.setdefault(principal, set())
        own.add(working)
        try:
            return await working
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            raise RefusedError(409, "interrupted") from None
        finally:
            own.discard(working)
            if not own:
                self._under_way.pop(principal, None)

    def interrupt(self, principal: str) -> int:
        """Stop what somebody has under way; tell how much it was."""
        own = self._under_way.get(principal, set())
        for working in own:
            working.cancel()
        return len(own)
