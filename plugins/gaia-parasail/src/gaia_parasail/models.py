"""
What is offered: models as the settings name them, and their cards.

What Parasail publishes, as of 2026-11-22:

* prices per million tokens: https://docs.parasail.io/parasail-docs/billing/pricing
* OmniGen in batches: the vendor's library ``openai-batch`` 0.3.4, whose type
  "transfusion" posts JSON to ``/v1/images/edits`` and needs a picture to start from.
  The page about the file format names chat and embeddings only, no price of a
  picture is published, and no page mentions pictures made outside of batches.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any

import attrs

from gaia_core import Capability, ModelInfo, Price, Quality, Speed

NAME = "parasail"
"""The name of the plugin."""
BASE_URL = "https://api.parasail.io/v1"
"""Where Parasail is asked."""
OMNIGEN = "Shitao/OmniGen-v1"
"""The model of pictures in Parasail's batches."""
VISION = "parasail-qwen3vl-8b-instruct"
"""The model that looks at pictures, unless another one is set."""
MOST_LINES = 50_000
"""Most requests in a file of a batch: Parasail's limit, and OpenAI's."""
MAX_TOKENS = 500
"""Longest answer of a chat, in tokens."""

TOKEN_PRICES: Mapping[str, tuple[str, str]] = {
    "parasail-gpt-oss-120b": ("0.10", "0.75"),
    "parasail-llama-33-70b-fp8": ("0.22", "0.50"),
    "parasail-mistral-small-32-24b": ("0.09", "0.30"),
    "parasail-qwen-3-next-80b-instruct": ("0.10", "1.10"),
    "parasail-qwen25-vl-72b-instruct": ("0.80", "1.00"),
    "parasail-qwen3-235b-a22b-instruct-2507": ("0.14", "0.80"),
    "parasail-qwen3-vl-235b-a22b-instruct": ("0.21", "1.90"),
    VISION: ("0.25", "0.75"),
}
"""Published US dollars per million tokens, in and out, of models good for chat."""

_MILLION = 1_000_000
_PROMPT_TOKENS = 600
# Qwen's vision models make a token of 28x28 pixels, their third version of 32x32.
_TOKENS_PER_MEGAPIXEL = 1_048_576 // (28 * 28)
_WORDS = frozenset({Capability.IMAGE_DESCRIPTION, Capability.PROMPT_ENHANCEMENT})


class Endpoint(StrEnum):
    """Where a model is asked, and in which form."""

    GENERATIONS = "generations"
    """``/v1/images/generations``: pictures from words, at once."""
    EDITS = "edits"
    """``/v1/images/edits``: pictures from pictures, at once."""
    BATCH_GENERATIONS = "batch-generations"
    """``/v1/images/generations`` in the file of a batch."""
    BATCH_EDITS = "batch-edits"
    """``/v1/images/edits`` in the file of a batch."""
    CHAT = "chat"
    """``/v1/chat/completions``: words, about a picture where there is one."""

    @property
    def is_batch(self) -> bool:
        """Whether it is asked in files only."""
        return self.startswith("batch-")

    @property
    def is_edit(self) -> bool:
        """Whether it wants a picture to start from."""
        return self in {Endpoint.EDITS, Endpoint.BATCH_EDITS}

    @property
    def url(self) -> str:
        """The address in a line of a batch."""
        return "/v1/images/edits" if self.is_edit else "/v1/images/generations"


_CAPABILITIES = {
    Endpoint.GENERATIONS: frozenset({Capability.TEXT_TO_IMAGE}),
    Endpoint.EDITS: frozenset({Capability.IMAGE_TO_IMAGE}),
    Endpoint.BATCH_GENERATIONS: frozenset({Capability.TEXT_TO_IMAGE}),
    Endpoint.BATCH_EDITS: frozenset({Capability.IMAGE_TO_IMAGE}),
    Endpoint.CHAT: frozenset({Capability.PROMPT_ENHANCEMENT}),
}
_POSSIBLE = {
    Endpoint.GENERATIONS: frozenset({Capability.TEXT_TO_IMAGE}),
    Endpoint.EDITS: frozenset({Capability.IMAGE_TO_IMAGE, Capability.INPAINTING}),
    Endpoint.BATCH_GENERATIONS: frozenset({Capability.TEXT_TO_IMAGE}),
    Endpoint.BATCH_EDITS: frozenset(
        {Capability.TEXT_TO_IMAGE, Capability.IMAGE_TO_IMAGE}
    ),
    Endpoint.CHAT: _WORDS,
}
_FIELDS = frozenset(
    {
        *("negative_prompt", "seed", "guidance_scale", "num_inference_steps"),
        *("strength", "reference_images"),
    }
)


