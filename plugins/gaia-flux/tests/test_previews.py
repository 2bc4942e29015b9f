"""Small pictures of latents: how many, how large, and without effect."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from .residents import ignore, job, resident_of

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch

from gaia_flux import previews
from gaia_flux.drawing import draw
from gaia_flux.jobs import Preview
from gaia_flux.previews import Previewer

_FAMILIES = ["flux1-dev", "flux2-klein", "sdxl", "sd15"]


@pytest.mark.parametrize("family", _FAMILIES)
def test_previews_do_not_change_the_picture(
    tiny_models: Mapping[str, Path], family: str
) -> None:
    """A picture drawn with previews is the one drawn without."""
    resident = resident_of(family, tiny_models[family])
    seen: list[Preview] = []
    plain = draw(resident, [job(family, width=96)], ignore)

    drawn = draw(
        resident,
        [job(family, width=96, has_previews=True)],
        lambda _, preview: None if preview is None else seen.append(preview),
    )

    assert drawn[0].pictures == plain[0].pictures
    assert {(each.width, each.height) for each in seen} == {(12, 8)}
    assert all(len(each.pixels) == 12 * 8 * 3 for each in seen)


@pytest.mark.parametrize(
    ("steps", "count"), [(1, 0), (4, 3), (10, 9), (28, 9), (50, 9)], ids=str
)
def test_a_picture_gets_about_ten(steps: int, count: int) -> None:
    """However many steps are taken, previews stay few."""
    previewer = Previewer(vae=None, width=64, height=64)

    due = [step for step in range(steps) if previewer.is_due(step, steps)]

    assert len(due) == count


@pytest.mark.parametrize("family", _FAMILIES)
def test_flat_colours_are_recognised(
    tiny_models: Mapping[str, Path], family: str
) -> None:
    """The projection is nearer to the colours it was fitted to than plain grey is."""
    vae = resident_of(family, tiny_models[family]).components["vae"]
    colours = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0], [1.0, -1.0, -1.0]])

    with torch.no_grad():
        latents = previews._patches(vae, colours)
    weights = previews.projection(vae)
    found = latents @ weights[:-1] + weights[-1]

    assert (found - colours).square().mean() < colours.square().mean()


def test_large_latents_are_thinned_out(tiny_models: Mapping[str, Path]) -> None:
    """A preview of a 2048 pixel picture is no larger than one of 1024."""
    vae = resident_of("sd15", tiny_models["sd15"]).components["vae"]
    previewer = Previewer(vae=vae, width=2048, height=1024)

    preview = previewer.preview(torch.zeros(1, 4, 128, 256))

    assert (preview.width, preview.height) == (128, 64)


def test_latents_that_are_no_numbers_have_a_preview(
    tiny_models: Mapping[str, Path],
) -> None:
    """Overflow in half precision makes a plain preview, not an error."""
    vae = resident_of("sd15", tiny_models["sd15"]).components["vae"]
    previewer = Previewer(vae=vae, width=64, height=64)

    preview = previewer.preview(torch.full((1, 4, 8, 8), float("nan")))

    assert set(preview.pixels) == {0}


@pytest.mark.parametrize(
    ("width", "height"), [(64, 128), (1360, 768), (16, 16)], ids=str
)
def test_tokens_find_their_place(width: int, height: int) -> None:
    """Packed latents come back in rows and columns."""
    rows, columns = height // 16, width // 16
    grid = torch.arange(rows * columns, dtype=torch.float32)
    packed = grid[None, :, None].expand(1, -1, 16)

    unpacked = previews._unpacked(packed, width, height)

    assert unpacked.shape == (1, 4, rows * 2, columns * 2)
    assert unpacked[0, 0, -1, -1] == rows * columns - 1
    assert unpacked[0, 0, 0, -1] == columns - 1
