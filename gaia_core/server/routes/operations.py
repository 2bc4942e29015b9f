"""What became of a request."""

from fastapi import APIRouter

from gaia_core.server.dialects import GaiaRoute

routes = APIRouter(route_class=GaiaRoute)
