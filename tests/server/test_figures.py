"""What ``GET /api/stats`` says."""

from datetime import UTC, datetime, timedelta

import pytest

from gaia_core.errors import ContentFilteredError
from gaia_core.server.schemas.figures import StatsOut
from gaia_core.testing import FakeProvider
from tests.server.conftest import OpenClient

OWNERS = {
    "total_requests",
    "success_rate",
    "average_generation_time",
    "model_usage",
    "timestamp",
}


async def test_the_figures_add_up(open_client: OpenClient) -> None:
    """What was made and what failed is told in the owner's words."""
    provider = FakeProvider(
        price_usd="0.01", outcomes=[None, None, None, ContentFilteredError("no")]
    )
    async with open_client(provider) as client:
        for _ in range(4):
            await client.post("/api/images/generate", json={"prompt": "a keep"})
        found = (await client.get("/api/stats")).json()

    StatsOut.model_validate(found)
    assert set(found) >= OWNERS
    assert (found["total_requests"], found["success_rate"]) == (4, 0.75)
    assert (found["successful_requests"], found["failed_requests"]) == (3, 1)
    assert sum(found["model_usage"].values()) == 4
    assert found["total_cost_usd"] == pytest.approx(0.03)
    assert found["requests_under_way"] == 1
    said = datetime.fromisoformat(found["timestamp"])
    assert datetime.now(UTC) - said < timedelta(minutes=1)


async def test_nothing_done_is_no_error(open_client: OpenClient) -> None:
    """A server that has just started has figures, too."""
    async with open_client() as client:
        answer = await client.get("/api/stats")

    assert answer.status_code == 200
    assert answer.json()["total_requests"] == 0
    assert answer.json()["average_generation_time"] == 0
