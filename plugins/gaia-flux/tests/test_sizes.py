"""Parameters are counted from the headers of files, without torch."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from gaia_core.testing.bench import imported_by
from gaia_flux import sizes
from gaia_flux.families import FAMILIES
from gaia_flux.weights import Place

SCHNELL, SDXL, ESRGAN = (FAMILIES[name] for name in ("flux1-schnell", "sdxl", "esrgan"))


def write(file: Path, **shapes: list[int]) -> Path:
    """Write a sound file of halves, all of them nought."""
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * shape[0]
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * end)
    return file


def test_counting_needs_no_torch() -> None:
    """Listings count, too."""
    assert not imported_by("gaia_flux.sizes") & {"torch", "safetensors", "numpy"}


def test_components_of_a_folder_are_counted(tiny_models: Mapping[str, Path]) -> None:
    """The figures are those of the networks that are loaded."""
    diffusers = pytest.importorskip("diffusers")
    folder = tiny_models["flux1-schnell"]
    network = diffusers.FluxTransformer2DModel.from_pretrained(folder / "transformer")

    counted = sizes.parameters_of(Place(folder=folder), SCHNELL)

    assert counted["transformer"] == network.num_parameters()
    assert set(counted) == {"transformer", "text_encoder", "text_encoder_2", "vae"}


def test_what_is_not_loaded_is_not_counted(tmp_path: Path) -> None:
    """Other precisions and other files beside the weights count for nothing."""
    write(tmp_path / "unet/diffusion_pytorch_model.safetensors", a=[5])
    write(tmp_path / "unet/diffusion_pytorch_model.fp16.safetensors", a=[5])
    write(tmp_path / "unet/diffusion_pytorch_model.non_ema.safetensors", a=[5])
    write(tmp_path / "unet/everything.safetensors", a=[5])
    write(tmp_path / "vae/diffusion_pytorch_model.fp16.safetensors", a=[3])
    write(tmp_path / "text_encoder/model-00001-of-00002.safetensors", a=[1])
    write(tmp_path / "text_encoder/model-00002-of-00002.safetensors", a=[1])

    counted = sizes.parameters_of(Place(folder=tmp_path), SDXL)

    assert counted == {"unet": 5, "vae": 3, "text_encoder": 2}


def test_whole_model_in_one_file_is_counted(tmp_path: Path) -> None:
    """Its tensors tell by their names what they are of; averages are not loaded."""
    shapes = {
        "model.diffusion_model.a": [7],
        "first_stage_model.a": [3],
        "conditioner.embedders.0.a": [2],
        "conditioner.embedders.1.a": [4],
        "model_ema.a": [7],
    }
    file = write(tmp_path / "all.safetensors", **shapes)

    counted = sizes.parameters_of(Place(file=file), SDXL)

    assert counted == {"unet": 7, "vae": 3, "text_encoder": 2, "text_encoder_2": 4}


def test_backbone_in_one_file_goes_with_what_lies_beside(tmp_path: Path) -> None:
    """What is neither in the file nor in the folder is as usual in the family."""
    file = write(tmp_path / "mine.safetensors", a=[7], b=[1])
    write(tmp_path / "rest/vae/diffusion_pytorch_model.safetensors", a=[3])
    write(tmp_path / "rest/transformer/diffusion_pytorch_model.safetensors", a=[99])

    counted = sizes.parameters_of(Place(file=file, config=tmp_path / "rest"), SCHNELL)

    assert (counted["transformer"], counted["vae"]) == (8, 3)
    assert counted["text_encoder_2"] == int(SCHNELL.billions["text_encoder_2"] * 1e9)


def test_text_encoders_in_a_backbones_file_are_not_loaded(tmp_path: Path) -> None:
    """FLUX takes its network alone from a file that has everything."""
    shapes = {"model.diffusion_model.a": [7], "text_encoders.t5xxl.a": [50]}
    file = write(tmp_path / "mine.safetensors", **shapes)

    assert sizes.parameters_of(Place(file=file), SCHNELL)["transformer"] == 7


def test_network_that_enlarges_is_counted(tmp_path: Path) -> None:
    """It is one file, by itself or in a folder."""
    file = write(tmp_path / "x4.safetensors", a=[6])

    assert sizes.parameters_of(Place(file=file), ESRGAN) == {"upscaler": 6}
    assert sizes.parameters_of(Place(folder=tmp_path), ESRGAN) == {"upscaler": 6}


def test_damaged_file_counts_as_usual(tmp_path: Path) -> None:
    """Whoever loads it is told what is wrong; a listing goes on."""
    (tmp_path / "mine.safetensors").write_bytes(b"\x80pickle")

    counted = sizes.parameters_of(Place(file=tmp_path / "mine.safetensors"), SDXL)

    assert counted["unet"] == int(SDXL.billions["unet"] * 1e9)


def test_replaced_file_is_counted_anew(
    tmp_path: Path, tiny_models: Mapping[str, Path]
) -> None:
    """A header is read again once its file has changed."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_models["flux1-schnell"], folder)
    before = sizes.in_folder(folder)["vae"]

    write(folder / "vae/diffusion_pytorch_model.safetensors", a=[3])

    assert before > 3
    assert sizes.in_folder(folder)["vae"] == 3
