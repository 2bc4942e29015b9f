"""Putting a `Gaia` together: every part from the settings, unless it is given."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import attrs

from gaia_core.alerts import Alerts
from gaia_core.cache import LedgerCache, NoCache, ResultCache
from gaia_core.fetching import GuardedFetcher
from gaia_core.keeping import Keeper
from gaia_core.ledger import Ledger
from gaia_core.ledger.deferred import DeferredLedger
from gaia_core.lookups import Lookup
from gaia_core.metrics import MemoryMetrics, Metrics
from gaia_core.plugins import Plugins
from gaia_core.reliability import EgressLimits, Reliability, StandardReliability
from gaia_core.replays import Replays
from gaia_core.services import Services
from gaia_core.settings import Settings
from gaia_core.settings.values import MOST_PACE, PACE_KEYS
from gaia_core.storage import FileStorage, ImageStorage, Spill


@attrs.frozen(kw_only=True)
class Parts:
    """
    What a `Gaia` works with.

    Attributes:
        services: What walks work with.
        storage: Where pictures are kept.
        cache: Where answers to equal requests are found.
        alerts: What tells of budgets that run out.
    """

    services: Services
    storage: ImageStorage
    cache: ResultCache
    alerts: Alerts


def parts_of(  # noqa: PLR0913  every part can be exchanged
    settings: Settings,
    plugins: Plugins,
    *,
    storage: ImageStorage | None = None,
    ledger: Ledger | None = None,
    reliability: Reliability | None = None,
    cache: ResultCache | None = None,
    fetcher: GuardedFetcher | None = None,
    metrics: Metrics | None = None,
    lookup: Lookup | None = None,
) -> Parts:
    """Make the parts that are not given as the settings say; see `Gaia.open`."""
    alerts = Alerts(settings.budgets)
    storage = storage or FileStorage(settings.image_store)
    ledger = ledger or _sql_ledger(settings, alerts)
    metrics = metrics or MemoryMetrics()
    spill = Spill() if settings.spill is None else Spill(settings.spill)
    services = Services(
        plugins=plugins,
        keeper=Keeper(storage=storage, spill=spill, keep_prompt=settings.keep_prompt),
        ledger=ledger,
        replays=Replays(ledger=ledger, storage=storage),
        reliability=reliability or _reliability(settings, plugins, metrics),
        fetcher=fetcher or GuardedFetcher(),
        metrics=metrics,
        lookup=lookup or Lookup(),
        max_fallbacks=settings.max_fallbacks,
    )
    return Parts(
        services=services,
        storage=storage,
        cache=cache or _cache(settings, ledger, storage, metrics),
        alerts=alerts,
    )


def _sql_ledger(settings: Settings, alerts: Alerts) -> Ledger:
    make = partial(_load_sql_ledger, settings, alerts)
    return cast("Ledger", DeferredLedger(make))


def _load_sql_ledger(settings: Settings, alerts: Callable[[Any], None]) -> Ledger:
    from gaia_core.ledger.database import Database  # noqa: PLC0415 - 170 ms
    from gaia_core.ledger.sql import SqlLedger  # noqa: PLC0415 - as above

    return SqlLedger(
        Database(settings.database),
        budgets=settings.budgets,
        max_results=settings.cache.max_entries,
        on_alert=alerts,
    )


def _cache(
    settings: Settings, ledger: Ledger, storage: ImageStorage, metrics: Metrics
) -> ResultCache:
    if not settings.cache.enabled:
        return NoCache()
    return LedgerCache(ledger, storage, metrics=metrics)


def _reliability(
    settings: Settings, plugins: Plugins, metrics: Metrics
) -> StandardReliability:
    return StandardReliability(
        max_attempts=settings.max_attempts,
        max_waiting=settings.limits.max_waiting,
        limits=partial(_egress_limits, settings, plugins),
        metrics=metrics,
    )


def _egress_limits(settings: Settings, plugins: Plugins, name: str) -> EgressLimits:
    """Take what the settings say of a provider, and from its card what they leave."""
    section, card = settings.provider(name), plugins.providers[name].info()
    pace = {key: _first(getattr(section, key), getattr(card, key)) for key in PACE_KEYS}
    for key, most in MOST_PACE.items():
        # A vendor's own variable may ask for more: that is no reason to refuse it.
        pace[key] = None if pace[key] is None else min(pace[key], most)
    return EgressLimits(**pace)


def _first(*values: Any) -> Any:
    """Give the first value that is given at all."""
    return next((value for value in values if value is not None), None)
