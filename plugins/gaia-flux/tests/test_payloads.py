"""A request becomes a job, or is refused with a sentence."""

from pathlib import Path
from typing import Any

import attrs
import pytest

from gaia_core import (
    Capability,
    GenerateRequest,
    Lora,
    Outpaint,
    ProviderRequestError,
    UpscaleRequest,
)
from gaia_core.requests import MAX_SEED
from gaia_core.testing import png
from gaia_flux import payloads
from gaia_flux.families import FAMILIES
from gaia_flux.jobs import Job, LoraFile
from gaia_flux.models import ModelSpec, Source
from gaia_flux.payloads import MAX_STEPS, Loras


def _spec(family: str = "flux1-dev", **changes: Any) -> ModelSpec:
    facts = {"id": "mine", "name": "Mine", "source": Source(path=Path("/mine"))}
    return ModelSpec(**facts | {"family": family} | changes)


def _job(family: str = "flux1-dev", **given: Any) -> Job:
    of_payload = ("loras_here", "step_cache", "has_previews", "spec")
    extra = {name: given.pop(name) for name in of_payload if name in given}
    spec = extra.pop("spec", _spec(family))
    loras = extra.pop("loras_here", None)
    request = GenerateRequest(**{"prompt": "a keep", **given})
    return payloads.generation(
        request,
        task_id="task-1",
        spec=spec,
        family=FAMILIES[family],
        loras=loras,
        **extra,
    )


def _options(**options: Any) -> dict[str, Any]:
    return {"provider_options": {"flux": options}}


def test_words_and_numbers_are_passed_on() -> None:
    """What a request says stands in the job."""
    job = _job(
        style="ink",
        width=1000,
        height=600,
        seed=5,
        guidance_scale=2.5,
        num_inference_steps=9,
    )

    assert (job.id, job.model) == ("task-1", "mine")
    assert job.capability is Capability.TEXT_TO_IMAGE
    assert job.prompt == "a keep, ink style"
    assert (job.width, job.height) == (1000, 600)
    assert job.seeds == (5,)
    assert job.guidance_scale == 2.5
    assert job.num_inference_steps == 9


def test_pictures_are_passed_on_as_they_came() -> None:
    """Pictures stay encoded: decoding them is the worker's business."""
    image, mask = png(64, 64), png(64, 64, "white")

    job = _job(image=image, mask_image=mask, strength=0.7)

    assert job.capability is Capability.INPAINTING
    assert (job.image, job.mask_image) == (image, mask)
    assert job.strength == 0.7


def test_margins_are_passed_on() -> None:
    """Outpainting names its four sides in the order of the job."""
    job = _job(
        family="flux1-fill",
        image=png(64, 64),
        outpaint=Outpaint(left=1, right=2, top=3, bottom=4),
    )

    assert job.capability is Capability.OUTPAINTING
    assert job.outpaint == (1, 2, 3, 4)


# -- seeds ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "seeds"),
    [
        pytest.param(0, (0, 1, 2), id="from nought"),
        pytest.param(MAX_SEED - 1, (MAX_SEED - 1, MAX_SEED, 0), id="over the top"),
    ],
)
def test_every_picture_has_its_seed(seed: int, seeds: tuple[int, ...]) -> None:
    """Seeds count up, so that every picture can be asked for by itself."""
    assert _job(seed=seed, num_images=3).seeds == seeds


def test_seeds_are_chosen_where_none_is_given() -> None:
    """Without a seed two requests get different ones, which are reported."""
    first, second = _job().seeds, _job().seeds

    assert first != second
    assert 0 <= first[0] <= MAX_SEED


def test_largest_seed_is_one_for_torch() -> None:
    """Torch takes every seed that a request may have."""
    torch = pytest.importorskip("torch")

    assert torch.Generator("cpu").manual_seed(MAX_SEED)


# -- steps ----------------------------------------------------------------------------


