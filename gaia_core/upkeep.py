"""Starting, stopping and checking providers; one that fails harms nobody else."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import attrs

from gaia_core.calls import answer_of, contained, words_of
from gaia_core.catalog import Health, HealthLevel
from gaia_core.observability import get_logger
from gaia_core.plugins import Plugins

CHECK_TIMEOUT = 15.0
"""Longest wait for one provider's health check, in seconds."""


@attrs.frozen(kw_only=True)
class Upkeep:
    """
    Looks after providers and middleware.

    Attributes:
        plugins: Who is looked after.
        patience: Longest wait for one of them, in seconds.
    """

    plugins: Plugins
    patience: float

    async def start(self) -> dict[str, str]:
        """Start everybody; give provider to the reason, for those that failed."""
        failed = await self._tell_all("gaia_start")
        await self._tell_middleware("gaia_start")
        return failed

    async def stop(self) -> None:
        """Stop everybody, the last to start first."""
        await self._tell_middleware("gaia_stop")
        await self._tell_all("gaia_stop")

    async def check_health(
        self, level: HealthLevel, provider: str | None = None
    ) -> dict[str, Health]:
        """Check every provider, or one that is loaded; spends no money."""
        names = [one for one in self.plugins.providers if provider in (None, one)]
        found = await asyncio.gather(*(self._health_of(name, level) for name in names))
        return dict(zip(names, found, strict=True))

    async def _health_of(self, name: str, level: HealthLevel) -> Health:
        provider = self.plugins.providers[name]
        reason = provider.info().unavailable
        if reason is not None or not provider.implements("gaia_check_health"):
            return Health(
                level=HealthLevel.CONFIGURED, is_healthy=reason is None, reason=reason
            )
        try:
            health = await answer_of(
                provider, "gaia_check_health", patience=CHECK_TIMEOUT, level=level
            )
        except Exception as error:  # noqa: BLE001  a plugin may raise anything
            reason = f"the check failed: {words_of(error)}"
            return Health(level=level, is_healthy=False, reason=reason)
        if isinstance(health, Health):
            return health
        reason = f"the check gave {type(health).__name__}, not Health"
        return Health(level=level, is_healthy=False, reason=reason)

    async def _tell_all(self, hook: str) -> dict[str, str]:
        """Call an upkeep hook of every provider; give those that failed, and why."""
        providers = [p for p in self.plugins.providers.values() if p.implements(hook)]
        failed = {}
        for provider in reversed(providers) if hook == "gaia_stop" else providers:
            reason = await self._tell(partial(provider.call, hook), provider.name, hook)
            if reason is not None:
                failed[provider.name] = reason
        return failed

    async def _tell_middleware(self, hook: str) -> None:
        answers: list[Awaitable[None]] = []

        async def call() -> None:
            answers.extend(self.plugins.call_middleware(hook))

        await self._tell(call, "middleware", hook)
        for answer in answers:
            await self._tell(partial(_same, answer), "middleware", hook)

    async def _tell(
        self, call: Callable[[], Awaitable[None]], name: str, hook: str
    ) -> str | None:
        """Call an upkeep hook; give the reason if it fails, which harms nobody."""
        try:
            await contained(call, name, patience=self.patience)
        except Exception as error:  # noqa: BLE001  a plugin may raise anything
            reason = words_of(error)
            event = f"{hook.replace('_', '.', 1)}_failed"
            get_logger().warning(event, provider=name, error=reason)
            return f"{hook} failed: {reason}"
        return None


def _same(answer: Awaitable[None]) -> Awaitable[None]:
    return answer
