"""
Local FLUX and every other diffusers pipeline, on whatever card is there.

The provider is imported when it is asked for: a worker's process needs none of it.
"""

import typing as _typing

if _typing.TYPE_CHECKING:
    from gaia_flux.provider import FluxProvider

__all__ = ["FluxProvider"]

if not _typing.TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import the provider when somebody asks for it."""
        if name not in __all__:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        from gaia_flux.provider import FluxProvider  # noqa: PLC0415  see above

        return FluxProvider
