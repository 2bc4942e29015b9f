"""
A stand-in for Google's Gemini: the real SDK talks to it over real sockets.

::

    async with GeminiVendor(manner=Manner(prompt_block="SAFETY")) as vendor:
        provider = GeminiProvider(api_key=Secret(vendor.api_key), base_url=vendor.url)
        ...
    assert vendor.charges == []

It speaks the Gemini API (``/v1/models/…:generateContent``) and the parts of Vertex AI
that draw (``…:generateContent``, ``…:predict`` for upscaling), as of 2026-11.
"""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import attrs

from gaia_core.catalog import to_decimal
from gaia_core.testing.vendors import gemini_works as works
from gaia_core.testing.vendors.faults import Fault
from gaia_core.testing.vendors.gemini_works import GeminiJob
from gaia_core.testing.vendors.server import Vendor
from gaia_core.testing.vendors.shop import Job, Made
from gaia_core.testing.vendors.works import Payload

if TYPE_CHECKING:
    from aiohttp import web

KEY = "AIza-stand-in-key"
"""The key a stand-in accepts unless told otherwise."""
TASK_HEADER = "x-gaia-task"
"""The header whose value names a request in the book; the service has no such thing."""

_ERRORS: Mapping[str, tuple[int, str]] = {
    "api_key_invalid": (400, "INVALID_ARGUMENT"),
    str(Fault.BUSY): (429, "RESOURCE_EXHAUSTED"),
    str(Fault.UNAVAILABLE): (503, "UNAVAILABLE"),
    str(Fault.ERROR_BEFORE): (500, "INTERNAL"),
    str(Fault.ERROR_AFTER): (500, "INTERNAL"),
    str(Fault.UNNAMED_ERROR): (500, "INTERNAL"),
    str(Fault.GATEWAY_TIMEOUT_AFTER): (504, "DEADLINE_EXCEEDED"),
    str(Fault.UNAUTHORISED): (400, "INVALID_ARGUMENT"),
    str(Fault.NO_CREDIT): (400, "FAILED_PRECONDITION"),
    str(Fault.NO_MODEL): (404, "NOT_FOUND"),
}
_REFUSED = (400, "INVALID_ARGUMENT")
_KEY_IS_WRONG = frozenset({"api_key_invalid", str(Fault.UNAUTHORISED)})


@attrs.frozen(kw_only=True)
class Manner:
    """
    How the stand-in answers where nothing goes wrong on the wire.

    Attributes:
        prompt_block: Why the prompt is blocked; nothing is made or charged.
        finish_reason: Why there is no picture although the prompt was accepted.
        is_text_only: Whether words come instead of a picture; they are charged.
        thoughts: Pictures of the model's thinking before the answer.
        drafts: Pictures before the last.
        has_usage: Whether the answer says how many tokens it took.
        status: The status of the answer, with ``body``.
        body: The whole body of the answer, whatever it is; None: a sound one.
        headers: Further headers, with ``body``.
    """

    prompt_block: str | None = None
    finish_reason: str | None = None
    is_text_only: bool = False
    thoughts: int = 0
    drafts: int = 0
    has_usage: bool = True
    status: int = 200
    body: str | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def is_free(self) -> bool:
        """Whether nothing is made or charged."""
        return self.prompt_block is not None or self.status != HTTPStatus.OK


