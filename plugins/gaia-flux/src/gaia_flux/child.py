"""
The other end of a `gaia_flux.isolation.ProcessWorker`: the process that draws.

Started as ``python -m gaia_flux.child DESCRIPTOR PARENT``, never by a person. Its
main thread draws; a second one listens, so that an order to stop and the end of the
parent are heard while a step computes.
"""

import faulthandler
import os
import selectors
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import attrs

from gaia_flux.errors import is_lost
from gaia_flux.jobs import Job, Preview, Report
from gaia_flux.setups import Setup
from gaia_flux.wire import (
    Decoder,
    Frame,
    FrameError,
    encoded,
    record_of,
    record_of_error,
    value_of,
)
from gaia_flux.workers import MakeStudio, StudioLike, Watch, studio_of, to_nobody

_LOOK = 1.0
"""Seconds between two looks whether the parent is still there."""
_READ = 2**18
_BROKEN = 70
"""Status of a process that ends because its device is of no more use to it."""
_OUT_OF_MEMORY_FIRST = "500"


def main(arguments: Sequence[str], *, studio: MakeStudio = studio_of) -> int:
    """
    Serve a parent until it says that it is enough.

    Args:
        arguments: The number of the socket, and the parent's process id.
        studio: Makes what draws.

    Returns:
        The exit status.
    """
    # A crash inside the driver leaves its lines for the log.
    faulthandler.enable()
    # Where the system runs out of memory, this process is to go and not the host.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OUT_OF_MEMORY_FIRST)
    descriptor, parent = map(int, arguments)
    # What this process starts in its turn must not keep the line open.
    os.set_inheritable(descriptor, False)  # noqa: FBT003  its signature
    with socket.socket(fileno=descriptor) as channel:
        ears = _Ears(channel, parent)
        threading.Thread(target=ears.listen, name="ears", daemon=True).start()
        _Desk(channel, ears, studio).serve()
    return 0


@attrs.define(eq=False)
class _Ears:
    """Hears what the parent says, and whether it is still there."""

    channel: socket.socket
    parent: int
    frames: SimpleQueue[tuple[Frame, Watch]] = attrs.field(factory=SimpleQueue)
    _latest: Watch | None = None
    _number: int = 0

    def listen(self) -> None:
        """Listen; without a parent the process ends, whatever it is at."""
        try:
            self._listen()
        except (FrameError, OSError) as error:
            print(f"The parent cannot be understood: {error}", file=sys.stderr)  # noqa: T201  for its log
        os._exit(1)

    def _listen(self) -> None:
        decoder = Decoder()
        with selectors.DefaultSelector() as selector:
            selector.register(self.channel, selectors.EVENT_READ)
            while os.getppid() == self.parent:
                if not selector.select(_LOOK):
                    continue
                data = self.channel.recv(_READ)
                if not data:
                    break
                for frame in decoder.feed(data):
                    self._hear(frame)

    def _hear(self, frame: Frame) -> None:
        if frame.kind != "stop":
            self._latest, self._number = Watch(to_nobody), frame.number
            self.frames.put((frame, self._latest))
        elif self._latest is not None and frame.number == self._number:
            self._latest.stop()


@attrs.define(eq=False)
class _Desk:
    """Does what the parent asks for, one thing after the other."""

    channel: socket.socket
    ears: _Ears
    make: MakeStudio
    _setup: Setup | None = None
    _studio: StudioLike | None = None

    def serve(self) -> None:
        """Work until the parent says that it is enough."""
        while True:
            frame, watch = self.ears.frames.get()
            if frame.kind == "close":
                break
            if frame.kind == "start":
                self._setup = Setup.from_record(frame.value)
            else:
                self._answer(frame, watch)
        if self._studio is not None:
            self._studio.close()

    def _answer(self, frame: Frame, watch: Watch) -> None:
        try:
            value = self._do(frame, watch)
            self._say("done", frame.number, value)
        except Exception as error:  # noqa: BLE001  whatever it is, the parent has to know
            is_last = is_lost(error)
            record = record_of_error(error)
            self._say("failed", frame.number, record, is_last=is_last)
            if is_last:
                os._exit(_BROKEN)

    def _do(self, frame: Frame, watch: Watch) -> Any:
        watch.report = self._reporter(frame.number)
        watch.check()
        work: Mapping[str, Callable[[Any, Report], Any]] = {
            "draw": self._draw,
            "warm_up": self._warm_up,
            "figures": self._figures,
        }
        return work[frame.kind](frame.value, watch)

    def _draw(self, records: Any, report: Report) -> Any:
        jobs = [value_of(Job, record) for record in records]
        return [record_of(one) for one in self._at_work().draw(jobs, report)]

    def _warm_up(self, model: Any, _: Report) -> None:
        self._at_work().warm_up(model)

    def _figures(self, _: Any, __: Report) -> Mapping[str, Any]:
        return self._at_work().figures()

    def _at_work(self) -> StudioLike:
        if self._studio is None:
            if self._setup is None:
                message = "The parent has not said what to work with."
                raise FrameError(message)
            self._studio = self.make(self._setup)
        return self._studio

    def _reporter(self, number: int) -> Report:
        def report(fraction: float, preview: Preview | None = None) -> None:
            record = None if preview is None else record_of(preview)
            self._say("progress", number, {"fraction": fraction, "preview": record})

        return report

    def _say(
        self, kind: str, number: int, value: Any, *, is_last: bool = False
    ) -> None:
        loaded = () if self._studio is None else self._studio.loaded()
        content = {"loaded": loaded, "is_last": is_last, "content": value}
        for piece in encoded(Frame(kind=kind, number=number, value=content)):
            self.channel.sendall(piece)


if __name__ == "__main__":
    # The studio is closed. What torch would tidy up for two seconds more, the system
    # takes back at once.
    os._exit(main(sys.argv[1:]))
