"""How the server and its providers are; asking costs nothing, and needs no key."""

from fastapi import APIRouter

from gaia_core.server.dialects import GaiaRoute

routes = APIRouter(route_class=GaiaRoute)
