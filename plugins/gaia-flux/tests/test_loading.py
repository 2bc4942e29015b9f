"""Models from a folder and from one file; what cannot be loaded says why."""

import importlib.util
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import diffusers
import torch

from gaia_core import Capability
from gaia_flux import loading, tiny
from gaia_flux.families import FAMILIES
from gaia_flux.loading import Loaded, Wanted
from gaia_flux.models import ModelSpec, Source
from gaia_flux.tuning import TuningError
from gaia_flux.weights import WeightsError


def wanted(family: str, source: Path, **changes: Any) -> Wanted:
    """Want a tiny model."""
    config = changes.pop("config", None)
    spec = ModelSpec(
        id=f"own-{family}",
        name=f"Own {family}",
        family=family,
        source=Source(path=source),
        config=None if config is None else Source(path=config),
        **{key: changes.pop(key) for key in ("scheduler",) if key in changes},
    )
    return Wanted(
        spec=spec,
        family=FAMILIES[family],
        place=loading.place_of(spec, None),
        dtype=changes.pop("dtype", torch.float32),
        **changes,
    )


def load(one: Wanted, kept: Mapping[str, Any] | None = None) -> Loaded:
    """Load, with what is in memory under its key."""
    return loading.load(one, loading.keys_of(one), (kept or {}).get)


@pytest.fixture(name="copy")
def _copy(tiny_models: Mapping[str, Path], tmp_path: Path) -> Path:
    """Give a model whose files may be spoilt."""
    return Path(shutil.copytree(tiny_models["flux1-schnell"], tmp_path / "model"))


@pytest.mark.parametrize("family", list(tiny.BUILDERS))
def test_components_are_those_of_diffusers(
    tiny_models: Mapping[str, Path], family: str
) -> None:
    """A folder gives the same weights as diffusers' own loader, ready to draw."""
    expected = diffusers.DiffusionPipeline.from_pretrained(
        tiny_models[family], local_files_only=True
    )

    loaded = load(wanted(family, tiny_models[family]))

    for name, component in loaded.components.items():
        assert type(component) is type(expected.components[name])
        if isinstance(component, torch.nn.Module):
            own, other = component.state_dict(), expected.components[name].state_dict()
            assert own.keys() == other.keys()
            assert all(torch.equal(own[key], other[key]) for key in own)
            assert not component.training


@pytest.mark.parametrize("family", list(tiny.BUILDERS))
def test_every_pipeline_of_a_family_is_made(
    tiny_models: Mapping[str, Path], family: str
) -> None:
    """Each capability has a pipeline over the components, with its own scheduler."""
    loaded = load(wanted(family, tiny_models[family]))

    for kind in FAMILIES[family].pipelines.values():
        pipeline = loading.pipeline_of(kind, loaded.components, loaded.options)

        assert type(pipeline).__name__ == kind
        assert pipeline.vae is loaded.components["vae"]
        assert pipeline.scheduler is not loaded.components["scheduler"]


@pytest.mark.parametrize("family", ["sdxl", "sd15"])
def test_one_file_holds_the_same_model_as_the_folder(
    tmp_path: Path, family: Any
) -> None:
    """A checkpoint in its authors' layout draws what the folder draws."""
    file, folder = tiny.build_single_file(family, tmp_path / f"{family}.safetensors")

    pictures = [
        _drawn(family, load(one))
        for one in (wanted(family, file, config=folder), wanted(family, folder))
    ]

    assert torch.equal(*pictures)


def _drawn(family: str, loaded: Loaded) -> Any:
    kind = FAMILIES[family].pipelines[Capability.TEXT_TO_IMAGE]
    pipeline = loading.pipeline_of(kind, loaded.components, loaded.options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt="a fox",
        width=64,
        height=64,
        num_inference_steps=1,
        generator=torch.Generator("cpu").manual_seed(1),
        output_type="pt",
    ).images


def test_checkpoint_without_its_configuration_says_what_is_missing(
    tmp_path: Path,
) -> None:
    """Weights alone do not say what to make of them."""
    file, _ = tiny.build_single_file("sdxl", tmp_path / "one.safetensors")

    with pytest.raises(WeightsError, match="config"):
        load(wanted("sdxl", file))


