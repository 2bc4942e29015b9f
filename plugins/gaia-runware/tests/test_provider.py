"""The card, the settings, the models and the health of the provider."""

import ast
import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import gaia_runware
from gaia_core import (
    AuthenticationError,
    CallContext,
    Capability,
    EnhancePromptRequest,
    GenerateRequest,
    HealthLevel,
    Price,
    ProviderConnectionError,
    ProviderError,
    Secret,
)
from gaia_core.plugins.making import make_instance
from gaia_core.settings.values import ProviderSettings
from gaia_core.testing.vendors.runware import RunwareVendor
from gaia_runware import RunwareProvider
from gaia_runware.models import ExtraModel

Made = Callable[..., RunwareProvider]
Attempt = Callable[..., CallContext]
KEY = "canary-8c1f5b"
"""The key the stand-in lets in; it must show nowhere."""

ENVIRONMENT = {
    "RUNWARE_API_KEY": "canary",
    "RUNWARE_BASE_URL": "wss://ws-api.runware.ai/v1",
    "RUNWARE_TIMEOUT": "90",
    "RUNWARE_MAX_RETRIES": "3",
    "RUNWARE_RETRY_DELAY": "2.0",
    "RUNWARE_DEFAULT_MODEL": "runware:100@1",
    "RUNWARE_MAX_CONCURRENT": "5",
    "RUNWARE_POOL_SIZE": "2",
}


def _from(
    environment: Mapping[str, str], options: Mapping[str, object] | None = None
) -> RunwareProvider:
    section = ProviderSettings(name="runware", options=dict(options or {}))
    made = make_instance(RunwareProvider, section, sources={}, environ=environment)
    assert isinstance(made.value, RunwareProvider)
    return made.value


# -- settings -------------------------------------------------------------------------


def test_the_vendors_variables_are_the_settings() -> None:
    """Every variable that a host has set for this vendor works unchanged."""
    provider = _from(ENVIRONMENT)
    card = provider.gaia_provider_info()

    assert card.unavailable is None
    assert (card.max_attempts, card.retry_delay, card.max_concurrent) == (4, 2.0, 5)
    assert card.base_url == "wss://ws-api.runware.ai/v1"
    assert (provider.timeout, provider.pool_size) == (90.0, 2)
    assert "canary" not in repr(provider)


def test_without_a_key_it_says_so() -> None:
    """It is installed, and cannot work yet."""
    card = _from({}).gaia_provider_info()

    assert card.unavailable == "RUNWARE_API_KEY is not set"
    assert (card.max_attempts, card.retry_delay, card.max_concurrent) == (None,) * 3


async def test_models_of_the_settings_are_typed() -> None:
    """A table names further models, with their prices and what they are."""
    options = {
        "models": {"civitai:4384@128713": {"name": "DreamShaper", "price": 0.002}}
    }

    provider = _from(ENVIRONMENT, options)
    models = await provider.gaia_list_models(refresh=False, search=None)
    (card,) = [one for one in models if one.id == "civitai:4384@128713"]

    assert card.name == "DreamShaper"
    assert card.price == Price(per_image=0.002)


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "runware.ai"},
        {"base_url": "ftp://runware.ai"},
        {"base_url": "wss://name:word@runware.ai"},
        {"timeout": 0},
        {"max_retries": -1},
        {"pool_size": 0},
        {"max_concurrent": 0},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object]) -> None:
    """The message names the setting."""
    with pytest.raises(ValueError, match=next(iter(settings))):
        RunwareProvider(**settings)  # type: ignore[arg-type]


async def test_without_a_key_nothing_is_asked(attempt: Attempt) -> None:
    """Who calls a hook all the same is told what is missing."""
    provider = RunwareProvider()
    request = GenerateRequest(prompt="a keep", model="runware:100@1")

    with pytest.raises(AuthenticationError, match="RUNWARE_API_KEY"):
        await provider.gaia_generate(request, attempt())


# -- models ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("default", "expected"),
    [
        ("runware:100@1", "runware:100@1"),
        ("flux_schnell", "runware:100@1"),
        ("civitai:1@2", "civitai:1@2"),
    ],
    ids=["known", "alias", "unknown"],
)
async def test_the_default_model_comes_first(default: str, expected: str) -> None:
    """It is what a request that names none gets."""
    provider = RunwareProvider(default_model=default)

    models = await provider.gaia_list_models(refresh=False, search=None)

    assert models[0].id == expected
    assert len({one.id for one in models}) == len(models)


async def test_a_search_asks_the_vendor(made: Made, vendor: RunwareVendor) -> None:
    """What is known keeps its card; what is none for pictures is left out."""
    found = await made().gaia_list_models(refresh=False, search="flux")
    tweaks = await made().gaia_list_models(refresh=False, search="tweaker")

    assert [one.id for one in found] == ["runware:100@1", "runware:101@1"]
    assert found[0].price is not None
    assert tweaks == ()
    assert vendor.frames == {"modelSearch": 2}


async def test_a_refresh_adds_what_is_new(made: Made) -> None:
    """The usual list stays, and what the vendor has beside it comes behind."""
    provider = made()

    usual = await provider.gaia_list_models(refresh=False, search=None)
    fresh = await provider.gaia_list_models(refresh=True, search=None)

    assert list(fresh[: len(usual)]) == list(usual)
    assert len({one.id for one in fresh}) == len(fresh)


