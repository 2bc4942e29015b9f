"""Jobs are values: they can be compared, and do not show their pictures."""

from pathlib import Path
from typing import Any

import attrs
import pytest

from gaia_core import Capability
from gaia_flux.jobs import Drawn, Job, LoraFile, Picture


@pytest.fixture(name="job")
def _job() -> Job:
    """Give a job of one picture."""
    return Job(
        id="task-1",
        model="flux1-dev",
        capability=Capability.TEXT_TO_IMAGE,
        prompt="a keep",
        width=512,
        height=512,
        seeds=[7],
        num_inference_steps=4,
    )


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        pytest.param({"id": "task-2"}, True, id="task"),
        pytest.param({"seeds": (1, 2)}, True, id="seeds"),
        pytest.param({"prompt": "a moat"}, True, id="prompt"),
        pytest.param({"negative_prompt": "fog"}, True, id="negative prompt"),
        pytest.param({"width": 256}, False, id="size"),
        pytest.param({"num_inference_steps": 5}, False, id="steps"),
        pytest.param({"guidance_scale": 2.0}, False, id="guidance"),
        pytest.param({"max_sequence_length": 64}, False, id="length"),
        pytest.param({"step_cache": "first-block"}, False, id="step cache"),
        pytest.param({"model": "sdxl"}, False, id="model"),
        pytest.param({"loras": [LoraFile(path="a.safetensors")]}, False, id="LoRA"),
        pytest.param({"image": b"picture"}, False, id="picture"),
    ],
)
def test_shape_is_all_but_words_and_seeds(
    job: Job, changes: dict[str, Any], is_same: bool
) -> None:
    """Jobs share a shape when only task, words and seeds tell them apart."""
    other = attrs.evolve(job, **changes)

    assert (other.shape == job.shape) is is_same


def test_lists_become_tuples(job: Job) -> None:
    """Whoever gives lists gets a value that can be compared and does not change."""
    lora = LoraFile(path="/loras/ink.safetensors", weight=0.5)
    job = attrs.evolve(job, loras=[lora], reference_images=[b"one"])

    assert job.seeds == (7,)
    assert job.loras == (lora,)
    assert job.reference_images == (b"one",)
    assert lora.path == Path("/loras/ink.safetensors")


def test_pictures_are_shown_by_their_length(job: Job) -> None:
    """A log line with a job or a result in it does not hold the picture."""
    shown = repr(attrs.evolve(job, image=b"x" * 999, reference_images=[b"y" * 50]))
    drawn = Drawn(pictures=[Picture(pixels=b"z" * 300, width=10, height=10)])

    assert "<999 bytes>" in shown
    assert "yyy" not in shown
    assert "<300 bytes>" in repr(drawn)
