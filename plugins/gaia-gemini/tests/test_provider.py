"""The hooks of Gemini, with the real SDK and a stand-in for the service."""

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from gaia_core import (
    AuthenticationError,
    Capability,
    DescribeImageRequest,
    EnhancePromptRequest,
    Gaia,
    GenerateRequest,
    HealthLevel,
    Image,
    ProviderRequestError,
    ProviderTimeoutError,
    Secret,
    Settings,
)
from gaia_core.plugins.making import make_instance
from gaia_core.settings.values import ProviderSettings
from gaia_core.testing import context, samples
from gaia_core.testing.vendors import Fault, Faults
from gaia_core.testing.vendors.gemini import GeminiVendor
from gaia_gemini import GeminiProvider

Make = Callable[..., GeminiProvider]

KEEP = GenerateRequest(prompt="a keep", width=64, height=64)
SUBJECT = Image.from_bytes(samples.subject(64, 64))

# -- who it is ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "GEMINI_API_KEY"),
        ({"api_key": Secret(" ")}, "GEMINI_API_KEY"),
        ({"api_key": Secret("kéy")}, "characters"),
        ({"api_key": Secret("k\ney")}, "characters"),
        ({"vertexai": True}, "GOOGLE_CLOUD_PROJECT"),
        ({"project": "mine"}, "GEMINI_API_KEY"),
        ({"api_key": Secret("key")}, None),
        ({"vertexai": True, "api_key": Secret("key")}, None),
        ({"vertexai": True, "project": "mine"}, None),
    ],
    ids=[
        *("no key", "blank key", "odd key", "key of two lines", "Vertex AI"),
        *("project", "key", "Vertex AI, key", "Vertex AI, project"),
    ],
)
async def test_it_says_what_is_missing(
    settings: dict[str, Any], words: str | None
) -> None:
    """Without a key, or an account on Vertex AI, it says what to do."""
    provider = GeminiProvider(**settings)

    reason = provider.gaia_provider_info().unavailable

    assert (reason is None) is (words is None)
    assert words is None or words in str(reason)