def test_steps_are_the_models_own() -> None:
    """Without a number a job takes the model's steps, else the family's."""
    usual = FAMILIES["flux1-dev"].default_steps

    assert _job().num_inference_steps == usual
    assert _job(spec=_spec(default_steps=12)).num_inference_steps == 12


def test_too_many_steps_are_refused() -> None:
    """Steps that no model gains by are refused with the number that is usual."""
    with pytest.raises(ProviderRequestError, match=f"at most {MAX_STEPS}"):
        _job(num_inference_steps=MAX_STEPS + 1)


# -- what a family does not know ------------------------------------------------------


def test_many_steps_are_taken_where_they_are_usual() -> None:
    """A model whose settings say 200 steps is not refused each of its requests."""
    spec = _spec(default_steps=200)

    assert _job(spec=spec).num_inference_steps == 200
    with pytest.raises(ProviderRequestError, match="at most 200"):
        _job(spec=spec, num_inference_steps=201)


def test_unknown_fields_are_left_out() -> None:
    """A distilled model gets no guidance: Gaia itself warns that it is ignored."""
    assert "guidance_scale" not in FAMILIES["flux1-schnell"].fields

    assert _job(family="flux1-schnell", guidance_scale=7.0).guidance_scale is None


def test_negative_prompt_comes_with_real_guidance() -> None:
    """FLUX.1 heeds a negative prompt once it is guided for real."""
    job = _job(negative_prompt="fog", **_options(true_cfg_scale=3))

    assert (job.negative_prompt, job.true_cfg_scale) == ("fog", 3.0)


def test_negative_prompt_of_sdxl() -> None:
    """SDXL heeds one always."""
    assert _job(family="sdxl", negative_prompt="fog").negative_prompt == "fog"


# -- options --------------------------------------------------------------------------


def test_options_stand_in_the_job() -> None:
    """A request's options come before those of the settings."""
    scheduler = FAMILIES["flux1-dev"].schedulers[0]

    job = _job(
        step_cache="taylorseer",
        **_options(
            max_sequence_length=64,
            scheduler=scheduler,
            step_cache="first-block",
            has_previews=False,
        ),
    )

    assert job.max_sequence_length == 64
    assert job.scheduler == scheduler
    assert job.step_cache == "first-block"
    assert not job.has_previews


def test_settings_are_the_default() -> None:
    """Without options, step cache and previews are as the settings say."""
    job = _job(step_cache="taylorseer", has_previews=False)

    assert job.step_cache == "taylorseer"
    assert not job.has_previews


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param({"sheduler": "x"}, "did you mean 'scheduler'", id="name"),
        pytest.param({"quantum": 1}, "choose has_previews", id="unlike any"),
        pytest.param({"scheduler": "Euler!"}, "scheduler cannot", id="scheduler"),
        pytest.param({"scheduler": ["x"]}, "scheduler cannot", id="list"),
        pytest.param({"step_cache": "first-blok"}, "'first-block'", id="step cache"),
        pytest.param({"max_sequence_length": 0}, "1 to", id="too short"),
        pytest.param({"max_sequence_length": 9999}, "1 to", id="too long"),
        pytest.param({"max_sequence_length": True}, "1 to", id="no number"),
        pytest.param({"true_cfg_scale": -1}, "from 0", id="negative"),
        pytest.param({"true_cfg_scale": float("nan")}, "from 0", id="nan"),
        pytest.param({"has_previews": "yes"}, "true or false", id="flag"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    """An option that is unknown or has no such value is refused by its name."""
    with pytest.raises(ProviderRequestError, match=words):
        _job(**_options(**options))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"max_sequence_length": 64}, id="length"),
        pytest.param({"true_cfg_scale": 2}, id="guidance"),
    ],
)
def test_options_of_other_families_are_refused(options: dict[str, Any]) -> None:
    """SDXL has none of what only FLUX.1 knows."""
    with pytest.raises(ProviderRequestError, match="sdxl"):
        _job(family="sdxl", **_options(**options))


