"""Stored pictures: their bytes, the gallery, campaigns, what was spent."""

from fastapi import APIRouter

from gaia_core.server.dialects import GaiaRoute

routes = APIRouter(route_class=GaiaRoute)
