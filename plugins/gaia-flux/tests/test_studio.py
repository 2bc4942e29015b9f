"""The studio: models in turn, memory that runs out, what it tells of itself."""

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from safetensors.torch import load_file, save_file

from gaia_core import Capability
from gaia_flux.families import FAMILIES
from gaia_flux.jobs import StoppedError
from gaia_flux.memory import OutOfMemoryError, plan_for
from gaia_flux.residence import size_of
from gaia_flux.setups import Setup
from gaia_flux.studio import Studio
from gaia_flux.tuning import TuningError
from gaia_flux.weights import WeightsError

from .studios import (
    Allocator,
    ignore,
    job,
    need,
    pixels,
    room_for_one,
    stop,
    with_room,
)

pytestmark = pytest.mark.usefixtures("quick")

Make = Callable[..., Studio]
FAMILIES_IN_TURN = ("flux1-dev", "flux1-schnell", "sdxl")


@pytest.fixture(name="make")
def _make() -> Iterator[Make]:
    """Make studios that are closed after the test."""
    made: list[Studio] = []

    def make(setup: Setup, **options: Allocator) -> Studio:
        made.append(Studio(setup, **options))
        return made[-1]

    yield make
    for studio in made:
        studio.close()


@pytest.fixture(name="studio")
def _studio(make: Make, setup: Setup) -> Studio:
    return make(setup)


def test_seed_gives_the_same_picture_every_time(studio: Studio) -> None:
    """Equal jobs give equal bytes, another seed other ones."""
    first = studio.draw([job("flux1-schnell")], ignore)
    second = studio.draw([job("flux1-schnell")], ignore)
    other = studio.draw([job("flux1-schnell", seed=8)], ignore)

    assert pixels(first) == pixels(second) != pixels(other)
    assert first[0].seconds > 0
    assert first[0].warnings == ()


def test_models_in_turn_draw_what_they_draw_alone(
    make: Make, studio: Studio, setup: Setup
) -> None:
    """With room for one model, alternating jobs give the usual bytes."""
    jobs = [job(family) for family in FAMILIES_IN_TURN]
    expected = [pixels(studio.draw([one], ignore)) for one in jobs]
    small = make(room_for_one(setup, FAMILIES_IN_TURN))

    rounds = [[pixels(small.draw([one], ignore)) for one in jobs] for _ in range(2)]

    assert rounds == [expected, expected]
    assert small.loaded() == ("tiny-sdxl",)
    assert len(studio.loaded()) == len(FAMILIES_IN_TURN)


def test_picture_after_a_stopped_job_is_the_usual_one(studio: Studio) -> None:
    """A job that nobody waits for any more leaves no trace."""
    wanted = job("flux1-schnell")
    expected = pixels(studio.draw([wanted], ignore))

    with pytest.raises(StoppedError):
        studio.draw([attrs.evolve(wanted, num_inference_steps=4)], stop)

    assert pixels(studio.draw([wanted], ignore)) == expected


def test_replaced_weights_are_loaded_anew(
    make: Make, setup: Setup, tmp_path: Path
) -> None:
    """A model that was upgraded draws as the new one, not as what is in memory."""
    spec = setup.models["tiny-flux1-schnell"]
    folder = tmp_path / "model"
    shutil.copytree(spec.source.path or "", folder)
    changed = attrs.evolve(spec, source=attrs.evolve(spec.source, path=folder))
    studio = make(attrs.evolve(setup, models={spec.id: changed}))
    first = pixels(studio.draw([job("flux1-schnell")], ignore))
    again = pixels(studio.draw([job("flux1-schnell")], ignore))

    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    halved = {name: tensor / 2 for name, tensor in load_file(file).items()}
    save_file(halved, file, {"format": "pt"})

    assert first == again
    assert pixels(studio.draw([job("flux1-schnell")], ignore)) != first


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `create`"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
    ],
    ids=["cuda", "mps", "cublas", "cpu"],
)
def test_memory_that_runs_out_is_answered_by_a_lower_plan(
    make: Make, studio: Studio, setup: Setup, error: RuntimeError
) -> None:
    """The picture is drawn all the same, the plan kept, and the warnings say so."""
    wanted = job("flux1-schnell")
    expected = pixels(studio.draw([wanted], ignore))
    limit = plan_for(need(setup, "flux1-schnell"), 2**40).needed - 1
    allocator = Allocator(limit, error=error)
    small = make(setup, around=allocator)

    first = small.draw([wanted], ignore)
    second = small.draw([wanted], ignore)

    assert pixels(first) == pixels(second) == expected
    assert allocator.failures == 1
    assert "memory ran out with the plan 'full'" in first[0].warnings[0]
    assert "model offload" in first[0].warnings[0]
    assert second[0].warnings == ()
    assert "model offload" in small.figures()["models"]["tiny-flux1-schnell"]


