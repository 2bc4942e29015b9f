"""The catalogue is sound, and the settings' own models are read with care."""

import math
from pathlib import Path
from typing import Any

import pytest

from gaia_core import FREE, Capability, ModelState
from gaia_flux.families import FAMILIES
from gaia_flux.models import CATALOGUE, ModelSpec, Source, card_of, specs_of

every_model = pytest.mark.parametrize(
    "spec", [pytest.param(one, id=one.id) for one in CATALOGUE]
)


@every_model
def test_models_of_the_catalogue_are_sound(spec: ModelSpec) -> None:
    """Each has a family, a repository, a maker and a licence."""
    assert spec.family in FAMILIES
    assert spec.source.repository
    assert spec.creator
    assert spec.licence
    assert spec.source.file is None or spec.config is not None


@pytest.mark.parametrize(
    "name", ["lightning_4step", "lightning_8step", "juggernaut_xi"]
)
def test_keys_of_the_host_are_names(name: str) -> None:
    """The names its host has used until now lead to a model."""
    (spec,) = [one for one in CATALOGUE if name in one.aliases]

    assert FAMILIES[spec.family].backbone == "unet"


def test_own_models_come_to_the_catalogue() -> None:
    """A section names a family and a path; the rest has defaults."""
    specs = specs_of({"mine": {"family": "flux1-dev", "path": "weights/mine"}})

    assert len(specs) == len(CATALOGUE) + 1
    assert specs["mine"] == ModelSpec(
        id="mine",
        name="mine",
        family="flux1-dev",
        source=Source(path=Path("weights/mine")),
    )


def test_all_that_a_section_may_say_is_read() -> None:
    """Names, steps, guidance, quality, speed and where a file's rest is."""
    table = {
        "family": "sdxl",
        "repository": "someone/dungeon",
        "revision": "0" * 40,
        "file": "dungeon.safetensors",
        "config": "stabilityai/stable-diffusion-xl-base-1.0",
        "name": "Dungeon",
        "aliases": "cellar",
        "creator": "someone",
        "licence": "MIT",
        "default_steps": 12,
        "default_guidance": 6,
        "quality": "high",
        "speed": "slow",
    }

    spec = specs_of({"dungeon": table})["dungeon"]

    assert spec.aliases == ("cellar",)
    assert spec.source == Source(
        repository="someone/dungeon", revision="0" * 40, file="dungeon.safetensors"
    )
    assert spec.config == Source(repository="stabilityai/stable-diffusion-xl-base-1.0")
    assert (spec.default_steps, spec.default_guidance) == (12, 6)


@pytest.mark.parametrize(
    ("given", "scheduler"),
    [
        pytest.param("DDIMScheduler", ("DDIMScheduler", {}), id="name"),
        pytest.param(
            {"name": "DDIMScheduler", "timestep_spacing": "trailing"},
            ("DDIMScheduler", {"timestep_spacing": "trailing"}),
            id="options",
        ),
    ],
)
def test_scheduler_is_read(given: object, scheduler: tuple[str, Any]) -> None:
    """A name alone, or a table with what it is made with."""
    table = {"family": "sdxl", "path": "a", "scheduler": given}

    assert specs_of({"mine": table})["mine"].scheduler == scheduler


def test_own_lightning_has_the_scheduler_it_was_distilled_with() -> None:
    """With the usual one it would draw nothing but noise in so few steps."""
    spec = specs_of({"mine": {"family": "sdxl-lightning", "path": "a"}})["mine"]
    theirs = next(one for one in CATALOGUE if one.family == spec.family)

    assert spec.scheduler == theirs.scheduler


