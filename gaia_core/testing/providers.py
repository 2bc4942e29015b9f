"""A provider for tests: real in every hook, and as good or bad as a test wants."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, Self, TypeVar, cast

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
from gaia_core.errors import ProviderError
from gaia_core.fitting import DECISIVE_FIELDS, OPTIONAL_FIELDS
from gaia_core.hookspecs import hookimpl
from gaia_core.requests import (
    MAX_NUM_IMAGES,
    MAX_SIDE,
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    RemoveBackgroundRequest,
    Request,
    UpscaleRequest,
)
from gaia_core.results import (
    DescriptionResult,
    GeneratedImage,
    ImageResult,
    PromptResult,
)
from gaia_core.testing import drawing

T = TypeVar("T")


def _capabilities(values: Iterable[Capability | str]) -> frozenset[Capability]:
    return frozenset(map(Capability, values))


def _models(values: Iterable[ModelInfo]) -> tuple[ModelInfo, ...]:
    return tuple(values)


def _script(values: Iterable[object]) -> deque[object]:
    return deque(values)


def _price(value: Decimal | float | str | None) -> Decimal | None:
    return None if value is None else to_decimal(value)


@attrs.frozen(kw_only=True)
class Call:
    """
    One call of a work hook, as the provider saw it.

    Attributes:
        hook: The hook's name.
        request: What was asked for.
        context: The attempt.
    """

    hook: str
    request: Request
    context: CallContext


@attrs.define(eq=False, kw_only=True)
class FakeProvider:
    """
    Draws one plain colour per prompt and seed, and does as it is told.

    ::

        busy = FakeProvider(name="busy", outcomes=[RateLimitError("slow down")])
        async with open_gaia(busy, FakeProvider()) as gaia:
            response = await gaia.generate(GenerateRequest(prompt="a red dragon"))

    Attributes:
        name: The provider's name, and its model's.
        priority: Its rank.
        capabilities: What it can do; everything, unless said.
        models: What it lists; one model that honours every field, unless said.
        price_usd: What each picture costs; None: it does not say.
        unavailable: Why it cannot work, if so.
        outcomes: What comes of the next calls, one each: an exception is raised,
            a result (or whatever else) is answered, None draws as usual.
        failure: What every call raises once ``outcomes`` is used up.
        is_charging_failures: Whether a call that fails is charged all the same.
        is_looking_up: Whether it can say what became of a call that failed.
        is_idempotent: Whether it says that a repeated task costs nothing; it then
            does not.
        delay: Seconds a call takes.
        steps: The fractions a call reports as its progress, spread over ``delay``.
        is_local: Whether it says of its pictures that it encoded them itself, so
            that Gaia may write its metadata into them.
        calls: Every call of a work hook so far.
        charges: The task id of every charge so far.
        is_running: Whether it was started and not stopped since.
    """

    name: str = "fake"
    priority: int = 0
    capabilities: frozenset[Capability] = attrs.field(
        default=frozenset(Capability), converter=_capabilities
    )
    models: tuple[ModelInfo, ...] = attrs.field(default=(), converter=_models)
    price_usd: Decimal | None = attrs.field(default=Decimal(0), converter=_price)
    unavailable: str | None = None
    outcomes: deque[object] = attrs.field(factory=deque, converter=_script)
    failure: Exception | None = None
    is_charging_failures: bool = False
    is_looking_up: bool = False
    is_idempotent: bool = False
    delay: float = 0.0
    steps: Sequence[float] = (0.5, 1.0)
    is_local: bool = False
    calls: list[Call] = attrs.field(factory=list, init=False, repr=False)
    charges: list[str] = attrs.field(factory=list, init=False, repr=False)
    is_running: bool = attrs.field(default=False, init=False, repr=False)
    _made: dict[str, Any] = attrs.field(factory=dict, init=False, repr=False)

    @classmethod
    def failing(cls, failure: Exception, **fields: Any) -> Self:
        """
        Make a provider every call of which fails.

        Args:
            failure: What each call raises.
            **fields: As for the class.
        """
        return cls(failure=failure, **fields)

    @property
    def requests(self) -> list[Request]:
        """What was asked for so far."""
        return [call.request for call in self.calls]

    # -- who are you ------------------------------------------------------------------

    @hookimpl
    def gaia_provider_info(self) -> ProviderInfo:
        """Say what the test told it to be."""
        return ProviderInfo(
            name=self.name,
            capabilities=self.capabilities,
            priority=self.priority,
            unavailable=self.unavailable,
            is_idempotent=self.is_idempotent,
        )

    @hookimpl
    async def gaia_list_models(self) -> Sequence[ModelInfo]:
        """List the models it was given, or one that takes everything."""
        return self.models or (self._only_model(),)

    # -- work -------------------------------------------------------------------------

    @hookimpl
    async def gaia_generate(
        self, request: GenerateRequest, context: CallContext
    ) -> ImageResult:
        """Fill pictures with one colour each."""
        return await self._answer(
            "gaia_generate", request, context, lambda: self._generated(request)
        )

    @hookimpl
    async def gaia_upscale(
        self, request: UpscaleRequest, context: CallContext
    ) -> ImageResult:
        """Enlarge a picture."""
        return await self._answer(
            "gaia_upscale",
            request,
            context,
            lambda: self._image(request, drawing.enlarged(request)),
        )

    @hookimpl
    async def gaia_remove_background(
        self, request: RemoveBackgroundRequest, context: CallContext
    ) -> ImageResult:
        """Cut out whatever differs from the corner."""
        return await self._answer(
            "gaia_remove_background",
            request,
            context,
            lambda: self._image(request, drawing.cut_out(request)),
        )

    @hookimpl
    async def gaia_enhance_prompt(
        self, request: EnhancePromptRequest, context: CallContext
    ) -> PromptResult:
        """Add the two words every prompt is better with."""
        words = f"{request.prompt}, highly detailed"[: request.max_length]
        return await self._answer(
            "gaia_enhance_prompt",
            request,
            context,
            lambda: PromptResult(prompt=words, **self._signature(request)),
        )

    @hookimpl
    async def gaia_describe_image(
        self, request: DescribeImageRequest, context: CallContext
    ) -> DescriptionResult:
        """Tell a picture's size."""
        words = f"A picture of {request.image.width}x{request.image.height} pixels."
        return await self._answer(
            "gaia_describe_image",
            request,
            context,
            lambda: DescriptionResult(description=words, **self._signature(request)),
        )

    # -- upkeep -----------------------------------------------------------------------

    @hookimpl
    async def gaia_check_health(self, level: HealthLevel) -> Health:
        """Be as healthy as it is available."""
        return Health(
            level=level,
            is_healthy=self.unavailable is None,
            reason=self.unavailable,
        )

    @hookimpl
    async def gaia_recover(
        self,
        task_id: str,
        context: CallContext,  # noqa: ARG002  the interface
    ) -> ImageResult | None:
        """
        Give what a charged attempt made, whether or not it was answered.

        Raises:
            ProviderError: If it was told that it cannot tell.
        """
        if not self.is_looking_up:
            message = f"{self.name} keeps no record of tasks."
            raise ProviderError(message)
        return self._made.get(task_id)

    @hookimpl
    async def gaia_start(self) -> None:
        """Note that it was started."""
        self.is_running = True

    @hookimpl
    async def gaia_stop(self) -> None:
        """Note that it was stopped."""
        self.is_running = False

    # -- inside -----------------------------------------------------------------------

    async def _answer(
        self,
        hook: str,
        request: Request,
        context: CallContext,
        draw: Callable[[], T],
    ) -> T:
        """Note the call, charge it, take its time, and do what the script says."""
        self.calls.append(Call(hook=hook, request=request, context=context))
        outcome = self.outcomes.popleft() if self.outcomes else self.failure
        has_failed = isinstance(outcome, Exception)
        answer = draw() if outcome is None or has_failed else outcome
        is_known = self.is_idempotent and context.task_id in self.charges
        if not is_known and (self.is_charging_failures or not has_failed):
            self.charges.append(context.task_id)
            self._made[context.task_id] = answer
        await self._take_time(context)
        if isinstance(outcome, Exception):
            raise outcome
        # A script may answer anything; what is not a result is the core's to refuse.
        return cast("T", answer)

    async def _take_time(self, context: CallContext) -> None:
        steps = self.steps or (None,)
        for step in steps:
            await asyncio.sleep(self.delay / len(steps))
            if step is not None:
                context.progress(step)

    def _generated(self, request: GenerateRequest) -> ImageResult:
        seed = drawing.seed_of(request.prompt) if request.seed is None else request.seed
        images = [
            self._picture(drawing.generated(request, seed + index), seed + index)
            for index in range(request.num_images)
        ]
        return ImageResult(images=images, **self._signature(request))

    def _image(self, request: Request, data: bytes) -> ImageResult:
        return ImageResult(images=[self._picture(data)], **self._signature(request))

    def _picture(self, data: bytes, seed: int | None = None) -> GeneratedImage:
        return GeneratedImage(data=data, seed=seed, is_encoded_here=self.is_local)

    def _signature(self, request: Request) -> dict[str, Any]:
        return {"provider": self.name, "model": request.model or self.name}

    def _only_model(self) -> ModelInfo:
        return ModelInfo(
            id=self.name,
            name=self.name.title(),
            provider=self.name,
            capabilities=self.capabilities,
            max_width=MAX_SIDE,
            max_height=MAX_SIDE,
            max_images=MAX_NUM_IMAGES,
            supported_fields=(*OPTIONAL_FIELDS, *DECISIVE_FIELDS),
            price=None if self.price_usd is None else Price(per_image=self.price_usd),
        )
