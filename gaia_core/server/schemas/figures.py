"""What ``GET /api/stats`` gives."""

from gaia_core.server.schemas.answers import Usd
from gaia_core.server.schemas.base import Given


class StatsOut(Given):
    """
    What this process has done since it started.

    Attributes:
        total_requests: How many pictures, prompts and descriptions were asked for.
        success_rate: The share of those answered that succeeded, from 0 to 1.
        average_generation_time: Seconds from request to answer, on average.
        model_usage: ``provider/model`` to how many operations ended there.
        total_cost_usd: What they cost; lost answers count at their price.
        unknown_outcomes: How many may have been charged without an answer.
        requests_under_way: How many requests over HTTP are being served.
        batches_running: How many batches are being worked on.
        batches_waiting: How many batches wait for their turn.
    """

    total_requests: int
    success_rate: float
    average_generation_time: float
    model_usage: dict[str, int]
    timestamp: str
    successful_requests: int
    failed_requests: int
    total_cost_usd: Usd
    unknown_outcomes: int
    requests_under_way: int
    batches_running: int
    batches_waiting: int