def test_another_failure_of_a_device_is_no_lack_of_memory(
    make: Make, setup: Setup
) -> None:
    """It is not tried again, and nobody is told to ask for a smaller picture."""
    broken = RuntimeError("CUDA error: an illegal memory access was encountered")
    studio = make(setup, around=Allocator(0, error=broken))

    with pytest.raises(RuntimeError, match="illegal memory access"):
        studio.draw([job("flux1-schnell")], ignore)


def test_second_lack_of_memory_is_an_error_with_a_next_step(
    make: Make, studio: Studio, setup: Setup
) -> None:
    """Once is tried again and no more; afterwards other models draw as usual."""
    allocator = Allocator(0)
    small = make(setup, around=allocator)

    with pytest.raises(OutOfMemoryError, match="ask for a smaller picture"):
        small.draw([job("flux1-schnell")], ignore)
    allocator.limit = 2**40

    assert allocator.failures == 2
    drawn = small.draw([job("sdxl")], ignore)
    assert pixels(drawn) == pixels(studio.draw([job("sdxl")], ignore))


def test_batch_that_does_not_fit_is_given_back_at_once(
    make: Make, setup: Setup
) -> None:
    """Whoever made the batch draws its jobs alone, with the plan they have alone."""
    alone = plan_for(need(setup, "flux1-schnell"), 2**40)
    allocator = Allocator(alone.needed)
    small = make(setup, around=allocator)
    jobs = [job("flux1-schnell", seed=seed) for seed in range(8)]

    with pytest.raises(OutOfMemoryError):
        small.draw(jobs, ignore)
    drawn = small.draw(jobs[:1], ignore)

    assert drawn[0].warnings == ()
    assert "full" in small.figures()["models"]["tiny-flux1-schnell"]


def test_large_picture_is_decoded_in_tiles_where_memory_is_short(
    make: Make, studio: Studio, setup: Setup
) -> None:
    """Tiling changes a picture, so it is reported; a small one is left alone."""
    wanted = job("flux1-schnell", width=1024, height=512, num_inference_steps=1)
    tiny = make(with_room(setup, 3 * 2**29))

    tiled = tiny.draw([wanted], ignore)
    plain = studio.draw([wanted], ignore)
    small = tiny.draw([job("flux1-schnell")], ignore)

    assert any("in tiles" in warning for warning in tiled[0].warnings)
    assert pixels(tiled) != pixels(plain)
    assert plain[0].warnings == ()
    assert small[0].warnings == ()
    assert pixels(small) == pixels(studio.draw([job("flux1-schnell")], ignore))


def test_tiles_of_one_model_do_not_reach_another(
    make: Make, studio: Studio, setup: Setup
) -> None:
    """An autoencoder that models share decodes each as its own plan says."""
    wanted = job("flux1-schnell", width=128, height=128)
    expected = pixels(studio.draw([wanted], ignore))
    full = plan_for(need(setup, "flux1-dev", 128), 2**40)
    allocator = Allocator(2**40)
    small = make(setup, around=allocator)

    small.draw([job("flux1-dev")], ignore)
    (resident,) = small.residents
    resident.plan = attrs.evolve(full, has_vae_tiling=True)
    resident.tile()

    assert pixels(small.draw([wanted], ignore)) == expected


@pytest.mark.parametrize(
    ("name", "words", "package"),
    [("fp8", "8-bit floats", "torch"), ("int8", "8-bit integers", "torchao")],
    ids=["fp8", "int8"],
)
def test_named_opt_ins_are_reported(
    make: Make, setup: Setup, name: str, words: str, package: str
) -> None:
    """Quantised weights and step caches are said in the warnings of every answer."""
    pytest.importorskip(package)
    studio = make(attrs.evolve(setup, quantisation=name, step_cache="first-block"))

    first = studio.draw([job("flux1-schnell")], ignore)
    second = studio.draw([job("flux1-schnell")], ignore)

    assert any(words in warning for warning in first[0].warnings)
    assert any("first-block" in warning for warning in first[0].warnings)
    assert name in studio.figures()["models"]["tiny-flux1-schnell"]
    assert pixels(first) == pixels(second)
    (resident,) = studio.residents
    backbone = resident.components["transformer"]
    assert size_of(backbone) < 0.6 * 4 * backbone.num_parameters()


