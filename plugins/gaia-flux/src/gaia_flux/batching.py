"""
Draws small jobs of one shape together: more pictures a second from one device.

A small picture leaves most of a GPU idle, a large one none of it, and a batch has to
fit into memory: so only small pictures share a batch. A picture from a batch is not
bit-equal to one drawn alone, which is why batching is a setting of its own.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import attrs

from gaia_core import Capability
from gaia_flux.jobs import Drawn, Job, Preview, Report, StoppedError
from gaia_flux.weights import WeightsError
from gaia_flux.workers import Worker, WorkerDiedError

MAX_PICTURES = 8
MAX_PIXELS = 4 * 512 * 512
"""Of a whole batch; so pictures of 1024x1024 and more never share one."""
_NOT_THE_BATCHS = (StoppedError, WeightsError, WorkerDiedError)
"""What jobs would meet alone just as well, or should not be risked again."""


@attrs.define(eq=False)
class _Entry:
    """A job that waits for its turn, or is being drawn."""

    jobs: tuple[Job, ...]
    report: Report
    result: asyncio.Future[tuple[Drawn, ...]]
    is_alone: bool

    @property
    def is_wanted(self) -> bool:
        return not self.result.done()

    @property
    def num_pictures(self) -> int:
        return len(self.jobs[0].seeds)

    def give(self, drawn: tuple[Drawn, ...]) -> None:
        if self.is_wanted:
            self.result.set_result(drawn)

    def fail(self, error: BaseException) -> None:
        if self.is_wanted:
            self.result.set_exception(error)


@attrs.define(eq=False, kw_only=True)
class Batcher:
    """
    A worker that gathers equal small jobs before it hands them on.

    Whatever arrives while another batch is drawn is gathered without waiting. With
    nothing to do, a job waits for company only if the batch before had some: then
    more is likely on its way, and who is alone loses nothing. Measured with a small
    FLUX at 256x256 on one CPU core, a picture alone took as long as without batching
    (a wait each time: 10 ms more), and eight within 7 ms as long as with such a wait.

    Attributes:
        worker: Draws.
        window: The longest such wait, in seconds.
    """

    worker: Worker
    window: float = 0.010
    _queue: deque[_Entry] = attrs.field(factory=deque, init=False)
    _pump: "asyncio.Task[None] | None" = attrs.field(default=None, init=False)
    _arrival: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _had_company: bool = attrs.field(default=False, init=False)
    _counts: dict[int, int] = attrs.field(factory=dict, init=False)

    async def draw(self, jobs: Sequence[Job], report: Report) -> tuple[Drawn, ...]:
        """
        Draw jobs, perhaps together with those of others.

        One that is cancelled leaves the others of its batch alone.
        """
        loop = asyncio.get_running_loop()
        entry = _Entry(tuple(jobs), report, loop.create_future(), not _can_share(jobs))
        self._queue.append(entry)
        self._arrival.set()
        self._start_pump(loop)
        try:
            return await entry.result
        finally:
            if entry in self._queue:  # cancelled before its turn
                self._queue.remove(entry)

    async def figures(self) -> Mapping[str, Any]:
        """Tell about device and memory, and how large the batches were."""
        figures = await self.worker.figures()
        return {**figures, "batches": dict(sorted(self._counts.items()))}

    def loaded(self) -> frozenset[str]:
        """Tell which models are in memory."""
        return self.worker.loaded()

    async def warm_up(self, model: str) -> None:
        """Load a model before it is asked for."""
        await self.worker.warm_up(model)

    async def close(self) -> None:
        """Stop what is under way and what waits, then close the worker."""
        queue, self._queue = self._queue, deque()
        for entry in queue:
            entry.fail(StoppedError("The worker was closed."))
        await self.worker.close()
        pump, self._pump = self._pump, None
        if pump is not None and pump.get_loop() is asyncio.get_running_loop():
            await asyncio.wait({pump})

    def _start_pump(self, loop: asyncio.AbstractEventLoop) -> None:
        pump = self._pump
        if pump is None or pump.done() or pump.get_loop() is not loop:
            here = (one for one in self._queue if one.result.get_loop() is loop)
            self._queue = deque(here)
            # Bound to the event loop in which it is first waited for.
            self._arrival = asyncio.Event()
            self._pump = loop.create_task(self._run(), name="gaia-flux batches")

    async def _run(self) -> None:
        while self._queue:
            first = self._queue[0]
            if self._had_company and not first.is_alone:
                await self._wait_for_company(first)
            if first in self._queue:  # or it was cancelled meanwhile
                await self._draw(self._taken(first))

    async def _wait_for_company(self, first: _Entry) -> None:
        until = asyncio.get_running_loop().time() + self.window
        while first.is_wanted and not self._is_full(first):
            self._arrival.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._arrival.wait()
            except TimeoutError:
                return

    def _taken(self, first: _Entry) -> list[_Entry]:
        """Take a job from the queue, with those that may be drawn with it."""
        batch = self._company(first)
        for entry in batch:
            self._queue.remove(entry)
        if not first.is_alone:
            self._had_company = len(batch) > 1
        return batch

    def _company(self, first: _Entry) -> list[_Entry]:
        batch, room = [first], _room(first.jobs[0]) - first.num_pictures
        if first.is_alone:
            return batch
        for entry in self._queue:
            if entry is not first and entry.num_pictures <= room and _fit(entry, first):
                batch.append(entry)
                room -= entry.num_pictures
        return batch

    def _is_full(self, first: _Entry) -> bool:
        count = sum(entry.num_pictures for entry in self._company(first))
        return count >= _room(first.jobs[0])

    async def _draw(self, batch: list[_Entry]) -> None:
        self._counts[len(batch)] = self._counts.get(len(batch), 0) + 1
        jobs = [job for entry in batch for job in entry.jobs]
        report = partial(_report, batch, asyncio.get_running_loop())
        drawing = asyncio.ensure_future(self.worker.draw(jobs, report))
        for entry in batch:
            stop = partial(_stop_unwanted, batch, drawing)
            entry.result.add_done_callback(stop)
        try:
            await asyncio.wait({drawing})
        except asyncio.CancelledError:  # the event loop ends
            drawing.cancel()
            raise
        self._hand_out(batch, drawing)

    def _hand_out(
        self, batch: list[_Entry], drawing: "asyncio.Future[tuple[Drawn, ...]]"
    ) -> None:
        error = None if drawing.cancelled() else drawing.exception()
        if drawing.cancelled():
            for entry in batch:
                entry.result.cancel()
        elif error is None:
            drawn = iter(drawing.result())
            for entry in batch:
                entry.give(tuple(islice(drawn, len(entry.jobs))))
        elif len(batch) > 1 and not isinstance(error, _NOT_THE_BATCHS):
            self._repeat_singly(batch)
        else:
            for entry in batch:
                entry.fail(error)

    def _repeat_singly(self, batch: list[_Entry]) -> None:
        """Draw each alone, before all others: memory may suffice for that."""
        again = [entry for entry in batch if entry.is_wanted]
        for entry in again:
            entry.is_alone = True
        self._queue.extendleft(reversed(again))


def _can_share(jobs: Sequence[Job]) -> bool:
    """
    Tell whether jobs may be drawn together with others.

    Only such as start from noise share a call. A step cache decides by the whole
    batch what to skip: a picture would depend on its neighbours by more than
    rounding.
    """
    if len(jobs) != 1 or jobs[0].capability is not Capability.TEXT_TO_IMAGE:
        return False
    (job,) = jobs
    is_plain = not (job.image or job.reference_images or job.step_cache)
    return is_plain and len(job.seeds) < _room(job)


def _room(job: Job) -> int:
    """Count the pictures of a job's size that fit into one batch."""
    return min(MAX_PICTURES, MAX_PIXELS // (job.width * job.height))


def _fit(one: _Entry, other: _Entry) -> bool:
    if one.is_alone or one.jobs[0].shape != other.jobs[0].shape:
        return False
    has_negative = [entry.jobs[0].negative_prompt is not None for entry in (one, other)]
    return has_negative[0] == has_negative[1]


def _report(
    batch: list[_Entry],
    loop: asyncio.AbstractEventLoop,
    fraction: float,
    preview: Preview | None = None,
) -> None:
    """Tell everybody how far the batch is, and nobody what another's looks like."""
    shown = preview if len(batch) == 1 else None
    for entry in batch:
        if entry.is_wanted:
            try:
                entry.report(fraction, shown)
            except Exception as error:  # noqa: BLE001  it is this one's alone
                loop.call_soon_threadsafe(entry.fail, error)


def _stop_unwanted(
    batch: list[_Entry], drawing: "asyncio.Future[tuple[Drawn, ...]]", _: object
) -> None:
    """Stop a batch of which nobody wants anything any more."""
    if not any(entry.is_wanted for entry in batch):
        drawing.cancel()
