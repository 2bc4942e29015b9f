"""
Listening at the SDK's connections: what it does not tell, and what decides money.

The SDK keeps the vendor's error codes to itself, does not say whether a task left
this machine, and hands an error about an unknown task to every task on its socket.
Both are seen here, on the socket and on the HTTP session that it is given.
"""

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import attrs

from gaia_runware.traffic import Traffic

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace
    from websockets.asyncio.client import ClientConnection

CONNECT_SECONDS = 10.0
"""The longest wait for a connection, its encryption included."""

# A connection kept longer may be closed already at the other end, and then nobody
# knows whether what was sent into it was carried out.
_KEEPALIVE_SECONDS = 4.0
_CLOSE_SECONDS = 1.0
_TAIL = 512
_CODED = ("code", "parameter", "taskType", "taskUUID")
_OK = 200

asked: ContextVar[Traffic | None] = ContextVar("asked", default=None)
"""The task whose HTTP request is under way."""


@attrs.define(eq=False, kw_only=True)
class WatchedSocket:
    """
    A WebSocket as the SDK uses it, with somebody listening.

    Attributes:
        tasks: The tasks that wait for an answer, by their UUIDs.
        login_error: What the vendor said to the key it was shown.
    """

    _inner: "ClientConnection" = attrs.field(alias="inner")
    tasks: dict[str, Traffic]
    login_error: Mapping[str, Any] | None = None

    async def send(self, text: str) -> None:
        """Send a frame, and note whose task is in it."""
        from websockets.protocol import State  # noqa: PLC0415  slow

        if self._inner.state is State.OPEN:
            for traffic in self._tasks_in(text):
                traffic.note_sending()
        await self._inner.send(text)

    async def recv(self) -> str | bytes:
        """Receive one frame: the answer to the key."""
        frame = await self._inner.recv()
        self.login_error = next(iter(errors_in(frame)), None)
        return frame

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Receive every further frame, without those that mean nobody here."""
        async for frame in self._inner:
            for heard in self._heard(frame):
                yield heard

    async def close(self) -> None:
        """Close it."""
        await self._inner.close()

    def _tasks_in(self, text: str) -> list[Traffic]:
        """Find the tasks a frame is about; the SDK writes a task's UUID last."""
        tail = text[-_TAIL:]
        found = [one for task_id, one in self.tasks.items() if task_id in tail]
        return found or [one for name, one in self.tasks.items() if name in text]

    def _heard(self, frame: str | bytes) -> Iterator[str | bytes]:
        """
        Note what went wrong, and give what the SDK is to see of it.

        It overlooks results that come along with errors: they are handed on first.
        """
        text = frame if isinstance(frame, str) else frame.decode()
        errors = errors_in(text) if '"error' in text else []
        if not errors:
            yield frame
            return
        items = items_in(text)
        for item in items:
            if (traffic := self._task_of(item)) is not None:
                traffic.take(item)
        for error in errors:
            self._note(error)
        if items:
            yield json.dumps({"data": items})
        meant = [_coded(error) for error in errors if self._means_somebody(error)]
        if meant:
            yield json.dumps({"errors": meant})

    def _note(self, error: Mapping[str, Any]) -> None:
        traffic = self._task_of(error)
        if traffic is not None:
            traffic.take_error(error)
        elif error.get("taskUUID") is None:
            for one in self.tasks.values():
                one.is_unnamed = True

    def _means_somebody(self, error: Mapping[str, Any]) -> bool:
        """Tell it from late news of a task nobody waits for any more."""
        return error.get("taskUUID") is None or self._task_of(error) is not None

    def _task_of(self, item: Mapping[str, Any]) -> Traffic | None:
        return self.tasks.get(str(item.get("taskUUID")))


