"""
The models: what each draws, and which one stands in for those that are gone.

Limits as of 2026-11, from docs.cloud.google.com/vertex-ai/generative-ai/docs/models.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal

import attrs

from gaia_core import Capability, ModelInfo, Price, Quality, Speed
from gaia_core.catalog import Work
from gaia_gemini.prices import Rates, SizedPrice, text_price
from gaia_gemini.sizes import (
    COMMON_RATIOS,
    IMAGE_SIZES,
    RATIOS,
    Fit,
    fit,
    longest_side,
)

NAME = "gemini"
"""The provider's name."""
TEXT_MODEL = "gemini-3.5-flash-lite"
"""Writes prompts and describes pictures, unless told otherwise."""
UPSCALER = "imagen-4.0-upscale-preview"
"""Enlarges pictures, on Vertex AI only."""
MAX_PICTURES = 14
"""Most pictures that go in with one prompt."""
MAX_UPSCALED = 17_000_000
"""Most pixels of an enlarged picture."""

_MAX_IMAGES = 8
_LONGEST_UPSCALED = 8_192
_PICTURES = frozenset(
    {
        Capability.TEXT_TO_IMAGE,
        Capability.IMAGE_TO_IMAGE,
        Capability.INPAINTING,
        Capability.OUTPAINTING,
    }
)
_WORDS = frozenset({Capability.PROMPT_ENHANCEMENT, Capability.IMAGE_DESCRIPTION})


@attrs.frozen(kw_only=True)
class ImageModel:
    """
    A model that draws.

    Attributes:
        id: What the service calls it.
        name: What a person calls it.
        ratios: The aspect ratios it draws.
        sizes: The image sizes it draws, the smallest first.
        rates: What tokens cost; None: unknown.
        tokens: Image size to the tokens a picture takes.
        input_tokens: Tokens a picture takes that goes in.
        quality: How good its pictures are.
        speed: How fast it answers.
        aliases: What else it is called.
        retired: Models that are gone, in whose place it stands.
    """

    id: str
    name: str
    ratios: tuple[str, ...] = COMMON_RATIOS
    sizes: tuple[str, ...] = ("1K",)
    rates: Rates | None = None
    tokens: Mapping[str, int] = attrs.field(factory=dict)
    input_tokens: int = 0
    quality: Quality = Quality.STANDARD
    speed: Speed = Speed.MEDIUM
    aliases: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()

    @property
    def has_sizes(self) -> bool:
        """Whether there is a size to choose; others refuse to be told one."""
        return len(self.sizes) > 1

    def fit(self, width: int, height: int, size: str | None = None) -> Fit:
        """Find what to tell it about the size; ``size`` is taken if it draws that."""
        sizes = (size,) if size in self.sizes else self.sizes
        return fit(width, height, ratios=self.ratios, sizes=sizes)

    def price(self, size: str | None) -> Price | None:
        """Give the price of its pictures; ``size`` is the one that is always taken."""
        rates = self.rates
        if rates is None:
            return None

        def amount(work: Work) -> Decimal:
            asked = work.image_size if work.image_size in self.sizes else size
            taken = self.fit(max(work.width, 1), max(work.height, 1), asked)
            return rates.cost(pictures=self.tokens[taken.size])

        return SizedPrice.made(
            amount,
            per_image=rates.cost(pictures=self.tokens["1K"]),
            per_reference=rates.cost(into=self.input_tokens),
        )

    def cost_of_picture(self, size: str) -> Decimal | None:
        """Price one picture without regard to words; None: unknown."""
        if self.rates is None:
            return None
        return self.rates.cost(pictures=self.tokens[size])

    def card(self, size: str | None = None) -> ModelInfo:
        """Make its card; ``size`` is the image size that is always taken."""
        side = longest_side(self.sizes)
        return ModelInfo(
            id=self.id,
            name=self.name,
            provider=NAME,
            capabilities=_PICTURES,
            max_width=side,
            max_height=side,
            max_images=_MAX_IMAGES,
            supported_fields={"reference_images", "style"},
            upscale_factors=(),
            price=self.price(size),
            quality=self.quality,
            speed=self.speed,
            creator="Google",
            aliases=(*self.aliases, *self.retired),
            retired=self.retired,
        )


