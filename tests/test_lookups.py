"""An answer that was lost is asked for, before anything is paid again."""

from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs

from gaia_core import (
    ContentFilteredError,
    DescribeImageRequest,
    DescriptionResult,
    EnhancePromptRequest,
    Gaia,
    GenerateRequest,
    Image,
    ImageResult,
    OperationState,
    OutcomeClass,
    OutcomeUnknownError,
    PromptResult,
    ProviderError,
    ProviderTimeoutError,
    RateLimitError,
    TaskRunningError,
    UnusableResultError,
    hookimpl,
)
from gaia_core.lookups import Lookup
from gaia_core.reliability import StandardReliability
from gaia_core.requests import Request
from gaia_core.responses import Response
from gaia_core.testing import FakeProvider, MemoryStorage, png
from gaia_core.testing.pytest_plugin import OpenGaia

DRAGON = GenerateRequest(prompt="a red dragon", width=64, height=64)
PAID = Decimal("0.04")
LOST = ProviderTimeoutError("no answer")


@pytest.fixture(name="open_gaia")
def _open_gaia(open_gaia: OpenGaia) -> OpenGaia:
    """Ask twice in quick succession, and repeat as in earnest."""
    return partial(
        open_gaia,
        storage=MemoryStorage(),
        lookup=Lookup(spacing=0.01),
        reliability=StandardReliability(),
    )


class _Sorry(FakeProvider):
    """Fails when it is asked what became of a task."""

    found: Any = None

    @hookimpl
    async def gaia_recover(self, task_id: str, context: Any) -> ImageResult | None:  # noqa: ARG002  the interface
        """Raise what it was told to."""
        if isinstance(self.found, Exception):
            raise self.found
        found: ImageResult | None = self.found
        return found


