"""Whether anything can be drawn on this machine, without importing torch."""

import functools
import importlib.metadata
import importlib.util

from gaia_flux import devices

NEEDED = ("torch", "diffusers", "transformers", "accelerate")


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


def _why_torch_cannot(device: str) -> str | None:
    """Look at torch's own version, which says what it was built for."""
    if device == "mps" or not importlib.metadata.version("torch").endswith("+cpu"):
        return None
    return (
        "torch is built for the processor only: install the build for your card, or "
        'set device = "cpu" in [providers.flux]'
    )


@functools.cache
def libraries() -> str:
    """Name the versions that pictures depend on; they stay while the program runs."""
    names = ("torch", "diffusers", "transformers")
    return " ".join(f"{name}={_version(name)}" for name in names)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"
