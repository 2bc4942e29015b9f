"""Progress while it lasts: server-sent events, and exactly one that ends them."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from io import BytesIO
from typing import Any

import attrs
import httpx
import pytest
from PIL import Image as Pillow

from gaia_core.context import CallContext, Progress
from gaia_core.errors import QuotaExceededError
from gaia_core.images import Image
from gaia_core.server import live
from gaia_core.server.live import LiveAnswer
from gaia_core.server.schemas.answers import ImagesOut, ProblemOut
from gaia_core.server.watched import Watched
from gaia_core.testing import FakeProvider, png
from tests.server.conftest import OpenClient
from tests.waiting import HeldProvider

SMALL = {"prompt": "a red dragon", "size": "64x64"}
EVENTS = {"Accept": "text/event-stream"}


@attrs.frozen
class Event:
    """
    One event as a client reads it.

    Attributes:
        name: What happened.
        data: What is said of it.
    """

    name: str
    data: dict[str, Any]


async def events_of(answer: httpx.Response) -> AsyncIterator[Event]:
    """Read the events of an answer; comments are none."""
    name = ""
    async for line in answer.aiter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield Event(name, json.loads(value))


async def watch(client: httpx.AsyncClient, **body: Any) -> list[Event]:
    """Ask for a picture, and read everything that is told until it ends."""
    async with client.stream(
        "POST", "/api/images/generate", json={**SMALL, **body}, headers=EVENTS
    ) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        return [event async for event in events_of(answer)]


class Painter(FakeProvider):
    """Shows what it is painting."""

    async def _take_time(self, context: CallContext) -> None:
        for step in (0.25, 0.5, 0.75):
            context.progress(step, Image.from_bytes(png(32, 32)))
            await asyncio.sleep(2 * live.PAUSE)


async def test_progress_is_told_and_then_the_result(open_client: OpenClient) -> None:
    """Fractions and previews come first, then the answer any other client gets."""
    painter = Painter()
    async with open_client(painter) as client:
        events = await watch(client, response_format="b64_json")
        picture = await client.get(events[-1].data["image_url"])

    *progress, last = events
    assert [event.name for event in progress] == ["progress"] * 3
    assert [event.data["fraction"] for event in progress] == [0.25, 0.5, 0.75]
    assert progress[0].data["preview"].startswith("data:image/png;base64,")
    assert last.name == "result"
    ImagesOut.model_validate(last.data)
    assert base64.b64decode(last.data["images"][0]["b64_json"]) == picture.content


async def test_a_failure_ends_it_as_a_problem(open_client: OpenClient) -> None:
    """The last event is the body of the problem, with its status."""
    fake = FakeProvider.failing(QuotaExceededError("sk-canary"))
    async with open_client(fake) as client:
        events = await watch(client)

    assert events[-1].name == "error"
    assert {event.name for event in events[:-1]} <= {"progress"}
    assert events[-1].data.pop("status") == 402
    problem = ProblemOut.model_validate(events[-1].data)
    assert problem.error_code == "quota_exceeded"


async def test_what_is_refused_at_the_door_is_no_stream(
    open_client: OpenClient,
) -> None:
    """Whatever can be told before anything began is told by its status."""
    async with open_client() as client:
        answer = await client.post(
            "/api/images/generate", json={"prompt": ""}, headers=EVENTS
        )

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/json"


async def test_every_verb_can_be_watched(open_client: OpenClient) -> None:
    """Words are a result as well."""
    async with (
        open_client() as client,
        client.stream(
            "POST",
            "/api/images/enhance-prompt",
            json={"prompt": "a keep"},
            headers=EVENTS,
        ) as answer,
    ):
        events = [event async for event in events_of(answer)]

    assert events[-1].name == "result"
    assert events[-1].data["prompt"] == "a keep, highly detailed"


async def test_silence_is_broken_by_comments(
    open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies close what is silent; a comment says that the server is there."""
    monkeypatch.setattr(live, "PING", 0.05)
    held = HeldProvider()
    async with (
        open_client(held) as client,
        client.stream(
            "POST", "/api/images/generate", json=SMALL, headers=EVENTS
        ) as answer,
    ):
        lines = answer.aiter_lines()
        async with asyncio.timeout(30):
            first = await anext(lines)
            held.go.set()
            rest = [line async for line in lines]

    assert first == ": ping"
    assert sum(line == "event: result" for line in rest) == 1


# -- readers that are slow ------------------------------------------------------------


async def read(events: AsyncIterator[bytes]) -> list[Event]:
    """Read events as they are sent."""
    found = []
    async for told in events:
        if told.startswith(b"event: "):
            name, _, data = told.decode().partition("\ndata: ")
            found.append(Event(name.removeprefix("event: "), json.loads(data)))
    return found


def live_answer(fractions: Sequence[float], ready: asyncio.Event) -> LiveAnswer:
    """Answer with work that tells much at once."""

    async def work(progress: Progress) -> bytes:
        for fraction in fractions:
            progress(fraction, None)
        ready.set()
        return live.event("result", {"done": True})

    return LiveAnswer(work, route="/test")


async def test_a_slow_reader_misses_the_middle_and_never_the_end() -> None:
    """10,000 steps told faster than they are read: a few are read, and the last."""
    ready = asyncio.Event()
    answer = live_answer([n / 10_000 for n in range(10_000)], ready)

    events = await read(answer.events())

    assert events[-1] == Event("result", {"done": True})
    assert len(events) <= 2


async def test_a_reader_that_leaves_ends_the_work() -> None:
    """Closing the stream cancels what it watched."""
    cancelled = asyncio.Event()

    async def work(progress: Progress) -> bytes:
        progress(0.5, None)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return b""

    events = LiveAnswer(work, route="/test").events()
    first = await anext(events)
    await events.aclose()

    assert first.startswith(b"event: progress")
    assert cancelled.is_set()


# -- previews -------------------------------------------------------------------------


async def test_a_large_preview_is_made_small() -> None:
    """Previews are for looking at, not for keeping."""
    noise = Pillow.effect_noise((1024, 512), 90)
    buffer = BytesIO()
    noise.save(buffer, "PNG")

    url = await live.preview_url(Image.from_bytes(buffer.getvalue()))

    assert url is not None
    data = base64.b64decode(url.partition(",")[2])
    assert len(data) <= live.MAX_PREVIEW_BYTES
    assert max(Pillow.open(BytesIO(data)).size) == live.MAX_PREVIEW_SIDE


async def test_a_damaged_preview_is_left_out() -> None:
    """A preview nobody can open ends no work."""
    whole = Image.from_bytes(png(1024, 1024))
    torn = attrs.evolve(whole, data=whole.data[:64] + b"\0" * live.MAX_PREVIEW_BYTES)

    assert await live.preview_url(torn) is None


# -- what is under way ----------------------------------------------------------------


def test_the_server_knows_what_is_under_way() -> None:
    """Other front doors show the progress of a caller's own requests."""
    watched = Watched()
    told: list[float] = []

    with watched.job("ann", lambda fraction, _: told.append(fraction)) as progress:
        progress(0.5, None)
        latest = watched.latest("ann")
        counts = (watched.count("ann"), watched.count("bob"))

    assert latest is not None
    assert (latest.fraction, told) == (0.5, [0.5])
    assert counts == (1, 0)
    assert watched.latest("ann") is None
