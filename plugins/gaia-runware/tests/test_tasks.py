"""Tasks over the real SDK: sent once, fetched whatever happens on the way."""

import asyncio
import time
import uuid
from collections.abc import Callable
from decimal import Decimal

import attrs
import pytest

from gaia_core import (
    CallContext,
    Capability,
    ContentFilteredError,
    DescribeImageRequest,
    DescriptionResult,
    EnhancePromptRequest,
    GenerateRequest,
    Image,
    ImageResult,
    ModelError,
    OutcomeClass,
    PromptResult,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    RemoveBackgroundRequest,
    TaskRunningError,
    UnusableResultError,
    UpscaleRequest,
)
from gaia_core.testing import context, png
from gaia_core.testing.probes import until
from gaia_core.testing.vendors import Fault, Faults
from gaia_core.testing.vendors.runware import RunwareVendor
from gaia_runware import RunwareProvider, lines
from gaia_runware.models import PROMPT_ENHANCER as WORDS

Made = Callable[..., RunwareProvider]
Attempt = Callable[..., CallContext]

KEEP = GenerateRequest(prompt="a keep", model="runware:100@1", width=256, height=256)
SLOW = attrs.evolve(KEEP, model="openai:4@1", width=1024, height=1024)
PICTURE = Image.from_bytes(png(128, 128))

WAYS = pytest.mark.parametrize("way", ["url", "http_url"], ids=["socket", "REST"])


@pytest.fixture(name="at")
def _at(made: Made, vendor: RunwareVendor) -> Callable[..., RunwareProvider]:
    """Give a function that makes a provider for one of the vendor's two ways in."""

    def make(way: str, **settings: object) -> RunwareProvider:
        return made(base_url=getattr(vendor, way), **settings)

    return make


# -- what comes back ---------------------------------------------------------------


@WAYS
async def test_several_pictures_come_with_seeds_and_money(
    at: Made, vendor: RunwareVendor, attempt: Attempt, way: str
) -> None:
    """Results arrive one by one, and are one result in the end."""
    vendor.result_delay = 0.01
    request = attrs.evolve(KEEP, num_images=3, seed=5)

    result = await at(way).gaia_generate(request, attempt())

    assert [image.seed for image in result.images] == [5, 6, 7]
    assert (result.cost_usd, result.warnings) == (Decimal("0.12"), ())
    assert (result.provider, result.model) == ("runware", "runware:100@1")


