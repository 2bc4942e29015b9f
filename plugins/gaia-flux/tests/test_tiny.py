"""The tiny models are real pipelines, and the same in every process."""

import hashlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import diffusers
import torch
from safetensors import safe_open

from gaia_flux import tiny

FAMILIES = tuple(tiny.BUILDERS)
DRAWN_FROM_WORDS = tuple(
    family
    for family in FAMILIES
    if family not in {"flux1-fill", "flux1-kontext", "latent-upscaler"}
)
ELSEWHERE = """
import sys
from pathlib import Path
from gaia_flux import tiny
for family in tiny.BUILDERS:
    tiny.build(family, Path(sys.argv[1], family))
"""


def digest(folder: Path) -> str:
    """Return a digest of every file's name and bytes."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(str(path.relative_to(folder)).encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def drawn(pipeline: Any, prompt: str = "a fox", seed: int = 1) -> Any:
    """Return the values of a picture of two steps."""
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator("cpu").manual_seed(seed)]
    return pipeline(
        prompt=prompt,
        width=64,
        height=64,
        num_inference_steps=2,
        generator=generators,
        output_type="np",
    ).images[0]


def test_another_process_builds_the_same_bytes(
    tmp_path: Path, tiny_models: Mapping[str, Path]
) -> None:
    """Weights and vocabularies are equal in every process."""
    subprocess.run([sys.executable, "-c", ELSEWHERE, str(tmp_path)], check=True)

    here = {family: digest(folder) for family, folder in tiny_models.items()}
    there = {family: digest(tmp_path / family) for family in tiny_models}

    assert here == there


def test_a_seed_gives_other_weights(
    tmp_path: Path, tiny_models: Mapping[str, Path]
) -> None:
    """Two models of one family are had by two seeds."""
    other = tiny.build("flux1-schnell", tmp_path / "other", seed=1)

    assert digest(other) != digest(tiny_models["flux1-schnell"])


def test_building_leaves_the_random_numbers_of_the_process(tmp_path: Path) -> None:
    """Whoever draws random numbers gets the same with a model built in between."""
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)

    tiny.build("flux1-schnell", tmp_path / "model")

    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_safetensors_and_small(
    tiny_models: Mapping[str, Path], family: str
) -> None:
    """A folder holds no pickles, and a few hundred kilobytes."""
    files = [path for path in tiny_models[family].rglob("*") if path.is_file()]

    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja"}
    assert sum(path.stat().st_size for path in files) < 3_000_000


@pytest.mark.parametrize("family", DRAWN_FROM_WORDS)
def test_words_and_seeds_make_pictures(
    tiny_models: Mapping[str, Path], family: str
) -> None:
    """Equal requests give equal pictures; other words or seeds give others."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(
        tiny_models[family], local_files_only=True
    )

    picture = drawn(pipeline)

    assert picture.shape == (64, 64, 3)
    assert picture.std() > 0.05
    assert (drawn(pipeline) == picture).all()
    assert (drawn(pipeline, prompt="a red fox in the snow") != picture).any()
    assert (drawn(pipeline, seed=2) != picture).any()


@pytest.mark.parametrize(
    ("family", "pipeline_class"),
    [
        ("sdxl", diffusers.StableDiffusionXLPipeline),
        ("sd15", diffusers.StableDiffusionPipeline),
    ],
    ids=["sdxl", "sd15"],
)
def test_a_single_file_draws_what_its_folder_draws(
    tmp_path: Path, family: Any, pipeline_class: Any
) -> None:
    """A checkpoint in the original layout holds the weights of its folder."""
    file, folder = tiny.build_single_file(family, tmp_path / f"{family}.safetensors")

    from_folder = pipeline_class.from_pretrained(folder, local_files_only=True)
    from_file = pipeline_class.from_single_file(
        str(file), config=str(folder), local_files_only=True
    )

    assert (drawn(from_file) == drawn(from_folder)).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_fits_its_backbone(tmp_path: Path, family: str) -> None:
    """A LoRA names modules of the backbone, with matrices of one rank."""
    path = tiny.build_lora(family, tmp_path / "lora.safetensors")

    with safe_open(path, "pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - the file is no mapping

    downs = {name for name in shapes if name.endswith("lora_A.weight")}
    assert downs
    for down in downs:
        up = down.replace("lora_A", "lora_B")
        assert shapes[down][0] == shapes[up][1]
