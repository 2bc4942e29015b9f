"""The provider's settings, cards, states, prices and health."""

import asyncio
import errno
import importlib.metadata
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from gaia_core import (
    FREE,
    Capability,
    GenerateRequest,
    HealthLevel,
    Lora,
    ModelError,
    ModelInfo,
    ProviderRequestError,
    ProviderUnavailableError,
    UpscaleRequest,
)
from gaia_core.capabilities import HOOK_OF
from gaia_core.testing import context, png
from gaia_core.testing.bench import imported_by
from gaia_core.testing.contexts import capture_events
from gaia_flux import FluxProvider, devices
from gaia_flux.families import FAMILIES
from gaia_flux.jobs import Drawn
from gaia_flux.models import CATALOGUE
from gaia_flux.payloads import Loras
from gaia_flux.workers import ThreadWorker

from .squares import Squares, digest

Make = Callable[..., FluxProvider]
_TINY = "tiny-flux1-schnell"
_NOT_HERE = "cuda:99"


@pytest.fixture(name="make")
def _make(tiny_models: Mapping[str, Path], tmp_path: Path) -> Make:
    """Give a maker of providers on the CPU that have the tiny models."""
    models = {
        f"tiny-{family}": {"family": family, "path": str(folder)}
        for family, folder in tiny_models.items()
    }
    usual: dict[str, Any] = {
        "device": "cpu",
        "models": models,
        "default_model": _TINY,
        "home": tmp_path / "hub",
        "threads": 1,
    }
    return lambda **settings: FluxProvider(**usual | settings)


async def _cards(provider: FluxProvider) -> dict[str, ModelInfo]:
    return {card.id: card for card in await provider.gaia_list_models()}


def _request(**changes: Any) -> GenerateRequest:
    facts = {"prompt": "a keep", "model": _TINY, "width": 64, "height": 64}
    return GenerateRequest(**facts | changes)


# -- settings -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"device": "gpu"},
        {"device": "cuda:x"},
        {"dtype": "int4"},
        {"vram_gb": 0},
        {"vram_gb": float("inf")},
        {"vram_gb": float("nan")},
        {"quantisation": "int4"},
        {"step_cache": "tea"},
        {"attention": "flash_hub"},
        {"batch_window": 0.5},
        {"threads": 0},
        {"usd_per_gpu_second": Decimal(-1)},
        {"usd_per_gpu_second": Decimal("Infinity")},
        {"usd_per_gpu_second": Decimal("NaN")},
        {"default_model": "no such model"},
        {"warm_up": ["no such model"]},
        {"models": {"mine": {"family": "flux3", "path": "/mine"}}},
    ],
    ids=str,
)
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    """A value that means nothing is refused when the provider is made."""
    with pytest.raises(ValueError, match=r"."):
        FluxProvider(**settings)


def test_nearest_word_is_named() -> None:
    """Whoever misspells a word of the settings is told the one that was meant."""
    with pytest.raises(ValueError, match=r"step_cache .*did you mean 'magcache'"):
        FluxProvider(step_cache="magcash")
    with pytest.raises(ValueError, match=r"no model .*did you mean 'flux1-schnell'"):
        FluxProvider(default_model="flux1-shnell")


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_devices_are_taken(device: str) -> None:
    """Every word for a device is a setting."""
    assert FluxProvider(device=device).device == device


def test_model_is_named_by_an_alias() -> None:
    """Settings name models as requests do."""
    spec = next(spec for spec in CATALOGUE if spec.aliases)

    assert FluxProvider(default_model=spec.aliases[0], warm_up=[spec.id])


# -- the card -------------------------------------------------------------------------


def test_import_is_light() -> None:
    """Importing the provider imports neither torch nor what builds on it."""
    modules = imported_by("gaia_flux.provider")

    heavy = {"torch", "diffusers", "transformers", "huggingface_hub", "PIL", "numpy"}
    assert modules & heavy == set()


