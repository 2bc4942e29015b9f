"""Who can make what, within which limits, at which price."""

from collections.abc import Callable, Iterable, Mapping
from decimal import ROUND_CEILING, Decimal
from enum import Enum, StrEnum
from typing import Any

import attrs

from gaia_core.capabilities import Capability
from gaia_core.requests import GenerateRequest, Request, UpscaleRequest

CONTRACT = 1
"""Major version of the provider contract this core speaks."""

MICRO_DOLLAR = Decimal("0.000001")
"""The smallest amount Gaia counts."""

_MEGAPIXEL = Decimal(1_048_576)
_DEFAULT_STEPS = 28


class Quality(StrEnum):
    """How good the pictures of a model are, as its provider declares it."""

    DRAFT = "draft"
    STANDARD = "standard"
    HIGH = "high"
    VERY_HIGH = "very_high"

    @property
    def rank(self) -> int:
        """Position from the plainest, 0, to the best."""
        return list(Quality).index(self)


class Speed(StrEnum):
    """How fast a model answers, as its provider declares it."""

    SLOW = "slow"
    MEDIUM = "medium"
    FAST = "fast"

    @property
    def rank(self) -> int:
        """Position from the slowest, 0, to the fastest."""
        return list(Speed).index(self)


def to_decimal(value: Decimal | float | str) -> Decimal:
    """
    Turn an amount into an exact decimal, by its digits.

    >>> to_decimal(0.1)
    Decimal('0.1')
    """
    return value if isinstance(value, Decimal) else Decimal(str(value))


@attrs.frozen(kw_only=True)
class Work:
    """
    What a price depends on.

    Attributes:
        width: Width of each picture in pixels.
        height: Height of each picture in pixels.
        num_images: How many pictures.
        num_inference_steps: Denoising steps of each picture.
        num_references: Pictures that go in with the prompt.
        quality: The vendor's quality word, where prices depend on it.
        image_size: The vendor's word for the size, where a request names one and
            prices depend on it.
    """

    width: int = 1024
    height: int = 1024
    num_images: int = 1
    num_inference_steps: int = _DEFAULT_STEPS
    num_references: int = 0
    quality: str | None = None
    image_size: str | None = None


def _amounts(values: Mapping[str, Decimal | float | str]) -> Mapping[str, Decimal]:
    return {name: to_decimal(value) for name, value in values.items()}


_NOTHING = Decimal(0)
HIGHEST_PRICE = Decimal(1_000_000)
"""The largest amount a price may hold, in US dollars."""


def _amount(_: object, field: "attrs.Attribute[Any]", value: Decimal) -> None:
    """Accept what can be reckoned with: one wrong card must not spoil every plan."""
    if not value.is_finite() or not _NOTHING <= value <= HIGHEST_PRICE:
        message = f"{field.name} must be 0 to {HIGHEST_PRICE}, not {value}"
        raise ValueError(message)


def _each_amount(
    owner: object,
    field: "attrs.Attribute[Any]",
    values: Mapping[str, Decimal],
) -> None:
    for value in values.values():
        _amount(owner, field, value)


@attrs.frozen(kw_only=True)
class Price:
    """
    What a model costs, in US dollars.

    >>> Price(per_image=0.04).of(Work(num_images=2))
    Decimal('0.080000')

    Attributes:
        base: For the request as a whole.
        per_image: For each picture.
        per_megapixel: For each megapixel (1,048,576 pixels) of each picture.
        per_step: For each denoising step of each picture.
        per_reference: For each picture that goes in.
        by_quality: Quality word to the factor the sum is multiplied by.
    """

    base: Decimal = attrs.field(
        default=_NOTHING, converter=to_decimal, validator=_amount
    )
    per_image: Decimal = attrs.field(
        default=_NOTHING, converter=to_decimal, validator=_amount
    )
    per_megapixel: Decimal = attrs.field(
        default=_NOTHING, converter=to_decimal, validator=_amount
    )
    per_step: Decimal = attrs.field(
        default=_NOTHING, converter=to_decimal, validator=_amount
    )
    per_reference: Decimal = attrs.field(
        default=_NOTHING, converter=to_decimal, validator=_amount
    )
    by_quality: Mapping[str, Decimal] = attrs.field(
        factory=dict, converter=_amounts, validator=_each_amount
    )

    def of(self, work: Work) -> Decimal:
        """
        Price some work: the one price function.

        Estimate, ranking, reservation and settlement all call it.

        Returns:
            US dollars, rounded up to the micro-dollar.
        """
        pixels = Decimal(work.width * work.height) / _MEGAPIXEL
        image = (
            self.per_image
            + self.per_megapixel * pixels
            + self.per_step * work.num_inference_steps
        )
        total = (
            self.base
            + image * work.num_images
            + self.per_reference * work.num_references
        )
        factor = self.by_quality.get(work.quality or "", Decimal(1))
        return (total * factor).quantize(MICRO_DOLLAR, rounding=ROUND_CEILING)


