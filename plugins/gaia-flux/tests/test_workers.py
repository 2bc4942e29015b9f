"""One thread draws beside the event loop, and stops when nobody waits."""

import asyncio
import gc
import threading
import weakref
from pathlib import Path

import attrs
import pytest

from gaia_flux.jobs import Drawn, Preview, StoppedError
from gaia_flux.setups import Setup
from gaia_flux.workers import ThreadWorker, worker_of

from .squares import Squares, ignore, job


@pytest.fixture(name="studios")
def _studios() -> list[Squares]:
    """Keep every studio that a worker made."""
    return []


@pytest.fixture(name="worker")
def _worker(studios: list[Squares]) -> ThreadWorker:
    def make(setup: Setup) -> Squares:
        studios.append(Squares(setup))
        return studios[-1]

    return ThreadWorker(setup=Setup(device="cpu"), studio=make)


@attrs.define(eq=False)
class Reports:
    """Keeps reports; tells the event loop when the first one is there."""

    fractions: list[float] = attrs.field(factory=list)
    threads: set[str] = attrs.field(factory=set)
    has_begun: threading.Event = attrs.field(factory=threading.Event)

    def __call__(self, fraction: float, _: Preview | None = None) -> None:
        """Keep a report."""
        self.fractions.append(fraction)
        self.threads.add(threading.current_thread().name)
        self.has_begun.set()

    async def begun(self) -> None:
        """Wait for the first report."""
        assert await asyncio.to_thread(self.has_begun.wait, 30)


async def test_job_is_drawn_in_one_thread(
    worker: ThreadWorker, studios: list[Squares]
) -> None:
    """The studio is made, used and closed in a thread that is not the loop's."""
    reports = Reports()

    (drawn,) = await worker.draw([job()], reports)
    await worker.close()

    assert [picture.seed for picture in drawn.pictures] == [7]
    assert reports.fractions == [0.25, 0.5, 0.75, 1.0]
    (studio,) = studios
    assert studio.is_closed
    assert studio.threads == reports.threads == {"gaia-flux_0"}


async def test_jobs_are_drawn_in_the_order_of_arrival(
    worker: ThreadWorker, studios: list[Squares]
) -> None:
    """Who came first is drawn first."""
    prompts = [f"square {number}" for number in range(6)]

    await asyncio.gather(*(worker.draw([job(one)], ignore) for one in prompts))
    await worker.close()

    assert studios[0].drawn == [(one,) for one in prompts]


async def test_cancelled_job_stops_at_its_next_report(
    worker: ThreadWorker, studios: list[Squares], tmp_path: Path
) -> None:
    """The thread is free for the next job long before the stopped one was done."""
    reports = Reports()
    task = asyncio.create_task(worker.draw([job(f"wait {tmp_path / 'x'}")], reports))
    await reports.begun()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    told = len(reports.fractions)
    async with asyncio.timeout(20):
        await worker.draw([job("next")], ignore)
    await worker.close()

    assert len(reports.fractions) == told
    assert studios[0].drawn[-1] == ("next",)


async def test_job_cancelled_in_the_queue_never_starts(
    worker: ThreadWorker, studios: list[Squares], tmp_path: Path
) -> None:
    """What was taken back before its turn costs nothing."""
    go, reports = tmp_path / "go", Reports()
    first = asyncio.create_task(worker.draw([job(f"wait {go}")], reports))
    await reports.begun()
    second = asyncio.create_task(worker.draw([job("second")], ignore))
    third = asyncio.create_task(worker.draw([job("third")], ignore))
    await asyncio.sleep(0)

    second.cancel()
    go.touch()
    await asyncio.gather(first, third)
    await worker.close()

    assert second.cancelled()
    assert studios[0].drawn == [(f"wait {go}",), ("third",)]


async def test_closing_stops_what_is_under_way_and_what_waits(
    worker: ThreadWorker, studios: list[Squares], tmp_path: Path
) -> None:
    """Whoever still waits hears that it was stopped, and is not itself cancelled."""
    reports = Reports()
    first = asyncio.create_task(worker.draw([job(f"wait {tmp_path / 'x'}")], reports))
    second = asyncio.create_task(worker.draw([job("second")], ignore))
    await reports.begun()

    await worker.close()
    results = await asyncio.gather(first, second, return_exceptions=True)

    assert [type(one) for one in results] == [StoppedError, StoppedError]
    assert len(studios[0].drawn) == 1
    assert studios[0].is_closed


async def test_closing_leaves_no_thread(worker: ThreadWorker) -> None:
    """After it has closed nothing of a worker is left."""
    await worker.draw([job()], ignore)

    await worker.close()
    await worker.close()

    assert not [one for one in threading.enumerate() if "flux" in one.name]


async def test_closing_may_be_given_up() -> None:
    """A host that stops does not wait for a kernel that never comes back."""
    has_begun, go = threading.Event(), threading.Event()

    class Stuck(Squares):
        def draw(self, *_: object) -> tuple[Drawn, ...]:
            has_begun.set()
            assert go.wait(30)
            return ()

    worker = ThreadWorker(setup=Setup(device="cpu"), studio=Stuck)
    task = asyncio.create_task(worker.draw([job()], ignore))
    assert await asyncio.to_thread(has_begun.wait, 30)

    closing = asyncio.create_task(worker.close())
    await asyncio.sleep(0.01)
    closing.cancel()
    await asyncio.wait({closing}, timeout=10)
    is_given_up = closing.cancelled()
    go.set()
    await asyncio.wait({task, closing})

    assert is_given_up


