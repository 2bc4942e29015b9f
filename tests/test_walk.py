"""One operation on its way: who is asked, what is repeated, what it costs."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import pytest

from gaia_core import (
    AuthenticationError,
    CallContext,
    Capability,
    ContentFilteredError,
    DescribeImageRequest,
    EnhancePromptRequest,
    GaiaError,
    GeneratedImage,
    GenerateRequest,
    Image,
    ImageResult,
    InvalidImageError,
    ModelError,
    ModelInfo,
    ModelState,
    NoCapableProviderError,
    OutcomeClass,
    OutcomeUnknownError,
    Price,
    ProviderConnectionError,
    ProviderError,
    ProviderRequestError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitError,
    RemoveBackgroundRequest,
    Secret,
    StorageError,
    StoredImage,
    UnusableResultError,
    UpscaleRequest,
    asking,
    engine,
    hookimpl,
)
from gaia_core.catalog import MICRO_DOLLAR
from gaia_core.ledger import MemoryLedger, OperationState
from gaia_core.ledger.database import Database
from gaia_core.ledger.sql import SqlLedger
from gaia_core.png import read_text
from gaia_core.reliability import Asker, SingleTry, Target
from gaia_core.settings import ProviderSettings
from gaia_core.storage import FileStorage
from gaia_core.testing import (
    FakeProvider,
    MemoryStorage,
    capture_events,
    context,
    png,
)
from gaia_core.testing.pytest_plugin import OpenGaia

from .waiting import HeldProvider, let_pass

DRAGON = GenerateRequest(prompt="a red dragon", width=64, height=64)
PAID = Decimal("0.04")


@pytest.fixture(name="open_gaia")
def _open_gaia(open_gaia: OpenGaia) -> OpenGaia:
    """Keep pictures in memory, unless a test says otherwise: the disk is slow."""
    return partial(open_gaia, storage=MemoryStorage())


def _provider(name: str = "first", **fields: Any) -> FakeProvider:
    return FakeProvider(name=name, priority=10, **fields)


def _held(**fields: Any) -> HeldProvider:
    return HeldProvider(name="first", priority=10, **fields)


def _picture(data: bytes | None = None, **fields: Any) -> ImageResult:
    image = GeneratedImage(data=data or png(), **fields)
    return ImageResult(images=[image], provider="first", model="first")


@attrs.define(eq=False)
class _Insistent(SingleTry):
    """Repeats whatever may be repeated, a few times and at once."""

    repeats: int = 2
    wait: float = 0.0
    outcomes: tuple[OutcomeClass, ...] = (OutcomeClass.REJECTED_BUSY,)

    def wait_before_repeat(
        self,
        target: Target,  # noqa: ARG002  the interface
        repeats: int,
        error: Exception,
    ) -> float | None:
        """Wait as told, as often as told."""
        is_meant = getattr(error, "outcome", None) in self.outcomes
        return self.wait if is_meant and repeats < self.repeats else None


_LOOKS_UP = _Insistent(repeats=1, outcomes=(OutcomeClass.AMBIGUOUS,))
"""Sends a lost task again, as may be done where its id keeps it from costing twice."""


# -- the way ------------------------------------------------------------------------


async def test_response_tells_everything(open_gaia: OpenGaia) -> None:
    """A response names provider, model, price, attempts and the stored pictures."""
    provider = _provider(price_usd=PAID)
    request = attrs.evolve(
        DRAGON, num_images=2, seed=7, campaign_id="eldmoor", user_id="gm"
    )

    async with open_gaia(provider) as gaia:
        response = await gaia.generate(request)

    (attempt,) = response.attempts
    assert (response.provider, response.model) == ("first", "first")
    assert response.cost_usd == attempt.cost_usd == 2 * PAID
    assert attempt.outcome is OutcomeClass.OK
    assert response.duration_ms >= attempt.duration_ms > 0
    assert response.warnings == ()
    for seed, image in zip((7, 8), response.images, strict=True):
        assert image.operation_id == response.operation_id
        assert (image.prompt, image.seed) == ("a red dragon", seed)
        assert (image.campaign_id, image.user_id) == ("eldmoor", "gm")


@pytest.mark.parametrize(
    ("verb", "request_", "hook"),
    [
        ("upscale", UpscaleRequest(image=png()), "gaia_upscale"),
        (
            "remove_background",
            RemoveBackgroundRequest(image=png()),
            "gaia_remove_background",
        ),
        ("enhance_prompt", EnhancePromptRequest(prompt="a"), "gaia_enhance_prompt"),
        ("describe_image", DescribeImageRequest(image=png()), "gaia_describe_image"),
    ],
    ids=["upscale", "remove background", "enhance prompt", "describe image"],
)
async def test_every_verb_has_its_way(
    open_gaia: OpenGaia, verb: str, request_: Any, hook: str
) -> None:
    """Each verb reaches its hook and comes back with its kind of response."""
    provider = _provider()

    async with open_gaia(provider) as gaia:
        response = await getattr(gaia, verb)(request_)

    assert [call.hook for call in provider.calls] == [hook]
    assert response.attempts[0].outcome is OutcomeClass.OK
    assert type(response).__name__.endswith("Response")


async def test_instances_find_their_options(open_gaia: OpenGaia) -> None:
    """Options meant for an instance reach it under its plugin's own name."""
    seen: list[Any] = []

    class Ink(FakeProvider):
        """Writes down the options it is given."""

        @hookimpl
        async def gaia_generate(
            self, request: GenerateRequest, context: CallContext
        ) -> ImageResult:
            """Look at the options, then draw."""
            seen.append(request.options_for("fake"))
            return await super().gaia_generate(request, context)

    sections = {"studio": ProviderSettings(name="studio", plugin="fake")}
    request = attrs.evolve(
        DRAGON,
        provider="studio",
        provider_options={"studio": {"nib": "fine"}, "fake": {"nib": "broad"}},
    )

    async with open_gaia(Ink, providers=sections) as gaia:
        await gaia.generate(request)

    assert seen == [{"nib": "fine"}]


