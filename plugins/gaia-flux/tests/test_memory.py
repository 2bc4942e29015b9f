"""The memory plan: which one is chosen, what comes below it, and what it says."""

from collections.abc import Iterable
from typing import Any

import pytest

from gaia_flux.families import FAMILIES
from gaia_flux.memory import (
    GB,
    UNLIMITED,
    MemoryPlan,
    Mode,
    Need,
    need_of,
    plan_for,
)

FLUX = {
    "transformer": 11_900_000_000,
    "text_encoder": 123_000_000,
    "text_encoder_2": 4_760_000_000,
    "vae": 84_000_000,
}


def need(*, side: int = 1024, quantisation: str | None = None, images: int = 1) -> Need:
    """Give what FLUX.1-dev takes in bfloat16."""
    return need_of(
        FAMILIES["flux1-dev"],
        dtype="bfloat16",
        quantisation=quantisation,
        width=side,
        height=side,
        num_images=images,
        parameters=FLUX,
    )


def plan(gb: float, **changes: int) -> MemoryPlan:
    """Give the plan for FLUX.1-dev on a card."""
    return plan_for(need(**changes), int(gb * GB))


def test_weights_are_counted_by_their_precision() -> None:
    """A parameter takes two bytes in bfloat16, and one with its scale quantised."""
    assert need().backbone == 2 * FLUX["transformer"]
    assert need().vae == 2 * FLUX["vae"]
    assert need(quantisation="int8").backbone < 1.1 * FLUX["transformer"]
    assert need(quantisation="int8").text_encoders == need().text_encoders


def test_families_own_figures_are_used_where_nothing_was_counted() -> None:
    """Before a model is on disk, its family says how large it is."""
    family = FAMILIES["flux1-dev"]

    guessed = need_of(
        family, dtype="bfloat16", quantisation=None, width=1024, height=1024
    )

    assert guessed.backbone == pytest.approx(need().backbone, rel=0.05)


def test_activations_grow_with_the_area_and_the_batch() -> None:
    """Four times the pixels, or four pictures at once, take four times as much."""
    assert need(side=1024).activations == 4 * need(side=512).activations
    assert need(images=4).activations == 4 * need().activations
    assert need(images=4).decode == need().decode


@pytest.mark.parametrize(
    ("gb", "mode"),
    [
        (80, Mode.FULL),
        (24, Mode.MODEL_OFFLOAD),
        (16, Mode.GROUP_OFFLOAD),
        (8, Mode.GROUP_OFFLOAD),
    ],
)
def test_fastest_plan_that_fits_is_chosen(gb: float, mode: Mode) -> None:
    """A card of a common size gets the plan that suits it."""
    chosen = plan(gb)

    assert chosen.mode is mode
    assert chosen.fits
    assert chosen.has_vae_slicing
    assert not chosen.has_vae_tiling


def test_quantised_weights_lie_higher_than_exact_ones() -> None:
    """The opt-in lets a card of 24 GB keep everything that exact weights must share."""
    smaller = need(quantisation="fp8")

    chosen = plan_for(smaller, 24 * GB, quantisation="fp8")

    assert chosen.mode is Mode.FULL
    assert chosen.quantisation == "fp8"
    assert "fp8" in chosen.describe()


def test_large_pictures_are_tiled_only_where_nothing_else_helps() -> None:
    """Tiles change a picture: every plan without them is tried first."""
    chosen = plan(4, side=2048)

    assert chosen.has_vae_tiling
    assert "tiles" in chosen.describe()
    assert not plan(16, side=2048).has_vae_tiling


def test_each_step_down_takes_less_until_there_is_none() -> None:
    """The way down ends, passes through offloading, and tiles at its end."""
    current: MemoryPlan | None = plan(80, side=2048)
    way = []

    while current is not None:
        way.append(current)
        current = current.step_down()

    takes = [each.needed for each in way]
    assert takes == sorted(set(takes), reverse=True)
    assert [each.mode for each in way[:3]] == [
        Mode.FULL,
        Mode.MODEL_OFFLOAD,
        Mode.GROUP_OFFLOAD,
    ]
    assert way[-1].has_vae_tiling


def test_smallest_plan_is_tried_where_none_fits() -> None:
    """An estimate may be too high: there is always a plan to try."""
    chosen = plan(0.1)

    assert not chosen.fits
    assert chosen.step_down() is None


def test_nothing_faster_is_chosen_than_what_did_not_suffice() -> None:
    """What ran out of memory once is not planned again."""
    lower = plan(80).step_down()

    chosen = plan_for(need(), 80 * GB, at_most=lower)

    assert chosen == lower


def test_plan_is_said_in_words() -> None:
    """A person reads where the weights lie, and how much of what it takes."""
    assert plan(80).describe().startswith("full: everything stays on the device, about")
    assert plan(80).describe().endswith("of 80.0 GB")
    assert plan_for(need(), UNLIMITED).describe().endswith(" GB")
    assert " of " not in plan_for(need(), UNLIMITED).describe()


def largest(sizes: Iterable[int]) -> list[int]:
    """Give sizes, the largest first."""
    return sorted(sizes, reverse=True)


def test_what_lies_on_the_device_by_turns_is_that_of_diffusers() -> None:
    """Blocks and layers of the full-size FLUX.1 are as large as the plan says."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        network = diffusers.FluxTransformer2DModel(guidance_embeds=True)
    rows = (network.transformer_blocks, network.single_transformer_blocks)
    blocks = largest(_parameters(block) for row in rows for block in row)
    beside = _parameters(network) - sum(blocks)
    layer = max(_parameters(one, recurse=False) for one in network.modules())

    estimated = need()

    assert estimated.blocks == pytest.approx(2 * (2 * blocks[0] + beside), rel=0.02)
    assert estimated.layer == pytest.approx(2 * layer, rel=0.06)


def _parameters(module: Any, *, recurse: bool = True) -> int:
    return sum(each.numel() for each in module.parameters(recurse=recurse))


@pytest.mark.parametrize("family", list(FAMILIES))
def test_each_mode_takes_less_than_the_one_before(family: str) -> None:
    """The way down leads down for every family."""
    one = need_of(
        FAMILIES[family], dtype="bfloat16", quantisation=None, width=512, height=512
    )

    full = plan_for(one, UNLIMITED)
    takes = [full.lowered_to(mode).needed for mode in Mode]

    assert takes == largest(takes)