def _capabilities(values: Iterable[Capability]) -> frozenset[Capability]:
    return frozenset(Capability(value) for value in values)


def _names(values: Iterable[str]) -> frozenset[str]:
    return frozenset(values)


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


def _side(value: str) -> tuple[int, int]:
    width, _, height = value.partition("x")
    return int(width), int(height)


@attrs.frozen(kw_only=True)
class ModelSettings:
    """
    One model, as ``[providers.parasail.models."ID"]`` describes it.

    Attributes:
        name: What a person calls it; its identifier unless said.
        endpoint: Where it is asked, and in which form.
        capabilities: What it can do; what its endpoint is for, unless said.
        response_format: How pictures come: ``b64_json``, ``url``, or ``""`` where the
            service refuses the parameter.
        sizes: The only sizes it makes, such as ``1024x1024``; empty: any up to
            ``max_width`` and ``max_height``.
        max_width: Widest picture in pixels.
        max_height: Highest picture in pixels.
        max_images: Most pictures in one request (``n``).
        supported_fields: The fields of requests that are sent along:
            ``negative_prompt``, ``seed``, ``guidance_scale``,
            ``num_inference_steps``, ``strength``, ``reference_images``.
        field_names: What the service calls some of them, where that differs.
        extra_body: What is sent along with every request.
        image_mark: What stands for a picture in the prompt, ``{}`` for its number;
            put before a prompt that names none.
        price: What it costs; a plain number is US dollars per picture.
        token_prices: US dollars per million tokens in and out, of a chat model.
        quality: Declared quality.
        speed: Declared speed.
        creator: Who trained it.
        aliases: Other identifiers it answers to.
    """

    name: str = ""
    endpoint: Endpoint = attrs.field(default=Endpoint.GENERATIONS, converter=Endpoint)
    capabilities: frozenset[Capability] = attrs.field(converter=_capabilities)
    response_format: str = attrs.field(
        default="b64_json", validator=attrs.validators.in_(("b64_json", "url", ""))
    )
    sizes: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    max_width: int = 1024
    max_height: int = 1024
    max_images: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    supported_fields: frozenset[str] = attrs.field(
        default=frozenset(), converter=_names
    )
    field_names: Mapping[str, str] = attrs.field(factory=dict)
    extra_body: Mapping[str, Any] = attrs.field(factory=dict)
    image_mark: str = ""
    price: Price | None = None
    token_prices: tuple[Decimal, Decimal] | None = None
    quality: Quality = attrs.field(default=Quality.STANDARD, converter=Quality)
    speed: Speed = attrs.field(default=Speed.MEDIUM, converter=Speed)
    creator: str | None = None
    aliases: tuple[str, ...] = attrs.field(default=(), converter=_texts)

    @capabilities.default
    def _own_capabilities(self) -> frozenset[Capability]:
        return _CAPABILITIES[self.endpoint]

    @capabilities.validator
    def _check_capabilities(self, _: object, values: frozenset[Capability]) -> None:
        possible = _POSSIBLE[self.endpoint]
        if not values or not values <= possible:
            names = ", ".join(sorted(possible))
            message = f"capabilities of endpoint {self.endpoint} are {names}"
            raise ValueError(message)

    @sizes.validator
    def _check_sizes(self, _: object, values: tuple[str, ...]) -> None:
        for value in values:
            if not all(part.isdecimal() for part in value.split("x", 1)):
                message = f"sizes must be like 1024x1024, not {value!r}"
                raise ValueError(message)

    @supported_fields.validator
    def _check_fields(self, _: object, values: frozenset[str]) -> None:
        if unknown := values - _FIELDS:
            names = ", ".join(sorted(_FIELDS))
            message = f"supported_fields has {min(unknown)}; known are {names}"
            raise ValueError(message)

    @property
    def sides(self) -> tuple[tuple[int, int], ...]:
        """The only sizes it makes, as numbers."""
        return tuple(map(_side, self.sizes))

    def tokens_cost(self, tokens_in: int, tokens_out: int) -> Decimal | None:
        """Reckon what tokens cost, in US dollars; None: nobody says."""
        if self.token_prices is None:
            return None
        price_in, price_out = self.token_prices
        return (price_in * tokens_in + price_out * tokens_out) / _MILLION

    def card(self, model: str, provider: str) -> ModelInfo:
        """Describe the model for Gaia."""
        widest = max((side[0] for side in self.sides), default=self.max_width)
        highest = max((side[1] for side in self.sides), default=self.max_height)
        return ModelInfo(
            id=model,
            name=self.name or model,
            provider=provider,
            capabilities=self.capabilities,
            max_width=widest,
            max_height=highest,
            max_images=self.max_images,
            supported_fields=self.supported_fields,
            price=self.price or self._chat_price(),
            quality=self.quality,
            speed=self.speed,
            creator=self.creator,
            aliases=self.aliases,
            is_batch_only=self.endpoint.is_batch,
            max_batch_size=MOST_LINES if self.endpoint.is_batch else 1,
        )

    def _chat_price(self) -> Price | None:
        """Guess what a chat costs at most; what it did cost is reckoned from tokens."""
        if self.token_prices is None:
            return None
        base = self.tokens_cost(_PROMPT_TOKENS, MAX_TOKENS) or Decimal(0)
        looking = self.tokens_cost(_TOKENS_PER_MEGAPIXEL, 0) or Decimal(0)
        return Price(base=base, per_megapixel=looking)


