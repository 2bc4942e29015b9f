"""Small jobs of one shape are drawn together, and everybody gets what is theirs."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from gaia_core import Capability
from gaia_flux.batching import Batcher
from gaia_flux.isolation import ProcessWorker
from gaia_flux.jobs import Drawn, Job, Preview, StoppedError
from gaia_flux.setups import Setup
from gaia_flux.weights import WeightsError
from gaia_flux.workers import ThreadWorker, WorkerDiedError

from .squares import PROGRAM, Squares, ignore, job

PATIENCE = 30.0


@pytest.fixture(name="studio")
def _studio() -> Squares:
    """Draw at most eight squares at once."""
    return Squares(Setup(device="cpu"))


@pytest.fixture(name="batcher")
def _batcher(studio: Squares) -> Batcher:
    worker = ThreadWorker(setup=studio.setup, studio=lambda _: studio)
    return Batcher(worker=worker, window=0.010)


async def _drawing(
    batcher: Batcher, *jobs: Job
) -> "tuple[asyncio.Task[tuple[Drawn, ...]], ...]":
    """Ask for jobs one after the other, at once."""
    tasks = tuple(asyncio.create_task(batcher.draw([one], ignore)) for one in jobs)
    await asyncio.sleep(0)
    return tasks


async def _begun(batcher: Batcher, prompt: str, **changes: Any) -> Any:
    """Ask for a job and wait for its first report."""
    has_begun = threading.Event()

    def report(*_: object) -> None:
        has_begun.set()

    task = asyncio.create_task(batcher.draw([job(prompt, **changes)], report))
    assert await asyncio.to_thread(has_begun.wait, PATIENCE)
    return task


def _sizes(studio: Squares) -> list[int]:
    return [len(batch) for batch in studio.drawn]


async def test_jobs_that_come_together_are_drawn_together(
    batcher: Batcher, studio: Squares
) -> None:
    """Eight jobs are one batch, and each gets its own picture."""
    jobs = [job(f"square {number}", seeds=(number,)) for number in range(8)]
    alone = [Squares(studio.setup).draw([one], ignore)[0] for one in jobs]

    drawn = await asyncio.gather(*(batcher.draw([one], ignore) for one in jobs))
    figures = await batcher.figures()
    await batcher.close()

    assert [one for (one,) in drawn] == alone
    assert _sizes(studio) == [8]
    assert figures["batches"] == {8: 1}


async def test_jobs_that_come_meanwhile_are_gathered(
    batcher: Batcher, studio: Squares, tmp_path: Path
) -> None:
    """What arrives while a batch is drawn waits for nothing but that."""
    go = tmp_path / "go"
    first = await _begun(batcher, f"wait {go}")
    rest = await _drawing(batcher, *(job(f"square {number}") for number in range(5)))

    go.touch()
    await asyncio.gather(first, *rest)
    await batcher.close()

    assert _sizes(studio) == [1, 5]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"width": 72}, id="size"),
        pytest.param({"model": "circles"}, id="model"),
        pytest.param({"num_inference_steps": 5}, id="steps"),
        pytest.param({"guidance_scale": 2.0}, id="guidance"),
        pytest.param({"scheduler": "Euler"}, id="scheduler"),
        pytest.param({"negative_prompt": "red"}, id="negative-prompt"),
    ],
)
async def test_jobs_of_other_shapes_are_drawn_apart(
    batcher: Batcher, studio: Squares, changes: dict[str, Any]
) -> None:
    """Only equal jobs share a batch; the order of the first of each is kept."""
    jobs = (job("a"), job("b", **changes), job("c"), job("d", **changes))

    await asyncio.gather(*await _drawing(batcher, *jobs))
    await batcher.close()

    assert studio.drawn == [("a", "c"), ("b", "d")]


@pytest.mark.parametrize(
    ("side", "sizes"),
    [
        pytest.param(64, [8, 2], id="64"),
        pytest.param(256, [8, 2], id="256"),
        pytest.param(512, [4, 4, 2], id="512"),
        pytest.param(704, [2, 2, 2, 2, 2], id="704"),
        pytest.param(768, [1] * 10, id="768"),
        pytest.param(1024, [1] * 10, id="1024"),
        pytest.param(2048, [1] * 10, id="2048"),
    ],
)
async def test_batches_fit_into_memory(
    batcher: Batcher, studio: Squares, side: int, sizes: list[int]
) -> None:
    """The larger the pictures, the fewer share a batch; large ones never do."""
    jobs = [job(f"square {n}", width=side, height=side) for n in range(10)]

    await asyncio.gather(*await _drawing(batcher, *jobs))
    await batcher.close()

    assert _sizes(studio) == sizes


async def test_pictures_are_counted_not_jobs(batcher: Batcher, studio: Squares) -> None:
    """A job of three pictures takes three places; one of more than fit goes alone."""
    jobs = [job(f"square {n}", seeds=tuple(range(3))) for n in range(5)]
    large = job("many", seeds=tuple(range(9)))

    results = await asyncio.gather(*await _drawing(batcher, *jobs, large))
    await batcher.close()

    assert _sizes(studio) == [2, 2, 1, 1]
    assert [len(one.pictures) for (one,) in results] == [3, 3, 3, 3, 3, 9]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"step_cache": "first-block"}, id="step-cache"),
        pytest.param({"capability": Capability.UPSCALING}, id="upscaling"),
        pytest.param({"capability": Capability.IMAGE_TO_IMAGE}, id="image-to-image"),
        pytest.param({"reference_images": (b"png",)}, id="reference-images"),
    ],
)
async def test_some_jobs_never_share(
    batcher: Batcher, studio: Squares, changes: dict[str, Any]
) -> None:
    """Where neighbours would show in a picture, there are none."""
    jobs = [job(f"square {n}", **changes) for n in range(3)]

    await asyncio.gather(*await _drawing(batcher, *jobs))
    await batcher.close()

    assert _sizes(studio) == [1, 1, 1]


async def test_company_is_waited_for_only_where_it_is_likely(
    batcher: Batcher, studio: Squares
) -> None:
    """After a batch a job waits for others; after one alone it does not."""
    batcher.window = 4 * PATIENCE  # whoever waits for its end fails the test
    side = 576  # three of that size are a full batch

    async def one(pause: float) -> None:
        await asyncio.sleep(pause)
        await batcher.draw([job(f"{pause}", width=side, height=side)], ignore)

    async with asyncio.timeout(PATIENCE):
        await one(0)
        await asyncio.gather(one(0), one(0))
        await asyncio.gather(one(0.1), one(0.2), one(0.3))
    await batcher.close()

    assert _sizes(studio) == [1, 2, 3]


async def test_full_batch_waits_no_longer(batcher: Batcher, studio: Squares) -> None:
    """Eight jobs are as many as can share: nothing more is waited for."""
    batcher.window = PATIENCE
    for _ in range(2):
        jobs = [job(f"square {number}") for number in range(8)]
        async with asyncio.timeout(PATIENCE / 2):
            await asyncio.gather(*await _drawing(batcher, *jobs))
    await batcher.close()

    assert _sizes(studio) == [8, 8]


async def test_cancelled_job_leaves_the_others_alone(
    batcher: Batcher, studio: Squares, tmp_path: Path
) -> None:
    """One of a batch is given up; the rest is drawn, and nobody notices."""
    go = tmp_path / "go"
    first = await _begun(batcher, "wait " + str(tmp_path / "start"))
    given_up, kept = await _drawing(batcher, job("a"), job(f"wait {go}"))
    (tmp_path / "start").touch()
    await first
    given_up.cancel()
    go.touch()

    (drawn,) = await kept
    await batcher.close()

    assert given_up.cancelled()
    assert drawn.pictures
    assert studio.drawn[-1] == ("a", f"wait {go}")


async def test_batch_that_nobody_wants_stops(
    batcher: Batcher, studio: Squares, tmp_path: Path
) -> None:
    """When all of a batch are cancelled, the device is free for others."""
    start = tmp_path / "start"
    first = await _begun(batcher, f"wait {start}")
    tasks = await _drawing(batcher, job("a"), job(f"wait {tmp_path / 'never'}"))
    start.touch()
    await first

    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    async with asyncio.timeout(PATIENCE / 2):
        await batcher.draw([job("next")], ignore)
    await batcher.close()

    assert all(task.cancelled() for task in tasks)
    assert studio.drawn[-1] == ("next",)


async def test_job_cancelled_in_the_queue_is_not_drawn(
    batcher: Batcher, studio: Squares, tmp_path: Path
) -> None:
    """Who gives up before the turn takes no place in a batch."""
    go = tmp_path / "go"
    first = await _begun(batcher, f"wait {go}")
    given_up, kept = await _drawing(batcher, job("a"), job("b"))

    given_up.cancel()
    await asyncio.wait({given_up})
    go.touch()
    await asyncio.gather(first, kept)
    await batcher.close()

    assert studio.drawn == [(f"wait {go}",), ("b",)]


async def test_progress_goes_to_everybody_and_previews_to_none(
    batcher: Batcher,
) -> None:
    """All of a batch hear how far it is; nobody sees another's picture."""
    seen: dict[str, list[tuple[float, Preview | None]]] = {"a": [], "b": []}

    def report(name: str) -> Callable[..., None]:
        return lambda *told: seen[name].append(told)

    tasks = [batcher.draw([job(name)], report(name)) for name in seen]
    await asyncio.gather(*tasks)
    await batcher.close()

    expected = [(fraction, None) for fraction in (0.25, 0.5, 0.75, 1.0)]
    assert seen == {"a": expected, "b": expected}