@pytest.mark.parametrize(
    ("options", "price"),
    [
        ({"fake": {"quality": "high"}}, "0.08"),
        ({"studio": {"quality": "high"}}, "0.08"),
        ({"studio": {"quality": "low"}, "fake": {"quality": "high"}}, "0.04"),
        ({"studio": {}, "fake": {"quality": "high"}}, "0.08"),
        ({"other": {"quality": "high"}}, "0.04"),
    ],
    ids=["plugin's", "own", "own first", "own empty", "another's"],
)
async def test_instances_are_priced_by_the_options_they_see(
    open_gaia: OpenGaia, options: dict[str, Any], price: str
) -> None:
    """What is held for an instance is the price of what it will be asked for."""
    model = ModelInfo(
        id="ink",
        name="Ink",
        provider="fake",
        capabilities=set(Capability),
        price=Price(per_image="0.04", by_quality={"high": 2}),
    )

    class Ink(FakeProvider):
        """Its price depends on an option."""

        @hookimpl
        async def gaia_list_models(self) -> tuple[ModelInfo, ...]:
            """List the one model."""
            return (model,)

    sections = {"studio": ProviderSettings(name="studio", plugin="fake")}
    request = attrs.evolve(DRAGON, provider="studio", provider_options=options)

    async with open_gaia(Ink, providers=sections) as gaia:
        best = gaia.plan(request).best
        with pytest.raises(NoCapableProviderError):
            await gaia.generate(request, max_cost_usd=Decimal(price) - MICRO_DOLLAR)

    assert best is not None
    assert best.price_usd == Decimal(price)


async def test_provider_gets_a_complete_attempt(open_gaia: OpenGaia) -> None:
    """The request names the model, the context the operation and the time left."""
    model = ModelInfo(
        id="m:1",
        name="M",
        provider="first",
        capabilities=set(Capability),
        aliases=["em"],
    )
    provider = _provider(models=[model])

    async with open_gaia(provider) as gaia:
        response = await gaia.generate(attrs.evolve(DRAGON, model="em"), timeout=30)

    (call,) = provider.calls
    assert call.request.model == "m:1"
    assert call.context.operation_id == response.operation_id
    assert call.context.task_id == response.attempts[0].task_id
    assert 0 < call.context.seconds_left <= 30


# -- the ledger -----------------------------------------------------------------------


async def test_ledger_knows_before_the_provider(open_gaia: OpenGaia) -> None:
    """When the hook runs, operation, task id and reserved money are written down."""
    ledger, seen = MemoryLedger(), []

    class Watching(FakeProvider):
        @hookimpl
        async def gaia_generate(self, request: Any, context: Any) -> ImageResult:
            seen.append((await ledger.get(context.operation_id), context.task_id))
            return await FakeProvider.gaia_generate(self, request, context)

    async with open_gaia(Watching(price_usd=PAID), ledger=ledger) as gaia:
        response = await gaia.generate(DRAGON)
        after = await gaia.operation(response.operation_id)

    ((before, task_id),) = seen
    assert before is not None
    assert before.state is OperationState.SENT
    assert before.reserved_usd == PAID
    assert before.attempts[0].task_id == task_id
    assert after is not None
    assert after.state is OperationState.DONE
    assert after.reserved_usd == 0
    assert after.cost_usd == PAID
    assert after.image_ids == tuple(image.id for image in response.images)


async def test_task_id_stays_when_asked_again(open_gaia: OpenGaia) -> None:
    """A provider is asked again under the same task id, the next under its own."""
    busy = RateLimitError("slow down")
    first = _provider(failure=busy)
    second = FakeProvider(name="second")

    async with open_gaia(first, second, reliability=_Insistent()) as gaia:
        response = await gaia.generate(DRAGON)

    tasks = [call.context.task_id for call in first.calls]
    assert len(tasks) == 3
    assert len(set(tasks)) == 1
    assert UUID(tasks[0]).version == 4
    assert second.calls[0].context.task_id != tasks[0]
    assert [attempt.provider for attempt in response.attempts] == [
        *(["first"] * 3),
        "second",
    ]


