"""
Pictures for whoever has their link.

They are asked for before anybody asks for a key: a browser that shows a picture
presents none, and a host's own ``auth`` may refuse whom it does not know at once.
"""

from fastapi import APIRouter, Request, Response
from starlette.datastructures import QueryParams
from starlette.routing import Match
from starlette.types import Scope

from gaia_core.server.dialects import GaiaRoute
from gaia_core.server.routes import pictures
from gaia_core.server.site import Site

LONGEST = 512
"""How many characters of a signature are looked at."""


def linked(site: Site) -> APIRouter:
    """Make the route that serves pictures by their links alone."""

    class LinkedRoute(GaiaRoute):
        """Is there for requests that have a link, and for no others."""

        def matches(self, scope: Scope) -> tuple[Match, Scope]:
            match, child = super().matches(scope)
            is_linked = match is Match.FULL and _is_linked(site, scope, child)
            return (match, child) if is_linked else (Match.NONE, {})

    routes = APIRouter(route_class=LinkedRoute)

    @routes.api_route(
        "/api/images/{image_id}", methods=["GET", "HEAD"], include_in_schema=False
    )
    async def linked_picture(
        request: Request, image_id: str, *, download: bool = False
    ) -> Response:
        """Give the picture that a link opens."""
        return await pictures.shown(request, site, None, image_id, download=download)

    return routes


def _is_linked(site: Site, scope: Scope, child: Scope) -> bool:
    if b"s=" not in scope["query_string"]:
        return False
    signature = QueryParams(scope["query_string"]).get("s", "")
    image_id = child["path_params"]["image_id"]
    return len(signature) <= LONGEST and site.links.opens(image_id, signature)