def test_step_cache_of_an_upscaler_is_refused() -> None:
    """An option that has no effect is not passed over in silence."""
    request = UpscaleRequest(image=png(8, 8), **_options(step_cache="magcache"))
    family = FAMILIES["latent-upscaler"]

    with pytest.raises(ProviderRequestError, match="leaves out no steps"):
        payloads.upscaling(
            request, task_id="task-1", spec=_spec(family.name), family=family
        )


def test_long_words_are_cut() -> None:
    """What a stranger wrote does not fill the log."""
    with pytest.raises(ProviderRequestError) as caught:
        _job(**_options(**{"x" * 100_000: 1}))

    assert len(str(caught.value)) < 300


# -- LoRAs ----------------------------------------------------------------------------


@pytest.fixture(name="loras")
def _loras(tmp_path: Path) -> Loras:
    """Give one LoRA by name, and a folder with two and a file of another kind."""
    folder = tmp_path / "loras"
    folder.mkdir()
    for name in ("ink.safetensors", "oil.v2.safetensors", "bad.pt"):
        (folder / name).touch()
    return Loras(files={"inkwash": tmp_path / "w.safetensors"}, folder=folder)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        pytest.param("inkwash", "w.safetensors", id="table"),
        pytest.param("ink", "ink.safetensors", id="folder"),
        pytest.param("oil.v2.safetensors", "oil.v2.safetensors", id="whole name"),
    ],
)
def test_loras_are_found_by_name(loras: Loras, name: str, file: str) -> None:
    """A request names a LoRA as the table does, or like a file of the folder."""
    job = _job(loras=[Lora(model=name, weight=0.5)], loras_here=loras)

    (found,) = job.loras
    assert isinstance(found, LoraFile)
    assert (found.path.name, found.weight) == (file, 0.5)


@pytest.mark.parametrize(
    "name",
    ["../w.safetensors", "/etc/passwd", "./ink", "bad", "bad.pt", "ink\0", "*"],
    ids=ascii,
)
def test_no_request_names_a_path(loras: Loras, name: str) -> None:
    """A name is compared and never part of a path."""
    with pytest.raises(ProviderRequestError, match="There is no LoRA"):
        loras.path_of(name)


def test_nearest_lora_is_named(loras: Loras) -> None:
    """Whoever misspells a LoRA is told the nearest one."""
    with pytest.raises(ProviderRequestError, match="did you mean 'inkwash'"):
        loras.path_of("inkwach")


def test_not_all_of_many_loras_are_named(tmp_path: Path) -> None:
    """A sentence about thousands of files names some of them."""
    files = {f"lora-{number}": tmp_path / "x" for number in range(3_000)}

    with pytest.raises(ProviderRequestError, match="one of 2980 more") as caught:
        Loras(files=files).path_of("!")

    assert len(str(caught.value)) < 400


def test_loras_are_explained_where_there_are_none() -> None:
    """Without any, the sentence says where they go."""
    with pytest.raises(ProviderRequestError, match=r"providers\.flux\.loras"):
        Loras().path_of("ink")

    assert not Loras()


# -- upscaling ------------------------------------------------------------------------


def test_upscaling_has_a_size_and_a_seed() -> None:
    """The same picture is enlarged to the same one every time."""
    request = UpscaleRequest(image=png(40, 30), upscale_factor=4)

    jobs = [
        payloads.upscaling(
            request,
            task_id="task-1",
            spec=_spec("latent-upscaler"),
            family=FAMILIES["latent-upscaler"],
        )
        for _ in range(2)
    ]

    assert jobs[0] == jobs[1]
    assert (jobs[0].width, jobs[0].height) == (160, 120)
    assert jobs[0].upscale_factor == 4
    assert attrs.asdict(jobs[0])["image"] == request.image.data
