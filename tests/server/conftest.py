"""A real server on a socket of this machine, and a client that talks to it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from gaia_core import Gaia, Settings
from gaia_core.server import Auth, create_app, nobody_asked
from gaia_core.settings import ServerSettings
from gaia_core.testing import FakeProvider

Serve = Callable[..., AbstractAsyncContextManager[str]]
OpenClient = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


class Quiet(uvicorn.Server):
    """A server that leaves the signals of this process alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@asynccontextmanager
async def serving(app: FastAPI, **options: Any) -> AsyncIterator[str]:
    """Serve an app on a free port; give its address."""
    config = uvicorn.Config(app, port=0, log_level="warning", **options)
    server = Quiet(config)
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(30):
        while not server.started:
            if task.done():
                await task
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


def settings_in(folder: Path, **fields: Any) -> Settings:
    """Keep everything in one folder; ``server`` may be a dict of its fields."""
    server = fields.pop("server", {})
    return Settings(
        database=f"sqlite:///{folder / 'gaia.db'}",
        image_store=folder / "images",
        spill=folder / "spill",
        server=ServerSettings(**server) if isinstance(server, dict) else server,
        **fields,
    )


@pytest.fixture(name="open_client")
def _open_client(tmp_path: Path) -> OpenClient:
    """Give a function that opens a client to a server with the given providers."""

    @asynccontextmanager
    async def open_client(
        *providers: object,
        auth: Auth | None = nobody_asked,
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> AsyncIterator[httpx.AsyncClient]:
        gaia = Gaia.open(
            settings_in(tmp_path, **fields),
            plugins=providers or (FakeProvider(),),
            discover=False,
        )
        async with (
            serving(create_app(gaia, auth=auth)) as url,
            httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client,
        ):
            yield client

    return open_client
