"""What happens in a batch, as events: in order, without gaps, with one end."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest

from gaia_core import Gaia
from gaia_core.errors import ContentFilteredError
from gaia_core.server import create_app, nobody_asked
from gaia_core.testing import FakeProvider
from tests.server.conftest import OpenClient, serving, settings_in
from tests.waiting import HeldProvider

ROUTE = "/api/images/batch"
FINAL = "batch_finished"


@attrs.frozen
class Event:
    """One event as it came over the wire."""

    id: int
    kind: str
    data: dict[str, Any]
    # The time of signing is in an address.
    urls: list[str] = attrs.field(eq=False)


async def _opened(client: httpx.AsyncClient, count: int, **fields: Any) -> str:
    """Open a batch; give the address of its events."""
    requests = [{"prompt": f"scene {place}"} for place in range(count)]
    answer = await client.post(
        ROUTE,
        json={"requests": requests, **fields},
        headers={"Idempotency-Key": "scenes"},
    )
    assert answer.status_code == 202
    return str(answer.json()["links"]["events"])


async def _read(answer: httpx.Response) -> AsyncIterator[Event]:
    """Read events as a browser does."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            data = json.loads(fields["data"])
            urls = [image.pop("url") for image in data["images"]]
            yield Event(int(fields["id"]), fields["event"], data, urls)
            fields = {}


async def _all(
    client: httpx.AsyncClient, url: str, last: int | str | None = None
) -> list[Event]:
    """Read events until the server says that there are no more."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    async with asyncio.timeout(60), client.stream("GET", url, headers=headers) as told:
        assert told.status_code == 200
        assert told.headers["content-type"].startswith("text/event-stream")
        assert told.headers["cache-control"] == "no-store"
        return [event async for event in _read(told)]


async def test_everything_is_told_once_and_in_order(open_client: OpenClient) -> None:
    """Each item begins and ends, and then the batch ends."""
    async with open_client(FakeProvider(price_usd="0.01")) as client:
        events = await _all(client, await _opened(client, 4))

    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert [event.kind for event in events].count("started") == 4
    done = [event for event in events if event.kind == "done"]
    assert sorted(event.data["position"] for event in done) == [0, 1, 2, 3]
    assert {event.data["cost_usd"] for event in done} == {0.01}
    assert all(len(event.data["images"]) == len(event.urls) == 1 for event in done)
    assert [event.kind for event in events if event.kind == FINAL] == [FINAL]
    assert events[-1].kind == FINAL


async def test_a_reader_goes_on_where_it_was(open_client: OpenClient) -> None:
    """Whoever comes back gets what is behind the last event, whatever that was."""
    async with open_client() as client:
        url = await _opened(client, 3)
        whole = await _all(client, url)
        parts = [await _all(client, url, event.id) for event in whole[:-1]]

    assert parts == [whole[place + 1 :] for place in range(len(whole) - 1)]


async def test_whoever_has_the_last_event_need_not_come_back(
    open_client: OpenClient,
) -> None:
    """204 is what tells a browser's reader to stop."""
    async with open_client() as client:
        url = await _opened(client, 1)
        events = await _all(client, url)
        answer = await client.get(url, headers={"Last-Event-ID": str(events[-1].id)})

    assert answer.status_code == 204


@pytest.mark.parametrize("last", ["", "x", "-1", "999999", "1" * 5_000, "٣"])
async def test_an_odd_number_begins_at_the_beginning(
    open_client: OpenClient, last: str
) -> None:
    """A number that no event has is no reason to tell nothing."""
    async with open_client() as client:
        url = await _opened(client, 1)
        whole = await _all(client, url)
        headers = [(b"Last-Event-ID", last.encode())]
        answer = await client.get(url, headers=headers)

    assert answer.status_code == 200
    assert answer.text.count("\nid: ") == len(whole)


