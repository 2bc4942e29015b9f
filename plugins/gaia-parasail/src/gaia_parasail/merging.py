"""Several streams as one, no faster than it is read."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def merged(
    streams: Iterable[AsyncGenerator[T, None]],
) -> AsyncGenerator[T, None]:
    """
    Give what several streams give, as it comes; each waits until that is taken.

    Raises:
        Exception: The first that a stream raises; the others are closed then.
    """
    queue: asyncio.Queue[tuple[T] | Exception | None] = asyncio.Queue(maxsize=1)
    tasks = [asyncio.create_task(_drain(stream, queue)) for stream in streams]
    running = len(tasks)
    try:
        while running:
            match await queue.get():
                case None:
                    running -= 1
                case Exception() as error:
                    raise error
                case (given,):
                    yield given
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _drain(
    stream: AsyncGenerator[T, None],
    queue: asyncio.Queue[tuple[T] | Exception | None],
) -> None:
    """Put what a stream gives into a queue, and how it ended."""
    try:
        async with aclosing(stream):
            async for given in stream:
                await queue.put((given,))
    except Exception as error:  # noqa: BLE001  whoever reads the queue raises it
        await queue.put(error)
    else:
        await queue.put(None)
