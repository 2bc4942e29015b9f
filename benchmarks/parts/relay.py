"""
What a host would write without Gaia: a bare FastAPI app that relays with aiohttp.

It checks nothing, keeps nothing and forgets everything::

    python benchmarks/parts/relay.py PORT URL FILE

``POST /v1/images/generations`` goes to URL as it came; ``GET /file`` is Starlette's
own way to send FILE.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse


def relay(url: str, file: str) -> FastAPI:
    """Make the app."""
    sessions: list[aiohttp.ClientSession] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0)
        ) as session:
            sessions.append(session)
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/images/generations")
    async def generate(request: Request) -> Response:
        asked = await request.json()
        async with sessions[0].post(f"{url}/v1/images/generations", json=asked) as came:
            return Response(
                await came.read(), came.status, media_type="application/json"
            )

    @app.get("/file")
    async def send() -> FileResponse:
        return FileResponse(file)

    return app


if __name__ == "__main__":
    port, upstream, path = sys.argv[1:]
    uvicorn.run(
        relay(upstream, path), port=int(port), log_level="error", access_log=False
    )
