"""What ``gaia doctor`` finds, and what it advises."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import attrs

from gaia_core.catalog import ModelInfo
from gaia_core.cli.tables import clean
from gaia_core.offers import unused_prices

if TYPE_CHECKING:
    from gaia_core.settings import Settings

MEND_SETTING = "put the setting right; `gaia config path` names the file"
"""What to do about a setting that cannot be used."""


@attrs.frozen(kw_only=True)
class Finding:
    """
    One thing the doctor looked at.

    Attributes:
        topic: What kind of thing: ``plugin``, ``provider``, ``capability``, ….
        name: Which one.
        is_ok: Whether it works.
        detail: What was found.
        next_step: What to do about it, or None.
        notes: More to know about it, one sentence each.
    """

    topic: str
    name: str = ""
    is_ok: bool = True
    detail: str
    next_step: str | None = None
    notes: tuple[str, ...] = ()


def next_steps(findings: Iterable[Finding]) -> list[str]:
    """
    Say each step once, with all that it is for.

    >>> one = Finding(topic="capability", name="a", detail="no", next_step="do it")
    >>> next_steps([one, attrs.evolve(one, name="b")])
    ['do it (a, b)']
    """
    names: dict[str, list[str]] = {}
    for one in findings:
        if one.next_step is not None:
            names.setdefault(one.next_step, []).append(one.name or one.topic)
    return [clean(f"{step} ({', '.join(these)})") for step, these in names.items()]


class UnknownPrice(NamedTuple):
    """A price in the settings that no model bears the name of."""

    provider: str
    name: str
    nearest: str | None


def unknown_prices(
    settings: "Settings", models: Sequence[ModelInfo]
) -> list[UnknownPrice]:
    """Find the prices in the settings that no model bears the name of."""
    found: list[UnknownPrice] = []
    for section in settings.providers.values():
        offered = [model for model in models if model.provider == section.name]
        # Who lists no model now, for want of a key, may still have this one.
        unused = unused_prices(section.prices, offered) if offered else {}
        found += [UnknownPrice(section.name, *pair) for pair in unused.items()]
    return found
