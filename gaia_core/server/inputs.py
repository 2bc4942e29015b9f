"""How the pictures of a request come in: by id, address, path, or as they are."""

from types import TracebackType
from typing import Self

import attrs

from gaia_core.engine import Gaia
from gaia_core.images import Image
from gaia_core.server.access import Principal
from gaia_core.settings import ServerSettings


@attrs.define(eq=False, kw_only=True)
class Inputs:
    """
    Brings pictures in; nothing it gives has been trusted before it was decoded.

    Attributes:
        gaia: Where stored pictures and the guarded fetcher are.
        settings: Which folders ``image_path`` may name.
    """

    gaia: Gaia
    settings: ServerSettings

    async def __aenter__(self) -> Self:
        """Get ready."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the processes that decode."""

    async def stored(self, image_id: str, principal: Principal) -> Image:
        """Take a picture of the caller's own from the store."""
        raise NotImplementedError

    async def fetched(self, url: str) -> Image:
        """Fetch a picture through the guarded fetcher."""
        raise NotImplementedError

    async def on_disk(self, path: str, principal: Principal) -> Image:
        """Read a picture of the caller's own by its ``image_path``, or below a root."""
        raise NotImplementedError

    async def encoded(self, text: str) -> Image:
        """Decode a picture from base64, or from a ``data:`` address."""
        raise NotImplementedError

    async def uploaded(self, data: bytes) -> Image:
        """Check a picture that came as bytes."""
        raise NotImplementedError
