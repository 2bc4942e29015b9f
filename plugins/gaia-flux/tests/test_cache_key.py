"""
Whatever changes a picture is in the key that kept answers lie under.

Each setting, option and fact of a model is listed here with what it does: whoever adds
one has to say which it is.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from gaia_core import GenerateRequest, Lora
from gaia_core.records import result_key
from gaia_flux import FluxProvider, options
from gaia_flux.models import ModelSpec, Source
from gaia_flux.setups import Setup

_TINY = "tiny-flux1-dev"

CHANGING: Mapping[str, Any] = {
    "device": "cuda",
    "dtype": "bfloat16",
    "vram_gb": 8,
    "loras": {"ink": "{tmp_path}/ink.safetensors"},
    "loras_folder": "{tmp_path}",
    "quantisation": "int8",
    "step_cache": "taylorseer",
    "attention": "sage",
    "compile": True,
    "batching": True,
}
"""Settings that change pictures, and a value that does."""
HARMLESS: Mapping[str, Any] = {
    "default_model": "tiny-sdxl",  # the model's name is in the key
    "home": "{tmp_path}",  # what lies there is
    "token": "hf_x",
    "warm_up": ["tiny-sdxl"],
    "previews": False,
    "batch_window": 0.02,  # whether there are batches decides
    "isolated": True,
    "threads": 2,  # rounding in the sixth place
    "usd_per_gpu_second": Decimal(1),
}
"""Settings that change none, and a value to try."""
OF_THE_MODEL = {"models"}
"""Settings whose parts are those of `ModelSpec`."""
RENAMED = {
    "batching": "has_batching",
    "compile": "is_compiled",
    "isolated": "is_isolated",
    "previews": "has_previews",
}
"""What the worker calls a setting by."""

SPEC_CHANGING: Mapping[str, Any] = {
    "family": "flux1-schnell",
    "source": "sdxl",
    "config": "sdxl",
    "default_steps": 9,
    "default_guidance": 1.5,
    "scheduler": ("FlowMatchEulerDiscreteScheduler", {"shift": 2.0}),
}
"""Facts of a model that change its pictures."""
SPEC_HARMLESS = {
    *("id", "name", "aliases", "creator", "licence", "is_gated", "quality", "speed")
}
"""Facts that change none; the identifier is in the key by itself."""

OPTIONS: Mapping[str, Any] = {
    "has_previews": False,
    "max_sequence_length": 64,
    "scheduler": "FlowMatchEulerDiscreteScheduler",
    "step_cache": "first-block",
    "true_cfg_scale": 2.0,
}
"""What a request may set, and a value."""

Make = Callable[..., FluxProvider]


@pytest.fixture(name="make")
def _make(tiny_models: Mapping[str, Path], tmp_path: Path) -> Make:
    """Give a maker of providers that have the tiny models and two LoRAs."""
    for name in ("ink", "oil"):
        (tmp_path / f"{name}.safetensors").write_text(name)
    models = {
        f"tiny-{family}": {"family": family, "path": str(folder)}
        for family, folder in tiny_models.items()
    }
    usual = {"device": "cpu", "models": models, "home": tmp_path / "hub"}
    return lambda **settings: FluxProvider(**usual | settings)


def _revision(provider: FluxProvider, **changes: Any) -> str:
    spec = attrs.evolve(provider._specs[_TINY], **changes)
    return provider._cards.revision(spec)


def _filled(value: Any, tmp_path: Path) -> Any:
    if isinstance(value, dict):
        return {key: _filled(one, tmp_path) for key, one in value.items()}
    is_text = isinstance(value, str)
    return value.replace("{tmp_path}", str(tmp_path)) if is_text else value


def test_every_setting_is_told_what_it_does() -> None:
    """A new setting is in one of the lists, and in the revision where it must be."""
    settings = {field.name for field in attrs.fields(FluxProvider) if field.init}

    assert settings == CHANGING.keys() | HARMLESS.keys() | OF_THE_MODEL


def test_worker_knows_nothing_but_settings() -> None:
    """So nothing that the worker heeds can be forgotten here."""
    fields = {field.name for field in attrs.fields(Setup)}
    settings = {field.name for field in attrs.fields(FluxProvider) if field.init}

    assert fields <= {RENAMED.get(name, name) for name in settings}


def test_every_fact_of_a_model_is_told_what_it_does() -> None:
    """A new fact of a model is in one of the lists, too."""
    facts = {field.name for field in attrs.fields(ModelSpec)}

    assert facts == SPEC_CHANGING.keys() | SPEC_HARMLESS


@pytest.mark.parametrize("name", CHANGING)
def test_setting_that_changes_pictures_changes_the_revision(
    make: Make, tmp_path: Path, name: str
) -> None:
    """Kept answers are not used once it has another value."""
    changed = make(**{name: _filled(CHANGING[name], tmp_path)})

    assert _revision(changed) != _revision(make())


@pytest.mark.parametrize(
    ("name", "value"), [*HARMLESS.items(), ("attention", "native")]
)
def test_other_setting_leaves_the_revision_alone(
    make: Make, tmp_path: Path, name: str, value: Any
) -> None:
    """Kept answers serve on: the pictures would be the same."""
    changed = make(**{name: _filled(value, tmp_path)})

    assert _revision(changed) == _revision(make())


@pytest.mark.parametrize("name", SPEC_CHANGING)
def test_fact_that_changes_pictures_changes_the_revision(
    make: Make, tiny_models: Mapping[str, Path], name: str
) -> None:
    """Another file, scheduler or usual guidance is another model to the cache."""
    value = SPEC_CHANGING[name]
    if name in {"source", "config"}:
        value = Source(path=tiny_models[value])
    provider, changes = make(), {name: value}
    if name == "config":  # goes with a single file
        network = tiny_models["flux1-dev"] / "vae/diffusion_pytorch_model.safetensors"
        usual = {"source": Source(path=network)}
        before = _revision(
            provider, **usual, config=Source(path=tiny_models["flux1-dev"])
        )
        assert _revision(provider, **usual, **changes) != before
    else:
        assert _revision(provider, **changes) != _revision(provider)


def test_names_that_change_places_change_the_revision(
    make: Make, tmp_path: Path
) -> None:
    """A LoRA's name may be given to another file of the same folder."""
    ink, oil = (str(tmp_path / f"{name}.safetensors") for name in ("ink", "oil"))
    before = make(loras={"one": ink, "two": oil})
    after = make(loras={"two": ink, "one": oil})

    assert _revision(before) != _revision(after)


@pytest.mark.parametrize("name", options._CHECKS)
def test_option_of_a_request_changes_the_key(name: str) -> None:
    """What one asked for is not given to who asked for something else."""
    plain = GenerateRequest(prompt="a keep", seed=7)
    other = attrs.evolve(plain, provider_options={"flux": {name: OPTIONS[name]}})

    assert _key(plain) != _key(other)


def test_lora_of_a_request_changes_the_key() -> None:
    """Names and weights of LoRAs are what was asked for."""
    plain = GenerateRequest(prompt="a keep", seed=7)
    requests = [
        plain,
        attrs.evolve(plain, loras=[Lora(model="ink")]),
        attrs.evolve(plain, loras=[Lora(model="ink", weight=0.5)]),
        attrs.evolve(plain, loras=[Lora(model="oil")]),
    ]

    assert len({_key(request) for request in requests}) == len(requests)


def _key(request: GenerateRequest) -> str:
    return result_key(
        request, provider="flux", model=_TINY, revision="abc", tenant="everybody"
    )
