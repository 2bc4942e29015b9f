"""
The hooks of Gemini.

The SDK takes half a second to import, so it is imported by the first hook that asks
the service; see `gaia_gemini.clients`.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import attrs

from gaia_core import (
    AuthenticationError,
    CallContext,
    Capability,
    DescribeImageRequest,
    DescriptionResult,
    EnhancePromptRequest,
    GeneratedImage,
    GenerateRequest,
    Health,
    HealthLevel,
    ImageResult,
    ModelInfo,
    PromptResult,
    ProviderError,
    ProviderInfo,
    Secret,
    UpscaleRequest,
    hookimpl,
    setting,
)
from gaia_gemini import listing
from gaia_gemini import models as catalogue
from gaia_gemini.clients import Access, Connection, Connections, connect
from gaia_gemini.errors import connecting, translated
from gaia_gemini.prices import TEXT_RATES
from gaia_gemini.sizes import IMAGE_SIZES

if TYPE_CHECKING:
    from gaia_gemini.payloads import Payload
    from gaia_gemini.replies import Reply

_REPAINTED = frozenset({Capability.INPAINTING, Capability.OUTPAINTING})


def _check_address(_: object, field: "attrs.Attribute[Any]", value: str | None) -> None:
    if value is not None and urlsplit(value).scheme not in {"http", "https"}:
        message = f"{field.name} must begin with https:// or http://"
        raise ValueError(message)


def _names(values: Iterable[str]) -> tuple[str, ...]:
    """Take names; a single one counts as one, not as its letters."""
    return (values,) if isinstance(values, str) else tuple(values)


@attrs.define(eq=False, kw_only=True)
class GeminiProvider:
    """
    Asks Google's Gemini, with a key or through Vertex AI.

    Attributes:
        api_key: The key.
        base_url: Where the Gemini API is asked, if not at Google.
        timeout: Seconds one call may take.
        image_size: The image size that is always taken; None: by width and height.
        text_model: The model that writes prompts and describes pictures.
        models: Further models that draw.
        vertexai: Whether Vertex AI is asked instead of the Gemini API.
        project: The project on Vertex AI.
        location: Where on Vertex AI.
        vertex_base_url: Where Vertex AI is asked, if not at Google.
    """

    api_key: Secret | None = setting(
        default=None,
        env=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        help="A key from aistudio.google.com.",
    )
    base_url: str | None = setting(
        default=None,
        env=("GOOGLE_GEMINI_BASE_URL",),
        help="Where the Gemini API is asked, if not at Google.",
        validator=_check_address,
    )
    timeout: float = setting(
        default=180.0,
        help="Seconds one call may take.",
        validator=attrs.validators.gt(0),
    )
    image_size: str | None = setting(
        default=None,
        help="512, 1K, 2K or 4K for every picture; otherwise by width and height.",
        validator=attrs.validators.optional(attrs.validators.in_(IMAGE_SIZES)),
    )
    text_model: str = setting(
        default=catalogue.TEXT_MODEL,
        help="The model that writes prompts and describes pictures.",
    )
    models: tuple[str, ...] = setting(
        default=(), help="Further models that draw.", converter=_names
    )
    vertexai: bool = setting(
        default=False,
        env=("GOOGLE_GENAI_USE_ENTERPRISE", "GOOGLE_GENAI_USE_VERTEXAI"),
        help="Whether Vertex AI is asked instead of the Gemini API.",
    )
    project: str | None = setting(
        default=None,
        env=("GOOGLE_CLOUD_PROJECT",),
        help="The project on Vertex AI; without it, the key says whose account it is.",
    )
    location: str = setting(
        default="global", env=("GOOGLE_CLOUD_LOCATION",), help="Where on Vertex AI."
    )
    vertex_base_url: str | None = setting(
        default=None,
        env=("GOOGLE_VERTEX_BASE_URL",),
        help="Where Vertex AI is asked, if not at Google.",
        validator=_check_address,
    )
    _connections: Connections = attrs.field(init=False, repr=False)

    @_connections.default
    def _no_connections(self) -> Connections:
        return Connections(make=lambda: connect(self._access))

    # -- who are you ------------------------------------------------------------------

    @hookimpl
    def gaia_provider_info(self) -> ProviderInfo:
        """Say who this is, and what is missing."""
        return ProviderInfo(
            name=catalogue.NAME,
            display_name="Google Gemini",
            capabilities=catalogue.capabilities(is_vertex=self.vertexai),
            priority=80,
            unavailable=self._missing,
            base_url=self._address,
        )

    @hookimpl
    async def gaia_list_models(
        self,
        refresh: bool,  # noqa: FBT001  hooks are called by keyword
        search: str | None,
    ) -> Sequence[ModelInfo]:
        """List what is known, or what the service says it has today."""
        cards = listing.known(self._cards(), search)
        if not refresh or self._missing is not None:
            return cards
        found = await self._found()
        return listing.known(listing.living(self._cards(found.drawing), found), search)

    # -- work -------------------------------------------------------------------------

    @hookimpl
    async def gaia_generate(
        self, request: GenerateRequest, context: CallContext
    ) -> ImageResult:
        """Draw pictures, each with a call of its own."""
        from gaia_gemini.drawing import Drawing  # noqa: PLC0415  listing does without

        model = catalogue.image_model(request.model)
        drawing = Drawing(
            request=request,
            model=model,
            image_size=self.image_size,
            context=context,
            ask=self._asked,
        )
        if request.capability in _REPAINTED:
            return await drawing.repainted()
        return await drawing.drawn()

    @hookimpl
    async def gaia_upscale(
        self, request: UpscaleRequest, context: CallContext
    ) -> ImageResult:
        """Enlarge a picture on Vertex AI."""
        from gaia_gemini import payloads, replies  # noqa: PLC0415  as above

        factor = payloads.upscale_factor(request)
        connection = await self._connection()
        with self._translated():
            async with asyncio.timeout(self.timeout):
                reply = await connection.sdk.aio.models.upscale_image(
                    model=catalogue.UPSCALER,
                    image={
                        "image_bytes": request.image.data,
                        "mime_type": request.image.media_type,
                    },
                    upscale_factor=factor,
                    config=payloads.upscaling(context.task_id),
                )
        image = GeneratedImage(data=replies.upscaled(reply))
        return ImageResult(
            images=[image],
            provider=catalogue.NAME,
            model=catalogue.UPSCALER,
            warnings=(
                *payloads.ignored_options(request),
                *replies.size_warnings(request, image),
            ),
        )

    @hookimpl
    async def gaia_enhance_prompt(
        self, request: EnhancePromptRequest, context: CallContext
    ) -> PromptResult:
        """Have a prompt worked out."""
        from gaia_gemini import payloads, replies  # noqa: PLC0415  as above

        payload = payloads.enhancement(request, self.text_model)
        text, cost = await self._words(payload, context)
        return PromptResult(
            prompt=replies.shortened(text, request.max_length),
            provider=catalogue.NAME,
            model=payload.model,
            cost_usd=cost,
            warnings=payload.warnings,
        )

    @hookimpl
    async def gaia_describe_image(
        self, request: DescribeImageRequest, context: CallContext
    ) -> DescriptionResult:
        """Have a picture described, or a question about it answered."""
        from gaia_gemini import payloads  # noqa: PLC0415  as above

        payload = payloads.description(request, self.text_model)
        text, cost = await self._words(payload, context)
        return DescriptionResult(
            description=text,
            provider=catalogue.NAME,
            model=payload.model,
            cost_usd=cost,
            warnings=payload.warnings,
        )

    # -- upkeep -----------------------------------------------------------------------

    @hookimpl
    async def gaia_check_health(self, level: HealthLevel) -> Health:
        """Look at the settings, or ask for the list of models, which is free."""
        configured = HealthLevel.CONFIGURED
        if self._missing is not None:
            return Health(level=configured, is_healthy=False, reason=self._missing)
        if level is configured:
            return Health(level=configured, is_healthy=True)
        try:
            await self._found()
        except AuthenticationError as error:
            is_enough = level is HealthLevel.REACHABLE
            reason = None if is_enough else str(error)
            return Health(
                level=HealthLevel.REACHABLE, is_healthy=is_enough, reason=reason
            )
        except ProviderError as error:
            return Health(level=configured, is_healthy=False, reason=str(error))
        return Health(level=level, is_healthy=True)

    @hookimpl
    async def gaia_stop(self) -> None:
        """Close the connections."""
        await self._connections.close()

    # -- inside -----------------------------------------------------------------------

    @property
    def _address(self) -> str | None:
        return self.vertex_base_url if self.vertexai else self.base_url

    @property
    def _access(self) -> Access:
        return Access(
            timeout=self.timeout,
            api_key=self.api_key.reveal().strip() if self.api_key else None,
            base_url=self._address,
            is_vertex=self.vertexai,
            project=self.project,
            location=self.location,
        )

    @property
    def _missing(self) -> str | None:
        """Say what keeps it from working, if anything does."""
        key = self.api_key.reveal().strip() if self.api_key else ""
        if not (key.isascii() and key.isprintable()):
            return "its api_key holds characters that no key has: copy it anew"
        if self.vertexai and not self.project and not key:
            return "Vertex AI needs GOOGLE_CLOUD_PROJECT or GOOGLE_API_KEY"
        if not self.vertexai and not key:
            return "GEMINI_API_KEY is not set (nor GOOGLE_API_KEY)"
        return None

    def _cards(self, more: Sequence[str] = ()) -> tuple[ModelInfo, ...]:
        return catalogue.cards(
            more=(*self.models, *more),
            size=self.image_size,
            text_model=self.text_model,
            is_vertex=self.vertexai,
        )

    @property
    def _secrets(self) -> tuple[Secret, ...]:
        """Give what no error may repeat: the key as it is sent."""
        return (Secret(self.api_key.reveal().strip()),) if self.api_key else ()

    def _translated(self) -> AbstractContextManager[None]:
        return translated(*self._secrets)

    async def _connection(self) -> Connection:
        if self._missing is not None:
            message = f"Gemini cannot be asked: {self._missing}."
            raise AuthenticationError(message)
        with connecting(*self._secrets):
            return await self._connections.get()

    async def _asked(self, payload: "Payload", task_id: str) -> "Reply":
        """Send one call, once; whether to send it again is not for us to say."""
        from gaia_gemini import replies  # noqa: PLC0415  as above

        connection = await self._connection()
        with self._translated():
            async with asyncio.timeout(self.timeout):
                body = await connection.answer(
                    model=payload.model,
                    contents=payload.contents,
                    config=payload.config_for(task_id),
                )
        return replies.parsed(body)

    async def _words(
        self, payload: "Payload", context: CallContext
    ) -> tuple[str, Decimal | None]:
        from gaia_gemini import replies  # noqa: PLC0415  as above

        reply = await self._asked(payload, context.task_id)
        return replies.words(reply, TEXT_RATES.get(payload.model))

    async def _found(self) -> listing.Found:
        """Ask the service what it has."""
        connection = await self._connection()
        with self._translated():
            async with asyncio.timeout(self.timeout):
                return await listing.asked(connection.sdk)
