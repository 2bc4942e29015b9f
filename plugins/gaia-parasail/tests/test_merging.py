"""Several streams as one."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from gaia_parasail.merging import merged


async def _counting(
    start: int, count: int, closed: list[int]
) -> AsyncGenerator[int, None]:
    try:
        for number in range(start, start + count):
            await asyncio.sleep(0)
            yield number
    finally:
        closed.append(start)


async def _failing() -> AsyncGenerator[int, None]:
    await asyncio.sleep(0)
    yield -1
    raise KeyError


async def test_everything_comes_through() -> None:
    """What each stream gives comes, each in its own order."""
    closed: list[int] = []

    given = [n async for n in merged([_counting(s, 20, closed) for s in (0, 100)])]

    assert sorted(given) == [*range(20), *range(100, 120)]
    assert [n for n in given if n < 100] == list(range(20))
    assert sorted(closed) == [0, 100]


async def test_none_are_none() -> None:
    """No stream gives nothing, at once."""
    streams: list[AsyncGenerator[int, None]] = []

    assert [n async for n in merged(streams)] == []


async def test_one_that_fails_ends_all() -> None:
    """What a stream raises is raised; the others are closed."""
    closed: list[int] = []

    with pytest.raises(KeyError):
        async for _ in merged([_counting(0, 1_000, closed), _failing()]):
            pass

    assert closed == [0]


async def test_nothing_is_made_that_nobody_takes() -> None:
    """Streams wait for the reader, and end with it."""
    closed: list[int] = []
    made = merged([_counting(0, 1_000, closed)])

    async with aclosing(made):
        first = await anext(made)
        await asyncio.sleep(0.02)

    assert first == 0
    assert closed == [0]