FREE = Price()
"""The price of what costs nothing."""


def _capabilities(values: Iterable[Capability]) -> frozenset[Capability]:
    return frozenset(Capability(value) for value in values)


def _names(values: Iterable[str]) -> frozenset[str]:
    """Take names as a set; a single one counts as one, not as its letters."""
    return frozenset(_tuple(values))


def _factors(values: Iterable[int]) -> frozenset[int]:
    return frozenset(values)


def _tuple(values: Iterable[str]) -> tuple[str, ...]:
    return (values,) if isinstance(values, str) else tuple(values)


_is_text = attrs.validators.instance_of(str)
_is_whole = attrs.validators.instance_of(int)


@attrs.frozen(kw_only=True)
class ModelState:
    """
    How a model is at this moment.

    >>> ModelState(word="on disk").unavailable is None
    True

    Attributes:
        word: In a word or two, as ``gaia models`` shows it: ``loaded``, ``absent``.
        unavailable: Why it cannot be asked now and what to do about it, or None.
        details: More to know, by name; values that can be written as JSON.
    """

    word: str = attrs.field(validator=_is_text)
    unavailable: str | None = attrs.field(
        default=None, validator=attrs.validators.optional(_is_text)
    )
    details: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ModelInfo:
    """
    The card of one model.

    Attributes:
        id: What a request names it by.
        name: What a person calls it.
        provider: The provider that offers it.
        capabilities: What it can do.
        max_width: Widest result in pixels.
        max_height: Highest result in pixels.
        max_images: Most pictures in one request.
        supported_fields: The optional request fields it honours
            (``negative_prompt``, ``seed``, ``guidance_scale``, …).
        upscale_factors: The factors it enlarges by.
        price: What it costs; None: unknown.
        default_steps: Denoising steps when the request names none.
        revision: What else tells its pictures from those of the same identifier
            before: a date, a digest. Kept answers of another revision are not used.
        quality: Declared quality.
        speed: Declared speed.
        creator: Who trained it.
        aliases: Other identifiers it answers to.
        retired: Those of its aliases that name models which are gone: whoever asks for
            one is told what stands in for it.
        suits: Takes a prompt and tells whether this model comes before the
            provider's others for it; it must depend on the prompt alone.
        kind: What it makes. Only ``image`` models serve requests; ``video``
            models are listed so that a person sees why they are passed over.
        is_batch_only: Whether it serves nothing but items of batches, because its
            answers take hours.
        max_batch_size: Most requests in one call of ``gaia_generate_many``; 1: one by
            one, through ``gaia_generate``; None: as many as its provider takes.
        state: Tells how the model is now, where that may change: whether its files
            are there, whether it is loaded. Asked at every plan and every listing, so
            it must be cheap; cards that differ in nothing else are equal.
        live_revision: Tells the revision now, where that may change while the program
            runs; asked for each request that kept answers may serve. Cards that
            differ in nothing else are equal.
    """

    id: str = attrs.field(validator=_is_text)
    name: str = attrs.field(validator=_is_text)
    provider: str = attrs.field(validator=_is_text)
    capabilities: frozenset[Capability] = attrs.field(converter=_capabilities)
    max_width: int = attrs.field(default=1024, validator=_is_whole)
    max_height: int = attrs.field(default=1024, validator=_is_whole)
    max_images: int = attrs.field(default=1, validator=_is_whole)
    supported_fields: frozenset[str] = attrs.field(
        default=frozenset(), converter=_names
    )
    upscale_factors: frozenset[int] = attrs.field(
        default=frozenset({2, 4, 8}), converter=_factors
    )
    price: Price | None = attrs.field(
        default=None,
        validator=attrs.validators.optional(attrs.validators.instance_of(Price)),
    )
    default_steps: int = attrs.field(default=_DEFAULT_STEPS, validator=_is_whole)
    revision: str = ""
    quality: Quality = attrs.field(default=Quality.STANDARD, converter=Quality)
    speed: Speed = attrs.field(default=Speed.MEDIUM, converter=Speed)
    creator: str | None = None
    aliases: tuple[str, ...] = attrs.field(default=(), converter=_tuple)
    retired: tuple[str, ...] = attrs.field(default=(), converter=_tuple)
    suits: Callable[[str], bool] | None = attrs.field(default=None, repr=False)
    kind: str = attrs.field(
        default="image", validator=attrs.validators.in_(("image", "video"))
    )
    is_batch_only: bool = False
    max_batch_size: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(_is_whole)
    )
    state: Callable[[], ModelState] | None = attrs.field(
        default=None, repr=False, eq=False
    )
    live_revision: Callable[[], str] | None = attrs.field(
        default=None, repr=False, eq=False
    )

    def answers_to(self, name: str) -> bool:
        """Tell whether a name is this model's identifier or an alias of it."""
        return name == self.id or name in self.aliases


