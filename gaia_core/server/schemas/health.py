"""What the routes under ``/api/health`` give."""

from typing import Literal

from pydantic import Field

from gaia_core.server.schemas.base import Given

ProviderStatus = Literal["healthy", "unhealthy", "unavailable"]
"""How a provider is: it works; it fails or pauses; it cannot work as things are."""


class BreakerOut(Given):
    """
    Where a circuit breaker stands.

    Attributes:
        opens_in: Seconds until the provider is tried again; null: it is not waited.
    """

    state: Literal["closed", "half_open", "open"]
    opens_in: float | None


class ProviderHealthOut(Given):
    """
    How one provider is.

    Attributes:
        level: How far it was looked: ``passive`` asks nobody.
        reason: Why it is not healthy; only known callers are told.
        configured: Whether it could work as it is set up.
        connected: Whether it answers, as far as is known.
        available_models: How many models it lists.
        notes: What else it says of itself when it is asked with a level; only known
            callers are told.
        breakers: Capability to its circuit breaker; only known callers are told.
    """

    provider: str
    status: ProviderStatus
    level: Literal["passive", "configured", "reachable", "authorised"]
    reason: str | None
    configured: bool
    connected: bool
    available_models: int
    timestamp: str
    notes: list[str] = Field(default_factory=list)
    breakers: dict[str, BreakerOut] = Field(default_factory=dict)


class FailedPluginOut(Given):
    """A plugin that could not be loaded."""

    plugin: str
    distribution: str
    reason: str


class HealthOut(Given):
    """
    How the server is.

    Attributes:
        status: ``healthy``; ``degraded``: something does not work, and the rest does;
            ``unavailable``: it can serve nobody.
        providers: Provider to how it is; only known callers are told.
        failed_plugins: What could not be loaded; only known callers are told.
    """

    status: Literal["healthy", "degraded", "unavailable"]
    version: str
    timestamp: str
    ledger: Literal["healthy", "unavailable"]
    providers: dict[str, ProviderHealthOut] | None = None
    failed_plugins: list[FailedPluginOut] | None = None
