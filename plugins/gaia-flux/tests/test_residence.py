"""What stays in memory and what goes, and that nothing is left of what went."""

import gc
from collections.abc import Iterator, Mapping

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch

from gaia_flux.drawing import draw
from gaia_flux.families import FAMILIES
from gaia_flux.jobs import StoppedError
from gaia_flux.loading import Wanted, place_of
from gaia_flux.memory import UNLIMITED, Mode, OutOfMemoryError, plan_for
from gaia_flux.models import ModelSpec
from gaia_flux.residence import Residence, budget_of
from gaia_flux.setups import Setup
from gaia_flux.studio import Studio

from .studios import (
    Allocator,
    ignore,
    job,
    modules_of,
    need,
    pixels,
    room_for_one,
    stop,
    with_room,
)

pytestmark = pytest.mark.usefixtures("quick")

SWITCHES = 20
PAIR = ("flux1-schnell", "sdxl")


@pytest.fixture(name="small")
def _small(setup: Setup) -> Iterator[Studio]:
    """Give a studio with room for one of two models."""
    studio = Studio(room_for_one(setup, PAIR))
    yield studio
    studio.close()


def live_bytes() -> int:
    """Count the bytes of all tensors that anybody still refers to."""
    gc.collect()
    storages = {}
    for one in gc.get_objects():
        if type(one) in {torch.Tensor, torch.nn.Parameter}:
            storage = one.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def test_least_recently_used_goes_first(setup: Setup) -> None:
    """With room for two, the model that was used longest ago makes room."""
    families = ("flux1-schnell", "sdxl", "sd15")
    needs = [need(setup, family) for family in families]
    beside = max(max(each.activations, each.decode) for each in needs)
    sizes = sorted(each.weights for each in needs)
    studio = Studio(with_room(setup, int(1.02 * (sizes[-1] + sizes[-2] + beside))))

    for family in ("flux1-schnell", "sdxl", "flux1-schnell", "sd15"):
        studio.draw([job(family)], ignore)

    assert studio.loaded() == ("tiny-flux1-schnell", "tiny-sd15")
    assert studio.figures()["evictions"] == 1
    studio.close()


def test_what_fits_stays(setup: Setup) -> None:
    """Without a limit nothing is loaded twice."""
    studio = Studio(setup)

    for family in (*PAIR, *PAIR):
        studio.draw([job(family)], ignore)

    assert studio.figures()["evictions"] == 0
    assert set(studio.loaded()) == {f"tiny-{family}" for family in PAIR}
    studio.close()


def test_switching_models_leaves_nothing_behind(small: Studio) -> None:
    """After twenty switches the same bytes are in use as after the first two."""
    jobs = [job(family) for family in PAIR]
    for one in jobs:
        small.draw([one], ignore)
    before = live_bytes()

    for number in range(SWITCHES):
        small.draw([jobs[number % 2]], ignore)

    assert live_bytes() == before
    assert small.figures()["evictions"] == SWITCHES + 1


def test_modules_die_with_their_model(small: Studio) -> None:
    """No pipeline, cache or hook keeps a model alive that made room for another."""
    small.draw([job("flux1-schnell")], ignore)
    modules = modules_of(small)

    small.draw([job("sdxl")], ignore)

    assert len(modules) == 4
    assert [module() for module in modules] == [None] * len(modules)


def test_modules_of_a_stopped_job_die_too(small: Studio) -> None:
    """An error in the middle of a step refers to nothing once it is handled."""
    small.draw([job("flux1-schnell")], ignore)
    modules = modules_of(small)

    with pytest.raises(StoppedError):
        small.draw([job("flux1-schnell")], stop)
    small.draw([job("sdxl")], ignore)

    assert [module() for module in modules] == [None] * len(modules)


def test_modules_die_when_memory_runs_out(setup: Setup) -> None:
    """The second attempt begins with nothing of the first one in memory."""
    allocator = Allocator(2**40)
    studio = Studio(setup, around=allocator)
    studio.draw([job("flux1-schnell")], ignore)
    modules = modules_of(studio)
    allocator.limit = 0

    with pytest.raises(OutOfMemoryError):
        studio.draw([job("flux1-schnell")], ignore)

    assert [module() for module in modules] == [None] * len(modules)
    assert studio.loaded() == ()


def test_offloaded_models_take_turns_in_main_memory(setup: Setup) -> None:
    """Main memory has room for one model that does not fit on the device."""
    studio = Studio(setup, around=Allocator(0))

    for family in PAIR:
        with pytest.raises(OutOfMemoryError):
            studio.draw([job(family)], ignore)

    assert studio.loaded() == ()
    studio.close()


@pytest.mark.parametrize("mode", list(Mode), ids=str)
@pytest.mark.parametrize("family", ["flux1-schnell", "flux2-klein", "sdxl", "sd15"])
def test_where_weights_lie_does_not_change_a_picture(
    setup: Setup, expected: dict[str, bytes], family: str, mode: Mode
) -> None:
    """Under every plan the bytes are the same, also after a job that was stopped."""
    spec = setup.models[f"tiny-{family}"]
    plan = plan_for(need(setup, family), UNLIMITED).lowered_to(mode)
    residence = Residence(device=torch.device("cpu"), budget=UNLIMITED)
    wanted = Wanted(
        spec=spec,
        family=FAMILIES[family],
        place=place_of(spec, None),
        dtype=torch.float32,
    )

    resident = residence.add(wanted, plan)
    first = pixels(draw(resident, [job(family)], ignore))
    with pytest.raises(StoppedError):
        draw(resident, [job(family)], stop)
    second = pixels(draw(resident, [job(family)], ignore))

    assert first == second == [expected[family]]


@pytest.fixture(name="expected", scope="module")
def _expected(specs: Mapping[str, ModelSpec]) -> dict[str, bytes]:
    """Draw a picture with each model, all of it in memory."""
    studio = Studio(Setup(device="cpu", dtype="float32", models=specs))
    families = ("flux1-schnell", "flux2-klein", "sdxl", "sd15")
    found = {each: pixels(studio.draw([job(each)], ignore))[0] for each in families}
    studio.close()
    return found


def test_budget_is_what_the_settings_say() -> None:
    """On the processor there is no limit unless somebody sets one."""
    device = torch.device("cpu")

    assert budget_of(device, None) == UNLIMITED
    assert budget_of(device, 2) == 2 * 2**30
