"""Clients that hang up: what was sent is kept and paid once, all else costs nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import attrs
import httpx
import pytest

from gaia_core import Gaia
from gaia_core.ledger import OperationState
from gaia_core.server import create_app, nobody_asked
from gaia_core.settings import ProviderSettings
from gaia_core.testing import FakeProvider
from tests.server.conftest import serving, settings_in
from tests.waiting import HeldProvider, until

CLIENTS = 50


@attrs.frozen(kw_only=True)
class World:
    """
    A server, and what is behind it.

    Attributes:
        url: Where it is.
        gaia: What it works with.
    """

    url: str
    gaia: Gaia

    async def states(self) -> list[OperationState]:
        """Tell where every operation stands."""
        return [one.state for one in await self.gaia.ledger.listed(limit=1_000)]


@asynccontextmanager
async def world(folder: Path, *providers: FakeProvider) -> AsyncIterator[World]:
    """Serve some providers, from a folder."""
    gaia = Gaia.open(settings_in(folder), plugins=providers, discover=False)
    async with serving(create_app(gaia, auth=nobody_asked)) as url:
        yield World(url=url, gaia=gaia)


def raw(body: Mapping[str, object], *headers: str) -> bytes:
    """Write a request as it goes over the wire."""
    data = json.dumps(body).encode()
    lines = [
        "POST /api/images/generate HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + data


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection to a server."""
    address = httpx.URL(url)
    return await asyncio.open_connection(address.host, address.port)


async def ask(url: str, number: int, *headers: str) -> asyncio.StreamWriter:
    """Ask for a picture, and do not wait for it."""
    _, writer = await connect(url)
    writer.write(raw({"prompt": f"dragon {number}", "size": "64x64"}, *headers))
    await writer.drain()
    return writer


async def hang_up(writers: Sequence[asyncio.StreamWriter]) -> None:
    """Leave, without a word."""
    for writer in writers:
        writer.transport.abort()
    for writer in writers:
        with suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize(
    "header", ["Accept: application/json", "Accept: text/event-stream"]
)
async def test_what_was_sent_is_kept_and_paid_once(tmp_path: Path, header: str) -> None:
    """50 clients leave after their request was sent: 50 results, 50 charges."""
    held = HeldProvider(price_usd="0.01")
    async with world(tmp_path, held) as served:
        writers = [await ask(served.url, n, header) for n in range(CLIENTS)]
        await held.called(CLIENTS)
        await hang_up(writers)
        walks = served.gaia._door._walks.values()
        await until(lambda: all(walk.is_left for walk in walks))
        held.go.set()
        await until(lambda: not served.gaia._door._walks)
        states = await served.states()
        async with httpx.AsyncClient(base_url=served.url) as client:
            kept = (await client.get("/api/images", params={"limit": 100})).json()
            pictures = [await client.get(one["url"]) for one in kept["images"]]
            # No slot is lost: as many again are served.
            after = await client.post(
                "/api/images/generate", json={"prompt": "after", "size": "64x64"}
            )

    assert states == [OperationState.DONE] * CLIENTS
    assert len(kept["images"]) == CLIENTS
    assert all(picture.status_code == 200 for picture in pictures)
    assert len(held.charges) == CLIENTS + 1
    assert after.status_code == 200


async def test_what_was_not_sent_costs_nothing(tmp_path: Path) -> None:
    """Whoever leaves while waiting for a turn is not worked for."""
    one_at_a_time = HeldProvider(price_usd="0.01")
    settings = settings_in(tmp_path)

    settings = attrs.evolve(
        settings, providers={"fake": ProviderSettings(name="fake", max_concurrent=1)}
    )
    gaia = Gaia.open(settings, plugins=[one_at_a_time], discover=False)
    async with serving(create_app(gaia, auth=nobody_asked)) as url:
        first = await ask(url, 0)
        await one_at_a_time.called()
        waiting = [await ask(url, n) for n in range(1, 11)]
        await until(lambda: len(gaia._door._walks) == 11)
        await hang_up(waiting)
        await until(lambda: len(gaia._door._walks) == 1)
        one_at_a_time.go.set()
        await until(lambda: not gaia._door._walks)
        listed = await gaia.ledger.listed()
        states = sorted(one.state for one in listed)
        await hang_up([first])

    assert states == [OperationState.CANCELLED] * 10 + [OperationState.DONE]
    assert len(one_at_a_time.charges) == 1


async def test_a_connection_that_stays_open_serves_again(tmp_path: Path) -> None:
    """Watching whether the client leaves takes nothing of its next request."""
    async with (
        world(tmp_path, FakeProvider()) as served,
        httpx.AsyncClient(base_url=served.url) as client,
    ):
        answers = [
            await client.post(
                "/api/images/generate", json={"prompt": f"{n}", "size": "64x64"}
            )
            for n in range(5)
        ]

    assert [answer.status_code for answer in answers] == [200] * 5


async def test_requests_sent_ahead_are_answered_in_turn(tmp_path: Path) -> None:
    """Two requests at once on one connection: two answers, in their order."""
    async with world(tmp_path, FakeProvider()) as served:
        reader, writer = await connect(served.url)
        bodies = [{"prompt": f"keep {n}", "size": "64x64"} for n in (1, 2)]
        writer.write(b"".join(raw(body) for body in bodies))
        async with asyncio.timeout(30):
            text = b""
            while text.count(b'"success":true') < 2:
                text += await reader.read(65_536)
        writer.close()
        await writer.wait_closed()

    assert text.index(b"keep 1") < text.index(b"keep 2")


async def test_a_body_that_comes_in_pieces_is_taken(tmp_path: Path) -> None:
    """A streamed body is read to its end before anybody is asked."""
    body = json.dumps({"prompt": "a keep", "size": "64x64"}).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for place in range(0, len(body), 7):
            yield body[place : place + 7]
            await asyncio.sleep(0)

    async with (
        world(tmp_path, FakeProvider()) as served,
        httpx.AsyncClient(base_url=served.url) as client,
    ):
        answer = await client.post(
            "/api/images/generate",
            content=pieces(),
            headers={"Content-Type": "application/json"},
        )

    assert answer.status_code == 200


async def test_a_deadline_that_passes_after_sending_names_the_operation(
    tmp_path: Path,
) -> None:
    """504, charged or not: nobody knows; later the operation says."""
    held = HeldProvider(price_usd="0.01")
    async with (
        world(tmp_path, held) as served,
        httpx.AsyncClient(base_url=served.url, timeout=30) as client,
    ):
        answer = await client.post(
            "/api/images/generate",
            json={"prompt": "a keep", "size": "64x64", "timeout": 0.5},
        )
        held.go.set()
        await until(lambda: not served.gaia._door._walks)
        operation = await client.get(f"/api/operations/{answer.json()['operation_id']}")

    assert answer.status_code == 504
    assert answer.json()["error_type"] == "unknown_outcome"
    assert answer.json()["billed"] is None
    assert operation.json()["state"] == "done"
    assert len(operation.json()["images"]) == 1
    assert len(held.charges) == 1
