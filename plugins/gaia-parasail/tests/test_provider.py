"""The provider on the SDK, against a stand-in for the service."""

import asyncio
import gzip
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gaia_core import (
    AuthenticationError,
    Capability,
    DescribeImageRequest,
    EnhancePromptRequest,
    Gaia,
    GenerateRequest,
    HealthLevel,
    Image,
    ModelError,
    NoCapableProviderError,
    OutcomeClass,
    ProviderError,
    ProviderRequestError,
    RateLimitError,
    Secret,
    UnusableResultError,
    load_settings,
)
from gaia_core.testing import context, png
from gaia_core.testing.vendors import Fault, Faults
from gaia_core.testing.vendors.openai import OpenAIVendor
from gaia_parasail import Endpoint, ModelSettings, ParasailProvider

Make = Callable[..., ParasailProvider]
KEY = "sk-canary-of-the-right-service"

FOREIGN = "sk-canary-of-another-service"


def dragon(**changes: Any) -> GenerateRequest:
    """Make a request for a small picture."""
    usual: dict[str, Any] = {
        "prompt": "a red dragon",
        "model": "words",
        "width": 32,
        "height": 32,
    }
    return GenerateRequest(**usual | changes)


# -- who is told what ---------------------------------------------------------------


async def test_no_other_key_is_ever_sent(
    make: Make, vendor: OpenAIVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the environment holds for OpenAI stays on this machine."""
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID", "WEBHOOK_SECRET"):
        monkeypatch.setenv(f"OPENAI_{name}", FOREIGN)
    headers = f"Authorization: Bearer {FOREIGN}\nX-Other: {FOREIGN}"
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", headers)
    provider = make()

    await provider.gaia_generate(dragon(), context())
    await provider.gaia_list_models(refresh=True, search=None)
    await provider.gaia_stop()

    heads = [json.dumps(dict(head)) for head in vendor.heads]
    assert len(heads) == 2
    assert [head for head in heads if FOREIGN in head or KEY not in head] == []


async def test_without_a_key_nothing_is_sent(
    make: Make, vendor: OpenAIVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider without a key does not look for another one."""
    monkeypatch.setenv("OPENAI_API_KEY", FOREIGN)
    provider = make(api_key=None)

    with pytest.raises(AuthenticationError, match="has no key"):
        await provider.gaia_generate(dragon(), context())

    info = provider.gaia_provider_info()
    assert info.unavailable == "PARASAIL_API_KEY is not set"
    assert not vendor.heads


@pytest.mark.parametrize("key", ["sk-…", "sk-1\n", "sk 1", "schlüssel"], ids=ascii)
def test_what_is_no_key_is_told(make: Make, key: str) -> None:
    """A key that fits into no header is found out before anything is sent."""
    reason = make(api_key=Secret(key)).gaia_provider_info().unavailable

    assert reason == "PARASAIL_API_KEY holds what no key does: copy it again"


async def test_the_attempt_is_named(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """The task id goes along as an idempotency key, for services that heed one."""
    attempt = context()

    await provider.gaia_generate(dragon(), attempt)

    assert vendor.charged(attempt.task_id) == 1


# -- nothing is sent twice ----------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [Fault.UNAVAILABLE, Fault.BUSY, Fault.DROP_BEFORE, Fault.DROP_AFTER]
)
async def test_nothing_is_sent_twice(
    provider: ParasailProvider, vendor: OpenAIVendor, fault: Fault
) -> None:
    """Whatever goes wrong, a call is one request, on a used connection, too."""
    await provider.gaia_generate(dragon(), context())
    vendor.inject(Faults(script=[fault, fault]))
    before = vendor.requests

    for _ in range(2):
        with pytest.raises(ProviderError):
            await provider.gaia_generate(dragon(), context())

    assert vendor.requests - before == 2


async def test_a_connection_that_went_stale_is_not_used(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """A service that closed its connections meanwhile is asked once, and answers."""
    await provider.gaia_generate(dragon(), context())
    async with vendor.closed():
        pass

    result = await provider.gaia_generate(dragon(), context())

    assert len(result.images) == 1
    assert vendor.requests == len(vendor.charges) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(
    make: Make, vendor: OpenAIVendor, status: int
) -> None:
    """No request, and no key, goes where an answer says that it should."""

    async def redirect(_: web.Request) -> web.Response:
        target = f"{vendor.url}/images/generations"
        return web.Response(status=status, headers={"Location": target})

    async with _served(redirect) as url:
        provider = make(base_url=url)
        with pytest.raises(ProviderError):
            await provider.gaia_generate(dragon(), context())
        await provider.gaia_stop()

    assert not vendor.heads


# -- answers that are none ----------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("<html>hello</html>", id="a page"),
        pytest.param("", id="nothing"),
        pytest.param("[]", id="a list"),
        pytest.param("{}", id="no data"),
        pytest.param('{"data": null}', id="no list"),
        pytest.param('{"data": []}', id="an empty list"),
        pytest.param('{"data": [{}]}', id="no picture"),
        pytest.param('{"data": [{"b64_json": null}]}', id="an empty picture"),
        pytest.param('{"data": [{"b64_json": "!"}]}', id="no base64"),
        pytest.param('{"data": [{"b64_json": "aGVsbG8="}]}', id="other bytes"),
    ],
)
async def test_a_200_without_a_picture_is_unusable(make: Make, body: str) -> None:
    """Such an answer may be charged, and is no success."""
    kind = "text/html" if "html" in body else "application/json"

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body, content_type=kind)

    async with _served(answer) as url:
        provider = make(base_url=url)
        with pytest.raises(UnusableResultError):
            await provider.gaia_generate(dragon(), context())
        await provider.gaia_stop()


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="too long"),
        pytest.param({"Content-Encoding": "gzip"}, id="packed"),
    ],
)
async def test_an_answer_without_end_is_not_read(
    make: Make, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    """It was made and may be charged, and none of it is unpacked or kept."""
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.headers["Accept-Encoding"])
        return web.Response(body=gzip.compress(b" " * 100_000), headers=headers)

    monkeypatch.setattr("gaia_parasail.bounds.MAX_ANSWER", 0 if not headers else 9**9)
    async with _served(answer) as url:
        provider = make(base_url=url)
        with pytest.raises(UnusableResultError, match="was not read"):
            await provider.gaia_generate(dragon(), context())
        await provider.gaia_stop()

    assert asked == ["identity"]


