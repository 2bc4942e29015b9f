"""The vendor's door: an HTTP server on this machine."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

import attrs

from gaia_core.testing.vendors import works
from gaia_core.testing.vendors.faults import Fault
from gaia_core.testing.vendors.shop import Job, Made, Shop
from gaia_core.testing.vendors.works import Payload

if TYPE_CHECKING:
    from aiohttp import web

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HOST = "127.0.0.1"
"""Nobody but this machine can reach a vendor."""

_MAX_BODY = 64 * 1024 * 1024
_PIECES = 10
_NOTICE_SECONDS = 0.01

_CODES = {
    Fault.FILTERED: "content_filtered",
    Fault.NO_MODEL: "no_such_model",
}
"""What the body of a refusal says where the status alone does not tell."""
_ANSWERED = frozenset(
    {Fault.BAD_IMAGE_AFTER, Fault.EMPTY_AFTER, Fault.LATE_AFTER, Fault.PARTIAL_AFTER}
)
_IN_PIECES = frozenset({Fault.SLOW_AFTER, Fault.TRUNCATED_AFTER})
_HANGING = frozenset({Fault.HANG_BEFORE, Fault.HANG_AFTER})
_ASKING_TO_WAIT = frozenset({Fault.BUSY, Fault.UNAVAILABLE})


@attrs.define(eq=False, kw_only=True)
class Vendor(Shop):
    """
    A vendor of pictures that keeps a book of what it charged.

    ::

        async with Vendor(faults=Faults(script=[Fault.DROP_AFTER])) as vendor:
            provider = VendorProvider(base_url=vendor.url)
            ...
        assert vendor.double_charges() == {}

    Its price, its faults and its promises are those of a `Shop`. A stand-in for a
    vendor that speaks HTTP in another form overrides `routes`, `reply` and
    `refusal`.

    Attributes:
        port: Where to listen; 0 picks a free port.
    """

    port: int = 0
    _runner: "web.AppRunner | None" = attrs.field(default=None, init=False, repr=False)

    async def __aenter__(self) -> Self:
        """Listen."""
        self.open_book()
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Charge what is under way, cut every connection and close the book."""
        await self._shut()
        self.close_book()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    @asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        """
        Be gone for a while: connections are refused, open ones are cut.

        ::

            async with vendor.closed():
                ...  # ProviderConnectionError
        """
        await self._shut()
        try:
            yield
        finally:
            await self._listen()

    # -- what it speaks ---------------------------------------------------------------

    def routes(self) -> "Sequence[web.RouteDef]":
        """Say what is answered at which address; `work` makes the paid handlers."""
        from aiohttp import web  # noqa: PLC0415  slow

        return [
            web.post("/v1/generate", self.work(works.generation)),
            web.post("/v1/upscale", self.work(works.upscaling)),
            web.post("/v1/remove-background", self.work(works.cutting_out)),
            web.get("/v1/tasks/{task_id}", self._look_up),
            web.get("/v1/models", self._list_models),
        ]

    def reply(self, made: Made) -> Any:
        """Say in JSON what was made."""
        return works.reply_of(made)

    def refusal(self, code: str) -> Any:
        """Say in JSON why nothing was; careless vendors put their `echo` into it."""
        return {"error": code, "message": self.echo}

    # -- the server -------------------------------------------------------------------

    async def _listen(self) -> None:
        from aiohttp import web  # noqa: PLC0415  slow

        self.start_work()
        app = web.Application(client_max_size=_MAX_BODY)
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.port).start()
        self.port = self._runner.addresses[0][1]

    async def _shut(self) -> None:
        self.finish_work()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
            # Clients on this loop learn here that what they kept open is closed.
            await asyncio.sleep(_NOTICE_SECONDS)

    # -- what is free -----------------------------------------------------------------

    async def _look_up(self, request: "web.Request") -> "web.StreamResponse":
        """Answer what a task made, or that nobody knows it."""
        if not self.has_lookup:
            return self._refused(HTTPStatus.NOT_IMPLEMENTED, "no_look_up")
        made = self.find(request.match_info["task_id"])
        if made is None:
            return self._refused(HTTPStatus.NOT_FOUND, "no_such_task")
        return _json(self.reply(made))

    async def _list_models(self, _: "web.Request") -> "web.StreamResponse":
        """Answer the one model there is."""
        model = {"id": "vendor-1", "price": str(self.price_usd)}
        return _json({"models": [model]})

    # -- what is paid -----------------------------------------------------------------

    def work(self, read: Callable[[Payload], Job]) -> "Handler":
        """
        Make the handler of one kind of paid work.

        Args:
            read: Reads the job from a payload; raises `ValueError`, `TypeError` or
                `KeyError` where there is none.
        """

        async def handle(request: "web.Request") -> "web.StreamResponse":
            body = await request.read()
            self.bodies.append(body)
            try:
                job = read(json.loads(body))
            except (KeyError, TypeError, ValueError) as error:
                return self._refused(HTTPStatus.BAD_REQUEST, type(error).__name__)
            fault = self.arrive(job)
            with self.counted():
                return await self._serve(request, job, fault)

        return handle

    async def _serve(
        self, request: "web.Request", job: Job, fault: Fault | None
    ) -> "web.StreamResponse":
        """Carry a request out, as far as the fault allows."""
        if fault is not None and not fault.is_charged:
            return await self._fail(request, fault)
        try:
            made = await self.carry_out(job, fault)
        except (KeyError, TypeError, ValueError) as error:
            return self._refused(HTTPStatus.BAD_REQUEST, type(error).__name__)
        if fault is Fault.LATE_AFTER:
            await self.pause(self.faults.late_seconds)
        if fault in _IN_PIECES:
            return await self._in_pieces(request, made, fault)
        if fault is None or fault in _ANSWERED:
            return _json(self.reply(made))
        return await self._fail(request, fault)

    # -- what goes wrong --------------------------------------------------------------

    async def _fail(self, request: "web.Request", fault: Fault) -> "web.StreamResponse":
        """Answer with a status, or not at all."""
        if fault.status is not None:
            wait = self.faults.retry_after
            may_wait = fault in _ASKING_TO_WAIT and wait is not None
            headers = {"Retry-After": f"{wait:g}"} if may_wait else {}
            code = _CODES.get(fault, str(fault))
            return self._refused(fault.status, code, headers)
        if fault in _HANGING:
            await self.pause(self.faults.hang_seconds)
        return _cut(request)

    async def _in_pieces(
        self, request: "web.Request", made: Made, fault: Fault | None
    ) -> "web.StreamResponse":
        """Answer slowly, or only half."""
        from aiohttp import web  # noqa: PLC0415  slow

        body = json.dumps(self.reply(made)).encode()
        facts = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        response = web.StreamResponse(headers=facts)
        with suppress(ConnectionResetError):  # the client gave up meanwhile
            await self._write(request, response, body, fault)
        return response

    async def _write(
        self,
        request: "web.Request",
        response: "web.StreamResponse",
        body: bytes,
        fault: Fault | None,
    ) -> None:
        """Write an answer piece by piece, as far as it comes."""
        if request.transport is None:
            return
        await response.prepare(request)
        if fault is Fault.TRUNCATED_AFTER:
            await response.write(body[: len(body) // 2])
            _cut(request)
            return
        size = -(-len(body) // _PIECES)
        for start in range(0, len(body), size):
            await self.pause(self.faults.slow_seconds / _PIECES)
            await response.write(body[start : start + size])

    def _refused(
        self, status: int, code: str, headers: dict[str, str] | None = None
    ) -> "web.Response":
        return _json(self.refusal(code), status=status, headers=headers)


def _json(content: Any, **facts: Any) -> "web.Response":
    from aiohttp import web  # noqa: PLC0415  slow

    return web.json_response(content, **facts)


def _cut(request: "web.Request") -> "web.Response":
    """Cut the connection; what is returned reaches nobody."""
    from aiohttp import web  # noqa: PLC0415  slow

    if request.transport is not None:
        request.transport.abort()
    return web.Response()
