"""The two ways into the stand-in for Runware: a WebSocket, and REST."""

import asyncio
import json
import uuid
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from gaia_core.testing.vendors.faults import Fault
from gaia_core.testing.vendors.runware_works import Item, Order, tasks_in

if TYPE_CHECKING:
    from aiohttp import web

    from gaia_core.testing.vendors.runware import RunwareVendor, Task

_MAX_FRAME = 64 * 1024 * 1024
_PIECES = 10
_BAD_GATEWAY = 1014
_TEXT_FRAME = 0x81
_BIG_FRAME = 127
_HANGING = frozenset({Fault.HANG_BEFORE, Fault.HANG_AFTER})
_ASKING_TO_WAIT = frozenset({Fault.BUSY, Fault.UNAVAILABLE})
_BY_A_PROXY = frozenset({Fault.BAD_GATEWAY_AFTER, Fault.GATEWAY_TIMEOUT_AFTER})
_BEARER = "Bearer "


class Door(Protocol):
    """Where answers go."""

    async def tell(
        self,
        data: Sequence[Item] = (),
        errors: Sequence[Item] = (),
        *,
        status: int = HTTPStatus.OK,
    ) -> None:
        """Send one answer."""

    async def answer(self, items: Sequence[Item], errors: Sequence[Item]) -> None:
        """Send what a task came to."""

    async def fail(
        self, fault: Fault, order: Order, task: "Task | None" = None
    ) -> None:
        """Let an answer go wrong."""


