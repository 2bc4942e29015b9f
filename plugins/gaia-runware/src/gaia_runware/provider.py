"""The provider: what it is, what it lists, and what it does when asked."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Literal

import attrs

from gaia_core import (
    AuthenticationError,
    CallContext,
    Capability,
    DescribeImageRequest,
    DescriptionResult,
    EnhancePromptRequest,
    GenerateRequest,
    Health,
    HealthLevel,
    ImageResult,
    ModelInfo,
    PromptResult,
    ProviderError,
    ProviderInfo,
    ProviderRequestError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitError,
    RemoveBackgroundRequest,
    Secret,
    UpscaleRequest,
    hookimpl,
    setting,
)
from gaia_core.requests import Request
from gaia_runware import models
from gaia_runware.addresses import address_of, is_address
from gaia_runware.models import ExtraModel

if TYPE_CHECKING:
    from gaia_runware.lines import Found, Line
    from gaia_runware.payloads import Task
    from gaia_runware.traffic import Item

NAME = "runware"
CAPABILITIES = frozenset(Capability)
"""Everything Gaia knows of."""

RESULT_HOSTS = frozenset({"*.runware.ai"})
"""
Where results lie.

The vendor's documents show pictures at im.runware.ai and films at vm.runware.ai
(https://runware.ai/docs, November 2026); all its names end alike.
"""

_PAGE = 100
_MOST_PAGES = 5
_ANSWERED = 0.9
"""How far the work is when only the pictures have to be fetched."""

_ANSWERS = (
    AuthenticationError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitError,
)
"""What only somebody who is there can say."""

_positive = attrs.validators.gt(0)
_whole = attrs.validators.ge(0)
_one = attrs.validators.ge(1)


def _check_address(_: object, __: object, value: str | None) -> None:
    if value is not None and not is_address(value):
        message = (
            "base_url must begin with wss://, ws://, https:// or http://, and hold no "
            "name or password"
        )
        raise ValueError(message)


@attrs.define(eq=False, kw_only=True)
class RunwareProvider:
    """
    Asks Runware, on the vendor's own SDK.

    Attributes:
        api_key: The key.
        base_url: Where the vendor is; None: its own address.
        transport: ``websocket`` or ``rest``; None: as the address says.
        timeout: The longest wait for one answer, in seconds.
        max_retries: Most repetitions of one operation; None: as Gaia does.
        retry_delay: Seconds before the first repetition; None: as Gaia does.
        default_model: The model that comes first.
        max_concurrent: Most requests at a time; None: any number.
        pool_size: Most WebSockets on one event loop.
        models: Further models by their identifiers.
    """

    api_key: Secret | None = setting(
        default=None,
        env=("RUNWARE_API_KEY",),
        help="The key, from https://my.runware.ai/keys.",
    )
    base_url: str | None = setting(
        default=None,
        env=("RUNWARE_BASE_URL",),
        help="Where Runware is asked; wss:// takes the WebSocket, https:// takes REST.",
        validator=_check_address,
    )
    transport: Literal["websocket", "rest"] | None = setting(
        default=None, help="websocket or rest; left out, as base_url says."
    )
    timeout: float = setting(
        default=120.0,
        env=("RUNWARE_TIMEOUT",),
        help="The longest wait for one answer, in seconds.",
        validator=_positive,
    )
    max_retries: int | None = setting(
        default=None,
        env=("RUNWARE_MAX_RETRIES",),
        help="Most repetitions of one request; left out, as Gaia does.",
        validator=attrs.validators.optional(_whole),
    )
    retry_delay: float | None = setting(
        default=None,
        env=("RUNWARE_RETRY_DELAY",),
        help="Seconds before the first repetition; left out, as Gaia does.",
        validator=attrs.validators.optional(_whole),
    )
    default_model: str | None = setting(
        default=None,
        env=("RUNWARE_DEFAULT_MODEL",),
        help="The model that is taken when a request names none.",
    )
    max_concurrent: int | None = setting(
        default=None,
        env=("RUNWARE_MAX_CONCURRENT",),
        help="Most requests at a time; left out, any number.",
        validator=attrs.validators.optional(_one),
    )
    pool_size: int = setting(
        default=3,
        env=("RUNWARE_POOL_SIZE",),
        help="Most WebSockets that are open at a time, on each event loop.",
        validator=_one,
    )
    models: Mapping[str, ExtraModel] = setting(
        factory=dict, help="Further models: identifier to name, price and architecture."
    )
    _line: "Line | None" = attrs.field(default=None, init=False, repr=False)
    _opening: Lock = attrs.field(factory=Lock, init=False, repr=False)

    # -- who are you ------------------------------------------------------------------

    @hookimpl
    def gaia_provider_info(self) -> ProviderInfo:
        """Say who this is, and whether there is a key."""
        return ProviderInfo(
            name=NAME,
            display_name="Runware",
            capabilities=CAPABILITIES,
            priority=100,
            unavailable=None if self.api_key else "RUNWARE_API_KEY is not set",
            max_concurrent=self.max_concurrent,
            max_attempts=None if self.max_retries is None else self.max_retries + 1,
            retry_delay=self.retry_delay,
            base_url=self.base_url,
            result_hosts=RESULT_HOSTS,
        )

    @hookimpl
    async def gaia_list_models(
        self,
        refresh: bool,  # noqa: FBT001  hooks are called by keyword
        search: str | None,
    ) -> Sequence[ModelInfo]:
        """List the models of this room, and what the vendor finds, when asked to."""
        usual = self._cards()
        if search is not None:
            return await self._found(search, 1)
        if not refresh:
            return usual
        return _together(usual, await self._found(None, _MOST_PAGES))

    # -- work -------------------------------------------------------------------------

    @hookimpl
    async def gaia_generate(
        self, request: GenerateRequest, context: CallContext
    ) -> ImageResult:
        """Have pictures made."""
        return await self._pictures(request, context, request.num_images)

    @hookimpl
    async def gaia_upscale(
        self, request: UpscaleRequest, context: CallContext
    ) -> ImageResult:
        """Have a picture enlarged."""
        return await self._pictures(request, context, 1)

    @hookimpl
    async def gaia_remove_background(
        self, request: RemoveBackgroundRequest, context: CallContext
    ) -> ImageResult:
        """Have a subject cut out."""
        return await self._pictures(request, context, 1)

    @hookimpl
    async def gaia_enhance_prompt(
        self, request: EnhancePromptRequest, context: CallContext
    ) -> PromptResult:
        """Have a prompt worked out."""
        from gaia_runware import replies  # noqa: PLC0415  listing does without

        task, items = await self._worked(request, context)
        with replies.billed(items):
            words = replies.words_of(items)
        return PromptResult(
            prompt=replies.shortened(words, request.max_length),
            provider=NAME,
            model=request.model or task.payload["model"],
            cost_usd=replies.cost_of(items),
            warnings=task.warnings,
        )

    @hookimpl
    async def gaia_describe_image(
        self, request: DescribeImageRequest, context: CallContext
    ) -> DescriptionResult:
        """Have a picture described."""
        from gaia_runware import replies  # noqa: PLC0415  as above

        task, items = await self._worked(request, context)
        with replies.billed(items):
            words = replies.words_of(items)
        return DescriptionResult(
            description=words,
            provider=NAME,
            model=request.model or task.payload["model"],
            cost_usd=replies.cost_of(items),
            warnings=task.warnings,
        )

    # -- upkeep -----------------------------------------------------------------------

    @hookimpl
    async def gaia_check_health(self, level: HealthLevel) -> Health:
        """Look at the settings; connect; show the key. Nothing is bought."""
        reason = self.gaia_provider_info().unavailable
        if level is HealthLevel.CONFIGURED or reason is not None:
            reached = HealthLevel.CONFIGURED
            return Health(level=reached, is_healthy=reason is None, reason=reason)
        try:
            await self._vendor().check()
        except ProviderError as error:
            return _unhealthy(error, level)
        return Health(level=level, is_healthy=True)

    @hookimpl
    async def gaia_recover(
        self, task_id: str, context: CallContext
    ) -> ImageResult | PromptResult | DescriptionResult | None:
        """Look up what became of a task whose answer was lost, pictures or words."""
        from gaia_runware import replies  # noqa: PLC0415  as above
        from gaia_runware.errors import refusal  # noqa: PLC0415  as above

        found = await self._vendor().look_up(task_id)
        if found is None:
            return None
        if not found.results:
            raise refusal(found.errors[-1])
        with replies.billed(found.results):
            return await self._recovered(found, context)

    @hookimpl
    async def gaia_stop(self) -> None:
        """Close every connection."""
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    # -- inside -----------------------------------------------------------------------

    async def _pictures(
        self, request: Request, context: CallContext, wanted: int
    ) -> ImageResult:
        """Have a task done, and fetch the pictures it made."""
        from gaia_runware import replies  # noqa: PLC0415  as above

        task, items = await self._worked(request, context)
        pictures = replies.with_pictures(items)
        with replies.billed(items):
            images = await replies.images_of(pictures, context)
        return ImageResult(
            images=images,
            provider=NAME,
            model=request.model or task.payload["model"],
            cost_usd=replies.cost_of(items),
            warnings=(*task.warnings, *replies.warnings_of(pictures, wanted)),
        )

    async def _recovered(
        self, found: "Found", context: CallContext
    ) -> ImageResult | PromptResult | DescriptionResult:
        """Take what a task made from its results: their kind says which it was."""
        from gaia_runware import replies  # noqa: PLC0415  as above

        model, cost = found.model, replies.cost_of(found.results)
        match replies.kind_of_words(found.results):
            case "prompt":
                # How long it may be is nowhere to be seen: it is as the vendor has it.
                words = replies.words_of(found.results)
                return PromptResult(
                    prompt=words, provider=NAME, model=model, cost_usd=cost
                )
            case "description":
                words = replies.words_of(found.results)
                return DescriptionResult(
                    description=words, provider=NAME, model=model, cost_usd=cost
                )
        items = replies.with_pictures(found.results)
        return ImageResult(
            images=await replies.images_of(items, context),
            provider=NAME,
            model=model,
            cost_usd=cost,
            warnings=replies.warnings_of(items, found.wanted or len(items)),
        )

    async def _worked(
        self, request: Request, context: CallContext
    ) -> "tuple[Task, Sequence[Item]]":
        """Write a task, and have it done; whether again is not for us to say."""
        if _carries_pictures(request):
            # They are encoded for the way, which takes a while.
            task = await asyncio.to_thread(self._written, request, context.task_id)
        else:
            task = self._written(request, context.task_id)
        items = await self._vendor().work(task.payload, context.seconds_left)
        context.progress(_ANSWERED)
        return task, items

    def _written(self, request: Request, task_id: str) -> "Task":
        """Write the task of a request."""
        from gaia_runware import payloads  # noqa: PLC0415  as above

        facts = models.facts_of(request.model or "", self.models)
        match request:
            case GenerateRequest():
                return payloads.generation(request, task_id=task_id, facts=facts)
            case UpscaleRequest():
                return payloads.upscaling(request, task_id=task_id, facts=facts)
            case RemoveBackgroundRequest():
                return payloads.background_removal(
                    request, task_id=task_id, facts=facts
                )
            case DescribeImageRequest():
                return payloads.caption(request, task_id=task_id, facts=facts)
            case EnhancePromptRequest():
                return payloads.enhancement(request, task_id=task_id)
        message = f"Runware has no task for {type(request).__name__}."
        raise ProviderRequestError(message)

    def _cards(self) -> tuple[ModelInfo, ...]:
        """Give the cards of this room, the default model's first."""
        first, extra = self.default_model, dict(self.models)
        cards = models.cards(NAME, extra)
        if first is None:
            return cards
        if not any(card.answers_to(first) for card in cards):
            cards = models.cards(NAME, extra | {first: ExtraModel()})
        return tuple(sorted(cards, key=lambda card: not card.answers_to(first)))

    async def _found(self, words: str | None, most_pages: int) -> tuple[ModelInfo, ...]:
        """Search the vendor's catalogue, page by page."""
        from gaia_runware import payloads  # noqa: PLC0415  as above

        found: dict[str, ModelInfo] = {}
        known = {card.id: card for card in self._cards()}
        for page in range(most_pages):
            payload = payloads.search(
                words,
                task_id=str(uuid.uuid4()),
                limit=_PAGE,
                offset=page * _PAGE,
            )
            hits = (await self._vendor().search(payload)).get("results") or ()
            for card in (models.found(NAME, hit) for hit in hits):
                if card is not None:
                    found[card.id] = known.get(card.id, card)
            if len(hits) < _PAGE:
                break
        return tuple(found.values())

    def _vendor(self) -> "Line":
        """Give the line to the vendor; nothing is opened before it is used."""
        if not self.api_key:
            message = "RUNWARE_API_KEY is not set: get a key at my.runware.ai."
            raise AuthenticationError(message)
        with self._opening:
            # Several event loops may come at once; a second line is never closed.
            if self._line is None:
                # `gaia models` asks nobody, and does without five milliseconds of it.
                from gaia_runware.lines import Line  # noqa: PLC0415

                self._line = Line(
                    address=address_of(self.base_url, self.transport, self.api_key),
                    timeout=self.timeout,
                    pool_size=self.pool_size,
                )
            return self._line


def _carries_pictures(request: Request) -> bool:
    if isinstance(request, GenerateRequest):
        return bool(
            request.image or request.reference_images or request.options_for(NAME)
        )
    return not isinstance(request, EnhancePromptRequest)


def _unhealthy(error: ProviderError, level: HealthLevel) -> Health:
    """Say how far it came: a key that is refused was refused by somebody."""
    is_reached = isinstance(error, _ANSWERS)
    reached = HealthLevel.REACHABLE if is_reached else HealthLevel.CONFIGURED
    if is_reached and level is HealthLevel.REACHABLE:
        return Health(level=reached, is_healthy=True)
    return Health(level=reached, is_healthy=False, reason=str(error))


def _together(
    usual: Sequence[ModelInfo], found: Sequence[ModelInfo]
) -> tuple[ModelInfo, ...]:
    """Put what is new behind what is known; no name may stand for two models."""
    names = {name for card in usual for name in (card.id, *card.aliases)}
    return (*usual, *(card for card in found if card.id not in names))
