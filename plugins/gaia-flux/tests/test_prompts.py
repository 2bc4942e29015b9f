"""Prompt embeddings: kept, bounded, and bit for bit those of the pipelines."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from gaia_core import Capability

from .residents import ignore, job, resident_of

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from gaia_flux.drawing import draw
from gaia_flux.prompts import PromptCache, Words, encode

_LONG = "a red fox " * 40
_FAMILIES = ["flux1-dev", "flux2-klein", "flux2-dev", "sdxl", "sd15"]
_WORDS = Words(prompt="a red fox", max_sequence_length=64)


@pytest.mark.parametrize("family", _FAMILIES)
def test_a_kept_prompt_gives_the_same_picture(
    tiny_models: Mapping[str, Path], family: str
) -> None:
    """A hit, a miss and the pipeline's own encoding give the same bytes."""
    resident, prompts = resident_of(family, tiny_models[family]), PromptCache()
    wanted = job(family, negative_prompt="hens")

    pictures = {
        draw(resident, [wanted], ignore, prompts=kept)[0].pictures[0].pixels
        for kept in (None, prompts, prompts)
    }

    assert pictures == {own_picture(resident, wanted)}
    assert (prompts.misses, prompts.hits) == (1, 1)


def own_picture(resident: Any, wanted: Any) -> bytes:
    """Call the pipeline with the prompt itself."""
    import inspect

    import torch

    pipeline = resident.pipeline(Capability.TEXT_TO_IMAGE)
    pipeline.set_progress_bar_config(disable=True)
    given = {
        "prompt": wanted.prompt,
        "negative_prompt": wanted.negative_prompt,
        "max_sequence_length": 64,
    }
    accepted = inspect.signature(pipeline.__call__).parameters
    image = pipeline(
        **{name: value for name, value in given.items() if name in accepted},
        width=64,
        height=64,
        num_inference_steps=wanted.num_inference_steps,
        generator=[torch.Generator("cpu").manual_seed(wanted.seeds[0])],
    ).images[0]
    return image.tobytes()


def test_a_hit_needs_no_text_encoder(tiny_models: Mapping[str, Path]) -> None:
    """With its prompt kept, a picture is drawn while the encoders are away."""
    resident = resident_of("flux1-dev", tiny_models["flux1-dev"])
    prompts = PromptCache()
    expected = draw(resident, [job("flux1-dev")], ignore, prompts=prompts)

    resident.components |= {"text_encoder": None, "text_encoder_2": None}
    drawn = draw(resident, [job("flux1-dev")], ignore, prompts=prompts)

    assert drawn[0].pictures == expected[0].pictures


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a hen"},
        {"negative_prompt": "hens", "is_guided": True},
        {"max_sequence_length": 32},
    ],
    ids=["prompt", "negative", "length"],
)
def test_another_question_is_encoded_anew(
    tiny_models: Mapping[str, Path], change: dict[str, Any]
) -> None:
    """Everything that changes an embedding is part of its key."""
    pipeline = pipeline_of(tiny_models)
    prompts = PromptCache()

    for words in (_WORDS, attrs.evolve(_WORDS, **change)):
        prompts.of(pipeline, words, identity="one", device="cpu")

    assert (len(prompts), prompts.hits) == (2, 0)


def pipeline_of(tiny_models: Mapping[str, Path]) -> Any:
    """Give the tiny FLUX.1-dev pipeline."""
    resident = resident_of("flux1-dev", tiny_models["flux1-dev"])
    return resident.pipeline(Capability.TEXT_TO_IMAGE)


def test_other_encoders_have_their_own_embeddings(
    tiny_models: Mapping[str, Path],
) -> None:
    """Two models share a prompt only where their encoders are the same."""
    pipeline, prompts = pipeline_of(tiny_models), PromptCache()

    for identity in ("one", "two", "one"):
        prompts.of(pipeline, _WORDS, identity=identity, device="cpu")

    assert (len(prompts), prompts.hits) == (2, 1)


def test_the_cache_is_bounded_in_bytes(tiny_models: Mapping[str, Path]) -> None:
    """The prompt that was used longest ago goes first."""
    pipeline = pipeline_of(tiny_models)
    size = sum(value.nbytes for _, value in encode(pipeline, _WORDS, "cpu"))
    prompts = PromptCache(max_bytes=2 * size)

    for prompt in ("a", "b", "a", "c", "a", "b"):
        words = attrs.evolve(_WORDS, prompt=prompt)
        prompts.of(pipeline, words, identity="one", device="cpu")

    assert (len(prompts), prompts.size) == (2, 2 * size)
    assert (prompts.hits, prompts.misses) == (2, 4)


def test_a_cleared_cache_holds_nothing(tiny_models: Mapping[str, Path]) -> None:
    """Clearing gives the memory back."""
    pipeline, prompts = pipeline_of(tiny_models), PromptCache()
    prompts.of(pipeline, _WORDS, identity="one", device="cpu")

    prompts.clear()

    assert (len(prompts), prompts.size) == (0, 0)


def test_embeddings_carry_no_gradients(tiny_models: Mapping[str, Path]) -> None:
    """They are made under `no_grad`, as those of the pipelines are."""
    found = dict(encode(pipeline_of(tiny_models), _WORDS, "cpu"))

    assert not any(value.requires_grad for value in found.values())


@pytest.mark.parametrize(
    ("family", "read"),
    [("flux1-dev", 64), ("flux2-klein", 64), ("flux2-dev", 64), ("sdxl", 77)],
)
def test_what_is_not_read_of_a_prompt_is_reported(
    tiny_models: Mapping[str, Path], family: str, read: int
) -> None:
    """A prompt that is cut off is never cut off silently, in a batch neither."""
    resident = resident_of(family, tiny_models[family])
    short, long = job(family, prompt="a red fox"), job(family, prompt=_LONG)

    drawn = draw(resident, [short, long], ignore)

    assert drawn[0].warnings == ()
    assert re.fullmatch(
        rf"prompt has \d+ tokens, and the model reads the first {read}",
        drawn[1].warnings[0],
    )


def test_what_is_not_read_of_a_negative_prompt_is_reported(
    tiny_models: Mapping[str, Path],
) -> None:
    """Where it counts for something."""
    resident = resident_of("sd15", tiny_models["sd15"])

    (drawn,) = draw(resident, [job("sd15", negative_prompt=_LONG)], ignore)

    assert drawn.warnings[0].startswith("negative_prompt has ")
