"""Looking at plugins, providers and the ledger for ``gaia doctor``."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from gaia_core.capabilities import Capability
from gaia_core.catalog import Health, ModelInfo
from gaia_core.cli.findings import (
    MEND_SETTING,
    Finding,
    UnknownPrice,
    unknown_prices,
)
from gaia_core.cli.operation import show_dollars
from gaia_core.cli.phrases import INSTALL_EMBEDDED
from gaia_core.cli.usage import total
from gaia_core.errors import LedgerError
from gaia_core.ledger import Ledger, OperationState
from gaia_core.secrets import shown
from gaia_core.states import reason_against

if TYPE_CHECKING:
    from gaia_core.plugins import PluginFailure, Plugins
    from gaia_core.settings import Settings

SERVED_BY_EMBEDDED = frozenset(
    {
        Capability.TEXT_TO_IMAGE,
        Capability.UPSCALING,
        Capability.BACKGROUND_REMOVAL,
    }
)
"""What can be had without a key."""
MOST_LISTED = 1_000
"""How many operations of unknown outcome are counted."""


async def examine_ledger(ledger: Ledger, address: str) -> list[Finding]:
    """Check the book against itself, and say what it leaves open."""
    try:
        await ledger.open()
        return [
            await _sum_up(ledger, address),
            *await _check(ledger),
            *await _count_unknown(ledger),
        ]
    except LedgerError as error:
        return [
            Finding(
                topic="ledger",
                is_ok=False,
                detail=str(error),
                next_step="see to the database; `gaia config show` tells where it is",
            )
        ]


async def _sum_up(ledger: Ledger, address: str) -> Finding:
    sums = total(await ledger.usage(("day",)))
    spent, held = show_dollars(sums.cost_usd), show_dollars(sums.held_usd)
    detail = f"{_operations(sums.operations)}, {spent} spent, {held} held"
    return Finding(topic="ledger", detail=f"{shown(address)}: {detail}")


async def _check(ledger: Ledger) -> list[Finding]:
    return [
        Finding(
            topic="ledger",
            name=problem.name,
            is_ok=False,
            detail=problem.detail,
            next_step=problem.next_step,
        )
        for problem in await ledger.check()
    ]


async def _count_unknown(ledger: Ledger) -> list[Finding]:
    """Count the operations that may have been charged without an answer."""
    unknown = await ledger.listed(state=OperationState.UNKNOWN, limit=MOST_LISTED)
    if not unknown:
        return []
    held = show_dollars(sum((one.reserved_usd for one in unknown), Decimal(0)))
    number = _operations(len(unknown))
    if len(unknown) == MOST_LISTED:
        number = f"{number} or more"
    return [
        Finding(
            topic="ledger",
            name="outcome unknown",
            is_ok=False,
            detail=f"{number} may have been charged; {held} held",
            next_step="`gaia usage` lists them, and whom to ask",
        )
    ]


def _operations(number: int) -> str:
    return "1 operation" if number == 1 else f"{number} operations"


def examine_plugins(plugins: "Plugins") -> list[Finding]:
    """Say of every plugin how long it took to load, or why it did not."""
    loaded = [
        Finding(
            topic="plugin",
            name=one.plugin,
            is_ok=one.status == "loaded",
            detail=_loading(one.distribution, one.status, one.import_seconds),
        )
        for one in plugins.installed
        if one.status != "failed"
    ]
    failed = [
        Finding(
            topic="plugin",
            name=one.plugin,
            is_ok=False,
            detail=f"{one.distribution}: {one.reason}",
            next_step=_mend(one),
        )
        for one in plugins.failures
    ]
    return [*loaded, *failed]


def _mend(failure: "PluginFailure") -> str | None:
    """Say what to do about a plugin; the reason says it where it is not installed."""
    if failure.is_by_settings:
        return MEND_SETTING
    if failure.distribution == "not installed":
        return None
    return f"update or uninstall {failure.distribution.partition(' ')[0]}"


def _loading(distribution: str, status: str, seconds: float | None) -> str:
    took = "" if seconds is None else f" in {seconds * 1_000:.0f} ms"
    return f"{distribution}: {status}{took}"


def examine_providers(
    reasons: Mapping[str, str | None], health: Mapping[str, Health]
) -> list[Finding]:
    """Say of every provider whether it is healthy, or why it cannot work."""
    return [
        _examine_provider(name, reasons[name], health.get(name)) for name in reasons
    ]


def _examine_provider(
    name: str, unavailable: str | None, health: Health | None
) -> Finding:
    reason = unavailable or (health.reason if health else None)
    is_ok = unavailable is None and (health is None or health.is_healthy)
    level = health.level.value if health else "configured"
    return Finding(
        topic="provider",
        name=name,
        is_ok=is_ok,
        detail=level if is_ok else reason or "is not healthy",
        notes=health.notes if health else (),
    )


def examine_prices(settings: "Settings", models: Sequence[ModelInfo]) -> list[Finding]:
    """Name the prices in the settings that no model bears the name of."""
    return [
        Finding(
            topic="price",
            name=f"{price.provider}/{price.name}",
            is_ok=False,
            detail=f"{price.provider} offers no such model: this price is not used",
            next_step=_rename(price),
        )
        for price in unknown_prices(settings, models)
    ]


def _rename(price: UnknownPrice) -> str:
    if price.nearest is not None:
        return f"write {price.nearest!r} in [providers.{price.provider}.prices]"
    return f"take a name that `gaia models --all -p {price.provider}` shows"


def examine_capabilities(
    models: Sequence[ModelInfo],
    reasons: Mapping[str, str | None],
    health: Mapping[str, Health],
) -> list[Finding]:
    """Say of every capability who serves it, or how to get somebody who does."""
    return [_examine_capability(one, models, reasons, health) for one in Capability]


def _examine_capability(
    capability: Capability,
    models: Sequence[ModelInfo],
    reasons: Mapping[str, str | None],
    health: Mapping[str, Health],
) -> Finding:
    fitting = [
        model
        for model in models
        if capability in model.capabilities and model.kind == "image"
    ]
    able = _unique(model.provider for model in fitting)
    working = [
        name
        for name in able
        if not reasons.get(name) and (name not in health or health[name].is_healthy)
    ]
    at_hand = {one.provider for one in fitting if reason_against(one) is None}
    ready = [name for name in working if name in at_hand]
    if ready:
        names = ", ".join(ready)
        return Finding(topic="capability", name=capability.value, detail=names)
    return Finding(
        topic="capability",
        name=capability.value,
        is_ok=False,
        detail="nobody serves it",
        next_step=_advice(capability, able, working),
    )


def _advice(capability: Capability, able: Sequence[str], working: Sequence[str]) -> str:
    """Advise to mend what is installed, or to install what is not."""
    if working:
        names = " or ".join(working)
        return f"`gaia models --all` says what keeps the models of {names}"
    if able:
        return f"see to {' or '.join(able)} above"
    if capability in SERVED_BY_EMBEDDED:
        return INSTALL_EMBEDDED
    return "install a provider that can do it"


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