@attrs.define(eq=False, kw_only=True)
class GeminiVendor(Vendor):
    """
    A vendor that speaks as Gemini does and keeps a book of what it charged.

    Attributes:
        price_usd: What each picture costs, whatever its size.
        api_key: The only key it accepts.
        manner: How it answers.
        models: The models it lists, and the only ones it has.
        has_lookup: Gemini has none.
        connections: The addresses requests for paid work came from.
    """

    price_usd: Decimal = attrs.field(default=Decimal("0.0672"), converter=to_decimal)
    api_key: str = attrs.field(default=KEY, repr=False)
    manner: Manner = attrs.field(factory=Manner)
    models: tuple[str, ...] = works.MODELS
    has_lookup: bool = False
    connections: list[Any] = attrs.field(factory=list, init=False, repr=False)

    def routes(self) -> "Sequence[web.RouteDef]":
        """Serve both services, in any version of their API."""
        from aiohttp import web  # noqa: PLC0415  slow

        vertex = "/{version}/publishers/google/models"
        own = "/{version}/projects/{project}/locations/{location}"
        at_own = f"{own}/publishers/google/models"
        return [
            web.post("/token", self._token),
            web.get("/{version}/models", self._list),
            web.get(vertex, self._list),
            *(
                web.post(f"{path}/{{model}}:generateContent", self._generate)
                for path in ("/{version}/models", vertex, at_own)
            ),
            *(
                web.post(f"{path}/{{model}}:predict", self._predict)
                for path in (vertex, at_own)
            ),
        ]

    def reply(self, made: Made) -> Any:
        """Say in Gemini's form what was made."""
        job = made.job
        if not isinstance(job, GeminiJob):
            raise TypeError(type(job).__name__)
        if job.is_upscaling:
            return works.prediction(made.images)
        return works.content(
            job,
            made.images,
            thoughts=self.manner.thoughts,
            drafts=self.manner.drafts,
            is_text_only=self.manner.is_text_only,
            has_usage=self.manner.has_usage,
        )

    def refusal(self, code: str) -> Any:
        """Say in Google's form why nothing was made."""
        status, name = _ERRORS.get(code, _REFUSED)
        details: list[Any] = []
        if code in _KEY_IS_WRONG:
            details = [{"reason": "API_KEY_INVALID", "domain": "googleapis.com"}]
        elif self.faults.retry_after is not None:
            kind = "type.googleapis.com/google.rpc.RetryInfo"
            wait = f"{self.faults.retry_after:g}s"
            details = [{"@type": kind, "retryDelay": wait}]
        message = f"{code.replace('_', ' ')} {self.echo}".strip()
        error = {"code": status, "message": message, "status": name}
        return {"error": error | ({"details": details} if details else {})}

    # -- what is free -----------------------------------------------------------------

    async def _list(self, request: "web.Request") -> "web.StreamResponse":
        """List the models, a few on each page, as the service does."""
        if (refused := self._refused_key(request)) is not None:
            return refused
        start = int(request.query.get("pageToken") or 0)
        end = start + int(request.query.get("pageSize") or 50)
        is_vertex = "publishers" in request.path
        cards = [works.card(name, is_vertex=is_vertex) for name in self.models]
        page: dict[str, Any] = {
            "publisherModels" if is_vertex else "models": cards[start:end]
        }
        if end < len(cards):
            page["nextPageToken"] = str(end)
        return _json(page)

    async def _token(self, _: "web.Request") -> "web.StreamResponse":
        """Give the token of a service account; the key is one, too."""
        token = {"access_token": self.api_key, "token_type": "Bearer"}
        return _json(token | {"expires_in": 3_600})

    # -- what is paid -----------------------------------------------------------------

    async def _generate(self, request: "web.Request") -> "web.StreamResponse":
        return await self._paid(request, works.generation)

    async def _predict(self, request: "web.Request") -> "web.StreamResponse":
        return await self._paid(request, works.upscaling)

    async def _paid(self, request: "web.Request", read: Any) -> "web.StreamResponse":
        """Look at the key and the model, then do as every vendor does."""
        if (refused := self._refused_key(request)) is not None:
            return refused
        model = request.match_info["model"]
        if model not in self.models:
            return self._refused(HTTPStatus.NOT_FOUND, str(Fault.NO_MODEL))
        if request.transport is not None:
            self.connections.append(request.transport.get_extra_info("peername"))
        handle = self.work(partial(self._job, read, model, request))
        return await handle(request)

    def _job(
        self, read: Any, model: str, request: "web.Request", payload: Payload
    ) -> Job:
        task_id = request.headers.get(TASK_HEADER, "")
        job: Job = read(payload, model=model, task_id=task_id, number=self.requests)
        return job

    def _refused_key(self, request: "web.Request") -> "web.StreamResponse | None":
        """Take the key, or a token of an account on Vertex AI."""
        bearer = request.headers.get("Authorization", "")
        if self.api_key in (
            request.headers.get("x-goog-api-key"),
            bearer.removeprefix("Bearer "),
        ):
            return None
        return self._refused(HTTPStatus.BAD_REQUEST, "api_key_invalid")

    async def _serve(
        self, request: "web.Request", job: Job, fault: Fault | None
    ) -> "web.StreamResponse":
        """Answer in the manner that was chosen, where nothing goes wrong."""
        from aiohttp import web  # noqa: PLC0415  slow

        manner = self.manner
        if fault is not None:
            return await super()._serve(request, job, fault)
        if manner.prompt_block is not None:
            return _json(works.blocked(manner.prompt_block))
        if manner.is_free:
            return web.Response(
                status=manner.status, text=manner.body, headers=manner.headers
            )
        if manner.finish_reason is not None:
            return _json(works.unfinished(manner.finish_reason))
        if manner.body is not None:
            await self.carry_out(job)
            return web.Response(text=manner.body, headers=manner.headers)
        return await super()._serve(request, job, fault)

    async def _fail(self, request: "web.Request", fault: Fault) -> "web.StreamResponse":
        """Fail as Google does, where that is not as others do."""
        from aiohttp import web  # noqa: PLC0415  slow

        if fault is Fault.FILTERED:
            return _json(works.blocked("SAFETY"))
        if fault is Fault.BAD_GATEWAY_AFTER:
            page = "<html><title>502</title>Error 502 (Server Error)</html>"
            return web.Response(status=502, text=page, content_type="text/html")
        if fault in (Fault.UNAUTHORISED, Fault.NO_CREDIT):
            return self._refused(HTTPStatus.BAD_REQUEST, str(fault))
        if fault is Fault.NO_MODEL:
            return self._refused(HTTPStatus.NOT_FOUND, str(fault))
        return await super()._fail(request, fault)


def _json(content: Any) -> "web.Response":
    from aiohttp import web  # noqa: PLC0415  slow

    return web.Response(text=json.dumps(content), content_type="application/json")
