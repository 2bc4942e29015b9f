"""Waiting for a state instead of for a while; and a provider, and a clock, at hand."""

import asyncio
from collections.abc import Callable

import attrs

from gaia_core import Gaia
from gaia_core.context import CallContext
from gaia_core.testing import FakeProvider


async def until(is_so: Callable[[], object], *, patience: float = 30.0) -> None:
    """Wait for something that is about to be so."""
    async with asyncio.timeout(patience):
        while not is_so():  # noqa: ASYNC110  what is waited for sets no event
            await asyncio.sleep(0.005)


def sharers(gaia: Gaia) -> int:
    """Count the callers that wait for work under way, alone or together."""
    flights = gaia._door._flights._under_way.values()
    return sum(len(flight._waiting) for flight in flights)


def let_pass(seconds: float) -> None:
    """Let so much time pass at once for all that waits on the running loop."""
    loop = asyncio.get_running_loop()
    before = loop.time
    loop.time = lambda: before() + seconds  # type: ignore[method-assign]


@attrs.define(eq=False, kw_only=True)
class HeldProvider(FakeProvider):
    """
    Answers no call before it is let go, then as any other.

    Attributes:
        go: Lets it go.
    """

    go: asyncio.Event = attrs.field(factory=asyncio.Event, init=False, repr=False)

    async def called(self, times: int = 1) -> None:
        """Wait until it is asked."""
        await until(lambda: len(self.calls) >= times)

    async def _take_time(self, context: CallContext) -> None:
        await self.go.wait()
        await super()._take_time(context)
