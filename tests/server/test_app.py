"""The app as a whole."""

from tests.server.conftest import OpenClient


async def test_it_describes_itself(open_client: OpenClient) -> None:
    """Clients can read what it takes."""
    async with open_client() as client:
        answer = await client.get("/openapi.json")

    assert answer.status_code == 200
    assert answer.json()["info"]["title"] == "Gaia images"
