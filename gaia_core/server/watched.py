"""What is under way on this server, and how far it is."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import attrs

from gaia_core.context import Progress, ignore_progress
from gaia_core.images import Image


@attrs.define(eq=False, kw_only=True)
class Job:
    """
    One request under way.

    Attributes:
        id: Its number here.
        principal: Whose it is.
        started: When it began, on the monotonic clock.
        fraction: How far it is, from 0 to 1.
        preview: What the picture looks like so far, if known.
    """

    id: str
    principal: str
    started: float
    fraction: float = 0.0
    preview: Image | None = None


@attrs.define(eq=False)
class Watched:
    """Keeps what is under way, by whose it is."""

    _jobs: dict[str, Job] = attrs.field(factory=dict, init=False)
    _numbers: "count[int]" = attrs.field(factory=count, init=False)

    @contextmanager
    def job(
        self, principal: str, also: Progress = ignore_progress
    ) -> Iterator[Progress]:
        """
        Watch one request; give what its progress is told to.

        Args:
            principal: Whose it is.
            also: What is told as well.
        """
        number = str(next(self._numbers))
        job = Job(id=number, principal=principal, started=time.monotonic())

        def progress(fraction: float, preview: Image | None) -> None:
            job.fraction = fraction
            job.preview = preview or job.preview
            also(fraction, preview)

        self._jobs[job.id] = job
        try:
            yield progress
        finally:
            del self._jobs[job.id]

    def latest(self, principal: str) -> Job | None:
        """Give the latest request of somebody's that is under way."""
        own = [job for job in self._jobs.values() if job.principal == principal]
        return own[-1] if own else None

    def count(self, principal: str) -> int:
        """Tell how many of somebody's are under way."""
        return sum(job.principal == principal for job in self._jobs.values())
