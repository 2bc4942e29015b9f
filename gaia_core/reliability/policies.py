"""Whom to admit, when to repeat: the interface, and its plainest form."""

import math
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Protocol

import attrs

from gaia_core.capabilities import Capability
from gaia_core.errors import OutcomeClass

_WEIGHT = 0.2
"""How much the newest latency counts in the moving average."""


@attrs.frozen(kw_only=True)
class Target:
    """
    What an attempt goes to.

    Attributes:
        provider: The provider's name.
        model: The model's identifier.
        capability: What is asked of it.
    """

    provider: str
    model: str
    capability: Capability


@attrs.frozen(kw_only=True)
class Asker:
    """
    For whom an attempt is made.

    Attributes:
        tenant: Who waits; the queue is fair between tenants.
        is_batch: Whether it is an item of a batch: those come after people.
        deadline: When nobody waits any more, on `time.monotonic`'s clock.
    """

    tenant: str = ""
    is_batch: bool = False
    deadline: float = math.inf


class Reliability(Protocol):
    """Consulted by the engine before and after every attempt."""

    def admit(self, provider: str, capability: Capability) -> str | None:
        """Give the reason not to ask a provider now, or None; changes nothing."""

    def opens_in(self, provider: str, capability: Capability) -> float | None:
        """Give the seconds until `admit` may relent, or None: it admits, or never."""

    def attempt(
        self, target: Target, asker: Asker
    ) -> AbstractAsyncContextManager[None]:
        """
        Hold what an attempt needs: a place in the queue, the one probe of a breaker.

        Entered before the ledger learns of the attempt, left however it ends. An
        attempt that is cancelled counts for nothing.

        Raises:
            RateLimitError: If the queue is full, or its turn would come too late.
            ProviderUnavailableError: If the provider is not to be asked after all.
        """

    def wait_before_repeat(
        self, target: Target, repeats: int, error: Exception
    ) -> float | None:
        """
        Tell whether to ask again after a refusal that cost nothing.

        The engine asks only where repeating is safe; deadlines are its own matter.

        Args:
            target: What was asked.
            repeats: How often it was asked again already.
            error: What ended the latest attempt.

        Returns:
            Seconds to wait, or None: do not repeat.
        """

    def record(
        self,
        target: Target,
        outcome: OutcomeClass,
        seconds: float | None,
        *,
        error: Exception | None = None,
        repeats: int = 0,
    ) -> None:
        """
        Learn from an attempt that ended.

        Args:
            target: What was asked.
            outcome: How it ended.
            seconds: How long it took; None: it says nothing about how long one takes.
            error: What ended it, or None.
            repeats: How often it had been asked again before.
        """

    def latency(self) -> dict[str, float]:
        """Provider to the seconds it took of late."""


@attrs.define(eq=False)
class SingleTry:
    """Admits every provider, repeats nothing, and measures."""

    _latency: dict[str, float] = attrs.field(factory=dict, init=False)

    def admit(self, provider: str, capability: Capability) -> str | None:  # noqa: ARG002  the interface
        """Admit every provider."""
        return None

    def opens_in(self, provider: str, capability: Capability) -> float | None:  # noqa: ARG002  the interface
        """Admit at once."""
        return None

    def attempt(
        self,
        target: Target,  # noqa: ARG002  the interface
        asker: Asker,  # noqa: ARG002  the interface
    ) -> AbstractAsyncContextManager[None]:
        """Hold nothing."""
        return nullcontext()

    def wait_before_repeat(
        self,
        target: Target,  # noqa: ARG002  the interface
        repeats: int,  # noqa: ARG002  the interface
        error: Exception,  # noqa: ARG002  the interface
    ) -> float | None:
        """Repeat nothing."""
        return None

    def record(
        self,
        target: Target,
        outcome: OutcomeClass,
        seconds: float | None,
        *,
        error: Exception | None = None,  # noqa: ARG002  the interface
        repeats: int = 0,  # noqa: ARG002  the interface
    ) -> None:
        """Keep a moving average of how long successful attempts took."""
        if outcome is OutcomeClass.OK and seconds is not None:
            before = self._latency.get(target.provider, seconds)
            change = _WEIGHT * (seconds - before)
            self._latency[target.provider] = before + change

    def latency(self) -> dict[str, float]:
        """Provider to the seconds it took of late."""
        return dict(self._latency)
