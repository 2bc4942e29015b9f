"""
A worker in a process of its own, so that a crash of the driver is one job's error.

The process is a plain ``python -m gaia_flux.child``, not one of `multiprocessing`'s:
those import a host's main module again. It gets one end of a socket pair, none of the
host's keys, and a session of its own: Ctrl+C in a terminal reaches the host alone,
which then stops or finishes the picture, and whatever the process starts can be ended
together with it. Should the host die, the socket ends, and the process with it.

For POSIX systems only: descriptors are handed over by number.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from gaia_flux.jobs import Drawn, Job, Report, StoppedError
from gaia_flux.processes import TICK, Process, Progress
from gaia_flux.setups import Setup
from gaia_flux.wire import Frame, FrameError, encoded, error_of, record_of, value_of
from gaia_flux.workers import (
    StudioLike,
    ThreadWorker,
    Watch,
    WorkerDiedError,
    is_unwanted,
    to_nobody,
)

COMMAND = (sys.executable, "-P", "-u", "-m", "gaia_flux.child")
"""
Without the current directory in its path: a ``torch.py`` there is not imported. What
it prints is not held back, or a crash would take it along.
"""
PATIENCE = 30.0
"""Seconds a process has to react to a stop; one step of a large picture is shorter."""
_STARTING = 4
"""Times that patience, until it has first spoken: a slow disk takes its time."""
_LONGEST_PAUSE = 30.0
_UNWANTED = "Nobody waits for this picture any more."


@attrs.define(eq=False, kw_only=True)
class ProcessWorker:
    """
    Draws in a process of its own, which starts when the first job comes.

    When the process dies, what it had under way fails with a `WorkerDiedError`, and
    the next job starts another: at once after the first death, later after a pause
    that grows.

    Attributes:
        setup: What the process is told to work with.
        command: Starts it; the socket's number and this process's id are added.
        patience: Seconds it has to react to a stop before it is killed.
    """

    setup: Setup
    command: Sequence[str] = COMMAND
    patience: float = PATIENCE
    _thread: ThreadWorker = attrs.field(init=False)
    _remote: "RemoteStudio | None" = attrs.field(default=None, init=False)

    @_thread.default
    def _default_thread(self) -> ThreadWorker:
        return ThreadWorker(setup=self.setup, studio=self._make)

    async def draw(self, jobs: Sequence[Job], report: Report) -> tuple[Drawn, ...]:
        """Draw jobs of one shape; see `gaia_flux.workers.Worker`."""
        return await self._thread.draw(jobs, report)

    async def figures(self) -> Mapping[str, Any]:
        """Tell about device and memory; see `gaia_flux.workers.Worker`."""
        return await self._thread.figures()

    def loaded(self) -> frozenset[str]:
        """Tell which models are in the process's memory."""
        return frozenset(() if self._remote is None else self._remote.loaded())

    async def warm_up(self, model: str) -> None:
        """Load a model before it is asked for."""
        await self._thread.warm_up(model)

    async def close(self) -> None:
        """Stop what is under way, and end the process; the next job starts another."""
        remote, self._remote = self._remote, None
        if remote is not None:
            remote.stop()
        await self._thread.close()

    def _make(self, setup: Setup) -> StudioLike:
        self._remote = RemoteStudio(
            setup=setup, command=tuple(self.command), patience=self.patience
        )
        return self._remote


