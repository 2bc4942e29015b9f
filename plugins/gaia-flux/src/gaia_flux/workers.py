"""
Who draws: one thread per device, beside the event loop.

Torch releases the interpreter's lock while it computes, so a thread is enough to
leave the event loop free; `gaia_flux.isolation` puts the same behind a process of its
own, for hosts that must outlive a crash of the driver.
"""

import asyncio
import os
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

import attrs

from gaia_flux.hushes import hushed
from gaia_flux.jobs import Drawn, Job, Preview, Report, StoppedError
from gaia_flux.setups import Setup

T = TypeVar("T")


class WorkerDiedError(Exception):
    """The process that drew has ended; what it had under way is lost."""


class Worker(Protocol):
    """
    Draws jobs, one after the other, in the order in which they arrive.

    A worker serves one event loop after another, and starts again after `close`. A
    process that was forked off begins with a worker that has not started.
    """

    async def draw(self, jobs: Sequence[Job], report: Report) -> tuple[Drawn, ...]:
        """
        Draw jobs of one shape together.

        Cancelling whoever awaits it stops the work between two steps; what is not
        begun never begins.

        Args:
            jobs: What to draw; more than one only where their `shape` is the same.
            report: Takes the fraction done and perhaps a preview, in any thread.

        Returns:
            What was drawn, in the order of the jobs.

        Raises:
            StoppedError: If the worker was closed meanwhile.
            WorkerDiedError: If its process ended; the next job starts another.
        """

    async def figures(self) -> Mapping[str, Any]:
        """Tell about device and memory: as last known, while a job is under way."""

    def loaded(self) -> frozenset[str]:
        """Tell which models are in memory; asked often, so it costs nothing."""

    async def warm_up(self, model: str) -> None:
        """Load a model, and compile it where that is set, before it is asked for."""

    async def close(self) -> None:
        """Stop what is under way and let go of thread, process and memory."""


class StudioLike(Protocol):
    """What a worker needs of a `gaia_flux.studio.Studio`; used from one thread."""

    def draw(self, jobs: Sequence[Job], report: Report) -> tuple[Drawn, ...]:
        """Draw jobs of one shape."""

    def warm_up(self, model: str) -> None:
        """Load a model."""

    def loaded(self) -> tuple[str, ...]:
        """Tell which models are in memory."""

    def figures(self) -> Mapping[str, Any]:
        """Tell about device and memory."""

    def close(self) -> None:
        """Let go of everything."""


MakeStudio = Callable[[Setup], StudioLike]


def worker_of(setup: Setup, *, studio: MakeStudio | None = None) -> Worker:
    """
    Make the worker a setup asks for; nothing starts before its first job.

    Args:
        setup: Says whether the worker has a process of its own, and batches.
        studio: Makes what draws in a thread; None: the real one.
    """
    worker: Worker
    if setup.is_isolated:
        from gaia_flux.isolation import ProcessWorker  # noqa: PLC0415  it imports us

        worker = ProcessWorker(setup=setup)
    else:
        worker = ThreadWorker(setup=setup, studio=studio or studio_of)
    if setup.has_batching:
        from gaia_flux.batching import Batcher  # noqa: PLC0415  it imports us

        worker = Batcher(worker=worker, window=setup.batch_window)
    return worker


def studio_of(setup: Setup) -> StudioLike:
    """Make the real studio; call it in the thread that will use it."""
    with hushed():
        from gaia_flux.studio import Studio  # noqa: PLC0415 - torch takes seconds

        return Studio(setup)


@attrs.define(eq=False)
class Watch:
    """
    What a job reports to: passes reports on while somebody waits.

    Attributes:
        report: Where the reports go.
    """

    report: Report
    _stop: threading.Event = attrs.field(factory=threading.Event, init=False)

    def __call__(self, fraction: float, preview: Preview | None = None) -> None:
        """
        Pass a report on.

        Raises:
            StoppedError: If nobody waits any more.
        """
        self.check()
        self.report(fraction, preview)

    @property
    def is_stopped(self) -> bool:
        """Whether nobody waits any more."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Have the next report raise; called from any thread."""
        self._stop.set()

    def check(self) -> None:
        """
        Go on only if somebody waits.

        Raises:
            StoppedError: If nobody does.
        """
        if self.is_stopped:
            message = "Nobody waits for this picture any more."
            raise StoppedError(message)


def to_nobody(fraction: float, preview: Preview | None = None) -> None:
    """Report to nobody."""