async def open_socket(url: str, tasks: dict[str, Traffic]) -> WatchedSocket:
    """
    Open a WebSocket for results of any size.

    Raises:
        OSError: If there is no connection.
        websockets.InvalidHandshake: If the other end speaks no WebSocket.
    """
    import runware  # noqa: PLC0415  slow
    from websockets.asyncio.client import connect  # noqa: PLC0415  slow

    inner = await connect(
        url,
        compression=None,
        max_size=None,
        open_timeout=CONNECT_SECONDS,
        close_timeout=_CLOSE_SECONDS,
        # Results are not fetched through one either, and they are paid for by then.
        proxy=None,
        user_agent_header=f"gaia-runware runware-python/{runware.SDK_VERSION}",
        logger=_silent_logger(),
    )
    return WatchedSocket(inner=inner, tasks=tasks)


def open_session() -> "aiohttp.ClientSession":
    """Open an HTTP session that notes what is sent, and what comes back."""
    import aiohttp  # noqa: PLC0415  slow

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_note_sent)
    connector = _connector_class()(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS)
    return aiohttp.ClientSession(
        connector=connector,
        response_class=_response_class(),
        trace_configs=[trace],
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


def errors_in(body: str | bytes) -> list[Mapping[str, Any]]:
    """Read the errors of an answer; what cannot be read has none."""
    try:
        answer = json.loads(body)
    except ValueError:
        return []
    if not isinstance(answer, dict):
        return []
    found = answer.get("errors") or answer.get("error")
    errors = found if isinstance(found, list) else [found]
    return [error for error in errors if isinstance(error, dict)]


def _coded(error: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out the vendor's sentences: the SDK would raise them, and asyncio log."""
    return {key: error[key] for key in _CODED if key in error}


def _silent_logger() -> logging.Logger:
    """
    Give a logger that belongs to nobody and says nothing.

    The host's own would write every frame at level DEBUG, the one with the key too.
    """
    level = logging.CRITICAL + 1
    return logging.Logger("silent", level)  # noqa: LOG001  none of the host's


async def _note_sent(*_: object) -> None:
    traffic = asked.get()
    if traffic is not None:
        traffic.note_sending()


def _response_class() -> "type[aiohttp.ClientResponse]":
    """Make the class whose answers are listened to; its base takes long to import."""
    import aiohttp  # noqa: PLC0415  slow

    class WatchedResponse(aiohttp.ClientResponse):
        """An HTTP answer, with somebody listening."""

        async def read(self) -> bytes:
            """Read the body, and note what it says."""
            body = await super().read()
            traffic = asked.get()
            if traffic is not None:
                _note_answer(traffic, self.status, self.headers, body)
            return body

    return WatchedResponse


def _connector_class() -> "type[aiohttp.TCPConnector]":
    """Make the class that does not connect for ever; the SDK has no limit for that."""
    import aiohttp  # noqa: PLC0415  slow

    class HurriedConnector(aiohttp.TCPConnector):
        """Connections that come about soon, or not at all."""

        async def connect(
            self,
            req: "aiohttp.ClientRequest",
            traces: "list[Trace]",
            timeout: "aiohttp.ClientTimeout",  # noqa: ASYNC109  as its base has it
        ) -> "Connection":
            """Connect, within the limit."""
            async with asyncio.timeout(CONNECT_SECONDS):
                return await super().connect(req, traces, timeout)

    return HurriedConnector


def _note_answer(
    traffic: Traffic, status: int, headers: Mapping[str, str], body: bytes
) -> None:
    if status != _OK:
        traffic.status = status
        traffic.retry_after = _seconds(headers.get("Retry-After", ""))
    errors = errors_in(body) if b'"error' in body else []
    for error in errors:
        traffic.take_error(error)
    # Without errors the SDK hands them on itself.
    for item in items_in(body) if errors else ():
        traffic.take(item)


def items_in(body: str | bytes) -> list[Mapping[str, Any]]:
    """Read the results of an answer that has errors, too: the SDK drops them."""
    try:
        answer = json.loads(body)
    except ValueError:
        return []
    items = answer.get("data") if isinstance(answer, dict) else None
    return [item for item in items or () if isinstance(item, dict)]


def _seconds(value: str) -> float | None:
    """Read Retry-After in seconds; a date is not what this vendor sends."""
    try:
        wait = float(value)
    except ValueError:
        return None
    return max(0.0, wait) if math.isfinite(wait) else None