@pytest.mark.parametrize("packing", ["identity", "gzip"])
async def test_a_refusal_without_end_is_a_refusal(
    make: Make, monkeypatch: pytest.MonkeyPatch, packing: str
) -> None:
    """What costs nothing is not taken for something made because it is long."""

    async def answer(_: web.Request) -> web.Response:
        headers = {"Content-Encoding": packing}
        return web.Response(status=429, body=b"x" * 1_000, headers=headers)

    monkeypatch.setattr("gaia_parasail.bounds.MAX_REFUSAL", 10)
    async with _served(answer) as url:
        provider = make(base_url=url)
        with pytest.raises(RateLimitError):
            await provider.gaia_generate(dragon(), context())
        await provider.gaia_stop()


async def test_what_is_left_of_a_partial_answer_is_kept(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """Two of three pictures are two pictures, and a warning."""
    vendor.inject(Faults(script=[Fault.PARTIAL_AFTER]))

    result = await provider.gaia_generate(dragon(num_images=3), context())

    assert len(result.images) == 2
    assert result.warnings == ("2 of 3 pictures came",)


async def test_pictures_given_by_address_are_fetched(
    make: Make, vendor: OpenAIVendor
) -> None:
    """An address is fetched through the guard, by Gaia's own fetcher."""
    models = {"words": ModelSettings(response_format="url", max_images=2)}
    provider = make(models=models)
    fetched: list[str] = []

    async def fetch(url: str) -> bytes:
        fetched.append(url)
        return png(32, 32)

    request = dragon(num_images=2)
    result = await provider.gaia_generate(request, context(fetch=fetch))
    await provider.gaia_stop()

    assert len(result.images) == 2
    assert [url.startswith(vendor.root) for url in fetched] == [True, True]


async def test_one_picture_that_does_not_arrive_leaves_the_others(
    make: Make, vendor: OpenAIVendor
) -> None:
    """Of two addresses one answers: that picture is kept."""
    provider = make(
        models={"words": ModelSettings(response_format="url", max_images=2)}
    )

    async def fetch(url: str) -> bytes:
        if url.endswith("-1.png"):
            raise UnusableResultError(url)
        return png(32, 32)

    request = dragon(num_images=2)
    result = await provider.gaia_generate(request, context(fetch=fetch))
    await provider.gaia_stop()

    assert len(result.images) == len(result.warnings) == 1
    assert len(vendor.charges) == 1


# -- pictures from pictures ---------------------------------------------------------


async def test_several_pictures_go_in(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """The picture to start from and those to imitate are files of one form."""
    start, other = png(32, 32, "red"), png(32, 32, "blue")
    request = dragon(
        model="edits", image=start, reference_images=(Image.from_bytes(other),)
    )

    result = await provider.gaia_generate(request, context())

    assert {start, other} <= set(vendor.bodies)
    assert len(result.images) == 1


async def test_a_mask_is_white_here_and_transparent_there(
    provider: ParasailProvider,
) -> None:
    """What is white in Gaia's mask is painted; what is black is kept."""
    from PIL import Image as pillow  # noqa: N813

    from gaia_core.testing.pictures import encoded

    mask = pillow.new("L", (32, 32), "black")
    mask.paste(255, (0, 0, 16, 32))
    request = dragon(model="edits", image=png(32, 32, "red"), mask_image=encoded(mask))

    result = await provider.gaia_generate(request, context())

    picture = result.images[0].image.decode().convert("RGB")
    assert picture.getpixel((24, 16)) == (255, 0, 0)
    assert picture.getpixel((8, 16)) != (255, 0, 0)


# -- words --------------------------------------------------------------------------


async def test_a_picture_is_described_and_reckoned_by_tokens(make: Make) -> None:
    """The model sees the picture; what it cost follows from what it used."""
    looks = ModelSettings(
        endpoint=Endpoint.CHAT,
        capabilities=[Capability.IMAGE_DESCRIPTION],
        token_prices=(Decimal("0.25"), Decimal("0.75")),
    )
    provider = make(models={"vision": looks})
    request = DescribeImageRequest(
        image=png(40, 30), question="Is it red?", model="vision"
    )

    result = await provider.gaia_describe_image(request, context())
    await provider.gaia_stop()

    assert result.description == "a picture of 40x30, Is it red?"
    assert result.cost_usd == Decimal("0.00004")


async def test_a_prompt_is_worked_out(provider: ParasailProvider) -> None:
    """The model that looks at pictures also improves prompts."""
    request = EnhancePromptRequest(prompt="a keep", max_length=20, model="vision")

    result = await provider.gaia_enhance_prompt(request, context())

    assert 0 < len(result.prompt) <= 20
    assert result.cost_usd is None


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        pytest.param({"content": None}, UnusableResultError, id="nothing"),
        pytest.param({"content": "<think>hm"}, UnusableResultError, id="thoughts"),
        pytest.param({"refusal": "no"}, ProviderError, id="refusal"),
    ],
)
async def test_no_words_are_no_answer(
    make: Make, message: dict[str, Any], kind: type[Exception]
) -> None:
    """A chat that says nothing is unusable; one that refuses is a refusal."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"choices": [{"message": message}]})

    async with _served(answer) as url:
        provider = make(base_url=url)
        request = DescribeImageRequest(image=png(8, 8), model="vision")
        with pytest.raises(kind):
            await provider.gaia_describe_image(request, context())
        await provider.gaia_stop()


# -- models -------------------------------------------------------------------------


def test_parasail_itself_is_known() -> None:
    """With a key alone there are OmniGen, in batches, and a model that sees."""
    info = ParasailProvider().gaia_provider_info()

    cards = asyncio.run(ParasailProvider().gaia_list_models(refresh=False, search=None))

    assert info.capabilities == {
        Capability.IMAGE_TO_IMAGE,
        Capability.IMAGE_DESCRIPTION,
        Capability.PROMPT_ENHANCEMENT,
    }
    assert (info.name, info.priority, info.max_batch_size) == ("parasail", 70, 50_000)
    assert {card.id: card.is_batch_only for card in cards} == {
        "parasail-qwen3vl-8b-instruct": False,
        "Shitao/OmniGen-v1": True,
    }
    prices = {card.id: card.price for card in cards}
    assert prices["Shitao/OmniGen-v1"] is None
    assert prices["parasail-qwen3vl-8b-instruct"] is not None


def test_another_address_has_what_is_named_and_no_more() -> None:
    """Nothing is assumed about a service that is not Parasail."""
    provider = ParasailProvider(
        base_url="https://pictures.example.com/v1", api_key=Secret(KEY)
    )

    info = provider.gaia_provider_info()

    assert info.capabilities == frozenset()
    assert info.unavailable is not None
    assert "set models" in info.unavailable


async def test_listing_asks_nobody(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """The usual list comes from the settings; a fresh one from the service, too."""
    usual = await provider.gaia_list_models(refresh=False, search=None)
    assert not vendor.heads
    vendor.models = (*vendor.models, "parasail-gpt-oss-120b", "unheard-of")

    fresh = await provider.gaia_list_models(refresh=True, search=None)

    new = {card.id for card in fresh} - {card.id for card in usual}
    assert new == {"parasail-gpt-oss-120b"}
    assert len(vendor.heads) == 1


async def test_models_are_searched(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """What is searched for is found among what the service has and is known."""
    vendor.models = (*vendor.models, "parasail-gpt-oss-120b")

    found = await provider.gaia_list_models(refresh=False, search="OSS gpt")
    none = await provider.gaia_list_models(refresh=False, search="dragon")

    assert [card.id for card in found] == ["parasail-gpt-oss-120b"]
    assert list(none) == []


@pytest.mark.parametrize(
    ("key", "level", "is_healthy"),
    [
        (KEY, HealthLevel.REACHABLE, True),
        (KEY, HealthLevel.AUTHORISED, True),
        ("sk-wrong", HealthLevel.REACHABLE, True),
        ("sk-wrong", HealthLevel.AUTHORISED, False),
        (None, HealthLevel.AUTHORISED, False),
    ],
    ids=str,
)
async def test_health(
    make: Make,
    vendor: OpenAIVendor,
    key: str | None,
    level: HealthLevel,
    is_healthy: bool,
) -> None:
    """A check goes as far as it is told to, and costs nothing."""
    provider = make(api_key=None if key is None else Secret(key))

    health = await provider.gaia_check_health(level)
    await provider.gaia_stop()

    assert health.is_healthy is is_healthy
    assert (health.reason is None) is is_healthy
    assert vendor.requests == 0


async def test_nobody_there_is_no_health(make: Make, vendor: OpenAIVendor) -> None:
    """A service that does not answer is not reached."""
    provider = make()

    async with vendor.closed():
        health = await provider.gaia_check_health(HealthLevel.REACHABLE)
    await provider.gaia_stop()

    assert not health.is_healthy


async def test_a_batch_model_is_not_asked_at_once(provider: ParasailProvider) -> None:
    """Its answers take hours: the sentence says where it belongs."""
    with pytest.raises(ProviderRequestError, match="gaia batch"):
        await provider.gaia_generate(dragon(model="batched"), context())


async def test_an_unknown_model_is_refused(provider: ParasailProvider) -> None:
    """A model nobody described is not asked for."""
    with pytest.raises(ModelError, match="no model dall-e-9"):
        await provider.gaia_generate(dragon(model="dall-e-9"), context())


# -- in Gaia ------------------------------------------------------------------------

SETTINGS = """
[providers.parasail]
api_key = "sk-of-parasail"