async def test_events_come_as_things_happen(open_client: OpenClient) -> None:
    """What has happened is told while the rest is under way."""
    provider = HeldProvider()
    async with open_client(provider) as client:
        url = await _opened(client, 2)
        async with asyncio.timeout(60), client.stream("GET", url) as told:
            events = _read(told)
            first = await anext(events)
            assert not provider.go.is_set()
            provider.go.set()
            rest = [event async for event in events]

    assert first.kind == "started"
    assert rest[-1].kind == FINAL


async def test_silence_is_filled(
    open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing happens, a comment says that the server is still there."""
    monkeypatch.setattr("gaia_core.server.events.PING", 0.05)
    provider = HeldProvider()
    async with open_client(provider) as client:
        url = await _opened(client, 1)
        async with asyncio.timeout(60), client.stream("GET", url) as told:
            lines = []
            async for line in told.aiter_lines():
                lines.append(line)
                if line == ": ping":
                    provider.go.set()
            kinds = [line for line in lines if line.startswith("event:")]

    assert kinds[-1] == f"event: {FINAL}"


async def test_errors_are_codes(open_client: OpenClient) -> None:
    """What a provider says in its own words stays inside."""
    failing = FakeProvider.failing(ContentFilteredError("secret words"))
    async with open_client(failing) as client:
        url = await _opened(client, 1)
        text = (await client.get(url)).text

    assert '"error_code":"content_filtered"' in text
    assert "secret words" not in text
    assert "scene 0" not in text


async def test_calling_off_is_told(open_client: OpenClient) -> None:
    """Who watches sees that it was called off, and what that ended."""
    provider = HeldProvider()
    async with open_client(provider) as client:
        url = await _opened(client, 3, max_concurrent=1)
        reading = asyncio.create_task(_all(client, url))
        await provider.called()
        await client.delete(url.removesuffix("/events"))
        provider.go.set()
        events = await reading

    kinds = [event.kind for event in events]
    assert kinds.count("batch_cancelled") == kinds.count(FINAL) == 1
    assert kinds.count("cancelled") == 2
    assert kinds[-1] == FINAL


async def test_a_slow_reader_bothers_nobody(open_client: OpenClient) -> None:
    """One that reads nothing keeps neither the work nor the other readers waiting."""
    async with open_client() as client, asyncio.timeout(60):
        url = await _opened(client, 40, max_concurrent=8)
        async with client.stream("GET", url) as stalled:
            others = await asyncio.gather(*(_all(client, url) for _ in range(10)))
            late = [event async for event in _read(stalled)]

    assert all(events == others[0] for events in others)
    assert late == others[0]


async def test_readers_that_leave_leave_nothing(open_client: OpenClient) -> None:
    """A reader that hangs up is forgotten, and the batch goes on."""
    provider = HeldProvider()
    async with open_client(provider) as client, asyncio.timeout(60):
        url = await _opened(client, 2)
        for _ in range(5):
            async with client.stream("GET", url) as told:
                await anext(_read(told))
        under_way = 2
        while under_way > 1:
            under_way = (await client.get("/api/stats")).json()["requests_under_way"]
        provider.go.set()
        events = await _all(client, url)

    assert events[-1].kind == FINAL


async def test_a_server_that_stops_lets_readers_go(tmp_path: Path) -> None:
    """A stream ends when the server is about to stop; its reader comes back."""
    provider = HeldProvider()
    gaia = Gaia.open(settings_in(tmp_path), plugins=[provider], discover=False)
    app = create_app(gaia, auth=nobody_asked)
    async with (
        serving(app) as address,
        httpx.AsyncClient(base_url=address, timeout=60) as client,
    ):
        url = await _opened(client, 1)
        reading = asyncio.create_task(_all(client, url))
        await provider.called()
        app.state.gaia_site.traffic.closing.set()
        events = await reading
        refused = await client.get(url)
        provider.go.set()

    assert FINAL not in {event.kind for event in events}
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
