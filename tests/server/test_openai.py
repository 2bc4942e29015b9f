"""The real clients of OpenAI's Images API work unchanged."""

import base64
import io
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI
from PIL import Image as pillow

from gaia_core.testing import FakeProvider

OpenClient = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
OpenDoor = Callable[..., AbstractAsyncContextManager[AsyncOpenAI]]


@pytest.fixture(name="open_door")
def _open_door(open_client: OpenClient) -> OpenDoor:
    """Give a function that opens OpenAI's own client to a server."""

    @asynccontextmanager
    async def open_door(*providers: object, **fields: Any) -> AsyncIterator[AsyncOpenAI]:
        async with open_client(*providers, **fields) as http:
            client = AsyncOpenAI(
                api_key="none", base_url=f"{http.base_url}/v1", max_retries=0
            )
            async with client:
                yield client

    return open_door


def opened(encoded: str | None) -> pillow.Image:
    """Open a picture that came in base64."""
    picture = pillow.open(io.BytesIO(base64.b64decode(encoded or "")))
    picture.load()
    return picture


async def test_generate(open_door: OpenDoor) -> None:
    """A picture from words has the size that was asked for."""
    provider = FakeProvider()

    async with open_door(provider) as client:
        response = await client.images.generate(
            prompt="a red dragon", model="auto", size="256x128", n=2
        )

    assert [opened(one.b64_json).size for one in response.data or []] == [(256, 128)] * 2
    print(response.model_dump(exclude={"data"}))
