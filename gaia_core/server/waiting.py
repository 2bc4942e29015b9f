"""Waiting for work as long as its client does."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import Request

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
    leaving = asyncio.ensure_future(_until_gone(request))
    try:
        # A deadline that is over at the moment the client leaves: the standard
        # library knows how to tell that cancellation from every other.
        async with asyncio.timeout(None) as patience:
            leaving.add_done_callback(lambda gone: _end(patience, gone))
            return await work
    except TimeoutError:
        if patience.expired():
            raise ClientGoneError from None
        raise
    finally:
        leaving.cancel()
        work.close()


def _end(patience: asyncio.Timeout, gone: "asyncio.Future[None]") -> None:
    if gone.cancelled() or gone.exception() is not None:
        return
    with suppress(RuntimeError):
        # It may be over already.
        patience.reschedule(0.0)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
