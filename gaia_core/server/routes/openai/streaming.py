"""Pictures as events: what they look like so far, and then what they are."""

import asyncio
from typing import Any

import attrs
from fastapi import Request, Response

from gaia_core.context import Progress, ignore_progress
from gaia_core.images import Image
from gaia_core.responses import ImageResponse
from gaia_core.server.live import LiveAnswer, event
from gaia_core.server.problems import Problem
from gaia_core.server.routes.openai.answers import Answers
from gaia_core.server.routes.openai.dialect import envelope
from gaia_core.server.routes.openai.work import response_to
from gaia_core.server.waiting import while_connected

EARLY = 10.0
"""
How long a stream waits for its first event before it begins, in seconds.

A failure until then is answered with its own status, as without a stream.
"""


@attrs.define(eq=False)
class _Previews:
    """Chooses previews from what is told of some work: as many as are wanted."""

    wanted: int
    index: int = 0
    has_any: asyncio.Event = attrs.field(factory=asyncio.Event)
    latest: tuple[float, Image | None] = (0.0, None)
    _listener: Progress = ignore_progress

    def tell(self, fraction: float, preview: Image | None) -> None:
        """Hear how far it is."""
        self.latest = (fraction, preview or self.latest[1])
        if preview is not None and self.wanted:
            self.has_any.set()
        self._listener(*self.latest)

    def listen(self, listener: Progress) -> None:
        """Say who hears of it, from what is known already on."""
        self._listener = listener
        listener(*self.latest)

    def take(self, fraction: float, preview: Image | None) -> int | None:
        """Give the number of a preview, if it is its turn."""
        is_due = fraction * (self.wanted + 1) >= self.index
        if preview is None or self.index >= self.wanted or not is_due:
            return None
        self.index += 1
        return self.index - 1


async def stream(answers: Answers, request: Request, route: str) -> Response:
    """
    Answer with events: previews where the provider gives them, then the pictures.

    Raises:
        GaiaError: If it failed before there was anything to tell.
    """
    previews = _Previews(answers.job.body.partial_images)
    working = asyncio.ensure_future(
        response_to(answers.job, answers.writer.site, progress=previews.tell)
    )
    try:
        await while_connected(request, _begun(working, previews))
    except BaseException:
        working.cancel()
        raise

    async def work(tell: Progress) -> bytes:
        previews.listen(tell)
        response = await working
        return b"".join(
            event(str(one["type"]), one) for one in await answers.events(response)
        )

    async def write_progress(fraction: float, preview: Image | None) -> bytes:
        index = previews.take(fraction, preview)
        if index is None or preview is None:
            return b""
        partial = answers.partial(preview, index)
        return event(str(partial["type"]), partial)

    return LiveAnswer(
        work,
        route=route,
        write_progress=write_progress,
        write_problem=_problem_event,
    )


async def _begun(working: "asyncio.Future[ImageResponse]", previews: _Previews) -> None:
    """Wait until there is something to tell, or for long enough."""
    first = asyncio.ensure_future(previews.has_any.wait())
    waiting: tuple[asyncio.Future[Any], ...] = (working, first)
    try:
        await asyncio.wait(waiting, timeout=EARLY, return_when=asyncio.FIRST_COMPLETED)
    finally:
        first.cancel()
    if working.done():
        working.result()


def _problem_event(problem: Problem) -> bytes:
    return event("error", envelope(problem))
