"""Asking how the book and the providers are: seldom, and once for all who ask."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs

from gaia_core.calls import words_of
from gaia_core.catalog import Health, HealthLevel
from gaia_core.engine import Gaia
from gaia_core.errors import GaiaError
from gaia_core.observability import get_logger

PROVIDER_AGE = 10.0
"""How long what a provider said holds, in seconds; it is not asked meanwhile."""
LEDGER_AGE = 1.0
"""How long it holds that the book can be read, in seconds."""
LEDGER_PATIENCE = 3.0
"""Longest wait for the book, in seconds."""

_NOBODY = "0" * 32


@attrs.define(eq=False)
class _Answer:
    """
    One answer, on its way or there.

    Attributes:
        task: What gets it.
        until: How long it holds, on the monotonic clock.
    """

    task: "asyncio.Task[Any]"
    until: float = math.inf

    def came(self, age: float, task: "asyncio.Task[Any]") -> None:
        """Note how long it holds; what failed is asked again at once."""
        is_there = not task.cancelled() and task.exception() is None
        self.until = time.monotonic() + age if is_there else -math.inf


@attrs.define(eq=False, kw_only=True)
class HealthChecks:
    """
    Asks, and remembers what was said.

    Attributes:
        gaia: Who is asked.
    """

    gaia: Gaia
    _answers: dict[object, _Answer] = attrs.field(factory=dict, init=False, repr=False)

    async def provider(self, name: str, level: HealthLevel) -> tuple[Health, float]:
        """
        Ask a provider that is loaded; those who ask at the same time ask once.

        Returns:
            What it said, and how many seconds that holds.
        """

        async def ask() -> Health:
            found = await self.gaia.check_health(level, provider=name)
            return found[name]

        health: Health
        health, left = await self._once((name, level), ask, PROVIDER_AGE)
        return health, left

    async def has_ledger(self) -> bool:
        """Tell whether the book can be read."""
        is_read, _ = await self._once("ledger", self._read, LEDGER_AGE)
        return bool(is_read)

    async def _read(self) -> bool:
        try:
            async with asyncio.timeout(LEDGER_PATIENCE):
                await self.gaia.operation(_NOBODY)
        except (GaiaError, TimeoutError) as error:
            get_logger().warning("gaia.ledger_failed", error=words_of(error))
            return False
        return True

    async def _once(
        self, key: object, ask: Callable[[], Awaitable[Any]], age: float
    ) -> tuple[Any, float]:
        """Ask, unless that was done a short time ago or is being done."""
        answer = self._answers.get(key)
        if answer is None or answer.until < time.monotonic():
            answer = self._answers[key] = _Answer(asyncio.ensure_future(_of(ask)))
            answer.task.add_done_callback(partial(answer.came, age))
        # Whoever leaves must not take the answer from the others.
        found = await asyncio.shield(answer.task)
        return found, max(0.0, answer.until - time.monotonic())


async def _of(ask: Callable[[], Awaitable[Any]]) -> Any:
    return await ask()
