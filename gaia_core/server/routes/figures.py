"""What the whole server does: statistics, and metrics for Prometheus."""

from datetime import UTC, datetime
from importlib.metadata import version

from fastapi import APIRouter, Request, Response, status

from gaia_core.metrics import MemoryMetrics
from gaia_core.server.access import Monitor
from gaia_core.server.answers import number
from gaia_core.server.dialects import GaiaRoute, write_json
from gaia_core.server.problems import RefusedError
from gaia_core.server.prometheus import exposition
from gaia_core.server.schemas.answers import PROBLEMS
from gaia_core.server.schemas.figures import StatsOut
from gaia_core.server.site import Site, SiteDep

routes = APIRouter(route_class=GaiaRoute, tags=["figures"])


@routes.get(
    "/api/stats",
    responses={
        200: {"model": StatsOut, "description": "Since the server started."},
        **PROBLEMS,
    },
)
async def stats(site: SiteDep, _: Monitor) -> Response:
    """Say in a few figures what this server has done since it started."""
    found = _metrics_of(site).statistics()
    return write_json(
        {
            "total_requests": found.total_requests,
            "success_rate": found.success_rate,
            "average_generation_time": round(found.average_generation_time, 3),
            "model_usage": dict(found.model_usage),
            "timestamp": datetime.now(UTC).isoformat(),
            "successful_requests": found.successful_requests,
            "failed_requests": found.failed_requests,
            "total_cost_usd": number(found.total_cost_usd),
            "unknown_outcomes": found.unknown_outcomes,
            "requests_under_way": site.traffic.under_way,
            "batches_running": site.runner.running,
            "batches_waiting": site.runner.waiting,
        }
    )


@routes.get(
    "/metrics",
    responses={
        200: {
            "description": "Every figure, as Prometheus reads it.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **PROBLEMS,
    },
)
async def metrics(request: Request, site: SiteDep, _: Monitor) -> Response:
    """Give every figure to Prometheus."""
    found = _metrics_of(site)
    found.gauge("gaia_http_in_flight", site.traffic.under_way)
    found.gauge("gaia_batches_running", site.runner.running)
    found.gauge("gaia_batches_waiting", site.runner.waiting)
    text, media_type = exposition(
        found, version=version("gaia-core"), accept=request.headers.get("accept", "")
    )
    return Response(text, headers={"Content-Type": media_type})


def _metrics_of(site: Site) -> MemoryMetrics:
    """
    Give what keeps the figures.

    Raises:
        RefusedError: If the host brought something of its own for them.
    """
    found = site.gaia.metrics
    if not isinstance(found, MemoryMetrics):
        raise RefusedError(status.HTTP_404_NOT_FOUND, "own_metrics")
    return found