async def test_job_alone_has_its_previews(batcher: Batcher) -> None:
    """Who shares with nobody sees the picture come."""
    seen: list[Preview | None] = []

    await batcher.draw([job()], lambda _, preview: seen.append(preview))
    await batcher.close()

    assert all(preview is not None for preview in seen)
    assert len(seen) == 4


async def test_report_that_raises_ends_only_its_own_job(batcher: Batcher) -> None:
    """A caller's fault is that caller's."""

    def broken(*_: object) -> None:
        message = "broken"
        raise LookupError(message)

    results = await asyncio.gather(
        batcher.draw([job("a")], broken),
        batcher.draw([job("b")], ignore),
        return_exceptions=True,
    )
    await batcher.close()

    assert isinstance(results[0], LookupError)
    assert isinstance(results[1], tuple)


async def test_batch_too_large_for_memory_is_drawn_singly(
    batcher: Batcher, studio: Squares
) -> None:
    """What does not fit together is drawn one by one, before what came later."""
    studio.biggest_batch = 2
    jobs = [job(f"square {number}") for number in range(3)]
    later = job("later", width=128)

    results = await asyncio.gather(*await _drawing(batcher, *jobs, later))
    await batcher.close()

    assert all(one.pictures for (one,) in results)
    assert _sizes(studio) == [3, 1, 1, 1, 1]
    assert studio.drawn[-1] == ("later",)


