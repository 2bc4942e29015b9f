"""The turn that one call for many requests takes at a provider."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from gaia_core.capabilities import Capability
from gaia_core.errors import OutcomeClass
from gaia_core.plugins import Provider
from gaia_core.reliability import Asker, Reliability, Target, classify

HELD = 600.0
"""How long such a call keeps its place at most: then the vendor works by itself."""


@asynccontextmanager
async def turn_of(
    reliability: Reliability, provider: Provider, capability: Capability
) -> AsyncIterator[None]:
    """
    Hold what one attempt holds, however many requests go together.

    It waits for its turn like a single attempt and counts as one, for the pace, the
    places and the breaker. What it takes says nothing about how long one takes.

    Raises:
        ProviderError: If it gets no turn; nothing was sent.
    """
    target = Target(provider=provider.name, model="", capability=capability)
    asker = Asker(tenant="", is_batch=True, deadline=math.inf)
    held = AsyncExitStack()
    await held.enter_async_context(reliability.attempt(target, asker))
    leaving = asyncio.create_task(_leave_later(held))
    outcome: OutcomeClass | None = OutcomeClass.OK
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        outcome, failure = classify(error), error
        raise
    except BaseException:
        # An attempt that is cancelled counts for nothing.
        outcome = None
        raise
    finally:
        if outcome is not None:
            reliability.record(target, outcome, None, error=failure)
        leaving.cancel()
        await asyncio.wait([leaving])
        await held.aclose()


async def _leave_later(held: AsyncExitStack) -> None:
    await asyncio.sleep(HELD)
    await held.aclose()