@pytest.mark.parametrize(
    ("key", "expected"),
    [("wrong", AuthenticationError), (KEY, ProviderConnectionError)],
    ids=["refused", "gone"],
)
async def test_a_search_that_fails_says_so(
    made: Made, vendor: RunwareVendor, key: str, expected: type[ProviderError]
) -> None:
    """No list is better than a wrong one."""
    provider = made(api_key=Secret(key))

    if expected is AuthenticationError:
        with pytest.raises(expected):
            await provider.gaia_list_models(refresh=False, search="flux")
        return
    async with vendor.closed():
        with pytest.raises(expected):
            await provider.gaia_list_models(refresh=True, search=None)


# -- health ---------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["url", "http_url"], ids=["socket", "REST"])
@pytest.mark.parametrize("level", HealthLevel, ids=lambda level: level.value)
async def test_a_healthy_one_is_healthy(
    made: Made, vendor: RunwareVendor, way: str, level: HealthLevel
) -> None:
    """It connects and shows the key, and buys nothing."""
    health = await made(base_url=getattr(vendor, way)).gaia_check_health(level)

    assert (health.level, health.is_healthy, health.reason) == (level, True, None)
    assert vendor.requests == 0


@pytest.mark.parametrize("way", ["url", "http_url"], ids=["socket", "REST"])
async def test_a_wrong_key_is_reachable(
    made: Made, vendor: RunwareVendor, way: str
) -> None:
    """Somebody is there, and says no."""
    provider = made(base_url=getattr(vendor, way), api_key=Secret("wrong"))

    reachable = await provider.gaia_check_health(HealthLevel.REACHABLE)
    authorised = await provider.gaia_check_health(HealthLevel.AUTHORISED)

    assert reachable.is_healthy
    assert (authorised.level, authorised.is_healthy) == (HealthLevel.REACHABLE, False)
    assert "RUNWARE_API_KEY" in (authorised.reason or "")


@pytest.mark.parametrize("way", ["url", "http_url"], ids=["socket", "REST"])
async def test_one_that_is_gone_is_not_reachable(
    made: Made, vendor: RunwareVendor, way: str
) -> None:
    """The settings are all there is."""
    provider = made(base_url=getattr(vendor, way))

    async with vendor.closed():
        health = await provider.gaia_check_health(HealthLevel.REACHABLE)

    assert (health.level, health.is_healthy) == (HealthLevel.CONFIGURED, False)


async def test_a_silent_one_is_given_up(made: Made, vendor: RunwareVendor) -> None:
    """No check takes longer than an answer may."""
    vendor.greeting = "silent"

    health = await made(timeout=0.5).gaia_check_health(HealthLevel.AUTHORISED)

    assert not health.is_healthy


async def test_one_that_says_nothing_is_not_reachable(made: Made) -> None:
    """That something takes what is sent to it does not make it Runware."""
    ended = asyncio.Event()

    async def listen(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        provider = made(base_url=f"http://127.0.0.1:{port}/v1", timeout=0.5)
        health = await provider.gaia_check_health(HealthLevel.REACHABLE)
        ended.set()

    assert (health.level, health.is_healthy) == (HealthLevel.CONFIGURED, False)


async def test_without_a_key_it_is_not_even_configured() -> None:
    """The reason is the one on the card."""
    health = await RunwareProvider().gaia_check_health(HealthLevel.AUTHORISED)

    assert health.level is HealthLevel.CONFIGURED
    assert health.reason == "RUNWARE_API_KEY is not set"


# -- discretion -----------------------------------------------------------------------


async def test_the_key_is_not_in_the_log_of_the_socket(
    made: Made,
    vendor: RunwareVendor,
    attempt: Attempt,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The library beneath the SDK would write every frame, the one with the key too."""
    request = GenerateRequest(prompt="a keep", model="runware:100@1", width=256)
    with caplog.at_level(logging.DEBUG):
        for name in ("websockets", "websockets.client", "runware", "aiohttp"):
            caplog.set_level(logging.DEBUG, logger=name)
        await made().gaia_generate(request, attempt())
        await made(base_url=vendor.http_url).gaia_generate(request, attempt())
        words = EnhancePromptRequest(prompt="a keep", model="x:y@1")
        await made().gaia_enhance_prompt(words, attempt())

    assert KEY not in caplog.text


def test_the_entry_point_is_light() -> None:
    """Nothing at the top of a module of this room imports an SDK."""
    heavy = {"aiohttp", "runware", "websockets", "PIL", "pydantic", "structlog"}
    folder = Path(gaia_runware.__file__).parent

    found = {
        (path.name, name)
        for path in folder.glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        for name in _imported(node)
        if name.split(".")[0] in heavy
    }

    assert found == set()


def _imported(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


async def test_it_can_do_everything() -> None:
    """There is a model for whatever Gaia knows of."""
    models = await RunwareProvider().gaia_list_models(refresh=False, search=None)

    assert {one for card in models for one in card.capabilities} == set(Capability)


def test_extra_models_may_be_bare() -> None:
    """An identifier alone is enough."""
    provider = RunwareProvider(models={"civitai:1@2": ExtraModel()})

    assert "civitai:1@2" in provider.models
