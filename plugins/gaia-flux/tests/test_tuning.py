"""Exact options leave pictures alone; opt-ins are named, and undone after the call."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gaia_core import Capability

from .residents import ignore, job, resident_of

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch

from gaia_flux import tuning
from gaia_flux.drawing import draw
from gaia_flux.tuning import TuningError


@pytest.fixture(name="resident")
def _resident(tiny_models: Mapping[str, Path]) -> Any:
    return resident_of("flux1-dev", tiny_models["flux1-dev"])


@pytest.fixture(autouse=True)
def _unclaimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every test choose the attention kernel of its process."""
    monkeypatch.setattr(tuning, "_attention_of_process", None)


def picture(resident: Any, **changes: Any) -> bytes:
    """Draw one picture."""
    wanted = job(resident.family.name, **changes)
    return draw(resident, [wanted], ignore)[0].pictures[0].pixels


@pytest.mark.parametrize("family", ["flux1-dev", "flux2-klein", "sdxl", "sd15"])
def test_exact_options_leave_the_picture_as_it_is(
    tiny_models: Mapping[str, Path], family: str
) -> None:
    """What is on by default does not change a byte, and needs no warning."""
    resident = resident_of(family, tiny_models[family])
    expected = picture(resident)

    notes = tuning.apply_exact(resident)

    assert notes == ()
    assert picture(resident) == expected


def test_projections_are_fused_where_there_is_room(resident: Any) -> None:
    """A FLUX.1 backbone is fused when its plan leaves memory over."""
    backbone = resident.components["transformer"]

    resident.plan.needed = resident.plan.budget
    tuning.apply_exact(resident)
    assert not tuning.unfuse(backbone)

    resident.plan.needed = 0
    tuning.apply_exact(resident)
    assert tuning.unfuse(backbone)


@pytest.mark.parametrize("name", list(tuning.STEP_CACHES))
@pytest.mark.parametrize(
    "capability",
    [Capability.TEXT_TO_IMAGE, Capability.IMAGE_TO_IMAGE, Capability.INPAINTING],
    ids=str,
)
def test_a_step_cache_lasts_for_one_call(
    resident: Any, capability: Capability, name: str
) -> None:
    """Pictures are exact again after it, whatever the pipeline names its calls."""
    given = {"capability": capability, "num_inference_steps": 12, "strength": 1.0}
    expected = picture(resident, **given)

    picture(resident, **given, step_cache=name)

    assert not resident.components["transformer"].is_cache_enabled
    assert picture(resident, **given) == expected


def test_a_step_cache_changes_pictures(resident: Any) -> None:
    """Why it is an opt-in: taylorseer skips steps, and bytes differ."""
    exact = picture(resident, num_inference_steps=12)

    assert picture(resident, num_inference_steps=12, step_cache="taylorseer") != exact


def test_an_unknown_step_cache_is_named(resident: Any) -> None:
    """The error lists what there is."""
    with pytest.raises(TuningError, match="first-block, taylorseer, magcache"):
        picture(resident, step_cache="no-cache")


def test_magcache_is_for_what_it_was_calibrated_on(
    tiny_models: Mapping[str, Path],
) -> None:
    """Its ratios were measured on FLUX.1-dev, and are wrong for other weights."""
    resident = resident_of("flux1-schnell", tiny_models["flux1-schnell"])

    assert "flux1-dev only" in str(tuning.why_not_cached("magcache", resident))


def test_one_attention_kernel_holds_for_the_process(resident: Any) -> None:
    """A second choice would change models that are loaded, and is refused."""
    backbone = resident.components["transformer"]
    tuning.choose_attention(backbone, "native")

    tuning.choose_attention(backbone, "auto")

    with pytest.raises(TuningError, match="one for all models"):
        tuning.choose_attention(backbone, "_native_math")


@pytest.mark.parametrize("name", ["sage", "no-kernel", "flash_hub"])
def test_an_attention_kernel_that_is_not_there_is_refused(
    resident: Any, name: str
) -> None:
    """What is missing, unknown, or would be downloaded, is an error with its name."""
    if importlib.util.find_spec("sageattention") is not None:
        pytest.skip("sageattention is installed")
    backbone = resident.components["transformer"]

    with pytest.raises(TuningError, match=name):
        tuning.choose_attention(backbone, name)

    tuning.choose_attention(backbone, "native")


def test_compiling_without_room_is_reported(resident: Any) -> None:
    """An offloaded model is not compiled, and its answer says so."""
    resident.plan.mode = "MODEL_OFFLOAD"

    notes = tuning.apply_exact(resident, is_compiled=True)

    assert "not compiled" in notes[0]
    assert not tuning.is_compiled(resident.components["transformer"])


def test_a_compiled_model_leaves_a_step_cache_out(resident: Any) -> None:
    """Compiled blocks cannot be skipped; the answer says so, and is exact."""
    expected = picture(resident)
    backbone = resident.components["transformer"]
    backbone.compile_repeated_blocks(fullgraph=True)
    wanted = job("flux1-dev", step_cache="first-block")

    with torch.compiler.set_stance("force_eager"):  # nothing is really compiled
        (drawn,) = draw(resident, [wanted], ignore)

    assert drawn.warnings == (
        "step cache first-block was left out: the model is compiled as whole blocks",
    )
    assert drawn.pictures[0].pixels == expected


def test_compiling_without_a_compiler_is_reported(
    resident: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without a compiler draws uncompiled, and says so."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)

    assert tuning.apply_exact(resident, is_compiled=True) == (
        "not compiled: no C++ compiler was found",
    )


def test_fp8_weights_take_less_memory_and_are_reported(resident: Any) -> None:
    """Layerwise casting needs nothing that must be installed."""
    exact = picture(resident)
    backbone = resident.components["transformer"]
    before = size_of(backbone)

    assert tuning.quantisation_config("fp8", resident.family) is None
    tuning.store_as_fp8(backbone, torch.float32)
    resident.plan.quantisation = "fp8"

    drawn = draw(resident, [job("flux1-dev")], ignore)[0]
    assert size_of(backbone) < before / 2
    assert "8-bit floats" in drawn.warnings[0]
    assert drawn.pictures[0].pixels != exact


def size_of(module: Any) -> int:
    """Count the bytes of a module's weights."""
    return sum(parameter.nbytes for parameter in module.parameters())


def test_int8_needs_a_package_and_says_which(resident: Any) -> None:
    """Without torchao or quanto, the sentence says what to do."""
    names = ("torchao", "optimum")
    if any(importlib.util.find_spec(name) is not None for name in names):
        assert tuning.quantisation_config("int8", resident.family) is not None
        return

    with pytest.raises(TuningError, match="pip install torchao"):
        tuning.quantisation_config("int8", resident.family)


def test_an_unknown_quantisation_is_named(resident: Any) -> None:
    """The error lists what there is."""
    with pytest.raises(TuningError, match="int8, fp8"):
        tuning.quantisation_config("int3", resident.family)
