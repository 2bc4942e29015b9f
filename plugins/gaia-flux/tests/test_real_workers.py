"""What the workers promise holds with real pipelines, too."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import attrs
import pytest

from gaia_flux.jobs import Drawn, Job, Preview
from gaia_flux.setups import Setup
from gaia_flux.workers import Worker, worker_of

from .squares import digest, ignore, job

# Where torch is not, there is nothing to draw with.
pytest.importorskip("gaia_flux.studio", exc_type=ImportError)


def _fox(**changes: Any) -> Job:
    return job("a fox", model="tiny-flux1-schnell", num_inference_steps=3, **changes)


def _pixels(drawn: Sequence[Drawn]) -> list[bytes]:
    return [picture.pixels for one in drawn for picture in one.pictures]


def _digests(drawn: Sequence[Drawn]) -> list[str]:
    return [digest(pixels) for pixels in _pixels(drawn)]


@pytest.fixture(name="worker")
async def _worker(setup: Setup) -> AsyncIterator[Worker]:
    """Draw in a thread."""
    worker = worker_of(setup)
    yield worker
    await worker.close()


@pytest.fixture(name="expected", scope="module")
def _expected(specs: Any) -> Sequence[Drawn]:
    """Draw one fox with a worker of its own, before anything else was drawn."""
    worker = worker_of(Setup(device="cpu", dtype="float32", models=specs))

    async def draw() -> Sequence[Drawn]:
        try:
            return await worker.draw([_fox()], ignore)
        finally:
            await worker.close()

    return asyncio.run(draw())


async def test_another_process_draws_the_same_bytes(
    setup: Setup, expected: Sequence[Drawn]
) -> None:
    """A picture does not depend on the process that draws it."""
    worker = worker_of(attrs.evolve(setup, is_isolated=True))

    drawn = await worker.draw([_fox()], ignore)
    loaded = worker.loaded()
    await worker.close()

    assert _digests(drawn) == _digests(expected)
    assert loaded == {"tiny-flux1-schnell"}


async def test_stopped_job_leaves_no_trace(
    worker: Worker, expected: Sequence[Drawn]
) -> None:
    """After a job was cancelled between two steps the next one has its own bytes."""
    loop = asyncio.get_running_loop()
    has_begun = asyncio.Event()

    def report(fraction: float, _: Preview | None) -> None:
        if fraction > 0:
            loop.call_soon_threadsafe(has_begun.set)

    other = _fox(seeds=tuple(range(100)))
    task = asyncio.create_task(worker.draw([other], report))
    await has_begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert _digests(await worker.draw([_fox()], ignore)) == _digests(expected)


async def test_requests_at_once_do_not_disturb_each_other(
    worker: Worker, expected: Sequence[Drawn]
) -> None:
    """Two callers of one model get the pictures they would have got alone."""
    jobs = [_fox(), _fox(seeds=(8,)), _fox()]

    drawn = await asyncio.gather(*(worker.draw([one], ignore) for one in jobs))

    first, second, third = (_digests(one) for one in drawn)
    assert first == third == _digests(expected) != second


async def test_batch_gives_everybody_their_own(
    setup: Setup, expected: Sequence[Drawn]
) -> None:
    """Drawn together, each gets the picture of the own seed, but for rounding."""
    worker = worker_of(attrs.evolve(setup, has_batching=True))
    jobs = [_fox(), _fox(seeds=(8,)), _fox(seeds=(9,))]

    drawn = await asyncio.gather(*(worker.draw([one], ignore) for one in jobs))
    figures = await worker.figures()
    await worker.close()

    mine, *others = (_pixels(one)[0] for one in drawn)
    alone = _pixels(expected)[0]
    assert figures["batches"] == {3: 1}
    assert max(_far(mine, alone)) <= 2
    assert all(max(_far(other, alone)) > 2 for other in others)


async def test_everybody_pays_for_the_own_pictures(setup: Setup) -> None:
    """The seconds of a batch are shared out by pictures, not by requests."""
    worker = worker_of(attrs.evolve(setup, has_batching=True))
    jobs = [_fox(), _fox(seeds=(8, 9, 10))]

    drawn = await asyncio.gather(*(worker.draw([one], ignore) for one in jobs))
    figures = await worker.figures()
    await worker.close()

    one, three = (each.seconds for (each,) in drawn)
    assert figures["batches"] == {2: 1}
    assert three == pytest.approx(3 * one)


def _far(one: bytes, other: bytes) -> list[int]:
    return [abs(a - b) for a, b in zip(one, other, strict=True)]