@pytest.mark.parametrize(
    ("told", "expected"),
    [(None, PAID), (Decimal("0.01"), Decimal("0.01")), (Decimal(0), Decimal(0))],
    ids=["catalogue", "reported", "free of charge"],
)
async def test_settles_at_what_was_charged(
    open_gaia: OpenGaia, told: Decimal | None, expected: Decimal
) -> None:
    """The provider's word about the cost counts, otherwise the catalogue's price."""
    result = attrs.evolve(_picture(), cost_usd=told)

    async with open_gaia(_provider(price_usd=PAID, outcomes=[result])) as gaia:
        response = await gaia.generate(DRAGON)
        operation = await gaia.operation(response.operation_id)

    assert response.cost_usd == expected
    assert operation is not None
    assert operation.cost_usd == expected


# -- fallback -------------------------------------------------------------------------

REJECTIONS = [
    AuthenticationError("no key"),
    ModelError("no such model"),
    ProviderConnectionError("refused"),
    ProviderUnavailableError("down"),
    QuotaExceededError("no credit"),
    RateLimitError("slow down"),
]


@pytest.mark.parametrize("error", REJECTIONS, ids=lambda error: type(error).__name__)
async def test_rejection_is_served_by_the_next(
    open_gaia: OpenGaia, error: ProviderError
) -> None:
    """What one provider rejects without a charge, the next one serves."""
    first = _provider(failure=error, price_usd=PAID)
    second = FakeProvider(name="second", price_usd="0.01")

    async with open_gaia(first, second) as gaia:
        response = await gaia.generate(DRAGON)

    assert response.provider == "second"
    assert [(a.provider, a.outcome) for a in response.attempts] == [
        ("first", error.outcome),
        ("second", OutcomeClass.OK),
    ]
    assert [a.cost_usd for a in response.attempts] == [0, Decimal("0.01")]
    assert response.cost_usd == Decimal("0.01")
    assert f"first/first failed ({error}); served by second/second" in response.warnings


@pytest.mark.parametrize(
    "error",
    [ContentFilteredError("violence"), ProviderRequestError("too long")],
    ids=["refused on safety grounds", "refused as malformed"],
)
async def test_refusal_is_final(open_gaia: OpenGaia, error: ProviderError) -> None:
    """A refusal is not taken to another provider."""
    first, second = _provider(failure=error), FakeProvider(name="second")

    async with open_gaia(first, second) as gaia:
        with pytest.raises(type(error)) as caught:
            await gaia.generate(DRAGON)
        operation = await gaia.operation(str(caught.value.operation_id))

    assert second.calls == []
    assert [attempt.provider for attempt in caught.value.attempts] == ["first"]
    assert operation is not None
    assert operation.state is OperationState.FAILED
    assert operation.reserved_usd == 0
    assert operation.cost_usd == 0


async def test_last_error_is_the_answer_when_all_fail(open_gaia: OpenGaia) -> None:
    """When everybody rejects, the error lists every attempt."""
    first = _provider(failure=RateLimitError("slow down", retry_after=3))
    second = FakeProvider.failing(ProviderUnavailableError("down"), name="second")

    async with open_gaia(first, second) as gaia:
        with pytest.raises(ProviderUnavailableError) as caught:
            await gaia.generate(DRAGON)

    assert [attempt.error for attempt in caught.value.attempts] == ["slow down", "down"]


async def test_substitute_model_serves_for_a_missing_one(open_gaia: OpenGaia) -> None:
    """A configured fallback model is asked when the model before it is gone."""
    models = [
        ModelInfo(id=id_, name=id_, provider="first", capabilities=set(Capability))
        for id_ in ("old", "new")
    ]
    provider = _provider(models=models, outcomes=[ModelError("gone")])
    section = ProviderSettings(name="first", fallback_models=("new",))

    async with open_gaia(provider, providers={"first": section}) as gaia:
        response = await gaia.generate(attrs.evolve(DRAGON, model="old"))

    assert [call.request.model for call in provider.calls] == ["old", "new"]
    assert response.model == "new"
    assert any("served by first/new" in warning for warning in response.warnings)


async def test_substitute_model_serves_for_one_that_is_away(
    open_gaia: OpenGaia,
) -> None:
    """A model whose state says so is not asked at all; a warning tells who served."""
    away = ModelState(word="absent", unavailable="fetch it")
    models = [
        ModelInfo(
            id=id_,
            name=id_,
            provider="first",
            capabilities=set(Capability),
            state=state,
        )
        for id_, state in (("old", lambda: away), ("new", None))
    ]
    provider = _provider(models=models)
    section = ProviderSettings(name="first", fallback_models=("new",))

    async with open_gaia(provider, providers={"first": section}) as gaia:
        response = await gaia.generate(attrs.evolve(DRAGON, model="old"))

    assert [call.request.model for call in provider.calls] == ["new"]
    assert "old cannot be asked now; served by first/new" in response.warnings


async def test_substitute_model_is_not_asked_of_a_busy_provider(
    open_gaia: OpenGaia,
) -> None:
    """A provider that rejects for another reason is not asked for its other model."""
    models = [
        ModelInfo(id=id_, name=id_, provider="first", capabilities=set(Capability))
        for id_ in ("old", "new")
    ]
    provider = _provider(models=models, failure=RateLimitError("slow down"))
    section = ProviderSettings(name="first", fallback_models=("new",))

    async with open_gaia(provider, providers={"first": section}) as gaia:
        with pytest.raises(RateLimitError):
            await gaia.generate(DRAGON)

    assert len(provider.calls) == 1


# -- lost answers ---------------------------------------------------------------------