def omnigen() -> ModelSettings:
    """Describe OmniGen as far as the vendor's library does."""
    return ModelSettings(
        name="OmniGen v1",
        endpoint=Endpoint.BATCH_EDITS,
        supported_fields=frozenset({"reference_images"}),
        # OmniGen knows pictures by these words, and ignores one that no word names.
        image_mark="<img><|image_{}|></img>",
        speed=Speed.SLOW,
        creator="Shitao",
        aliases=("omnigen-v1",),
    )


def chat_model(model: str, *, can_see: bool) -> ModelSettings:
    """Describe a model that answers in words."""
    prices = TOKEN_PRICES.get(model)
    return ModelSettings(
        endpoint=Endpoint.CHAT,
        capabilities=_WORDS if can_see else _CAPABILITIES[Endpoint.CHAT],
        token_prices=prices and (Decimal(prices[0]), Decimal(prices[1])),
        max_width=8192,
        max_height=8192,
    )


def listed(names: Iterable[str]) -> dict[str, ModelSettings]:
    """
    Describe those models of a service's list that are known to answer in words.

    Nothing in such a list says what a model can do: others are offered only when
    the settings describe them.
    """
    return {
        name: chat_model(name, can_see="vl-" in name)
        for name in names
        if name in TOKEN_PRICES
    }


def offered(
    named: Mapping[str, ModelSettings],
    *,
    vision: str | None,
    chat: str | None,
    is_parasail: bool,
) -> dict[str, ModelSettings]:
    """
    Put together what is offered, the preferred ones first.

    Args:
        named: What the settings describe.
        vision: The model that looks at pictures; empty: none; None: Parasail's own.
        chat: The model that improves prompts; empty or None: the one that looks.
        is_parasail: Whether Parasail itself is asked, whose models are known.
    """
    found = dict(named)
    if chat:
        found.setdefault(chat, chat_model(chat, can_see=chat == vision))
    seeing = VISION if vision is None and is_parasail else vision
    if seeing:
        found.setdefault(seeing, chat_model(seeing, can_see=True))
    if is_parasail:
        found.setdefault(OMNIGEN, omnigen())
    return found
