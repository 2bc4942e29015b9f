"""
A studio of coloured squares, quick and exact, for tests of what is around a studio.

Run as a program it is the other end of a worker with a process of its own. Words in
the prompt have it misbehave: see `Squares`.
"""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from gaia_core import Capability
from gaia_flux import child
from gaia_flux.jobs import Drawn, Job, Picture, Preview, Report
from gaia_flux.setups import Setup
from gaia_flux.weights import WeightsError

PROGRAM = (sys.executable, "-P", __file__)
PATIENCE = 30.0
LONG = 4 * PATIENCE


class LostError(Exception):
    """An error only this program knows."""


def job(prompt: str = "a square", **changes: Any) -> Job:
    """Make a job of one small square."""
    facts: dict[str, Any] = {
        "id": prompt,
        "model": "squares",
        "capability": Capability.TEXT_TO_IMAGE,
        "prompt": prompt,
        "width": 64,
        "height": 64,
        "seeds": (7,),
        "num_inference_steps": 4,
    }
    return Job(**facts | changes)


@attrs.define(eq=False)
class Squares:
    """
    Draws squares in colours that prompt and seed decide.

    A prompt of two words, the second one a path, waits: ``wait FILE`` reports until
    the file is there. ``hang`` reports no more, ``kill`` dies, ``junk`` talks
    nonsense to the parent, ``chatter`` prints, ``refuse``, ``damaged``, ``lost`` and
    ``driver`` raise, ``key NAME`` raises what a variable of the environment holds,
    ``spawn FILE`` starts a helper and writes down its number.

    Attributes:
        setup: What it was made from.
        drawn: The jobs drawn so far, batch by batch.
        threads: The threads that used it.
        is_closed: Whether it was closed.
    """

    setup: Setup
    drawn: list[tuple[str, ...]] = attrs.field(factory=list)
    threads: set[str] = attrs.field(factory=set)
    is_closed: bool = False
    biggest_batch: int = 8
    _loaded: tuple[str, ...] = ()

    def draw(self, jobs: Sequence[Job], report: Report) -> tuple[Drawn, ...]:
        """Draw squares."""
        self._used()
        self.drawn.append(tuple(one.prompt for one in jobs))
        self._loaded = (jobs[0].model,)
        for one in jobs:
            self._misbehave(one, report)
        if len(jobs) > self.biggest_batch:
            message = "Memory is short."
            raise MemoryError(message)
        for step in range(jobs[0].num_inference_steps):
            done = (step + 1) / jobs[0].num_inference_steps
            report(done, Preview(pixels=bytes(3), width=1, height=1))
        return tuple(_square(one) for one in jobs)

    def warm_up(self, model: str) -> None:
        """Load nothing; a name that is a prompt's word has it misbehave."""
        self._used()
        self._misbehave(job(model), ignore)
        self._loaded = (model,)

    def loaded(self) -> tuple[str, ...]:
        """Name the model used last."""
        return self._loaded

    def figures(self) -> Mapping[str, Any]:
        """Tell what there is to tell."""
        self._used()
        return {"device": "paper", "drawn": len(self.drawn), "process": os.getpid()}

    def close(self) -> None:
        """Note that it is closed."""
        self._used()
        self.is_closed = True

    def _used(self) -> None:
        self.threads.add(threading.current_thread().name)

    def _misbehave(self, one: Job, report: Report) -> None:
        word, _, rest = one.prompt.partition(" ")
        if word in _ERRORS:
            raise _ERRORS[word](rest)
        if word in _DEEDS:
            report(0.5, None)
            _DEEDS[word](rest, report)


def _wait(path: str, report: Report) -> None:
    until = time.monotonic() + PATIENCE
    while not Path(path).exists() and time.monotonic() < until:
        report(0.5, None)
        time.sleep(0.005)


def _hang(_: str, __: Report) -> None:
    time.sleep(LONG)


def _kill(name: str, _: Report) -> None:
    os.kill(os.getpid(), signal.Signals[name or "SIGKILL"])


def _exit(status: str, _: Report) -> None:
    os._exit(int(status))


def _junk(_: str, __: Report) -> None:
    os.write(int(sys.argv[1]), b"Hello? Is anybody there?")
    time.sleep(LONG)


def _chatter(words: str, _: Report) -> None:
    print(words, flush=True)  # noqa: T201  that is the point


def _spawn(path: str, _: Report) -> None:
    program = (sys.executable, "-c", f"import time; time.sleep({LONG})")
    Path(path).write_text(str(subprocess.Popen(program).pid))


def _show(name: str, _: Report) -> None:
    raise LookupError(os.environ.get(name, "nothing"))


_DEEDS: Mapping[str, Callable[[str, Report], None]] = {
    "wait": _wait,
    "hang": _hang,
    "kill": _kill,
    "exit": _exit,
    "junk": _junk,
    "chatter": _chatter,
    "spawn": _spawn,
    "key": _show,
}
_ERRORS: Mapping[str, type[Exception]] = {
    "refuse": ValueError,
    "damaged": WeightsError,
    "lost": LostError,
    "driver": RuntimeError,
}


def _square(one: Job) -> Drawn:
    pictures = []
    for seed in one.seeds:
        colour = hashlib.sha256(f"{one.prompt} {seed}".encode()).digest()[:3]
        pixels = colour * (one.width * one.height)
        pictures.append(
            Picture(
                pixels=pixels,
                width=one.width,
                height=one.height,
                mode="RGB",
                seed=seed,
            )
        )
    return Drawn(pictures=tuple(pictures), warnings=("squares only",), seconds=0.25)


def digest(data: bytes) -> str:
    """Name some bytes, so that a test that fails does not print them."""
    return hashlib.sha256(data).hexdigest()


def ignore(fraction: float, preview: Preview | None = None) -> None:
    """Report to nobody."""


if __name__ == "__main__":
    sys.exit(child.main(sys.argv[1:], studio=Squares))
