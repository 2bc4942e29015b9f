"""What the whole server does: statistics, and metrics for Prometheus."""

from fastapi import APIRouter

from gaia_core.server.dialects import GaiaRoute

routes = APIRouter(route_class=GaiaRoute)