@attrs.define(eq=False, kw_only=True)
class RemoteStudio:
    """
    A studio whose work another process does; used from one thread, but for `stop`.

    Attributes:
        setup: What the process is told to work with.
        command: Starts it.
        patience: Seconds it has to react to a stop.
    """

    setup: Setup
    command: tuple[str, ...] = COMMAND
    patience: float = PATIENCE
    _process: Process | None = attrs.field(default=None, init=False)
    _deaths: int = attrs.field(default=0, init=False)
    _number: int = attrs.field(default=0, init=False)
    _watch: Watch = attrs.field(factory=lambda: Watch(to_nobody), init=False)

    def draw(self, jobs: Sequence[Job], report: Report) -> tuple[Drawn, ...]:
        """
        Have jobs of one shape drawn.

        Raises:
            WorkerDiedError: If the process died of it.
        """
        records = [record_of(job) for job in jobs]
        drawn = self._ask("draw", records, report)
        return tuple(value_of(Drawn, one) for one in drawn)

    def warm_up(self, model: str) -> None:
        """Have a model loaded."""
        self._ask("warm_up", model, self._watch)

    def figures(self) -> Mapping[str, Any]:
        """Ask about device and memory."""
        figures: Mapping[str, Any] = self._ask("figures", None, self._watch)
        return figures

    def loaded(self) -> tuple[str, ...]:
        """Tell what the process had in memory when it last spoke; from any thread."""
        process = self._process
        return () if process is None or process.is_dead else process.loaded

    def stop(self) -> None:
        """Have whatever is under way stop; called from any thread."""
        self._watch.stop()

    def close(self) -> None:
        """End the process, by force where it takes too long."""
        process, self._process = self._process, None
        if process is not None:
            process.close(self.patience)

    def _ask(self, kind: str, value: Any, report: Report) -> Any:
        process = self._living()
        self._number += 1
        question = encoded(Frame(kind=kind, number=self._number, value=value))
        talk = _Talk(process, self._number, report, self._is_stopped, self.patience)
        try:
            frame = talk.over(question)
        except (FrameError, OSError) as error:
            self._bury(process, error)
            raise WorkerDiedError(process.end) from error
        self._deaths = 0
        if process.is_last:
            self._bury(process, None)
        if talk.stopped is not None:
            raise talk.stopped
        if frame.kind == "failed":
            raise error_of(frame.value)
        return frame.value

    def _is_stopped(self) -> bool:
        return is_unwanted() or self._watch.is_stopped

    def _living(self) -> Process:
        if self._process is not None and self._process.is_dead:
            self._bury(self._process, None)
        if self._process is None:
            self._pause()
            self._process = Process.start(self.command, self.setup, self.patience)
        return self._process

    def _bury(self, process: Process, error: Exception | None) -> None:
        self._process = None
        self._deaths += 1
        process.kill(error)

    def _pause(self) -> None:
        """Wait a little before another start, and longer each time."""
        if self._deaths > 1:
            pause = min(_LONGEST_PAUSE, 0.5 * 2 ** (self._deaths - 2))
            until = time.monotonic() + pause
            while time.monotonic() < until and not self._is_stopped():
                time.sleep(TICK)
        if self._is_stopped():
            raise StoppedError(_UNWANTED)


@attrs.define(eq=False)
class _Talk:
    """
    One question to the process, and what it says until it has answered.

    Attributes:
        stopped: What the asker's report raised; the answer counts no more then.
    """

    process: Process
    number: int
    report: Report
    is_stopped: Callable[[], bool]
    patience: float
    stopped: Exception | None = attrs.field(default=None, init=False)
    _until: float = attrs.field(default=float("inf"), init=False)

    def over(self, question: Sequence[bytes]) -> Frame:
        """
        Ask, and hear it out.

        Raises:
            OSError: If the process is gone or does not react.
            FrameError: If it talks nonsense.
        """
        self.process.send(question)
        while True:
            for frame in self.process.heard():
                if frame.number != self.number:
                    continue
                if frame.kind != "progress":
                    return frame
                self._pass_on(value_of(Progress, frame.value))
            self._look()

    def _pass_on(self, progress: Progress) -> None:
        if self.stopped is not None:
            return
        try:
            self.report(progress.fraction, progress.preview)
        except Exception as error:  # noqa: BLE001  whatever it is, the asker gets it
            self._stop(error)

    def _look(self) -> None:
        if self.stopped is None and self.is_stopped():
            self._stop(StoppedError(_UNWANTED))
        if time.monotonic() > self._until:
            message = f"it did not stop within {self._seconds():g} s"
            raise TimeoutError(message)

    def _stop(self, error: Exception) -> None:
        self.stopped = error
        self._until = time.monotonic() + self._seconds()
        self.process.send(encoded(Frame(kind="stop", number=self.number)))

    def _seconds(self) -> float:
        return self.patience * (1 if self.process.has_spoken else _STARTING)