def test_what_is_in_memory_is_not_loaded_again(
    tiny_models: Mapping[str, Path],
) -> None:
    """Equal weights in equal precision have one key, and are taken from the shelf."""
    first = load(wanted("flux1-schnell", tiny_models["flux1-schnell"]))
    kept = {key: first.components[name] for name, key in first.keys.items()}

    again = load(wanted("flux1-schnell", tiny_models["flux1-schnell"]), kept)

    assert all(again.components[name] is first.components[name] for name in first.keys)


@pytest.mark.parametrize(
    "changes",
    [{"dtype": torch.bfloat16}, {"quantisation": "fp8"}, {"layout": "group offload"}],
    ids=["dtype", "quantisation", "layout"],
)
def test_what_lies_otherwise_in_memory_has_another_key(
    tiny_models: Mapping[str, Path], changes: dict[str, Any]
) -> None:
    """Neither precision nor hooks of one model get into another."""
    folder = tiny_models["flux1-schnell"]

    plain = loading.keys_of(wanted("flux1-schnell", folder))
    other = loading.keys_of(wanted("flux1-schnell", folder, **changes))

    assert plain["transformer"] != other["transformer"]


def test_precision_is_the_one_asked_for(tiny_models: Mapping[str, Path]) -> None:
    """All modules are in one precision."""
    one = wanted("flux1-schnell", tiny_models["flux1-schnell"], dtype=torch.bfloat16)

    components = load(one).components

    assert components["transformer"].dtype == torch.bfloat16
    assert components["text_encoder_2"].dtype == torch.bfloat16


def test_fp8_weights_take_a_byte(tiny_models: Mapping[str, Path]) -> None:
    """The opt-in stores the backbone's large layers in 8 bits, and nothing else."""
    one = wanted("flux1-schnell", tiny_models["flux1-schnell"], quantisation="fp8")

    components = load(one).components

    stored = {each.dtype for each in components["transformer"].parameters()}
    assert torch.float8_e4m3fn in stored
    assert {each.dtype for each in components["vae"].parameters()} == {torch.float32}


def test_settings_choose_the_scheduler(tiny_models: Mapping[str, Path]) -> None:
    """A model's own class and configuration go before the folder's."""
    one = wanted(
        "sdxl-lightning",
        tiny_models["sdxl-lightning"],
        scheduler=("DPMSolverMultistepScheduler", {"timestep_spacing": "trailing"}),
    )

    scheduler = load(one).components["scheduler"]

    assert type(scheduler).__name__ == "DPMSolverMultistepScheduler"
    assert scheduler.config.timestep_spacing == "trailing"


def test_settings_that_choose_no_scheduler_are_named(
    tiny_models: Mapping[str, Path],
) -> None:
    """A misspelt class is told when the model is loaded."""
    one = wanted("sdxl", tiny_models["sdxl"], scheduler=("EulerScheduler", {}))

    with pytest.raises(TuningError, match="no scheduler 'EulerScheduler'"):
        load(one)


def test_a_model_without_a_scheduler_says_so(copy: Path) -> None:
    """Its index is named: there is nothing to take the steps with."""
    path = copy / "model_index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    del index["scheduler"]
    path.write_text(json.dumps(index), encoding="utf-8")

    with pytest.raises(WeightsError, match=r"model_index\.json names no scheduler"):
        load(wanted("flux1-schnell", copy))


def test_absent_model_says_how_to_get_it() -> None:
    """A model of the hub is pulled; the sentence names the command."""
    spec = ModelSpec(
        id="flux1-dev",
        name="FLUX.1 dev",
        family="flux1-dev",
        source=Source(repository="nobody/flux", revision="0" * 40),
    )

    with pytest.raises(WeightsError, match="run `gaia flux pull flux1-dev`"):
        loading.place_of(spec, Path("/nonexistent"))


def test_absent_folder_says_where_it_was_looked_for(tmp_path: Path) -> None:
    """A path of the settings that leads nowhere is named."""
    spec = ModelSpec(
        id="own", name="Own", family="sdxl", source=Source(path=tmp_path / "gone")
    )

    with pytest.raises(WeightsError, match="gone"):
        loading.place_of(spec, None)


