"""Many requests at once, and what happens to them."""

from fastapi import APIRouter

from gaia_core.server.dialects import GaiaRoute

routes = APIRouter(route_class=GaiaRoute)