LOST: list[Exception] = [
    OSError("reset by peer"),
    KeyError("images"),
    ProviderTimeoutError("no answer"),
    TimeoutError("no answer"),
]
lost = pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)


@lost
@pytest.mark.parametrize("price", [PAID, None], ids=["paid", "price unknown"])
async def test_lost_answer_is_never_paid_twice(
    open_gaia: OpenGaia, error: Exception, price: Decimal | None
) -> None:
    """An unknown outcome that may have cost ends the operation, its money held."""
    first = _provider(failure=error, price_usd=price, is_charging_failures=True)
    second = FakeProvider(name="second")

    async with open_gaia(first, second, reliability=_Insistent()) as gaia:
        with pytest.raises(OutcomeUnknownError) as caught:
            await gaia.generate(DRAGON)
        operation = await gaia.operation(str(caught.value.operation_id))

    assert len(first.charges) == 1
    assert second.calls == []
    assert caught.value.provider == "first"
    assert str(caught.value.operation_id) in str(caught.value)
    assert operation is not None
    assert operation.state is OperationState.UNKNOWN
    assert operation.reserved_usd == (price or 0)


@lost
async def test_lost_answer_of_a_free_provider_falls_back(
    open_gaia: OpenGaia, error: Exception
) -> None:
    """What costs nothing cannot be paid twice: the next provider serves."""
    first, second = _provider(failure=error), FakeProvider(name="second")

    async with open_gaia(first, second) as gaia:
        response = await gaia.generate(DRAGON)

    assert response.provider == "second"
    assert response.attempts[0].outcome is OutcomeClass.AMBIGUOUS


async def test_crash_of_a_free_provider_is_no_open_question(
    open_gaia: OpenGaia,
) -> None:
    """Without a fallback the crash is named by its type, its words left out."""
    provider = _provider(failure=OSError("key sk-123"))

    async with open_gaia(provider) as gaia:
        with pytest.raises(
            ProviderError, match=r"first failed with OSError\."
        ) as caught:
            await gaia.generate(DRAGON)
        operation = await gaia.operation(str(caught.value.operation_id))

    assert not isinstance(caught.value, OutcomeUnknownError)
    assert "sk-123" not in str(caught.value)
    assert operation is not None
    assert operation.state is OperationState.FAILED


@pytest.mark.parametrize(
    "ending",
    [SystemExit, asyncio.CancelledError, GeneratorExit],
    ids=lambda ending: ending.__name__,
)
async def test_hook_ends_nothing_but_itself(
    open_gaia: OpenGaia, ending: type[BaseException]
) -> None:
    """A hook that exits or cancels itself fails like any other."""

    class Ending(FakeProvider):
        @hookimpl
        async def gaia_generate(self, *_: Any) -> ImageResult:
            raise ending

    async with open_gaia(Ending(name="ending", priority=5), FakeProvider()) as gaia:
        response = await gaia.generate(DRAGON)

    assert [attempt.provider for attempt in response.attempts] == ["ending", "fake"]


# -- unusable answers -----------------------------------------------------------------


def _torn(**fields: Any) -> ImageResult:
    return _picture(png(300, 300, mode="RGBA")[:-40], width=300, height=300, **fields)


@pytest.mark.parametrize(
    "answer",
    [
        lambda: ImageResult(images=[], provider="first", model="first"),
        _torn,
        lambda: _torn(is_encoded_here=True),
        lambda: {"images": []},
        png,
    ],
    ids=["no picture", "torn", "torn here", "a dictionary", "bytes"],
)
async def test_unusable_answer_is_paid_and_named(
    open_gaia: OpenGaia, answer: Callable[[], Any]
) -> None:
    """An answer without a usable picture is settled, and nobody else is asked."""
    first = _provider(price_usd=PAID, outcomes=[answer()])
    second = FakeProvider(name="second")

    async with open_gaia(first, second, reliability=_Insistent()) as gaia:
        with pytest.raises(UnusableResultError, match="first") as caught:
            await gaia.generate(DRAGON)
        operation = await gaia.operation(str(caught.value.operation_id))

    assert (len(first.calls), second.calls) == (1, [])
    assert operation is not None
    assert operation.state is OperationState.FAILED
    assert operation.reserved_usd == 0
    assert operation.cost_usd == PAID


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (UnusableResultError("No picture.", cost_usd=Decimal("0.5")), Decimal("0.5")),
        (UnusableResultError("No picture."), PAID),
        (UnusableResultError("No picture.", cost_usd=Decimal("NaN")), PAID),
        (
            ImageResult(
                images=[], provider="first", model="first", cost_usd=Decimal("0.5")
            ),
            Decimal("0.5"),
        ),
    ],
    ids=["billed", "unsaid", "no amount", "no picture"],
)
async def test_what_the_provider_bills_for_nothing_is_booked(
    open_gaia: OpenGaia, answer: Any, expected: Decimal
) -> None:
    """The catalogue's price stands where the provider does not say."""
    first = _provider(price_usd=PAID, outcomes=[answer])

    async with open_gaia(first) as gaia:
        with pytest.raises(UnusableResultError) as caught:
            await gaia.generate(DRAGON)
        operation = await gaia.operation(str(caught.value.operation_id))

    assert operation is not None
    assert (operation.cost_usd, operation.reserved_usd) == (expected, Decimal(0))


