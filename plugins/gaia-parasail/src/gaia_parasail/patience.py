"""Waiting for what takes hours."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs

from gaia_core import OutcomeClass, ProviderError, ProviderTimeoutError
from gaia_parasail.errors import undecided
from gaia_parasail.models import NAME

T = TypeVar("T")

_GROWTH = 1.5
_LONGEST = 10.0
_MOST_REFUSALS = 10
_OPEN = frozenset({OutcomeClass.AMBIGUOUS, OutcomeClass.REJECTED_BUSY})


@attrs.frozen(kw_only=True)
class Patience:
    """
    How long to wait between two looks.

    Attributes:
        interval: Seconds at first; ten times as many at most.
        deadline: When it is given up, on `time.monotonic`'s clock.
    """

    interval: float
    deadline: float

    async def wait(self, times: int, *, at_least: float = 0.0) -> None:
        """
        Wait once more, a little longer than the time before.

        Args:
            times: How often it was waited before.
            at_least: Seconds the service asked to wait.

        Raises:
            ProviderTimeoutError: If the time is over.
        """
        growth = min(_LONGEST, _GROWTH ** min(times, 10))
        spread = random.uniform(0.8, 1.2)  # noqa: S311  nothing is at stake
        seconds = max(at_least, self.interval * growth * spread)
        if time.monotonic() + seconds >= self.deadline:
            message = f"{NAME}'s batch did not end in time."
            raise ProviderTimeoutError(message)
        await asyncio.sleep(seconds)

    async def until_answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        """
        Ask what costs nothing until it is answered, whatever goes wrong meanwhile.

        Raises:
            ProviderError: If the time is over, also in the middle of an answer, or it
                is refused again and again; none of it says anything about what was
                ordered, and what that costs.
        """
        refusals, times = 0, 0
        while True:
            try:
                # Whoever sends a byte a minute is not silent, and is never done.
                async with asyncio.timeout(self.deadline - time.monotonic()):
                    return await ask()
            except TimeoutError:
                refusals, problem = 0, ProviderError(f"{NAME} is too slow to be read.")
            except ProviderError as error:
                refusals = 0 if error.outcome in _OPEN else refusals + 1
                problem = undecided(error)
            if refusals >= _MOST_REFUSALS:
                raise problem
            await self.wait(times, at_least=problem.retry_after or 0.0)
            times += 1
