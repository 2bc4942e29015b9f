"""How the pictures of a request come in: by id, address, path, or as they are."""

import asyncio
import binascii
import re
from types import TracebackType
from typing import Self

import attrs
import pybase64

from gaia_core.engine import Gaia
from gaia_core.errors import ProviderError
from gaia_core.images import Image
from gaia_core.ledger.gallery import Gallery, PictureRow
from gaia_core.server.access import Principal
from gaia_core.server.decoding import MAX_INPUT_BYTES, Decoders, invalid
from gaia_core.server.paths import read_below
from gaia_core.server.problems import RefusedError
from gaia_core.server.schemas.base import ID
from gaia_core.settings import ServerSettings
from gaia_core.storage import FileStorage

_OWN_PATH = re.compile(r"(?:objects/)?([0-9a-f]{2})/(\1[0-9a-f]{62})\.(?:png|jpg|webp)")
_DATA_URL = re.compile(r"data:image/(?:png|jpeg|jpg|webp);base64,", re.IGNORECASE)
_MAX_TEXT = -(-MAX_INPUT_BYTES // 3) * 4


@attrs.define(eq=False, kw_only=True)
class Inputs:
    """
    Brings pictures in; nothing it gives has been trusted before it was decoded.

    What is in the image store was decoded when it was stored, and is not again.

    Attributes:
        gaia: Where stored pictures and the guarded fetcher are.
        settings: Which folders ``image_path`` may name.
        decoders: Where what comes from outside is decoded.
    """

    gaia: Gaia
    settings: ServerSettings
    decoders: Decoders = attrs.field(factory=Decoders)

    async def __aenter__(self) -> Self:
        """Get ready; no process is started yet."""
        self.decoders.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the processes that decode."""
        await self.decoders.close()

    async def stored(self, image_id: str, principal: Principal) -> Image:
        """
        Take a picture of the caller's own from the store.

        Raises:
            RefusedError: 404 if there is none, or it is not theirs.
        """
        if not ID.fullmatch(image_id):
            raise _missing()
        row = await self._gallery.find(image_id, principal=principal.name)
        return await self._taken(row)

    async def fetched(self, url: str) -> Image:
        """
        Fetch a picture through the guarded fetcher.

        Raises:
            RefusedError: 422 if it is not to be had, for whatever reason: a caller
                must not learn here what answers inside the server's own network.
        """
        try:
            data = await self.gaia.fetcher.fetch_input(url)
        except ProviderError:
            raise RefusedError(422, "image_url") from None
        return await self.uploaded(data)

    async def on_disk(self, path: str, principal: Principal) -> Image:
        """
        Read a picture of the caller's own by its ``image_path``, or below a root.

        Raises:
            RefusedError: 404 if there is none, or it is not theirs; 422 if it is no
                picture.
        """
        if ID.fullmatch(path):
            return await self.stored(path, principal)
        if own := _OWN_PATH.fullmatch(path):
            row = await self._gallery.find_digest(own[2], principal=principal.name)
            return await self._taken(row)
        storage = self.gaia.storage
        data = await asyncio.to_thread(
            read_below,
            self.settings.image_roots,
            path,
            max_bytes=MAX_INPUT_BYTES,
            # Stored pictures are somebody's; those are found by the ledger alone.
            closed=storage.root if isinstance(storage, FileStorage) else None,
        )
        if data is None:
            raise _missing()
        return await self.uploaded(data)

    async def encoded(self, text: str) -> Image:
        """
        Decode a picture from base64, or from a ``data:`` address.

        Raises:
            RefusedError: 422 if it is no base64, or no picture.
        """
        return await self.uploaded(await asyncio.to_thread(_from_base64, text))

    async def uploaded(self, data: bytes) -> Image:
        """
        Check a picture that came as bytes.

        Raises:
            RefusedError: 422 if it is no picture that is taken, 503 if too many
                wait to be looked at.
        """
        return await self.decoders.clean(data)

    @property
    def _gallery(self) -> Gallery:
        if (gallery := self.gaia.ledger.gallery) is None:
            raise _missing()
        return gallery

    async def _taken(self, row: PictureRow | None) -> Image:
        """Read what the ledger knows to be theirs."""
        if row is None or await self.gaia.storage.get(row.id) is None:
            raise _missing()
        return Image(
            data=await self.gaia.storage.read(row.id),
            media_type=row.media_type,
            width=row.width,
            height=row.height,
        )


def _from_base64(text: str) -> bytes:
    """Decode strictly: no other alphabet, no blanks, nothing left out."""
    start = found.end() if (found := _DATA_URL.match(text)) else 0
    if len(text) - start > _MAX_TEXT:
        raise invalid()
    try:
        return pybase64.b64decode(text[start:], validate=True)
    except (binascii.Error, ValueError):
        raise invalid() from None


def _missing() -> RefusedError:
    return RefusedError(404, "not_found")