async def test_sentences_within_sentences_lose_their_full_stop(
    open_gaia: OpenGaia,
) -> None:
    """What the provider said stands in brackets, and the message names what to do."""
    provider = _provider(
        price_usd=PAID, failure=ProviderTimeoutError("The server has not answered.")
    )

    async with open_gaia(provider) as gaia:
        with pytest.raises(OutcomeUnknownError) as caught:
            await gaia.generate(DRAGON)

    own = caught.value.operation_id
    assert str(caught.value) == (
        "The answer of first was lost (The server has not answered); the picture may "
        f"have been made and charged. Look operation {own} up before asking again: "
        f"`gaia usage --operation {own}`."
    )


async def test_lost_charge_is_not_forgotten_over_a_repeat(
    open_gaia: OpenGaia,
) -> None:
    """After a lost answer no later refusal of the same task leads elsewhere."""
    first = _provider(
        price_usd=PAID,
        outcomes=[ProviderTimeoutError("lost"), RateLimitError("slow down")],
    )
    second = FakeProvider(name="second", price_usd=PAID)

    async with open_gaia(first, second, reliability=_LOOKS_UP) as gaia:
        with pytest.raises(OutcomeUnknownError, match="first was lost") as caught:
            await gaia.generate(DRAGON)
        operation = await gaia.operation(str(caught.value.operation_id))

    assert second.calls == []
    assert caught.value.provider == "first"
    assert operation is not None
    assert operation.state is OperationState.UNKNOWN
    assert operation.reserved_usd == PAID


async def test_task_sent_twice_is_charged_once(open_gaia: OpenGaia) -> None:
    """A lost answer that the same task brings after all costs what one costs."""
    provider = _provider(
        price_usd=PAID, is_idempotent=True, outcomes=[ProviderTimeoutError("lost")]
    )

    async with open_gaia(provider, reliability=_LOOKS_UP) as gaia:
        response = await gaia.generate(DRAGON)

    assert [attempt.cost_usd for attempt in response.attempts] == [PAID, PAID]
    assert response.cost_usd == PAID


@pytest.mark.parametrize("charged", [-1, float("nan"), float("inf")], ids=str)
async def test_amount_that_is_none_is_not_booked(
    open_gaia: OpenGaia, charged: float
) -> None:
    """When a provider's bill makes no sense, the declared price counts."""
    result = attrs.evolve(_picture(), cost_usd=charged)

    async with open_gaia(_provider(price_usd=PAID, outcomes=[result])) as gaia:
        response = await gaia.generate(DRAGON)

    assert response.cost_usd == PAID


async def test_names_that_are_no_text_end_no_operation(
    open_gaia: OpenGaia, tmp_path: Path
) -> None:
    """A vendor may call its model anything; what it made is settled."""
    odd = attrs.evolve(_picture(), model="\udce4\0")
    provider = _provider(price_usd=PAID, outcomes=[odd])
    ledger = SqlLedger(Database(f"sqlite:///{tmp_path}/gaia.db"))

    async with open_gaia(provider, ledger=ledger) as gaia:
        response = await gaia.generate(DRAGON)
        operation = await gaia.operation(response.operation_id)

    assert operation is not None
    assert (operation.state, operation.model) == (OperationState.DONE, "??")


async def test_warnings_that_are_no_text_end_no_operation(
    open_gaia: OpenGaia,
) -> None:
    """What a provider adds to a picture that is paid for is shown as it is."""
    odd: Any = (None, 7)
    answer = attrs.evolve(_picture(), warnings=odd)

    async with open_gaia(_provider(price_usd=PAID, outcomes=[answer])) as gaia:
        response = await gaia.generate(DRAGON)

    assert response.warnings[-2:] == ("None", "7")


async def test_answer_without_a_model_is_kept_under_the_one_asked(
    open_gaia: OpenGaia, tmp_path: Path
) -> None:
    """A result that names no model can still be read from the store."""
    result = attrs.evolve(_picture(), model="")
    storage = FileStorage(tmp_path)

    async with open_gaia(_provider(outcomes=[result]), storage=storage) as gaia:
        response = await gaia.generate(DRAGON)

    assert response.model == "first"
    assert await storage.list() == response.images


@attrs.define(eq=False, kw_only=True)
class _Talkative(FakeProvider):
    """Repeats its key when it fails."""

    api_key: Secret | None = None

    @hookimpl
    async def gaia_generate(self, request: Any, context: Any) -> ImageResult:  # noqa: ARG002  the interface
        """Fail."""
        key = self.api_key.reveal() if self.api_key else ""
        message = f"the key {key} is over its quota"
        raise RateLimitError(message)


async def test_keys_are_masked_wherever_a_provider_repeats_them(
    open_gaia: OpenGaia,
) -> None:
    """Neither the error, nor the attempts, nor the book shows a known key."""
    section = ProviderSettings(
        name="fake", options={"api_key": Secret("sk-canary-walk")}
    )

    async with open_gaia(_Talkative, providers={"fake": section}) as gaia:
        with pytest.raises(RateLimitError) as caught:
            await gaia.generate(DRAGON)
        operation = await gaia.operation(str(caught.value.operation_id))

    assert str(caught.value) == "the key •••• is over its quota"
    assert "canary" not in f"{caught.value.attempts} {operation}"


