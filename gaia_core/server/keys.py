"""API keys: made once, shown once, kept as digests."""

from fastapi import Request

from gaia_core.server.access import Principal


async def bearer(request: Request) -> Principal | None:
    """Name the caller by the API key they present; the default ``auth``."""
    raise NotImplementedError


async def bearer_or_owner(request: Request) -> Principal | None:
    """Name the caller by their key, or take who has none for the owner."""
    raise NotImplementedError
