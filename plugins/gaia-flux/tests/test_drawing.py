"""Jobs drawn on tiny models of every family: sizes, pictures in, stops, batches."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gaia_core import Capability

from .residents import CASES, ignore, job, mask, name_of, png, resident_of

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from gaia_flux.drawing import draw
from gaia_flux.inputs import PictureError
from gaia_flux.jobs import Drawn, Preview, StoppedError
from gaia_flux.tuning import TuningError


@pytest.fixture(scope="module", name="residents")
def _residents(tiny_models: Mapping[str, Path]) -> dict[str, Any]:
    families = {family for family, _ in CASES}
    return {family: resident_of(family, tiny_models[family]) for family in families}


def pixels(drawn: tuple[Drawn, ...]) -> list[bytes]:
    """Give the bytes of every picture."""
    return [picture.pixels for each in drawn for picture in each.pictures]


def image_of(drawn: tuple[Drawn, ...]) -> Image.Image:
    """Give the first picture."""
    picture = drawn[0].pictures[0]
    size = (picture.width, picture.height)
    return Image.frombytes(picture.mode, size, picture.pixels)


@pytest.mark.parametrize(("family", "capability"), CASES, ids=name_of)
def test_every_family_draws_what_it_can(
    residents: dict[str, Any], family: str, capability: Capability
) -> None:
    """A job of each capability gives one picture of its size, the same one twice."""
    wanted = job(family, capability)

    first = draw(residents[family], [wanted], ignore)
    second = draw(residents[family], [wanted], ignore)

    picture = first[0].pictures[0]
    assert (picture.width, picture.height) == (wanted.width, wanted.height)
    assert len(picture.pixels) == wanted.width * wanted.height * 3
    assert picture.seed == wanted.seeds[0]
    assert pixels(first) == pixels(second)


@pytest.mark.parametrize(("family", "capability"), CASES, ids=name_of)
def test_a_stopped_job_leaves_no_trace(
    residents: dict[str, Any], family: str, capability: Capability
) -> None:
    """The picture after a job that was stopped between steps is the usual one."""
    wanted = job(family, capability)
    expected = draw(residents[family], [wanted], ignore)

    with pytest.raises(StoppedError):
        draw(residents[family], [wanted], stop_after(0.3))

    assert pixels(draw(residents[family], [wanted], ignore)) == pixels(expected)


def stop_after(limit: float) -> Any:
    """Stop at the first report beyond a fraction."""

    def report(fraction: float, _preview: Preview | None) -> None:
        if fraction > limit:
            raise StoppedError

    return report


@pytest.mark.parametrize("cache", ["first-block", "taylorseer", "magcache"])
@pytest.mark.parametrize(
    "capability",
    [Capability.TEXT_TO_IMAGE, Capability.IMAGE_TO_IMAGE],
    ids=name_of,
)
def test_a_job_stopped_under_a_step_cache_leaves_no_trace(
    residents: dict[str, Any], capability: Capability, cache: str
) -> None:
    """Both the exact picture and the cached one are the same after a stop."""
    resident = residents["flux1-dev"]
    exact = job("flux1-dev", capability, num_inference_steps=8, strength=0.9)
    cached = job(
        "flux1-dev",
        capability,
        num_inference_steps=8,
        strength=0.9,
        step_cache=cache,
    )
    expected = pixels(draw(resident, [exact], ignore))
    expected_cached = pixels(draw(resident, [cached], ignore))

    with pytest.raises(StoppedError):
        draw(resident, [cached], stop_after(0.5))

    assert pixels(draw(resident, [cached], ignore)) == expected_cached
    assert pixels(draw(resident, [exact], ignore)) == expected


def test_a_step_cache_is_reported(residents: dict[str, Any]) -> None:
    """The answer says that its pictures are not the exact ones."""
    wanted = job("flux1-dev", step_cache="first-block")

    drawn = draw(residents["flux1-dev"], [wanted], ignore)

    assert drawn[0].warnings == (
        "step cache first-block: pictures differ slightly from exact ones",
    )


def test_a_step_cache_that_does_not_fit_is_left_out(
    residents: dict[str, Any],
) -> None:
    """A model that cannot have a step cache draws exactly, and says so."""
    exact = draw(residents["sdxl"], [job("sdxl")], ignore)

    drawn = draw(residents["sdxl"], [job("sdxl", step_cache="first-block")], ignore)

    assert pixels(drawn) == pixels(exact)
    assert "left out" in drawn[0].warnings[0]


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("first-block", {"true_cfg_scale": 4.0}, "two passes"),
        ("taylorseer", {"true_cfg_scale": 4.0}, "two passes"),
        ("magcache", {"strength": 0.5}, "begin with the first step"),
    ],
    ids=["first-block", "taylorseer", "magcache"],
)
def test_a_step_cache_that_would_mix_things_up_is_left_out(
    residents: dict[str, Any], name: str, changes: dict[str, Any], words: str
) -> None:
    """Where passes or steps are not those it takes them for, pictures are exact."""
    given = {"num_inference_steps": 12} | changes
    exact = job("flux1-dev", Capability.IMAGE_TO_IMAGE, **given)
    cached = job("flux1-dev", Capability.IMAGE_TO_IMAGE, step_cache=name, **given)

    (drawn,) = draw(residents["flux1-dev"], [cached], ignore)

    assert words in drawn.warnings[0]
    assert pixels((drawn,)) == pixels(draw(residents["flux1-dev"], [exact], ignore))


@pytest.mark.parametrize(
    ("width", "height"), [(65, 64), (50, 100), (72, 40)], ids=["wider", "tall", "both"]
)
@pytest.mark.parametrize("family", ["flux1-dev", "sd15"])
def test_a_size_between_multiples_is_cut_out(
    residents: dict[str, Any], family: str, width: int, height: int
) -> None:
    """A result has the size asked for, whatever multiples the model draws."""
    wanted = job(family, width=width, height=height)

    assert image_of(draw(residents[family], [wanted], ignore)).size == (width, height)


@pytest.mark.parametrize("family", ["flux1-dev", "flux1-fill", "flux2-klein", "sdxl"])
@pytest.mark.parametrize("size", [(64, 64), (60, 52)], ids=["even", "odd"])
def test_what_is_not_masked_comes_back_bit_for_bit(
    residents: dict[str, Any], family: str, size: tuple[int, int]
) -> None:
    """Inpainting changes the white of the mask, and nothing else."""
    width, height = size
    wanted = job(
        family,
        Capability.INPAINTING,
        width=width,
        height=height,
        image=png(width, height),
        mask_image=mask(width, height),
    )

    drawn = image_of(draw(residents[family], [wanted], ignore))

    original = Image.open(BytesIO(png(width, height)))
    kept, painted = (0, 0, width // 2, height), (width // 2, 0, width, height)
    assert drawn.crop(kept).tobytes() == original.crop(kept).tobytes()
    assert drawn.crop(painted).tobytes() != original.crop(painted).tobytes()


@pytest.mark.parametrize("family", ["flux1-dev", "flux1-fill", "sd15"])
def test_outpainting_keeps_the_original(residents: dict[str, Any], family: str) -> None:
    """The original lies in the larger picture as it was."""
    wanted = job(
        family,
        Capability.OUTPAINTING,
        width=96,
        height=80,
        image=png(),
        outpaint=(20, 12, 0, 16),
    )

    drawn = image_of(draw(residents[family], [wanted], ignore))

    original = Image.open(BytesIO(png()))
    assert drawn.size == (96, 80)
    assert drawn.crop((20, 0, 84, 64)).tobytes() == original.tobytes()


@pytest.mark.parametrize("family", ["flux1-dev", "sdxl", "sd15"])
@pytest.mark.parametrize(("steps", "strength"), [(3, 0.1), (49, 0.001)], ids=str)
def test_a_small_strength_takes_a_step(
    residents: dict[str, Any], family: str, steps: int, strength: float
) -> None:
    """At least one step is taken, however small steps times strength is."""
    wanted = job(
        family,
        Capability.IMAGE_TO_IMAGE,
        num_inference_steps=steps,
        strength=strength,
    )

    assert len(draw(residents[family], [wanted], ignore)[0].pictures) == 1


@pytest.mark.parametrize("family", ["flux2-klein", "flux2-dev"])
def test_reference_images_are_looked_at(residents: dict[str, Any], family: str) -> None:
    """A picture shown to the model changes what it draws."""
    resident = residents[family]

    plain = draw(resident, [job(family)], ignore)
    shown = draw(resident, [job(family, reference_images=(png(),))], ignore)

    assert pixels(plain) != pixels(shown)


def test_reference_images_are_looked_at_in_inpainting(
    residents: dict[str, Any],
) -> None:
    """The region is repainted after them; what is not masked stays."""
    resident = residents["flux2-klein"]
    plain, shown = (
        draw(
            resident,
            [job("flux2-klein", Capability.INPAINTING, reference_images=each)],
            ignore,
        )
        for each in ((), (png(),))
    )

    assert pixels(plain) != pixels(shown)
    assert shown[0].warnings == ()


@pytest.mark.parametrize(
    ("family", "capability", "count"),
    [
        ("flux1-kontext", Capability.IMAGE_TO_IMAGE, 2),
        ("flux1-kontext", Capability.TEXT_TO_IMAGE, 1),
        ("flux1-dev", Capability.TEXT_TO_IMAGE, 2),
        ("sdxl", Capability.INPAINTING, 2),
        ("flux2-klein", Capability.INPAINTING, 1),
    ],
    ids=["kontext", "kontext-references", "flux", "sdxl", "klein"],
)
def test_pictures_that_are_not_looked_at_are_reported(
    residents: dict[str, Any], family: str, capability: Capability, count: int
) -> None:
    """Kontext takes one picture, and others none: the rest is never lost silently."""
    wanted = job(family, capability, reference_images=(png(), png()))

    (drawn,) = draw(residents[family], [wanted], ignore)

    assert f"reference_images: {count} left out" in drawn.warnings[0]


def test_transparency_is_white_to_a_model(residents: dict[str, Any]) -> None:
    """An input with an alpha channel is what it looks like on white."""
    wanted = job("sd15", Capability.IMAGE_TO_IMAGE, image=png(mode="RGBA"))
    expected = job("sd15", Capability.IMAGE_TO_IMAGE)

    drawn = draw(residents["sd15"], [wanted], ignore)

    assert pixels(drawn) == pixels(draw(residents["sd15"], [expected], ignore))


def test_a_broken_picture_is_refused(residents: dict[str, Any]) -> None:
    """An input that is no picture is an error that says so."""
    wanted = job("sd15", Capability.IMAGE_TO_IMAGE, image=b"not a picture")

    with pytest.raises(PictureError, match="the image cannot be read"):
        draw(residents["sd15"], [wanted], ignore)


def test_jobs_of_one_shape_share_a_call(residents: dict[str, Any]) -> None:
    """A batch gives every job its own pictures, in the order of its seeds."""
    jobs = [
        job("flux1-schnell", id="a", prompt="a fox", seeds=(1, 2)),
        job("flux1-schnell", id="b", prompt="a hen", seeds=(3,)),
    ]
    resident = residents["flux1-schnell"]

    together = draw(resident, jobs, ignore)

    alone = [draw(resident, [each], ignore)[0] for each in jobs]
    assert [[p.seed for p in each.pictures] for each in together] == [[1, 2], [3]]
    for batched, single in zip(together, alone, strict=True):
        for one, other in zip(batched.pictures, single.pictures, strict=True):
            assert largest_difference(one.pixels, other.pixels) <= 1


def largest_difference(one: bytes, other: bytes) -> int:
    """Compare two pictures of one size."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def test_jobs_with_pictures_are_drawn_one_by_one(residents: dict[str, Any]) -> None:
    """What starts from a picture is the same in a batch as alone."""
    jobs = [
        job("sd15", Capability.IMAGE_TO_IMAGE, seeds=(seed,), id=str(seed))
        for seed in (1, 2)
    ]

    together = draw(residents["sd15"], jobs, ignore)

    alone = [draw(residents["sd15"], [each], ignore)[0] for each in jobs]
    assert pixels(together) == pixels(tuple(alone))