@attrs.define(eq=False, kw_only=True)
class _Reading(FakeProvider):
    """Reads what the caller sent, pays, and reads what came back."""

    @hookimpl
    async def gaia_generate(self, request: Any, context: Any) -> ImageResult:
        """Answer with what is no picture."""
        if request.image is not None:
            request.image.decode()
        self.charges.append(context.task_id)
        Image.from_bytes(b"<html>")
        return _picture()


async def test_vendors_picture_that_cannot_be_read_is_paid(
    open_gaia: OpenGaia,
) -> None:
    """A paid answer that is no picture is no mistake of the caller's."""
    async with open_gaia(_Reading(price_usd=PAID)) as gaia:
        with pytest.raises(UnusableResultError, match="damaged picture") as caught:
            await gaia.generate(attrs.evolve(DRAGON, image=png()))

    assert [attempt.cost_usd for attempt in caught.value.attempts] == [PAID]


async def test_callers_picture_that_cannot_be_read_costs_nothing(
    open_gaia: OpenGaia,
) -> None:
    """A damaged picture of the caller's is refused before anything is paid."""
    provider = _Reading(price_usd=PAID)
    torn = png(256, 256)[:-40]

    async with open_gaia(provider) as gaia:
        with pytest.raises(InvalidImageError) as caught:
            await gaia.generate(attrs.evolve(DRAGON, image=torn))

    assert provider.charges == []
    assert [attempt.cost_usd for attempt in caught.value.attempts] == [0]


async def test_error_is_not_its_own_cause(open_gaia: OpenGaia) -> None:
    """An error that needs no translation comes through as it is."""
    async with open_gaia(_provider(failure=RateLimitError("slow down"))) as gaia:
        with pytest.raises(RateLimitError) as caught:
            await gaia.generate(DRAGON)

    assert caught.value.__cause__ is None


async def test_picture_that_cannot_be_kept_waits(open_gaia: OpenGaia) -> None:
    """When the store refuses, the host learns why, and the picture is kept safe."""
    provider = _provider(price_usd=PAID)
    full = MemoryStorage(failure=StorageError("the disk is full"))

    async with open_gaia(provider, storage=full) as gaia:
        with pytest.raises(StorageError, match="full") as caught:
            await gaia.generate(DRAGON)
        operation = await gaia.operation(str(caught.value.operation_id))

    assert operation is not None
    assert operation.state is OperationState.RECEIVED
    assert operation.attempts[-1].cost_usd == PAID


# -- waiting --------------------------------------------------------------------------


async def test_deadline_after_sending_leaves_the_work_alone(
    open_gaia: OpenGaia,
) -> None:
    """The caller hears of an unknown outcome; the picture is kept when it comes."""
    provider, storage = _held(price_usd=PAID), MemoryStorage()

    async with open_gaia(provider, storage=storage) as gaia:
        work = asyncio.create_task(gaia.generate(DRAGON, timeout=30))
        await provider.called()
        let_pass(31)
        with pytest.raises(OutcomeUnknownError) as caught:
            await work
        sent = await gaia.operation(str(caught.value.operation_id))
        provider.go.set()
    done = await gaia.operation(str(caught.value.operation_id))

    assert sent is not None
    assert sent.state is OperationState.SENT
    assert done is not None
    assert done.state is OperationState.DONE
    assert done.image_ids == tuple(image.id for image in storage.images)
    assert len(provider.charges) == 1


async def test_paid_pictures_are_fetched_after_the_deadline() -> None:
    """The deadline bounds waiting: what is paid for is fetched even later."""

    async def fetch(_url: str) -> bytes:
        await asyncio.sleep(0.01)
        return b"a picture"

    late = context(deadline=0.0, fetch=fetch)

    assert await late.fetch("https://example.org/1.png") == b"a picture"


async def test_hook_that_hangs_is_given_up(open_gaia: OpenGaia) -> None:
    """An answer that never comes holds no place for ever: its outcome is unknown."""
    provider = _held(price_usd=PAID)

    async with open_gaia(provider) as gaia:
        work = asyncio.create_task(gaia.generate(DRAGON, timeout=30))
        await provider.called()
        let_pass(31)
        with pytest.raises(OutcomeUnknownError) as caught:
            await work
        let_pass(asking.LISTENING)
    operation = await gaia.operation(str(caught.value.operation_id))

    assert operation is not None
    assert operation.state is OperationState.UNKNOWN
    assert operation.attempts[-1].error == "TimeoutError"


@attrs.define(eq=False)
class SlowStorage(MemoryStorage):
    """Takes its time for the first picture."""

    is_asked: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)

    async def put(self, image: Image, **facts: Any) -> StoredImage:
        """Keep a picture; the first one after a minute."""
        if not self.is_asked.is_set():
            self.is_asked.set()
            await asyncio.sleep(60)
        return await super().put(image, **facts)


