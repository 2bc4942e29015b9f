"""Waiting for work as long as its client does."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import Request

T = TypeVar("T")


class ClientGoneError(Exception):
    """Nobody waits for the answer any more; there is nobody to tell."""


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """
    Wait for work; give it up when the client hangs up.

    What was sent to a provider by then goes on by itself, is stored and is charged
    once: that is the engine's promise. What was not sent costs nothing.

    Args:
        request: The request, its body read.
        work: What to wait for.

    Raises:
        ClientGoneError: If the client hung up.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_until_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGoneError
    finally:
        for task in (working, leaving):
            task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await working


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