def test_absent_model_says_how_to_get_it(make: Make, setup: Setup) -> None:
    """Nothing is fetched while drawing."""
    spec = setup.models["tiny-sdxl"]
    gone = attrs.evolve(
        spec, source=attrs.evolve(spec.source, path=None, repository="nobody/sdxl")
    )
    studio = make(attrs.evolve(setup, models={spec.id: gone}))

    with pytest.raises(WeightsError, match="gaia flux pull tiny-sdxl"):
        studio.draw([job("sdxl")], ignore)


def test_model_that_nobody_set_is_refused(studio: Studio) -> None:
    """A job can name no model but those of the setup."""
    with pytest.raises(ValueError, match="no model 'tiny-unknown'"):
        studio.draw([job("unknown")], ignore)


def test_capability_that_a_family_lacks_is_refused(studio: Studio) -> None:
    """A studio draws what the card says, and nothing else."""
    with pytest.raises(ValueError, match="cannot do"):
        studio.draw([job("flux1-fill")], ignore)


@pytest.mark.parametrize("family", ["flux1-schnell", "flux1-fill", "latent-upscaler"])
def test_warmed_model_is_loaded(studio: Studio, family: str) -> None:
    """Also one that draws nothing from words alone."""
    assert FAMILIES[family].pipelines

    studio.warm_up(f"tiny-{family}")

    assert studio.loaded() == (f"tiny-{family}",)


def test_figures_tell_of_device_memory_and_models(studio: Studio) -> None:
    """What the doctor and the host ask for, before and after a job."""
    before = studio.figures()
    studio.draw([job("flux1-schnell")], ignore)
    after = studio.figures()

    assert before["device"] == "CPU"
    assert before["budget_bytes"] is None
    assert before["models"] == {}
    assert after["model_bytes"] > before["model_bytes"] == 0
    assert after["models"]["tiny-flux1-schnell"].startswith("full: everything stays")
    assert after["prompts"]["kept"] == 1


def test_prompts_are_shared_by_models_with_equal_encoders(studio: Studio) -> None:
    """Words that one model has encoded need not be encoded for the next one."""
    words = {"max_sequence_length": 64}
    studio.draw([job("flux1-schnell", **words)], ignore)
    studio.draw([job("flux1-schnell", seed=9, **words)], ignore)

    assert studio.figures()["prompts"]["hits"] == 1
    assert studio.figures()["prompts"]["misses"] == 1


def test_closed_studio_has_let_go_of_everything(studio: Studio) -> None:
    """No model and no prompt stays; a later job would load anew."""
    studio.draw([job("flux1-schnell")], ignore)

    studio.close()

    assert studio.loaded() == ()
    assert studio.figures()["model_bytes"] == 0
    assert studio.figures()["prompts"]["bytes"] == 0


def test_other_threads_are_refused(studio: Studio) -> None:
    """A pipeline that two threads use draws nonsense, so the mistake is an error."""
    found: list[Exception] = []

    def draw() -> None:
        try:
            studio.draw([job("flux1-schnell")], ignore)
        except RuntimeError as error:
            found.append(error)

    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()

    assert "thread that made it" in str(found[0])


@pytest.mark.parametrize("device", ["auto", "cuda:7"])
def test_device_that_is_not_there_is_refused(setup: Setup, device: str) -> None:
    """Drawing on the processor is never a surprise."""
    import torch

    if torch.cuda.device_count() > 7 or (device == "auto" and _has_accelerator()):
        pytest.skip("this machine has the device")

    with pytest.raises(TuningError, match="device"):
        Studio(attrs.evolve(setup, device=device))


def _has_accelerator() -> bool:
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


def test_capabilities_share_one_model(studio: Studio) -> None:
    """Another capability of a model needs no second copy of its weights."""
    from .residents import job as job_of

    studio.draw([job("flux1-schnell")], ignore)
    before = studio.figures()["model_bytes"]
    studio.draw([job_of("flux1-schnell", Capability.INPAINTING)], ignore)

    assert studio.figures()["model_bytes"] == before
