"""The front door for clients of OpenAI's Images API."""

from fastapi import APIRouter

from gaia_core.server.dialects import GaiaRoute

routes = APIRouter(route_class=GaiaRoute)
