"""
Work that a client watches: server-sent events while it lasts.

However slow a client reads, it is told at last how the work ended; what happened in
the middle is told as it stands when there is room for it.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from io import BytesIO
from typing import Any

import attrs
import orjson
import pybase64
from fastapi import Request
from fastapi.responses import Response
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.types import Receive, Scope, Send

from gaia_core.context import Progress
from gaia_core.errors import InvalidImageError
from gaia_core.images import Image
from gaia_core.server.dialects import problem_in
from gaia_core.server.problems import Problem
from gaia_core.server.waiting import ClientGoneError, while_connected

MEDIA_TYPE = "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""What goes with events: nothing on their way may keep them, or hold them back."""
PING = 15.0
"""Seconds of silence after which a comment says that the server is still there."""
PAUSE = 0.1
"""Shortest time between two events about progress, in seconds."""
MAX_PREVIEW_BYTES = 65_536
"""Largest preview that goes out as it is."""
MAX_PREVIEW_SIDE = 384
"""Longest side of a preview that had to be made smaller, in pixels."""

Work = Callable[[Progress], Awaitable[bytes]]
"""Does the work, tells its progress, and gives the last event."""


def is_wanted(request: Request) -> bool:
    """Tell whether a client asks for events instead of one answer."""
    return MEDIA_TYPE in request.headers.get("accept", "")


def event(name: str, data: Any) -> bytes:
    """Write one event with JSON."""
    return format_sse_event(event=name, data_str=orjson.dumps(data).decode())


def problem_event(problem: Problem) -> bytes:
    """Write how it ended, as the routes under ``/api`` do."""
    return event("error", {**problem.as_body(), "status": problem.status})


async def progress_event(fraction: float, preview: Image | None) -> bytes:
    """Write how far it is, as the routes under ``/api`` do."""
    data: dict[str, Any] = {"fraction": round(fraction, 4)}
    if preview is not None and (url := await preview_url(preview)) is not None:
        data["preview"] = url
    return event("progress", data)


async def preview_url(preview: Image) -> str | None:
    """Write a preview as a ``data:`` address, a small one; None: it is damaged."""
    if len(preview.data) > MAX_PREVIEW_BYTES:
        try:
            preview = await asyncio.to_thread(_smaller, preview)
        except (InvalidImageError, OSError, ValueError):
            return None
    encoded = pybase64.b64encode(preview.data).decode()
    return f"data:{preview.media_type};base64,{encoded}"


def _smaller(preview: Image) -> Image:
    picture = preview.decode().convert("RGB")
    picture.thumbnail((MAX_PREVIEW_SIDE, MAX_PREVIEW_SIDE))
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=70)
    return Image.from_bytes(buffer.getvalue())


@attrs.define(eq=False)
class _News:
    """The latest news of some work, for a reader who may be slower than it."""

    latest: tuple[float, Image | None] | None = None
    changed: asyncio.Event = attrs.field(factory=asyncio.Event)

    def tell(self, fraction: float, preview: Image | None) -> None:
        """Put down how far it is; a preview stays until it was told."""
        if preview is None and self.latest is not None:
            preview = self.latest[1]
        self.latest = (fraction, preview)
        self.changed.set()

    def take(self) -> tuple[float, Image | None] | None:
        """Take what was not told yet."""
        news, self.latest = self.latest, None
        self.changed.clear()
        return news


class LiveAnswer(Response):
    """
    Answers with events: progress, then exactly one that says how it ended.

    A client that hangs up is not worked for any more; see `while_connected`.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self,
        work: Work,
        *,
        route: str,
        write_progress: Callable[
            [float, Image | None], Awaitable[bytes]
        ] = progress_event,
        write_problem: Callable[[Problem], bytes] = problem_event,
    ) -> None:
        """
        Keep what is to be done.

        Args:
            work: What to do.
            route: The template of the route, for the log.
            write_progress: Writes how far it is.
            write_problem: Writes why it failed.
        """
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._work = work
        self._route = route
        self._write_progress = write_progress
        self._write_problem = write_problem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell a client what happens, until it ended or nobody listens."""
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        with suppress(ClientGoneError):
            await while_connected(Request(scope, receive), self._tell(send))

    async def _tell(self, send: Send) -> None:
        async with aclosing(self.events()) as events:
            async for told in events:
                await send(
                    {"type": "http.response.body", "body": told, "more_body": True}
                )
        await send({"type": "http.response.body", "body": b""})

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Do the work; give every event as it is sent."""
        news = _News()
        working = asyncio.ensure_future(self._work(news.tell))
        working.add_done_callback(lambda _: news.changed.set())
        try:
            while not working.done():
                if told := await self._next(news):
                    yield told
                if not working.done():
                    await asyncio.wait({working}, timeout=PAUSE)
            yield await self._last(working)
        finally:
            working.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await working

    async def _next(self, news: _News) -> bytes:
        """Wait for news; say from time to time that there are none."""
        try:
            async with asyncio.timeout(PING):
                await news.changed.wait()
        except TimeoutError:
            return KEEPALIVE_COMMENT
        latest = news.take()
        return b"" if latest is None else await self._write_progress(*latest)

    async def _last(self, working: "asyncio.Future[bytes]") -> bytes:
        try:
            return await working
        except Exception as error:  # noqa: BLE001  a client must be answered
            return self._write_problem(problem_in(error, self._route))