def test_cpu_is_enough_when_it_is_asked_for(make: Make) -> None:
    """With `device = "cpu"` nothing else is needed."""
    info = make().gaia_provider_info()

    assert info.unavailable is None
    assert info.priority == 90
    assert info.capabilities == {
        capability for family in FAMILIES.values() for capability in family.pipelines
    }


@pytest.fixture(name="root")
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have the driver looked for elsewhere: where nothing is, until a test says."""
    monkeypatch.setattr(devices, "ROOT", tmp_path)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    _look_again()
    yield tmp_path
    _look_again()


def _look_again() -> None:
    for remembered in (devices.found, devices._cards, devices._told):
        remembered.cache_clear()


@pytest.mark.usefixtures("root")
def test_auto_never_takes_the_cpu(make: Make) -> None:
    """Without an accelerator the sentence says what to do."""
    reason = make(device="auto").gaia_provider_info().unavailable

    assert reason is not None
    assert reason.startswith("no CUDA device is on this machine")
    assert 'device = "cpu"' in reason


@pytest.mark.skipif(
    not importlib.metadata.version("torch").endswith("+cpu"),
    reason="this torch is built for a card",
)
def test_torch_for_the_processor_is_told(make: Make, root: Path) -> None:
    """A card is of no use to a torch that was built without CUDA."""
    (root / "dev").mkdir()
    (root / "dev/nvidia0").touch()

    reason = make(device="cuda").gaia_provider_info().unavailable

    assert reason is not None
    assert "torch is built for the processor only" in reason


def test_missing_packages_are_named(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is not installed is named, with the order in which to install it."""
    for name in ("torch", "diffusers"):
        monkeypatch.setitem(sys.modules, name, None)

    reason = make().gaia_provider_info().unavailable

    assert reason is not None
    assert reason.startswith("not installed: torch, diffusers. Install torch")


# -- models ---------------------------------------------------------------------------


async def test_order_is_default_then_here_then_quality(make: Make) -> None:
    """The default comes first, then what is on disk, the better before."""
    cards = list((await _cards(make(default_model="tiny-sdxl"))).values())

    here = [card.state is not None and card.state().word == "on disk" for card in cards]
    assert cards[0].id == "tiny-sdxl"
    assert here == sorted(here, reverse=True)
    ranks = [card.quality.rank for card in cards[1 : sum(here)]]
    assert ranks == sorted(ranks, reverse=True)


async def test_absent_model_says_how_to_get_it(make: Make) -> None:
    """A model of the catalogue that was not pulled names the command."""
    card = (await _cards(make()))["flux1-schnell"]

    assert card.state is not None
    state = card.state()
    assert state.word == "absent"
    assert state.unavailable is not None
    assert "`gaia flux pull flux1-schnell`" in state.unavailable


async def test_absent_folder_is_named(make: Make, tmp_path: Path) -> None:
    """A model of one's own whose folder is gone names the folder."""
    path = tmp_path / "gone"
    own = {"mine": {"family": "sdxl", "path": str(path)}}
    card = (await _cards(make(models=own, default_model=None)))["mine"]

    assert card.state is not None
    assert str(path) in str(card.state().unavailable)


async def test_model_on_disk_tells_its_plan(make: Make) -> None:
    """What is to be known about a model before it is loaded stands in its details."""
    provider = make(vram_gb=10, quantisation="fp8", dtype="bfloat16")
    card = (await _cards(provider))[_TINY]

    assert card.state is not None
    state = card.state()
    assert (state.word, state.unavailable) == ("on disk", None)
    assert state.details["family"] == "flux1-schnell"
    assert state.details["dtype"] == "bfloat16"
    assert state.details["quantisation"] == "fp8"
    assert 10**9 < state.details["estimated_bytes"] < 2 * 10**9  # it is tiny
    assert "of 10.0 GB" in state.details["plan"]
    assert state.details["opt_ins"] == ["quantisation=fp8"]


async def test_model_is_loaded_once_it_drew(make: Make) -> None:
    """The word changes with the first picture, and back when the host closes."""
    provider = make()
    card = (await _cards(provider))[_TINY]
    assert card.state is not None

    await provider.gaia_generate(_request(), context())
    word = card.state().word
    await provider.gaia_stop()

    assert word == "loaded"
    assert card.state().word == "on disk"


