"""Finding plugins: installed ones by entry point, others as a host gives them."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import attrs

from gaia_core.hookspecs import ENTRY_POINT_GROUP
from gaia_core.plugins.checks import words_of
from gaia_core.plugins.loaded import PluginFailure
from gaia_core.plugins.scanning import FoundPoint, normalised, scan

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

IN_CODE = "given in code"
"""The distribution of a plugin that a host passed to `load_plugins`."""


@attrs.frozen(kw_only=True)
class PluginSource:
    """
    Where a plugin comes from.

    Attributes:
        plugin: Its name.
        distribution: What installed it: name and version.
        load: Gives the class, module or object.
    """

    plugin: str
    distribution: str
    load: Callable[[], object] = attrs.field(repr=False)


def find_installed() -> tuple[list[PluginSource], list[PluginFailure]]:
    """
    Find the installed plugins, in an order that does not depend on the disk.

    Returns:
        The plugins, and the distributions that cannot be read.
    """
    failures: list[PluginFailure] = []
    scanned = scan(ENTRY_POINT_GROUP)
    if scanned is None:
        found = [from_entry_point(point) for point in _find_one_by_one(failures)]
    else:
        found = [_from_found(point) for point in scanned]
    return sorted(found, key=lambda one: (one.plugin, one.distribution)), failures


def _find_one_by_one(failures: list[PluginFailure]) -> "Iterator[EntryPoint]":
    """Read every distribution on its own, the first of each name."""
    from importlib import metadata  # noqa: PLC0415 - slow, and rarely needed

    seen = set()
    for distribution in metadata.distributions():
        name, version = _name_and_version(distribution)
        if name in seen:
            continue
        seen.update([name] if name else [])
        try:
            yield from distribution.entry_points.select(group=ENTRY_POINT_GROUP)
        except Exception as error:  # noqa: BLE001 - contained, whatever it is
            failures.append(
                PluginFailure(
                    plugin=name or "unknown",
                    distribution=f"{name} {version}" if name else "unknown",
                    reason=f"its entry points cannot be read: {words_of(error)}",
                )
            )


def from_entry_point(point: "EntryPoint") -> PluginSource:
    """Take a plugin from an entry point somebody found."""
    return PluginSource(
        plugin=point.name, distribution=_distribution_of(point), load=point.load
    )


def _from_found(point: FoundPoint) -> PluginSource:
    return PluginSource(
        plugin=point.name, distribution=point.distribution, load=point.load
    )


def _distribution_of(point: "EntryPoint") -> str:
    """Name what installed an entry point, with its version."""
    name, version = _name_and_version(point.dist) if point.dist else ("", "")
    return f"{name} {version}" if name else "unknown"


def _name_and_version(distribution: "Distribution") -> tuple[str, str]:
    """Read what a distribution says of itself; nothing where it says nothing."""
    try:
        name, version = distribution.name, distribution.version
    except Exception:  # noqa: BLE001 - its metadata may be anything
        return "", ""
    return normalised(name or ""), version or ""


def from_code(item: object) -> PluginSource:
    """Take a plugin from a host's hands."""
    return PluginSource(plugin=_name_of(item), distribution=IN_CODE, load=lambda: item)


def _name_of(item: object) -> str:
    """Ask a provider for its name; call anything else what Python calls it."""
    try:
        instance = item() if isinstance(item, type) else item
        return str(cast("Any", instance).gaia_provider_info().name)
    except (Exception, SystemExit):  # noqa: BLE001 - it comes up again at load
        return str(getattr(item, "__name__", type(item).__name__))
