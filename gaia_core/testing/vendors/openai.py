"""A vendor that speaks OpenAI's form: pictures, chat, files and batches."""

import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

import attrs

from gaia_core.testing.vendors import openai_forms as forms
from gaia_core.testing.vendors.charges import Arrival
from gaia_core.testing.vendors.faults import Fault
from gaia_core.testing.vendors.openai_batches import BatchDesk, cut, json_answer
from gaia_core.testing.vendors.openai_forms import Payload
from gaia_core.testing.vendors.server import Vendor
from gaia_core.testing.vendors.shop import Job, Made

if TYPE_CHECKING:
    from aiohttp import web

    Handler = Callable[[web.Request], Any]
    Read = Callable[[Payload, str], Job]

_MOST_HEADS = 64
_CODES = {
    "content_filtered": "content_policy_violation",
    "no_such_model": "model_not_found",
    "no_credit": "insufficient_quota",
    "unauthorised": "invalid_api_key",
    "busy": "rate_limit_exceeded",
}


@attrs.define(eq=False, kw_only=True)
class OpenAIVendor(Vendor):
    """
    A stand-in for OpenAI, Parasail and whoever else speaks that form.

    ::

        async with OpenAIVendor() as vendor:
            client = AsyncOpenAI(base_url=vendor.url, api_key=vendor.api_key)
            ...
        assert vendor.double_charges() == {}

    A request is named in the book by its header ``Idempotency-Key``, by the
    ``custom_id`` of its line in a batch, or else by what it asks for.

    Attributes:
        api_key: The key it takes; every other one is refused.
        models: The models it has; others are not to be had.
        has_lookup: No: what is answered at once cannot be looked up in this form.
        heads: The headers of the latest requests, just as they came in.
        desk: Its files and batches.
    """

    api_key: str = attrs.field(default="sk-stand-in", repr=False)
    models: tuple[str, ...] = ("stand-in-image", "stand-in-vision")
    has_lookup: bool = False
    heads: deque[Mapping[str, str]] = attrs.field(init=False, repr=False)
    desk: BatchDesk = attrs.field(init=False)
    _pictures: dict[str, bytes] = attrs.field(factory=dict, init=False, repr=False)

    @heads.default
    def _no_heads(self) -> deque[Mapping[str, str]]:
        return deque(maxlen=_MOST_HEADS)

    @desk.default
    def _own_desk(self) -> BatchDesk:
        return BatchDesk(vendor=self)

    async def __aenter__(self) -> Self:
        """Listen."""
        self.desk.open()
        return await super().__aenter__()

    async def __aexit__(self, *details: object) -> None:
        """Charge what is under way, cut every connection, throw the files away."""
        await super().__aexit__(*details)
        self.desk.close()

    @property
    def root(self) -> str:
        """The address of the server, without the version."""
        return super().url

    @property
    def url(self) -> str:
        """What a client takes for its ``base_url``."""
        return f"{self.root}/v1"

    # -- what it speaks ---------------------------------------------------------------

    def routes(self) -> "Sequence[web.RouteDef]":
        """Say what is answered at which address."""
        from aiohttp import web  # noqa: PLC0415  slow

        return [
            web.get("/v1/models", self.guarded(self._list_all_models)),
            web.post("/v1/images/generations", self.job_of(forms.generation)),
            web.post("/v1/images/edits", self.job_of(forms.edit)),
            web.post("/v1/chat/completions", self.job_of(forms.chat)),
            web.get("/pictures/{name}", self._give_picture),
            *self.desk.routes(),
        ]

    def reply(self, made: Made) -> Any:
        """Say in JSON what was made."""
        if isinstance(made.job, forms.ChatJob):
            return forms.chat_reply(made, made.job.model)
        is_url = getattr(made.job, "response_format", "") == "url"
        return forms.pictures_reply(made, self._addresses(made) if is_url else ())

    def refusal(self, code: str) -> Any:
        """Say in JSON why nothing was, as OpenAI does."""
        message = f"Refused: {code}. {self.echo}".strip()
        code = _CODES.get(code, code)
        return {"error": {"message": message, "type": code, "code": code}}

    # -- who may come in --------------------------------------------------------------

    def guarded(self, handler: "Handler") -> "Handler":
        """Let only those in who bring the key; note what they brought."""

        async def handle(request: "web.Request") -> "web.StreamResponse":
            self.heads.append(dict(request.headers))
            if request.headers.get("Authorization") != f"Bearer {self.api_key}":
                refusal = self.refusal("unauthorised")
                return json_answer(refusal, status=HTTPStatus.UNAUTHORIZED)
            answer: web.StreamResponse = await handler(request)
            return answer

        return handle

    def job_of(self, read: "Read") -> "Handler":
        """Make the handler of one kind of paid work."""

        async def handle(request: "web.Request") -> "web.StreamResponse":
            try:
                payload = await self._payload(request)
                task_id = request.headers.get("Idempotency-Key")
                job = read(payload, task_id or forms.digest_of(payload))
            except (KeyError, TypeError, ValueError) as error:
                return self._refused(HTTPStatus.BAD_REQUEST, type(error).__name__)
            if payload.get("model") not in self.models:
                return self._refused(HTTPStatus.NOT_FOUND, "no_such_model")
            fault = self.arrive(job)
            with self.counted():
                return await self._serve(request, job, fault)

        return self.guarded(handle)

    async def _payload(self, request: "web.Request") -> Payload:
        """Read JSON, or the parts of a form; several parts of a name are a list."""
        if not request.content_type.startswith("multipart/"):
            body = await request.read()
            self.bodies.append(body)
            read: Payload = json.loads(body)
            return read
        payload: dict[str, Any] = {}
        async for part in await request.multipart():
            data = bytes(await part.read())  # type: ignore[union-attr]
            self.bodies.append(data)
            value: Any = data if part.filename else data.decode()  # type: ignore[union-attr]
            name = str(part.name)  # type: ignore[union-attr]
            if name.endswith("[]"):
                payload.setdefault(name.removesuffix("[]"), []).append(value)
            else:
                payload[name] = value
        return payload

    def note(self, job: Job, fault: Fault | None) -> None:
        """Note a request that came in a file, and what goes wrong with it."""
        self._book.arrive(
            Arrival(task_id=job.task_id, prompt=job.prompt, fault=fault, at=time.time())
        )

    # -- what is free -----------------------------------------------------------------

    async def _list_all_models(self, _: "web.Request") -> "web.StreamResponse":
        """Answer every model there is, all at once."""
        models = [
            {"id": name, "object": "model", "created": 1, "owned_by": "stand-in"}
            for name in self.models
        ]
        return json_answer({"object": "list", "data": models})

    async def _give_picture(self, request: "web.Request") -> "web.StreamResponse":
        """Answer a picture to whoever knows where it lies, but takes no key."""
        from aiohttp import web  # noqa: PLC0415  slow

        self.heads.append(dict(request.headers))
        data = self._pictures.get(request.match_info["name"])
        if data is None:
            return cut(request)
        return web.Response(body=data, content_type="image/png")

    def _addresses(self, made: Made) -> list[str]:
        """Put the pictures where they can be fetched."""
        names = [f"{len(self._pictures)}-{n}.png" for n in range(len(made.images))]
        self._pictures |= dict(zip(names, made.images, strict=True))
        return [f"{self.root}/pictures/{name}" for name in names]