_UNDER_WAY: ContextVar[Watch | None] = ContextVar("under_way", default=None)


def is_unwanted() -> bool:
    """Tell a worker's thread whether nobody waits any more for what it is at."""
    watch = _UNDER_WAY.get()
    return watch is not None and watch.is_stopped


@attrs.define(eq=False, kw_only=True)
class ThreadWorker:
    """
    Draws in one thread, which makes its studio when the first job comes.

    Attributes:
        setup: What the studio is made from.
        studio: Makes it; called in the thread.
    """

    setup: Setup
    studio: MakeStudio = studio_of
    _desk: "_Desk | None" = attrs.field(default=None, init=False)

    async def draw(self, jobs: Sequence[Job], report: Report) -> tuple[Drawn, ...]:
        """Draw jobs of one shape; see `Worker`."""
        watch = Watch(report)
        return await self._at_desk().run(lambda one: one.draw(jobs, watch), watch)

    async def figures(self) -> Mapping[str, Any]:
        """Tell about device and memory; see `Worker`."""
        desk = self._at_desk()
        is_busy = desk.is_busy
        if not is_busy:
            watch = Watch(to_nobody)
            desk.figures = await desk.run(lambda one: one.figures(), watch)
        return {**desk.figures, "is_busy": is_busy}

    def loaded(self) -> frozenset[str]:
        """Tell which models are in memory."""
        desk = self._own_desk()
        return frozenset() if desk is None else desk.loaded

    async def warm_up(self, model: str) -> None:
        """Load a model before it is asked for."""
        watch = Watch(to_nobody)
        await self._at_desk().run(lambda one: one.warm_up(model), watch)

    async def close(self) -> None:
        """Stop what is under way, and end the thread; the next job starts another."""
        desk, self._desk = self._own_desk(), None
        if desk is not None:
            await desk.close()

    def _at_desk(self) -> "_Desk":
        desk = self._own_desk()
        if desk is None:
            desk = self._desk = _Desk(lambda: self.studio(self.setup))
        return desk

    def _own_desk(self) -> "_Desk | None":
        """Give the desk, unless it is inherited: threads do not outlive a fork."""
        desk = self._desk
        return desk if desk is not None and desk.process == os.getpid() else None


@attrs.define(eq=False)
class _Desk:
    """
    One thread, and the studio that only this thread touches.

    A pool of one thread keeps the order, lets a job that waits be taken back, and
    ends with the interpreter even where a host forgets to close.
    """

    make: Callable[[], StudioLike]
    process: int = attrs.field(factory=os.getpid, init=False)
    loaded: frozenset[str] = attrs.field(factory=frozenset, init=False)
    figures: Mapping[str, Any] = attrs.field(factory=dict, init=False)
    _pool: ThreadPoolExecutor = attrs.field(init=False)
    _studio: StudioLike | None = attrs.field(default=None, init=False)
    _watches: set[Watch] = attrs.field(factory=set, init=False)

    @_pool.default
    def _default_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, "gaia-flux")

    @property
    def is_busy(self) -> bool:
        return bool(self._watches)

    async def run(self, work: Callable[[StudioLike], T], watch: Watch) -> T:
        self._watches.add(watch)
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._do, work, watch)
        finally:
            watch.stop()
            self._watches.discard(watch)

    async def close(self) -> None:
        for watch in tuple(self._watches):
            watch.stop()
        last = self._pool.submit(self._leave)
        # The thread ends after that. Who gives up waiting for it is not held up: a
        # kernel may never come back.
        self._pool.shutdown(wait=False)
        await asyncio.shield(asyncio.wrap_future(last))
        await asyncio.to_thread(self._pool.shutdown)

    def _do(self, work: Callable[[StudioLike], T], watch: Watch) -> T:
        watch.check()
        before = _UNDER_WAY.set(watch)
        try:
            if self._studio is None:
                self._studio = self.make()
            result = work(self._studio)
        except BaseException as error:
            _let_go(error)
            raise
        finally:
            _UNDER_WAY.reset(before)
            self._note()
        return result

    def _note(self) -> None:
        if self._studio is not None:
            self.loaded = frozenset(self._studio.loaded())

    def _leave(self) -> None:
        studio, self._studio = self._studio, None
        if studio is not None:
            studio.close()


def _let_go(error: BaseException | None) -> None:
    """
    Empty the frames an error remembers.

    They hold tensors, and so the device's memory for as long as anybody keeps the
    error; its lines and words stay.
    """
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
