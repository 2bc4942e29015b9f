"""
Runware on this machine: its WebSocket and its REST, its task objects, its prices.

What it speaks is what ``runware-sdk`` 1.8.0 sends and reads, and what the vendor's
documents say of the rest. Two things no document says, and they are chosen here:
``getResponse`` for a task nobody knows answers with no items, and
``getTaskDetails`` with the error ``taskNotFound``, a code that the vendor's own
tests name (November 2026).
"""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

import attrs

from gaia_core.testing.vendors import runware_works as works
from gaia_core.testing.vendors.faults import Fault
from gaia_core.testing.vendors.runware_doors import HttpDoor, SocketDoor
from gaia_core.testing.vendors.runware_works import Item, Order, Payload, RefusedError
from gaia_core.testing.vendors.server import HOST, Vendor
from gaia_core.testing.vendors.shop import Made

if TYPE_CHECKING:
    from aiohttp import web

    from gaia_core.testing.vendors.runware_doors import Door

_CODES = {
    Fault.BUSY: "rateLimitExceeded",
    Fault.UNAVAILABLE: "serviceUnavailable",
    Fault.ERROR_BEFORE: "internalServerError",
    Fault.ERROR_AFTER: "internalServerError",
    Fault.BAD_GATEWAY_AFTER: "internalServerError",
    Fault.GATEWAY_TIMEOUT_AFTER: "timeoutProvider",
    Fault.UNNAMED_ERROR: "internalServerError",
    Fault.BAD_REQUEST: "invalidPositivePrompt",
    Fault.FILTERED: "contentPolicyViolation",
    Fault.UNAUTHORISED: "invalidApiKey",
    Fault.NO_CREDIT: "insufficientCredits",
    Fault.NO_MODEL: "invalidModel",
    Fault.PARTIAL_AFTER: "inferenceError",
}
_ANSWERED = frozenset(
    {
        None,
        Fault.BAD_IMAGE_AFTER,
        Fault.EMPTY_AFTER,
        Fault.LATE_AFTER,
        Fault.PARTIAL_AFTER,
    }
)
_PATH = "/v1"


@attrs.define(eq=False, kw_only=True)
class Task:
    """
    What the vendor knows of a task.

    Attributes:
        order: What was asked for.
        made: What it came to; None: it is under way.
        items: The result items.
        errors: What went wrong with a part of it.
    """

    order: Order
    made: Made | None = None
    items: list[Item] = attrs.field(factory=list)
    errors: list[Item] = attrs.field(factory=list)


