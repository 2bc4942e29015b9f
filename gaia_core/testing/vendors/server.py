"""The vendor: an HTTP server on this machine that charges, and fails to order."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs

from gaia_core.catalog import to_decimal
from gaia_core.testing.vendors import works
from gaia_core.testing.vendors.charges import Accounts, Arrival, Charge, ChargeBook
from gaia_core.testing.vendors.faults import Fault, Faults
from gaia_core.testing.vendors.works import Payload, Reply

if TYPE_CHECKING:
    from aiohttp import web

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


@attrs.define(eq=False, kw_only=True)
class Vendor(Accounts):
    """
    A vendor of pictures that keeps a book of what it charged.

    ::

        async with Vendor(faults=Faults(script=[Fault.DROP_AFTER])) as vendor:
            provider = VendorProvider(base_url=vendor.url)
            ...
        assert vendor.double_charges() == {}

    It charges as vendors do: every request that is carried out, also the second
    one with the same task id, unless it promises to tell them apart.

    Attributes:
        price_usd: What each picture costs.
        faults: What goes wrong.
        delay: Seconds the work takes, before it is charged.
        is_idempotent: Whether a task id that was charged is answered with what it
            made, and not charged again.
        has_lookup: Whether a task can be looked up by its id.
        path: A file to keep the book in, too.
        port: Where to listen; 0 picks a free port.
        most_at_once: How many requests for paid work there were at the same time.
    """

    price_usd: Decimal = attrs.field(default=Decimal("0.04"), converter=to_decimal)
    faults: Faults = attrs.field(factory=Faults)
    delay: float = 0.0
    is_idempotent: bool = False
    has_lookup: bool = True
    path: Path | None = None
    port: int = 0
    most_at_once: int = attrs.field(default=0, init=False)
    _at_once: int = attrs.field(default=0, init=False)
    _book: ChargeBook = attrs.field(init=False, repr=False)
    _made: dict[str, Reply] = attrs.field(factory=dict, init=False, repr=False)
    _injected_at: int = attrs.field(default=0, init=False, repr=False)
    _seen: Counter[str] = attrs.field(factory=Counter, init=False, repr=False)
    _runner: "web.AppRunner | None" = attrs.field(default=None, init=False, repr=False)
    _closing: asyncio.Event = attrs.field(init=False, repr=False)

    @_book.default
    def _empty_book(self) -> ChargeBook:
        return ChargeBook(path=self.path)

    async def __aenter__(self) -> Self:
        """Listen."""
        self._book.open()
        self.inject(self.faults)
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cut every connection and close the book."""
        await self._shut()
        self._book.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    @property
    def charges(self) -> Sequence[Charge]:
        """Every charge so far, in order."""
        return self._book.charges

    @property
    def arrivals(self) -> Sequence[Arrival]:
        """Every request for paid work so far, in order."""
        return self._book.arrivals

    def inject(self, faults: Faults) -> None:
        """Let other things go wrong from now on; ``Faults()`` heals it."""
        self.faults = faults
        self._seen.clear()
        self._injected_at = self.requests

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

    # -- the server -------------------------------------------------------------------

    async def _listen(self) -> None:
        from aiohttp import web  # noqa: PLC0415  slow

        self._closing = asyncio.Event()
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.port).start()
        self.port = self._runner.addresses[0][1]

    async def _shut(self) -> None:
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
            # Clients on this loop learn here that what they kept open is closed.
            await asyncio.sleep(_NOTICE_SECONDS)

    def _app(self) -> "web.Application":
        from aiohttp import web  # noqa: PLC0415  slow

        app = web.Application(client_max_size=_MAX_BODY)
        app.add_routes(
            [
                web.post("/v1/generate", self._work(works.generated)),
                web.post("/v1/upscale", self._work(works.upscaled)),
                web.post("/v1/remove-background", self._work(works.cut_out)),
                web.get("/v1/tasks/{task_id}", self._look_up),
                web.get("/v1/models", self._list_models),
            ]
        )
        return app

    # -- what is free -----------------------------------------------------------------

    async def _look_up(self, request: "web.Request") -> "web.StreamResponse":
        """Answer what a task made, or that nobody knows it."""
        reply = self._made.get(request.match_info["task_id"])
        if reply is None or not self.has_lookup:
            return _refusal(HTTPStatus.NOT_FOUND, "no_such_task")
        return _answer(reply)

    async def _list_models(self, _: "web.Request") -> "web.StreamResponse":
        """Answer the one model there is."""
        model = {"id": "vendor-1", "price": str(self.price_usd)}
        return _answer({"models": [model]})

    # -- what is paid -----------------------------------------------------------------

    def _work(
        self, make: Callable[[Payload], list[bytes]]
    ) -> "Callable[[web.Request], Awaitable[web.StreamResponse]]":
        """Make the handler of one kind of paid work."""

        async def handle(request: "web.Request") -> "web.StreamResponse":
            payload = await request.json()
            fault = self._arrived(payload)
            with self._counted():
                return await self._serve(request, payload, make, fault)

        return handle

    def _arrived(self, payload: Payload) -> Fault | None:
        """Note a request, and say what goes wrong with it."""
        prompt = payload.get("prompt", "")
        number = self.requests - self._injected_at
        fault = self.faults.drawn(number, prompt, self._seen[prompt])
        self._seen[prompt] += 1
        self._book.arrive(
            Arrival(
                task_id=payload["task_id"], prompt=prompt, fault=fault, at=time.time()
            )
        )
        return fault

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Keep count of how much is asked for at the same time."""
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            self._at_once -= 1

    async def _serve(
        self,
        request: "web.Request",
        payload: Payload,
        make: Callable[[Payload], list[bytes]],
        fault: Fault | None,
    ) -> "web.StreamResponse":
        """Carry a request out, as far as the fault allows."""
        if fault is not None and not fault.is_charged:
            return await self._fail(request, fault)
        try:
            images = make(payload)
        except (KeyError, TypeError, ValueError) as error:
            return _refusal(HTTPStatus.BAD_REQUEST, str(error))
        await self._pause(self.delay)
        reply = self._charged(payload, images, fault)
        if fault in {Fault.SLOW_AFTER, Fault.TRUNCATED_AFTER}:
            return await self._in_pieces(request, reply, fault)
        if fault in {None, Fault.BAD_IMAGE_AFTER, Fault.EMPTY_AFTER}:
            return _answer(reply)
        return await self._fail(request, fault)

    def _charged(
        self, payload: Payload, images: list[bytes], fault: Fault | None
    ) -> Reply:
        """Charge some work, unless it was charged before and that counts."""
        task_id = payload["task_id"]
        if self.is_idempotent and task_id in self._made:
            return self._made[task_id]
        cost_usd = self.price_usd * len(images)
        self._book.charge(
            Charge(
                task_id=task_id,
                amount_usd=cost_usd,
                prompt=payload.get("prompt", ""),
                at=time.time(),
            )
        )
        self._made[task_id] = works.reply_of(payload, images, cost_usd, fault)
        return self._made[task_id]

    # -- what goes wrong --------------------------------------------------------------

    async def _fail(self, request: "web.Request", fault: Fault) -> "web.StreamResponse":
        """Answer with a status, or not at all."""
        if fault.status is not None:
            return self._status(fault, fault.status)
        if fault in {Fault.HANG_BEFORE, Fault.HANG_AFTER}:
            await self._pause(self.faults.hang_seconds)
        return _cut(request)

    def _status(self, fault: Fault, status: int) -> "web.StreamResponse":
        wait = self.faults.retry_after
        may_wait = fault in {Fault.BUSY, Fault.UNAVAILABLE} and wait is not None
        headers = {"Retry-After": f"{wait:g}"} if may_wait else {}
        return _refusal(status, _CODES.get(fault, str(fault)), headers)

    async def _in_pieces(
        self, request: "web.Request", reply: Reply, fault: Fault
    ) -> "web.StreamResponse":
        """Answer slowly, or only half."""
        from aiohttp import web  # noqa: PLC0415  slow

        body = json.dumps(reply).encode()
        response = web.StreamResponse(
            headers={
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
            }
        )
        await response.prepare(request)
        if fault is Fault.TRUNCATED_AFTER:
            await response.write(body[: len(body) // 2])
            return _cut(request)
        size = -(-len(body) // _PIECES)
        for start in range(0, len(body), size):
            await self._pause(self.faults.slow_seconds / _PIECES)
            await response.write(body[start : start + size])
        return response

    async def _pause(self, seconds: float) -> None:
        """Take time; no longer than until it closes."""
        if seconds <= 0:
            return
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return


def _answer(content: Any) -> "web.Response":
    from aiohttp import web  # noqa: PLC0415  slow

    return web.json_response(content)


def _refusal(
    status: int, code: str, headers: dict[str, str] | None = None
) -> "web.Response":
    from aiohttp import web  # noqa: PLC0415  slow

    return web.json_response({"error": code}, status=status, headers=headers)


def _cut(request: "web.Request") -> "web.Response":
    """Cut the connection; what is returned reaches nobody."""
    from aiohttp import web  # noqa: PLC0415  slow

    if request.transport is not None:
        request.transport.abort()
    return web.Response()