IMAGE_MODELS = (
    ImageModel(
        id="gemini-3.1-flash-image",
        name="Gemini 3.1 Flash Image (Nano Banana 2)",
        ratios=RATIOS,
        sizes=IMAGE_SIZES,
        rates=Rates(into="0.50", words=3, pictures=60),
        tokens={"512": 747, "1K": 1120, "2K": 1680, "4K": 2520},
        input_tokens=1120,
        quality=Quality.HIGH,
        aliases=("nano-banana-2",),
        retired=(
            "gemini-3.1-flash-image-preview",
            "gemini-2.5-flash-image",
            "gemini-2.5-flash-image-preview",
            "gemini-2.0-flash-preview-image-generation",
            "gemini-2.0-flash-exp-image-generation",
            "imagen-4.0-generate-001",
            "imagen-3.0-generate-002",
        ),
    ),
    ImageModel(
        id="gemini-3.1-flash-lite-image",
        name="Gemini 3.1 Flash-Lite Image (Nano Banana 2 Lite)",
        ratios=RATIOS,
        rates=Rates(into="0.25", words="1.50", pictures=30),
        tokens={"1K": 1120},
        input_tokens=1120,
        speed=Speed.FAST,
        aliases=("nano-banana-2-lite",),
        retired=("imagen-4.0-fast-generate-001",),
    ),
    ImageModel(
        id="gemini-3-pro-image",
        name="Gemini 3 Pro Image (Nano Banana Pro)",
        sizes=IMAGE_SIZES[1:],
        rates=Rates(into=2, words=12, pictures=120),
        tokens={"1K": 1120, "2K": 1120, "4K": 2000},
        input_tokens=560,
        quality=Quality.VERY_HIGH,
        speed=Speed.SLOW,
        aliases=("nano-banana-pro", "nano-banana-pro-preview"),
        retired=("gemini-3-pro-image-preview", "imagen-4.0-ultra-generate-001"),
    ),
)
"""The models that draw, the preferred one first."""

RETIRED = frozenset(name for model in IMAGE_MODELS for name in model.retired)
"""Models that are gone; a request for one gets its successor, and a warning."""


def image_model(name: str | None) -> ImageModel:
    """
    Find a model by its name; of one that nobody knows, the least is assumed.

    >>> image_model("gemini-2.0-flash-preview-image-generation").id
    'gemini-3.1-flash-image'
    """
    if name is None:
        return IMAGE_MODELS[0]
    for model in IMAGE_MODELS:
        if name in (model.id, *model.aliases, *model.retired):
            return model
    return ImageModel(id=name, name=name)


def text_card(model: str) -> ModelInfo:
    """Make the card of the model that answers in words."""
    return ModelInfo(
        id=model,
        name=f"{model} (words)",
        provider=NAME,
        capabilities=_WORDS,
        max_width=_LONGEST_UPSCALED,
        max_height=_LONGEST_UPSCALED,
        upscale_factors=(),
        price=text_price(model),
        speed=Speed.FAST,
        creator="Google",
    )


def upscaler_card() -> ModelInfo:
    """
    Make the card of the model that enlarges.

    Its factors x3 and 8 have no counterpart on the other side. Google's price list
    was searched for its price on 2026-11-22 without success: it is unknown.
    """
    return ModelInfo(
        id=UPSCALER,
        name="Imagen 4 upscaling",
        provider=NAME,
        capabilities={Capability.UPSCALING},
        max_width=_LONGEST_UPSCALED,
        max_height=_LONGEST_UPSCALED,
        upscale_factors={2, 4},
        quality=Quality.HIGH,
        creator="Google",
    )


def capabilities(*, is_vertex: bool) -> frozenset[Capability]:
    """Say what can be done: more on Vertex AI."""
    more = {Capability.UPSCALING} if is_vertex else set()
    return _PICTURES | _WORDS | more


def cards(
    *, more: Iterable[str], size: str | None, text_model: str, is_vertex: bool
) -> tuple[ModelInfo, ...]:
    """
    List every model, the preferred one first.

    Args:
        more: Further models that draw, of which nothing else is known.
        size: The image size that is always taken, or None.
        text_model: The model that answers in words.
        is_vertex: Whether Vertex AI is asked.
    """
    known = {name for model in IMAGE_MODELS for name in (model.id, *model.aliases)}
    unknown = [name for name in dict.fromkeys(more) if name not in known | RETIRED]
    return (
        *(model.card(size) for model in IMAGE_MODELS),
        *(image_model(name).card(size) for name in unknown),
        text_card(text_model),
        *([upscaler_card()] if is_vertex else []),
    )


def matches(model: ModelInfo, words: str) -> bool:
    """Tell whether a card holds every one of some words, in any case."""
    text = " ".join((model.id, model.name, model.creator or "", *model.aliases))
    return all(word in text.lower() for word in words.lower().split())