async def test_other_weights_have_another_revision(make: Make, tmp_path: Path) -> None:
    """A file that was replaced is not taken for the one before."""
    folder = tmp_path / "mine"
    folder.mkdir()
    own = {"mine": {"family": "flux1-dev", "path": str(folder)}}
    weights = folder / "model.safetensors"
    revisions = set()
    for content in (b"one", b"three"):
        weights.write_bytes(content)
        cards = await _cards(make(models=own, default_model=None))
        revisions.add(cards["mine"].revision)

    assert len(revisions) == 2


async def test_loras_are_on_offer_where_there_are_some(
    make: Make, tmp_path: Path
) -> None:
    """Without a LoRA in the settings no model claims to take one."""
    without = (await _cards(make()))[_TINY]
    with_some = (await _cards(make(loras={"ink": tmp_path / "i.safetensors"})))[_TINY]

    assert "loras" not in without.supported_fields
    assert "loras" in with_some.supported_fields
    assert without.revision != with_some.revision


async def test_negative_prompt_warns_where_it_has_no_effect(make: Make) -> None:
    """On FLUX.1 it counts with real guidance only; without, a warning says so."""
    provider = make()
    guided = {"flux": {"true_cfg_scale": 3.0}}
    request = _request(
        model="tiny-flux1-dev", negative_prompt="fog", seed=3, num_inference_steps=2
    )

    plain = await provider.gaia_generate(request, context())
    real = await provider.gaia_generate(
        attrs.evolve(request, provider_options=guided), context()
    )
    await provider.gaia_stop()

    assert (
        "negative_prompt"
        in (await _cards(provider))[request.model or ""].supported_fields
    )
    assert any("true_cfg_scale" in warning for warning in plain.warnings)
    assert real.warnings == ()
    assert digest(real.images[0].data) != digest(plain.images[0].data)


# -- prices ---------------------------------------------------------------------------


async def test_pictures_are_free(make: Make) -> None:
    """Nothing costs anything unless the settings say what the device does."""
    assert all(card.price == FREE for card in (await _cards(make())).values())


async def test_price_follows_what_was_measured(make: Make) -> None:
    """A guess comes first; once a picture was drawn, its seconds count."""
    provider = make(usd_per_gpu_second=Decimal("0.001"))
    guess = (await _cards(provider))[_TINY].price

    result = await provider.gaia_generate(_request(), context())
    await provider.gaia_stop()
    measured = (await _cards(provider))[_TINY].price

    assert guess is not None
    assert guess.per_step > 0
    assert measured != guess
    assert result.cost_usd is not None
    assert 0 < result.cost_usd < 1


# -- work -----------------------------------------------------------------------------


async def test_absent_model_is_refused(make: Make) -> None:
    """The hook itself says how to get a model, without loading anything."""
    with pytest.raises(ModelError, match="gaia flux pull flux1-schnell"):
        await make().gaia_generate(_request(model="flux1-schnell"), context())


async def test_unknown_model_is_refused(make: Make) -> None:
    """A model that nobody listed is none."""
    with pytest.raises(ModelError, match="no model 'nothing'"):
        await make().gaia_generate(_request(model="nothing"), context())


async def test_wrong_option_is_refused(make: Make) -> None:
    """Options are checked before the worker starts."""
    request = _request(provider_options={"flux": {"shceduler": "x"}})

    with pytest.raises(ProviderRequestError, match="scheduler"):
        await make().gaia_generate(request, context())


async def test_odd_size_is_drawn_to_the_pixel(make: Make) -> None:
    """A size that is no multiple of anything comes out as asked for."""
    provider = make()

    result = await provider.gaia_generate(_request(width=75, height=49), context())
    await provider.gaia_stop()

    assert [(one.width, one.height) for one in result.images] == [(75, 49)]