@attrs.define(eq=False, kw_only=True)
class RunwareVendor(Vendor):
    """
    A stand-in for Runware: WebSocket, REST and result files on one port.

    ::

        async with RunwareVendor(faults=Faults(script=[Fault.DROP_AFTER])) as vendor:
            provider = RunwareProvider(api_key=Secret("k"), base_url=vendor.url)
            ...
        assert vendor.double_charges() == {}

    Whatever task id was seen working before is refused with ``conflictTaskUUID``
    and not charged, as the vendor does; `is_idempotent` has no say in it.

    Attributes:
        key: The only key that is let in; None: any.
        greeting: What becomes of who introduces himself over the WebSocket:
            ``answered``, ``silent``, ``closed`` or ``busy``.
        partial: Where the error of a partial answer is, over the WebSocket:
            ``last``, ``first``, ``together`` with the results in one frame, or
            ``early``: a refusal of one picture before the others are made.
        hides_running: Whether a synchronous task is known to no look-up until it has
            ended; the vendor documents ``getResponse`` for asynchronous ones only.
        result_delay: Seconds between the results of one task over the WebSocket.
        tired: How many questions about tasks are refused as too many.
        logins: How many let themselves be known.
        frames: How often each kind of task came in, whether paid or free.
    """

    key: str | None = attrs.field(default=None, repr=False)
    greeting: str = attrs.field(
        default="answered",
        validator=attrs.validators.in_(("answered", "silent", "closed", "busy")),
    )
    partial: str = attrs.field(
        default="last",
        validator=attrs.validators.in_(("last", "first", "together", "early")),
    )
    hides_running: bool = False
    result_delay: float = 0.0
    tired: int = 0
    logins: int = attrs.field(default=0, init=False)
    frames: dict[str, int] = attrs.field(factory=dict, init=False, repr=False)
    _tasks: dict[str, Task] = attrs.field(factory=dict, init=False, repr=False)
    _files: dict[str, bytes] = attrs.field(factory=dict, init=False, repr=False)
    _sockets: set[SocketDoor] = attrs.field(factory=set, init=False, repr=False)
    _jobs: set[asyncio.Task[None]] = attrs.field(factory=set, init=False, repr=False)

    @property
    def url(self) -> str:
        """Where the WebSocket is."""
        return f"ws://{HOST}:{self.port}{_PATH}"

    @property
    def http_url(self) -> str:
        """Where REST is."""
        return f"http://{HOST}:{self.port}{_PATH}"

    @property
    def open_sockets(self) -> int:
        """How many WebSockets are open."""
        return len(self._sockets)

    async def cut(self) -> None:
        """Cut every WebSocket, as a network does that goes away."""
        for socket in tuple(self._sockets):
            socket.cut()
        await asyncio.sleep(0)

    async def say_unnamed(self) -> None:
        """Send everybody an error that names no task."""
        for socket in tuple(self._sockets):
            await socket.tell(errors=[self.error_item(Fault.UNNAMED_ERROR, None)])

    # -- its doors --------------------------------------------------------------------

    def routes(self) -> "Sequence[web.RouteDef]":
        """Say what is answered at which address."""
        from aiohttp import web  # noqa: PLC0415  slow

        return [
            web.get(_PATH, self._socket),
            web.post(_PATH, self._post),
            web.get("/image/{name}", self._file),
        ]

    async def _shut(self) -> None:
        self.finish_work()
        for socket in tuple(self._sockets):
            socket.cut()
            await socket.finish()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        await super()._shut()

    async def _socket(self, request: "web.Request") -> "web.StreamResponse":
        door = SocketDoor(vendor=self, request=request)
        self._sockets.add(door)
        try:
            return await door.serve()
        finally:
            self._sockets.discard(door)

    async def _post(self, request: "web.Request") -> "web.StreamResponse":
        return await HttpDoor(vendor=self, request=request).serve()

    async def _file(self, request: "web.Request") -> "web.Response":
        from aiohttp import web  # noqa: PLC0415  slow

        name = request.match_info["name"]
        if name not in self._files:
            return web.Response(status=HTTPStatus.NOT_FOUND)
        kind = f"image/{name.rpartition('.')[2].replace('jpg', 'jpeg')}"
        return web.Response(body=self._files[name], content_type=kind)

    def _keep(self, name: str, data: bytes) -> str:
        self._files[name] = data
        return f"http://{HOST}:{self.port}/image/{name}"

    def _find_file(self, source: str) -> bytes | None:
        """Find a picture by its address, its name or its UUID."""
        wanted = source.rpartition("/")[2]
        found = (
            data
            for name, data in self._files.items()
            if wanted in {name, name.rpartition(".")[0]}
        )
        return next(found, None)

    # -- tasks ------------------------------------------------------------------------

    def lets_in(self, key: object) -> bool:
        """Tell whether a key opens the door."""
        return bool(key) and self.key in {None, key}

    async def handle(self, payload: Payload, door: "Door") -> None:
        """Carry out one task object, and answer at the door it came through."""
        kind = str(payload.get("taskType"))
        self.frames[kind] = self.frames.get(kind, 0) + 1
        match kind:
            case "ping":
                await door.tell([{"taskType": "ping", "pong": True}])
            case "modelSearch":
                await door.tell([works.search(payload)])
            case "getResponse":
                await self._respond(str(payload.get("taskUUID")), door)
            case "getTaskDetails":
                await self._recall(str(payload.get("taskUUID")), door)
            case _:
                await self._work(payload, door)

    async def _respond(self, task_id: str, door: "Door") -> None:
        """Say how far a task is; who knows of none hears of none."""
        if self.tired:
            self.tired -= 1
            error = self._error(_CODES[Fault.BUSY], task_id)
            await door.tell(errors=[error], status=HTTPStatus.TOO_MANY_REQUESTS)
            return
        task = self._known(task_id) if self.has_lookup else None
        if task is None:
            await door.tell([])
        elif task.made is None:
            kind = task.order.payload["taskType"]
            running = {"taskType": kind, "taskUUID": task_id, "status": "processing"}
            await door.tell([running])
        else:
            await door.tell(task.items, task.errors)

    async def _recall(self, task_id: str, door: "Door") -> None:
        """Tell what was asked and answered, long after."""
        task = self._known(task_id)
        if not self.has_lookup:
            await door.tell([])
        elif task is None:
            await door.tell(errors=[self._error("taskNotFound", task_id, "taskUUID")])
        else:
            response: Item = {"data": task.items}
            if task.errors:
                response["errors"] = task.errors
            item = {"taskType": "getTaskDetails", "taskUUID": task_id}
            request = [dict(task.order.payload)]
            await door.tell([item | {"request": request, "response": response}])

    def _known(self, task_id: str) -> Task | None:
        """Give what a look-up finds of a task."""
        task = self._tasks.get(task_id)
        if task is None or task.made is not None or task.order.is_async:
            return task
        return None if self.hides_running else task

    async def _work(self, payload: Payload, door: "Door") -> None:
        """Take a task on, unless it is none, or is known already."""
        try:
            order = works.order_of(payload, self._find_file)
        except RefusedError as error:
            await self._refuse(error, payload, door)
            return
        task_id = order.job.task_id
        fault = self.arrive(order.job)
        if task_id in self._tasks:
            known = self._error("conflictTaskUUID", task_id, "taskUUID")
            await door.tell(errors=[known], status=HTTPStatus.BAD_REQUEST)
            return
        with self.counted():
            await self._carry_out(order, fault, door)

    async def _carry_out(self, order: Order, fault: Fault | None, door: "Door") -> None:
        if fault is not None and not fault.is_charged:
            await door.fail(fault, order)
            return
        task = self._tasks[order.job.task_id] = Task(order=order)
        if fault is Fault.PARTIAL_AFTER and self.partial == "early":
            await door.tell(errors=[self.error_item(Fault.FILTERED, order)])
        if order.is_async and fault in _ANSWERED:
            job = asyncio.create_task(self._finish(task, fault, is_late=True))
            self._jobs.add(job)
            job.add_done_callback(self._jobs.discard)
            await door.tell([_acknowledged(order)])
            return
        await self._finish(task, fault)
        if fault in _ANSWERED:
            await self._wait_if_late(fault)
            await door.answer(task.items, task.errors)
        elif fault is not None:
            await door.fail(fault, order, task)

    async def _finish(
        self, task: Task, fault: Fault | None, *, is_late: bool = False
    ) -> None:
        """Make it, charge it, and put the results where they can be had."""
        if is_late:
            await self._wait_if_late(fault)
        made = await self.carry_out(task.order.job, fault)
        task.items = works.items_of(task.order, made, self._keep)
        wanted = int(task.order.payload.get("numberResults", 1))
        if fault is Fault.PARTIAL_AFTER and len(made.images) < wanted:
            task.errors = [self.error_item(fault, task.order)]
        task.made = made

    async def _wait_if_late(self, fault: Fault | None) -> None:
        if fault is Fault.LATE_AFTER:
            await self.pause(self.faults.late_seconds)

    # -- refusals ---------------------------------------------------------------------

    async def _refuse(
        self, error: RefusedError, payload: Payload, door: "Door"
    ) -> None:
        task_id = payload.get("taskUUID")
        item = self._error(error.code, task_id, error.parameter)
        await door.tell(errors=[item], status=HTTPStatus.BAD_REQUEST)

    def error_item(self, fault: Fault, order: Order | None) -> Item:
        """Say in the vendor's words what went wrong; without an order, of nothing."""
        task_id = None if order is None else order.job.task_id
        item = self._error(_CODES[fault], task_id)
        if order is not None:
            item["taskType"] = order.payload["taskType"]
        return item

    def login_error(self) -> Item:
        """Refuse a key."""
        item = self._error("invalidApiKey", None, "apiKey")
        return item | {"taskType": "authentication"}

    def _error(
        self, code: str, task_id: object = None, parameter: str | None = None
    ) -> Item:
        item: Item = {"code": code, "message": f"It went wrong: {code}. {self.echo}"}
        if parameter is not None:
            item["parameter"] = parameter
        if task_id is not None:
            item["taskUUID"] = task_id
        return item


def _acknowledged(order: Order) -> Item:
    return {"taskType": order.payload["taskType"], "taskUUID": order.job.task_id}
