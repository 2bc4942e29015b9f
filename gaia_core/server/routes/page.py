"""The web page: files that lie beside this package, with a strict policy."""

from fastapi import APIRouter

from gaia_core.server.dialects import GaiaRoute

routes = APIRouter(route_class=GaiaRoute, include_in_schema=False)