class _Remembering(_Sorry):
    """Asks to remember something before it answers, and notes what it is given."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.references: list[str | None] = []

    @hookimpl
    async def gaia_generate(self, request: Any, context: Any) -> ImageResult:
        """Remember the name of the job."""
        await context.remember("job-7")
        return await super().gaia_generate(request, context)

    @hookimpl
    async def gaia_recover(self, task_id: str, context: Any) -> ImageResult | None:
        """Note what the attempt is known by."""
        self.references.append(context.reference)
        return await super().gaia_recover(task_id, context)


def _lost(**fields: Any) -> FakeProvider:
    return FakeProvider(price_usd=PAID, outcomes=[LOST], is_looking_up=True, **fields)


async def test_lost_answer_is_fetched(open_gaia: OpenGaia) -> None:
    """What was charged and lost comes by look-up: one request, one charge."""
    provider = _lost(is_charging_failures=True)

    async with open_gaia(provider) as gaia:
        response = await gaia.generate(DRAGON)

    (attempt,) = response.attempts
    assert attempt.outcome is OutcomeClass.OK
    assert response.cost_usd == PAID
    assert len(provider.calls) == len(provider.charges) == 1


async def test_task_never_seen_is_sent_again_under_its_id(open_gaia: OpenGaia) -> None:
    """What the vendor has never seen was not charged, and may be repeated."""
    provider = _lost()

    async with open_gaia(provider) as gaia:
        response = await gaia.generate(DRAGON)

    first, second = (call.context.task_id for call in provider.calls)
    assert first == second
    assert [one.outcome for one in response.attempts] == ["rejected_busy", "ok"]
    assert response.cost_usd == PAID
    assert len(provider.charges) == 1


@pytest.mark.parametrize(
    ("found", "error", "state", "cost"),
    [
        (OSError("down"), OutcomeUnknownError, "unknown", None),
        (TaskRunningError("busy"), OutcomeUnknownError, "unknown", None),
        (RateLimitError("later"), OutcomeUnknownError, "unknown", None),
        (ContentFilteredError("no"), ContentFilteredError, "failed", Decimal(0)),
        (UnusableResultError("broken"), UnusableResultError, "failed", PAID),
    ],
    ids=["fails", "goes on", "is refused", "was refused", "cannot be used"],
)
async def test_look_up_that_fails_says_nothing_unless_it_is_definite(
    open_gaia: OpenGaia,
    found: Exception,
    error: type[Exception],
    state: str,
    cost: Decimal | None,
) -> None:
    """Only what became of the task itself settles it; all else leaves it open."""
    provider = _Sorry(price_usd=PAID, outcomes=[LOST])
    provider.found = found

    async with open_gaia(provider) as gaia:
        with pytest.raises(error) as caught:
            await gaia.generate(DRAGON)
        operation = await gaia.operation(caught.value.operation_id)  # type: ignore[attr-defined]

    assert operation is not None
    assert operation.state == state
    assert operation.cost_usd == cost
    assert len(provider.calls) == 1


async def test_one_reason_is_told_once_for_all(open_gaia: OpenGaia) -> None:
    """Many may share a batch that is gone: the first warns, the others debug."""
    provider = _Sorry(price_usd=PAID, outcomes=[LOST] * 4)
    provider.found = ProviderError("the batch is gone")

    with capture_logs() as logs:
        async with open_gaia(provider) as gaia:
            for n in range(3):
                with suppress(OutcomeUnknownError):
                    await gaia.generate(DRAGON, idempotency_key=f"dragon {n}")
            await gaia.recover()
            provider.found = ProviderError("the key is refused")
            with suppress(OutcomeUnknownError):
                await gaia.generate(DRAGON, idempotency_key="another")

    told = [one for one in logs if one["event"] == "gaia.lookup_failed"]
    warned = [one["error"] for one in told if one["log_level"] == "warning"]
    assert warned == ["the batch is gone", "the key is refused"]
    assert {one["provider"] for one in told} == {provider.name}
    assert len(told) >= 4


async def test_unknown_outcome_is_settled_later(open_gaia: OpenGaia) -> None:
    """A provider that could not tell at once is asked again."""
    provider = _Sorry(price_usd=PAID, outcomes=[LOST])
    provider.found = OSError("down")

    async with open_gaia(provider) as gaia:
        with pytest.raises(OutcomeUnknownError) as caught:
            await gaia.generate(DRAGON)
        provider.found = provider._generated(DRAGON)
        ended = await gaia.recover()
        operation = await gaia.operation(str(caught.value.operation_id))

    assert ended == 1
    assert operation is not None
    assert operation.state is OperationState.DONE
    assert len(operation.image_ids) == 1


WORDS = [
    pytest.param(
        EnhancePromptRequest(prompt="a keep"),
        PromptResult(prompt="a lit keep", provider="fake", model="fake"),
        {"prompt": "a lit keep"},
        id="prompt",
    ),
    pytest.param(
        DescribeImageRequest(image=Image.from_bytes(png(8, 8))),
        DescriptionResult(description="a red keep", provider="fake", model="fake"),
        {"description": "a red keep"},
        id="description",
    ),
]


async def _asked(gaia: Gaia, request: Request) -> Response:
    if isinstance(request, EnhancePromptRequest):
        return await gaia.enhance_prompt(request)
    assert isinstance(request, DescribeImageRequest)
    return await gaia.describe_image(request)


@pytest.mark.parametrize(("request_", "found", "words"), WORDS)
async def test_lost_words_are_fetched(
    open_gaia: OpenGaia, request_: Request, found: object, words: dict[str, str]
) -> None:
    """A prompt or a description that was lost comes by look-up as pictures do."""
    provider = _Sorry(price_usd=PAID, outcomes=[LOST])
    provider.found = found

    async with open_gaia(provider) as gaia:
        response = await _asked(gaia, request_)

    assert {name: getattr(response, name) for name in words} == words
    assert response.cost_usd == PAID
    assert len(provider.calls) == 1


@pytest.mark.parametrize(("request_", "found", "words"), WORDS)
async def test_lost_words_are_settled_later(
    open_gaia: OpenGaia, request_: Request, found: object, words: dict[str, str]
) -> None:
    """Words that could not be fetched at once are on the book once they can be."""
    provider = _Sorry(price_usd=PAID, outcomes=[LOST])
    provider.found = OSError("down")

    async with open_gaia(provider) as gaia:
        with pytest.raises(OutcomeUnknownError) as caught:
            await _asked(gaia, request_)
        provider.found = found
        ended = await gaia.recover()
        operation = await gaia.operation(str(caught.value.operation_id))

    assert ended == 1
    assert operation is not None
    assert (operation.state, operation.cost_usd) == (OperationState.DONE, PAID)
    assert operation.answer is not None
    assert {name: operation.answer[name] for name in words} == words


async def test_words_are_no_answer_to_a_request_for_pictures(
    open_gaia: OpenGaia,
) -> None:
    """What a look-up gives is what the attempt was asked for, or of no use."""
    provider = _Sorry(price_usd=PAID, outcomes=[LOST])
    provider.found = PromptResult(prompt="a keep", provider="fake", model="fake")

    async with open_gaia(provider) as gaia:
        with pytest.raises(UnusableResultError, match="not ImageResult"):
            await gaia.generate(DRAGON)


async def test_task_that_is_under_way_is_waited_for(open_gaia: OpenGaia) -> None:
    """While the vendor works on, it is under way, its money held; then it is done."""
    provider = _Sorry(price_usd=PAID, outcomes=[LOST])
    provider.found = TaskRunningError("busy")

    async with open_gaia(provider) as gaia:
        gaia._recovery.running.pause = 0.0
        with pytest.raises(OutcomeUnknownError) as caught:
            await gaia.generate(DRAGON)
        own = str(caught.value.operation_id)
        early = [await gaia.recover(), await gaia.recover()]
        meanwhile = await gaia.operation(own)
        provider.found = provider._generated(DRAGON)
        ended = await gaia.recover()
        operation = await gaia.operation(own)

    assert (early, ended) == ([0, 0], 1)
    assert meanwhile is not None
    assert (meanwhile.state, meanwhile.reserved_usd) == ("sent", PAID)
    assert operation is not None
    assert (operation.state, operation.cost_usd) == ("done", PAID)
    assert len(provider.calls) == 1


async def test_what_was_remembered_is_looked_up_by(open_gaia: OpenGaia) -> None:
    """A look-up is given what the attempt asked to remember, here and on the book."""
    provider = _Remembering(price_usd=PAID, outcomes=[LOST])
    provider.found = provider._generated(DRAGON)

    async with open_gaia(provider) as gaia:
        response = await gaia.generate(DRAGON)
        operation = await gaia.operation(response.operation_id)

    assert provider.references == ["job-7"]
    assert operation is not None
    assert [one.reference for one in operation.attempts] == ["job-7"]
    assert [one.reference for one in response.attempts] == ["job-7"]


async def test_idempotent_provider_is_asked_again(open_gaia: OpenGaia) -> None:
    """Where the task id keeps it from costing twice, a lost answer is asked anew."""
    provider = FakeProvider(
        price_usd=PAID,
        outcomes=[LOST],
        is_idempotent=True,
        is_charging_failures=True,
    )

    async with open_gaia(provider) as gaia:
        response = await gaia.generate(DRAGON)

    assert len(provider.calls) == 2
    assert len(provider.charges) == 1
    assert response.cost_usd == PAID


async def test_other_providers_are_never_paid_after_a_lost_answer(
    open_gaia: OpenGaia,
) -> None:
    """Without look-up there is one attempt, and nobody else is asked."""
    first = FakeProvider(name="first", priority=9, price_usd=PAID, outcomes=[LOST])
    second = FakeProvider(name="second", price_usd=PAID)

    async with open_gaia(first, second) as gaia:
        with pytest.raises(OutcomeUnknownError):
            await gaia.generate(DRAGON)

    assert (len(first.calls), len(second.calls)) == (1, 0)


# -- further providers ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "asked"),
    [({}, 2), ({"max_fallbacks": 0}, 1), ({"max_fallbacks": 2}, 3)],
    ids=["default", "none", "two"],
)
async def test_fallbacks_go_as_far_as_configured(
    open_gaia: OpenGaia, settings: Any, asked: int
) -> None:
    """One further provider is asked, unless the settings say otherwise."""
    providers = [
        FakeProvider(name=name, price_usd=PAID, failure=RateLimitError(name))
        for name in ("a", "b", "c")
    ]
    once = StandardReliability(max_attempts=1)

    async with open_gaia(*providers, reliability=once, **settings) as gaia:
        with pytest.raises(RateLimitError):
            await gaia.generate(DRAGON)

    assert sum(bool(provider.calls) for provider in providers) == asked


@pytest.mark.parametrize(
    ("ceiling", "asked"), [("0.07", 0), ("0.08", 1)], ids=["too low", "enough"]
)
async def test_ceiling_holds_over_all_attempts(
    open_gaia: OpenGaia, ceiling: str, asked: int
) -> None:
    """What a first provider may have cost counts: the second may not pass it."""
    first = FakeProvider(name="first", priority=9, price_usd=PAID, failure=LOST)
    second = FakeProvider(name="second", price_usd=PAID)
    once = StandardReliability(max_attempts=1)

    async with open_gaia(first, second, reliability=once) as gaia:
        with suppress(OutcomeUnknownError):
            await gaia.generate(
                DRAGON, max_cost_usd=Decimal(ceiling), delivery="at_least_once"
            )

    assert (len(first.calls), len(second.calls)) == (1, asked)


async def test_late_answer_is_booked_on_its_own_attempt(open_gaia: OpenGaia) -> None:
    """What turns up later costs its own task, not the one turned away after it."""
    provider = _Sorry(
        price_usd=PAID, outcomes=[LOST], failure=RateLimitError("too many")
    )
    provider.found = OSError("down")

    async with open_gaia(provider) as gaia:
        with pytest.raises(OutcomeUnknownError) as caught:
            await gaia.generate(DRAGON, delivery="at_least_once")
        provider.found = provider._generated(DRAGON)
        await gaia.recover()
        operation = await gaia.operation(str(caught.value.operation_id))

    assert operation is not None
    assert operation.cost_usd == PAID
    assert operation.attempts[0].outcome is OutcomeClass.OK
    assert {one.outcome for one in operation.attempts[1:]} == {"rejected_busy"}