async def test_closing_drops_no_paid_picture(
    open_gaia: OpenGaia, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storing that closing interrupts is done again at the very end."""
    monkeypatch.setattr(engine, "CLOSING_GRACE", 0.1)
    provider, storage = _provider(price_usd=PAID), SlowStorage()

    async with open_gaia(provider, storage=storage) as gaia:
        work = asyncio.create_task(gaia.generate(DRAGON))
        await storage.is_asked.wait()
    with pytest.raises(GaiaError, match="called off"):
        await work
    (operation,) = await gaia.ledger.listed()

    assert operation.state is OperationState.DONE
    assert operation.image_ids == tuple(image.id for image in storage.images)
    assert operation.cost_usd == PAID


async def test_caller_who_leaves_loses_nothing(open_gaia: OpenGaia) -> None:
    """A cancelled caller's picture is made, paid once and kept."""
    provider, storage = _held(price_usd=PAID), MemoryStorage()

    async with open_gaia(provider, storage=storage) as gaia:
        work = asyncio.ensure_future(gaia.generate(DRAGON))
        await provider.called()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        provider.go.set()

    assert len(provider.charges) == 1
    assert len(storage.images) == 1


async def test_free_work_ends_with_its_caller(open_gaia: OpenGaia) -> None:
    """What costs nothing is cancelled, and the ledger says so."""
    provider = _held()
    ledger = MemoryLedger()

    async with open_gaia(provider, ledger=ledger) as gaia:
        work = asyncio.create_task(gaia.generate(DRAGON, timeout=30))
        await provider.called()
        let_pass(31)
        with pytest.raises(ProviderTimeoutError) as caught:
            await work
        operation = await gaia.operation(str(caught.value.operation_id))

    assert operation is not None
    assert operation.state is OperationState.CANCELLED
    assert operation.error == "cancelled"


async def test_nothing_new_begins_when_nobody_waits(open_gaia: OpenGaia) -> None:
    """After the deadline a late rejection is not taken to the next provider."""
    first = _held(price_usd=PAID, failure=ProviderUnavailableError("down"))
    second = FakeProvider(name="second", price_usd=PAID)

    async with open_gaia(first, second) as gaia:
        work = asyncio.create_task(gaia.generate(DRAGON, timeout=30))
        await first.called()
        let_pass(31)
        with pytest.raises(OutcomeUnknownError) as caught:
            await work
        first.go.set()
    operation = await gaia.operation(str(caught.value.operation_id))

    assert second.calls == []
    assert operation is not None
    assert operation.state is OperationState.FAILED


async def test_no_repeat_outlasts_the_deadline(open_gaia: OpenGaia) -> None:
    """A wait that would pass the deadline is not begun."""
    provider = _provider(failure=RateLimitError("slow down"))

    async with open_gaia(provider, reliability=_Insistent(wait=9.0)) as gaia:
        with pytest.raises(RateLimitError):
            await gaia.generate(DRAGON, timeout=5)

    assert len(provider.calls) == 1


# -- progress -------------------------------------------------------------------------


async def test_progress_reaches_the_host(open_gaia: OpenGaia) -> None:
    """The host hears every fraction, kept between 0 and 1."""
    seen: list[float] = []
    provider = _provider(steps=(-1, 0.5, 7))

    async with open_gaia(provider) as gaia:
        await gaia.generate(DRAGON, progress=lambda fraction, _: seen.append(fraction))

    assert seen == [0, 0.5, 1]


async def test_progress_from_a_thread_arrives_at_home(open_gaia: OpenGaia) -> None:
    """What a worker thread reports, the host hears in the thread of its loop."""
    seen: list[tuple[float, int]] = []

    class Threaded(FakeProvider):
        @hookimpl
        async def gaia_generate(self, request: Any, context: Any) -> ImageResult:
            await asyncio.to_thread(context.progress, 0.3)
            return await FakeProvider.gaia_generate(self, request, context)

    async with open_gaia(Threaded(steps=())) as gaia:
        await gaia.generate(
            DRAGON, progress=lambda f, _: seen.append((f, threading.get_ident()))
        )

    assert seen == [(0.3, threading.get_ident())]


async def test_host_that_fails_at_progress_ends_no_work(open_gaia: OpenGaia) -> None:
    """An error in the host's callback costs a line in the log, not a picture."""

    def fail(_fraction: float, _preview: object) -> None:
        message = "the window was closed"
        raise RuntimeError(message)

    with capture_events() as events:
        async with open_gaia(_provider(price_usd=PAID)) as gaia:
            response = await gaia.generate(DRAGON, progress=fail)

    assert response.images
    assert "gaia.progress_failed" in {event["event"] for event in events}


# -- warnings -------------------------------------------------------------------------


async def test_ignored_fields_are_named(open_gaia: OpenGaia) -> None:
    """A field that the model does not support is named in a warning."""
    model = ModelInfo(
        id="m",
        name="M",
        provider="first",
        capabilities=set(Capability),
        supported_fields=["seed"],
        price=Price(),
    )
    request = attrs.evolve(DRAGON, seed=1, negative_prompt="fog", guidance_scale=3.0)

    async with open_gaia(_provider(models=[model])) as gaia:
        response = await gaia.generate(request)

    assert response.warnings == (
        "negative_prompt ignored: m does not support it",
        "guidance_scale ignored: m does not support it",
    )


async def test_shortfalls_are_named(open_gaia: OpenGaia) -> None:
    """Too few pictures, and pictures of another size, are named in warnings."""
    request = attrs.evolve(DRAGON, num_images=2, width=128)

    async with open_gaia(_provider(outcomes=[_picture()])) as gaia:
        response = await gaia.generate(request)

    assert response.warnings == (
        "1 pictures made, 2 asked for",
        "made 64x64, not 128x64",
    )


async def test_provider_may_word_its_own_warnings(open_gaia: OpenGaia) -> None:
    """What the provider says about the size is not said twice."""
    words = "128x64 is not to be had: made 64x64"
    result = attrs.evolve(_picture(), warnings=[words])

    async with open_gaia(_provider(outcomes=[result])) as gaia:
        response = await gaia.generate(attrs.evolve(DRAGON, width=128))

    assert response.warnings == (words,)


# -- metadata -------------------------------------------------------------------------


async def test_vendors_bytes_are_kept_untouched(open_gaia: OpenGaia) -> None:
    """Bytes that came from elsewhere are stored as they came."""
    data = png(64, 64, "navy")

    async with open_gaia(_provider(outcomes=[_picture(data)])) as gaia:
        response = await gaia.generate(DRAGON)
        kept = await gaia.storage.read(response.images[0].id)

    assert kept == data


@pytest.mark.parametrize("keep_prompt", [True, False], ids=["kept", "left out"])
async def test_own_bytes_say_how_they_were_made(
    open_gaia: OpenGaia, *, keep_prompt: bool
) -> None:
    """What was encoded here carries Gaia's metadata, the prompt only if wanted."""
    provider = _provider(is_local=True)

    async with open_gaia(provider, keep_prompt=keep_prompt) as gaia:
        response = await gaia.generate(DRAGON)
        kept = await gaia.storage.read(response.images[0].id)

    text = read_text(kept)
    assert {"parameters", "gaia"} <= set(text)
    assert ("a red dragon" in str(text)) is keep_prompt


# -- the log --------------------------------------------------------------------------


async def test_one_line_per_operation(open_gaia: OpenGaia) -> None:
    """Every operation leaves one line, without its prompt."""
    first = _provider(failure=RateLimitError("slow down"))

    with capture_events() as events:
        async with open_gaia(first, FakeProvider()) as gaia:
            response = await gaia.generate(DRAGON)

    (line,) = [one for one in events if one["event"] == "gaia.operation_finished"]
    assert line["operation_id"] == response.operation_id
    assert line["attempts"] == ["first/first: rejected_busy", "fake/fake: ok"]
    assert line["state"] == "done"
    assert "dragon" not in str(line)


async def test_errors_carry_their_operation(open_gaia: OpenGaia) -> None:
    """Whatever is raised after the door says which operation it ended."""
    async with open_gaia(_provider(failure=RateLimitError("slow down"))) as gaia:
        with pytest.raises(GaiaError) as caught:
            await gaia.generate(DRAGON)
        operation = await gaia.operation(str(caught.value.operation_id))

    assert operation is not None
    assert operation.attempts == caught.value.attempts


async def test_large_pictures_hold_nobody_up(open_gaia: OpenGaia) -> None:
    """Metadata is written into a large picture beside the event loop."""
    threads: list[int] = []

    class Watched(MemoryStorage):
        async def put(self, image: Image, **facts: Any) -> StoredImage:
            threads.append(threading.active_count())
            return await super().put(image, **facts)

    request = attrs.evolve(DRAGON, width=256, height=256)
    before = threading.active_count()

    async with open_gaia(_provider(is_local=True), storage=Watched()) as gaia:
        await gaia.generate(DRAGON)
        await gaia.generate(request)

    assert threads == [before, before + 1]


class _Doorkeeper(SingleTry):
    """Counts who is inside, and turns one provider away."""

    inside = 0

    def attempt(
        self,
        target: Target,
        asker: Asker,  # noqa: ARG002  the interface
    ) -> AbstractAsyncContextManager[None]:
        """Hold a place."""
        return self._held(target.provider)

    @asynccontextmanager
    async def _held(self, provider: str) -> AsyncIterator[None]:
        if provider == "closed":
            message = "closed has no place left."
            raise ProviderUnavailableError(message)
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1


async def test_a_place_is_held_for_each_attempt(open_gaia: OpenGaia) -> None:
    """Whoever has no place is passed over unsent; a place is left on cancellation."""
    keeper = _Doorkeeper()
    closed = FakeProvider(name="closed", priority=9)
    slow = HeldProvider(name="slow")

    async with open_gaia(closed, slow, reliability=keeper) as gaia:
        task = asyncio.create_task(gaia.generate(DRAGON))
        await slow.called()
        held = keeper.inside
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert (held, keeper.inside) == (1, 0)
    assert closed.calls == []


async def test_operations_do_not_share_an_error(open_gaia: OpenGaia) -> None:
    """A provider that raises one object twice still fails two operations."""
    provider = FakeProvider(failure=RateLimitError("Slow down.", retry_after=3))

    async with open_gaia(provider) as gaia:
        first, second = await asyncio.gather(
            gaia.generate(DRAGON), gaia.generate(DRAGON), return_exceptions=True
        )

    assert isinstance(first, RateLimitError)
    assert isinstance(second, RateLimitError)
    assert first.operation_id != second.operation_id
    assert (first.retry_after, second.retry_after) == (3, 3)