async def test_job_that_fails_does_not_fail_its_batch(batcher: Batcher) -> None:
    """Drawn singly, the others come out, and the error is the one's who caused it."""
    results = await asyncio.gather(
        *await _drawing(batcher, job("a"), job("refuse this"), job("c")),
        return_exceptions=True,
    )
    await batcher.close()

    assert [type(one) for one in results] == [tuple, ValueError, tuple]


async def test_damaged_weights_are_not_tried_again(
    batcher: Batcher, studio: Squares
) -> None:
    """What each would meet alone just as well is told to all at once."""
    results = await asyncio.gather(
        *await _drawing(batcher, job("damaged file"), job("b")), return_exceptions=True
    )
    await batcher.close()

    assert [type(one) for one in results] == [WeightsError, WeightsError]
    assert _sizes(studio) == [2]


async def test_death_of_the_worker_is_told_to_the_whole_batch() -> None:
    """What killed a process is not tried again here, with seven others at risk."""
    worker = ProcessWorker(setup=Setup(device="cpu"), command=PROGRAM)
    batcher = Batcher(worker=worker)

    results = await asyncio.gather(
        *await _drawing(batcher, job("kill"), job("b")), return_exceptions=True
    )
    (after,) = await batcher.draw([job("c")], ignore)
    figures = await batcher.figures()
    await batcher.close()

    assert [type(one) for one in results] == [WorkerDiedError, WorkerDiedError]
    assert after.pictures
    assert (figures["batches"], figures["drawn"]) == ({1: 1, 2: 1}, 1)


async def test_closing_stops_what_is_under_way_and_what_waits(
    batcher: Batcher, tmp_path: Path
) -> None:
    """Whoever still waits hears that it was stopped, and no task is left."""
    first = await _begun(batcher, f"wait {tmp_path / 'never'}")
    second, third = await _drawing(batcher, job("b"), job("c", width=128))

    await batcher.close()
    results = await asyncio.gather(first, second, third, return_exceptions=True)

    assert [type(one) for one in results] == [StoppedError] * 3
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_batcher_serves_one_event_loop_after_another(
    batcher: Batcher, studio: Squares, tmp_path: Path
) -> None:
    """An event loop that ends in the middle leaves the next one a clean table."""

    async def interrupted() -> None:
        await _begun(batcher, f"wait {tmp_path / 'never'}")
        await _drawing(batcher, job("a"), job("b"))

    async def both() -> list[tuple[Drawn, ...]]:
        return await asyncio.gather(*await _drawing(batcher, job("c"), job("d")))

    asyncio.run(interrupted())
    results = asyncio.run(both())
    asyncio.run(batcher.close())

    assert len(results) == 2
    assert studio.drawn[-1] == ("c", "d")


async def test_models_in_memory_are_the_workers(batcher: Batcher) -> None:
    """What a worker tells of itself is told through the batcher too."""
    await batcher.warm_up("circles")

    assert batcher.loaded() == {"circles"}
    await batcher.close()


def test_shape_is_compared_without_what_may_differ() -> None:
    """Id, prompt and seeds may differ within a batch."""
    one, other = job("a"), attrs.evolve(job("b"), id="x", seeds=(8,))

    assert one.shape == other.shape
