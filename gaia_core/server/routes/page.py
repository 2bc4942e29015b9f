"""
The web page: files that lie beside this package, with a strict policy.

They are read once, when the server starts; nothing but their own names is looked up,
so no address can reach another file.
"""

import hashlib
from functools import cache
from importlib.resources import files

import attrs
from fastapi import APIRouter, Request, Response, status

from gaia_core.server.dialects import GaiaRoute
from gaia_core.server.problems import RefusedError

routes = APIRouter(route_class=GaiaRoute, include_in_schema=False)

_MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; form-action 'none'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""The address of a picture opens it, so no page behind a link may learn of it."""


@attrs.frozen(kw_only=True)
class PageFile:
    """
    One file of the page.

    Attributes:
        data: What it holds.
        media_type: What it is.
        etag: Names what it holds.
    """

    data: bytes = attrs.field(repr=False)
    media_type: str
    etag: str


@cache
def page_files() -> dict[str, PageFile]:
    """Read the files of the page: name to file."""
    found = {}
    for entry in files("gaia_core.server").joinpath("page").iterdir():
        media_type = _MEDIA_TYPES.get(entry.name.rpartition(".")[2])
        if media_type is not None and entry.is_file():
            data = entry.read_bytes()
            etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
            found[entry.name] = PageFile(data=data, media_type=media_type, etag=etag)
    return found


@routes.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """Show the page."""
    return _answer(request, "index.html")


@routes.api_route("/page/{name}", methods=["GET", "HEAD"])
async def part(request: Request, name: str) -> Response:
    """Give one of the files that the page is made of."""
    return _answer(request, name)


def _answer(request: Request, name: str) -> Response:
    file = page_files().get(name)
    if file is None:
        raise RefusedError(status.HTTP_404_NOT_FOUND, "not_found")
    headers = {**_HEADERS, "ETag": file.etag}
    if file.etag in request.headers.get("If-None-Match", ""):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    return Response(file.data, headers=headers, media_type=file.media_type)
