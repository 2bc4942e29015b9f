"""Components that models have in common are in memory once."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from gaia_flux.memory import plan_for
from gaia_flux.models import ModelSpec, Source
from gaia_flux.residence import Resident, size_of
from gaia_flux.setups import Setup
from gaia_flux.studio import Studio

from .studios import (
    Allocator,
    ignore,
    job,
    need,
    pixels,
    room_for_one,
)

pytestmark = pytest.mark.usefixtures("quick")

SHARED = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "vae")


@pytest.fixture(name="pair")
def _pair(setup: Setup, tiny_models: Mapping[str, Path], tmp_path: Path) -> Setup:
    """Give two models whose backbones alone are different, as dev and schnell are."""
    import shutil

    folder = Path(shutil.copytree(tiny_models["flux1-dev"], tmp_path / "dev"))
    for name in ("text_encoder", "text_encoder_2", "vae"):
        shutil.rmtree(folder / name)
        shutil.copytree(tiny_models["flux1-schnell"] / name, folder / name)
    dev = ModelSpec(
        id="tiny-flux1-dev", name="Dev", family="flux1-dev", source=Source(path=folder)
    )
    models = {
        "tiny-flux1-schnell": setup.models["tiny-flux1-schnell"],
        "tiny-flux1-dev": dev,
    }
    return attrs.evolve(setup, models=models)


@pytest.fixture(name="studio")
def _studio(pair: Setup) -> Iterator[Studio]:
    studio = Studio(pair)
    yield studio
    studio.close()


def residents(studio: Studio) -> dict[str, Resident]:
    """Give the residents by family."""
    return {resident.family.name: resident for resident in studio.residents}


def test_equal_components_are_one_object(studio: Studio) -> None:
    """Encoders, tokenizers and autoencoder are shared, backbones are not."""
    studio.draw([job("flux1-schnell")], ignore)
    studio.draw([job("flux1-dev")], ignore)

    schnell, dev = residents(studio).values()
    for name in SHARED:
        assert schnell.components[name] is dev.components[name]
    assert schnell.components["transformer"] is not dev.components["transformer"]


def test_shared_components_are_counted_once(studio: Studio) -> None:
    """Both models together take no more than both backbones and one of the rest."""
    studio.draw([job("flux1-schnell")], ignore)
    alone = studio.figures()["model_bytes"]
    studio.draw([job("flux1-dev")], ignore)

    backbone = residents(studio)["flux1-dev"].components["transformer"]
    assert studio.figures()["model_bytes"] == alone + size_of(backbone)


def test_shared_components_stay_while_anybody_uses_them(pair: Setup) -> None:
    """With room for one backbone, a switch loads the backbone and nothing else."""
    studio = Studio(room_for_one(pair, ("flux1-schnell", "flux1-dev")))
    studio.draw([job("flux1-schnell")], ignore)
    encoder = residents(studio)["flux1-schnell"].components["text_encoder_2"]

    studio.draw([job("flux1-dev")], ignore)

    assert studio.loaded() == ("tiny-flux1-dev",)
    assert residents(studio)["flux1-dev"].components["text_encoder_2"] is encoder
    studio.close()


def test_room_is_found_for_two_that_share(pair: Setup) -> None:
    """What is shared leaves room that two separate models would not have."""
    needs = [need(pair, family) for family in ("flux1-schnell", "flux1-dev")]
    largest = max(needs, key=lambda each: each.weights)
    beside = max(largest.activations, largest.decode)
    fused = 1.2
    room = fused * sum(each.backbone for each in needs) + (
        largest.text_encoders + largest.vae + beside
    )
    studio = Studio(attrs.evolve(pair, vram_gb=1.02 * room / 2**30))

    studio.draw([job("flux1-schnell")], ignore)
    studio.draw([job("flux1-dev")], ignore)

    assert len(studio.loaded()) == 2
    studio.close()


def test_models_that_share_draw_what_they_draw_alone(
    studio: Studio, pair: Setup
) -> None:
    """Nothing of one model gets into the pictures of the other."""
    alone = Studio(pair)
    expected = pixels(alone.draw([job("flux1-dev")], ignore))
    alone.close()

    studio.draw([job("flux1-schnell", width=128, height=128)], ignore)

    assert pixels(studio.draw([job("flux1-dev")], ignore)) == expected


def test_prompts_need_not_be_encoded_for_each_of_them(studio: Studio) -> None:
    """Equal encoders give equal embeddings: the second model finds them kept."""
    studio.draw([job("flux1-schnell", max_sequence_length=64)], ignore)
    studio.draw([job("flux1-dev", max_sequence_length=64)], ignore)

    assert studio.figures()["prompts"]["misses"] == 1
    assert studio.figures()["prompts"]["hits"] == 1


def test_hooks_of_an_offloaded_model_do_not_reach_another(pair: Setup) -> None:
    """A model that does not fit has copies of its own, and both draw as usual."""
    expected_studio = Studio(pair)
    wanted = [job("flux1-schnell"), job("flux1-dev")]
    expected = [pixels(expected_studio.draw([one], ignore)) for one in wanted]
    expected_studio.close()
    allocator = Allocator(2**40)
    studio = Studio(pair, around=allocator)
    studio.draw(wanted[:1], ignore)
    allocator.limit = plan_for(need(pair, "flux1-schnell"), 2**40).needed - 1

    first = pixels(studio.draw(wanted[:1], ignore))
    allocator.limit = 2**40
    second = pixels(studio.draw(wanted[1:], ignore))

    assert [first, second] == expected
    assert len(studio.loaded()) == 2
    studio.close()
