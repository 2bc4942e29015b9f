"""Whom to admit, when to repeat: the interface, and its plainest form."""

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Protocol

import attrs

from gaia_core.capabilities import Capability
from gaia_core.errors import OutcomeClass

_WEIGHT = 0.2
"""How much the newest latency counts in the moving average."""


class Reliability(Protocol):
    """Consulted by the engine before and after every attempt."""

    def admit(self, provider: str, capability: Capability) -> str | None:
        """Give the reason not to ask a provider now, or None; changes nothing."""

    def attempt(
        self, provider: str, model: str, capability: Capability
    ) -> AbstractAsyncContextManager[None]:
        """
        Hold what an attempt needs: a place in the queue, the one probe of a breaker.

        Entered before the ledger learns of the attempt, left however it ends.

        Raises:
            ProviderUnavailableError: If the provider is not to be asked after all.
        """

    def wait_before_repeat(
        self, provider: str, repeats: int, error: Exception
    ) -> float | None:
        """
        Tell whether to ask the same provider again after a failure.

        Args:
            provider: The provider that failed.
            repeats: How often it was asked again already.
            error: What ended the latest attempt.

        Returns:
            Seconds to wait, or None: do not repeat.
        """

    def record(self, provider: str, outcome: OutcomeClass, seconds: float) -> None:
        """Learn from an attempt that ended."""

    def latency(self) -> dict[str, float]:
        """Provider to the seconds it took of late."""


@attrs.define(eq=False)
class SingleTry:
    """Admits every provider, repeats nothing, and measures."""

    _latency: dict[str, float] = attrs.field(factory=dict, init=False)

    def admit(self, provider: str, capability: Capability) -> str | None:  # noqa: ARG002  the interface
        """Admit every provider."""
        return None

    def attempt(
        self,
        provider: str,  # noqa: ARG002  the interface
        model: str,  # noqa: ARG002  the interface
        capability: Capability,  # noqa: ARG002  the interface
    ) -> AbstractAsyncContextManager[None]:
        """Hold nothing."""
        return nullcontext()

    def wait_before_repeat(
        self,
        provider: str,  # noqa: ARG002  the interface
        repeats: int,  # noqa: ARG002  the interface
        error: Exception,  # noqa: ARG002  the interface
    ) -> float | None:
        """Repeat nothing."""
        return None

    def record(self, provider: str, outcome: OutcomeClass, seconds: float) -> None:
        """Keep a moving average of how long successful attempts took."""
        if outcome is OutcomeClass.OK:
            before = self._latency.get(provider, seconds)
            self._latency[provider] = before + _WEIGHT * (seconds - before)

    def latency(self) -> dict[str, float]:
        """Provider to the seconds it took of late."""
        return dict(self._latency)