async def test_previews_come_on_the_way(make: Make) -> None:
    """Progress brings small pictures along, unless the settings forbid it."""
    seen = {True: 0, False: 0}
    for has_previews in seen:
        provider = make(previews=has_previews)
        heard: list[Any] = []
        attempt = context(progress=lambda _, image, heard=heard: heard.append(image))
        await provider.gaia_generate(_request(), attempt)
        await provider.gaia_stop()
        seen[has_previews] = sum(image is not None for image in heard)

    assert seen[True] > 0
    assert seen[False] == 0


async def test_picture_is_enlarged(make: Make) -> None:
    """Upscaling gives the exact size, and the same bytes again."""
    provider = make()
    request = UpscaleRequest(
        image=png(32, 24), upscale_factor=2, model="tiny-latent-upscaler"
    )

    first = await provider.gaia_upscale(request, context())
    second = await provider.gaia_upscale(request, context())
    await provider.gaia_stop()

    assert (first.images[0].width, first.images[0].height) == (64, 48)
    assert digest(first.images[0].data) == digest(second.images[0].data)


async def test_past_the_deadline_nothing_is_drawn(make: Make) -> None:
    """Who waits no longer costs the device nothing, and is told so."""
    provider = make()

    with pytest.raises(ProviderUnavailableError, match="not done in time"):
        await provider.gaia_generate(_request(), context(deadline=0.0))
    after = await provider.gaia_generate(_request(), context())
    await provider.gaia_stop()

    assert after.images


async def test_cancelled_before_its_turn_nothing_is_drawn(make: Make) -> None:
    """Who leaves the queue takes no turn; who came after gets the own picture."""
    provider = make()
    first, second, third = (
        asyncio.create_task(provider.gaia_generate(_request(seed=seed), context()))
        for seed in (1, 2, 3)
    )
    await asyncio.sleep(0)

    second.cancel()
    results = await asyncio.gather(first, second, third, return_exceptions=True)
    await provider.gaia_stop()

    assert isinstance(results[1], asyncio.CancelledError)
    assert [result.images[0].seed for result in (results[0], results[2])] == [1, 3]


async def test_stop_in_the_middle_is_told_and_the_next_picture_comes(
    make: Make,
) -> None:
    """Whoever waits when the host closes may ask again, and is drawn for then."""
    provider = make()
    has_begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    attempt = context(progress=lambda *_: loop.call_soon_threadsafe(has_begun.set))
    request = _request(num_inference_steps=150, width=256, height=256)
    task = asyncio.create_task(provider.gaia_generate(request, attempt))
    await has_begun.wait()

    await provider.gaia_stop()
    with pytest.raises(ProviderUnavailableError, match="was closed before"):
        await task
    after = await provider.gaia_generate(_request(), context())
    await provider.gaia_stop()

    assert after.images


async def test_two_providers_in_one_process_draw_what_each_draws_alone(
    make: Make,
) -> None:
    """Two hosts in one program do not disturb each other's pictures."""
    providers = [make(), make()]
    alone = [await one.gaia_generate(_request(seed=9), context()) for one in providers]

    together = await asyncio.gather(
        *(
            one.gaia_generate(_request(seed=9), context())
            for one in providers
            for _ in range(3)
        )
    )
    for one in providers:
        await one.gaia_stop()

    digests = {digest(result.images[0].data) for result in (*alone, *together)}
    assert len(digests) == 1