def work_of(request: Request, model: ModelInfo) -> Work:
    """Measure what a request asks of a model, in the terms prices are made of."""
    if isinstance(request, GenerateRequest):
        return _generation(request, model)
    image = getattr(request, "image", None)
    if image is None:
        return Work(width=0, height=0)
    factor = request.upscale_factor if isinstance(request, UpscaleRequest) else 1
    return Work(width=image.width * factor, height=image.height * factor)


def estimate(request: Request, model: ModelInfo) -> Decimal | None:
    """
    Estimate what a request costs with a model.

    Returns:
        US dollars, or None when the model's price is unknown.
    """
    return None if model.price is None else model.price.of(work_of(request, model))


def _generation(request: GenerateRequest, model: ModelInfo) -> Work:
    options = request.options_for(model.provider)
    inputs = [request.image, request.mask_image, *request.reference_images]
    return Work(
        width=request.width,
        height=request.height,
        num_images=request.num_images,
        num_inference_steps=request.num_inference_steps or model.default_steps,
        num_references=sum(image is not None for image in inputs),
        quality=_word(options.get("quality")),
        image_size=_word(options.get("image_size")),
    )


def _word(value: object) -> str | None:
    return value if isinstance(value, str) else None


@attrs.frozen(kw_only=True)
class ProviderInfo:
    """
    What a provider says about itself, without asking anybody.

    Attributes:
        name: Its name; settings may give an instance another one.
        capabilities: What it can do.
        priority: Its rank; higher comes first.
        display_name: What a person calls it.
        contract: Major version of the provider contract it speaks.
        unavailable: Why it cannot work here and now, or None.
        is_idempotent: Whether sending the same task id again never makes or charges
            anything twice. Without it, and without ``gaia_recover``, an attempt
            that may have been charged is never repeated.
        max_concurrent: Most attempts at a time; None: no limit of its own.
        requests_per_minute: Most attempts a minute; None: no limit of its own.
        max_attempts: Most tries for one operation; None: as the settings say.
        retry_delay: Seconds before the first repetition, from which the further
            waits grow; None: as Gaia does.
        max_batch_size: Most requests in one call of ``gaia_generate_many``, for models
            that say nothing else.
        batch_timeout: Longest such a call may take, in seconds.
        base_url: Where it is asked. Results are fetched from this host even where
            no other could be: on this machine, or in a private network.
        result_hosts: The only other hosts results are fetched from; ``*.example.com``
            stands for every name below example.com. Empty: any public host.
    """

    name: str
    capabilities: frozenset[Capability] = attrs.field(converter=_capabilities)
    priority: int = 0
    display_name: str = ""
    contract: int = CONTRACT
    unavailable: str | None = None
    is_idempotent: bool = False
    max_concurrent: int | None = None
    requests_per_minute: int | None = None
    max_attempts: int | None = None
    retry_delay: float | None = None
    max_batch_size: int = 1
    batch_timeout: float = 600.0
    base_url: str | None = None
    result_hosts: frozenset[str] = attrs.field(default=frozenset(), converter=_names)


class HealthLevel(Enum):
    """How far a health check goes; no level ever spends money."""

    CONFIGURED = "configured"
    """Settings only: nothing leaves the process."""
    REACHABLE = "reachable"
    """The provider's address answers."""
    AUTHORISED = "authorised"
    """The provider accepts the key."""


@attrs.frozen(kw_only=True)
class Health:
    """
    What a health check found.

    Attributes:
        level: The highest level that was reached.
        is_healthy: Whether the level asked for was reached.
        reason: Why not, in a sentence; None when healthy.
        notes: More to know, one sentence each.
    """

    level: HealthLevel
    is_healthy: bool
    reason: str | None = None
    notes: tuple[str, ...] = attrs.field(default=(), converter=_tuple)
