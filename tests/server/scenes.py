"""Batches of scenes, and callers who open them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import Request

from gaia_core.server import Principal, Scope
from tests.server.conftest import OpenClient

ROUTE = "/api/images/batch"
KEY = {"Idempotency-Key": "scenes"}


def prompts(count: int, **fields: Any) -> list[dict[str, Any]]:
    """Ask for some scenes."""
    return [{"prompt": f"scene {place}", **fields} for place in range(count)]


async def post(
    client: httpx.AsyncClient, requests: list[Any], key: str = "scenes", **fields: Any
) -> httpx.Response:
    """Open a batch."""
    return await client.post(
        ROUTE,
        json={"requests": requests, **fields},
        headers={"Idempotency-Key": key},
    )


async def finished(client: httpx.AsyncClient, batch_id: str) -> dict[str, Any]:
    """Wait until a batch has ended; give it with its first items."""
    async with client.stream("GET", f"{ROUTE}/{batch_id}/events") as answer:
        async for _ in answer.aiter_lines():
            pass
    found: dict[str, Any] = (await client.get(f"{ROUTE}/{batch_id}")).json()
    assert found["state"] == "finished"
    return found


async def by_name(request: Request) -> Principal | None:
    """Take a caller's word for who they are."""
    name = request.headers.get("x-name")
    scopes = set(Scope) - ({Scope.ON_BEHALF} if name == "bob" else set())
    return None if name is None else Principal(name=name, scopes=scopes)


@asynccontextmanager
async def two_callers(
    open_client: OpenClient, *providers: object
) -> AsyncIterator[tuple[httpx.AsyncClient, dict[str, str]]]:
    """Open a client that calls as ann; give the headers that make it bob."""
    async with open_client(*providers, auth=by_name) as client:
        client.headers["x-name"] = "ann"
        yield client, {"x-name": "bob"}
