"""
The hooks of Parasail, and of other services that speak OpenAI's form.

The SDK, and what works with it, is imported in the first hook that has work: it takes
half a second, and listing models needs none of it.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import attrs

from gaia_core import (
    CallContext,
    DescribeImageRequest,
    DescriptionResult,
    EnhancePromptRequest,
    GenerateRequest,
    Health,
    HealthLevel,
    ImageResult,
    ModelError,
    ModelInfo,
    PromptResult,
    ProviderConnectionError,
    ProviderError,
    ProviderInfo,
    ProviderRequestError,
    Secret,
    hookimpl,
    setting,
)
from gaia_parasail import models
from gaia_parasail.models import BASE_URL, MOST_LINES, NAME, ModelSettings

if TYPE_CHECKING:
    from gaia_parasail.batches import Answer
    from gaia_parasail.service import Service

_PRIORITY = 70
_ABOVE_ZERO = attrs.validators.gt(0)
_MEGABYTE = 1_000_000
# The service promises to be done within a day; fetching what it made takes a while.
_BATCH_SECONDS = 25 * 3_600.0


def _check_address(_: object, field: "attrs.Attribute[str]", value: str) -> None:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        message = f"{field.name} must begin with https:// or http://"
        raise ValueError(message)
    if parts.username or parts.password:
        message = f"{field.name} must hold no name or password: use api_key"
        raise ValueError(message)


@attrs.define(eq=False, kw_only=True)
class ParasailProvider:
    """
    Asks Parasail, or another service that speaks OpenAI's form.

    On Parasail's own address OmniGen and a model that looks at pictures are there
    without a word; at any other address there is what the settings name.

    Attributes:
        api_key: The key; it is sent to ``base_url`` and nowhere else.
        base_url: Where the service is asked, version included.
        timeout: Seconds until an answer is given up.
        poll_interval: Seconds between two looks at a batch, at first.
        vision_model: The model that describes pictures, and improves prompts unless
            ``chat_model`` does; empty: none.
        chat_model: The model that improves prompts; empty: none.
        models: Model to what it can do and how it is asked.
        result_hosts: The only hosts that results given by address are fetched from,
            beside the service's own; empty: any public host, for the service names
            none.
        max_file_mb: Largest file of a batch, in megabytes; more is several batches.
    """

    api_key: Secret | None = setting(
        default=None,
        env=("PARASAIL_API_KEY",),
        help="Your key: https://www.saas.parasail.io/keys.",
    )
    base_url: str = setting(
        default=BASE_URL,
        env=("PARASAIL_BASE_URL",),
        validator=_check_address,
        help="Where the service is asked, version included.",
    )
    timeout: float = setting(
        default=300.0,
        validator=_ABOVE_ZERO,
        help="Seconds until an answer is given up.",
    )
    poll_interval: float = setting(
        default=30.0,
        validator=_ABOVE_ZERO,
        help="Seconds between two looks at a batch, at first.",
    )
    vision_model: str | None = setting(
        default=None, help="The model that describes pictures."
    )
    chat_model: str | None = setting(
        default=None, help="The model that improves prompts."
    )
    models: Mapping[str, ModelSettings] = setting(
        factory=dict, help="Model to what it can do and how it is asked."
    )
    result_hosts: frozenset[str] = setting(
        default=frozenset(),
        converter=frozenset,
        help="The only hosts results are fetched from.",
    )
    max_file_mb: int = setting(
        default=500,
        validator=_ABOVE_ZERO,
        help="Largest file of a batch, in megabytes.",
    )
    _offered: dict[str, ModelSettings] = attrs.field(init=False, repr=False)
    _listed: dict[str, ModelSettings] = attrs.field(
        factory=dict, init=False, repr=False
    )
    _service: "Service | None" = attrs.field(default=None, init=False, repr=False)

    @_offered.default
    def _configured(self) -> dict[str, ModelSettings]:
        return models.offered(
            self.models,
            vision=self.vision_model,
            chat=self.chat_model,
            is_parasail=self._is_parasail,
        )

    # -- who are you ------------------------------------------------------------------

    @hookimpl
    def gaia_provider_info(self) -> ProviderInfo:
        """Say what the models can do that the settings name."""
        able = [one.capabilities for one in self._offered.values()]
        return ProviderInfo(
            name=NAME,
            display_name="Parasail",
            capabilities=frozenset().union(*able),
            priority=_PRIORITY,
            unavailable=self._problem(),
            max_batch_size=MOST_LINES if self._has_batches else 1,
            batch_timeout=_BATCH_SECONDS,
            base_url=self.base_url,
            result_hosts=self.result_hosts,
        )

    @hookimpl
    async def gaia_list_models(
        self,
        refresh: bool,  # noqa: FBT001  the interface
        search: str | None,
    ) -> Sequence[ModelInfo]:
        """List what the settings name, and what the service lists and is known."""
        if refresh or search:
            self._listed = models.listed(await self._work().names())
        able = self.gaia_provider_info().capabilities
        cards = [model.card(name, NAME) for name, model in self._known.items()]
        return [
            card
            for card in cards
            if card.capabilities <= able and _is_meant(card, search)
        ]

    # -- work -------------------------------------------------------------------------

    @hookimpl
    async def gaia_generate(
        self, request: GenerateRequest, context: CallContext
    ) -> ImageResult:
        """Have pictures made at once, from words or from pictures."""
        model = self._model(request.model)
        if model.endpoint.is_batch:
            message = f"{request.model} answers in batches only: use `gaia batch`."
            raise ProviderRequestError(message)
        return await self._work().generate(request, model, context)

    @hookimpl
    async def gaia_enhance_prompt(
        self, request: EnhancePromptRequest, context: CallContext
    ) -> PromptResult:
        """Have a prompt worked out by a model that chats."""
        from gaia_parasail import replies  # noqa: PLC0415 - as in `_work`

        model = self._model(request.model)
        reply = await self._work().enhance(request, context)
        paid = replies.cost(reply, model)
        with replies.booked(paid):
            prompt = replies.prompt(reply, request.max_length)
        return PromptResult(
            prompt=prompt, provider=NAME, model=request.model or "", cost_usd=paid
        )

    @hookimpl
    async def gaia_describe_image(
        self, request: DescribeImageRequest, context: CallContext
    ) -> DescriptionResult:
        """Have a model look at a picture."""
        from gaia_parasail import replies  # noqa: PLC0415 - as in `_work`

        model = self._model(request.model)
        reply = await self._work().describe(request, context)
        paid = replies.cost(reply, model)
        with replies.booked(paid):
            words = replies.words(reply)
        return DescriptionResult(
            description=words, provider=NAME, model=request.model or "", cost_usd=paid
        )

    @hookimpl
    async def gaia_generate_many(
        self,
        requests: Sequence[GenerateRequest],
        contexts: Sequence[CallContext],
    ) -> "AsyncGenerator[Answer, None]":
        """Have items of batches made by the service's batches, where it has them."""
        known = {one.model or "": self._model(one.model) for one in requests}
        many = self._work().many(requests, contexts, known)
        async with aclosing(many) as answers:
            async for answer in answers:
                yield answer

    @hookimpl
    async def gaia_recover(
        self, task_id: str, context: CallContext
    ) -> ImageResult | None:
        """Look up a request that went out in a batch; others leave no trace."""
        return await self._work().recover(task_id, context)

    @hookimpl
    async def gaia_cancel(self, contexts: Sequence[CallContext]) -> None:
        """Have the service's batches stopped of which everything is given up."""
        await self._work().cancel(contexts)

    # -- upkeep -----------------------------------------------------------------------

    @hookimpl
    async def gaia_check_health(self, level: HealthLevel) -> Health:
        """Ask for the list of models, which is free."""
        problem = self._problem()
        if level is HealthLevel.CONFIGURED or problem is not None:
            return Health(level=level, is_healthy=problem is None, reason=problem)
        try:
            await self._work().names()
        except ProviderConnectionError as error:
            return Health(level=level, is_healthy=False, reason=str(error))
        except ProviderError as error:
            is_reached = level is HealthLevel.REACHABLE
            reason = None if is_reached else str(error)
            return Health(level=level, is_healthy=is_reached, reason=reason)
        return Health(level=level, is_healthy=True)

    @hookimpl
    async def gaia_stop(self) -> None:
        """Close the connections, and throw away what was fetched."""
        if self._service is not None:
            await self._service.close()

    # -- inside -----------------------------------------------------------------------

    @property
    def _has_batches(self) -> bool:
        return any(one.endpoint.is_batch for one in self._offered.values())

    @property
    def _is_parasail(self) -> bool:
        """Whether this is Parasail itself, whose models are known."""
        return urlsplit(self.base_url).hostname == urlsplit(BASE_URL).hostname

    @property
    def _known(self) -> Mapping[str, ModelSettings]:
        """What the settings name, then what the service listed when it was asked."""
        return {**self._offered, **self._listed, **self._offered}

    def _problem(self) -> str | None:
        if not self.api_key:
            return "PARASAIL_API_KEY is not set"
        if not _can_be_sent(self.api_key.reveal()):
            return "PARASAIL_API_KEY holds what no key does: copy it again"
        if not self._offered:
            return f"no models are named for {self.base_url}: set models"
        return None

    def _model(self, name: str | None) -> ModelSettings:
        found = self._known.get(name or "")
        if found is None:
            message = f"{NAME} was told of no model {name}: see `gaia models`."
            raise ModelError(message)
        return found

    def _work(self) -> "Service":
        """Give what the hooks work with, made when first needed."""
        from gaia_parasail.service import Service  # noqa: PLC0415 - slow

        if self._service is None:
            self._service = Service(
                base_url=self.base_url,
                api_key=self.api_key,
                timeout=self.timeout,
                poll_interval=self.poll_interval,
                result_hosts=self.result_hosts,
                max_file_bytes=self.max_file_mb * _MEGABYTE,
            )
        return self._service


def _can_be_sent(key: str) -> bool:
    """Tell whether a key fits into a header: "sk-…" as copied from a page does not."""
    return key.isascii() and key.isprintable() and " " not in key


def _is_meant(card: ModelInfo, search: str | None) -> bool:
    """Tell whether all words of a search are in a model's names."""
    known = f"{card.id} {card.name} {card.creator or ''}".lower()
    return all(word in known for word in (search or "").lower().split())
