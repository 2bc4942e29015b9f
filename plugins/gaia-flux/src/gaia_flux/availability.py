"""Whether anything can be drawn on this machine, without importing torch."""

import functools
import importlib.util
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Final

from gaia_flux import devices

NEEDED = ("torch", "diffusers", "transformers", "accelerate")

WANTED: Final[dict[str, str]] = {"PixtralProcessor": "torchvision"}
"""Classes of models that want a package which is none of this plugin's own."""


def why_unavailable(device: str) -> str | None:
    """
    Say why nothing can be drawn, and what to do about it; None: it can.

    Args:
        device: That of the settings.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return (
            f"not installed: {', '.join(missing)}. Install torch for your card, then "
            "gaia-flux"
        )
    if device == "cpu":
        return None
    return devices.why_none(device) or _why_torch_cannot(device)


def lacking(kinds: Collection[str]) -> str | None:
    """
    Say which package a model wants that is not installed; None: it has all.

    Args:
        kinds: The classes of its components.
    """
    for kind, package in WANTED.items():
        if kind in kinds and importlib.util.find_spec(package) is None:
            return (
                f"its {kind} needs {package}, which is not installed: install the "
                f"{package} that is made for the installed torch"
            )
    return None


def _why_torch_cannot(device: str) -> str | None:
    """Look at torch's own version, which says what it was built for."""
    if device == "mps" or not _version("torch").endswith("+cpu"):
        return None
    return (
        "torch is built for the processor only: install the build for your card, or "
        'set device = "cpu" in [providers.flux]'
    )


@functools.cache
def libraries(*others: str) -> str:
    """
    Name the versions that pictures depend on; they stay while the program runs.

    Args:
        others: What else has a part in them.
    """
    names = ("gaia-flux", "torch", "diffusers", "transformers", *others)
    return " ".join(f"{name}={_version(name)}" for name in names)


@functools.cache
def _version(name: str) -> str:
    """
    Tell a distribution's version by the name of its folder beside the packages.

    `importlib.metadata` would tell it as well, and takes longer to import than all
    else that a listing does here.
    """
    start, end = name.replace("-", "_").lower() + "-", ".dist-info"
    for folder in sys.path:
        for entry in _entries(folder or "."):
            if entry.endswith(end) and entry.lower().startswith(start):
                return entry[len(start) : -len(end)]
    return _looked_up(name)


@functools.cache
def _entries(folder: str) -> tuple[str, ...]:
    try:
        return tuple(path.name for path in Path(folder).iterdir())
    except OSError:
        return ()  # an archive, or nothing at all


def _looked_up(name: str) -> str:
    from importlib import metadata  # noqa: PLC0415 - see above

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"