[providers.studio]
plugin = "parasail"
api_key = "{key}"
base_url = "{url}"
priority = 75
vision_model = "vision"

[providers.studio.models.words]
name = "Words to pictures"
sizes = ["64x64", "128x64"]
max_images = 2
supported_fields = ["seed", "num_inference_steps"]
field_names = {{ num_inference_steps = "steps" }}
extra_body = {{ safety = "on" }}
price = 0.01
"""


async def test_a_second_service_is_a_section_of_its_own(
    vendor: OpenAIVendor, tmp_path: Path
) -> None:
    """`plugin = "parasail"` makes an instance with its own address, key and models."""
    path = tmp_path / "gaia.toml"
    text = SETTINGS.format(key=KEY, url=vendor.url)
    path.write_text(text + _places(tmp_path), encoding="utf-8")

    async with Gaia.open(load_settings(path)) as gaia:
        request = dragon(
            provider="studio", model=None, seed=3, num_inference_steps=7, width=100
        )
        response = await gaia.generate(request)

    sent = json.loads(vendor.bodies[-1])
    assert (response.provider, response.model) == ("studio", "words")
    assert response.cost_usd == Decimal("0.01")
    assert sent == {
        "model": "words",
        "prompt": "a red dragon",
        "size": "128x64",
        "seed": 3,
        "steps": 7,
        "safety": "on",
        "response_format": "b64_json",
    }
    assert response.warnings == ("size 100x32 was asked for, 128x64 came",)


async def test_a_batch_model_serves_no_single_request(
    open_gaia: Any, make: Make
) -> None:
    """Gaia passes a model over that answers in batches only, and says so."""
    request = dragon(model="omni", image=png(32, 32))

    async with open_gaia(make()) as gaia:
        with pytest.raises(NoCapableProviderError):
            await gaia.generate(request)


async def test_one_instance_serves_two_loops(vendor: OpenAIVendor, make: Make) -> None:
    """Connections belong to a loop; another loop gets its own."""
    provider = make()

    async def once() -> int:
        result = await provider.gaia_generate(dragon(), context())
        await provider.gaia_stop()
        return len(result.images)

    counts = [await asyncio.to_thread(asyncio.run, once()) for _ in range(2)]

    assert counts == [await once(), 1]
    assert vendor.requests == 3


async def test_who_stops_closes_the_connections_of_every_loop(
    vendor: OpenAIVendor, make: Make
) -> None:
    """Loops in other threads may go on, but not with what was stopped."""
    provider = make()
    is_made, is_stopped = asyncio.Event(), threading.Event()
    here = asyncio.get_running_loop()
    clients: list[Any] = []

    async def elsewhere() -> None:
        await provider.gaia_generate(dragon(), context())
        clients.append(provider._work()._clients.client())
        here.call_soon_threadsafe(is_made.set)
        await asyncio.to_thread(is_stopped.wait, 60)

    other = asyncio.create_task(asyncio.to_thread(asyncio.run, elsewhere()))
    try:
        async with asyncio.timeout(60):
            await is_made.wait()
            await provider.gaia_stop()
        (client,) = clients
        is_closed = client.is_closed()
    finally:
        is_stopped.set()
        await other

    assert is_closed
    assert vendor.requests == 1


async def test_an_outcome_in_doubt_is_not_guessed_at(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """An answer that breaks off may have been charged."""
    vendor.inject(Faults(script=[Fault.TRUNCATED_AFTER]))

    with pytest.raises(ProviderError) as caught:
        await provider.gaia_generate(dragon(), context())

    assert caught.value.outcome is OutcomeClass.AMBIGUOUS


# -- for the tests ------------------------------------------------------------------


def _places(folder: Path) -> str:
    return f"\n[gaia]\nimage_store = '{folder}'\ndatabase = 'sqlite:///{folder}/g.db'\n"


@asynccontextmanager
async def _served(handler: Any) -> AsyncIterator[str]:
    """Serve every address with one handler, as long as it is open."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()