def test_a_name_of_the_catalogue_can_be_given_anew() -> None:
    """A section stands in for the model of the same name."""
    own = {"flux1-schnell": {"family": "flux1-schnell", "path": "here"}}

    spec = specs_of(own)["flux1-schnell"]

    assert spec.source == Source(path=Path("here"))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        pytest.param({"famly": "sdxl", "path": "a"}, "did you mean 'family'", id="key"),
        pytest.param({"path": "a"}, "family is None", id="no-family"),
        pytest.param(
            {"family": "sdlx", "path": "a"}, "did you mean 'sdxl'", id="family"
        ),
        pytest.param({"family": "sdxl"}, "must be given", id="nowhere"),
        pytest.param(
            {"family": "sdxl", "path": "a", "repository": "a/b"}, "not both", id="both"
        ),
        pytest.param(
            {"family": "sdxl", "repository": "b"}, "not owner/name", id="repository"
        ),
        pytest.param(
            {"family": "sdxl", "repository": "a/b", "revision": "main"},
            "a branch moves",
            id="branch",
        ),
        pytest.param(
            {"family": "sdxl", "repository": "a/b", "file": "a.ckpt"},
            "only .safetensors",
            id="pickle",
        ),
        pytest.param(
            {"family": "sdxl", "path": "a", "config": 7}, "give a folder", id="config"
        ),
        pytest.param(
            {"family": "sdxl", "path": "a", "quality": "hihg"},
            "did you mean 'high'",
            id="quality",
        ),
        pytest.param(
            {"family": "sdxl", "path": "a", "default_steps": 0}, "1 to 500", id="steps"
        ),
        pytest.param(
            {"family": "sdxl", "path": "a", "default_guidance": "x"},
            "not a number",
            id="guidance",
        ),
        pytest.param(
            {"family": "sdxl", "path": "a", "default_guidance": math.nan},
            "not a number",
            id="no-number",
        ),
        pytest.param({"family": ["sdxl"]}, "did you mean 'sdxl'", id="families"),
        pytest.param({"family": "sdxl", "path": 5}, "give a folder", id="path"),
        pytest.param(
            {"family": "sdxl", "path": "a", "file": "b.safetensors"},
            "goes with a `repository`",
            id="file-of-a-path",
        ),
        pytest.param(
            {"family": "sdxl", "path": "a", "revision": "0" * 40},
            "goes with a `repository`",
            id="revision-of-a-path",
        ),
        pytest.param(
            {"family": "sdxl", "repository": "a/b", "file": "../b.safetensors"},
            "its path in the repository",
            id="file-elsewhere",
        ),
        pytest.param(
            {"family": "sdxl", "repository": "a/b", "file": "/b.safetensors"},
            "its path in the repository",
            id="file-of-this-machine",
        ),
        pytest.param(
            {"family": "sdxl", "repository": "a/b", "config": "a/b"},
            "goes with a single file",
            id="config-of-all",
        ),
        pytest.param(
            {"family": "sdxl", "path": "a", "name": 5}, "not words", id="name"
        ),
        pytest.param(
            {"family": "sdxl", "path": "a", "aliases": 5}, "list of names", id="aliases"
        ),
        pytest.param(
            {"family": "sdxl", "path": "a", "scheduler": "DDIMSheduler"},
            "did you mean 'DDIMScheduler'",
            id="scheduler",
        ),
        pytest.param(
            {"family": "sdxl", "path": "a", "scheduler": ["x"]}, "choose", id="no-table"
        ),
        pytest.param("a", "give a table", id="no-section"),
        pytest.param(
            {"family": "sdxl", "path": "a", "aliases": ["schnell"]},
            "a name of flux1-schnell already",
            id="alias",
        ),
    ],
)
def test_wrong_sections_are_refused(table: Any, words: str) -> None:
    """The sentence names the section, the key, and what would be right."""
    with pytest.raises(
        ValueError, match=r"\[providers\.flux\.models\.mine\]"
    ) as caught:
        specs_of({"mine": table})

    assert words in str(caught.value)


def test_a_card_says_what_a_model_can_do() -> None:
    """It has the family's capabilities and fields, and the model's own numbers."""
    spec = next(one for one in CATALOGUE if one.id == "sdxl-lightning-4step")
    state = ModelState(word="on disk")

    card = card_of(
        spec, provider="flux", state=lambda: state, price=FREE, revision="abc"
    )

    assert card.capabilities == FAMILIES["sdxl-lightning"].pipelines.keys()
    assert Capability.OUTPAINTING in card.capabilities
    assert (card.default_steps, card.revision) == (4, "abc")
    assert card.answers_to("lightning_4step")
    assert "negative_prompt" not in card.supported_fields