@attrs.define(eq=False, kw_only=True)
class SocketDoor:
    """
    One WebSocket, from the handshake to the end.

    Attributes:
        vendor: Whose it is.
        request: The handshake.
    """

    vendor: "RunwareVendor"
    request: "web.Request"
    _socket: "web.WebSocketResponse | None" = None
    _is_known: bool = False
    _jobs: set[asyncio.Task[None]] = attrs.field(factory=set)
    # Answers in pieces must not be mixed with others.
    _pen: asyncio.Lock = attrs.field(factory=asyncio.Lock)

    async def serve(self) -> "web.StreamResponse":
        """Take frames until the other end has gone."""
        from aiohttp import WSMsgType, web  # noqa: PLC0415  slow

        self._socket = web.WebSocketResponse(max_msg_size=_MAX_FRAME, timeout=1.0)
        await self._socket.prepare(self.request)
        async for message in self._socket:
            if message.type is WSMsgType.TEXT:
                await self._take(message.data)
        return self._socket

    async def finish(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*self._jobs, return_exceptions=True)

    def cut(self) -> None:
        """Cut the connection."""
        if self.request.transport is not None:
            self.request.transport.abort()

    async def tell(
        self,
        data: Sequence[Item] = (),
        errors: Sequence[Item] = (),
        *,
        status: int = HTTPStatus.OK,  # noqa: ARG002  the interface
    ) -> None:
        """Send one frame."""
        frame: dict[str, Any] = {}
        if data or not errors:
            frame["data"] = list(data)
        if errors:
            frame["errors"] = list(errors)
        await self._write(json.dumps(frame))

    async def answer(self, items: Sequence[Item], errors: Sequence[Item]) -> None:
        """Send a frame for each result, as the vendor does."""
        if errors and self.vendor.partial == "together":
            await self.tell(items, errors)
            return
        if errors and self.vendor.partial == "first":
            await self.tell(errors=errors)
        for number, item in enumerate(items):
            if number:
                await self.vendor.pause(self.vendor.result_delay)
            await self.tell([item])
        if errors and self.vendor.partial == "last":
            await self.tell(errors=errors)

    async def fail(
        self, fault: Fault, order: Order, task: "Task | None" = None
    ) -> None:
        """Close, cut, stay silent, or say what is wrong."""
        if fault in _HANGING:
            return
        if fault in {Fault.DROP_BEFORE, Fault.DROP_AFTER}:
            self.cut()
        elif fault is Fault.TRUNCATED_AFTER and task is not None:
            await self._half(_frame_of(task))
        elif fault is Fault.SLOW_AFTER and task is not None:
            await self._slow(_frame_of(task))
        elif fault is Fault.BAD_GATEWAY_AFTER:
            await self._close(_BAD_GATEWAY)
        elif fault.close_code is not None:
            await self._close(fault.close_code)
        else:
            named = None if fault is Fault.UNNAMED_ERROR else order
            await self.tell(errors=[self.vendor.error_item(fault, named)])

    # -- frames that come in ----------------------------------------------------------

    async def _take(self, text: str) -> None:
        """Read a frame; each task in it goes its own way."""
        self.vendor.bodies.append(text.encode())
        try:
            tasks = tasks_in(text)
        except ValueError:
            await self.tell(errors=[{"code": "invalidJSON", "message": "No JSON."}])
            return
        for payload in tasks:
            if payload.get("taskType") == "authentication":
                await self._introduce(payload)
            elif not self._is_known:
                await self.tell(errors=[self.vendor.login_error()])
            else:
                job = asyncio.create_task(self.vendor.handle(payload, self))
                self._jobs.add(job)
                job.add_done_callback(self._jobs.discard)

    async def _introduce(self, payload: Item) -> None:
        """Let somebody in, or not."""
        match self.vendor.greeting:
            case "silent":
                return
            case "closed":
                self.cut()
                return
            case "busy":
                error = self.vendor.error_item(Fault.UNAVAILABLE, None)
                await self.tell(errors=[error | {"taskType": "authentication"}])
                return
        if not self.vendor.lets_in(payload.get("apiKey")):
            await self.tell(errors=[self.vendor.login_error()])
            return
        self._is_known = True
        self.vendor.logins += 1
        session = payload.get("connectionSessionUUID") or str(uuid.uuid4())
        await self.tell(
            [{"taskType": "authentication", "connectionSessionUUID": session}]
        )

    # -- frames that go out -----------------------------------------------------------

    async def _write(self, text: str) -> None:
        socket = self._socket
        if socket is None or socket.closed:
            return
        async with self._pen:
            try:
                await socket.send_str(text)
            except ConnectionError:
                return

    async def _close(self, code: int) -> None:
        if self._socket is not None:
            await self._socket.close(code=code)

    async def _half(self, text: str) -> None:
        """Announce a whole frame, send half of it, and cut the connection."""
        body = text.encode()
        async with self._pen:
            self._raw(_head_of(body) + body[: len(body) // 2])
            await asyncio.sleep(0)
            self.cut()

    async def _slow(self, text: str) -> None:
        """Send a frame piece by piece."""
        body = text.encode()
        size = -(-len(body) // _PIECES)
        async with self._pen:
            self._raw(_head_of(body))
            for start in range(0, len(body), size):
                await self.vendor.pause(self.vendor.faults.slow_seconds / _PIECES)
                self._raw(body[start : start + size])

    def _raw(self, data: bytes) -> None:
        transport = self.request.transport
        if transport is not None and not transport.is_closing():
            transport.write(data)


@attrs.define(eq=False, kw_only=True)
class HttpDoor:
    """
    One POST.

    Attributes:
        vendor: Whose it is.
        request: The request.
    """

    vendor: "RunwareVendor"
    request: "web.Request"
    _data: list[Item] = attrs.field(factory=list)
    _errors: list[Item] = attrs.field(factory=list)
    _status: int = HTTPStatus.OK
    _fault: Fault | None = None

    async def serve(self) -> "web.StreamResponse":
        """Carry the tasks out one after another, and answer them all at once."""
        body = await self.request.read()
        self.vendor.bodies.append(body)
        key = self.request.headers.get("Authorization", "").removeprefix(_BEARER)
        if not self.vendor.lets_in(key):
            await self.tell(
                errors=[self.vendor.login_error()], status=HTTPStatus.UNAUTHORIZED
            )
            return self._whole()
        try:
            tasks = tasks_in(body)
        except ValueError:
            error = {"code": "invalidJSON", "message": "No JSON."}
            await self.tell(errors=[error], status=HTTPStatus.BAD_REQUEST)
            return self._whole()
        for payload in tasks:
            await self.vendor.handle(payload, self)
        return await self._sent()

    async def tell(
        self,
        data: Sequence[Item] = (),
        errors: Sequence[Item] = (),
        *,
        status: int = HTTPStatus.OK,
    ) -> None:
        """Note what is to be answered."""
        self._data.extend(data)
        self._errors.extend(errors)
        self._status = status

    async def answer(self, items: Sequence[Item], errors: Sequence[Item]) -> None:
        """Note what a task came to."""
        await self.tell(items, errors)

    async def fail(
        self, fault: Fault, order: Order, task: "Task | None" = None
    ) -> None:
        """Note how the answer goes wrong."""
        self._fault = fault
        if task is not None:
            self._data.extend(task.items)
        if fault.status is not None:
            self._data.clear()
            named = None if fault is Fault.UNNAMED_ERROR else order
            self._errors.append(self.vendor.error_item(fault, named))
            self._status = fault.status

    async def _sent(self) -> "web.StreamResponse":
        """Answer, as far as the fault allows."""
        fault = self._fault
        if fault is None or fault.status is not None:
            return self._whole()
        if fault in {Fault.SLOW_AFTER, Fault.TRUNCATED_AFTER}:
            return await self._in_pieces(is_cut=fault is Fault.TRUNCATED_AFTER)
        if fault in _HANGING:
            await self.vendor.pause(self.vendor.faults.hang_seconds)
        return self._cut()

    def _body(self) -> Item:
        body: Item = {"data": self._data}
        if self._errors:
            body["errors"] = self._errors
        return body

    def _whole(self) -> "web.StreamResponse":
        from aiohttp import web  # noqa: PLC0415  slow

        if self._fault in _BY_A_PROXY:
            page = "<html>The server behind this one did not answer.</html>"
            return web.Response(
                text=page, content_type="text/html", status=self._status
            )
        wait = self.vendor.faults.retry_after
        headers = {}
        if self._fault in _ASKING_TO_WAIT and wait is not None:
            headers["Retry-After"] = f"{wait:g}"
        return web.json_response(self._body(), status=self._status, headers=headers)

    async def _in_pieces(self, *, is_cut: bool) -> "web.StreamResponse":
        from aiohttp import web  # noqa: PLC0415  slow

        body = json.dumps(self._body()).encode()
        facts = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        response = web.StreamResponse(headers=facts)
        if self.request.transport is None:  # the client gave up before it began
            return response
        await response.prepare(self.request)
        if is_cut:
            await response.write(body[: len(body) // 2])
            return self._cut()
        size = -(-len(body) // _PIECES)
        for start in range(0, len(body), size):
            await self.vendor.pause(self.vendor.faults.slow_seconds / _PIECES)
            await response.write(body[start : start + size])
        return response

    def _cut(self) -> "web.StreamResponse":
        """Cut the connection; what is returned reaches nobody."""
        from aiohttp import web  # noqa: PLC0415  slow

        if self.request.transport is not None:
            self.request.transport.abort()
        return web.Response()


def _frame_of(task: "Task") -> str:
    return json.dumps({"data": task.items})


def _head_of(body: bytes) -> bytes:
    """Write the head of one whole text frame (RFC 6455, section 5.2)."""
    return bytes([_TEXT_FRAME, _BIG_FRAME]) + len(body).to_bytes(8)