async def test_event_loop_stays_free_while_a_job_is_drawn(
    worker: ThreadWorker, tmp_path: Path
) -> None:
    """Only a free event loop comes to the line that lets the job end."""
    go = tmp_path / "go"
    task = asyncio.create_task(worker.draw([job(f"wait {go}")], ignore))
    await asyncio.sleep(0.01)
    go.touch()

    (drawn,) = await task
    await worker.close()

    assert drawn.warnings == ("squares only",)


def test_worker_serves_one_event_loop_after_another(
    worker: ThreadWorker, studios: list[Squares]
) -> None:
    """One studio serves two event loops; after closing, another begins."""

    async def one() -> tuple[Drawn, ...]:
        return await worker.draw([job()], ignore)

    first, second = asyncio.run(one()), asyncio.run(one())
    assert len(studios) == 1
    asyncio.run(worker.close())
    third = asyncio.run(one())
    asyncio.run(worker.close())

    assert first == second == third
    assert [studio.is_closed for studio in studios] == [True, True]


def test_event_loop_that_ends_stops_its_job(
    worker: ThreadWorker, tmp_path: Path
) -> None:
    """A host that is interrupted does not wait for a picture nobody gets."""

    async def interrupted() -> None:
        reports = Reports()
        prompt = f"wait {tmp_path / 'x'}"
        task = asyncio.create_task(worker.draw([job(prompt)], reports))
        await reports.begun()
        assert not task.done()

    asyncio.run(interrupted())
    (drawn,) = asyncio.run(worker.draw([job("next")], ignore))
    asyncio.run(worker.close())

    assert drawn.pictures


async def test_errors_travel_unchanged(worker: ThreadWorker) -> None:
    """What the studio raises is what the caller catches; the next job is drawn."""
    with pytest.raises(ValueError, match="round squares"):
        await worker.draw([job("refuse round squares")], ignore)

    (drawn,) = await worker.draw([job()], ignore)
    await worker.close()

    assert drawn.pictures


async def test_error_of_a_report_is_the_callers(worker: ThreadWorker) -> None:
    """A report that raises ends its job with just that."""

    def report(fraction: float, _: Preview | None) -> None:
        message = f"at {fraction}"
        raise LookupError(message)

    with pytest.raises(LookupError, match=r"at 0\.25"):
        await worker.draw([job()], report)
    await worker.close()


class Tensor:
    """Something that fills the memory of a device."""


async def test_kept_error_keeps_no_tensors_alive() -> None:
    """An error's frames are emptied: they would keep the device's memory."""
    alive: list[weakref.ref[Tensor]] = []

    class Failing(Squares):
        def draw(self, *_: object) -> tuple[Drawn, ...]:
            tensor = Tensor()
            alive.append(weakref.ref(tensor))
            try:
                self._fail(tensor)
            except LookupError as error:
                message = "no more room"
                raise MemoryError(message) from error
            return ()

        def _fail(self, tensor: Tensor) -> None:
            message = f"no room for {type(tensor).__name__}"
            raise LookupError(message)

    worker = ThreadWorker(setup=Setup(device="cpu"), studio=Failing)

    with pytest.raises(MemoryError) as caught:
        await worker.draw([job()], ignore)
    gc.collect()

    assert caught.value.__traceback__ is not None
    assert [one() for one in alive] == [None]
    await worker.close()


async def test_loaded_models_are_known(worker: ThreadWorker) -> None:
    """What is in memory is told without asking the thread."""
    assert worker.loaded() == frozenset()

    await worker.warm_up("circles")
    warm = worker.loaded()
    await worker.draw([job()], ignore)
    after = worker.loaded()
    await worker.close()

    assert warm == {"circles"}
    assert after == {"squares"}
    assert worker.loaded() == frozenset()


async def test_figures_do_not_wait_for_a_job(
    worker: ThreadWorker, tmp_path: Path
) -> None:
    """Who asks while a job is under way gets what was known before."""
    await worker.draw([job()], ignore)
    idle = await worker.figures()
    go, reports = tmp_path / "go", Reports()
    task = asyncio.create_task(worker.draw([job(f"wait {go}")], reports))
    await reports.begun()

    busy = await worker.figures()
    go.touch()
    await task
    await worker.close()

    assert (idle["drawn"], idle["is_busy"]) == (1, False)
    assert (busy["drawn"], busy["is_busy"]) == (1, True)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        pytest.param({}, "ThreadWorker", id="thread"),
        pytest.param({"is_isolated": True}, "ProcessWorker", id="process"),
        pytest.param({"has_batching": True}, "Batcher", id="batching"),
    ],
)
def test_setup_decides_about_the_worker(changes: dict[str, bool], name: str) -> None:
    """Nothing starts before the first job, whatever kind it is."""
    before = threading.active_count()

    worker = worker_of(Setup(device="cpu", **changes))

    assert type(worker).__name__ == name
    assert threading.active_count() == before
