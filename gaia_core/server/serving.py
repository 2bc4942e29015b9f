"""Stored pictures over HTTP: what never changes, told so that it is kept."""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from gaia_core.errors import StorageError
from gaia_core.images import SUFFIXES
from gaia_core.responses import StoredImage
from gaia_core.server.site import Site

CHUNK = 1_048_576
"""Most bytes of a picture that are read at a time."""
_HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Accept-Ranges": "none",
}


def headers_of(image: StoredImage, *, is_download: bool = False) -> dict[str, str]:
    """Give the headers of a picture: it is shown as what it is, and does nothing."""
    kind = "attachment" if is_download else "inline"
    name = f"{image.id}{SUFFIXES[image.media_type]}"
    return {
        **_HEADERS,
        "ETag": f'"{image.sha256}"',
        "Content-Disposition": f'{kind}; filename="{name}"',
    }


def is_known(image: StoredImage, if_none_match: str | None) -> bool:
    """Tell whether a client has a picture already, by its ``If-None-Match``."""
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return f'"{image.sha256}"' in tags or "*" in tags


@attrs.frozen(kw_only=True)
class _Start:
    """The beginning of a file, and how long it is."""

    data: bytes
    length: int


class PictureResponse(Response):
    """The bytes of a stored picture, read as the client takes them."""

    def __init__(
        self, start: _Start, path: Path, media_type: str, headers: Mapping[str, str]
    ) -> None:
        """Keep what was read already, and where the rest is."""
        length = {"Content-Length": str(start.length)}
        super().__init__(media_type=media_type, headers={**headers, **length})
        self._start = start
        self._path = path

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,  # noqa: ARG002  the interface
        send: Send,
    ) -> None:
        """Send the picture, or its headers only where those were asked for."""
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        body: dict[str, Any] = {"type": "http.response.body", "body": self._start.data}
        place = len(self._start.data)
        while place < self._start.length:
            await send({**body, "more_body": True})
            chunk = await asyncio.to_thread(_read, self._path, place)
            if not chunk:
                message = "A stored picture became shorter while it was sent."
                raise RuntimeError(message)
            body["body"] = chunk
            place += len(chunk)
        await send(body)


async def picture_response(
    image: StoredImage, site: Site, *, is_download: bool = False
) -> Response:
    """
    Answer with a picture.

    Raises:
        StorageError: If its file is missing.
    """
    headers = headers_of(image, is_download=is_download)
    start = await asyncio.to_thread(_begin, image.path)
    if start is None:
        # A host's own store may keep it elsewhere than in a file.
        data = await site.gaia.storage.read(image.id)
        start = _Start(data=data, length=len(data))
    return PictureResponse(start, image.path, image.media_type, headers)


async def stored_images(ids: Iterable[str], site: Site) -> list[StoredImage | None]:
    """Look pictures up; None in the place of each that is gone or damaged."""

    async def look_up(image_id: str) -> StoredImage | None:
        try:
            return await site.gaia.storage.get(image_id)
        except StorageError:
            return None

    return list(await asyncio.gather(*map(look_up, ids)))


async def bytes_of(image: StoredImage, site: Site) -> bytes:
    """
    Read a stored picture whole, and check it against its digest.

    Raises:
        StorageError: If its file is missing or damaged.
    """
    data = await asyncio.to_thread(_sound, image)
    # The store knows what to say of a file that is not as it was.
    return await site.gaia.storage.read(image.id) if data is None else data


def _sound(image: StoredImage) -> bytes | None:
    try:
        data = image.path.read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == image.sha256 else None


def _begin(path: Path) -> _Start | None:
    try:
        with path.open("rb", buffering=0) as file:
            length = file.seek(0, 2)
            file.seek(0)
            return _Start(data=file.read(CHUNK) or b"", length=length)
    except OSError:
        return None


def _read(path: Path, place: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        file.seek(place)
        return file.read(CHUNK) or b""