async def test_the_task_goes_by_the_id_gaia_minted(
    provider: RunwareProvider, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """What is on the ledger is what the vendor can be asked about."""
    sent = attempt()

    await provider.gaia_generate(KEEP, sent)

    assert [one.task_id for one in vendor.arrivals] == [sent.task_id]


async def test_every_other_verb_works(
    provider: RunwareProvider, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """Upscaling, background removal, enhancement and description cost what they say."""
    models = await provider.gaia_list_models(refresh=False, search=None)

    def model_for(request: object) -> str:
        capability = getattr(request, "capability", None)
        return next(one.id for one in models if capability in one.capabilities)

    upscale = UpscaleRequest(image=PICTURE, upscale_factor=2)
    cut = RemoveBackgroundRequest(image=PICTURE)
    words = EnhancePromptRequest(prompt="a keep", max_length=20)
    look = DescribeImageRequest(image=PICTURE)

    large = await provider.gaia_upscale(
        attrs.evolve(upscale, model=model_for(upscale)), attempt()
    )
    alone = await provider.gaia_remove_background(
        attrs.evolve(cut, model=model_for(cut)), attempt()
    )
    prompt = await provider.gaia_enhance_prompt(
        attrs.evolve(words, model=model_for(words)), attempt()
    )
    seen = await provider.gaia_describe_image(
        attrs.evolve(look, model=model_for(look)), attempt()
    )

    assert large.images[0].width == 256
    assert alone.images[0].image.decode().has_transparency_data
    assert len(prompt.prompt) <= 20
    assert "128 by 128" in seen.description
    assert {one.cost_usd for one in (large, alone, prompt, seen)} == {Decimal("0.04")}
    assert len(vendor.charges) == 4


async def test_a_slow_model_is_polled(
    provider: RunwareProvider, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """The vendor keeps an answer open for some two minutes only."""
    result = await provider.gaia_generate(SLOW, attempt())

    assert len(result.images) == 1
    assert vendor.frames["getResponse"] >= 1
    assert b'"deliveryMethod": "async"' in vendor.bodies[1]


async def test_an_unsafe_picture_comes_with_a_warning(
    provider: RunwareProvider, attempt: Attempt
) -> None:
    """The vendor's mark is no refusal."""
    request = attrs.evolve(KEEP, prompt="something nsfw")

    result = await provider.gaia_generate(request, attempt())

    assert "unsafe" in " ".join(result.warnings)


async def test_large_results_come_through(
    provider: RunwareProvider, vendor: RunwareVendor
) -> None:
    """A frame may be larger than the megabyte WebSocket clients stop at."""
    data = png(8, 8)
    task_id = str(uuid.uuid4())
    payload = {
        "taskType": "imageInference",
        "taskUUID": task_id,
        "deliveryMethod": "sync",
        "model": "runware:100@1",
        "positivePrompt": "x" * 3_000_000,
        "outputType": "base64Data",
        "outputFormat": "PNG",
        "width": 2_048,
        "height": 2_048,
    }

    vendor.echo = "y" * 3_000_000
    vendor.inject(Faults(script=[Fault.FILTERED]))
    with pytest.raises(ContentFilteredError):
        await provider._vendor().work(payload, 30.0)
    items = await provider._vendor().work(payload, 30.0)

    assert len(items[0]["imageBase64Data"]) > len(data)


@WAYS
async def test_words_about_errors_are_paid_once(
    at: Made, attempt: Attempt, way: str
) -> None:
    """What looks like an error from afar is read closely, and is one result."""
    words = EnhancePromptRequest(prompt='a sign that says "error"', model=WORDS)

    result = await at(way).gaia_enhance_prompt(words, attempt())

    assert '"error"' in result.prompt
    assert result.cost_usd == Decimal("0.04")


# -- part of what was asked for ----------------------------------------------------


@WAYS
@pytest.mark.parametrize("like", [KEEP, SLOW], ids=["sync", "async"])
@pytest.mark.parametrize("partial", ["last", "first", "together"])
async def test_what_came_is_kept_when_the_rest_fails(
    at: Made,
    vendor: RunwareVendor,
    attempt: Attempt,
    way: str,
    like: GenerateRequest,
    partial: str,
) -> None:
    """Two of three pictures and a warning, at the cost of two, in any order."""
    vendor.partial = partial
    vendor.inject(Faults(script=[Fault.PARTIAL_AFTER]))
    request = attrs.evolve(like, num_images=3)

    result = await at(way).gaia_generate(request, attempt())

    assert len(result.images) == 2
    assert result.cost_usd == Decimal("0.08") == vendor.total_usd
    assert result.warnings == ("2 of 3 pictures: the others failed",)


@WAYS
@pytest.mark.parametrize(
    ("fault", "expected"),
    [(Fault.FILTERED, ContentFilteredError), (Fault.NO_MODEL, ModelError)],
    ids=str,
)
async def test_several_that_are_refused_are_refused(
    at: Made,
    vendor: RunwareVendor,
    attempt: Attempt,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    fault: Fault,
    expected: type[ProviderError],
) -> None:
    """One error for all of them is a refusal where the vendor made none of them."""
    monkeypatch.setattr(lines, "UNSEEN_SECONDS", 0.1)
    vendor.inject(Faults(script=[fault]))

    with pytest.raises(expected):
        await at(way).gaia_generate(attrs.evolve(KEEP, num_images=3), attempt())

    assert vendor.charges == []


async def test_a_refusal_of_one_is_none_of_the_others(
    provider: RunwareProvider,
    vendor: RunwareVendor,
    attempt: Attempt,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are made, and paid for, while the look-up still knows of nothing."""
    monkeypatch.setattr(lines, "UNSEEN_SECONDS", 2.0)
    vendor.partial, vendor.hides_running, vendor.delay = "early", True, 0.5
    vendor.inject(Faults(script=[Fault.PARTIAL_AFTER]))

    result = await provider.gaia_generate(attrs.evolve(KEEP, num_images=3), attempt())

    assert len(result.images) == 2
    assert result.cost_usd == Decimal("0.08") == vendor.total_usd


@WAYS
async def test_a_download_that_fails_makes_nothing_again(
    at: Made, vendor: RunwareVendor, way: str
) -> None:
    """The picture is made and paid for; it is looked up, and fetched anew."""
    provider, calls = at(way), []

    async def fetch(url: str) -> bytes:
        calls.append(url)
        if len(calls) == 1:
            raise ProviderTimeoutError(url)
        return png()

    lost = context(fetch=fetch)

    with pytest.raises(ProviderTimeoutError):
        await provider.gaia_generate(KEEP, lost)
    found = await provider.gaia_recover(lost.task_id, lost)

    assert isinstance(found, ImageResult)
    assert len(found.images) == len(vendor.charges) == vendor.requests == 1


# -- what goes wrong on the way ----------------------------------------------------

_LOST = [
    *(Fault.DROP_AFTER, Fault.TRUNCATED_AFTER, Fault.BAD_GATEWAY_AFTER),
    *(Fault.CLOSE_1000_AFTER, Fault.CLOSE_1001_AFTER, Fault.CLOSE_1011_AFTER),
]


@WAYS
@pytest.mark.parametrize("request_", [KEEP, SLOW], ids=["sync", "async"])
@pytest.mark.parametrize("fault", _LOST, ids=str)
async def test_a_lost_answer_is_fetched_within_the_call(
    at: Made,
    vendor: RunwareVendor,
    attempt: Attempt,
    way: str,
    request_: GenerateRequest,
    fault: Fault,
) -> None:
    """The task was done: it is looked up, and never sent again."""
    vendor.inject(Faults(script=[fault]))

    result = await at(way).gaia_generate(request_, attempt())

    assert len(result.images) == vendor.requests == len(vendor.charges) == 1


@WAYS
@pytest.mark.parametrize("request_", [KEEP, SLOW], ids=["sync", "async"])
@pytest.mark.parametrize("fault", [Fault.DROP_BEFORE, Fault.UNNAMED_ERROR], ids=str)
async def test_nothing_is_sent_twice_that_was_never_seen(
    at: Made,
    vendor: RunwareVendor,
    attempt: Attempt,
    way: str,
    request_: GenerateRequest,
    fault: Fault,
) -> None:
    """Whether to repeat it is not for the SDK, nor for the provider, to say."""
    vendor.inject(Faults(script=[fault]))

    with pytest.raises(ProviderError) as caught:
        await at(way).gaia_generate(request_, attempt())

    assert caught.value.outcome is OutcomeClass.AMBIGUOUS
    assert (vendor.requests, len(vendor.charges)) == (1, 0)


@WAYS
async def test_a_task_that_is_known_is_fetched(
    at: Made, vendor: RunwareVendor, attempt: Attempt, way: str
) -> None:
    """Sent again, it is refused by the vendor and comes back all the same."""
    provider, again = at(way), attempt()

    first = await provider.gaia_generate(KEEP, again)
    second = await provider.gaia_generate(KEEP, again)

    assert first.images[0].data == second.images[0].data
    assert (vendor.requests, len(vendor.charges)) == (2, 1)


async def test_a_task_that_is_known_and_under_way_is_waited_for(
    made: Made, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """The second sender gets what the first one paid for."""
    vendor.delay = 1.0
    again = attempt()

    first, second = await asyncio.gather(
        made().gaia_generate(KEEP, again), made().gaia_generate(KEEP, again)
    )

    assert first.images[0].data == second.images[0].data
    assert len(vendor.charges) == 1


@WAYS
async def test_polling_that_is_refused_is_no_refusal_of_the_task(
    at: Made, vendor: RunwareVendor, attempt: Attempt, way: str
) -> None:
    """A slow task that was taken goes on, whatever is said to a question about it."""
    vendor.delay = 1.5
    vendor.tired = 1

    result = await at(way).gaia_generate(SLOW, attempt())

    assert len(result.images) == vendor.requests == len(vendor.charges) == 1
    assert vendor.frames["getResponse"] > 1


async def test_an_error_about_nobody_costs_the_others_nothing(
    made: Made, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """All on the socket are told; those it does not mean get their pictures."""
    vendor.delay = 0.3
    provider = made(pool_size=1)
    calls = [
        asyncio.ensure_future(
            provider.gaia_generate(attrs.evolve(KEEP, prompt=f"{number}"), attempt())
        )
        for number in range(5)
    ]
    await until(lambda: vendor.requests == 5, patience=20.0)

    await vendor.say_unnamed()
    results = await asyncio.gather(*calls)

    assert [len(one.images) for one in results] == [1] * 5
    assert len(vendor.charges) == vendor.requests == 5


async def test_a_cut_socket_costs_nobody_anything(
    made: Made, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """What is under way goes on at the vendor, and is fetched when it is done."""
    vendor.delay = 0.3
    provider = made(pool_size=2)
    calls = [
        asyncio.ensure_future(
            provider.gaia_generate(attrs.evolve(KEEP, prompt=f"{number}"), attempt())
        )
        for number in range(6)
    ]
    await until(lambda: vendor.requests == 6, patience=20.0)

    await vendor.cut()
    results = await asyncio.gather(*calls)

    assert [len(one.images) for one in results] == [1] * 6
    assert len(vendor.charges) == vendor.requests == 6


async def test_late_news_of_one_who_left_harms_nobody_else(
    made: Made, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """The SDK would hand an error about an unknown task to every task there is."""
    vendor.delay = 0.5
    vendor.inject(Faults(script=[Fault.ERROR_AFTER]))
    provider = made(pool_size=1)
    left = asyncio.ensure_future(provider.gaia_generate(KEEP, attempt()))
    await until(lambda: vendor.requests == 1, patience=20.0)
    other = asyncio.ensure_future(provider.gaia_generate(KEEP, attempt()))
    await until(lambda: vendor.requests == 2, patience=20.0)

    left.cancel()
    result = await other

    assert len(result.images) == 1
    assert vendor.frames.get("getResponse", 0) == 0


# -- waiting -----------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize(
    "fault", [Fault.HANG_BEFORE, Fault.HANG_AFTER, Fault.LATE_AFTER], ids=str
)
async def test_nobody_waits_beyond_the_deadline(
    at: Made, vendor: RunwareVendor, attempt: Attempt, way: str, fault: Fault
) -> None:
    """The caller's deadline counts where it comes before the provider's limit."""
    provider = at(way)
    await provider.gaia_generate(KEEP, attempt())  # imports the SDK, and connects
    vendor.inject(Faults(script=[fault], late_seconds=30.0))
    start = time.monotonic()

    with pytest.raises(ProviderTimeoutError):
        await provider.gaia_generate(KEEP, attempt(deadline=start + 0.5))

    assert time.monotonic() - start < 10


async def test_a_task_under_way_is_said_to_be(
    made: Made, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """It is asked about again; it is neither lost nor never seen."""
    vendor.delay = 30.0
    provider, lost = made(), attempt()
    call = asyncio.ensure_future(provider.gaia_generate(KEEP, lost))
    await until(lambda: vendor.requests == 1, patience=20.0)

    with pytest.raises(TaskRunningError):
        await provider.gaia_recover(lost.task_id, lost)

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


# -- looking up --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault.EMPTY_AFTER, UnusableResultError),
        (Fault.BAD_IMAGE_AFTER, UnusableResultError),
    ],
    ids=str,
)
async def test_what_cannot_be_used_is_said_to_be(
    provider: RunwareProvider,
    vendor: RunwareVendor,
    attempt: Attempt,
    fault: Fault,
    expected: type[ProviderError],
) -> None:
    """A task that ended without a picture is over."""
    vendor.inject(Faults(script=[fault]))
    lost = attempt()
    with pytest.raises(expected):
        await provider.gaia_generate(KEEP, lost)

    with pytest.raises(expected):
        await provider.gaia_recover(lost.task_id, lost)


async def test_lost_words_are_found(
    provider: RunwareProvider, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """A prompt is found as a prompt, a description as a description."""
    models = await provider.gaia_list_models(refresh=False, search=None)
    eye = next(
        one for one in models if Capability.IMAGE_DESCRIPTION in one.capabilities
    )
    first, second = attempt(), attempt()
    prompt = await provider.gaia_enhance_prompt(
        EnhancePromptRequest(prompt="a keep", model=WORDS), first
    )
    seen = await provider.gaia_describe_image(
        DescribeImageRequest(image=PICTURE, model=eye.id), second
    )

    prompt_again = await provider.gaia_recover(first.task_id, first)
    seen_again = await provider.gaia_recover(second.task_id, second)

    assert isinstance(prompt_again, PromptResult)
    assert isinstance(seen_again, DescriptionResult)
    assert (prompt_again.prompt, seen_again.description) == (
        prompt.prompt,
        seen.description,
    )
    assert prompt_again.cost_usd == seen_again.cost_usd == Decimal("0.04")
    assert len(vendor.charges) == 2


async def test_part_of_a_task_is_found(
    provider: RunwareProvider, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """What was made of it is worth having."""
    vendor.inject(Faults(script=[Fault.PARTIAL_AFTER]))
    lost = attempt()
    await provider.gaia_generate(attrs.evolve(KEEP, num_images=3), lost)

    found = await provider.gaia_recover(lost.task_id, lost)

    assert isinstance(found, ImageResult)
    assert (len(found.images), found.cost_usd) == (2, Decimal("0.08"))


async def test_a_vendor_that_keeps_nothing_leaves_the_question_open(
    provider: RunwareProvider, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """No items are no proof that the task was never seen."""
    vendor.has_lookup = False
    lost = attempt()

    with pytest.raises(ProviderError) as caught:
        await provider.gaia_recover(lost.task_id, lost)

    assert caught.value.outcome is OutcomeClass.AMBIGUOUS


async def test_a_refused_key_says_nothing_about_the_task(
    made: Made, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """The look-up failed, not the task."""
    provider, lost = made(), attempt()
    await provider.gaia_generate(KEEP, lost)
    vendor.key = "another"

    with pytest.raises(ProviderError) as caught:
        await provider.gaia_recover(lost.task_id, lost)

    assert caught.value.outcome is OutcomeClass.AMBIGUOUS


async def test_a_vendor_that_is_gone_leaves_the_question_open(
    provider: RunwareProvider, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """That nothing was sent is true of the question only."""
    lost = attempt()

    async with vendor.closed():
        with pytest.raises(ProviderError) as caught:
            await provider.gaia_recover(lost.task_id, lost)

    assert caught.value.outcome is OutcomeClass.AMBIGUOUS


async def test_a_sent_task_cannot_be_cancelled_away(
    provider: RunwareProvider, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """Who leaves finds his picture later."""
    vendor.delay = 0.2
    lost = attempt()
    call = asyncio.ensure_future(provider.gaia_generate(KEEP, lost))
    await until(lambda: vendor.requests == 1, patience=20.0)
    call.cancel()
    await until(lambda: len(vendor.charges) == 1, patience=20.0)

    found = await _until_found(provider, lost)

    assert len(found) == 1


async def _until_found(provider: RunwareProvider, lost: CallContext) -> list[bytes]:
    while True:
        try:
            found = await provider.gaia_recover(lost.task_id, lost)
        except TaskRunningError:
            await asyncio.sleep(0.05)
        else:
            assert isinstance(found, ImageResult)
            return [image.data for image in found.images]


async def test_without_a_connection_nothing_is_sent(
    provider: RunwareProvider, vendor: RunwareVendor, attempt: Attempt
) -> None:
    """It may be tried again, here or elsewhere."""
    async with vendor.closed():
        with pytest.raises(ProviderConnectionError):
            await provider.gaia_generate(KEEP, attempt())

    assert vendor.requests == 0