def test_pickled_weights_are_refused(copy: Path) -> None:
    """Nothing is loaded but safetensors: a pickle runs what its maker likes."""
    folder = copy / "text_encoder"
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")

    with pytest.raises(WeightsError):
        load(wanted("flux1-schnell", copy))


def test_cut_weights_are_refused(copy: Path) -> None:
    """A file that ended early is told from a whole one, and named."""
    file = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])

    with pytest.raises(WeightsError):
        load(wanted("flux1-schnell", copy))


def test_weights_that_do_not_fit_their_configuration_are_refused(copy: Path) -> None:
    """Whole files that are not of one model end in a sentence."""
    path = copy / "transformer" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"joint_attention_dim": 48}), encoding="utf-8")

    with pytest.raises(WeightsError, match=r"cannot be loaded: .*; replace its files"):
        load(wanted("flux1-schnell", copy))


def test_unknown_classes_are_refused(copy: Path) -> None:
    """A model that wants a class from elsewhere is not loaded."""
    path = copy / "model_index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    index["transformer"] = ["my_code", "Transformer"]
    path.write_text(json.dumps(index), encoding="utf-8")

    with pytest.raises(WeightsError):
        load(wanted("flux1-schnell", copy))


def test_kernels_that_a_model_names_are_not_fetched(copy: Path) -> None:
    """A configuration cannot have a program of strangers run, with or without a hub."""
    path = copy / "text_encoder" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    wanting = config | {"attn_implementation": "somebody/kernels"}
    path.write_text(json.dumps(wanting), encoding="utf-8")

    with pytest.raises(WeightsError, match="asks for somebody/kernels"):
        load(wanted("flux1-schnell", copy))


@pytest.mark.parametrize(
    "kind",
    [["transformers", "AutoModel"], ["diffusers", "AutoModel"]],
    ids=["transformers", "diffusers"],
)
def test_classes_that_choose_their_class_are_refused(
    copy: Path, kind: list[str]
) -> None:
    """What is loaded is what the index names, and what was looked at."""
    path = copy / "model_index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(index | {"text_encoder": kind}), encoding="utf-8")

    with pytest.raises(WeightsError, match="AutoModel, which is not to be had"):
        load(wanted("flux1-schnell", copy))


def test_weights_that_want_another_package_name_it(copy: Path) -> None:
    """Weights that somebody has quantised say what reads them."""
    if importlib.util.find_spec("bitsandbytes") is not None:
        pytest.skip("bitsandbytes is installed")
    path = copy / "transformer" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["quantization_config"] = {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
    }
    path.write_text(json.dumps(config), encoding="utf-8")

    with pytest.raises(WeightsError, match=r"not installed: .*bitsandbytes"):
        load(wanted("flux1-schnell", copy))


def test_code_that_comes_with_a_tokenizer_is_not_run(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody is asked whether to run it, either: a worker has nobody to ask."""
    path = copy / "model_index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    index["tokenizer"] = ["transformers", "AutoTokenizer"]
    path.write_text(json.dumps(index), encoding="utf-8")
    folder = copy / "tokenizer"
    (folder / "own.py").write_text("raise SystemExit('it ran')", encoding="utf-8")
    config = {"auto_map": {"AutoTokenizer": ["own.Own", None]}}
    written = json.dumps(config | {"tokenizer_class": "Own"})
    (folder / "tokenizer_config.json").write_text(written, encoding="utf-8")

    with pytest.raises(WeightsError, match="cannot be loaded"):
        load(wanted("flux1-schnell", copy))

    assert "[y/N]" not in capsys.readouterr().out


def test_half_precision_files_alone_are_found(copy: Path) -> None:
    """A folder with nothing but the fp16 variant is read."""
    for file in copy.glob("*/*.safetensors"):
        file.rename(file.with_name(f"{file.stem}.fp16.safetensors"))

    assert load(wanted("flux1-schnell", copy)).components["vae"] is not None


@pytest.mark.parametrize("name", ["bfloat32", "int8"])
def test_unknown_precision_is_refused(name: str) -> None:
    """A misspelt setting names what there is."""
    with pytest.raises(TuningError, match="bfloat16"):
        loading.dtype_of(name, torch.device("cpu"))
