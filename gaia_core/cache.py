"""Answers kept for equal requests: the interface, and its plainest form."""

from typing import Protocol

from gaia_core.requests import Request
from gaia_core.responses import Response


class ResultCache(Protocol):
    """Consulted by the engine before a request costs anything."""

    async def find(self, request: Request) -> Response | None:
        """Give the kept answer to an equal request, or None."""

    async def keep(self, request: Request, response: Response) -> None:
        """Keep an answer, if it is one that may be given again."""


class NoCache:
    """Keeps nothing: every request is served anew."""

    async def find(self, request: Request) -> Response | None:  # noqa: ARG002  the interface
        """Find nothing."""
        return None

    async def keep(self, request: Request, response: Response) -> None:
        """Keep nothing."""