async def test_without_a_key_nothing_is_sent(vendor: GeminiVendor) -> None:
    """A hook that is called all the same says the same."""
    provider = GeminiProvider(base_url=vendor.url)

    with pytest.raises(AuthenticationError, match="GEMINI_API_KEY"):
        await provider.gaia_generate(KEEP, context())

    assert vendor.requests == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base_url": "ftp://x"}, "base_url"),
        ({"vertex_base_url": "x"}, "vertex_base_url"),
        ({"timeout": 0}, "timeout"),
        ({"image_size": "8K"}, "image_size"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    """What cannot be is refused when it is set, by its name."""
    with pytest.raises(ValueError, match=words):
        GeminiProvider(**settings)


def test_keys_are_found_in_the_environment() -> None:
    """Google's own variables are read; GEMINI_API_KEY comes first."""
    section = ProviderSettings(name="gemini")
    environ = {
        "GEMINI_API_KEY": "first",
        "GOOGLE_API_KEY": "second",
        "GOOGLE_GENAI_USE_VERTEXAI": "true",
        "GOOGLE_CLOUD_PROJECT": "mine",
        "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:9",
    }

    made = make_instance(GeminiProvider, section, sources={}, environ=environ).value

    assert isinstance(made, GeminiProvider)
    assert made.api_key == Secret("first")
    assert (made.vertexai, made.project, made.location) == (True, "mine", "global")
    assert made.base_url == "http://127.0.0.1:9"


def test_it_cannot_enlarge_with_a_key_of_the_gemini_api() -> None:
    """What only Vertex AI can do is declared there only; nothing cuts out."""
    plain = GeminiProvider().gaia_provider_info().capabilities
    vertex = GeminiProvider(vertexai=True).gaia_provider_info().capabilities

    assert vertex - plain == {Capability.UPSCALING}
    assert Capability.BACKGROUND_REMOVAL not in vertex


# -- words ----------------------------------------------------------------------------


async def test_a_prompt_is_worked_out(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """The text model writes; what it wrote is paid by its tokens."""
    request = EnhancePromptRequest(prompt="a keep", max_length=12)

    result = await provider.gaia_enhance_prompt(request, context())

    assert result.prompt == "a keep, in"
    assert result.model == "gemini-3.5-flash-lite"
    assert result.cost_usd == Decimal("0.000013")
    assert "systemInstruction" in _body(vendor)


async def test_a_question_about_a_picture_is_answered(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """Picture and question go out; the answer comes back."""
    request = DescribeImageRequest(image=SUBJECT, question="How large is it?")

    result = await provider.gaia_describe_image(request, context())

    assert "64x64" in result.description
    assert vendor.arrivals[0].prompt == "How large is it?"


async def test_an_option_of_a_description_is_told_to_be_left_out(
    provider: GeminiProvider,
) -> None:
    """What is asked about a picture takes no options, and that is said."""
    options = {"gemini": {"detail": "high"}}
    request = DescribeImageRequest(image=SUBJECT, provider_options=options)

    result = await provider.gaia_describe_image(request, context())

    assert result.warnings == ("option 'detail' ignored: image-description takes none",)


async def test_another_text_model_can_be_set(make: Make, vendor: GeminiVendor) -> None:
    """A model without a price list is used, and its cost is unknown."""
    vendor.models = (*vendor.models, "gemini-9")
    provider = make(vendor, text_model="gemini-9")

    result = await provider.gaia_enhance_prompt(
        EnhancePromptRequest(prompt="a keep"), context()
    )
    await provider.gaia_stop()

    assert (result.model, result.cost_usd) == ("gemini-9", None)


# -- lists and health -----------------------------------------------------------------


async def test_the_list_is_refreshed(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """What the service has no more is left out, what is new is listed."""
    vendor.models = ("gemini-3-pro-image", "gemini-9-image", "gemini-embedding-2")

    listed = await provider.gaia_list_models(refresh=True, search=None)

    assert [card.id for card in listed] == ["gemini-3-pro-image", "gemini-9-image"]
    assert listed[1].price is None


async def test_long_lists_are_read_to_their_end(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """The list comes in pages."""
    vendor.models = (*(f"gemini-{one}" for one in range(450)), "gemini-9-image")

    listed = await provider.gaia_list_models(refresh=True, search="gemini-9-image")

    assert [card.id for card in listed] == ["gemini-9-image"]


async def test_vertex_lists_too(
    vendor: GeminiVendor, on_vertex: GeminiProvider
) -> None:
    """Its list names models in another way, and never the upscaler."""
    vendor.models = ("gemini-3-pro-image",)

    listed = await on_vertex.gaia_list_models(refresh=True, search=None)

    assert [card.id for card in listed] == [
        "gemini-3-pro-image",
        "imagen-4.0-upscale-preview",
    ]


async def test_without_a_key_a_refreshed_list_is_that_of_before() -> None:
    """Nobody is asked, and nobody is left without a list."""
    provider = GeminiProvider()
    before = await provider.gaia_list_models(refresh=False, search=None)

    listed = await provider.gaia_list_models(refresh=True, search=None)

    assert [card.id for card in listed] == [card.id for card in before]


async def test_a_list_that_cannot_be_refreshed_stays_and_says_why(
    make: Make, vendor: GeminiVendor, tmp_path: Path
) -> None:
    """Nobody is left without a list, or with an old one that looks new."""
    settings = Settings(
        database=f"sqlite:///{tmp_path / 'gaia.db'}", image_store=str(tmp_path)
    )
    async with Gaia.open(settings, plugins=[make(vendor)], discover=False) as gaia:
        before = await gaia.models()
        async with vendor.closed():
            listed = await gaia.models(refresh=True)

    assert [card.id for card in listed] == [card.id for card in before]
    assert "cannot be reached" in listed.problems["gemini"]


@pytest.mark.parametrize(
    ("settings", "level", "reached", "is_healthy"),
    [
        ({}, HealthLevel.CONFIGURED, HealthLevel.CONFIGURED, True),
        ({}, HealthLevel.REACHABLE, HealthLevel.REACHABLE, True),
        ({}, HealthLevel.AUTHORISED, HealthLevel.AUTHORISED, True),
        ({"api_key": None}, HealthLevel.AUTHORISED, HealthLevel.CONFIGURED, False),
        (
            {"api_key": Secret("wrong")},
            HealthLevel.REACHABLE,
            HealthLevel.REACHABLE,
            True,
        ),
        (
            {"api_key": Secret("wrong")},
            HealthLevel.AUTHORISED,
            HealthLevel.REACHABLE,
            False,
        ),
        (
            {"base_url": "http://127.0.0.1:9"},
            HealthLevel.REACHABLE,
            HealthLevel.CONFIGURED,
            False,
        ),
    ],
    ids=[
        *("configured", "reachable", "authorised", "no key"),
        *("wrong key reaches", "wrong key", "away"),
    ],
)
async def test_health_is_free(
    make: Make,
    vendor: GeminiVendor,
    settings: dict[str, Any],
    level: HealthLevel,
    reached: HealthLevel,
    is_healthy: bool,
) -> None:
    """It goes as far as it is asked to, says how far it came, and costs nothing."""
    provider = make(vendor, **settings)

    health = await provider.gaia_check_health(level)
    await provider.gaia_stop()

    assert (health.level, health.is_healthy) == (reached, is_healthy)
    assert health.is_healthy or health.reason
    assert vendor.requests == 0


# -- many at once, and the end --------------------------------------------------------


async def test_fifty_at_once_share_a_client(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """Nobody waits for a place, and everybody gets a picture of their own."""
    vendor.delay = 0.3
    requests = [attrs.evolve(KEEP, prompt=f"keep {number}") for number in range(50)]

    results = await asyncio.gather(
        *(provider.gaia_generate(request, context()) for request in requests)
    )

    assert len({result.images[0].data for result in results}) == 50
    assert len(vendor.charges) == 50
    assert vendor.most_at_once == 50


def test_two_loops_have_a_client_each() -> None:
    """A provider that is used from one loop after the other serves both."""

    async def use() -> int:
        async with GeminiVendor() as vendor:
            provider.base_url = vendor.url
            await provider.gaia_generate(KEEP, context())
            await provider.gaia_stop()
            return vendor.requests

    provider = GeminiProvider(api_key=Secret("AIza-stand-in-key"))

    assert [asyncio.run(use()), asyncio.run(use())] == [1, 1]


async def test_two_loops_at_once_have_a_client_each(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """Who stops it closes what another loop holds as well."""
    from gaia_gemini.clients import Connection

    is_made, may_end = asyncio.Event(), asyncio.Event()
    home = asyncio.get_running_loop()
    held: list[Connection] = []

    async def elsewhere() -> None:
        await provider.gaia_generate(KEEP, context())
        held.append(await provider._connections.get())
        home.call_soon_threadsafe(is_made.set)
        while not may_end.is_set():  # noqa: ASYNC110  an event of another loop
            await asyncio.sleep(0.01)

    other = asyncio.create_task(asyncio.to_thread(asyncio.run, elsewhere()))
    await provider.gaia_generate(KEEP, context())
    await is_made.wait()
    held.append(await provider._connections.get())

    await provider.gaia_stop()
    may_end.set()
    await other

    assert held[0].http is not held[1].http
    assert [one.http.is_closed for one in held] == [True, True]
    assert vendor.requests == 2


async def test_a_host_may_cancel_everything_and_go_on(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """A client whose making was cancelled is made anew, and stopping stays quiet."""
    before = asyncio.all_tasks()
    first = asyncio.create_task(provider.gaia_generate(KEEP, context()))
    while len(asyncio.all_tasks() - before) < 2:  # noqa: ASYNC110  of another's making
        await asyncio.sleep(0)
    for task in asyncio.all_tasks() - before:
        task.cancel()
    await asyncio.wait([first])

    await provider.gaia_generate(KEEP, context())

    assert first.cancelled()
    assert vendor.requests == 1


async def test_it_works_again_after_it_was_stopped(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """A stopped provider makes itself a new client."""
    await provider.gaia_generate(KEEP, context())
    await provider.gaia_stop()

    await provider.gaia_generate(KEEP, context())

    assert vendor.requests == 2


async def test_a_silent_service_is_given_up(make: Make, vendor: GeminiVendor) -> None:
    """After its own limit a call ends, and may have been charged."""
    vendor.inject(Faults(script=[None, Fault.HANG_AFTER]))
    provider = make(vendor)
    await provider.gaia_generate(KEEP, context())  # what is slow the first time
    provider.timeout = 2.0

    with pytest.raises(ProviderTimeoutError):
        await provider.gaia_generate(KEEP, context())

    assert len(vendor.charges) == vendor.requests == 2


async def test_a_prompt_with_too_many_pictures_is_not_sent(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """What the model cannot take is refused here, and costs nothing."""
    request = attrs.evolve(KEEP, image=SUBJECT, reference_images=[SUBJECT] * 14)

    with pytest.raises(ProviderRequestError, match="14"):
        await provider.gaia_generate(request, context())

    assert vendor.requests == 0


def _body(vendor: GeminiVendor) -> Any:
    return json.loads(vendor.bodies[-1])