async def test_loras_are_looked_for_beside_the_event_loop(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of thousands of files holds up nobody."""
    threads = []

    def found(loras: Loras) -> dict[str, Path]:
        threads.append(threading.current_thread())
        return {path.stem: path for path in loras._in_folder()}

    monkeypatch.setattr(Loras, "found", found)
    request = _request(loras=[Lora(model="ink")])

    with pytest.raises(ProviderRequestError, match="no LoRA 'ink'"):
        await make(loras_folder=tmp_path).gaia_generate(request, context())

    assert threads
    assert threading.main_thread() not in threads


def test_loras_may_lie_at_home(make: Make) -> None:
    """Settings from a program may give words, and begin with the tilde."""
    provider = make(loras={"ink": "~/ink.safetensors"})

    assert provider.loras == {"ink": Path.home() / "ink.safetensors"}


async def test_slow_file_system_is_not_the_deadline(make: Make) -> None:
    """Only who had no time is told to allow more."""

    class Slow(Squares):
        def draw(self, *_: object) -> tuple[Drawn, ...]:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    provider = make()
    provider._worker = ThreadWorker(setup=provider._setup, studio=Slow)

    with pytest.raises(ModelError, match="Files of the model cannot be read"):
        await provider.gaia_generate(_request(), context())
    await provider.gaia_stop()


# -- upkeep ---------------------------------------------------------------------------


async def test_lost_task_may_be_drawn_again(make: Make) -> None:
    """What was under way died with its process: nobody has it."""
    lost = context()

    found: object = await make().gaia_recover(lost.task_id, lost)

    assert found is None


async def test_health_tells_about_the_models(make: Make) -> None:
    """Without asking the worker, each model on disk names its plan."""
    health = await make().gaia_check_health(HealthLevel.CONFIGURED)

    assert health.is_healthy
    assert any(note.startswith(f"{_TINY}: ") for note in health.notes)


async def test_health_asks_the_worker(make: Make) -> None:
    """Above the settings the worker tells about its device."""
    provider = make()

    health = await provider.gaia_check_health(HealthLevel.AUTHORISED)
    await provider.gaia_stop()

    assert health.is_healthy
    assert health.level is HealthLevel.AUTHORISED
    assert "device: CPU" in health.notes


async def test_health_says_what_to_do_first(make: Make) -> None:
    """A fresh installation has no model: the note names the command."""
    provider = make(models={}, default_model=None)

    health = await provider.gaia_check_health(HealthLevel.CONFIGURED)

    assert health.notes == (
        "No model is on this machine: run `gaia flux pull flux1-schnell`.",
    )


async def test_unavailable_is_unhealthy(make: Make) -> None:
    """Health gives the reason that the card gives."""
    provider = make(device=_NOT_HERE)

    health = await provider.gaia_check_health(HealthLevel.AUTHORISED)

    assert not health.is_healthy
    assert health.reason == provider.gaia_provider_info().unavailable
    assert f"no device {_NOT_HERE}" in str(health.reason)


async def test_warm_up_loads_in_the_background(make: Make) -> None:
    """What is to be warm is loaded while the host starts, and not before."""
    provider = make(warm_up=[_TINY])
    card = (await _cards(provider))[_TINY]
    assert card.state is not None

    await provider.gaia_start()
    assert card.state().word == "on disk"
    assert provider._warming is not None
    await provider._warming
    assert card.state().word == "loaded"
    await provider.gaia_stop()


async def test_warm_up_of_a_damaged_model_is_logged(make: Make, tmp_path: Path) -> None:
    """A host starts although a model cannot be loaded; its first request says why."""
    (tmp_path / "mine").mkdir()
    own = {"mine": {"family": "flux1-dev", "path": str(tmp_path / "mine")}}
    provider = make(models=own, default_model=None, warm_up=["mine"])

    with capture_events() as events:
        await provider.gaia_start()
        assert provider._warming is not None
        await provider._warming
    await provider.gaia_stop()

    (event,) = [one for one in events if one["event"] == "gaia.flux_warm_up_failed"]
    assert event["model"] == "mine"
    assert event["error"]


def test_every_capability_has_its_hook(make: Make) -> None:
    """What the families can do, the provider has hooks for."""
    provider = make()

    for capability in provider.gaia_provider_info().capabilities:
        assert hasattr(provider, HOOK_OF[Capability(capability)])


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the environment of whoever runs the tests out of them."""
    for name in ("HF_TOKEN", "HUGGING_FACE_KEY", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)


def test_token_is_not_shown(make: Make) -> None:
    """The hub's token shows nowhere."""
    assert "hf_secret" not in repr(make(token="hf_secret"))


def test_commands_are_those_of_flux(make: Make) -> None:
    """The room adds one group of commands to `gaia`."""
    assert [command.name for command in make().gaia_commands()] == ["flux"]
