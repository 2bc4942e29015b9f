"""A provider for the vendor: a real plugin, over real sockets."""

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs

from gaia_core.capabilities import Capability
from gaia_core.catalog import (
    Health,
    HealthLevel,
    ModelInfo,
    Price,
    ProviderInfo,
    to_decimal,
)
from gaia_core.context import CallContext
from gaia_core.errors import ModelError, ProviderError, UnusableResultError
from gaia_core.hookspecs import hookimpl
from gaia_core.requests import (
    GenerateRequest,
    RemoveBackgroundRequest,
    Request,
    UpscaleRequest,
)
from gaia_core.results import GeneratedImage, ImageResult
from gaia_core.testing.vendors.errors import refused, translated

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

MODEL = "vendor-1"
"""The one model the vendor has."""

_CAPABILITIES = (
    Capability.TEXT_TO_IMAGE,
    Capability.UPSCALING,
    Capability.BACKGROUND_REMOVAL,
)
_CONNECT_SECONDS = 5.0
# A connection kept longer may be closed already at the other end, and then nobody
# knows whether what was sent into it was carried out.
_KEEPALIVE_SECONDS = 4.0
_OK = 200


@attrs.define(eq=False, kw_only=True)
class VendorProvider:
    """
    Asks a `Vendor`, and translates its errors.

    It cannot look up what became of a lost answer; `RecoverableVendorProvider`
    can.

    Attributes:
        base_url: Where the vendor listens.
        api_key: Sent along; the vendor takes any.
        name: The provider's name.
        price_usd: What it says each picture costs; the bill is the vendor's.
        priority: Its rank.
        timeout: Seconds until it gives an answer up.
        is_idempotent: Whether it says that a task id is never charged twice.
        max_concurrent: The most attempts at a time it says it can take.
        requests_per_minute: The most attempts a minute it says it can take.
    """

    base_url: str
    api_key: str = attrs.field(default="", repr=False)
    name: str = "vendor"
    price_usd: Decimal = attrs.field(default=Decimal("0.04"), converter=to_decimal)
    priority: int = 50
    timeout: float = 60.0
    is_idempotent: bool = False
    max_concurrent: int | None = None
    requests_per_minute: int | None = None
    _session: "ClientSession | None" = attrs.field(default=None, init=False, repr=False)

    # -- who are you ------------------------------------------------------------------

    @hookimpl
    def gaia_provider_info(self) -> ProviderInfo:
        """Say what the test told it to be."""
        return ProviderInfo(
            name=self.name,
            capabilities=frozenset(_CAPABILITIES),
            priority=self.priority,
            is_idempotent=self.is_idempotent,
            max_concurrent=self.max_concurrent,
            requests_per_minute=self.requests_per_minute,
        )

    @hookimpl
    async def gaia_list_models(self) -> Sequence[ModelInfo]:
        """List the one model; nobody is asked."""
        return [
            ModelInfo(
                id=MODEL,
                name="Vendor 1",
                provider=self.name,
                capabilities=frozenset(_CAPABILITIES),
                max_width=2_048,
                max_height=2_048,
                max_images=8,
                supported_fields={"seed", "style"},
                price=Price(per_image=self.price_usd),
            )
        ]

    # -- work -------------------------------------------------------------------------

    @hookimpl
    async def gaia_generate(
        self, request: GenerateRequest, context: CallContext
    ) -> ImageResult:
        """Have pictures made."""
        payload = {
            "prompt": request.styled_prompt,
            "width": request.width,
            "height": request.height,
            "n": request.num_images,
            "seed": request.seed,
        }
        return await self._ask("generate", payload, request, context)

    @hookimpl
    async def gaia_upscale(
        self, request: UpscaleRequest, context: CallContext
    ) -> ImageResult:
        """Have a picture enlarged."""
        payload = {"image": _text(request), "factor": request.upscale_factor}
        return await self._ask("upscale", payload, request, context)

    @hookimpl
    async def gaia_remove_background(
        self, request: RemoveBackgroundRequest, context: CallContext
    ) -> ImageResult:
        """Have a subject cut out."""
        payload = {"image": _text(request)}
        return await self._ask("remove-background", payload, request, context)

    # -- upkeep -----------------------------------------------------------------------

    @hookimpl
    async def gaia_check_health(self, level: HealthLevel) -> Health:
        """Ask for the models, which is free."""
        if level is HealthLevel.CONFIGURED:
            return Health(level=level, is_healthy=True)
        try:
            await self._got("models")
        except ProviderError as error:
            return Health(level=level, is_healthy=False, reason=str(error))
        return Health(level=level, is_healthy=True)

    @hookimpl
    async def gaia_stop(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    # -- inside -----------------------------------------------------------------------

    async def _ask(
        self, work: str, payload: dict[str, Any], request: Request, context: CallContext
    ) -> ImageResult:
        """Send paid work, once; whether to send it again is not for us to say."""
        sent = {"task_id": context.task_id, "model": request.model, **payload}
        with translated(self.name):
            async with (
                asyncio.timeout(self.timeout),
                self._client().post(self._address(work), json=sent) as answer,
            ):
                reply = await self._read(answer)
        return self._result(reply, request.model or MODEL)

    async def _got(self, path: str) -> Mapping[str, Any]:
        """Ask for what is free."""
        with translated(self.name):
            async with (
                asyncio.timeout(self.timeout),
                self._client().get(self._address(path)) as answer,
            ):
                return await self._read(answer)

    def _address(self, path: str) -> str:
        return f"{self.base_url}/v1/{path}"

    async def _read(self, answer: "ClientResponse") -> Mapping[str, Any]:
        body = await answer.read()
        try:
            reply = json.loads(body)
        except ValueError:
            reply = None
        found: Mapping[str, Any] = reply if isinstance(reply, dict) else {}
        if answer.status != _OK:
            code = str(found.get("error", ""))
            raise refused(self.name, answer.status, code, answer.headers)
        return found

    def _result(self, reply: Mapping[str, Any], model: str) -> ImageResult:
        """Take the pictures out of a reply."""
        try:
            images = [
                GeneratedImage(data=base64.b64decode(image), seed=_seed(reply, number))
                for number, image in enumerate(reply["images"])
            ]
        except (KeyError, TypeError, ValueError) as error:
            message = f"{self.name} answered what nobody can read."
            raise UnusableResultError(message) from error
        return ImageResult(
            images=images, provider=self.name, model=model, cost_usd=reply.get("cost")
        )

    def _client(self) -> "ClientSession":
        """Give the connections, opened when first needed."""
        import aiohttp  # noqa: PLC0415  slow

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, keepalive_timeout=_KEEPALIVE_SECONDS
                ),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=_CONNECT_SECONDS
                ),
                headers={"Authorization": f"Bearer {self.api_key}"},
                trust_env=False,
            )
        return self._session


@attrs.define(eq=False, kw_only=True)
class RecoverableVendorProvider(VendorProvider):
    """A `VendorProvider` that can look up what became of a lost answer."""

    @hookimpl
    async def gaia_recover(
        self,
        task_id: str,
        context: CallContext,  # noqa: ARG002  the interface
    ) -> ImageResult | None:
        """Ask the vendor for what a task made."""
        try:
            reply = await self._got(f"tasks/{task_id}")
        except ModelError:  # 404: it never saw the task
            return None
        return self._result(reply, MODEL)


def _text(request: UpscaleRequest | RemoveBackgroundRequest) -> str:
    return base64.b64encode(request.image.data).decode()


def _seed(reply: Mapping[str, Any], number: int) -> int | None:
    seed = reply.get("seed")
    return seed + number if isinstance(seed, int) else None
