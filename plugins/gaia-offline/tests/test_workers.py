"""Work runs beside the event loop, and stops when nobody waits for it."""

import asyncio
import threading

import pytest

from gaia_offline.workers import Report, Workers


def _ignore(fraction: float) -> None:
    """Report progress to nobody."""


async def test_cancelled_work_stops_at_its_next_report() -> None:
    """What nobody waits for ends as soon as it says how far it is."""
    workers, started, go, reported = Workers(1), *(threading.Event() for _ in range(3))

    def work(report: Report) -> None:
        started.set()
        go.wait(10)
        report(0.5)
        reported.set()

    task = asyncio.create_task(workers.run(work, _ignore))
    await asyncio.to_thread(started.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    await workers.close()

    assert not reported.is_set()


async def test_closing_leaves_the_event_loop_free() -> None:
    """Others go on while the last piece of work comes to its end."""
    workers, started, go = Workers(1), threading.Event(), threading.Event()

    def work(_: Report) -> bool:
        started.set()
        return go.wait(10)

    task = asyncio.create_task(workers.run(work, _ignore))
    await asyncio.to_thread(started.wait, 10)
    closing = asyncio.create_task(workers.close())
    await asyncio.sleep(0.01)
    go.set()  # only a free event loop comes to this line before the work has ended
    await closing

    assert await task


def test_event_loops_share_the_threads() -> None:
    """One provider serves one event loop after another, and starts again."""
    workers = Workers(2)

    async def both() -> list[int]:
        found = [workers.run(lambda _, n=n: n, _ignore) for n in range(2)]
        return await asyncio.gather(*found)

    first, second = asyncio.run(both()), asyncio.run(both())
    asyncio.run(workers.close())

    assert first == second == asyncio.run(both()) == [0, 1]
    asyncio.run(workers.close())
