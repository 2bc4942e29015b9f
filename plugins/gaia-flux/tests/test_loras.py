"""LoRAs act on their own call alone, and what cannot be worn says why."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from .residents import ignore, job, resident_of
from .studios import need

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("peft", reason="LoRAs need peft")

import torch
from safetensors.torch import load_file, save_file

from gaia_flux import tiny, tuning
from gaia_flux.drawing import draw
from gaia_flux.families import FAMILIES
from gaia_flux.jobs import LoraFile, StoppedError
from gaia_flux.loading import Wanted, place_of
from gaia_flux.loras import LoraError
from gaia_flux.memory import UNLIMITED, Mode, plan_for
from gaia_flux.residence import Residence
from gaia_flux.setups import Setup

FAMILY = "flux1-dev"


@pytest.fixture(name="resident")
def _resident(tiny_models: Mapping[str, Path]) -> Any:
    return resident_of(FAMILY, tiny_models[FAMILY])


@pytest.fixture(scope="module", name="fox")
def _fox(tmp_path_factory: pytest.TempPathFactory) -> LoraFile:
    """Give a LoRA for the tiny model."""
    folder = tmp_path_factory.mktemp("loras")
    return LoraFile(path=tiny.build_lora(FAMILY, folder / "fox.safetensors"))


def picture(resident: Any, *loras: LoraFile, **changes: Any) -> bytes:
    """Draw one picture."""
    wanted = job(FAMILY, loras=loras, **changes)
    return draw(resident, [wanted], ignore)[0].pictures[0].pixels


def test_a_lora_is_taken_off_again(resident: Any, fox: LoraFile) -> None:
    """It changes its own job's picture; the next one is as before."""
    tuning.fuse(resident.components["transformer"])
    plain = picture(resident)

    worn = picture(resident, fox)

    assert worn != plain
    assert picture(resident) == plain
    assert picture(resident, fox) == worn


def test_loras_are_added_up_by_their_weights(resident: Any, fox: LoraFile) -> None:
    """Two halves draw what the whole draws, and nothing is nothing."""
    half, nothing = attrs.evolve(fox, weight=0.5), attrs.evolve(fox, weight=0.0)
    whole = picture(resident, fox)

    halves = picture(resident, half, half)

    assert max(abs(a - b) for a, b in zip(whole, halves, strict=True)) <= 1
    assert picture(resident, nothing) == picture(resident)


@pytest.mark.parametrize("mode", list(Mode), ids=str)
def test_where_weights_lie_does_not_matter(
    setup: Setup, resident: Any, fox: LoraFile, mode: Mode
) -> None:
    """Under every plan it acts alike, is taken off, and survives a stopped job."""
    spec = setup.models[f"tiny-{FAMILY}"]
    wanted = Wanted(
        spec=spec,
        family=FAMILIES[FAMILY],
        place=place_of(spec, None),
        dtype=torch.float32,
    )
    plan = plan_for(need(setup, FAMILY), UNLIMITED).lowered_to(mode)
    residence = Residence(device=torch.device("cpu"), budget=UNLIMITED)
    held = residence.add(wanted, plan)
    given = {"max_sequence_length": 64, "guidance_scale": 3.5}
    expected = [picture(resident, *worn, **given) for worn in ((), (fox,))]

    with pytest.raises(StoppedError):
        draw(held, [job(FAMILY, loras=(fox,))], _stop)

    assert [picture(held, *worn, **given) for worn in ((), (fox,))] == expected


def _stop(fraction: float, _preview: object) -> None:
    if fraction > 0:
        raise StoppedError


def test_a_lora_that_widens_the_model_is_taken_off_too(
    resident: Any, fox: LoraFile, tmp_path: Path
) -> None:
    """Those that want a picture enlarge the first layer, which gets its own back."""
    plain = picture(resident)
    layer = resident.components["transformer"].x_embedder
    rows, columns = layer.weight.shape
    file = tmp_path / "control.safetensors"
    key = "transformer.x_embedder"
    wider = {
        f"{key}.lora_A.weight": torch.ones(2, 2 * columns),
        f"{key}.lora_B.weight": torch.ones(rows, 2),
    }
    save_file(load_file(fox.path) | wider, file)

    with pytest.raises(LoraError, match="wants a picture to control it"):
        picture(resident, LoraFile(path=file))

    assert layer is not resident.components["transformer"].x_embedder
    assert picture(resident) == plain


def test_weights_in_fp8_wear_none(resident: Any, fox: LoraFile) -> None:
    """In eight bits most of a LoRA would be zero; the sentence says what to set."""
    resident.plan.quantisation = "fp8"

    with pytest.raises(LoraError, match='quantisation = "int8"'):
        picture(resident, fox)


def _cut(path: Path, _fox: Path) -> None:
    path.write_bytes(_fox.read_bytes()[:-100])


def _of_another_model(path: Path, _fox: Path) -> None:
    tiny.build_lora("sdxl", path)


def _of_other_sizes(path: Path, fox: Path) -> None:
    weights = load_file(fox)
    save_file({name: one[:3].contiguous() for name, one in weights.items()}, path)


def _empty(path: Path, _fox: Path) -> None:
    save_file({}, path)


@pytest.mark.parametrize(
    "spoil",
    [_cut, _of_another_model, _of_other_sizes, _empty],
    ids=lambda one: one.__name__.strip("_"),
)
def test_a_file_that_does_not_fit_is_named(
    resident: Any, fox: LoraFile, tmp_path: Path, spoil: Any
) -> None:
    """The sentence names the file; the next picture is the usual one."""
    plain = picture(resident)
    path = tmp_path / "hen.safetensors"
    spoil(path, fox.path)

    with pytest.raises(LoraError, match=r"hen\.safetensors (does not fit|changes)"):
        picture(resident, fox, LoraFile(path=path))

    assert picture(resident) == plain


@pytest.mark.parametrize(
    ("name", "words"),
    [("fox.pt", r"not a \.safetensors file"), ("gone.safetensors", "is not there")],
    ids=["pickle", "gone"],
)
def test_a_file_that_is_not_loaded_is_named(
    resident: Any, tmp_path: Path, name: str, words: str
) -> None:
    """Nothing but safetensors is opened, and a path that leads nowhere is shown."""
    (tmp_path / "fox.pt").write_bytes(b"")

    with pytest.raises(LoraError, match=words):
        picture(resident, LoraFile(path=tmp_path / name))
