"""What jobs have shown about memory: believed for a while, and not for ever."""

import gc

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from gaia_flux.experience import PATIENCE, TRUST, Experience
from gaia_flux.memory import UNLIMITED, MemoryPlan, Mode, Need, plan_for
from gaia_flux.setups import Setup
from gaia_flux.studio import Studio

from .studios import (
    Allocator,
    ignore,
    job,
    modules_of,
    need,
    pixels,
)

pytestmark = pytest.mark.usefixtures("quick")

FAST = plan_for(Need(backbone=100, decode=10), UNLIMITED)
SLOW = FAST.lowered_to(Mode.GROUP_OFFLOAD)
SMALL, LARGE = 64 * 64, 128 * 128


@pytest.fixture(name="known")
def _known() -> Experience:
    return Experience()


def modes(known: Experience, wanted: list[MemoryPlan]) -> list[MemoryPlan]:
    """Settle the plans of jobs on one model, which is held as the last one was."""
    held: MemoryPlan | None = None
    found = []
    for plan in wanted:
        held = known.settled("fox", plan, held)
        found.append(held)
    return found


def test_a_large_picture_does_not_slow_small_ones_for_long(known: Experience) -> None:
    """After a few small pictures in a row the model is loaded for them."""
    wanted = [FAST, SLOW, *[FAST] * (PATIENCE + 1)]

    assert modes(known, wanted) == [FAST, *[SLOW] * PATIENCE, FAST, FAST]


def test_a_model_is_not_loaded_for_each_of_alternating_sizes(known: Experience) -> None:
    """A large picture in between has the count of the small ones begin anew."""
    wanted = [SLOW, *([FAST] * (PATIENCE - 1) + [SLOW]) * 3]

    assert set(modes(known, wanted)) == {SLOW}


def test_a_lack_of_memory_is_believed_for_a_while(known: Experience) -> None:
    """Later it is tried again: somebody else may have used the memory."""
    known.ran_out("fox", LARGE, SLOW)

    limits = [known.limit("fox", LARGE) for _ in range(TRUST + 2)]

    assert limits == [SLOW] * TRUST + [None, None]


def test_a_lack_holds_for_its_model_and_from_its_size_on(known: Experience) -> None:
    """Smaller pictures and other models are none the slower; new files begin anew."""
    known.ran_out("fox", LARGE, SLOW)

    assert known.limit("fox", SMALL) is None
    assert known.limit("hen", LARGE) is None
    assert known.limit("fox", 2 * LARGE) == SLOW
    known.forget("fox")
    assert known.limit("fox", LARGE) is None


def test_small_pictures_are_fast_again_after_a_large_one(setup: Setup) -> None:
    """The model goes back to where it lay, leaves nothing behind, and draws alike."""
    model = "flux1-schnell"
    needed = plan_for(need(setup, model, 128), UNLIMITED).needed
    studio = Studio(setup, around=Allocator(needed - 1))
    small, large = job(model), job(model, width=128, height=128)
    expected = pixels(studio.draw([small], ignore))

    studio.draw([large], ignore)
    before = studio.residents[0].plan.mode
    slow = [pixels(studio.draw([small], ignore)) for _ in range(PATIENCE - 1)]
    modules = modules_of(studio)
    gc.disable()  # what is left is found by the studio, and not by luck
    try:
        fast = studio.draw([small], ignore)
        left = [module() for module in modules]
    finally:
        gc.enable()

    assert before is not Mode.FULL
    assert studio.residents[0].plan.mode is Mode.FULL
    assert [*slow, pixels(fast)] == [expected] * PATIENCE
    assert fast[0].warnings == ()
    assert left == [None] * len(modules)
    studio.close()
