"""The real client of OpenAI's Images API reads pictures as a stream of events."""

import asyncio
from pathlib import Path
from typing import Any

import attrs
import openai
import pytest

from gaia_core import errors
from gaia_core.context import CallContext
from gaia_core.images import Image
from gaia_core.server import live
from gaia_core.server.routes.openai import streaming
from gaia_core.testing import FakeProvider, png
from tests.waiting import HeldProvider, until

from .openai_clients import OpenClient, blocking_client_of, client_of, opened


@attrs.define(eq=False, kw_only=True)
class Painter(FakeProvider):
    """Shows what it has so far, one preview after another."""

    previews: int = 4

    async def _take_time(self, context: CallContext) -> None:
        for done in range(1, self.previews + 1):
            preview = Image.from_bytes(png(16, 16, (done, 0, 0)))
            context.progress(done / (self.previews + 1), preview)
            await asyncio.sleep(2 * live.PAUSE)


async def test_generate(open_client: OpenClient) -> None:
    """Previews come first, as many as are wanted, and then the picture."""
    async with open_client(Painter()) as http, client_of(http) as client:
        stream: Any = await client.images.generate(
            prompt="a keep", size="64x64", stream=True, partial_images=2
        )
        events = [event async for event in stream]

    partial = [event for event in events if event.type.endswith("partial_image")]
    last = events[-1]
    assert 1 <= len(partial) <= 2
    assert [event.partial_image_index for event in partial] == list(range(len(partial)))
    assert opened(partial[0].b64_json).size == (16, 16)
    assert last.type == "image_generation.completed"
    assert opened(last.b64_json).size == (64, 64)
    assert last.usage.total_tokens == 0
    assert last.gaia["provider"] == "fake"


async def test_several_pictures(open_client: OpenClient) -> None:
    """Every picture is an event of its own, and no preview comes unasked."""
    async with open_client(Painter()) as http:
        with blocking_client_of(http) as client:

            def read() -> list[Any]:
                stream: Any = client.images.generate(
                    prompt="a keep", size="64x64", n=2, stream=True
                )
                return list(stream)

            events = await asyncio.to_thread(read)

    assert [event.type for event in events] == ["image_generation.completed"] * 2
    assert events[0].b64_json != events[1].b64_json


async def test_edit(open_client: OpenClient) -> None:
    """An edit has events of its own names."""
    async with open_client() as http, client_of(http) as client:
        stream: Any = await client.images.edit(
            image=png(64, 64), prompt="in winter", stream=True
        )
        events = [event async for event in stream]

    assert [event.type for event in events] == ["image_edit.completed"]
    assert events[0].size == "64x64"


async def test_early_failure(open_client: OpenClient) -> None:
    """What fails before there is anything to tell raises as without a stream."""
    provider = FakeProvider.failing(errors.ContentFilteredError("no"))

    async with open_client(provider) as http, client_of(http) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.images.generate(prompt="a keep", stream=True)

    assert caught.value.code == "content_policy_violation"


async def test_late_failure(
    open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails after the stream has begun is its last event."""
    monkeypatch.setattr(streaming, "EARLY", 0.0)
    provider = HeldProvider(outcomes=[errors.ContentFilteredError("no")])

    async with open_client(provider) as http, client_of(http) as client:
        stream: Any = await client.images.generate(prompt="a keep", stream=True)
        provider.go.set()
        with pytest.raises(openai.APIError) as caught:
            async for _ in stream:
                pass

    assert caught.value.code == "content_policy_violation"


async def test_client_that_leaves(open_client: OpenClient, tmp_path: Path) -> None:
    """A client that leaves a stream has its picture made all the same, once."""
    provider = HeldProvider(price_usd="0.02")

    async with open_client(provider) as http, client_of(http) as client:
        asking = asyncio.create_task(
            client.images.generate(prompt="a keep", stream=True)
        )
        await provider.called()
        asking.cancel()
        provider.go.set()
        await until(lambda: list(tmp_path.glob("images/**/*.png")))

    assert len(provider.charges) == 1