@pytest.mark.parametrize("name", ["EulerAncestralDiscreteScheduler", "DDIMScheduler"])
def test_a_scheduler_is_chosen_for_one_job(
    residents: dict[str, Any], name: str
) -> None:
    """A named scheduler changes its job's picture, and not the next one's."""
    resident = residents["sdxl"]
    expected = pixels(draw(resident, [job("sdxl")], ignore))

    other = draw(resident, [job("sdxl", scheduler=name)], ignore)

    assert pixels(other) != expected
    assert pixels(draw(resident, [job("sdxl")], ignore)) == expected


@pytest.mark.parametrize("name", ["NoScheduler", "UNet2DModel", "utils"])
def test_an_unknown_scheduler_is_named(residents: dict[str, Any], name: str) -> None:
    """A scheduler that is not there, or is none, is an error with its name."""
    with pytest.raises(TuningError, match=f"no scheduler '{name}'"):
        draw(residents["sdxl"], [job("sdxl", scheduler=name)], ignore)


def test_progress_only_grows(residents: dict[str, Any]) -> None:
    """Fractions go from 0 to 1 over all pictures of a request."""
    seen: list[float] = []

    draw(
        residents["flux1-dev"],
        [job("flux1-dev", seeds=(1, 2))],
        lambda fraction, _: seen.append(fraction),
    )

    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)
    assert len(seen) == 1 + 2 * (3 + 1)


def test_a_negative_prompt_without_effect_is_reported(
    residents: dict[str, Any],
) -> None:
    """FLUX ignores a negative prompt unless true_cfg_scale makes a second pass."""
    resident = residents["flux1-dev"]
    ignored = draw(resident, [job("flux1-dev", negative_prompt="hens")], ignore)
    heeded = draw(
        resident,
        [job("flux1-dev", negative_prompt="hens", true_cfg_scale=4.0)],
        ignore,
    )

    assert "no effect" in ignored[0].warnings[0]
    assert heeded[0].warnings == ()
    assert pixels(ignored) != pixels(heeded)
